"""Sharing work among threads."""

from __future__ import annotations

import numba
import numpy as np


def deal_out(work: np.ndarray) -> np.ndarray:
    """Order pieces of work so that equally long stretches of the order cost about the same.

    A parallel loop gives each thread one stretch. The heaviest pieces are dealt out in turn, like
    cards. What a piece gives must not depend on the order, so nor does it on the threads.

    Parameters
    ----------
    work
        Of shape (N,): about what each piece costs; pieces of no work are left out.

    Returns
    -------
    int64 of shape (pieces with work,): their positions in ``work``.
    """
    heaviest = np.argsort(-work, kind="stable")[: np.count_nonzero(work)]
    threads = numba.get_num_threads()
    return np.concatenate([heaviest[hand::threads] for hand in range(threads)])
