"""The imputation of ROAD from its definition: one dense linear system, position by position."""

from itertools import product

import numpy as np


def weight_of(offset):
    """2^-k / (2^D - 1) for a neighbour that differs on k of D axes."""
    return 0.5 ** np.count_nonzero(offset) / (2 ** len(offset) - 1)


def naive_impute(channels, removed):
    """Channels (C, *S) of one sample, and a bool mask (*S): NumPy arrays."""
    positions = [tuple(p) for p in np.argwhere(removed)]
    row_of = {p: row for row, p in enumerate(positions)}
    matrix, right = np.zeros((len(positions),) * 2), np.zeros((len(positions), len(channels)))
    for p, row in row_of.items():
        for offset in product((-1, 0, 1), repeat=removed.ndim):
            q = tuple(np.add(p, offset))
            if not any(offset) or not all(
                0 <= i < n for i, n in zip(q, removed.shape, strict=True)
            ):
                continue
            matrix[row, row] += weight_of(offset)
            if q in row_of:
                matrix[row, row_of[q]] -= weight_of(offset)
            else:
                right[row] += weight_of(offset) * channels[(slice(None), *q)]
    filled = channels.copy()
    filled[:, removed] = np.linalg.solve(matrix, right).T
    return filled
