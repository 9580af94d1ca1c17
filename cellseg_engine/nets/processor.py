"""What the processor has."""

from __future__ import annotations

import functools

import llvmlite.binding


@functools.cache
def has_bf16_units() -> bool:
    """Say whether the processor has matrix units for bf16 (AMX): then bf16 is far faster."""
    return bool(llvmlite.binding.get_host_cpu_features().get("amx-bf16", False))
