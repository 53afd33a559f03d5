"""Contour boxes must equal those of OpenCV."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam.metrics import _contours
from captum_3dcam.metrics._contours import contour_boxes


def opencv_boxes(mask, multi_contour):
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if contours and not multi_contour:
        contours = [max(contours, key=cv2.contourArea)]
    return sorted((x, y, x + w, y + h) for x, y, w, h in map(cv2.boundingRect, contours))


def assert_like_opencv(image, thresholds=(0,)):
    for multi_contour in (True, False):
        boxes, index = contour_boxes(image, thresholds, multi_contour)
        assert (np.diff(index) >= 0).all()
        for number, threshold in enumerate(thresholds):
            actual = sorted(map(tuple, boxes[index == number].tolist()))
            assert actual == opencv_boxes(image > threshold, multi_contour), (image, threshold)


def test_every_mask_of_3_by_3():
    for number in range(2**9):
        mask = ((number >> np.arange(9)) & 1).astype(np.uint8).reshape(3, 3)
        assert_like_opencv(mask)


def test_thousands_of_random_masks():
    """Coarse or fine blocks, sparse to dense: nested holes, lines, ties, borders."""
    generator = np.random.default_rng(0)
    for _ in range(400):
        pixels = generator.integers(0, 256, size=generator.integers(1, 16, size=2), dtype=np.uint8)
        blocks = np.ones(generator.integers(1, 4, size=2), dtype=np.uint8)
        assert_like_opencv(np.kron(pixels, blocks), range(0, 255, 20))


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(1, 24), st.integers(2, 256))
def test_all_thresholds_of_an_image_at_once(seed, height, width, values):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, values, size=(height, width)).astype(np.uint8)
    cuts = np.unique(generator.integers(-1, values + 1, size=9))
    assert_like_opencv(image, cuts.tolist())


def test_a_smooth_map_of_full_size():
    generator = np.random.default_rng(1)
    coarse = generator.random((14, 14)).astype(np.float32)
    smooth = cv2.resize(coarse, (224, 224))
    image = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    assert_like_opencv(image, np.unique((np.arange(0, 1, 0.01) * 255).astype(int)).tolist())


@pytest.mark.parametrize(
    ("rows", "every", "largest"),
    [
        (["...", "...", "..."], [], []),
        (["###", "###", "###"], [(0, 0, 3, 3)], [(0, 0, 3, 3)]),
        (["###", "#.#", "###"], [(0, 0, 3, 3), (0, 0, 3, 3)], [(0, 0, 3, 3)]),
        ([".#.", "#.#", ".#."], [(0, 0, 3, 3), (0, 0, 3, 3)], [(0, 0, 3, 3)]),
        (["##.", "#.#", "###"], [(0, 0, 3, 3), (0, 0, 3, 3)], [(0, 0, 3, 3)]),
        # An opening at the border is not a hole.
        (["###", "#.#", "#.#"], [(0, 0, 3, 3)], [(0, 0, 3, 3)]),
        # Of equal areas the last in raster order: single pixels and lines have area 0.
        (["#..", "...", "..#"], [(0, 0, 1, 1), (2, 2, 3, 3)], [(2, 2, 3, 3)]),
        (["###", "...", "#.."], [(0, 0, 3, 1), (0, 2, 1, 3)], [(0, 2, 1, 3)]),
        (["..##", "..##", "....", "##..", "##.."], [(0, 3, 2, 5), (2, 0, 4, 2)], [(0, 3, 2, 5)]),
        # A ring whose filled area is larger than the block beside it.
        (
            ["#####...", "#...#.##", "#.#.#.##", "#...#.##", "#####.##"],
            [(0, 0, 5, 5), (0, 0, 5, 5), (2, 2, 3, 3), (6, 1, 8, 5)],
            [(0, 0, 5, 5)],
        ),
    ],
)
def test_by_hand(rows, every, largest):
    mask = np.array([[pixel == "#" for pixel in row] for row in rows], dtype=np.uint8)
    assert_like_opencv(mask)
    assert sorted(map(tuple, contour_boxes(mask, [0], True)[0].tolist())) == every
    assert sorted(map(tuple, contour_boxes(mask, [0], False)[0].tolist())) == largest


@pytest.mark.parametrize("limit", [1, 50, 1000])
def test_boxes_do_not_depend_on_the_number_of_parts(monkeypatch, limit):
    generator = np.random.default_rng(2)
    image = generator.integers(0, 256, size=(20, 30)).astype(np.uint8)
    cuts = np.arange(0, 250, 5)
    for multi_contour in (True, False):
        expected = contour_boxes(image, cuts, multi_contour)
        monkeypatch.setattr(_contours, "_MAX_RUNS", limit)
        assert len(_contours._parts(np.searchsorted(cuts, image), len(cuts))) > 1
        parts = contour_boxes(image, cuts, multi_contour)
        monkeypatch.undo()
        for actual, array in zip(parts, expected, strict=True):
            np.testing.assert_array_equal(actual, array)


@pytest.mark.parametrize(
    ("image", "thresholds", "message"),
    [
        (np.zeros((2, 2)), [0], r"uint8; received shape \(2, 2\) of float64"),
        (
            np.zeros((1, 2, 2), np.uint8),
            [0],
            r"one image \(H, W\) of uint8; received shape \(1, 2, 2\)",
        ),
        (np.zeros((2, 2), np.uint8), [1, 1], "strictly increasing"),
        (np.zeros((2, 2), np.uint8), [], "strictly increasing"),
        (np.zeros((2, 2), np.uint8), [0.5], "integer thresholds"),
    ],
)
def test_errors(image, thresholds, message):
    with pytest.raises(ValueError, match=message):
        contour_boxes(image, thresholds)


def smooth_map(kind, seed, side=64):
    generator = np.random.default_rng(seed)
    if kind == "bilinear":
        coarse = generator.random((side // 8, side // 8)).astype(np.float32)
        values = cv2.resize(coarse, (side, side))
    else:
        values = generator.random((side, side)).astype(np.float32)
        values = cv2.GaussianBlur(values, (0, 0), generator.uniform(1, 6))
    return (255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["bilinear", "blurred"])
def test_smooth_maps(kind, seed):
    """Components that join and enclose each other at many thresholds, with wide plateaus."""
    assert_like_opencv(smooth_map(kind, seed), np.unique((np.arange(0, 1, 0.02) * 255).astype(int)))


def test_nested_rings_are_filled_to_the_outermost():
    """Rings one pixel wide have little area themselves: their holes decide which is largest."""
    image = np.zeros((40, 60), dtype=np.uint8)
    for inset in range(0, 18, 2):
        cv2.rectangle(image, (1 + inset, 1 + inset), (37 - inset, 37 - inset), 100 + inset, 1)
    image[2:30, 40:58] = 90  # more set pixels than any ring
    image[33:35, 42:44] = 255
    assert_like_opencv(image, range(80, 130, 3))
    boxes, _ = contour_boxes(image, [80, 99], multi_contour=False)
    assert boxes.tolist() == [[1, 1, 38, 38]] * 2


def test_a_ring_that_ties_with_a_block_when_filled():
    rows = ["###....", "###.###", "###.#.#", "....###"]
    mask = np.array([[pixel == "#" for pixel in row] for row in rows], dtype=np.uint8)
    assert_like_opencv(mask)
    assert contour_boxes(mask, [0], multi_contour=False)[0].tolist() == [[4, 1, 7, 4]]


@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_image(value):
    assert_like_opencv(np.full((5, 7), value, dtype=np.uint8), [-1, 0, 100, 255])


def test_more_thresholds_than_int16_counts():
    generator = np.random.default_rng(4)
    image = generator.integers(0, 3, size=(5, 6)).astype(np.uint8)
    cuts = np.arange(2**15 + 1) - 2**15  # ..., -1, 0: below 0 every pixel is set
    for multi_contour in (True, False):
        boxes, index = contour_boxes(image, cuts, multi_contour)
        assert (np.bincount(index[index < 2**15]) == 1).all()
        last = sorted(map(tuple, boxes[index == 2**15].tolist()))
        assert last == opencv_boxes(image > 0, multi_contour)


@pytest.mark.parametrize(
    ("image", "thresholds", "error", "message"),
    [
        (None, [0], TypeError, r"received None. Convert a tensor with .cpu\(\).numpy\(\)"),
        (np.zeros((2, 0), np.uint8), [0], ValueError, r"one image \(H, W\) of uint8; received"),
        (np.zeros((2, 2), np.uint8), [[1], [1, 2]], ValueError, "strictly increasing integer"),
        (np.zeros((2, 2), np.uint8), None, ValueError, "strictly increasing integer"),
    ],
)
def test_arguments_of_another_type_raise(image, thresholds, error, message):
    with pytest.raises(error, match=message):
        contour_boxes(image, thresholds)
