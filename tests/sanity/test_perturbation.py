"""Deletion and insertion curves against loops and worked numbers."""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import conv_net, random_input
from sanity_helpers import SIZES, assert_same, pixels, state_of
from scipy.integrate import trapezoid
from torch import nn

from captum_3dcam.sanity import Perturbation, PerturbationCurve, perturbation_curve

shapes = st.integers(1, 3).flatmap(lambda r: st.lists(st.integers(1, 5), min_size=r, max_size=r))


def curve_of(
    forward_func,
    inputs,
    attribution,
    target=None,
    mode="deletion",
    baseline=None,
    steps=50,
    seed=0,
    **options,
):
    perturbation = Perturbation(mode, baseline, steps, seed)
    return perturbation_curve(forward_func, inputs, attribution, target, perturbation, **options)


def weighted(x, weights):
    """A linear model with one score, and its exact attribution."""
    return lambda x: (x * weights).flatten(1).sum(1), (x * weights).sum(1, keepdim=True)


def test_deletion_and_insertion_by_hand():
    x = torch.tensor([[[1.0, 4.0, 2.0, 3.0]]])
    model = lambda x: x.sum(dim=(1, 2))  # noqa: E731
    common = {"attribution": x, "steps": 4, "output": "score", "baseline": "zero"}
    deleted = curve_of(model, x, **common)
    assert deleted.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert deleted.scores.tolist() == [[10, 6, 3, 1, 0]]
    assert deleted.auc.item() == 0.25 * (8 + 4.5 + 2 + 0.5)
    assert deleted.normalized_auc.item() == pytest.approx(0.375)
    inserted = curve_of(model, x, mode="insertion", **common)
    assert inserted.scores.tolist() == [[0, 4, 7, 9, 10]]
    assert inserted.auc.item() == 0.25 * (2 + 5.5 + 8 + 9.5)
    assert inserted.normalized_auc.item() == pytest.approx(0.625)
    halves = curve_of(model, x, **{**common, "steps": 2})
    assert halves.scores.tolist() == [[10, 3, 0]]
    thirds = curve_of(model, x, **{**common, "steps": 3})
    assert thirds.fractions.tolist() == [0, 0.25, 0.75, 1]  # 4/3 and 8/3, to the nearest
    assert thirds.scores.tolist() == [[10, 6, 1, 0]]


def test_normalised_auc_by_hand():
    scores = torch.tensor([[0.8, 0.4, 0.2], [0.2, 0.6, 0.8], [0.5, 0.9, 0.5]]).double()
    curve = PerturbationCurve("deletion", "probability", torch.tensor([0, 0.5, 1]).double(), scores)
    # (0.8 + 0.4) / 4 + (0.4 + 0.2) / 4; and the second's baseline scores higher than its input
    np.testing.assert_allclose(curve.auc, [0.45, 0.55, 0.7])
    expected = [[1, 1 / 3, 0], [1, 1 / 3, 0], [np.nan] * 3]
    np.testing.assert_allclose(curve.normalized_scores, expected, atol=1e-12)
    np.testing.assert_allclose(curve.normalized_auc, [5 / 12, 5 / 12, np.nan])
    inserted = PerturbationCurve("insertion", "probability", curve.fractions, scores)
    expected = [[0, 2 / 3, 1], [0, 2 / 3, 1], [np.nan] * 3]
    np.testing.assert_allclose(inserted.normalized_scores, expected, atol=1e-12)
    np.testing.assert_allclose(inserted.normalized_auc, [7 / 12, 7 / 12, np.nan])


def test_ends_that_differ_by_rounding_are_equal():
    scores = torch.tensor(
        [[0.7, 0.1, 0.7 + 1e-8], [0.7, 0.1, 0.7 + 1e-4], [0.0, 1.0, 0.0]], dtype=torch.float64
    )
    curve = PerturbationCurve("deletion", "score", torch.tensor([0, 0.5, 1]).double(), scores)
    assert curve.normalized_auc.isnan().tolist() == [True, False, True]


