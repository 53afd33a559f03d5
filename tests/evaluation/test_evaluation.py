"""Evaluations of maps chosen by hand, so that every number can be worked out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import conv_net
from torch import nn

from captum_3dcam import LayerwiseGradCAM, LayerwiseHiResCAM, LayerwiseLayerCAM
from captum_3dcam.datasets import LocalizedImage, SyntheticActions
from captum_3dcam.evaluation import (
    BASELINES,
    IOU_THRESHOLDS,
    MAX_BOX_ACC,
    Interval,
    Sample,
    evaluate,
    evenly,
    grid,
    prepared_sample,
)
from captum_3dcam.metrics import cam_thresholds, scoremap_ious
from captum_3dcam.models import Preprocessing

STUDIES = Path(__file__).parents[2] / "studies"
NAN_BOX = [float("nan")] * 4


class Chosen:
    """The map of a sample is its first channel: whatever was put there."""

    def __init__(self):
        self.asked = []

    def attribute(self, inputs, target=None):
        assert len(inputs) == 1
        self.asked.append(target)
        return inputs[:, :1]


class Reversed(Chosen):
    def attribute(self, inputs, target=None):
        return -super().attribute(inputs, target)


class Interrupted(Chosen):
    """The run is stopped at one sample."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def attribute(self, inputs, target=None):
        if target == self.at:
            raise KeyboardInterrupt
        return super().attribute(inputs, target)


def sample(heat, boxes, target=0, mask=None):
    return Sample(torch.as_tensor(heat)[None].float(), target, torch.tensor(boxes).float(), mask)


def random_samples(count, size=(3, 8, 8), seed=0):
    """Blobs of any form, and boxes of any size."""
    rng = np.random.default_rng(seed)
    found = []
    for target in range(count):
        corners = np.sort([rng.permutation(9)[:2] for _ in range(2)], axis=1)
        boxes = np.tile(corners.T.reshape(-1), (int(np.prod(size[:-2])), 1))
        found.append(sample(rng.random(size) ** 3, boxes, target))
    return found


def naive_means(scores, chosen):
    """Every score over the samples of one draw, with loops."""
    deltas = dict(zip(IOU_THRESHOLDS, range(len(IOU_THRESHOLDS)), strict=True))
    steps = range(scores.tube_iou.shape[1])
    average = lambda values: sum(values) / len(chosen)  # noqa: E731
    found = {}
    for name in ("energy", "hit", "hit_intersect"):
        found[name] = average([getattr(scores, name)[i] for i in chosen])
    for delta, d in deltas.items():
        table = scores.accuracy[:, d]
        found[f"box_acc@{delta}"] = max(average([table[i, k] for i in chosen]) for k in steps)
        found[f"box_acc@{delta}_per_sample"] = average([max(table[i]) for i in chosen])
    for suffix in ("", "_per_sample"):
        parts = [found[f"box_acc@{delta}{suffix}"] for delta in MAX_BOX_ACC]
        found[f"max_box_acc{suffix}"] = sum(parts) / 3
    tubes = scores.tube_iou
    found["tube_iou"] = max(average([tubes[i, k] for i in chosen]) for k in steps)
    found["tube_iou_per_sample"] = average([max(tubes[i]) for i in chosen])
    return found


# ------------------------------------------------------------------------- samples of datasets

PREPARE = Preprocessing(2.0, (1.0, 1.0, 1.0), (12, 16))


@pytest.mark.parametrize("actors", [1, 2])
def test_a_clip_is_prepared_with_its_boxes_and_masks(actors):
    clip = SyntheticActions(1, frames=8, size=48, actors=actors)[0]
    found = prepared_sample(clip, PREPARE, 5)
    assert torch.equal(found.inputs, PREPARE(clip.clip))
    assert found.target == 5
    scale = torch.tensor([16 / 48, 12 / 48] * 2)
    torch.testing.assert_close(found.boxes, clip.boxes * scale)
    # The pixel whose centre is nearest, of all actors together.
    rows, columns = ((np.arange(n) + 0.5) * 48 / n for n in (12, 16))
    expected = clip.masks.any(dim=0)[:, rows.astype(int)][:, :, columns.astype(int)]
    assert torch.equal(found.mask, expected)
    evaluate({"map": Chosen()}, [found])


