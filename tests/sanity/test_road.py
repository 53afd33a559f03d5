"""ROAD against loops over dense systems, and against pytorch-grad-cam."""

import warnings

import numpy as np
import pytest
import torch
from imputation_reference import naive_impute
from networks import conv_net, random_input
from peer_metrics import peer_module
from sanity_helpers import SIZES, assert_same, state_of

from captum_3dcam.sanity import Removal, RoadScores, impute, road


def total(x):
    return x.flatten(1).sum(1)


def test_road_by_hand():
    """The most relevant first: 8 becomes 2, between 4 and 0; then 4 and 8 become 0."""
    x = torch.tensor([[[0.0, 4.0, 8.0, 0.0]]])
    removal = Removal([0.25, 0.5], noise=0)
    result = road(total, x, x, removal=removal, output="score")
    assert result.original.tolist() == [12]
    np.testing.assert_allclose(result.most_relevant_first, [[4 + 2, 0]], atol=1e-6)
    # The two zeros become what is beside them, 4 and 8; the order of equal ones is random.
    first, both = result.least_relevant_first[0].tolist()
    assert min(abs(first - 16), abs(first - 20)) < 1e-6
    assert both == pytest.approx(24)
    expected = ((first - 6) + (both - 0)) / 2 / 2
    assert result.combined.item() == pytest.approx(expected)


def test_the_combined_score_of_given_curves():
    most, least = torch.tensor([[0.2, 0.1], [0.5, 0.9]]), torch.tensor([[0.8, 0.3], [0.5, 0.1]])
    scores = RoadScores("probability", torch.tensor([0.3, 0.6]), torch.ones(2), most, least)
    torch.testing.assert_close(scores.combined, torch.tensor([0.2, -0.2]))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_road_equals_loops(rank):
    model, x = conv_net(rank), random_input(2, SIZES[rank])
    attribution = torch.randn(2, 1, *SIZES[rank], generator=torch.Generator().manual_seed(1))
    result = road(model, x, attribution, removal=Removal((0.2, 0.7), noise=0), batch_size=3)
    positions = int(np.prod(SIZES[rank]))
    targets = model(x).argmax(1)
    assert result.target == targets.tolist()
    for n in range(2):
        ranking = np.argsort(-attribution[n].flatten().numpy())
        for k, fraction in enumerate((0.2, 0.7)):
            count = int(fraction * positions + 0.5)
            for order, scores in (
                (ranking, result.most_relevant_first),
                (ranking[::-1], result.least_relevant_first),
            ):
                removed = np.isin(np.arange(positions), order[:count]).reshape(SIZES[rank])
                filled = torch.from_numpy(naive_impute(x[n].double().numpy(), removed)).float()
                expected = model(filled[None]).softmax(1)[0, targets[n]].item()
                assert scores[n, k].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("target", ["ClassifierOutputTarget", "ClassifierOutputSoftmaxTarget"])
