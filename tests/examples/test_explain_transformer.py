"""The video transformer: its tokens' grid, what is frozen, what is trained, what is measured."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import explain_transformer
from captum_3dcam import GlobalLocalCAM3D, Layer, tokens_to_grid
from captum_3dcam.datasets import SyntheticActions
from explain_transformer import GRID, VideoTransformer
from trained_networks.action_net import load_action_net

RESHAPE = tokens_to_grid(GRID, prefix_tokens=1)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run: its folder and report."""
    folder = tmp_path_factory.mktemp("transformer")
    options = ["--clips", "16", "--epochs", "1", "--held-out", "2"]
    return folder, explain_transformer.main([*options, "--output", str(folder)])


@pytest.fixture(scope="module")
def network(run):
    return explain_transformer.load(run[0] / "video_transformer.pt")


@pytest.fixture(scope="module")
def sample():
    return SyntheticActions(2, seed=10**6)[1]


# -------------------------------------------------------------------------------- the network


def test_the_first_stages_are_the_recognisers_also_after_training(network, sample):
    recogniser = load_action_net()
    for stage, name in zip(network.stages, ("stem", "layer1", "layer2"), strict=True):
        expected = recogniser.get_submodule(name).state_dict()
        assert all(torch.equal(v, expected[key]) for key, v in stage.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.stages.parameters())
    assert not network.train().stages.training
    assert network.blocks.training
    network.eval()
    with torch.no_grad():
        features = network.features(sample.clip[None])
        expected = recogniser.stem(sample.clip[None] - 0.5)
        expected = recogniser.layer2(recogniser.layer1(expected))
    assert features.shape == (1, 32, 8, 16, 16)
    torch.testing.assert_close(features, expected)


def test_the_reshape_puts_each_token_in_its_patchs_place(network, sample):
    with torch.no_grad():
        patches = network.patch(network.features(sample.clip[None]))
    seen = []
    hook = network.blocks[0].register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    with torch.no_grad():
        network(sample.clip[None])
    hook.remove()
    tokens = seen[0] - network.position
    torch.testing.assert_close(RESHAPE(tokens), patches)
    torch.testing.assert_close(tokens[:, 0], network.class_token[:, 0])


def test_no_score_depends_on_the_patch_tokens_of_the_last_block(network, sample):
    """So LAYERS leaves it out; in the block before, it does."""
    gradients = []
    for name in ("blocks.1.mlp.1", "blocks.2.mlp.1"):
        kept = []
        hook = network.get_submodule(name).register_forward_hook(
            lambda module, x, y, kept=kept: kept.append(y.requires_grad_())
        )
        score = network(sample.clip[None])[0, 0]
        hook.remove()
        gradients.append(torch.autograd.grad(score, kept)[0][:, 1:].abs().max())
    assert gradients[0] > 0
    assert gradients[1] == 0
    assert explain_transformer.LAYERS == ["blocks.0.mlp.1", "blocks.1.mlp.1"]


def test_before_a_layer_normalisation_the_gradient_cancels(network, sample):
    cam = GlobalLocalCAM3D(network, Layer("blocks.0", RESHAPE))
    with pytest.warns(UserWarning, match="gradient cancels in the sum over channels"):
        cam.attribute(sample.clip[None])


# ----------------------------------------------------------------------------------- training


def test_it_learns_the_clips_that_it_is_trained_on():
    network = explain_transformer.train(16, 30)
    assert explain_transformer.accuracy(network, list(explain_transformer.clips(16, 0))) >= 0.9