@settings(max_examples=40)
@given(shapes, st.integers(0, 10**6), st.data())
def test_curves_of_a_linear_model_are_its_sorted_sums(size, seed, data):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, *size, generator=generator, dtype=torch.float64)
    model, attribution = weighted(x, weights)
    positions = int(np.prod(size))
    steps = data.draw(st.integers(1, positions))
    batch_size = data.draw(st.none() | st.integers(1, 7))
    common = {"steps": steps, "output": "score", "baseline": 0.0, "batch_size": batch_size}
    deleted = curve_of(model, x, attribution, **common)
    inserted = curve_of(model, x, attribution, mode="insertion", **common)
    for n in range(2):
        order = np.sort(attribution[n].numpy().ravel())[::-1]
        counts = [int(np.floor(k * positions / steps + 0.5)) for k in range(steps + 1)]
        top = np.array([order[:m].sum() for m in counts])
        np.testing.assert_allclose(deleted.scores[n], order.sum() - top, atol=1e-9)
        np.testing.assert_allclose(inserted.scores[n], top, atol=1e-9)
        np.testing.assert_allclose(deleted.fractions, np.array(counts) / positions)
        area = trapezoid(deleted.scores[n], np.array(counts) / positions)
        assert deleted.auc[n].item() == pytest.approx(area)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_insertion_is_deletion_the_other_way_round(rank):
    model, x = conv_net(rank), random_input(2, SIZES[rank])
    baseline = random_input(2, SIZES[rank], seed=1)
    attribution = torch.randn(2, 1, *SIZES[rank])
    options = {"target": 1, "steps": 8}
    inserted = curve_of(model, x, attribution, mode="insertion", baseline=baseline, **options)
    # The same as deletion with input and baseline exchanged.
    swapped = curve_of(model, baseline, attribution, baseline=x, **options)
    torch.testing.assert_close(inserted.scores, swapped.scores)
    # Insertion of the most important first, reversed, is deletion of the least important first.
    least = curve_of(model, x, -attribution, baseline=baseline, **options)
    torch.testing.assert_close(inserted.scores, least.scores.flip(1))
    torch.testing.assert_close(inserted.auc, least.auc)
    torch.testing.assert_close(inserted.normalized_auc, least.normalized_auc)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_curves_equal_loops(rank, mode):
    model, x = conv_net(rank), random_input(2, SIZES[rank])
    attribution, baseline = torch.randn(2, 1, *SIZES[rank]), torch.randn(2, 2, *SIZES[rank])
    curve = curve_of(model, x, attribution, mode=mode, baseline=baseline, steps=6)
    positions = int(np.prod(SIZES[rank]))
    for n, k in product(range(2), range(7)):
        ranking = np.argsort(-attribution[n].flatten().numpy())
        old, new = (x, baseline) if mode == "deletion" else (baseline, x)
        mixed = old[n].flatten(1).clone()
        for position in ranking[: int(k * positions / 6 + 0.5)]:
            mixed[:, position] = new[n].flatten(1)[:, position]
        target = model(x)[n].argmax()
        expected = model(mixed.view(1, 2, *SIZES[rank])).softmax(1)[0, target]
        assert curve.scores[n, k].item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_batch_equals_its_samples_whatever_the_batch_size():
    model, x = conv_net(2), random_input(3, (6, 6))
    attribution = torch.randint(0, 3, (3, 1, 6, 6)).float()
    together = curve_of(model, x, attribution, steps=9)
    for batch_size in (1, 2, 1000):
        batched = curve_of(model, x, attribution, steps=9, batch_size=batch_size)
        torch.testing.assert_close(batched.scores, together.scores)
    for n in range(3):
        alone = curve_of(model, x[n : n + 1], attribution[n : n + 1], steps=9)
        torch.testing.assert_close(alone.scores[0], together.scores[n])


def test_ties_are_ordered_by_the_seed():
    x = torch.arange(64.0).view(1, 1, 8, 8)
    model = lambda x: x.flatten(1).sum(1)  # noqa: E731
    flat = torch.zeros_like(x)
    options = {"steps": 64, "output": "score"}
    curves = [curve_of(model, x, flat, seed=seed, **options) for seed in range(20)]
    raster = 2016 - np.cumsum([0, *range(64)])
    assert all(np.abs(curve.scores[0].numpy() - raster).max() > 100 for curve in curves)
    assert len({tuple(curve.scores[0].tolist()) for curve in curves}) == 20
    again = curve_of(model, x, flat, seed=7, **options)
    assert torch.equal(again.scores, curves[7].scores)
    mean = np.mean([curve.normalized_auc.item() for curve in curves])
    assert mean == pytest.approx(0.5, abs=0.04)
    # Values without ties keep their order: the ones first, then the zeros.
    ones = (x >= 32).float()
    curve = curve_of(model, x, ones, **options)
    assert curve.scores[0, 32].item() == sum(range(32))


