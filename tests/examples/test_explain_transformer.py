"""The video transformer's token layers explained: shares by hand, weights of an earlier run."""

import re
from functools import partial

import pytest
from PIL import Image

import explain_transformer
from captum_3dcam import GlobalLocalCAM3D, Layer, tokens_to_grid
from captum_3dcam.datasets import SyntheticActions
from trained_networks import video_transformer
from trained_networks.action_net import HELD_OUT_SEED

pytestmark = pytest.mark.usefixtures("one_thread")

SHARE = re.compile(r"^(\S+)\s+(\d+)%$", re.MULTILINE)


def test_a_run_and_its_weights(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(video_transformer, "train", partial(video_transformer.train, 16, 1))
    explain_transformer.main(["--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "Training the blocks" in printed
    network = video_transformer.load_video_transformer(tmp_path / "video_transformer.pt")
    sample = SyntheticActions(1, seed=HELD_OUT_SEED)[0]
    to_grid = tokens_to_grid((4, 8, 8), prefix_tokens=1)
    layers = [Layer(name, to_grid) for name in video_transformer.LAYERS]
    cam = GlobalLocalCAM3D(network, layers)
    mask = sample.masks[0].numpy()
    expected = {}
    for names, layers in (
        (video_transformer.LAYERS, {"per_layer": True}),
        (["fused"], {}),
    ):
        maps = cam.attribute(sample.clip[None], target=int(sample.labels[0]), **layers)
        for name, heat in zip(names, maps if layers else [maps], strict=True):
            values = heat[0, 0].double().numpy()
            expected[name] = f"{100 * values[mask].sum() / values.sum():.0f}"
    assert dict(SHARE.findall(printed)) == expected
    assert f"chance is {100 * mask.mean():.0f}%" in printed
    with Image.open(tmp_path / "transformer.png") as image:
        assert image.size[0] > 900
        assert image.size[1] > 400  # three rows: two layers, and both

    weights = tmp_path / "video_transformer.pt"
    explain_transformer.main(["--weights", str(weights), "--output", str(tmp_path / "again")])
    again = capsys.readouterr().out
    assert "Training" not in again
    assert SHARE.findall(again) == SHARE.findall(printed)
    assert not (tmp_path / "again" / "video_transformer.pt").exists()
    options = ["--clip", "3", "--layers", "blocks.0.mlp.1", "--output", str(tmp_path / "other")]
    explain_transformer.main(["--weights", str(weights), *options])
    assert list(dict(SHARE.findall(capsys.readouterr().out))) == ["blocks.0.mlp.1", "fused"]


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        explain_transformer.main(
            ["--weights", str(tmp_path / "none.pt"), "--output", str(tmp_path)]
        )
