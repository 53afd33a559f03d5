"""The components of all masks against SciPy's labels of one mask at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from captum_3dcam.metrics._component_tree import component_tree


def components_of_mask(mask, diagonal, values):
    """Of each component the first pixel, the box, and the sum of values: in raster order."""
    labels, count = ndimage.label(mask, np.ones((3, 3)) if diagonal else None)
    rows = []
    for label, (y, x) in zip(range(1, count + 1), ndimage.find_objects(labels), strict=True):
        first = np.flatnonzero(labels == label)[0]
        rows.append((first, x.start, y.start, x.stop, y.stop, values[labels == label].sum()))
    return sorted(rows)


@pytest.mark.parametrize("diagonal", [False, True])
@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 9))
def test_components_of_every_mask(diagonal, seed, height, width, masks):
    generator = np.random.default_rng(seed)
    levels = generator.integers(0, masks + 1, size=(height, width)).astype(np.int16)
    values = generator.integers(0, 9, size=levels.shape)
    tree = component_tree(levels, diagonal)
    padded = np.append(0, np.pad(values, ((0, 0), (0, 1))))  # as the rows of the tree
    sums = tree.sum_over(padded)
    y, x = np.divmod(tree.first_pixel - 1, tree.rows.stride)
    for mask in range(masks):
        index = np.flatnonzero(tree.mask == mask)
        rows = np.column_stack([(y * width + x)[index], tree.box[index], sums[index]])
        expected = components_of_mask(levels > mask, diagonal, values)
        assert sorted(map(tuple, rows.tolist())) == expected
        every = np.flatnonzero(tree.rows.level >= 0)
        at = tree.component_at(every, np.full(len(every), mask))
        assert ((at >= 0) == (tree.rows.level > mask)).all()
        assert (tree.mask[at[at >= 0]] == mask).all()
        np.testing.assert_array_equal(at[tree.first_pixel[index]], index)


def test_an_empty_image_has_no_components():
    tree = component_tree(np.zeros((3, 4), dtype=np.int16), diagonal=True)
    assert len(tree.mask) == len(tree.sum_over(np.zeros_like(tree.rows.level))) == 0