def test_baselines():
    x = random_input(2, (5, 6, 7)).double()
    seen = []

    def model(x):
        seen.append(x.clone())
        return x.flatten(1).sum(1)

    def tensor_of(baseline, mode="deletion"):
        seen.clear()
        common = {"steps": 1, "output": "score", "mode": mode}
        curve_of(model, x, torch.randn(2, 1, 5, 6, 7), baseline=baseline, **common)
        return seen[-1] if mode == "deletion" else seen[1]

    assert not tensor_of("zero").any()
    means = tensor_of("mean")
    for n, c in product(range(2), range(2)):
        np.testing.assert_allclose(means[n, c], np.full((5, 6, 7), x[n, c].numpy().mean()))
    blurred = naive_blur(x)
    np.testing.assert_allclose(tensor_of("blur"), blurred, atol=1e-12)
    custom = torch.randn(2, 1, 1, 1)
    for baseline in (custom, lambda x: custom, lambda x: custom.float()):
        np.testing.assert_allclose(tensor_of(baseline), custom.expand_as(x), rtol=1e-6)
    assert (tensor_of(0.25) == 0.25).all()
    assert (tensor_of(0) == 0).all()
    # The defaults are those of the paper: zero for deletion, blur for insertion.
    assert not tensor_of(None).any()
    np.testing.assert_allclose(tensor_of(None, "insertion"), blurred, atol=1e-12)


def naive_blur(x):
    blurred = x.numpy().copy()
    for axis in range(2, x.ndim):
        length, before = x.shape[axis], blurred.copy()
        for i in range(length):
            weights = [np.exp(-0.5 * ((i - j) / (0.1 * length)) ** 2) for j in range(length)]
            rows = [w * before.take(j, axis) for j, w in enumerate(weights)]
            index = tuple(slice(None) if a != axis else i for a in range(x.ndim))
            blurred[index] = sum(rows) / sum(weights)
    return blurred


def test_a_blur_keeps_a_constant_and_its_mean():
    x = torch.full((1, 1, 4, 9), 3.0)
    seen = []
    model = lambda x: seen.append(x) or x.flatten(1).sum(1)  # noqa: E731
    common = {"steps": 1, "output": "score", "baseline": "blur"}
    curve_of(model, x, torch.rand(1, 1, 4, 9), **common)
    torch.testing.assert_close(seen[-1], x)


def test_a_model_may_write_into_its_input():
    x = random_input(2, (6, 6))
    model = lambda x: x.relu_().flatten(1).sum(1)  # noqa: E731
    before = x.clone()
    attribution = x.sum(1, keepdim=True)
    curve = curve_of(model, x, attribution, steps=6, output="score")
    assert torch.equal(x, before)
    torch.testing.assert_close(curve.scores[:, 0].float(), x.relu().flatten(1).sum(1))


def test_no_forward_pass_exceeds_batch_size():
    model, x, sizes = conv_net(2), random_input(5, (6, 6)), []
    forward = lambda x: sizes.append(len(x)) or model(x)  # noqa: E731
    curve = curve_of(forward, x, torch.rand(5, 1, 6, 6), steps=4, batch_size=2)
    assert max(sizes) == 2
    assert curve.target == model(x).argmax(1).tolist()


def test_outputs():
    model, x = conv_net(2), random_input(2, (6, 6))
    attribution, common = torch.rand(2, 1, 6, 6), {"target": [3, 1], "steps": 1}
    scores = model(x)[[0, 1], [3, 1]].double()
    softmax = model(x).softmax(1)[[0, 1], [3, 1]].double()
    for output, expected in (
        ("score", scores),
        ("probability", softmax),
        (torch.sigmoid, scores.sigmoid()),
    ):
        curve = curve_of(model, x, attribution, output=output, **common)
        torch.testing.assert_close(curve.scores[:, 0], expected, rtol=1e-5, atol=1e-6)
    assert curve.output == "sigmoid"
    one = conv_net(2, classes=1)
    curve = curve_of(one, x, attribution, output=torch.sigmoid, steps=3)
    torch.testing.assert_close(curve.scores[:, 0], one(x)[:, 0].double().sigmoid())


