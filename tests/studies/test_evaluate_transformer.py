"""Shares of the token layers' maps: by loops over the clips, and the bound of the grid."""

import json

import numpy as np
import pytest
import torch
from study_helpers import run

import evaluate_transformer
from captum_3dcam import GlobalLocalCAM3D, Layer, tokens_to_grid
from captum_3dcam.datasets import SyntheticActions
from trained_networks.action_net import HELD_OUT_SEED
from trained_networks.video_transformer import GRID, LAYERS, load_video_transformer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformer") / "new"
    options = ["--clips", 16, "--epochs", 1, "--held-out", 2]
    return folder, run(evaluate_transformer, folder, *options)


def test_the_report(short_run):
    folder, report = short_run
    assert json.loads((folder / "transformer.json").read_text()) == report
    network = load_video_transformer(folder / "video_transformer.pt")
    to_grid = tokens_to_grid(GRID, prefix_tokens=1)
    cam = GlobalLocalCAM3D(network, [Layer(name, to_grid) for name in LAYERS])
    expected = {name: [] for name in report["share"]}
    correct = []
    for number, sample in enumerate(SyntheticActions(2, seed=HELD_OUT_SEED)):
        mask, clip = sample.masks[0].numpy(), sample.clip[None]
        maps = [
            *cam.attribute(clip, target=number, per_layer=True),
            cam.attribute(clip, target=number),
        ]
        for name, heat in zip(report["share"], maps, strict=False):
            heat = heat[0, 0].double().numpy()
            total = heat.sum()
            expected[name].append(heat[mask].sum() / total if total else 0.0)
        expected["chance"].append(mask.mean())
        grid = evaluate_transformer.through_grid(sample)[0, 0].double().numpy()
        expected["the mask on the grid"].append(grid[mask].sum() / grid.sum())
        with torch.no_grad():
            correct.append(int(network(clip).argmax()) == number)
    for name, values in expected.items():
        assert report["share"][name] == pytest.approx(np.mean(values), abs=2e-4)
    assert report["accuracy"] == np.mean(correct)


def test_the_mask_on_the_grid_is_its_mean_over_each_cell():
    sample = SyntheticActions(2, seed=HELD_OUT_SEED)[1]
    grid_mask = evaluate_transformer.through_grid(sample)[0, 0]
    mask = sample.masks[0].float()
    cells = torch.zeros(GRID)
    for t, y, x in np.ndindex(*GRID):
        cells[t, y, x] = mask[4 * t : 4 * t + 4, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean()
    expected = torch.nn.functional.interpolate(cells[None, None], mask.shape, mode="trilinear")
    assert cells.any()
    torch.testing.assert_close(grid_mask, expected[0, 0])


def test_weights_of_an_earlier_run(short_run, tmp_path):
    folder, first = short_run
    options = ["--weights", folder / "video_transformer.pt", "--held-out"]
    assert run(evaluate_transformer, tmp_path, *options, 2) == first
    assert not (tmp_path / "video_transformer.pt").exists()
    others = ["--layers", "blocks.0.mlp.1", "--method", "HiResCAM"]
    report = run(evaluate_transformer, tmp_path, *options, 1, *others)
    assert list(report["share"])[:2] == ["blocks.0.mlp.1", "fused"]


@pytest.mark.parametrize("name", ["--clips", "--epochs", "--held-out"])
def test_numbers_below_one_are_refused(name, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate_transformer.main([name, "0"])
    assert f"{name}: expected an integer of at least 1; got '0'" in capsys.readouterr().err
