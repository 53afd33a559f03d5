"""Labelled regions of one sample."""

import numpy as np
import scipy  # loads scipy.ndimage when it is first used

from captum_3dcam.localization._inputs import Array


def label_components(mask: Array, connectivity: int) -> tuple[Array, int]:
    """Labels from 1 in raster order, 0 outside the mask; and the number of components."""
    structure = scipy.ndimage.generate_binary_structure(mask.ndim, connectivity)
    labels, count = scipy.ndimage.label(mask, structure)
    return labels, count


def measure_regions(values: Array, labels: Array) -> tuple[Array, Array]:
    """Bounding boxes (B, 2R), the last axis first, and maxima (B,) of the regions 1 to B."""
    regions = [slices[::-1] for slices in scipy.ndimage.find_objects(labels)]
    boxes = [[axis.start for axis in axes] + [axis.stop for axis in axes] for axes in regions]
    maxima = scipy.ndimage.maximum(values, labels, range(1, len(regions) + 1))
    return np.array(boxes).reshape(-1, 2 * labels.ndim), np.array(maxima)