@pytest.mark.parametrize("target", [[3, 1], torch.tensor([3, 1]), np.array([3, 1])])
def test_per_sample_targets(target):
    model, x = conv_net(2), random_input(2, (6, 6))
    curve = curve_of(model, x, torch.rand(2, 1, 6, 6), target, steps=7, batch_size=3)
    for column, image in ((0, x), (-1, x * 0)):
        expected = model(image).softmax(1)[[0, 1], [3, 1]]
        torch.testing.assert_close(curve.scores[:, column].float(), expected)


@pytest.mark.parametrize("target", [2, torch.tensor(2), torch.tensor([2]), np.int64(2)])
def test_one_target_for_all_samples(target):
    model, x = conv_net(2), random_input(2, (6, 6))
    curve = curve_of(model, x, torch.rand(2, 1, 6, 6), target, steps=2)
    torch.testing.assert_close(curve.scores[:, 0].float(), model(x).softmax(1)[:, 2])


def test_dense_outputs_take_tuples_as_targets():
    model, x = nn.Conv2d(2, 3, 1), random_input(2, (4, 4))
    for target in ((1, 2, 3), [(1, 2, 3), (0, 0, 1)]):
        curve = curve_of(model, x, torch.rand(2, 1, 4, 4), target, steps=3)
        entries = target if isinstance(target, list) else [target] * 2
        expected = [model(x).softmax(1)[(n, *entries[n])].item() for n in range(2)]
        np.testing.assert_allclose(curve.scores[:, 0], expected, rtol=1e-5)


def test_additional_tensors_are_split_into_samples():
    x, factors = torch.rand(2, 1, 5), torch.tensor([1.0, 100.0])

    def model(x, factor, offset):
        return x.sum(dim=(1, 2)) * factor + offset

    curve = curve_of(
        model,
        x,
        x,
        steps=5,
        batch_size=3,
        output="score",
        additional_forward_args=(factors, torch.tensor(0.5)),
    )
    expected = curve_of(lambda x: x.sum(dim=(1, 2)), x, x, steps=5, output="score")
    torch.testing.assert_close(curve.scores, expected.scores * factors[:, None].double() + 0.5)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_model_does_not_change(error):
    model, x = conv_net(2, norm=True).train(), random_input(3, (6, 6)).requires_grad_()
    model[0].eval()
    before, calls = state_of(model), []

    def forward(inputs):
        calls.append(inputs)
        assert not torch.is_grad_enabled()
        assert model.training
        if error is not None and len(calls) == 3:
            raise error
        return model(inputs) + torch.rand(())

    def run():
        attribution = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        return curve_of(forward, x, attribution.requires_grad_(), steps=4)

    if error is None:
        assert not run().scores.requires_grad
    else:
        with pytest.raises(error):
            run()
    assert_same(before, state_of(model))
    assert x.grad is None
    assert torch.is_grad_enabled()


def test_a_good_map_beats_its_reverse():
    """The score depends on one corner of space-time, which the map marks."""
    x = torch.rand(2, 1, 4, 6, 6) + 1
    model = lambda x: x[:, :, :2, :3, :3].flatten(1).sum(1)  # noqa: E731
    attribution = torch.zeros_like(x)
    attribution[:, :, :2, :3, :3] = 1
    options = {"steps": 16, "output": "score"}
    auc = {
        (mode, sign): curve_of(model, x, sign * attribution, mode=mode, baseline="zero", **options)
        .normalized_auc.max()
        .item()
        for mode, sign in product(("deletion", "insertion"), (1, -1))
    }
    assert auc["deletion", 1] < 0.1 < 0.9 < auc["deletion", -1]
    assert auc["insertion", -1] < 0.1 < 0.9 < auc["insertion", 1]


