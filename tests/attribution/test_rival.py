"""What speaks against a class: the formula, its invariants, and networks with a known answer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    CONV,
    POOL,
    conv_net,
    naive_what_where,
    positive,
    random_input,
)
from torch import nn
from torch.testing import assert_close

from captum_3dcam import CounterfactualCAM, LayerwiseWhatWhereCAM, explain, functional
from captum_3dcam.attribution import RivalCAM

# ------------------------------------------------------------------------------- the formula


def pairs_of_score(net, x, depth, score):
    """Activation and gradient of each of the first blocks, for a function of the logits."""
    y, kept = x.clone().requires_grad_(), []
    for position, module in enumerate(net):
        y = module(y)
        if position < depth:
            kept.append(y)
    gradients = torch.autograd.grad(score(y).sum(), kept)
    return [(a.detach().numpy(), g.numpy()) for a, g in zip(kept, gradients, strict=True)]


def naive_rival(net, x, depth, score):
    """From the score itself: the negative part of its net effect, and of its energy."""
    pairs, size = pairs_of_score(net, x, depth, score), tuple(x.shape[2:])
    negated = [[(a[i], -g[i]) for a, g in pairs] for i in range(len(x))]
    maps = [naive_what_where(each, size, positive) for each in negated]
    return torch.stack([torch.from_numpy(m) for m in maps])[:, None]


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_agrees_with_its_naive_derivation(rank, depth, seed):
    net = conv_net(rank, depth, seed=seed).double()
    x = random_input(2, (7, 6, 5)[:rank], seed=seed).double()
    names = [str(layer) for layer in range(depth)]

    def log_odds(y):
        return y[:, 1] - torch.logsumexp(y[:, [0, 2, 3]], dim=1)

    found = RivalCAM(net, names).attribute(x, target=1)
    assert_close(found, naive_rival(net, x, depth, log_odds), rtol=1e-6, atol=1e-6)
    found = RivalCAM(net, names, rival=3).attribute(x, target=1)
    expected = naive_rival(net, x, depth, lambda y: y[:, 1] - y[:, 3])
    assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


class ForCAM(LayerwiseWhatWhereCAM):
    """What speaks for a score, by the rule of RivalCAM."""

    rule = staticmethod(functional.effect_for)


NET, X, NAMES = conv_net(2, depth=2, seed=4), random_input(3, (9, 8), seed=4), ["0", "1"]


def test_it_is_the_map_of_the_negated_log_probability():
    negated = ForCAM(NET, NAMES).attribute(X, target=lambda scores: -scores.log_softmax(1)[:, 2])
    found = RivalCAM(NET, NAMES).attribute(X, target=2)
    assert found.amax() > 0.1
    assert_close(found, negated, rtol=1e-3, atol=1e-4)


def test_what_speaks_against_a_class_speaks_for_its_rival():
    for_rival = ForCAM(NET, NAMES).attribute(X, target=lambda scores: scores[:, 3] - scores[:, 0])
    assert_close(RivalCAM(NET, NAMES, rival=3).attribute(X, target=0), for_rival)
    forms = [[0, 0, 0], torch.tensor([0, 0, 0]), (0,)]
    for target in forms:
        assert_close(RivalCAM(NET, NAMES, rival=3).attribute(X, target=target), for_rival)


def test_a_certain_class_has_a_map():
    """Where the log-probability is 0 and has no gradient."""

    class Certain(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = NET

        def forward(self, x):
            return self.net(x) + torch.tensor([300.0, 0.0, 0.0, 0.0])

    names = ["net.0", "net.1"]
    model = Certain().eval()
    saturated = ForCAM(model, names).attribute(
        X, target=lambda scores: -scores.log_softmax(1)[:, 0]
    )
    assert not saturated.any()
    found = RivalCAM(model, names).attribute(X, target=0)
    assert_close(found, RivalCAM(NET, NAMES).attribute(X, target=0), rtol=1e-3, atol=1e-3)
    assert found.any()


def test_samples_do_not_depend_on_each_other():
    targets, rivals = [0, 1, 2], [3, 0, 1]
    together = RivalCAM(NET, NAMES, rival=rivals).attribute(X, target=targets)
    for i, (target, rival) in enumerate(zip(targets, rivals, strict=True)):
        alone = RivalCAM(NET, NAMES, rival=rival).attribute(X[i : i + 1], target=target)
        assert_close(together[i : i + 1], alone)


def test_the_predicted_class_is_the_default():
    predicted = NET(X).argmax(1)
    assert_close(
        RivalCAM(NET, NAMES).attribute(X), RivalCAM(NET, NAMES).attribute(X, target=predicted)
    )


def test_several_classes_and_layers():
    cam = RivalCAM(NET, NAMES)
    maps, classes = cam.attribute_top_k(X, 2)
    for k in range(2):
        assert_close(maps[:, [k]], cam.attribute(X, target=classes[:, k]))
    both = cam.attribute_classes(X, [1, 2])
    assert_close(both[:, [1]], cam.attribute(X, target=2))
    for name, layer_map in zip(NAMES, cam.attribute(X, 1, per_layer=True), strict=True):
        assert_close(layer_map, RivalCAM(NET, name).attribute(X, 1))
    _, output = cam.attribute_with_output(X, 1)
    assert_close(output, NET(X))


def test_a_single_logit_and_a_segmentation():
    single = nn.Sequential(*NET[:2], POOL[2](1), nn.Flatten(), nn.Linear(3, 1)).eval()
    found = RivalCAM(single, NAMES).attribute(X)
    negated = ForCAM(single, NAMES).attribute(X, target=lambda y: -y[:, 0])
    assert_close(found, negated)
    dense = nn.Sequential(*NET[:2], CONV[2](3, 4, 1)).eval()

    def score(y):
        is_predicted = y.argmax(1) == 1
        return -((y[:, 1] - y[:, 3]) * is_predicted).sum((1, 2))

    expected = ForCAM(dense, NAMES).attribute(X, target=score)
    assert_close(RivalCAM(dense, NAMES, rival=3).attribute(X, target=1), expected)


def test_a_function_of_the_contrast():
    cam = RivalCAM(NET, NAMES, rival=3)
    assert_close(cam.attribute(X, target=lambda y: y[:, 0]), cam.attribute(X, target=0))


# ------------------------------------------------------------------------- a known answer


def detector(rank):
    """Each class counts the positive values of its own input channel; in two layers."""
    first, second = CONV[rank](3, 3, 1), CONV[rank](3, 3, 1, bias=False)
    identity = torch.eye(3).reshape(3, 3, *[1] * rank)
    first.weight.data.copy_(identity)
    first.bias.data.fill_(0.1)  # zero is not what "nothing there" looks like
    second.weight.data.copy_(identity)
    return nn.Sequential(
        nn.Sequential(first, nn.ReLU()),
        nn.Sequential(second, nn.ReLU()),
        POOL[rank](1),
        nn.Flatten(),
    ).eval()


def scene(rank):
    """An object of each of three classes, in corners of their own; and the masks."""
    size = [12] * rank
    x, masks = torch.zeros(1, 3, *size), torch.zeros(3, *size, dtype=torch.bool)
    for number, start in enumerate((0, 4, 8)):
        window = (slice(start, start + 4), *[slice(start, start + 4)] * (rank - 1))
        masks[(number, *window)] = True
        x[(0, number, *window)] = 1.0
    return x, masks


def shares(attribution, masks):
    total = attribution.sum()
    return [float(attribution[0, 0][mask].sum() / total) for mask in masks]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_rival_that_is_named_is_marked_and_no_other(rank):
    net, (x, masks) = detector(rank), scene(rank)
    for rival, other in ((1, 2), (2, 1)):
        attribution = RivalCAM(net, ["0", "1"], rival=rival).attribute(x, target=0)
        found = shares(attribution, masks)
        assert found[rival] > 0.95
        assert max(found[0], found[other]) < 1e-6


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_all_rivals_are_marked_and_the_class_is_not(rank):
    net, (x, masks) = detector(rank), scene(rank)
    own, *others = shares(RivalCAM(net, ["0", "1"]).attribute(x, target=0), masks)
    assert own < 1e-6
    assert min(others) > 0.4
    # The paper's asks where the gradient is negative and anything is active: here nowhere.
    assert not CounterfactualCAM(net, ["0", "1"]).attribute(x, target=0).any()


def test_without_what_it_marks_the_class_is_more_likely():
    net, (x, _) = detector(2), scene(2)
    attribution = RivalCAM(net, ["0", "1"]).attribute(x, target=0)
    marked = attribution > 0.5 * attribution.max()
    before = net(x).softmax(1)[0, 0]
    assert net(x.masked_fill(marked, 0)).softmax(1)[0, 0] > before
    assert net(x.masked_fill(~marked, 0)).softmax(1)[0, 0] < before


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("rival", "target", "error", "text"),
    [
        (1, 1, ValueError, r"rival=\[1\] is the class that is explained, of sample\(s\) 0, 1, 2"),
        ([0, 1, 2], [1, 1, 0], ValueError, r"rival=\[0, 1, 2\] is the class .* sample\(s\) 1\."),
        (1, (1,), ValueError, "is the class that is explained"),
        (9, 1, IndexError, r"rival=\[9\] is out of range"),
        ([0, 1], 2, ValueError, "one for each of the 3 samples"),
    ],
)
def test_rivals_that_do_not_fit(rival, target, error, text):
    cam = RivalCAM(NET, NAMES, rival=rival)
    with pytest.raises(error, match=text):
        cam.attribute(X, target=target)


def test_a_predicted_class_cannot_be_its_own_rival():
    predicted = NET(X).argmax(1)
    with pytest.raises(ValueError, match="is the class that is explained"):
        RivalCAM(NET, NAMES, rival=predicted).attribute(X)


def test_a_rival_that_is_no_class_is_refused_at_once():
    with pytest.raises(ValueError, match="rival='rock': expected an integer, 0 or more"):
        RivalCAM(NET, NAMES, rival="rock")
    with pytest.raises(TypeError, match="fusion"):
        RivalCAM(NET, NAMES, fusion="sum")


def test_the_name_and_the_rival_are_shown():
    assert RivalCAM.get_name() == "Rival CAM"
    assert "rival=[3]" in repr(RivalCAM(NET, NAMES, rival=3))
    assert "rival" not in repr(RivalCAM(NET, NAMES)).replace("RivalCAM", "")


# ----------------------------------------------------------------------------------- explain


def test_explain_takes_it_alone():
    explanation = explain(NET, X[:1], [2], method=RivalCAM, layers=NAMES)
    assert_close(explanation.attribution, RivalCAM(NET, NAMES).attribute(X[:1], target=2))


def test_a_comparison_of_methods_that_explain_other_scores_is_refused():
    with pytest.raises(ValueError, match="RivalCAM explains another score"):
        explain(NET, X[:1], [2], method=RivalCAM, layers=NAMES, compare=["GradCAM"])