def test_the_combined_score_is_pytorch_grad_cams(target, monkeypatch):
    """Without its noise. Of 100 and 240 positions, both remove the same number."""
    peer = peer_module("metrics.road")
    make_target = getattr(peer_module("utils.model_targets"), target)
    monkeypatch.setattr(peer.torch, "randn_like", torch.zeros_like)
    output = "score" if target == "ClassifierOutputTarget" else "probability"
    for size in ((10, 10), (12, 20)):
        net, x = conv_net(2), random_input(3, size, seed=size[0])
        model = lambda x, net=net: 30 * net(x)  # noqa: E731
        maps = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(0))
        result = road(model, x, maps, [0, 2, 3], Removal(noise=0), output=output)
        targets = [make_target(c) for c in (0, 2, 3)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about how it is called
            theirs = peer.ROADCombined()(x, maps[:, 0].numpy(), targets, model)
        np.testing.assert_allclose(result.combined, theirs, atol=5e-5)
        assert np.abs(theirs).max() > 2e-3


def test_least_relevant_first_is_the_negated_map():
    model, x = conv_net(2), random_input(2, (6, 6))
    attribution = torch.randn(2, 1, 6, 6)
    ours, negated = (road(model, x, sign * attribution) for sign in (1, -1))
    torch.testing.assert_close(ours.least_relevant_first, negated.most_relevant_first)
    torch.testing.assert_close(ours.combined, -negated.combined)


def test_a_good_map_beats_a_random_one_and_that_its_reverse():
    """The score depends on one corner, and the rest is as bright."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(8, 1, 4, 8, 8, generator=generator)
    x[:, :, :2, :4, :4] += 2
    model = lambda x: total(x[:, :, :2, :4, :4])  # noqa: E731
    corner = torch.zeros_like(x)
    corner[:, :, :2, :4, :4] = 1
    noise = torch.rand(x.shape, generator=generator)
    good, random, bad = (
        road(model, x, each, output="score").combined.mean().item()
        for each in (corner, noise, -corner)
    )
    assert good == pytest.approx(-bad, rel=0.05)
    assert good > 5 * abs(random)


def test_at_least_one_position_is_kept_and_none_may_be_removed():
    x = torch.tensor([[[1.0, 2.0]]])
    result = road(total, x, x, removal=Removal((0.1, 0.9), noise=0), output="score")
    np.testing.assert_allclose(result.most_relevant_first, [[3, 2]])
    np.testing.assert_allclose(result.least_relevant_first, [[3, 4]])


def test_ties_and_noise_depend_on_the_seed():
    model, x = conv_net(2), random_input(1, (6, 6))
    flat = torch.zeros(1, 1, 6, 6)
    results = [road(model, x, flat, removal=Removal((0.5,), 0, seed)) for seed in range(5)]
    assert len({result.combined.item() for result in results}) == 5
    again = road(model, x, flat, removal=Removal((0.5,), 0, seed=3))
    assert torch.equal(again.combined, results[3].combined)
    ranked = torch.arange(36.0).reshape(1, 1, 6, 6)
    noisy = [road(model, x, ranked, removal=Removal((0.5,), seed=seed)) for seed in (0, 1)]
    assert noisy[0].combined != noisy[1].combined
    removed = (ranked >= 18).expand(1, 1, 6, 6)
    probability = model(impute(x, removed)).softmax(1).max().item()
    assert noisy[0].target == model(x).argmax().item()
    assert noisy[0].most_relevant_first.item() == pytest.approx(
        model(impute(x, removed)).softmax(1)[0, noisy[0].target].item(), abs=1e-6
    )
    assert probability > 0


def test_a_batch_equals_its_samples_whatever_the_batch_size():
    model, x = conv_net(2), random_input(3, (6, 6))
    attribution = torch.randint(0, 3, (3, 1, 6, 6)).float()
    together = road(model, x, attribution)
    for batch_size in (1, 2, 100):
        sizes = []
        forward = lambda x: sizes.append(len(x)) or model(x)  # noqa: B023, E731
        batched = road(forward, x, attribution, batch_size=batch_size)
        assert max(sizes) == min(batch_size, 3)
        torch.testing.assert_close(batched.combined, together.combined)
    for n in range(3):
        alone = road(model, x[n : n + 1], attribution[n : n + 1])
        torch.testing.assert_close(alone.combined[0], together.combined[n])


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_model_does_not_change(error):
    model, x = conv_net(2, norm=True).train(), random_input(3, (6, 6)).requires_grad_()
    before, calls = state_of(model), []

    def forward(inputs):
        calls.append(inputs)
        assert not torch.is_grad_enabled()
        if error is not None and len(calls) == 3:
            raise error
        return model(inputs) + torch.rand(())

    attribution = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    if error is None:
        assert not road(forward, x, attribution).combined.requires_grad
    else:
        with pytest.raises(error):
            road(forward, x, attribution)
    assert_same(before, state_of(model))
    assert x.grad is None


def test_additional_arguments_are_split_into_samples():
    x, factors = torch.rand(2, 1, 10), torch.tensor([1.0, 100.0])
    model = lambda x, factor: total(x) * factor  # noqa: E731
    scaled = road(
        model, x, x, output="score", additional_forward_args=factors, batch_size=1
    ).combined
    plain = road(total, x, x, output="score").combined
    torch.testing.assert_close(scaled, plain * factors.double())


def test_a_progress_bar(capsys):
    model, x = conv_net(1), random_input(2, (8,))
    road(model, x, torch.rand(2, 1, 8), progress=True)
    assert "18/18" in capsys.readouterr().err
    road(model, x, torch.rand(2, 1, 8))
    assert capsys.readouterr().err == ""


def test_invalid_arguments():
    model, x, a = conv_net(2), random_input(2, (6, 6)), torch.rand(2, 1, 6, 6)
    with pytest.raises(ValueError, match=r"attribution of shape \(2, 1, 6, 6\)"):
        road(model, x, a[:, 0])
    with pytest.raises(ValueError, match="attribution holds NaN"):
        road(model, x, a * torch.nan)
    with pytest.raises(ValueError, match="output='logit' is not known"):
        road(model, x, a, output="logit")
    with pytest.raises(ValueError, match="batch_size=0"):
        road(model, x, a, batch_size=0)
    with pytest.raises(IndexError, match="target 4 is out of range"):
        road(model, x, a, 4)
    with pytest.raises(ValueError, match=r"noise=-1: expected a standard"):
        road(model, x, a, removal=Removal(noise=-1))
    for fractions in ((), (0.0, 0.5), (1.0,)):
        with pytest.raises(ValueError, match=r"is empty or not in \(0, 1\). Give shares"):
            Removal(fractions)
    with pytest.raises(TypeError, match="fractions=0.5: expected a list of numbers"):
        Removal(0.5)