def test_invalid_arguments_raise():
    model, x, a = conv_net(2), random_input(2, (6, 6)), torch.rand(2, 1, 6, 6)
    cases = [
        (
            {"attribution": torch.rand(2, 2, 6, 6)},
            r"\(2, 1, 6, 6\), .* got shape \(2, 2, 6, 6\). Sum",
        ),
        ({"attribution": torch.rand(2, 1, 3, 3)}, "with captum_3dcam.functional.upsample"),
        ({"attribution": (a,)}, "got tuple. Sum over channels"),
        ({"attribution": a * torch.nan}, "holds NaN, so its positions cannot be ranked"),
        ({"inputs": x[:, 0, 0]}, r"one tensor \(N, C, \*S\); got shape \(2, 6\)"),
        ({"inputs": (x, x)}, "got tuple. Pass other arguments"),
        ({"mode": "both"}, "mode='both' is not known. Choose one of 'deletion', 'insertion'"),
        ({"steps": 37}, "steps=37: expected at most 36, the positions of the map"),
        ({"steps": 0}, "steps=0: expected an integer, 1 or more"),
        ({"batch_size": 0}, "batch_size=0: expected an integer, 1 or more"),
        ({"baseline": "black"}, "baseline='black' is not known. Choose one of 'zero', 'mean', 'b"),
        (
            {"baseline": torch.rand(5, 5)},
            r"shape \(5, 5\), which does not broadcast to .*\(2, 2, 6",
        ),
        ({"output": "logit"}, "output='logit' is not known. Choose one of 'probability', 'sc"),
        ({"target": [1]}, "1 entries for a batch of 2"),
        (
            {"forward_func": lambda x: x.sum(dim=(1, 2, 3))},
            "Pass output='score', or output=torch.s",
        ),
        (
            {"forward_func": lambda x: x.sum(), "output": "score"},
            r"scores \(N, \.\.\.\), batch first; it returned shape \(\) for 2",
        ),
        ({"forward_func": lambda x: x}, "needs a target"),
    ]
    for changes, message in cases:
        arguments = {"forward_func": model, "inputs": x, "attribution": a, "steps": 4}
        with pytest.raises(ValueError, match=message):
            curve_of(**arguments | changes)
    with pytest.raises(IndexError, match="target 4 is out of range"):
        curve_of(model, x, a, target=4, steps=4)
    with pytest.raises(
        TypeError, match="must return a tensor of scores, or a container with one; it returned list"
    ):
        curve_of(lambda x: [model(x), x], x, a, steps=4)


def test_a_target_may_be_a_function_of_the_output():
    model, x = conv_net(2), random_input(2, (6, 6))
    curve = curve_of(model, x, torch.rand(2, 1, 6, 6), target=lambda y: y[:, 1], steps=3)
    expected = curve_of(model, x, torch.rand(2, 1, 6, 6), target=1, steps=3)
    torch.testing.assert_close(curve.scores[:, 0], expected.scores[:, 0])


def test_a_progress_bar(capsys):
    model, x = conv_net(1), random_input(2, (8,))
    curve_of(model, x, torch.rand(2, 1, 8), steps=8, progress=True)
    assert "9/9" in capsys.readouterr().err
    curve_of(model, x, torch.rand(2, 1, 8), steps=8)
    assert capsys.readouterr().err == ""


def test_a_plot_of_curves_on_one_axis():
    model, x = conv_net(2), random_input(3, (6, 6))
    good, bad = (
        curve_of(model, x, torch.rand(3, 1, 6, 6), target, steps=6, mode="insertion")
        for target in model(x).mean(0).argsort()[[0, -1]]  # the second one lies higher
    )
    fig, ax = good.plot(label="ours")
    assert bad.plot((fig, ax), label="theirs", title="insertion") == (fig, ax)
    ours, theirs = ax.lines
    np.testing.assert_allclose(ours.get_xdata(), good.fractions)
    np.testing.assert_allclose(ours.get_ydata(), good.scores.mean(0))
    assert ours.get_label() == f"ours, AUC {good.auc.mean():.3f}"
    assert ours.get_color() != theirs.get_color()
    assert ours.get_linestyle() != theirs.get_linestyle()
    assert ax.get_xlabel() == "fraction of space-time inserted"
    assert ax.get_ylabel() == "probability of the target"
    low, high = ax.get_ylim()
    assert low <= 0
    assert high > max(curve.scores.mean(0).max() for curve in (good, bad))
    assert pixels(fig).min() < 128
    figure, axes = plt.subplots(1, 2)
    assert good.plot((figure, axes[1])) == (figure, axes[1])
    assert [len(a.lines) for a in axes] == [0, 1]
    plt.close(figure)