def test_a_mask_that_a_boxed_frame_lacks_is_not_used():
    clip = SyntheticActions(1, frames=8, size=48)[0]
    masks, boxes = clip.masks.clone(), clip.boxes.clone()
    masks[0, 3] = False
    assert prepared_sample(clip._replace(masks=masks), PREPARE, 0).mask is None
    boxes[0, 3] = torch.nan  # the frame has no box either
    assert prepared_sample(clip._replace(masks=masks, boxes=boxes), PREPARE, 0).mask is not None


def test_a_picture_is_prepared_as_one_frame():
    boxes = torch.tensor([[0.0, 0.0, 24.0, 48.0], [12.0, 12.0, 24.0, 24.0]])
    picture = LocalizedImage(torch.rand(3, 48, 48), 7, boxes, "a")
    found = prepared_sample(picture, PREPARE, 7)
    assert found.inputs.shape == (3, 12, 16)
    assert found.boxes.tolist() == [[[0, 0, 8, 12]], [[4, 3, 8, 6]]]
    assert found.mask is None
    evaluate({"map": Chosen()}, [found])


def test_a_limit_spreads_over_the_whole():
    assert evenly(100, 4) == [0, 25, 50, 75]
    assert evenly(3, None) == evenly(3, 3) == evenly(3, 9) == [0, 1, 2]


# ------------------------------------------------------------------------------ worked numbers


def test_a_clip_worked_by_hand():
    """The reference's box of [2:6, 2:6] is a pixel larger, 5x5: its IoU with 4x4 is .64."""
    clip = torch.zeros(2, 8, 8)
    clip[0, 2:6, 2:6], clip[1, 2:6, 2:6] = 1, 0.5
    found = evaluate({"map": Chosen()}, [sample(clip, [[2, 2, 6, 6]] * 2)])
    scores = found.scores["map"]
    assert (scores.energy, scores.hit, scores.hit_intersect) == (1, 1, 1)
    # The second frame is there below half of the clip's maximum, not of its own.
    reached = np.where(np.arange(100) < 50, 1.0, 0.5)
    for position, delta in enumerate(IOU_THRESHOLDS):
        expected = reached if delta <= 0.64 else np.zeros(100)
        np.testing.assert_array_equal(scores.accuracy[0, position], expected)
    np.testing.assert_allclose(scores.tube_iou[0], 0.64 * reached)
    summary = found.summary["map"]
    assert summary["box_acc@0.6"].value == 1
    assert summary["max_box_acc"].value == pytest.approx(2 / 3)
    assert summary["tube_iou"].value == pytest.approx(0.64)


def test_images_have_the_reference_protocols_scores_under_both_selections():
    """The published scheme's worked case: one map, two truths, no threshold that serves both."""
    ramp = torch.arange(10).expand(4, 10) / 9
    images = [sample(ramp, [[5, 0, 10, 4]]), sample(ramp, [[9, 0, 10, 4]])]
    summary = evaluate({"ramp": Chosen()}, images).summary["ramp"]
    for delta, dataset in zip(MAX_BOX_ACC, (1, 0.5, 0.5), strict=True):
        assert summary[f"box_acc@{delta}"].value == dataset
        assert summary[f"box_acc@{delta}_per_sample"].value == 1
    assert summary["max_box_acc"].value == pytest.approx(2 / 3)
    assert summary["max_box_acc_per_sample"].value == 1
    ious = scoremap_ious(
        ramp[None], [torch.tensor([[5, 0, 10, 4]])], cam_thresholds(), False, "xyxy"
    )
    tubes = evaluate({"ramp": Chosen()}, images[:1]).scores["ramp"].tube_iou
    np.testing.assert_array_equal(tubes, ious.numpy())


