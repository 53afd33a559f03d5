"""Maps of other labels."""

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from networks import conv_net, random_input
from sanity_helpers import assert_same, edges, state_of
from torch import nn

from captum_3dcam import LayerwiseHiResCAM
from captum_3dcam.sanity import MapComparison, label_sensitivity, rank_correlation


def test_label_sensitivity_compares_the_target_with_each_other_label():
    model, x = conv_net(2), random_input(2, (12, 12))
    maps = [Saliency(model).attribute(x.clone().requires_grad_(), target=t) for t in range(4)]
    result = label_sensitivity(Saliency(model), x, target=1, other_targets=[0, 3, [1, 2]])
    correlations = result.similarities["rank_correlation"]
    assert correlations.shape == (3, 2)
    torch.testing.assert_close(correlations[0], rank_correlation(maps[1], maps[0]))
    torch.testing.assert_close(correlations[1], rank_correlation(maps[1], maps[3]))
    assert correlations[2, 0].item() == pytest.approx(1)
    assert result.target == 1
    assert result.other_targets == (0, 3, [1, 2])


def test_drawn_labels_differ_from_the_target_and_each_other_and_depend_on_the_seed():
    model, x = conv_net(2, classes=5), random_input(3, (6, 6))
    result = label_sensitivity(Saliency(model), x, target=torch.tensor([0, 4, 2]), other_targets=4)
    drawn = np.array(result.other_targets)
    assert [sorted(column) for column in drawn.T] == [[1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 3, 4]]

    def draw(seed):
        return label_sensitivity(Saliency(model), x, 0, 1, comparison=MapComparison(seed=seed))

    draws = {tuple(draw(seed).other_targets[0]) for seed in range(12)}
    assert len(draws) > 1
    alone = label_sensitivity(Saliency(model), x[1:2], target=4, other_targets=4)
    assert list(alone.other_targets) == drawn[:, 1].tolist()


def test_the_default_target_is_the_predicted_class():
    model, x = conv_net(2), random_input(2, (6, 6))
    for attribution in (Saliency(model), LayerwiseHiResCAM(lambda x: model(x), model[0])):
        result = label_sensitivity(attribution, x, other_targets=3)
        assert result.target == model(x).argmax(1).tolist()
        assert (np.array(result.other_targets) != np.array(result.target)).all()


def test_a_class_agnostic_map_has_similarity_1():
    result = label_sensitivity(edges, random_input(2, (6, 6)), target=0, other_targets=[1, 2])
    assert (result.similarities["rank_correlation"] == 1).all()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_model_does_not_change(error):
    model, x = conv_net(2, norm=True).train(), random_input(2, (6, 6))
    before, calls = state_of(model), []

    def explain(inputs, target):
        calls.append(model(inputs))
        if error is not None and len(calls) == 2:
            raise error
        return inputs + torch.rand(()) + np.random.rand()

    if error is None:
        label_sensitivity(explain, x, target=0, other_targets=[1, 2])
    else:
        with pytest.raises(error):
            label_sensitivity(explain, x, target=0, other_targets=[1, 2])
    assert_same(before, state_of(model))


def test_labels_that_do_not_fit_raise():
    model, x = conv_net(2), random_input(2, (6, 6))
    with pytest.raises(
        ValueError, match="other_targets=4: expected from 1 to 3, the number of other"
    ):
        label_sensitivity(Saliency(model), x, other_targets=4)
    with pytest.raises(ValueError, match="other_targets is empty. Pass at least one"):
        label_sensitivity(Saliency(model), x, target=0, other_targets=[])
    with pytest.raises(ValueError, match="The model of a plain function is not known"):
        label_sensitivity(edges, x, target=0)
    dense = nn.Sequential(nn.Conv2d(2, 3, 1))
    with pytest.raises(ValueError, match=r"an output of shape \(2, 3, 6, 6\) and target=\(0, 1, 1"):
        label_sensitivity(Saliency(dense), x, target=(0, 1, 1))


def test_a_progress_bar(capsys):
    model, x = conv_net(1), random_input(2, (8,))
    label_sensitivity(Saliency(model), x, progress=True)
    assert "3/3" in capsys.readouterr().err
    label_sensitivity(Saliency(model), x)
    assert capsys.readouterr().err == ""
