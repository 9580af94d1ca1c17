"""The frozen order of settings of each host, and what a released order holds for ever."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.rendering.setting import Setting, pick


class OrderError(Exception):
    """An order contradicts the settings or a released order; the message says what to do."""


@dataclass(frozen=True)
class Order:
    """The settings of one host: those it has, in order, and the reasons for those it leaves out."""

    host: str
    names: tuple[str, ...]
    left_out: dict[str, str]


def read_orders(path: Path) -> dict[str, Order]:
    """Read the orders of all hosts."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        host: Order(host, tuple(table["order"]), dict(table.get("left_out", {})))
        for host, table in tables.items()
    }


def check_complete(order: Order, settings: dict[str, Setting]) -> None:
    """Check that every setting stands exactly once in an order or among those left out.

    Raises
    ------
    OrderError
        One is missing, stands twice, is no setting, or is left out without a reason.
    """
    listed = [*order.names, *order.left_out]
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise OrderError(f"{order.host}: {', '.join(twice)} stands twice; take one away.")
    gone = [name for name in listed if name not in settings]
    if gone:
        raise OrderError(
            f"{order.host}: {', '.join(gone)} is no setting; a released one cannot be taken away, "
            "only kept and left unused."
        )
    missing = [name for name in settings if name not in listed]
    if missing:
        raise OrderError(
            f"{order.host}: {', '.join(missing)} is new; append it to the order, or give the "
            "reason under left_out."
        )
    silent = [name for name, reason in order.left_out.items() if not reason.strip()]
    if silent:
        raise OrderError(f"{order.host}: give the reason why {', '.join(silent)} is left out.")


def released_form(order: Order, settings: dict[str, Setting]) -> list[dict[str, Any]]:
    """Give what a release promises about an order: names, kinds and choices by position."""
    return [
        {"name": s.name, "kind": s.kind, "choices": list(s.choices)}
        for s in pick(settings, order.names)
    ]


def check_released(order: Order, settings: dict[str, Setting], golden: Path) -> list[int]:
    """Check an order against every released one and give their versions.

    Raises
    ------
    OrderError
        A released order is not the beginning of the present one, or a setting became another
        kind or lost a choice, so that saved pipelines and macros would mean something else.
    """
    present = released_form(order, settings)
    versions = []
    for path in sorted(golden.glob(f"{order.host}-*.json")):
        version = int(path.stem.rpartition("-")[2])
        versions.append(version)
        released = json.loads(path.read_text(encoding="utf-8"))
        for place, old in enumerate(released):
            new = present[place] if place < len(present) else None
            _check_place(order.host, version, place + 1, old, new)
    return versions


def _check_place(
    host: str, version: int, place: int, old: dict[str, Any], new: dict[str, Any] | None
) -> None:
    """Compare one released position with the present one."""
    where = f"{host}: contract {version} was released with {old['name']} at place {place}"
    if new is None or new["name"] != old["name"]:
        there = f"{new['name']} is" if new else "nothing is"
        raise OrderError(f"{where}, where {there} now; orders are only appended to.")
    if new["kind"] != old["kind"]:
        raise OrderError(f"{where} as {old['kind']}, and it is {new['kind']} now; add a new name.")
    lost = [choice for choice in old["choices"] if choice not in new["choices"]]
    if lost:
        raise OrderError(f"{where}, and its choice {', '.join(lost)} is gone; keep it.")
