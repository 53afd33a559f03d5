"""The recogniser of synthetic actions: its committed weights, and how they are made."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from captum_3dcam import LayerwiseGlobalLocalCAM
from captum_3dcam.datasets import ACTIONS, SyntheticActions, freeze
from trained_networks import action_net
from trained_networks.action_net import ActionNet, load_action_net

pytest.importorskip("tqdm")

import train_actions

CARD = Path(action_net.WEIGHTS).with_name("README.md")

# Newer Pythons warn of any fork beside threads; the loader forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> ActionNet:
    return load_action_net()


@pytest.fixture(scope="module")
def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    """64 clips that the training has not seen, and their classes."""
    data = SyntheticActions(64, seed=train_actions.HELD_OUT_SEED)
    return train_actions.stack([data[i] for i in range(64)])


@torch.no_grad()
def predictions(network: ActionNet, clips: torch.Tensor) -> torch.Tensor:
    return torch.cat([network(batch).argmax(1) for batch in clips.split(16)])


# ---------------------------------------------------------------------------- the network


def test_the_weights_are_small():
    assert action_net.WEIGHTS.stat().st_size <= 2 * 2**20
    assert sum(v.nbytes for v in ActionNet().state_dict().values()) <= 2 * 2**20


def test_the_weights_fit_and_can_do_nothing_else():
    state = torch.load(action_net.WEIGHTS, weights_only=True)
    ActionNet().load_state_dict(state, strict=True)
    assert all(v.isfinite().all() for v in state.values())


def test_the_loaded_network_is_ready_to_use(network):
    assert not any(part.training for part in network.modules())
    state = torch.load(action_net.WEIGHTS, weights_only=True)
    assert all(torch.equal(v, state[name]) for name, v in network.state_dict().items())


def test_it_recognises_clips_that_it_has_not_seen(network, held_out):
    clips, labels = held_out
    assert labels.bincount().tolist() == [8] * len(ACTIONS)
    assert (predictions(network, clips) == labels).float().mean() >= 0.95


def test_a_frozen_clip_is_not_enough(network, held_out):
    clips, labels = held_out
    assert (predictions(network, freeze(clips)) == labels).float().mean() <= 0.25


def test_a_clip_played_backwards_is_the_opposite_action(network, held_out):
    """It sees the direction of time: left is right, and clockwise is counter-clockwise."""
    clips, labels = held_out
    opposite = torch.tensor([1, 0, 3, 2, 5, 4])
    chosen = labels < len(opposite)
    found = predictions(network, clips[chosen].flip(2))
    assert (found == opposite[labels[chosen]]).float().mean() >= 0.8


def test_the_sizes_of_the_layers(network):
    """What STRIDES says: 16x64x64 becomes 4x8x8 in the end."""
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


# ------------------------------------------------------------------------------ bad weights


def test_missing_weights_say_how_to_make_them(tmp_path):
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
    """Its code does not run; it would, loaded as any pickle."""
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


# --------------------------------------------------------------------------------- training


def run(path: Path, *more: str) -> dict[str, object]:
    return train_actions.main(["--clips", "32", "--held-out", "8", "--output", str(path), *more])


def load(path: Path) -> dict[str, torch.Tensor]:
    return load_action_net(path).state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, object]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # A folder that is not there yet.
    path = tmp_path_factory.mktemp("weights") / "new" / "net.pt"
    figures = run(path)
    torch.set_num_threads(before)
    return path, figures


def test_a_run_writes_weights_and_figures(trained):
    path, figures = trained
    assert json.loads(path.with_suffix(".json").read_text()) == figures
    assert figures["training_seconds"] > 0
    assert {k: figures[k] for k in list(figures)[:3]} == {
        "seed": 0,
        "clips": 32,
        "trained_on_frozen_clips": False,
    }
    assert figures["held_out_clips"] == 8
    state = load(path)
    assert int(state["stem.1.num_batches_tracked"]) == 32 / train_actions.BATCH
    torch.manual_seed(0)
    assert not torch.equal(state["fc.weight"], ActionNet().state_dict()["fc.weight"])


def test_the_figures_are_those_of_the_weights(trained, held_out):
    path, figures = trained
    network, (clips, labels) = load_action_net(path), held_out
    right = predictions(network, clips[:8]) == labels[:8]
    assert figures["accuracy"] == right.float().mean().item()
    right = predictions(network, freeze(clips[:8])) == labels[:8]
    assert figures["frozen_clip_accuracy"] == right.float().mean().item()


def test_accuracy_counts_every_clip(network, held_out):
    clips, labels = held_out
    for frozen, shown in ((False, clips), (True, freeze(clips))):
        expected = (predictions(network, shown[:20]) == labels[:20]).float().mean().item()
        assert train_actions.accuracy(network, 20, frozen) == pytest.approx(expected)


def test_the_same_seed_gives_the_same_weights(trained, tmp_path, one_thread):
    path, _ = trained
    torch.manual_seed(99)  # what came before does not matter
    run(tmp_path / "again.pt")
    assert same(load(path), load(tmp_path / "again.pt"))


def test_another_seed_gives_other_weights_from_other_clips(one_thread, monkeypatch):
    monkeypatch.setattr(train_actions, "BATCH", 4)
    seeds = []
    make = SyntheticActions.__init__

    def watch(self, length, seed):
        seeds.append(seed)
        make(self, length, seed)

    monkeypatch.setattr(SyntheticActions, "__init__", watch)
    one, other = (train_actions.train(4, seed).state_dict() for seed in (0, 1))
    assert seeds == [0, 1]
    assert not same(one, other)


def test_training_on_frozen_clips(trained, tmp_path, one_thread, monkeypatch):
    """Every clip that the network is trained on stands still."""
    path, _ = trained
    seen = []
    forward = ActionNet.forward

    def watch(self, x):
        if self.training:
            seen.append(bool((x == x[:, :, :1]).all()))
        return forward(self, x)

    monkeypatch.setattr(ActionNet, "forward", watch)
    figures = run(tmp_path / "frozen.pt", "--frozen")
    assert figures["trained_on_frozen_clips"] is True
    assert seen == [True, True]
    assert not same(load(path), load(tmp_path / "frozen.pt"))


def test_any_number_of_clips_can_be_trained_on(one_thread, monkeypatch):
    """Of 5 batches the schedule's warm-up would have no length."""
    monkeypatch.setattr(train_actions, "BATCH", 2)
    network = train_actions.train(9, seed=0)
    assert int(network.stem[1].num_batches_tracked) == 5


