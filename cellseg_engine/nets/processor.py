"""What the processor has."""

from __future__ import annotations

import functools

from llvmlite.binding import get_host_cpu_features
from numba.core import config


@functools.cache
def has_bf16_units() -> bool:
    """Say whether the processor has matrix units for bf16 (AMX): then bf16 is far faster."""
    return bool(get_host_cpu_features().get("amx-bf16", False))


def has_wide_registers() -> bool:
    """Say whether kernels have 32 registers of 16 numbers in fp32 (AVX-512)."""
    name, features = (getattr(config, each, None) for each in ("CPU_NAME", "CPU_FEATURES"))
    if name or features:  # somebody asks numba for another CPU
        return "+avx512f" in (features or "")
    return bool(get_host_cpu_features().get("avx512f", False))
