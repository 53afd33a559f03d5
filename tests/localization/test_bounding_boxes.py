"""Components and boxes against loops, scikit-image and worked numbers."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from localization_reference import (
    CLIP_SIZES,
    by_score,
    naive_box,
    naive_components,
    pairs_of,
    positions,
    random_maps,
)
from skimage import measure

from captum_3dcam import localization as loc


@settings(max_examples=80)
@given(random_maps(), st.data())
def test_components_equal_flood_fill_and_scikit_image(maps, data):
    mask = maps > 0.3
    rank = mask.ndim - 2
    connectivity = data.draw(st.sampled_from([None, *range(1, rank + 1)]))
    labels, counts = loc.components(mask, connectivity)
    assert labels.shape == mask.shape
    assert (labels.dtype, counts.dtype) == (torch.int64, torch.int64)
    for n, sample in enumerate(mask[:, 0].numpy()):
        expected = np.zeros(sample.shape, dtype=int)
        naive = naive_components(sample, connectivity or rank)
        for label, component in enumerate(naive, start=1):
            for position in component:
                expected[position] = label
        assert counts[n] == len(naive)
        np.testing.assert_array_equal(labels[n, 0].numpy(), expected)
        oracle, count = measure.label(sample, connectivity=connectivity, return_num=True)
        assert count == len(naive)
        np.testing.assert_array_equal(expected, oracle)


def test_components_touch_at_corners_by_default():
    diagonal = torch.eye(3, dtype=torch.bool)[None, None]
    assert loc.components(diagonal)[1].tolist() == [1]
    assert loc.components(diagonal, connectivity=1)[1].tolist() == [3]
    cube = torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    cube[0, 0, 0, 0, 0] = cube[0, 0, 1, 1, 1] = True
    assert [loc.components(cube, c)[1].item() for c in (1, 2, 3)] == [2, 2, 1]


@settings(max_examples=80)
@given(random_maps(), st.data())
def test_boxes_equal_loops(maps, data):
    rank = maps.ndim - 2
    connectivity = data.draw(st.integers(1, rank))
    mask = loc.binarize(maps, "relative", 0.3)
    result = {s: loc.boxes(maps, mask, s, connectivity) for s in ("all", "union", "largest")}
    for n, (sample, values) in enumerate(zip(mask[:, 0].numpy(), maps[:, 0].numpy(), strict=True)):
        components = naive_components(sample, connectivity)
        described = [(naive_box(c), max(values[p] for p in c), len(c)) for c in components]
        described.sort(key=lambda d: -d[1])
        assert pairs_of(result["all"][n]) == [d[:2] for d in described]
        inside = [p for p in positions(sample.shape) if sample[p]]
        union = [(naive_box(inside), max(values[p] for p in inside))] if inside else []
        assert pairs_of(result["union"][n]) == union
        largest = [max(described, key=lambda d: d[2])[:2]] if described else []
        assert pairs_of(result["largest"][n]) == largest
        for boxes in (chosen[n] for chosen in result.values()):
            assert boxes.boxes.shape == (len(boxes.scores), 2 * rank)
            assert boxes.boxes.dtype == boxes.scores.dtype == torch.float32


@settings(max_examples=40)
@given(random_maps(st.lists(st.integers(1, 9), min_size=2, max_size=2), batch=1))
def test_boxes_of_images_equal_regionprops(maps):
    mask = loc.binarize(maps)
    labelled = measure.label(mask[0, 0].numpy())
    expected = [
        ([x0, y0, x1, y1], region.intensity_max)
        for region in measure.regionprops(labelled, maps[0, 0].numpy())
        for y0, x0, y1, x1 in [region.bbox]
    ]
    assert pairs_of(loc.boxes(maps, select="all")[0]) == by_score(expected)


def test_a_box_is_x_first_and_exclusive_at_its_end():
    maps = torch.zeros(1, 1, 6, 10)
    maps[0, 0, 2:5, 3:8] = 0.5
    (result,) = loc.boxes(maps)
    assert result.boxes.tolist() == [[3, 2, 8, 5]]
    assert result.scores.tolist() == [0.5]
    (cuboid,) = loc.boxes(maps[:, :, None].expand(1, 1, 4, 6, 10))
    assert cuboid.boxes.tolist() == [[3, 2, 0, 8, 5, 4]]
    (interval,) = loc.boxes(maps[:, :, 3])
    assert interval.boxes.tolist() == [[3, 8]]


def test_the_largest_component_has_most_pixels_not_the_largest_box_or_score():
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0].fill_diagonal_(1.0)  # 8 pixels in a box of 64
    maps[0, 0, 0:3, 5:8] = 0.6  # 9 pixels
    assert loc.boxes(maps)[0].boxes.tolist() == [[5, 0, 8, 3]]


def test_ties_of_size_go_to_the_highest_score_then_to_the_first():
    maps = torch.zeros(2, 1, 1, 5)
    maps[0, 0, 0, [0, 2, 4]] = torch.tensor([0.6, 1.0, 0.7])
    maps[1, 0, 0, [1, 3]] = 1.0
    assert [b.boxes.tolist() for b in loc.boxes(maps)] == [[[2, 0, 3, 1]], [[1, 0, 2, 1]]]


@pytest.mark.parametrize("select", loc.SELECTIONS)
@pytest.mark.parametrize("size", [(1,), (4, 5), (3, 1, 2)])
def test_an_empty_map_has_no_box(select, size):
    (result,) = loc.boxes(torch.zeros(1, 1, *size), select=select)
    assert result.boxes.shape == (0, 2 * len(size))
    assert result.scores.shape == (0,)


def test_scores_are_those_of_the_map_under_any_mask():
    maps = torch.tensor([[[0.0, -2.0, -1.0, 0.0, 5.0]]])
    mask = torch.tensor([[[False, True, True, False, False]]])
    assert pairs_of(loc.boxes(maps, mask)[0]) == [([1, 3], -1)]


def test_an_empty_batch_gives_empty_results():
    maps, profile = torch.zeros(0, 1, 2, 3, 3), torch.zeros(0, 4)
    assert loc.binarize(maps).shape == maps.shape
    labels, counts = loc.components(loc.binarize(maps))
    assert (labels.shape, counts.shape) == (maps.shape, (0,))
    results = [loc.boxes(maps), loc.frame_boxes(maps), loc.tubes(maps), loc.segments(profile)]
    assert [*results, loc.link([])] == [[]] * 5


@settings(max_examples=40)
@given(random_maps(CLIP_SIZES), st.sampled_from(loc.SELECTIONS))
def test_frame_boxes_are_the_boxes_of_each_frame_with_the_threshold_of_the_clip(maps, select):
    mask = loc.binarize(maps, "mean")
    for given_mask, used in ((mask, mask), (None, loc.binarize(maps))):
        result = loc.frame_boxes(maps, given_mask, select, connectivity=1)
        assert [len(frames) for frames in result] == [maps.shape[2]] * len(maps)
        for n, t in product(range(len(maps)), range(maps.shape[2])):
            frame, inside = maps[n, :, t][None], used[n, :, t][None]
            (expected,) = loc.boxes(frame, inside, select, connectivity=1)
            assert pairs_of(result[n][t]) == pairs_of(expected)
            assert result[n][t].boxes.shape == (len(result[n][t].scores), 2 * (maps.ndim - 3))
