"""Scores of maps chosen by hand, so that every number can be computed by hand."""

import numpy as np
import pytest
import torch
from evaluation_samples import NAN_BOX, FirstChannel, random_samples, sample
from sklearn.metrics import average_precision_score

from captum_3dcam.evaluation import BASELINES, IOU_THRESHOLDS, MAX_BOX_ACC_IOUS, evaluate
from captum_3dcam.metrics import cam_thresholds, scoremap_ious


def test_a_clip_by_hand():
    """The reference's box of [2:6, 2:6] is a pixel larger, 5x5: its IoU with 4x4 is .64."""
    clip = torch.zeros(2, 8, 8)
    clip[0, 2:6, 2:6], clip[1, 2:6, 2:6] = 1, 0.5
    result = evaluate({"map": FirstChannel()}, [sample(clip, [[2, 2, 6, 6]] * 2)])
    scores = result.scores["map"]
    assert (scores.energy, scores.hit, scores.hit_intersect) == (1, 1, 1)
    # The second frame is there below half of the clip's maximum, not of its own.
    reached = np.where(np.arange(100) < 50, 1.0, 0.5)
    for position, delta in enumerate(IOU_THRESHOLDS):
        expected = reached if delta <= 0.64 else np.zeros(100)
        np.testing.assert_array_equal(scores.accuracy[0, position], expected)
    np.testing.assert_allclose(scores.tube_iou[0], 0.64 * reached)
    summary = result.summary["map"]
    assert summary["box_acc@0.6"].value == 1
    assert summary["max_box_acc"].value == pytest.approx(2 / 3)
    assert summary["tube_iou"].value == pytest.approx(0.64)


def test_images_score_as_in_the_reference_protocol_for_both_selections():
    """The published scheme's worked case: one map, two boxes, no threshold that suits both."""
    ramp = torch.arange(10).expand(4, 10) / 9
    images = [sample(ramp, [[5, 0, 10, 4]]), sample(ramp, [[9, 0, 10, 4]])]
    summary = evaluate({"ramp": FirstChannel()}, images).summary["ramp"]
    for delta, dataset in zip(MAX_BOX_ACC_IOUS, (1, 0.5, 0.5), strict=True):
        assert summary[f"box_acc@{delta}"].value == dataset
        assert summary[f"box_acc@{delta}_per_sample"].value == 1
    assert summary["max_box_acc"].value == pytest.approx(2 / 3)
    assert summary["max_box_acc_per_sample"].value == 1
    ious = scoremap_ious(
        ramp[None], [torch.tensor([[5, 0, 10, 4]])], cam_thresholds(), False, "xyxy"
    )
    tubes = evaluate({"ramp": FirstChannel()}, images[:1]).scores["ramp"].tube_iou
    np.testing.assert_array_equal(tubes, ious.numpy())


def test_a_frame_without_a_box_counts_for_energy_and_hits_but_not_for_accuracy():
    clip = torch.zeros(2, 8, 8)
    clip[0, 2:6, 2:6] = 1
    clip[1, 0, 0] = 3
    result = evaluate({"map": FirstChannel()}, [sample(clip, [[2, 2, 6, 6], NAN_BOX])])
    scores = result.scores["map"]
    assert scores.energy == pytest.approx(16 / 19)
    assert scores.hit == 0  # the highest pixel is in the frame without a box
    assert scores.hit_intersect == 0
    both = evaluate({"map": FirstChannel()}, [sample(clip, [[2, 2, 6, 6], [0, 0, 1, 1]])])
    assert both.scores["map"].hit == 1  # of one pixel, in the frame with less energy
    assert scores.accuracy[0, 0, 0] == 1
    assert scores.tube_iou[0, 0] == pytest.approx(0.64 / 2)
    assert scores.tube_iou[0, 40] == 0


def test_energy_uses_the_mask_if_there_is_one_and_hits_use_the_box():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 0] = True
    heatmap = torch.ones(1, 4, 4)
    heatmap[0, 1, 1] = 2
    result = evaluate({"map": FirstChannel()}, [sample(heatmap, [[0, 0, 2, 2]], mask=mask)])
    assert result.scores["map"].energy == 1 / 17
    assert result.scores["map"].hit == 1
    assert result.scores["whole frame"].energy == 1 / 16
    assert result.scores["whole frame"].hit == 4 / 16


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3])
def test_the_hit_of_chance_is_the_mean_over_all_points(tolerance):
    boxes = [[1, 1, 3, 2], NAN_BOX, [2.6, 0, 4, 3.4]]
    points = torch.eye(3 * 4 * 5).reshape(-1, 3, 4, 5)
    samples = [sample(point, boxes) for point in points]
    result = evaluate({"point": FirstChannel()}, samples, tolerance=tolerance)
    hits = result.scores["point"].hit
    assert 0 < hits.mean() < 1
    assert result.scores["chance"].hit[0] == pytest.approx(hits.mean())
    assert not hits[20:40].any()  # the tolerance is within a frame, not over time


