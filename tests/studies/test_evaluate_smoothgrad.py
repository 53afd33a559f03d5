"""SmoothGrad over this package's maps: the average by hand, the reported shares."""

import json

import pytest
import torch
from study_helpers import cells, run

import evaluate_smoothgrad
from captum_3dcam import LayerwiseGlobalLocalCAM
from captum_3dcam.datasets import SyntheticActions
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    return load_action_net()


@pytest.fixture(scope="module")
def sample():
    """A clip with a class that the network would not choose for it."""
    return SyntheticActions(2, seed=HELD_OUT_SEED)[1]._replace(labels=torch.tensor([4]))


def parsed(*more):
    return evaluate_smoothgrad.parse(["--samples", "6", "--noise", "0.04", *more])


@pytest.mark.parametrize("kind", evaluate_smoothgrad.TYPES)
def test_the_smoothed_map_is_that_of_the_maps_of_noisy_clips(network, sample, kind):
    cam = LayerwiseGlobalLocalCAM(network, LAYERS)
    plain, smoothed = evaluate_smoothgrad.explain(cam, sample, 3, parsed("--type", kind))
    assert torch.equal(plain, cam.attribute(sample.clip[None], target=4))
    torch.manual_seed(3)
    maps = []
    for copies in (4, 2):  # copies in memory at once
        shape = (copies, *sample.clip.shape)
        noisy = sample.clip + torch.normal(torch.zeros(shape), torch.full(shape, 0.04))
        maps += [cam.attribute(clip[None], target=4) for clip in noisy]
    mean = sum(maps) / 6
    squares = sum(m**2 for m in maps) / 6
    expected = {"smoothgrad": mean, "smoothgrad_sq": squares, "vargrad": squares - mean**2}[kind]
    torch.testing.assert_close(smoothed, expected, atol=1e-4, rtol=1e-3)


def test_noise_is_determined_by_the_seed_and_preserves_torchs_generator(network, sample):
    cam = LayerwiseGlobalLocalCAM(network, ["layer2"])
    before = torch.get_rng_state()
    first, again, other = (
        evaluate_smoothgrad.explain(cam, sample, seed, parsed())[1] for seed in (0, 0, 1)
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
    noisy = evaluate_smoothgrad.probability(network, sample, 3, 0.1, 5)
    assert noisy == pytest.approx(float(expected), abs=1e-4)
    plain = evaluate_smoothgrad.probability(network, sample, 1, 0, 5)
    assert plain == pytest.approx(float(clean), abs=1e-4)


def test_the_whole_study(tmp_path, network):
    options = ["--clips", 2, "--samples", 2, "--layers", "stem", "layer1"]
    report = run(evaluate_smoothgrad, tmp_path, *options)
    assert json.loads((tmp_path / "smoothgrad.json").read_text()) == report
    assert [row["class"] for row in report["clips"]] == ["left", "right"]
    for number, row in enumerate(report["clips"]):
        sample = SyntheticActions(2, seed=HELD_OUT_SEED)[number]
        cam = LayerwiseGlobalLocalCAM(network, ["stem", "layer1"])
        heat = cam.attribute(sample.clip[None], target=number)[0, 0]
        inside = float(heat[sample.masks[0]].sum() / heat.sum())
        assert row["plain"] == pytest.approx(inside, abs=1e-3)
        assert row["chance"] == pytest.approx(float(sample.masks[0].float().mean()), abs=1e-4)
        assert row["noisy"] <= row["probability"] + 0.05
    for key in evaluate_smoothgrad.COLUMNS:
        mean = (report["clips"][0][key] + report["clips"][1][key]) / 2
        assert report["mean"][key] == pytest.approx(mean, abs=1e-4)
    text = (tmp_path / "smoothgrad.md").read_text()
    assert "GlobalLocal, plain and by smoothgrad (2 copies, noise 0.05)" in text
    assert cells(text, "mean") == [[f"{value:.2f}" for value in report["mean"].values()]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips", "0"], "--clips: expected an integer of at least 1; got '0'"),
        (["--samples", "0"], "--samples: expected an integer of at least 1; got '0'"),
        (["--noise", "0"], "--noise: expected a positive number; got 0.0"),
    ],
)
def test_invalid_numbers_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate_smoothgrad.main(arguments)
    assert message in capsys.readouterr().err
