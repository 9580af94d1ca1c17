"""The contract between the engine and its clients: its two numbers, its content, its one refusal.

``WIRE`` counts changes of the protocol (routes, events) that an older side would not
understand. ``CONTRACT_VERSION`` counts released sets of settings; a newer one only adds.
"""

from __future__ import annotations

from typing import Any

from cellseg_engine.settings import Settings

WIRE = 1
CONTRACT_VERSION = 4


def contract() -> dict[str, Any]:
    """Give what ``GET /v1/schema`` answers: both numbers and the JSON Schema of all settings."""
    return {
        "wire": WIRE,
        "version": CONTRACT_VERSION,
        "settings": Settings.model_json_schema(),
    }


def explain_version_mismatch(client_wire: int, engine_wire: int = WIRE) -> str:
    """Give the sentence that says which side to update, and how.

    Only the engine compares the two numbers; a client sends its own and shows this answer.

    Raises
    ------
    ValueError
        The numbers are equal, so there is nothing to explain.
    """
    if client_wire == engine_wire:
        raise ValueError(f"both sides speak wire {engine_wire}: nothing to explain")
    spoken = f"The program that asks speaks wire {client_wire}, this engine wire {engine_wire}:"
    if client_wire < engine_wire:
        return (
            f"{spoken} update the program that asks, by repeating `cellseg install fiji` or "
            "`cellseg install cellprofiler` in the environment of the engine."
        )
    return (
        f"{spoken} update the engine, by `python -m pip install --upgrade cellseg-engine` in its "
        "environment, and end the one that runs."
    )