def test_an_empty_map_scores_zero_and_ranks_by_chance():
    result = evaluate({"none": FirstChannel()}, [sample(torch.zeros(2, 4, 4), [[0, 0, 4, 2]] * 2)])
    scores = result.scores["none"]
    assert scores.ap == 0.5
    assert not any(np.any(each) for each in scores._replace(ap=np.zeros(1)))


def test_average_precision_ranks_the_pixels_of_mask_or_boxes():
    rng = np.random.default_rng(0)
    clips = [sample(rng.random((2, 6, 8)) ** 3, [[1, 1, 5, 4], NAN_BOX]) for _ in range(3)]
    mask = torch.from_numpy(rng.random((2, 6, 8)) < 0.4)
    for clip, inside in [(clip, None) for clip in clips] + [(clips[0]._replace(mask=mask), mask)]:
        if inside is None:
            inside = torch.zeros(2, 6, 8, dtype=torch.bool)
            inside[0, 1:4, 1:5] = True
        result = evaluate({"map": FirstChannel()}, [clip])
        expected = average_precision_score(inside.flatten(), clip.inputs.flatten())
        assert result.summary["map"]["ap"].value == pytest.approx(expected)
        centre = np.zeros((2, 6, 8))
        centre[:, 1:4, 2:6] = 1  # the pixels with their centre in (2, 1.5, 6, 4.5)
        expected = average_precision_score(inside.flatten(), centre.flatten())
        assert result.summary["centre box"]["ap"].value == pytest.approx(expected)
        for row in ("chance", "whole frame"):
            assert result.summary[row]["ap"].value == pytest.approx(inside.double().mean().item())


