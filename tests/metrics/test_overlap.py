"""Overlaps against loops over pixels and frames."""

import numpy as np
import pytest
import torch
from box_pixels import pixels, random_boxes
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam import metrics

NAN = float("nan")


def ratio(common, union):
    return common / union if union else 0.0


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_box_iou_counts_pixels_in_any_dimension(seed, dims):
    generator = np.random.default_rng(seed)
    a, b = random_boxes(generator, 3, dims), random_boxes(generator, 4, dims)
    ious = metrics.box_iou(a, b)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            p, q = pixels(one), pixels(other)
            assert ious[i, j].item() == pytest.approx(ratio((p & q).sum(), (p | q).sum()))
    torch.testing.assert_close(ious, metrics.box_iou(b, a).T)
    torch.testing.assert_close(metrics.paired_iou(a, b[:3]), ious[:, :3].diagonal())
    best = metrics.best_iou([a, a[:0], a[0]], [b, b, b])
    assert best.tolist() == [ious.max().item(), 0, ious[0].max().item()]


def test_segment_iou_by_hand():
    target = torch.tensor([[2.0, 6.0], [0.0, 4.0], [4.0, 5.0]])
    ious = metrics.segment_iou(torch.tensor([[0.0, 4.0]]), target)
    assert ious.tolist() == [[1 / 3, 1, 0]]


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
        present = [not box.isnan().any() for box in (one, other)]
        frames += any(present)
        if all(present):
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
    target = [torch.tensor([[0, 0, 4, 2], [8, 8, 9, 9]]), torch.tensor([[0, 0, 2, 2]])]
    preds = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 2]])
    metric = metrics.BoxAccuracy((0.5, 0.6))
    for number in range(2):
        metric.update(preds[number : number + 1], target[number : number + 1])
    assert [float(v) for v in metric.compute()["per_iou"]] == [1, 0.5]
    assert metric.compute()["box_accuracy"] == 0.75
    assert metrics.box_accuracy(preds, target, (0.5, 0.6)).tolist() == [1, 0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.box_iou(torch.zeros(4), torch.zeros(1, 4)),
            r"received shape \(4,\) and shape \(1, 4\)",
        ),
        (lambda: metrics.box_iou(torch.zeros(1, 2), torch.zeros(1, 4)), "of the same D"),
        (lambda: metrics.mask_iou(torch.zeros(1, 2), torch.zeros(1, 2)), "two bool masks"),
        (lambda: metrics.best_tube_iou([torch.zeros(3, 4)], [torch.zeros(2, 4)]), "Clip 0 has"),
        (lambda: metrics.best_tube_iou([torch.zeros(3, 4)], []), "received 1 and 0"),
        (lambda: metrics.tube_iou(torch.zeros(3, 4), torch.zeros(2, 4)), "over the same frames"),
        (lambda: metrics.tube_iou(torch.zeros(4), torch.zeros(4)), r"tubes \(\.\.\., T, 4\)"),
        (
            lambda: metrics.paired_iou(torch.zeros(3, 4), torch.zeros(2, 4)),
            r"shapes that broadcast; received shape \(3, 4\) and shape \(2, 4\)",
        ),
        (
            lambda: metrics.best_iou(torch.zeros(1, 0), [torch.zeros(1, 4)]),
            "as many lower bounds as upper ones",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda junk: metrics.box_iou(junk, torch.zeros(1, 4)),
        lambda junk: metrics.paired_iou(torch.zeros(1, 4), junk),
        lambda junk: metrics.mask_iou(junk, torch.ones(1, 2) > 0),
        lambda junk: metrics.tube_iou(torch.zeros(2, 4), junk),
        lambda junk: metrics.best_iou([junk], [torch.zeros(1, 4)]),
        lambda junk: metrics.best_iou([torch.zeros(1, 4)], [junk]),
        lambda junk: metrics.best_tube_iou([junk], [torch.zeros(1, 4)]),
    ],
)
@pytest.mark.parametrize("junk", [None, [[0, 0, 1, 1]], "box", 3, np.zeros((1, 4))])
def test_what_is_no_tensor_raises(call, junk):
    with pytest.raises(TypeError, match=r"Expected .* as a tensor; got"):
        call(junk)


@pytest.mark.parametrize("function", [metrics.best_iou, metrics.best_tube_iou])
@pytest.mark.parametrize("junk", [None, 3, "boxes", {}])
def test_samples_are_a_list(function, junk):
    with pytest.raises(TypeError, match="preds=.*: expected a list of tensors"):
        function(junk, [torch.zeros(1, 4)])