def test_a_frame_without_a_box_does_not_count_as_a_frame_but_as_a_place():
    clip = torch.zeros(2, 8, 8)
    clip[0, 2:6, 2:6] = 1
    clip[1, 0, 0] = 3
    found = evaluate({"map": Chosen()}, [sample(clip, [[2, 2, 6, 6], NAN_BOX])])
    scores = found.scores["map"]
    assert scores.energy == pytest.approx(16 / 19)
    assert scores.hit == 0  # the highest pixel is where there is nobody
    assert scores.hit_intersect == 0
    both = evaluate({"map": Chosen()}, [sample(clip, [[2, 2, 6, 6], [0, 0, 1, 1]])])
    assert both.scores["map"].hit == 1  # of one pixel, in the frame that is darker as a whole
    assert scores.accuracy[0, 0, 0] == 1
    assert scores.tube_iou[0, 0] == pytest.approx(0.64 / 2)
    assert scores.tube_iou[0, 40] == 0


def test_energy_is_the_masks_where_there_is_one_and_hits_are_the_boxs():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 0] = True
    heat = torch.ones(1, 4, 4)
    heat[0, 1, 1] = 2
    found = evaluate({"map": Chosen()}, [sample(heat, [[0, 0, 2, 2]], mask=mask)])
    assert found.scores["map"].energy == 1 / 17
    assert found.scores["map"].hit == 1
    assert found.scores["whole frame"].energy == 1 / 16
    assert found.scores["whole frame"].hit == 4 / 16


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3])
def test_a_uniform_points_chance_of_a_hit_is_the_mean_over_all_points(tolerance):
    boxes = [[1, 1, 3, 2], NAN_BOX, [2.6, 0, 4, 3.4]]
    points = torch.eye(3 * 4 * 5).reshape(-1, 3, 4, 5)
    samples = [sample(point, boxes) for point in points]
    found = evaluate({"point": Chosen()}, samples, tolerance=tolerance)
    hits = found.scores["point"].hit
    assert 0 < hits.mean() < 1
    assert found.scores["chance"].hit[0] == pytest.approx(hits.mean())
    assert not hits[20:40].any()  # the tolerance is within a frame, not over time


def test_a_map_of_nothing_scores_nothing():
    found = evaluate({"none": Chosen()}, [sample(torch.zeros(2, 4, 4), [[0, 0, 4, 4]] * 2)])
    assert not any(np.any(each) for each in found.scores["none"])


