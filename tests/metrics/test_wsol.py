"""MaxBoxAcc and PxAP against worked numbers, and a naive implementation of the protocol."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from captum_3dcam import metrics
from captum_3dcam.metrics import wsol

TAUS = wsol.cam_thresholds()


def scoremap(height, width, *patches):
    result = torch.zeros(height, width)
    for rows, columns, value in patches:
        result[rows, columns] = value
    return result


def box(*bounds):
    return torch.tensor([bounds])


SQUARE = scoremap(8, 8, (slice(2, 5), slice(2, 5), 1))
RING = scoremap(9, 9, (slice(1, 8), slice(1, 8), 1), (slice(3, 6), slice(3, 6), 0))
TWO = scoremap(10, 12, (slice(1, 4), slice(1, 4), 1), (slice(5, 9), slice(6, 11), 0.6))
LINE = scoremap(8, 12, (slice(0, 1), slice(None), 1), (slice(4, 7), slice(4, 7), 1))
RAMP = (torch.arange(10) / 9).expand(4, 10)


# ---------------------------------------------------------------------------- worked numbers


@pytest.mark.parametrize(
    ("one", "ground_truth", "tau", "single", "iou", "more", "multi_iou"),
    [
        (SQUARE, (2, 2, 4, 4), 0, [2, 2, 5, 5], 0.5625, [], 0.5625),
        (SQUARE, (2, 2, 4, 4), 0.99, [2, 2, 5, 5], 0.5625, [], 0.5625),
        (scoremap(6, 6, (slice(3, 6), slice(3, 6), 1)), (3, 3, 5, 5), 0.5, [3, 3, 5, 5], 1, [], 1),
        (TWO, (6, 5, 10, 8), 0.59, [6, 5, 11, 9], 2 / 3, [[1, 1, 4, 4]], 2 / 3),
        (TWO, (6, 5, 10, 8), 0.60, [1, 1, 4, 4], 0, [], 0),
        (RING, (3, 3, 5, 5), 0.3, [1, 1, 8, 8], 9 / 64, [[2, 2, 7, 7]], 0.25),
        (LINE, (0, 0, 11, 0), 0.3, [4, 4, 7, 7], 0, [[0, 0, 11, 1]], 0.5),
        (scoremap(4, 4), (0, 0, 3, 3), 0.3, [0, 0, 0, 0], 0.0625, [], 0.0625),
        (RAMP, (5, 0, 9, 3), 0, [1, 0, 9, 3], 5 / 9, [], 5 / 9),
        (RAMP, (5, 0, 9, 3), 0.25, [3, 0, 9, 3], 5 / 7, [], 5 / 7),
        (RAMP, (5, 0, 9, 3), 0.5, [5, 0, 9, 3], 1, [], 1),
        (RAMP, (5, 0, 9, 3), 0.75, [7, 0, 9, 3], 0.6, [], 0.6),
        (RAMP, (5, 0, 9, 3), 0.99, [9, 0, 9, 3], 0.2, [], 0.2),
    ],
)  # fmt: skip
def test_boxes_and_ious_by_hand(one, ground_truth, tau, single, iou, more, multi_iou):
    taus = torch.tensor([tau], dtype=torch.float64)
    assert metrics.scoremap_boxes(one, taus, multi_contour=False)[0].tolist() == [single]
    every = metrics.scoremap_boxes(one, taus, multi_contour=True)[0].tolist()
    assert sorted(every) == sorted([single, *more])
    for multi_contour, expected in ((False, iou), (True, multi_iou)):
        result = metrics.scoremap_ious(one[None], [box(*ground_truth)], taus, multi_contour)
        assert result.item() == pytest.approx(expected, abs=1e-15)


def test_one_square_is_the_same_at_every_threshold():
    result = metrics.scoremap_ious(SQUARE[None], [box(2, 2, 4, 4)], TAUS)
    assert result.unique().tolist() == [0.5625]


def test_one_threshold_for_the_dataset_is_not_one_per_sample():
    ground_truth = [box(5, 0, 9, 3), box(9, 0, 9, 3)]
    result = {}
    for selection in ("dataset", "per_sample"):
        metric = metrics.MaxBoxAcc((0.3, 0.5, 0.7), threshold_selection=selection)
        metric.update(RAMP.expand(2, 1, 4, 10), ground_truth)
        result[selection] = metric.compute()
        ious = metrics.scoremap_ious(RAMP.expand(2, 4, 10), ground_truth, TAUS)
        pure = metrics.max_box_acc(ious, (0.3, 0.5, 0.7), selection)
        assert pure.tolist() == [float(v) for v in result[selection]["per_iou"]]
    assert [float(v) for v in result["dataset"]["per_iou"]] == [1, 0.5, 0.5]
    assert result["dataset"]["max_box_acc"].item() == pytest.approx(2 / 3)
    assert [float(v) for v in result["per_sample"]["per_iou"]] == [1, 1, 1]
    assert result["per_sample"]["max_box_acc"].item() == 1
    assert "one threshold for the dataset" in result["dataset"]["protocol"]
    assert "one threshold per sample" in result["per_sample"]["protocol"]


def test_the_protocols_of_the_reference_have_their_names():
    def name(*options):
        return metrics.protocol_name(*options).split(":")[0]

    assert name((0.5,), "dataset", False) == "MaxBoxAcc V1"
    assert name((0.3, 0.5, 0.7), "dataset", True) == "MaxBoxAcc V2"
    assert name((0.3, 0.5, 0.7), "per_sample", True) == "MaxBoxAcc"
    assert name((0.5,), "dataset", True) == "MaxBoxAcc"


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[0, 0], [1, 1]], 1),
        ([[0, 1], [0, 1]], 5 / 6),
        ([[1, 1], [0, 0]], 5 / 12),
        ([[1, 0], [0, 0]], 1 / 4),
    ],
)
def test_px_ap_by_hand(mask, expected):
    maps, masks = torch.tensor([[[0, 0.25], [0.5, 1]]]), torch.tensor([mask]).bool()
    assert metrics.px_ap(maps, masks).item() == pytest.approx(expected, abs=1e-15)
    metric = metrics.PxAP()
    metric.update(maps, masks)
    assert metric.compute().item() == pytest.approx(expected, abs=1e-7)


# ---------------------------------------------------------- a naive implementation of the protocol


def naive_iou(a, b):
    """IoU of boxes that include their last pixel, by counting pixels."""
    pixels = [
        {(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)} for x0, y0, x1, y1 in (a, b)
    ]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


def naive_ious(one, ground_truth, multi_contour):
    """The best IoU at each threshold, with OpenCV; the reference takes maps in float64 alone."""
    one = one.astype(float)
    if np.isnan(one).any() or one.min() == one.max():
        one = np.zeros_like(one)
    else:
        one = one - one.min()
        one = one / one.max()
    image = (one * 255).astype(np.uint8)
    height, width = image.shape
    best = []
    for tau in np.arange(0, 1, 0.01):
        cut = int(tau * np.max(image))
        _, mask = cv2.threshold(image, cut, 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if contours and not multi_contour:
            contours = [max(contours, key=cv2.contourArea)]
        boxes = [
            (x, y, min(x + w, width - 1), min(y + h, height - 1))
            for x, y, w, h in map(cv2.boundingRect, contours)
        ] or [(0, 0, 0, 0)]
        best.append(max(naive_iou(b, t) for b in boxes for t in ground_truth))
    return best


def random_case(generator, size):
    height, width = size
    kind = generator.integers(4)
    if kind == 0:
        one = generator.random(size)
    elif kind == 1:
        one = cv2.resize(generator.random((4, 4)), (width, height)) - 3
    elif kind == 2:
        one = generator.integers(0, 3, size=size).astype(float)
    else:
        one = np.full(size, generator.choice([0, 0.5, np.nan]))
    corners = generator.integers(0, [width, height], size=(generator.integers(1, 4), 2, 2))
    return one.astype(np.float32), np.concatenate([corners.min(1), corners.max(1)], axis=1)


@pytest.mark.parametrize("multi_contour", [False, True])
def test_scores_equal_a_naive_implementation_of_the_protocol(multi_contour):
    generator = np.random.default_rng(int(multi_contour))
    deltas = (0.3, 0.5, 0.7)
    metric = metrics.MaxBoxAcc(deltas, multi_contour)
    expected = []
    for _ in range(6):
        cases = [random_case(generator, (9, 11)) for _ in range(2)]
        maps, boxes = zip(*cases, strict=True)
        stacked = torch.from_numpy(np.stack(maps))
        ground_truth = [torch.from_numpy(b) for b in boxes]
        naive = [naive_ious(m, b.tolist(), multi_contour) for m, b in cases]
        result = metrics.scoremap_ious(stacked, ground_truth, TAUS, multi_contour)
        assert result.tolist() == naive
        exclusive = [b + torch.tensor([0, 0, 1, 1]) for b in ground_truth]
        assert metrics.scoremap_ious(stacked, exclusive, TAUS, multi_contour, "xyxy").equal(result)
        metric.update(stacked[:, None], ground_truth)
        expected += naive
    per_iou = [(np.array(expected) >= delta).mean(axis=0).max() for delta in deltas]
    result = metric.compute()
    np.testing.assert_allclose([float(v) for v in result["per_iou"]], per_iou, rtol=1e-6)
    assert result["max_box_acc"].item() == pytest.approx(np.mean(per_iou))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_maps_are_quantised_as_numpy_does(dtype):
    maps = torch.randn(3, 7, 7, dtype=dtype)
    wide = maps.double().numpy()
    shifted = wide - wide.min(axis=(1, 2), keepdims=True)
    scaled = shifted / shifted.max(axis=(1, 2), keepdims=True)
    np.testing.assert_array_equal(wsol.quantize(maps).numpy(), (scaled * 255).astype(np.uint8))


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_one_threshold_per_sample_is_never_worse(seed):
    generator = np.random.default_rng(seed)
    ious = torch.from_numpy(generator.random((generator.integers(1, 6), 7)))
    dataset = metrics.max_box_acc(ious, (0.3, 0.6), "dataset")
    own = metrics.max_box_acc(ious, (0.3, 0.6), "per_sample")
    assert (own >= dataset).all()
    expected = [(ious >= delta).any(1).double().mean().item() for delta in (0.3, 0.6)]
    assert own.tolist() == pytest.approx(expected)


def test_an_iou_that_equals_the_threshold_counts():
    assert metrics.max_box_acc(torch.tensor([[0.5]], dtype=torch.float64)).item() == 1
    assert metrics.max_box_acc(torch.tensor([[0.4999]], dtype=torch.float64)).item() == 0


# -------------------------------------------------------------------------------------- clips


def naive_clip(clip, tubes):
    """IoUs of frames and of the tube at each threshold, frame by frame."""
    shifted = clip.astype(float) - clip.min()
    image = (shifted / shifted.max() * 255).astype(np.uint8)
    _, height, width = image.shape
    frames, tube = [], []
    for tau in np.arange(0, 1, 0.01):
        ious = np.full((len(tubes), len(clip)), np.nan)
        for t, frame in enumerate(image):
            mask = (frame > int(tau * image.max())).astype(np.uint8)
            contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            for number, true in enumerate(tubes):
                present = not np.isnan(true[t]).any()
                if contours and present:
                    x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
                    predicted = (x, y, min(x + w, width - 1), min(y + h, height - 1))
                    ious[number, t] = naive_iou(predicted, true[t].astype(int))
                elif contours or present:
                    ious[number, t] = 0
        tube.append(max(np.nanmean(row) for row in ious))
        annotated = ~np.isnan(tubes).any(axis=2).all(axis=0)
        frames.append(np.nanmax(ious[:, annotated], axis=0))
    return np.array(frames).T, np.array(tube)


def random_clip(generator, tubes):
    clip = generator.random((4, 8, 9)).astype(np.float32)
    clip *= generator.random((4, 1, 1)).astype(np.float32)  # so that some frames have no box
    corners = generator.integers(0, [9, 8], size=(tubes, 4, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2)], axis=2).astype(float)
    absent = generator.random((tubes, 4)) < 0.3
    absent[:, 0] = False
    boxes[absent] = np.nan
    return clip, boxes


@pytest.mark.parametrize("threshold_selection", ["dataset", "per_sample"])
def test_clips_frame_by_frame(threshold_selection):
    generator = np.random.default_rng(5)
    metric = metrics.MaxBoxAcc3D((0.2, 0.4), threshold_selection)
    frame_counts, tube_counts, frames = [], [], 0
    for tubes in (1, 2, 3):
        clip, boxes = random_clip(generator, tubes)
        of_frames, of_tube = naive_clip(clip, boxes)
        ground_truth = torch.from_numpy(boxes)
        result = metrics.clip_ious(torch.from_numpy(clip), ground_truth, TAUS)
        np.testing.assert_allclose(result[0].numpy(), of_frames)
        np.testing.assert_allclose(result[1][0].numpy(), of_tube)
        metric.update(
            torch.from_numpy(clip)[None, None], [ground_truth[0] if tubes == 1 else ground_truth]
        )
        frame_counts.append([(of_frames >= d).sum(axis=0) for d in (0.2, 0.4)])
        tube_counts.append([(of_tube >= d).astype(int) for d in (0.2, 0.4)])
        frames += len(of_frames)
    if threshold_selection == "dataset":
        best = [np.sum(c, axis=0).max(axis=1) for c in (frame_counts, tube_counts)]
    else:
        best = [np.max(c, axis=2).sum(axis=0) for c in (frame_counts, tube_counts)]
    result = metric.compute()
    np.testing.assert_allclose([float(v) for v in result["frame_per_iou"]], best[0] / frames)
    np.testing.assert_allclose([float(v) for v in result["tube_per_iou"]], best[1] / 3)
    assert result["frame_acc"].item() == pytest.approx((best[0] / frames).mean())
    assert result["tube_acc"].item() == pytest.approx((best[1] / 3).mean())
    assert ("per clip" in result["protocol"]) == (threshold_selection == "per_sample")


def test_clips_of_one_frame_are_images():
    maps, boxes = torch.rand(5, 9, 9), [torch.tensor([[1, 2, 6, 7]])] * 5
    image, clip = metrics.MaxBoxAcc((0.3, 0.5)), metrics.MaxBoxAcc3D((0.3, 0.5))
    image.update(maps, boxes)
    clip.update(maps[:, None], boxes)
    assert image.compute()["per_iou"] == clip.compute()["frame_per_iou"]
    assert image.compute()["per_iou"] == clip.compute()["tube_per_iou"]


# --------------------------------------------------------------------------------------- PxAP


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_px_ap_is_scikit_learns_where_scores_are_thresholds(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 101, size=(2, 3, 5))
    scores[:, 0, :2] = [0, 100]  # so that normalising keeps the hundredths
    ground_truth, ignore = generator.random((2, *scores.shape)) < 0.4
    ground_truth[0, 0, 0], ignore[0, 0, 0] = True, False
    # The edges themselves: i / 100 may lie below the edge i * 0.01.
    edges = np.append(np.arange(0, 1, 0.01), 1.0)
    result = metrics.px_ap(*map(torch.from_numpy, (edges[scores], ground_truth, ignore)))
    expected = average_precision_score(ground_truth[~ignore], scores[~ignore])
    assert result.item() == pytest.approx(expected)


def naive_px_ap(maps, masks):
    """The reference's MaskEvaluator: histograms of normalised scores, in float64."""
    edges = np.append(np.arange(0, 1, 0.01), [1.0, 2.0, 3.0])
    inside, outside = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for one, mask in zip(maps.astype(float), masks, strict=True):
        one = (one - one.min()) / (one - one.min()).max()
        inside += np.histogram(one[mask], bins=edges)[0]
        outside += np.histogram(one[~mask], bins=edges)[0]
    true, false = inside[::-1].cumsum(), outside[::-1].cumsum()
    recall, predicted = true / inside.sum(), true + false
    precision = np.divide(true, predicted, out=np.zeros_like(true), where=predicted > 0)
    return (precision[1:] * np.diff(recall))[predicted[1:] > 0].sum()


