"""Maps of several targets, drawn together."""

import torch

from captum_3dcam._capture.reduction import LayerFactors
from captum_3dcam._passes import Pass, draw_maps


def test_targets_with_as_many_calls_are_one_batch_of_several_times_the_samples():
    values = [[1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0]]  # of each target, those of its calls
    samples = torch.tensor([1.0, 10.0]).reshape(2, 1, 1)
    passes = [
        Pass([[LayerFactors((value * samples,), {}) for value in of_calls]], [], {})
        for of_calls in values
    ]
    batches = []

    def draw(factors):
        ((*calls,),) = factors
        total = sum(call.factors[0] for call in calls)
        batches.append(len(total))
        return total, -total

    maps = list(draw_maps(passes, draw))
    assert batches == [4, 2, 2]
    assert [len(of_target) for of_target in maps] == [2, 2, 2, 2]
    for of_calls, (total, opposite) in zip(values, maps, strict=True):
        assert torch.equal(total, sum(of_calls) * samples)
        assert torch.equal(opposite, -total)
