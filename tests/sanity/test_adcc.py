"""ADCC against worked numbers and loops."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from networks import conv_net, random_input
from sanity_helpers import SIZES, assert_same, state_of

from captum_3dcam import LayerwiseGradCAM
from captum_3dcam.sanity import ADCCScores, adcc


def scores_of(coherency, complexity, drop):
    return ADCCScores(*(torch.tensor(values).double() for values in (coherency, complexity, drop)))


def test_adcc_by_hand():
    scores = scores_of([0.8, 0.5, 1.0, 0.0, 0.7], [0.2, 0.5, 0.0, 0.1, 1.0], [0.2, 0.5, 0.0, 0, 0])
    # Three equal parts have their value; one part of zero makes zero.
    np.testing.assert_allclose(scores.adcc, [0.8, 0.5, 1, 0, 0])
    mixed = scores_of([0.9], [0.25], [0.4])
    assert mixed.adcc.item() == pytest.approx(3 / (1 / 0.9 + 4 / 3 + 5 / 3))
    assert scores_of([0.9], [1 + 1e-15], [0.4]).adcc.item() == 0
    assert scores_of([0.9], [0.2], [1.0]).adcc.item() == 0


def test_the_parts_of_maps_by_hand():
    first = torch.tensor([[[4.0, 2.0, 0.0, -9.0]], [[1.0, 0.0, 0.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]]])
    second = torch.tensor([[[2.0, 1.0, 0.0, -1.0]], [[0.0, 3.0, 3.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]]])
    scores = ADCCScores.from_maps(first, second, torch.zeros(3).double())
    # Their positive parts are proportional; opposite; and the last one is constant.
    np.testing.assert_allclose(scores.coherency, [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(scores.complexity, [1.5 / 4, 2 / 4, 1])
    swapped = ADCCScores.from_maps(second, first, torch.zeros(3).double())
    np.testing.assert_allclose(swapped.coherency, scores.coherency, atol=1e-12)
    empty = ADCCScores.from_maps(first * 0, first * 0, torch.ones(3).double())
    assert empty.coherency.tolist() == empty.complexity.tolist() == empty.adcc.tolist() == [0] * 3


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_adcc_equals_loops(rank):
    model, x = conv_net(rank, seed=4), random_input(3, SIZES[rank])
    cam = LayerwiseGradCAM(model, "0")
    scores = adcc(cam, x, batch_size=2)
    for n in range(3):
        image = x[n : n + 1]
        target = model(image).argmax().item()
        first = cam.attribute(image, target=target)
        explained = first / first.max()
        masked = image * explained
        second = cam.attribute(masked, target=target)
        rho = np.corrcoef(first.flatten().numpy(), second.flatten().numpy())[0, 1]
        before, after = (model(i).softmax(1)[0, target].item() for i in (image, masked))
        coherency, complexity = (1 + rho) / 2, explained.mean().item()
        drop = max(0, before - after) / before
        assert scores.coherency[n].item() == pytest.approx(coherency, abs=1e-5)
        assert scores.complexity[n].item() == pytest.approx(complexity, abs=1e-6)
        assert scores.drop[n].item() == pytest.approx(drop, abs=1e-5)
        expected = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))
        assert scores.adcc[n].item() == pytest.approx(expected, abs=1e-5)


def test_a_function_and_the_model_beside_it():
    model, x = conv_net(2), random_input(2, (8, 6))
    seen = []

    def explain(inputs, target=None):
        seen.append((inputs, target))
        return inputs[:, :1].abs()

    scores = adcc(explain, x, [1, 2], forward_func=model)
    assert [target for _, target in seen] == [[1, 2], [1, 2]]
    heat = x[:, :1].abs() / x[:, :1].abs().amax(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(seen[1][0], x * heat)
    assert scores.coherency.shape == scores.adcc.shape == (2,)


def test_additional_arguments_reach_both():
    x, offset = torch.rand(2, 1, 6), torch.tensor([0.0, 1.0])
    model = lambda x, offset: torch.stack([x.sum(dim=(1, 2)) + offset, x[:, 0, 0]], dim=1)  # noqa: E731

    def explain(inputs, target=None, additional_forward_args=None):
        assert additional_forward_args is offset
        return inputs

    assert adcc(explain, x, 0, forward_func=model, additional_forward_args=offset).drop.all()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_model_does_not_change(error):
    model, x = conv_net(2, norm=True).train(), random_input(2, (8, 6))
    before, calls = state_of(model), []
    cam = LayerwiseGradCAM(model, "0")

    def explain(inputs, target=None):
        calls.append(inputs)
        if error is not None and len(calls) == 2:
            raise error
        return cam.attribute(inputs, target=target)

    if error is None:
        adcc(explain, x, forward_func=model)
    else:
        with pytest.raises(error):
            adcc(explain, x, forward_func=model)
    assert_same(before, state_of(model))


def test_invalid_arguments():
    model, x = conv_net(2), random_input(2, (8, 6))
    with pytest.raises(ValueError, match="not known. Pass it as forward_func, or pass a Captum"):
        adcc(lambda inputs, target: inputs[:, :1], x)
    with pytest.raises(
        ValueError, match=r"attribution of shape \(2, 1, 8, 6\), .*got shape \(2, 2"
    ):
        adcc(lambda inputs, target: inputs, x, forward_func=model)
    with pytest.raises(ValueError, match="resize the map of a layer"):
        adcc(LayerGradCam(model, model[1]), x)
    with pytest.raises(TypeError, match="An attribution must return one tensor"):
        adcc(lambda inputs, target: [inputs], x, forward_func=model)
    with pytest.raises(IndexError, match="target 9 is out of range"):
        adcc(LayerwiseGradCAM(model, "0"), x, 9)