def test_training_follows_from_the_seed_and_leaves_torchs_own_alone(run, monkeypatch):
    before = torch.get_rng_state()
    again = explain_transformer.train(16, 1)
    original, seeds = explain_transformer.clips, []

    def same_clips(number, seed):
        seeds.append(seed)
        return original(number, 0)

    monkeypatch.setattr(explain_transformer, "clips", same_clips)
    other = explain_transformer.train(16, 1, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert seeds == [1]
    kept = torch.load(run[0] / "video_transformer.pt", weights_only=True)
    assert all(torch.equal(v, kept[key]) for key, v in again.state_dict().items())
    assert not torch.equal(other.head.weight, again.head.weight)


def test_accuracy_counts_the_clips(sample):
    class Fixed(torch.nn.Module):
        def forward(self, clip):
            return torch.eye(8)[[1]]

    left, right = (SyntheticActions(2, seed=10**6)[i] for i in range(2))
    assert explain_transformer.accuracy(Fixed(), [left, right, right, right]) == 0.75


# ---------------------------------------------------------------------------------- measuring


def test_the_report(run, network):
    folder, report = run
    assert json.loads((folder / "explain_transformer.json").read_text()) == report
    layers = [Layer(name, RESHAPE) for name in explain_transformer.LAYERS]
    cam = GlobalLocalCAM3D(network, layers)
    expected = {name: [] for name in report["share"]}
    for number in range(2):
        sample = SyntheticActions(2, seed=10**6)[number]
        mask = sample.masks[0].numpy()
        maps = [
            *cam.attribute(sample.clip[None], target=number, per_layer=True),
            cam.attribute(sample.clip[None], target=number),
        ]
        for name, heat in zip(report["share"], maps, strict=False):
            heat = heat[0, 0].double().numpy()
            total = heat.sum()
            expected[name].append(heat[mask].sum() / total if total else 0.0)
        expected["chance"].append(mask.mean())
        grid = explain_transformer.through_grid(sample)[0, 0].double().numpy()
        expected["the mask through the grid"].append(grid[mask].sum() / grid.sum())
    for name, values in expected.items():
        assert report["share"][name] == pytest.approx(np.mean(values), abs=2e-4)


def test_the_mask_by_the_grids_cells_is_their_mean(sample):
    found = explain_transformer.through_grid(sample)[0, 0]
    mask = sample.masks[0].float()
    cells = torch.zeros(GRID)
    for t, y, x in np.ndindex(*GRID):
        cells[t, y, x] = mask[4 * t : 4 * t + 4, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean()
    expected = torch.nn.functional.interpolate(cells[None, None], mask.shape, mode="trilinear")
    assert cells.any()
    torch.testing.assert_close(found, expected[0, 0])


def test_the_figure(run):
    with Image.open(run[0] / "explain_transformer.png") as picture:
        assert picture.size[0] > 900
        assert picture.size[1] > 400  # three rows: two layers, and both


def test_weights_of_an_earlier_run(run, tmp_path, capsys):
    folder, first = run
    options = ["--weights", str(folder / "video_transformer.pt"), "--output", str(tmp_path)]
    report = explain_transformer.main([*options, "--held-out", "2"])
    assert report == first
    assert "Training" not in capsys.readouterr().out
    assert not (tmp_path / "video_transformer.pt").exists()
    other = "--held-out 1 --layers blocks.0.mlp.1 --target shake --method LayerwiseHiResCAM"
    report = explain_transformer.main([*options, *other.split()])
    assert list(report["share"])[:2] == ["blocks.0.mlp.1", "fused"]


def test_weights_that_are_not_there_say_so(tmp_path):
    with pytest.raises(SystemExit, match=r"no weights at '.*none.pt'. Without --weights it trains"):
        explain_transformer.main(
            ["--weights", str(tmp_path / "none.pt"), "--output", str(tmp_path)]
        )


@pytest.mark.parametrize("name", ["--clips", "--epochs", "--held-out"])
def test_wrong_numbers_say_what_is_right(name, capsys):
    with pytest.raises(SystemExit, match="2"):
        explain_transformer.main([name, "0"])
    assert "--clips, --epochs and --held-out have to be 1 or more" in capsys.readouterr().err


def test_help_says_what_the_weights_are(capsys):
    with pytest.raises(SystemExit, match="0"):
        explain_transformer.main(["--help"])
    printed = capsys.readouterr().out
    assert "is trained here and now on synthetic actions" in printed
    assert "python examples/explain_transformer.py --weights" in printed


def test_an_untrained_network_gives_eight_logits(sample):
    with torch.no_grad():
        assert VideoTransformer().eval()(sample.clip[None]).shape == (1, 8)
