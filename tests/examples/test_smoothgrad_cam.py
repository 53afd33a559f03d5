"""SmoothGrad over our maps: the average re-derived, and the figures that are printed."""

import json

import pytest
import torch
from PIL import Image

import smoothgrad_cam
from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.datasets import SyntheticActions
from trained_networks.action_net import LAYERS, load_action_net


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network():
    return load_action_net()


@pytest.fixture(scope="module")
def sample():
    """A clip, and a class that the network would not choose for it."""
    return SyntheticActions(2, seed=10**6)[1]._replace(labels=torch.tensor([4]))


def parsed(*more):
    return smoothgrad_cam.parse(["--samples", "6", "--noise", "0.04", *more])


@pytest.mark.parametrize("kind", smoothgrad_cam.TYPES)
def test_the_smoothed_map_is_of_the_maps_of_noisy_clips(network, sample, kind):
    cam = GlobalLocalCAM3D(network, LAYERS)
    plain, smoothed = smoothgrad_cam.explain(cam, sample, 3, parsed("--type", kind))
    assert torch.equal(plain, cam.attribute(sample.clip[None], target=4))
    torch.manual_seed(3)
    maps = []
    for copies in (4, 2):  # so many are in memory at once
        shape = (copies, *sample.clip.shape)
        noisy = sample.clip + torch.normal(torch.zeros(shape), torch.full(shape, 0.04))
        maps += [cam.attribute(clip[None], target=4) for clip in noisy]
    mean = sum(maps) / 6
    squares = sum(m**2 for m in maps) / 6
    expected = {"smoothgrad": mean, "smoothgrad_sq": squares, "vargrad": squares - mean**2}[kind]
    torch.testing.assert_close(smoothed, expected, atol=1e-4, rtol=1e-3)


def test_noise_comes_from_the_seed_and_leaves_torchs_own_alone(network, sample):
    cam = GlobalLocalCAM3D(network, ["layer2"])
    before = torch.get_rng_state()
    first, again, other = (
        smoothgrad_cam.explain(cam, sample, seed, parsed())[1] for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_probability_is_the_mean_over_noisy_copies(network, sample):
    generator = torch.Generator().manual_seed(5)
    copies = [
        sample.clip + 0.1 * torch.randn(sample.clip.shape, generator=generator) for _ in range(3)
    ]
    with torch.no_grad():
        expected = network(torch.stack(copies)).softmax(1)[:, sample.labels[0]].mean()
        clean = network(sample.clip[None]).softmax(1)[0, sample.labels[0]]
    found = smoothgrad_cam.probability(network, sample, 3, 0.1, 5)
    assert found == pytest.approx(float(expected), abs=1e-4)
    found = smoothgrad_cam.probability(network, sample, 1, 0, 5)
    assert found == pytest.approx(float(clean), abs=1e-4)


def test_a_run(tmp_path, capsys, network):
    options = ["--output", str(tmp_path), "--clips", "2", "--samples", "2"]
    report = smoothgrad_cam.main([*options, "--layers", "stem", "layer1"])
    assert json.loads((tmp_path / "smoothgrad_cam.json").read_text()) == report
    assert [row["class"] for row in report["clips"]] == ["left", "right"]
    for number, row in enumerate(report["clips"]):
        sample = SyntheticActions(2, seed=10**6)[number]
        heat = GlobalLocalCAM3D(network, ["stem", "layer1"]).attribute(
            sample.clip[None], target=number
        )[0, 0]
        inside = float(heat[sample.masks[0]].sum() / heat.sum())
        assert row["plain"] == pytest.approx(inside, abs=1e-3)
        assert row["chance"] == pytest.approx(float(sample.masks[0].float().mean()), abs=1e-4)
        assert row["noisy"] <= row["probability"] + 0.05
    for key in smoothgrad_cam.COLUMNS:
        mean = (report["clips"][0][key] + report["clips"][1][key]) / 2
        assert report["mean"][key] == pytest.approx(mean, abs=1e-4)
    printed = capsys.readouterr().out
    assert "GlobalLocalCAM3D, plain and by smoothgrad (2 copies, noise 0.05)" in printed
    assert "mean" in printed
    with Image.open(tmp_path / "smoothgrad_cam.png") as picture:
        assert picture.size[0] > 900


@pytest.mark.parametrize("given", [["--clips", "0"], ["--samples", "0"], ["--noise", "0"]])
def test_wrong_numbers_say_what_is_right(given, capsys):
    with pytest.raises(SystemExit, match="2"):
        smoothgrad_cam.main(given)
    expected = "--clips and --samples have to be 1 or more, --noise above 0"
    assert expected in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        smoothgrad_cam.main(["--help"])
    assert "python examples/smoothgrad_cam.py --type vargrad" in capsys.readouterr().out
