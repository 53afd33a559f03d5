"""Hit points and energies against loops over pixels."""

import numpy as np
import pytest
import torch
from box_pixels import pixels, random_boxes
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam import metrics

NAN = float("nan")


def naive_hit(one, boxes, mode, tolerance=15.0, threshold=0.5):
    """Over all pixels; axes of the map are t, y, x, bounds are x, y, t."""
    if one.max() <= 0 or one.max() == one.min():
        return False
    if mode == "argmax":
        region = [np.unravel_index(np.argmax(one), one.shape)]
    else:
        above = np.argwhere(one > threshold * one.max())
        low, high = above.min(axis=0), above.max(axis=0)
        region = [low + offset for offset in np.ndindex(*(high - low + 1))]
    for box in boxes.tolist():
        low, high = box[: one.ndim][::-1], box[one.ndim :][::-1]
        for pixel in np.ndindex(*one.shape):
            if all(a <= p < b for a, p, b in zip(low, pixel, high, strict=True)):
                apart = min(np.linalg.norm(np.subtract(pixel, position)) for position in region)
                if apart == 0 or (mode == "argmax" and apart < tolerance):
                    return True
    return False


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from(["argmax", "intersect"]))
def test_hit_point_pixel_by_pixel(seed, dims, mode):
    generator = np.random.default_rng(seed)
    maps = torch.from_numpy(generator.normal(size=(3, *[6] * dims)))
    boxes = [random_boxes(generator, generator.integers(1, 3), dims) for _ in range(3)]
    option = (
        {"tolerance": float(generator.integers(0, 4))}
        if mode == "argmax"
        else {"threshold": float(generator.random())}
    )
    expected = [
        naive_hit(one, ground_truth, mode, **option)
        for one, ground_truth in zip(maps.numpy(), boxes, strict=True)
    ]
    assert metrics.hit_point(maps, boxes, mode, **option).tolist() == expected
    assert metrics.hit_point(maps[:, None], boxes, mode, **option).tolist() == expected
    metric = metrics.HitPoint(mode, **option)
    metric.update(maps[:2], boxes[:2])
    metric.update(maps[2:], boxes[2:])
    assert metric.compute().item() == pytest.approx(np.mean(expected))


def point_map(*position, size=(60, 60)):
    result = torch.zeros(1, *size)
    result[(0, *position)] = 2.0
    return result


@pytest.mark.parametrize(
    ("y", "x", "tolerance", "expected"),
    [
        (9, 9, 0, True),  # the box's last pixel
        (9, 10, 0, False),
        (9, 23, None, True),  # 14 away
        (9, 24, None, False),  # 15 away: strictly less
        (9, 24, 15.1, True),
        (12, 13, 5, False),  # 3 and 4 away: 5
        (12, 13, 5.01, True),
    ],
)
def test_the_pointing_games_tolerance(y, x, tolerance, expected):
    ground_truth = torch.tensor([[0, 0, 10, 10]])
    hit = metrics.hit_point(point_map(y, x), [ground_truth], "argmax", tolerance=tolerance)
    assert hit.tolist() == [expected]
    inclusive = ground_truth - torch.tensor([0, 0, 1, 1])
    hit = metrics.hit_point(
        point_map(y, x), [inclusive], tolerance=tolerance, box_format="xyxy_inclusive"
    )
    assert hit.tolist() == [expected]


def test_a_box_around_the_map_meets_the_ground_truth_where_the_maximum_does_not():
    maps = point_map(5, 5)
    maps[0, 40, 40] = 1.5
    ground_truth = [torch.tensor([[40, 40, 50, 50]])]
    assert not metrics.hit_point(maps, ground_truth, "argmax")
    assert metrics.hit_point(maps, ground_truth, "intersect")
    assert metrics.hit_point(maps, ground_truth, "intersect", threshold=0.74)
    assert not metrics.hit_point(maps, ground_truth, "intersect", threshold=0.75)


def test_the_bounds_of_a_clip_are_x_y_t():
    maps = point_map(1, 2, 3, size=(4, 6, 8))
    assert metrics.hit_point(maps, [torch.tensor([[3, 2, 1, 4, 3, 2]])], tolerance=0)
    assert not metrics.hit_point(maps, [torch.tensor([[1, 2, 3, 2, 3, 4]])], tolerance=0)
    mask = metrics.boxes_to_mask(torch.tensor([[3, 2, 1, 4, 3, 2]]), (4, 6, 8))
    assert mask.nonzero().tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("mode", ["argmax", "intersect"])
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, NAN])
def test_a_map_that_points_at_nothing_hits_nothing(mode, value):
    everything = [torch.tensor([[0, 0, 4, 4]])]
    maps = torch.full((1, 4, 4), value)
    assert metrics.hit_point(maps, everything, mode).tolist() == [False]
    maps[0, 0, 0] = -2.0
    assert metrics.hit_point(maps, everything, mode).tolist() == [value == 1.0]