@pytest.mark.parametrize("option", ["--clips", "--held-out"])
@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_counts_must_be_positive(option, value, capsys, monkeypatch):
    """Before the training, not after it."""
    monkeypatch.delattr(train_actions, "train")
    with pytest.raises(SystemExit):
        train_actions.main([f"{option}={value}"])
    expected = f"argument {option}: expected an integer, 1 or more; got {value!r}"
    assert expected in capsys.readouterr().err


# --------------------------------------------------------------------------------- the card


def test_the_card_says_what_was_measured():
    figures = json.loads(action_net.WEIGHTS.with_suffix(".json").read_text())
    card = CARD.read_text()
    assert f"--seed {figures['seed']} --clips {figures['clips']}" in card
    assert f"SyntheticActions({figures['clips']}, seed={figures['seed']})" in card
    assert (
        f"SyntheticActions({figures['held_out_clips']}, seed={train_actions.HELD_OUT_SEED})" in card
    )
    assert f"{figures['accuracy']:.3f}" in card
    assert f"{figures['frozen_clip_accuracy']:.3f}:" in card
    assert f"{figures['held_out_clips']} clips" in card
    assert f"{figures['training_seconds']:.0f} s" in card
    assert f"{sum(p.numel() for p in ActionNet().parameters()):,} parameters" in card
    assert not figures["trained_on_frozen_clips"]


def test_the_figures_are_those_that_were_asked_for():
    figures = json.loads(action_net.WEIGHTS.with_suffix(".json").read_text())
    assert figures["accuracy"] >= 0.95
    assert figures["training_seconds"] <= 600


def test_an_untrained_stem_is_blind_to_what_does_not_move():
    """Where all five frames of a filter lie in the clip; so training finds the motion soon."""
    stem, clip = ActionNet().stem[0], torch.rand(1, 3, 8, 16, 16)
    still, moving = stem(freeze(clip))[:, :, 2:-2], stem(clip)[:, :, 2:-2]
    assert still.abs().max() < 1e-5
    assert moving.abs().max() > 0.1
