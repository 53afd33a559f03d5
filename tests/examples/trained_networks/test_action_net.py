"""The recogniser of synthetic actions: the network, its committed weights and their card."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from captum_3dcam import LayerwiseGlobalLocalCAM
from captum_3dcam.datasets import ACTIONS, SyntheticActions, freeze
from trained_networks import action_net
from trained_networks.action_net import HELD_OUT_SEED, ActionNet, load_action_net

CARD = Path(action_net.WEIGHTS).with_name("README.md")


@pytest.fixture(scope="module")
def network() -> ActionNet:
    return load_action_net()


@pytest.fixture(scope="module")
def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    """64 clips that are used for no training, and their classes."""
    samples = list(SyntheticActions(64, seed=HELD_OUT_SEED))
    return torch.stack([s.clip for s in samples]), torch.stack([s.labels[0] for s in samples])


@torch.no_grad()
def predictions(network: ActionNet, clips: torch.Tensor) -> torch.Tensor:
    return torch.cat([network(batch).argmax(1) for batch in clips.split(16)])


# ---------------------------------------------------------------------------- the network


def test_the_weights_are_small():
    assert action_net.WEIGHTS.stat().st_size <= 2 * 2**20
    assert sum(v.nbytes for v in ActionNet().state_dict().values()) <= 2 * 2**20


def test_the_weights_fit_and_are_finite_tensors():
    state = torch.load(action_net.WEIGHTS, weights_only=True)
    ActionNet().load_state_dict(state, strict=True)
    assert all(v.isfinite().all() for v in state.values())


def test_the_loaded_network_is_ready_to_use(network):
    assert not any(part.training for part in network.modules())
    state = torch.load(action_net.WEIGHTS, weights_only=True)
    assert all(torch.equal(v, state[name]) for name, v in network.state_dict().items())


def test_it_recognises_held_out_clips(network, held_out):
    clips, labels = held_out
    assert labels.bincount().tolist() == [8] * len(ACTIONS)
    assert (predictions(network, clips) == labels).float().mean() >= 0.95


def test_it_does_not_recognise_frozen_clips(network, held_out):
    clips, labels = held_out
    assert (predictions(network, freeze(clips)) == labels).float().mean() <= 0.25


def test_a_clip_played_backwards_is_the_opposite_action(network, held_out):
    """The direction of time matters: left becomes right, clockwise becomes counter-clockwise."""
    clips, labels = held_out
    opposite = torch.tensor([1, 0, 3, 2, 5, 4])
    chosen = labels < len(opposite)
    reversed_predictions = predictions(network, clips[chosen].flip(2))
    assert (reversed_predictions == opposite[labels[chosen]]).float().mean() >= 0.8


def test_the_sizes_of_the_layers(network):
    """By STRIDES: 16x64x64 becomes 4x8x8."""
    sizes = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update({name: tuple(output.shape)})
        )
        for name in action_net.LAYERS
    ]
    with torch.no_grad():
        assert network(torch.rand(2, 3, 16, 64, 64)).shape == (2, 8)
    for hook in hooks:
        hook.remove()
    assert sizes == {
        "stem": (2, 16, 16, 32, 32),
        "layer1": (2, 16, 8, 32, 32),
        "layer2": (2, 32, 8, 16, 16),
        "layer3": (2, 48, 4, 8, 8),
        "layer4": (2, 64, 4, 8, 8),
    }


def test_a_block_adds_its_input():
    """relu(x + conv(relu(conv(x)))), with identity normalisation."""
    torch.manual_seed(0)
    block = action_net.Block(3, 3, (1, 1, 1)).eval()
    x = torch.randn(1, 3, 4, 5, 6)
    with torch.no_grad():
        scale = (1 + block.norm1.eps) ** -0.5
        inner = (block.conv1(x) * scale).relu()
        expected = (x + block.conv2(inner) * scale).relu()
        torch.testing.assert_close(block(x), expected)
    assert action_net.Block(3, 4, (1, 1, 1))(x).shape == (1, 4, 4, 5, 6)
    assert action_net.Block(3, 3, (2, 1, 2))(x).shape == (1, 3, 2, 5, 3)


def test_its_layers_can_be_explained(network, held_out):
    clips, _ = held_out
    attribution = LayerwiseGlobalLocalCAM(network, action_net.LAYERS).attribute(clips[:1])
    assert attribution.shape == (1, 1, *clips.shape[2:])
    assert attribution.max() > 0


# -------------------------------------------------------------------------- invalid weights


def test_missing_weights_raise_with_the_command_that_trains_them(tmp_path):
    path = tmp_path / "none.pt"
    with pytest.raises(FileNotFoundError) as error:
        load_action_net(path)
    assert str(error.value) == (
        f"There are no weights at {str(path)!r}. Train them: python studies/train_actions.py "
        f"--output {path}"
    )


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_malicious_checkpoint_is_refused(tmp_path):
    """Its code does not run; loaded as any pickle, it does."""
    checkpoint, trace = tmp_path / "evil.pt", tmp_path / "trace"
    torch.save(ActionNet().state_dict() | {"fc.bias": Evil(trace)}, checkpoint)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_action_net(checkpoint)
    assert not trace.exists()
    torch.load(checkpoint, weights_only=False)
    assert trace.exists()


def test_weights_of_another_network_are_refused(tmp_path):
    state = ActionNet().state_dict()
    del state["stem.0.weight"]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "stem.0.weight"'):
        load_action_net(tmp_path / "other.pt")


# --------------------------------------------------------------------------------- the card


def test_the_card_has_the_measured_figures():
    figures = json.loads(action_net.WEIGHTS.with_suffix(".json").read_text())
    card = CARD.read_text()
    assert f"--seed {figures['seed']} --clips {figures['clips']}" in card
    assert f"SyntheticActions({figures['clips']}, seed={figures['seed']})" in card
    assert f"SyntheticActions({figures['held_out_clips']}, seed={HELD_OUT_SEED})" in card
    assert f"{figures['accuracy']:.3f}" in card
    assert f"{figures['frozen_clip_accuracy']:.3f}:" in card
    assert f"{figures['held_out_clips']} clips" in card
    assert f"{figures['training_seconds']:.0f} s" in card
    assert f"{sum(p.numel() for p in ActionNet().parameters()):,} parameters" in card
    assert not figures["trained_on_frozen_clips"]


def test_the_figures_meet_the_requirements():
    figures = json.loads(action_net.WEIGHTS.with_suffix(".json").read_text())
    assert figures["accuracy"] >= 0.95
    assert figures["training_seconds"] <= 600


def test_an_untrained_stem_ignores_what_does_not_move():
    """At positions where all five frames of a filter are in the clip."""
    stem, clip = ActionNet().stem[0], torch.rand(1, 3, 8, 16, 16)
    still, moving = stem(freeze(clip))[:, :, 2:-2], stem(clip)[:, :, 2:-2]
    assert still.abs().max() < 1e-5
    assert moving.abs().max() > 0.1