def test_energy_inside_by_hand():
    maps = torch.tensor([[[1.0, 3.0], [-2.0, 4.0]], [[-1.0, 0.0], [0, 0]], [[1, NAN], [1, 1]]])
    masks = torch.tensor([[[True, False], [True, True]]]).expand(3, 2, 2)
    assert metrics.energy_inside(maps, masks).tolist() == [5 / 8, 0, 0]
    boxes = [torch.tensor([[0, 0, 1, 2], [1, 1, 2, 2]])] * 3  # overlaps count once
    by_boxes, by_masks = metrics.EnergyInside(), metrics.EnergyInside()
    by_boxes.update(maps[:, None], boxes)
    for number in range(3):
        by_masks.update(maps[number : number + 1], masks[number : number + 1])
    assert by_boxes.compute().item() == by_masks.compute().item() == pytest.approx(5 / 24)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_masks_of_boxes_pixel_by_pixel(seed, dims):
    generator = np.random.default_rng(seed)
    boxes = random_boxes(generator, 2, dims)
    expected = np.any([pixels(box).T for box in boxes], axis=0)
    result = metrics.boxes_to_mask(boxes, (6,) * dims)
    np.testing.assert_array_equal(result.numpy(), expected)
    # What covers everything holds all energy; what is outside holds the rest.
    maps = torch.from_numpy(generator.random((1, *[6] * dims)))
    inside, outside = (metrics.energy_inside(maps, mask[None]).item() for mask in (result, ~result))
    assert inside + outside == pytest.approx(1)
    assert inside == pytest.approx(maps[0].numpy()[expected].sum() / maps.sum().item())


def test_acc2_keeps_its_denominator():
    hits = torch.tensor([True, True, True, False, False])
    right = torch.tensor([True, False, True, True, False])
    assert metrics.acc2(hits, right).item() == pytest.approx(0.4)
    metric = metrics.Acc2()
    metric.update(hits[:2], right[:2])
    metric.update(hits[2:], right[2:])
    assert metric.compute().item() == pytest.approx(0.4)
    assert metric.samples == 5
    metric.reset()
    metric.update(hits[:1], right[:1])
    assert metric.compute() == 1


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.0, 1.0, 1.5, 2.24]))
def test_masks_with_a_tolerance_are_the_points_that_hit(seed, dims, tolerance):
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.uniform(-1, 6, size=(2, 2, dims)), axis=0)  # some without a pixel
    boxes = torch.from_numpy(np.concatenate(corners, axis=1))
    size = (5, 4, 3)[:dims]
    mask = metrics.boxes_to_mask(boxes, size, tolerance=tolerance)
    points = torch.eye(mask.numel()).reshape(-1, *size)
    hits = metrics.hit_point(points, [boxes] * len(points), tolerance=tolerance)
    assert mask.flatten().tolist() == hits.tolist()


def test_a_mask_of_absent_boxes_is_empty():
    absent = torch.full((1, 4), NAN)
    assert not metrics.boxes_to_mask(absent, (3, 3), tolerance=9).any()
    assert not metrics.boxes_to_mask(absent[:0], (3, 3)).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.HitPoint("peak"), "mode='peak' is not known. Choose one of 'int"),
        (lambda: metrics.HitPoint("intersect", tolerance=3), "=3 has no meaning for mode='int"),
        (lambda: metrics.HitPoint("argmax", threshold=0.3), "threshold=0.3 has no meaning"),
        (lambda: metrics.HitPoint("intersect", threshold=1.0), r"threshold=1.0 is not in \[0, 1\)"),
        (lambda: metrics.HitPoint("argmax", tolerance=-1), "tolerance=-1: expected a distance"),
        (lambda: metrics.TemporalHit(tolerance=-1), "tolerance=-1: expected a distance"),
        (lambda: metrics.hit_point(torch.rand(2, 3, 3), [torch.zeros(1, 4), torch.zeros(1, 6)]),
         "Sample 1 has boxes.*needs 4 bounds"),
        (lambda: metrics.hit_point(torch.rand(1, 2, 3, 3), [torch.zeros(1, 4)]), "2 spatial axes"),
        (lambda: metrics.energy_inside(torch.rand(1, 2), torch.ones(1, 2)), "of the same shape"),
        (lambda: metrics.boxes_to_mask(torch.zeros(1, 4), (2, 2, 2)), r"needs boxes \(B, 6\)"),
        (lambda: metrics.boxes_to_mask(torch.zeros(1, 4), (2, 2), tolerance=-1), "tolerance=-1: "),
        (lambda: metrics.acc2(torch.ones(2), torch.ones(2)), "hits and correct, both bool"),
        (lambda: metrics.hit_point(torch.rand(3), []), r"Add a batch axis with maps\[None\]"),
        (lambda: metrics.hit_point(torch.rand(1, 3, 3), [torch.zeros(1, 3)]), "with at least one"),
        (lambda: metrics.boxes_to_mask(torch.zeros(1, 4), (2, 0)), r"size\[1\]=0: expected an int"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.hit_point(None, []), "Expected maps as a tensor; got NoneType"),
        (lambda: metrics.hit_point(torch.rand(1, 3, 3), 3), "boxes=3: expected a list of tensors"),
        (
            lambda: metrics.hit_point(torch.rand(1, 3, 3), [None]),
            r"boxes\[0\] as a tensor; got",
        ),
        (lambda: metrics.HitPoint("argmax", tolerance="3"), "tolerance='3': expected a number"),
        (lambda: metrics.HitPoint("intersect", threshold="3"), "threshold='3': expected a number"),
        (lambda: metrics.energy_inside(torch.rand(1, 2), None), "Expected masks as a tensor"),
        (
            lambda: metrics.EnergyInside().update(torch.rand(1, 2), None),
            "boxes=None: expected a",
        ),
        (lambda: metrics.boxes_to_mask(torch.zeros(1, 4), 4), "size=4: expected a list of numbers"),
        (lambda: metrics.acc2([True], torch.ones(1) > 0), "Expected hits as a tensor; got list"),
    ],
)
def test_arguments_of_another_type_raise(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_binary_maps_point_at_their_first_pixel():
    maps = torch.zeros(1, 4, 4, dtype=torch.bool)
    maps[0, 2, 3] = True
    assert metrics.hit_point(maps, [torch.tensor([[3, 2, 4, 3]])], tolerance=0).tolist() == [True]