def test_px_ap_normalises_in_float64_as_the_reference():
    # Scores of few levels lie on thresholds, where rounding in float32 moves them to another bin.
    generator = np.random.default_rng(0)
    for _ in range(50):
        maps = generator.integers(0, 101, size=(2, 6, 6)).astype(np.float32)
        maps[:, 0, :2] = [0, 100]
        masks = generator.random(maps.shape) < 0.5
        masks[0, 2, 2] = True
        result = metrics.px_ap(torch.from_numpy(maps), torch.from_numpy(masks))
        assert result.item() == pytest.approx(naive_px_ap(maps, masks), abs=1e-12)


def test_px_ap_counts_add_up():
    maps, masks = torch.rand(6, 4, 5), torch.rand(6, 4, 5) > 0.5
    metric = metrics.PxAP()
    for part in range(0, 6, 2):
        metric.update(maps[part : part + 2], masks[part : part + 2])
    assert metric.counts.sum() == maps.numel()
    assert metric.compute().item() == pytest.approx(metrics.px_ap(maps, masks).item())
    coarse = metrics.PxAP(interval=0.5)
    coarse.update(maps, masks, ignore=masks.logical_not())
    assert coarse.compute() == 1


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.MaxBoxAcc(threshold_selection="best"), "'best' is not known.*per_sample"),
        (lambda: metrics.MaxBoxAcc(iou_thresholds=(50,)), "not per cent"),
        (lambda: metrics.MaxBoxAcc(iou_thresholds=()), "is empty"),
        (lambda: metrics.MaxBoxAcc(interval=0), r"interval=0 is not in \[1e-06, 1\]"),
        (lambda: metrics.MaxBoxAcc(box_format="xywh"), "box_format='xywh' is not known"),
        (lambda: metrics.MaxBoxAcc(threshold="dataset"), "Unexpected keyword"),
        (lambda: metrics.MaxBoxAcc().update(torch.rand(2, 3, 4, 4), [box(0, 0, 1, 1)] * 2),
         r"2 spatial axes, as the boxes have; received shape \(2, 3, 4, 4\)"),
        (lambda: metrics.MaxBoxAcc().update(torch.rand(2, 4, 4), [box(0, 0, 1, 1)]),
         "list of 2 tensors of ground-truth boxes, one per sample; received 1"),
        (lambda: metrics.MaxBoxAcc().update(torch.rand(1, 4, 4), torch.zeros(1, 4)),
         r"received a tensor, shape \(1, 4\)"),
        (lambda: metrics.MaxBoxAcc().update(torch.rand(1, 4, 4), [torch.zeros(0, 4)]),
         "with at least one box"),
        (lambda: metrics.MaxBoxAcc().update(torch.rand(1, 4, 4), [box(3, 0, 1, 1)]),
         r"above its upper bound: \[3, 0, 1, 1\] as 'xyxy_inclusive'"),
        (lambda: metrics.MaxBoxAcc3D().update(torch.rand(1, 3, 4, 4), [torch.zeros(2, 4)]),
         r"A clip of 3 frames needs.*\(T, 4\).*received shape \(2, 4\)"),
        (lambda: metrics.MaxBoxAcc3D().update(torch.rand(1, 2, 4, 4), [torch.full((2, 4), np.nan)]),
         r"\(absent\) in all frames"),
        (lambda: metrics.MaxBoxAcc3D().update(torch.rand(1, 2, 4, 4), []), "1 clips; received 0"),
        (lambda: metrics.px_ap(torch.rand(1, 2, 2), torch.ones(1, 2, 2)), "masks, bool, of the"),
        (lambda: metrics.px_ap(torch.rand(1, 2, 2), torch.ones(1, 4) > 0), r"received.*\(1, 4\)"),
        (lambda: metrics.px_ap(torch.rand(1, 2, 2), torch.ones(1, 2, 2) > 0, torch.ones(1, 2, 2)),
         r"ignore, bool.*ignore of shape \(1, 2, 2\), torch.float32"),
        (lambda: metrics.px_ap(torch.rand(1, 2, 2), torch.ones(1, 2, 2) > 1), "a pixel inside"),
        (lambda: metrics.px_ap(torch.rand(1, 2, 0), torch.ones(1, 2, 0) > 0), "of the same shape"),
        (lambda: metrics.cam_thresholds(1e-9), r"interval=1e-09 is not in \[1e-06, 1\]"),
        (lambda: metrics.count_correct(torch.rand(3), (0.5,)), r"Expected ious \(N, K\)"),
        (lambda: metrics.max_box_acc(torch.rand(3, 0)), r"Expected ious \(N, K\)"),
        (lambda: metrics.max_box_acc(torch.rand(3, 2), (50,)), "not per cent"),
        (lambda: metrics.scoremap_ious(torch.rand(1, 4, 4), [box(0, 0, 1, 1)], []), "is empty"),
        (lambda: metrics.scoremap_boxes(torch.rand(4, 4), [-0.1], True), r"not in \[0, 1\]"),
        (lambda: metrics.scoremap_boxes(torch.rand(4, 0), [0.5], True), "2 spatial axes"),
        (lambda: metrics.clip_ious(torch.rand(4, 4), torch.zeros(4, 4), [0.5]), "3 spatial axes"),
        (lambda: metrics.protocol_name((0.5,), "best"), "threshold_selection='best' is not known"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("selected", [[0, 0.25, 0.5], (0, 0.25, 0.5), np.array([0, 0.25, 0.5])])
def test_thresholds_may_be_a_list_or_an_array(selected):
    maps, boxes = RAMP[None], [box(5, 0, 9, 3)]
    expected = metrics.scoremap_ious(maps, boxes, torch.tensor([0, 0.25, 0.5]))
    assert metrics.scoremap_ious(maps, boxes, selected).equal(expected)
    assert metrics.scoremap_ious(maps > 0.5, boxes, selected)[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.cam_thresholds("0.1"), "interval='0.1': expected a number"),
        (lambda: metrics.MaxBoxAcc(multi_contour="no"), "multi_contour='no': expected True or"),
        (lambda: metrics.MaxBoxAcc().update(None, []), "Expected maps as a tensor; got NoneType"),
        (lambda: metrics.MaxBoxAcc3D().update(torch.rand(1, 2, 4, 4), None), "boxes=None: expec"),
        (lambda: metrics.scoremap_boxes([[1.0]], [0.5], True), "Expected scoremap as a tensor"),
        (lambda: metrics.scoremap_boxes(RAMP, [0.5], "yes"), "multi_contour='yes': expected True"),
        (lambda: metrics.scoremap_ious(RAMP[None], [[0, 0, 1, 1]], [0.5]), r"boxes\[0\] as a tens"),
        (lambda: metrics.clip_ious(torch.rand(1, 4, 4), None, [0.5]), "Expected boxes as a tensor"),
        (lambda: metrics.px_ap(torch.rand(1, 2, 2), None), "Expected masks as a tensor; got None"),
        (lambda: metrics.max_box_acc(None), "Expected ious as a tensor; got NoneType"),
        (lambda: metrics.max_box_acc(torch.rand(3, 2), "0.5"), "iou_thresholds='0.5': expected a"),
        (lambda: metrics.protocol_name((0.5,), "dataset", clips=1), "clips=1: expected True or F"),
    ],
)  # fmt: skip
def test_arguments_of_another_type_raise(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_one_iou_threshold_is_still_a_sequence():
    with pytest.raises(TypeError, match=r"Write it \(0\.5,\)"):
        metrics.MaxBoxAcc(iou_thresholds=0.5)
