"""Random boxes, and the pixels inside a box, for tests that count pixels."""

import numpy as np
import torch


def random_boxes(generator, count, dims, size=6):
    corners = generator.integers(0, size + 1, size=(2, count, dims))
    return torch.from_numpy(np.concatenate([corners.min(0), corners.max(0)], axis=1))


def pixels(box, size=6):
    """The pixels of an inclusive-exclusive box, as a mask with axes in the order of bounds."""
    low, high = np.split(np.asarray(box), 2)
    mask = np.zeros([size] * len(low), dtype=bool)
    mask[tuple(map(slice, low, high))] = True
    return mask
