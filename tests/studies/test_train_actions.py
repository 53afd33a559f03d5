"""The training of the recogniser of synthetic actions."""

import json
from pathlib import Path

import pytest
import torch

import train_actions
from captum_3dcam.datasets import SyntheticActions, freeze
from trained_networks.action_net import HELD_OUT_SEED, ActionNet, load_action_net

# Newer versions of Python warn of any fork beside threads; the loader forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    """20 clips that are used for no training, and their classes."""
    return train_actions.stack(list(SyntheticActions(20, seed=HELD_OUT_SEED)))


@torch.no_grad()
def predictions(network: ActionNet, clips: torch.Tensor) -> torch.Tensor:
    return torch.cat([network(batch).argmax(1) for batch in clips.split(16)])


def run(path: Path, *more: str) -> dict[str, object]:
    return train_actions.main(["--clips", "32", "--held-out", "8", "--output", str(path), *more])


def load(path: Path) -> dict[str, torch.Tensor]:
    return load_action_net(path).state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.fixture(scope="module")
def trained(tmp_path_factory, one_thread) -> tuple[Path, dict[str, object]]:
    # A folder that does not exist yet.
    path = tmp_path_factory.mktemp("weights") / "new" / "net.pt"
    figures = run(path)
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


def test_accuracy_counts_every_clip(held_out):
    network, (clips, labels) = load_action_net(), held_out
    for frozen, shown in ((False, clips), (True, freeze(clips))):
        expected = (predictions(network, shown) == labels).float().mean().item()
        assert train_actions.accuracy(network, 20, frozen) == pytest.approx(expected)


def test_the_same_seed_gives_the_same_weights(trained, tmp_path, one_thread):
    path, _ = trained
    torch.manual_seed(99)  # the state of the generator before the run does not matter
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
    """Every training clip is constant in time."""
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


def test_training_on_five_batches(one_thread, monkeypatch):
    """With 5 steps the schedule's warm-up would have length 0."""
    monkeypatch.setattr(train_actions, "BATCH", 2)
    network = train_actions.train(9, seed=0)
    assert int(network.stem[1].num_batches_tracked) == 5


@pytest.mark.parametrize("option", ["--clips", "--held-out"])
@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_counts_must_be_positive(option, value, capsys, monkeypatch):
    """Checked before the training."""
    monkeypatch.delattr(train_actions, "train")
    with pytest.raises(SystemExit):
        train_actions.main([f"{option}={value}"])
    expected = f"argument {option}: expected an integer of at least 1; got {value!r}"
    assert expected in capsys.readouterr().err