def test_of_several_places_the_best_counts():
    """Each frame, and the tube, by its best box; energy and hits in any of them."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        heat = rng.random((3, 8, 8)) ** 3
        corners = np.sort([[rng.permutation(9)[:2] for _ in range(2)] for _ in range(2)], axis=-1)
        tubes = np.tile(corners.transpose(0, 2, 1).reshape(2, 1, 4), (1, 3, 1)).astype(float)
        tubes[0, 2], tubes[1, 0] = np.nan, np.nan  # each is absent once, but never both
        both = evaluate({"map": Chosen()}, [sample(heat, tubes)])
        singly = [evaluate({"map": Chosen()}, [sample(heat, tube)]) for tube in tubes]
        union = np.zeros((3, 8, 8), dtype=bool)
        for tube in tubes:
            for frame, box in enumerate(tube):
                if not np.isnan(box).any():
                    x0, y0, x1, y1 = box.astype(int)
                    union[frame, y0:y1, x0:x1] = True
        for row in ("map", "whole frame", "centre box"):
            found, alone = both.scores[row], [each.scores[row] for each in singly]
            assert found.hit_intersect == max(each.hit_intersect for each in alone)
            np.testing.assert_allclose(
                found.tube_iou, np.maximum(alone[0].tube_iou, alone[1].tube_iou)
            )
            # A tube alone is scored over its own two frames; frames 0, 1 and 2 over all three.
            first, second = (each.accuracy * 2 for each in alone)
            assert (found.accuracy * 3 <= first + second + 1e-6).all()
            assert (found.accuracy * 3 >= np.maximum(first, second) - 1e-6).all()
        expected = heat[union].sum() / heat.sum()
        np.testing.assert_allclose(both.scores["map"].energy, expected)
        np.testing.assert_allclose(both.scores["whole frame"].energy, union.mean())
        frame = heat.reshape(3, -1).max(axis=1).argmax()
        place = np.unravel_index(heat[frame].argmax(), (8, 8))
        assert both.scores["map"].hit == union[frame][place]


def test_one_place_may_be_given_as_several():
    heat, boxes = np.random.default_rng(0).random((2, 8, 8)), [[2, 2, 6, 6], NAN_BOX]
    one, several = (evaluate({"map": Chosen()}, [sample(heat, b)]) for b in (boxes, [boxes]))
    absent = evaluate({"map": Chosen()}, [sample(heat, [boxes, [NAN_BOX] * 2])])
    for row in one.scores:
        for a, b, c in zip(one.scores[row], several.scores[row], absent.scores[row], strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def test_with_several_places_the_tolerance_is_to_the_nearest():
    heat = torch.zeros(1, 8, 8)
    heat[0, 0, 5] = 1  # between the boxes: 2 pixels from the first, 1 from the second
    boxes = [[[0, 0, 4, 8]], [[6, 0, 8, 8]]]
    for tolerance, hit in ((0.5, 0), (1.5, 1)):
        found = evaluate({"map": Chosen()}, [sample(heat, boxes)], tolerance=tolerance)
        assert found.scores["map"].hit == hit
        near = (4 + 2 + 2 * hit) / 8  # columns
        assert found.scores["whole frame"].hit == near


def test_every_attribution_is_asked_about_the_samples_class():
    chosen = Chosen()
    evaluate({"map": chosen}, random_samples(3))
    assert chosen.asked == [0, 1, 2]


# ----------------------------------------------------------------------------------- baselines


def test_the_boxes_that_look_at_nothing_worked_by_hand():
    found = evaluate({}, [sample(torch.zeros(2, 8, 8), [[0, 0, 4, 4], NAN_BOX])])
    assert tuple(found.scores) == BASELINES
    chance, whole, centre = (found.summary[name] for name in BASELINES)
    assert whole["energy"].value == whole["hit"].value == 16 / 128
    assert whole["hit_intersect"].value == 1
    # IoU 16/64 in the one annotated frame; as a tube, half of that.
    assert (whole["box_acc@0.2"].value, whole["box_acc@0.3"].value) == (1, 0)
    assert whole["tube_iou"].value == 0.125
    # (2, 2, 6, 6) shares 4 pixels with the truth, of 28 that are in either.
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


def test_a_random_place_is_anywhere_in_the_frame():
    """Also where hardly a random box reaches."""
    corner = [sample(torch.zeros(1, 64, 64), [[0, 0, 1, 1]])]
    summary = evaluate({}, corner).summary["chance"]
    assert summary["energy"].value == summary["hit"].value == 1 / 64**2


# ----------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("group_size", [1, 2])
def test_intervals_are_those_of_a_loop_over_draws(group_size):
    found = evaluate(
        {"map": Chosen(), "reversed": Reversed()},
        random_samples(6),
        resamples=40,
        confidence=0.8,
        seed=5,
        group_size=group_size,
    )
    groups = np.arange(6).reshape(-1, group_size)
    drawn = np.random.default_rng(5).integers(len(groups), size=(40, len(groups)))
    for row, scores in found.scores.items():
        value = naive_means(scores, range(6))
        draws = [naive_means(scores, groups[draw].reshape(-1)) for draw in drawn]
        assert found.summary[row].keys() == value.keys()
        for name, interval in found.summary[row].items():
            ends = np.percentile([draw[name] for draw in draws], [10, 90])
            assert interval == pytest.approx((value[name], *ends)), (row, name)
    spread = found.summary["map"]["max_box_acc"]
    assert spread.low < spread.value < spread.high


def test_samples_alike_leave_no_doubt():
    """All samples score the same, whatever is drawn."""
    clips = random_samples(1) * 5
    for name, interval in evaluate({"map": Chosen()}, clips).summary["map"].items():
        assert interval.low == pytest.approx(interval.high), name


def test_a_wider_confidence_gives_a_wider_interval_and_another_seed_another():
    samples = random_samples(8)
    found = [
        evaluate({"map": Chosen()}, samples, **options).summary["map"]["energy"]
        for options in ({"confidence": 0.5}, {}, {"seed": 1})
    ]
    assert found[1].low < found[0].low < found[0].high < found[1].high
    assert found[1] != found[2]
    assert found[1].value == found[2].value


# ---------------------------------------------------------------------------------- the result


def test_the_table_and_the_file(tmp_path):
    found = evaluate({"a|b": Chosen()}, random_samples(2))
    lines = found.table(["hit", "box_acc@0.5"]).splitlines()
    assert lines[:2] == ["| | hit | box_acc@0.5 |", "|---|---|---|"]
    summary = found.summary["a|b"]
    assert lines[2] == f"| a\\|b | {summary['hit']} | {summary['box_acc@0.5']} |"
    assert len(lines) == 2 + 1 + len(BASELINES)
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
    found.save(tmp_path / "new" / "found.json")
    saved = json.loads((tmp_path / "new" / "found.json").read_text(encoding="utf-8"))
    assert saved["rows"]["a|b"]["hit"] == summary["hit"]._asdict()
    assert "one threshold for the dataset" in saved["protocols"]["max_box_acc"]
    assert "one threshold per clip" in saved["protocols"]["max_box_acc_per_sample"]
    with pytest.raises(ValueError, match=r"no column 'hits'. Choose from 'energy', 'hit'"):
        found.table(["hits"])


def test_a_grid_of_real_methods_scores_images_clips_and_volumes():
    for rank, size in ((2, (8, 8)), (3, (3, 8, 8))):
        net = conv_net(rank)
        methods = {"HiResCAM": LayerwiseHiResCAM, "GradCAM": LayerwiseGradCAM}
        rows = grid(net, methods, {"first": ["0"], "both": ["0", "1"]})
        assert list(rows) == [
            "HiResCAM: first",
            "GradCAM: first",
            "HiResCAM: both",
            "GradCAM: both",
        ]
        frames = int(np.prod(size[:-2]))
        inputs = torch.randn(2, *size)
        found = evaluate(rows, [Sample(inputs, 1, torch.tensor([[1, 1, 6, 6]] * frames))])
        heat = rows["GradCAM: both"].attribute(inputs[None], target=1)[0, 0]
        inside = heat[..., 1:6, 1:6].sum() / heat.sum()
        assert found.scores["GradCAM: both"].energy == pytest.approx(inside.item())


# --------------------------------------------------------------------------- stop and go on


def test_a_stopped_run_goes_on_with_the_same_result(tmp_path):
    samples = random_samples(5)
    whole = evaluate({"map": Chosen()}, samples)
    with pytest.raises(KeyboardInterrupt):
        evaluate({"map": Interrupted(at=3)}, samples, checkpoint=tmp_path)
    lines = (tmp_path / "process-0.jsonl").read_text().splitlines()
    assert [json.loads(line)["sample"] for line in lines] == [0, 1, 2]
    run = json.loads((tmp_path / "run.json").read_text())
    run["attributions"]["map"]["class"] = "Chosen"  # the one that stops is the same otherwise
    (tmp_path / "run.json").write_text(json.dumps(run))
    again = Chosen()
    resumed = evaluate({"map": again}, samples, checkpoint=tmp_path)
    assert again.asked == [3, 4]
    assert resumed.to_json() == whole.to_json()
    for row, scores in whole.scores.items():
        for ours, theirs in zip(scores, resumed.scores[row], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_finished_sample_is_on_the_disk_while_the_next_is_done(tmp_path):
    class Looks(Chosen):
        def attribute(self, inputs, target=None):
            kept = (tmp_path / "process-0.jsonl").read_text().splitlines()
            assert [json.loads(line)["sample"] for line in kept] == self.asked
            return super().attribute(inputs, target)

    evaluate({"map": Looks()}, random_samples(3), checkpoint=tmp_path)


@pytest.mark.parametrize("torn", [1, 40, -1])
def test_a_line_cut_off_is_done_again(tmp_path, torn):
    samples = random_samples(3)
    whole = evaluate({"map": Chosen()}, samples, checkpoint=tmp_path).to_json()
    path = tmp_path / "process-0.jsonl"
    *kept, last = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*kept, last[:torn]]))
    for expected in ([2], []):
        again = Chosen()
        assert evaluate({"map": again}, samples, checkpoint=tmp_path).to_json() == whole
        assert again.asked == expected
    assert len(path.read_bytes().splitlines()) == 3


def test_what_several_processes_did_is_gone_on_with_by_one(tmp_path):
    samples = random_samples(3)
    whole = evaluate({"map": Chosen()}, samples, checkpoint=tmp_path).to_json()
    path = tmp_path / "process-0.jsonl"
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(third)
    (tmp_path / "process-1.jsonl").write_text(second + first[:100])
    again = Chosen()
    assert evaluate({"map": again}, samples, checkpoint=tmp_path).to_json() == whole
    assert again.asked == [0]
    assert (tmp_path / "process-1.jsonl").read_text() == second + first[:100]


def test_a_line_that_is_broken_is_named(tmp_path):
    evaluate({"map": Chosen()}, random_samples(2), checkpoint=tmp_path)
    path = tmp_path / "process-0.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first[:50]}\n{second}\n")
    with pytest.raises(ValueError, match=r"Line 1 of .*process-0.jsonl' is not JSON.* Delete"):
        evaluate({"map": Chosen()}, random_samples(2), checkpoint=tmp_path)


def layers_of(net, layers="0", method=LayerwiseHiResCAM, name="map", **options):
    return {name: method(net, layers, **options)}


NET = conv_net(3)


@pytest.mark.parametrize(
    "rows, options, difference",
    [
        (layers_of(NET), {"tolerance": 5}, r"tolerance: 0.0 there, 5.0 here"),
        (layers_of(NET), {"count": 3}, r"samples: 2 there, 3 here"),
        (layers_of(NET), {"seed": 1}, r"first sample: '\w+' there, '\w+' here"),
        (
            layers_of(NET, name="other"),
            {},
            r"attributions, 'map': one there, none here; .* 'other': none there, one here",
        ),
        (layers_of(NET, "1"), {}, r"'map', 'layers': \['0'\] there, \['1'\] here"),
        (layers_of(NET, fusion="max"), {}, r"'map', 'fusion': 'sum' there, 'max' here"),
        (layers_of(NET, method=LayerwiseLayerCAM), {}, r"'class': 'LayerwiseHiResCAM' there"),
        (layers_of(conv_net(3, seed=1)), {}, r"'models': \['\w+'\] there, \['\w+'\] here"),
    ],
)
def test_another_runs_checkpoint_is_refused(tmp_path, rows, options, difference):
    def run(rows, count=2, seed=0, **options):
        samples = random_samples(count, seed=seed)
        clips = [s._replace(inputs=s.inputs.repeat(2, 1, 1, 1), target=0) for s in samples]
        return evaluate(rows, clips, checkpoint=tmp_path, resamples=10, **options)

    run(layers_of(NET))
    run(layers_of(conv_net(3)))  # another object, the same weights
    before = (tmp_path / "process-0.jsonl").read_bytes()
    with pytest.raises(ValueError, match=rf"of another run\. .*{difference}.*Pass another folder"):
        run(rows, **options)
    assert (tmp_path / "process-0.jsonl").read_bytes() == before


# ------------------------------------------------------------------------------------- errors


class Gives:
    def __init__(self, heat):
        self.heat = heat

    def attribute(self, inputs, target=None):
        return self.heat


@pytest.mark.parametrize(
    "change, message",
    [
        ({"inputs": torch.zeros(3, 8)}, r"inputs of shape \(3, 8\); expected \(C, H, W\)"),
        ({"boxes": torch.zeros(2, 4)}, r"boxes of shape \(2, 4\).* have 3 frames, so \(3, 4\)"),
        ({"boxes": torch.full((3, 4), torch.nan)}, r"Sample 1 has a box in none of its frames"),
        ({"mask": torch.zeros(3, 8, 8)}, r"mask \(3, 8, 8\) of torch.float32; expected .*bool"),
        ({"mask": torch.zeros(8, 8) > 0}, r"mask \(8, 8\) of torch.bool; expected \(3, 8, 8\)"),
    ],
)
def test_samples_that_do_not_fit(change, message):
    first, second = random_samples(2)
    with pytest.raises(ValueError, match=message):
        evaluate({}, [first, second._replace(**change)])


@pytest.mark.parametrize(
    "heat, message",
    [
        (torch.zeros(1, 2, 3, 8, 8), r"'map' gave \(1, 2, 3, 8, 8\).*one map \(1, 1, 3, 8, 8\)"),
        (torch.zeros(1, 1, 3, 4, 4), r"bring a layer's map to the inputs' size"),
        ((torch.zeros(1), torch.zeros(1)), r"'map' gave tuple"),
    ],
)
def test_maps_that_do_not_fit(heat, message):
    with pytest.raises(ValueError, match=message):
        evaluate({"map": Gives(heat)}, random_samples(1))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tolerance": -1}, "tolerance=-1 is not a distance"),
        ({"resamples": 0}, "resamples=0 and confidence=0.95: expected at least one draw"),
        ({"confidence": 95}, "a fraction between 0 and 1 such as 0.95"),
        ({"group_size": 2}, "group_size=2 does not divide the 3 samples"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate({}, random_samples(3), **options)


def test_names_and_lists_that_do_not_fit():
    with pytest.raises(ValueError, match="'whole frame' is a baseline's, which is always there"):
        evaluate({"whole frame": Chosen()}, random_samples(1))
    with pytest.raises(ValueError, match="There are no samples"):
        evaluate({}, [])
    with pytest.raises(TypeError, match="a dict from names to attributions.* got list"):
        evaluate([Chosen()], random_samples(1))


# ------------------------------------------------------------------------ progress, the script


def test_a_bar_needs_tqdm_and_says_so_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    chosen = Chosen()
    with pytest.raises(ImportError, match=r"pip install 'captum_3dcam\[progress\]'"):
        evaluate({"map": chosen}, random_samples(1), progress=True)
    assert not chosen.asked


def test_the_bar_counts_what_was_done_before(tmp_path, capsys):
    pytest.importorskip("tqdm")
    samples = random_samples(4)
    plain = evaluate({"map": Chosen()}, samples, checkpoint=tmp_path)
    path = tmp_path / "process-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    capsys.readouterr()
    barred = evaluate({"map": Chosen()}, samples, checkpoint=tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert " 3/4 " in shown
    assert " 4/4 " in shown
    assert barred.to_json() == plain.to_json()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    action_net = pytest.importorskip("trained_networks.action_net")
    path = tmp_path_factory.mktemp("weights") / "net.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: nn.Module = action_net.ActionNet()
        torch.save(net.state_dict(), path)
    return path


def arguments(weights, folder, *more):
    return [
        *("--weights", str(weights), "--output", str(folder / "found.json")),
        *("--checkpoint", str(folder / "kept"), *more),
    ]


def test_the_script_over_two_actors(weights, tmp_path, capsys):
    pytest.importorskip("tqdm")
    import evaluate_localization

    chosen = ("--clips", "2", "--actors", "2", "--methods", "GradCAM", "LayerCAM")
    layers = ("--layers", "layer4", "--layers", "layer2,layer3", "--fusions", "sum", "max")
    columns = ("--columns", "hit", "box_acc@0.3")
    found = evaluate_localization.main(arguments(weights, tmp_path, *chosen, *layers, *columns))
    rows = [
        "GradCAM: layer4",
        "LayerCAM: layer4",
        *(
            f"{name} ({f}): layer2+layer3"
            for name in ("GradCAM", "LayerCAM")
            for f in ("sum", "max")
        ),
    ]
    assert list(found.summary) == [*rows, *BASELINES]
    assert len(found.scores["chance"].energy) == 4
    assert found.bootstrap.group_size == 2
    assert capsys.readouterr().out == found.table(["hit", "box_acc@0.3"]) + "\n"
    assert (tmp_path / "found.json").read_text(encoding="utf-8") == found.to_json()


def test_the_scripts_samples_and_its_default_rows():
    evaluate_localization = pytest.importorskip("evaluate_localization")
    from trained_networks.action_net import LAYERS, ActionNet

    clips = evaluate_localization.SyntheticActions(3, seed=4, actors=2, frames=4, size=32)
    samples = evaluate_localization.ActorSamples(clips)
    assert len(samples) == 6
    clip = clips[2]
    assert samples[5].target == clip.labels[1]
    assert torch.equal(samples[5].inputs, clip.clip)
    assert torch.equal(samples[5].boxes, clip.boxes[1])
    assert torch.equal(samples[5].mask, clip.masks[1])
    every = [*([layer] for layer in LAYERS), LAYERS]
    rows = evaluate_localization.attributions(
        ActionNet(), evaluate_localization.METHODS, every, evaluate_localization.FUSIONS
    )
    # Each layer alone; then all of them by every fusion, but once for what has no fusion.
    methods, single = len(evaluate_localization.METHODS), evaluate_localization.WITHOUT_FUSION
    assert len(rows) == methods * 5 + (methods - len(single)) * 5 + len(single)
    joined = rows["HiResCAM (product): stem+layer1+layer2+layer3+layer4"]
    assert joined.fusion == "product"
    assert [layer.name for layer in joined.layers] == LAYERS


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="two processes talk through gloo",
)
def test_two_processes_find_what_one_finds(weights, tmp_path):
    """Of three samples one process has two; each keeps its own."""
    pytest.importorskip("tqdm")
    import evaluate_localization

    chosen = ("--clips", "3", "--methods", "HiResCAM", "--layers", "layer3,layer4")
    found = evaluate_localization.main(arguments(weights, tmp_path / "one", *chosen))
    script = str(STUDIES / "evaluate_localization.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, script, *arguments(weights, tmp_path / "two", *chosen)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == found.table()  # of the first process only
    assert " 2/2 " in done.stderr
    assert " 1/1 " not in done.stderr  # the bar is of the first process only, too
    assert (tmp_path / "two" / "found.json").read_text(encoding="utf-8") == found.to_json()
    kept = [
        [json.loads(line)["sample"] for line in path.read_text().splitlines()]
        for path in sorted((tmp_path / "two" / "kept").glob("*.jsonl"))
    ]
    assert kept == [[0, 2], [1]]
    again = evaluate_localization.main(arguments(weights, tmp_path / "two", *chosen))
    assert again.to_json() == found.to_json()
    assert not (tmp_path / "two" / "kept" / "process-0.jsonl").read_text().count('"sample": 1,')


def test_the_other_actor_is_the_truth_when_asked_for():
    script = pytest.importorskip("evaluate_localization")
    clips = script.SyntheticActions(2, seed=5, frames=8, size=32, actors=2)
    own, other = script.ActorSamples(clips), script.ActorSamples(clips, other=True)
    for index in range(4):
        assert own[index].target == other[index].target
        assert torch.equal(own[index].boxes, other[index ^ 1].boxes)
        assert torch.equal(own[index].mask, other[index ^ 1].mask)
        assert not torch.equal(own[index].boxes, other[index].boxes)
    with pytest.raises(ValueError, match="no other actor: ask for --actors 2"):
        script.ActorSamples(script.SyntheticActions(2), other=True)