def test_of_several_objects_the_best_counts():
    """Each frame, and the tube, by its best box; energy and hits in any of them."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        heatmap = rng.random((3, 8, 8)) ** 3
        corners = np.sort([[rng.permutation(9)[:2] for _ in range(2)] for _ in range(2)], axis=-1)
        tubes = np.tile(corners.transpose(0, 2, 1).reshape(2, 1, 4), (1, 3, 1)).astype(float)
        tubes[0, 2], tubes[1, 0] = np.nan, np.nan  # each is absent once, but never both
        both = evaluate({"map": FirstChannel()}, [sample(heatmap, tubes)])
        singly = [evaluate({"map": FirstChannel()}, [sample(heatmap, tube)]) for tube in tubes]
        union = np.zeros((3, 8, 8), dtype=bool)
        for tube in tubes:
            for frame, box in enumerate(tube):
                if not np.isnan(box).any():
                    x0, y0, x1, y1 = box.astype(int)
                    union[frame, y0:y1, x0:x1] = True
        for row in ("map", "whole frame", "centre box"):
            result, alone = both.scores[row], [each.scores[row] for each in singly]
            assert result.hit_intersect == max(each.hit_intersect for each in alone)
            np.testing.assert_allclose(
                result.tube_iou, np.maximum(alone[0].tube_iou, alone[1].tube_iou)
            )
            # A tube alone is scored over its own two frames; frames 0, 1 and 2 over all three.
            first, second = (each.accuracy * 2 for each in alone)
            assert (result.accuracy * 3 <= first + second + 1e-6).all()
            assert (result.accuracy * 3 >= np.maximum(first, second) - 1e-6).all()
        expected = heatmap[union].sum() / heatmap.sum()
        np.testing.assert_allclose(both.scores["map"].energy, expected)
        np.testing.assert_allclose(both.scores["whole frame"].energy, union.mean())
        frame = heatmap.reshape(3, -1).max(axis=1).argmax()
        position = np.unravel_index(heatmap[frame].argmax(), (8, 8))
        assert both.scores["map"].hit == union[frame][position]


def test_one_object_may_be_given_as_several():
    heatmap, boxes = np.random.default_rng(0).random((2, 8, 8)), [[2, 2, 6, 6], NAN_BOX]
    one, several = (
        evaluate({"map": FirstChannel()}, [sample(heatmap, b)]) for b in (boxes, [boxes])
    )
    absent = evaluate({"map": FirstChannel()}, [sample(heatmap, [boxes, [NAN_BOX] * 2])])
    for row in one.scores:
        for a, b, c in zip(one.scores[row], several.scores[row], absent.scores[row], strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def test_with_several_objects_the_tolerance_is_to_the_nearest():
    heatmap = torch.zeros(1, 8, 8)
    heatmap[0, 0, 5] = 1  # between the boxes: 2 pixels from the first, 1 from the second
    boxes = [[[0, 0, 4, 8]], [[6, 0, 8, 8]]]
    for tolerance, hit in ((0.5, 0), (1.5, 1)):
        result = evaluate({"map": FirstChannel()}, [sample(heatmap, boxes)], tolerance=tolerance)
        assert result.scores["map"].hit == hit
        near = (4 + 2 + 2 * hit) / 8  # columns
        assert result.scores["whole frame"].hit == near


def test_attributions_get_the_class_of_the_sample():
    attribution = FirstChannel()
    evaluate({"map": attribution}, random_samples(3))
    assert attribution.targets == [0, 1, 2]


def test_the_baselines_by_hand():
    result = evaluate({}, [sample(torch.zeros(2, 8, 8), [[0, 0, 4, 4], NAN_BOX])])
    assert tuple(result.scores) == BASELINES
    chance, whole, centre = (result.summary[name] for name in BASELINES)
    assert whole["energy"].value == whole["hit"].value == 16 / 128
    assert whole["hit_intersect"].value == 1
    # IoU 16/64 in the one annotated frame; as a tube, half of that.
    assert (whole["box_acc@0.2"].value, whole["box_acc@0.3"].value) == (1, 0)
    assert whole["tube_iou"].value == 0.125
    # (2, 2, 6, 6) shares 4 pixels with the ground truth; their union has 28.
    assert centre["energy"].value == centre["hit"].value == 4 / 32
    assert centre["hit_intersect"].value == 1
    assert (centre["box_acc@0.1"].value, centre["box_acc@0.2"].value) == (1, 0)
    assert centre["tube_iou"].value == pytest.approx(4 / 28 / 2)
    assert chance["energy"].value == chance["hit"].value == 16 / 128
    assert 0 < chance["box_acc@0.3"].value < chance["box_acc@0.05"].value < 1


def test_chance_is_the_mean_of_random_boxes_of_the_samples_index():
    clips = [sample(torch.zeros(1, 6, 8), [[1, 1, 5, 4]]) for _ in range(2)]
    scores = evaluate({}, clips).scores["chance"]
    for index in range(2):
        ious = []
        for box in np.random.default_rng(index).random((100, 2, 2)):
            (x0, y0), (x1, y1) = box.min(axis=0) * [8, 6], box.max(axis=0) * [8, 6]
            common = max(0, min(x1, 5) - max(x0, 1)) * max(0, min(y1, 4) - max(y0, 1))
            ious.append(common / ((x1 - x0) * (y1 - y0) + 12 - common))
        assert scores.tube_iou[index, 0] == pytest.approx(np.mean(ious))
        expected = [np.mean(np.array(ious) >= delta) for delta in IOU_THRESHOLDS]
        np.testing.assert_allclose(scores.accuracy[index, :, 0], expected)
        assert scores.hit_intersect[index] == pytest.approx(np.mean(np.array(ious) > 0))
    assert scores.tube_iou[0, 0] != scores.tube_iou[1, 0]


def test_a_random_point_is_anywhere_in_the_frame():
    """Also where hardly any random box reaches."""
    corner = [sample(torch.zeros(1, 64, 64), [[0, 0, 1, 1]])]
    summary = evaluate({}, corner).summary["chance"]
    assert summary["energy"].value == summary["hit"].value == 1 / 64**2


class Returns:
    def __init__(self, heatmap):
        self.heatmap = heatmap

    def attribute(self, inputs, target=None):
        return self.heatmap


@pytest.mark.parametrize(
    "heatmap, message",
    [
        (
            torch.zeros(1, 2, 3, 8, 8),
            r"'map' returned shape \(1, 2, 3, 8, 8\).*one map \(1, 1, 3, 8, 8\)",
        ),
        (torch.zeros(1, 1, 3, 4, 4), r"resize a layer's map to the inputs"),
        ((torch.zeros(1), torch.zeros(1)), r"'map' returned tuple"),
    ],
)
def test_invalid_maps(heatmap, message):
    with pytest.raises(ValueError, match=message):
        evaluate({"map": Returns(heatmap)}, random_samples(1))
