"""Overlaps, hit points and energies against loops; what is imported when."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam import metrics
from captum_3dcam.metrics import _inputs as inputs

NAN = float("nan")


def random_boxes(generator, count, dims, size=6):
    corners = generator.integers(0, size + 1, size=(2, count, dims))
    return torch.from_numpy(np.concatenate([corners.min(0), corners.max(0)], axis=1))


def pixels(box, size=6):
    """The pixels of an inclusive-exclusive box, as a mask with axes in the order of bounds."""
    low, high = np.split(np.asarray(box), 2)
    mask = np.zeros([size] * len(low), dtype=bool)
    mask[tuple(map(slice, low, high))] = True
    return mask


def ratio(common, union):
    return common / union if union else 0.0


# ------------------------------------------------------------------------------------ overlap


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_box_iou_counts_pixels_in_any_dimension(seed, dims):
    generator = np.random.default_rng(seed)
    a, b = random_boxes(generator, 3, dims), random_boxes(generator, 4, dims)
    found = metrics.box_iou(a, b)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            p, q = pixels(one), pixels(other)
            assert found[i, j].item() == pytest.approx(ratio((p & q).sum(), (p | q).sum()))
    torch.testing.assert_close(found, metrics.box_iou(b, a).T)
    torch.testing.assert_close(metrics.paired_iou(a, b[:3]), found[:, :3].diagonal())
    best = metrics.best_iou([a, a[:0], a[0]], [b, b, b])
    assert best.tolist() == [found.max().item(), 0, found[0].max().item()]


def test_boxes_that_hold_their_last_pixel():
    inclusive, exclusive = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 4, 5]])
    assert metrics.to_exclusive(inclusive, "xyxy_inclusive").equal(exclusive.double())
    assert metrics.to_exclusive(exclusive, "xyxy").equal(exclusive.double())
    assert metrics.best_iou([inclusive], [torch.tensor([[1, 2, 3, 3]])], "xyxy_inclusive") == 2 / 3
    assert metrics.box_accuracy(exclusive, [torch.tensor([[1, 2, 4, 4]])], (0.6, 0.7)).tolist() == [
        1,
        0,
    ]


def test_small_integers_do_not_overflow():
    box = torch.tensor([[200, 200, 255, 255]], dtype=torch.uint8)
    assert metrics.to_exclusive(box, "xyxy_inclusive").tolist() == [[200, 200, 256, 256]]
    assert metrics.box_iou(box, box).item() == 1


def test_segment_iou_by_hand():
    truth = torch.tensor([[2.0, 6.0], [0.0, 4.0], [4.0, 5.0]])
    found = metrics.segment_iou(torch.tensor([[0.0, 4.0]]), truth)
    assert found.tolist() == [[1 / 3, 1, 0]]


def test_mask_iou_by_hand():
    a = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]]).bool()
    b = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]]).bool()
    assert metrics.mask_iou(a, b).tolist() == [1 / 3, 0, 1]


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_tube_iou_frame_by_frame(seed):
    generator = np.random.default_rng(seed)
    tubes = [random_boxes(generator, 5, 2).double() for _ in range(2)]
    for tube in tubes:
        tube[torch.from_numpy(generator.random(5) < 0.4)] = NAN
    ious, frames = 0.0, 0
    for one, other in zip(*tubes, strict=True):
        here = [not box.isnan().any() for box in (one, other)]
        frames += any(here)
        if all(here):
            ious += metrics.box_iou(one[None], other[None]).item()
    assert metrics.tube_iou(*tubes).item() == pytest.approx(ratio(ious, frames))


def test_tube_iou_is_temporal_times_mean_spatial_iou():
    box = torch.tensor([0.0, 0, 4, 4])
    a, b = torch.full((2, 10, 4), NAN)
    a[0:6] = box
    b[4:10] = torch.tensor([0.0, 0, 4, 2])
    assert metrics.tube_iou(a, b).item() == pytest.approx((2 / 10) * 0.5)
    several = metrics.best_tube_iou([torch.stack([b, a]), a[None][:0]], [a, a])
    assert several.tolist() == [1, 0]
    metric = metrics.TubeIoU(box_format="xyxy_inclusive")
    metric.update([a], [b])
    metric.update([torch.stack([b, a])], [a])
    assert metric.compute().item() == pytest.approx((1 + 0.2 * 15 / 25) / 2)


def test_box_accuracy_accumulates():
    truth = [torch.tensor([[0, 0, 4, 2], [8, 8, 9, 9]]), torch.tensor([[0, 0, 2, 2]])]
    predicted = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 2]])
    metric = metrics.BoxAccuracy((0.5, 0.6))
    for number in range(2):
        metric.update(predicted[number : number + 1], truth[number : number + 1])
    assert [float(v) for v in metric.compute()["per_iou"]] == [1, 0.5]
    assert metric.compute()["box_accuracy"] == 0.75
    assert metrics.box_accuracy(predicted, truth, (0.5, 0.6)).tolist() == [1, 0.5]


# ----------------------------------------------------------------------------------- pointing


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
                apart = min(np.linalg.norm(np.subtract(pixel, place)) for place in region)
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
        naive_hit(one, truth, mode, **option)
        for one, truth in zip(maps.numpy(), boxes, strict=True)
    ]
    assert metrics.hit_point(maps, boxes, mode, **option).tolist() == expected
    assert metrics.hit_point(maps[:, None], boxes, mode, **option).tolist() == expected
    metric = metrics.HitPoint(mode, **option)
    metric.update(maps[:2], boxes[:2])
    metric.update(maps[2:], boxes[2:])
    assert metric.compute().item() == pytest.approx(np.mean(expected))


def point_map(*place, size=(60, 60)):
    found = torch.zeros(1, *size)
    found[(0, *place)] = 2.0
    return found


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
    truth = torch.tensor([[0, 0, 10, 10]])
    hit = metrics.hit_point(point_map(y, x), [truth], "argmax", tolerance=tolerance)
    assert hit.tolist() == [expected]
    inclusive = truth - torch.tensor([0, 0, 1, 1])
    hit = metrics.hit_point(
        point_map(y, x), [inclusive], tolerance=tolerance, box_format="xyxy_inclusive"
    )
    assert hit.tolist() == [expected]


def test_a_box_around_the_map_meets_the_truth_where_the_maximum_does_not():
    maps = point_map(5, 5)
    maps[0, 40, 40] = 1.5
    truth = [torch.tensor([[40, 40, 50, 50]])]
    assert not metrics.hit_point(maps, truth, "argmax")
    assert metrics.hit_point(maps, truth, "intersect")
    assert metrics.hit_point(maps, truth, "intersect", threshold=0.74)
    assert not metrics.hit_point(maps, truth, "intersect", threshold=0.75)


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
    found = metrics.boxes_to_mask(boxes, (6,) * dims)
    np.testing.assert_array_equal(found.numpy(), expected)
    # What covers everything holds all energy; what is outside holds the rest.
    maps = torch.from_numpy(generator.random((1, *[6] * dims)))
    inside, outside = (metrics.energy_inside(maps, mask[None]).item() for mask in (found, ~found))
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


# --------------------------------------------------------------------------- errors, imports


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.box_iou(torch.zeros(4), torch.zeros(1, 4)), r"got \(4,\) and \(1, 4\)"),
        (lambda: metrics.box_iou(torch.zeros(1, 2), torch.zeros(1, 4)), "of one D"),
        (lambda: metrics.to_exclusive(torch.zeros(1, 3), "xyxy"), r"as upper ones.*\(1, 3\)"),
        (lambda: metrics.to_exclusive(torch.zeros(1, 4), "xywh"), "Choose one of 'xyxy', "),
        (lambda: metrics.to_exclusive(torch.tensor([[5, 5, 2, 9]]), "xyxy"), "width, y"),
        (lambda: metrics.mask_iou(torch.zeros(1, 2), torch.zeros(1, 2)), "two bool masks"),
        (lambda: metrics.best_tube_iou([torch.zeros(3, 4)], [torch.zeros(2, 4)]), "Clip 0 has"),
        (lambda: metrics.best_tube_iou([torch.zeros(3, 4)], []), "got 1 and 0"),
        (lambda: metrics.HitPoint("peak"), "mode='peak' is not known. Choose one of 'int"),
        (lambda: metrics.HitPoint("intersect", tolerance=3), "=3 has no meaning for mode='int"),
        (lambda: metrics.HitPoint("argmax", threshold=0.3), "threshold=0.3 has no meaning"),
        (lambda: metrics.HitPoint("intersect", threshold=1.0), r"threshold=1.0 is not in \[0, 1\)"),
        (lambda: metrics.HitPoint("argmax", tolerance=-1), "tolerance=-1 is not a distance"),
        (lambda: metrics.hit_point(torch.rand(2, 3, 3), [torch.zeros(1, 4), torch.zeros(1, 6)]),
         "Sample 1 has boxes.*needs 4 bounds"),
        (lambda: metrics.hit_point(torch.rand(1, 2, 3, 3), [torch.zeros(1, 4)]), "2 spatial axes"),
        (lambda: metrics.energy_inside(torch.rand(1, 2), torch.ones(1, 2)), "of the same shape"),
        (lambda: metrics.boxes_to_mask(torch.zeros(1, 4), (2, 2, 2)), r"needs boxes \(B, 6\)"),
        (lambda: metrics.acc2(torch.ones(2), torch.ones(2)), "hits and correct, both bool"),
        (lambda: inputs.check_truth(torch.zeros(2, 4), 2), "list\\(boxes\\[:, None\\]\\)"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_the_functions_are_imported_without_the_heavy_packages():
    code = (
        "import sys, captum_3dcam; print('captum_3dcam.metrics' in sys.modules)\n"
        "from captum_3dcam import metrics\n"
        "print(*(name in sys.modules for name in ('torchmetrics', 'scipy.ndimage', 'cv2')))\n"
        "print('MaxBoxAcc' in dir(metrics), metrics.MaxBoxAcc.__name__)"
    )
    assert run(code) == ["False"] * 4 + ["True", "MaxBoxAcc"]


def test_without_torchmetrics_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "captum_3dcam.metrics.modular", raising=False)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(ImportError, match=r"pip install 'captum_3dcam\[metrics\]'"):
        metrics.PxAP  # noqa: B018
    assert metrics.px_ap is not None


def test_all_names_are_there():
    for name in metrics.__all__:
        assert getattr(metrics, name) is not None
    with pytest.raises(AttributeError, match="'captum_3dcam.metrics' has no attribute 'MaxBox'"):
        metrics.MaxBox  # noqa: B018
