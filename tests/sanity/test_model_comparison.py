"""Maps of two models."""

import pytest
import torch
from captum.attr import Saliency
from networks import conv_net, random_input
from sanity_helpers import assert_same, state_of

from captum_3dcam.sanity import compare_models, rank_correlation


def test_a_model_equals_itself_and_its_target_is_kept():
    model, other, x = conv_net(2, seed=0), conv_net(2, seed=1), random_input(3, (12, 12))
    same = compare_models(Saliency, model, model, x)
    assert same.target == model(x).argmax(1).tolist()
    for values in same.similarities.values():
        torch.testing.assert_close(values, torch.ones(3).double())
    differ = compare_models(Saliency, model, other, x)
    a, b = (Saliency(m).attribute(x.clone().requires_grad_(), same.target) for m in (model, other))
    torch.testing.assert_close(differ.similarities["rank_correlation"], rank_correlation(a, b))
    assert differ.similarities["rank_correlation"].max() < 0.9


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_neither_model_changes(error):
    models = [conv_net(2, norm=True, seed=seed).train() for seed in (0, 1)]
    before = [state_of(model) for model in models]

    def make(m):
        def explain(inputs, target):
            m(inputs).sum().backward()
            if error is not None:
                raise error
            return inputs + torch.rand(())

        return explain

    if error is None:
        compare_models(make, *models, random_input(2, (6, 6)))
    else:
        with pytest.raises(error):
            compare_models(make, *models, random_input(2, (6, 6)))
    for model, state in zip(models, before, strict=True):
        assert_same(state, state_of(model))
