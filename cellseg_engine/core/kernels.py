"""How kernels that use several cores are compiled and called."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from numba import njit

_one_at_a_time = threading.Lock()


def parallel_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with loops over `numba.prange`; kept on disk.

    Threads that call such kernels take turns: each kernel uses all cores by itself, and the
    simplest of numba's three ways to do so (the only one of some systems) ends the process when
    two threads come at a time. Other threads go on meanwhile.
    """
    compiled = njit(parallel=True, cache=True, nogil=True)(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with _one_at_a_time:
            return compiled(*arguments)

    return call
