"""Pixel average precision and relevance rank accuracy against scikit-learn, loops and Quantus."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from captum_3dcam import metrics

NAN, INF = float("nan"), float("inf")
SCORES = (metrics.pixel_average_precision, metrics.relevance_rank_accuracy)


def random_case(seed, levels):
    """Maps of so many different values, and masks with a pixel inside."""
    generator = np.random.default_rng(seed)
    size = tuple(generator.integers(1, 6, size=generator.integers(1, 4)))
    maps = generator.integers(-levels, levels + 1, size=(3, *size)) / levels
    masks = generator.random(maps.shape) < generator.random()
    masks.reshape(3, -1)[:, generator.integers(np.prod(size))] = True
    return torch.from_numpy(maps), torch.from_numpy(masks)


def naive_average_precision(values, inside):
    """One threshold at each distinct value, from the highest down."""
    area, recall = 0.0, 0.0
    for value in sorted(set(values), reverse=True):
        chosen = [i for v, i in zip(values, inside, strict=True) if v >= value]
        area += (sum(chosen) / sum(inside) - recall) * sum(chosen) / len(chosen)
        recall = sum(chosen) / sum(inside)
    return area


def naive_rank_accuracy(values, inside, orders=2000):
    """The mean over random orders of equal pixels."""
    generator = np.random.default_rng(0)
    hits = []
    for _ in range(orders):
        order = sorted(range(len(values)), key=lambda i: (-values[i], generator.random()))
        hits.append(np.mean([inside[i] for i in order[: sum(inside)]]))
    return np.mean(hits)


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 1000]))
def test_average_precision_is_scikit_learns_and_that_of_a_loop(seed, levels):
    maps, masks = random_case(seed, levels)
    result = metrics.pixel_average_precision(maps, masks)
    for n in range(3):
        values, inside = maps[n].flatten().tolist(), masks[n].flatten().tolist()
        assert result[n].item() == pytest.approx(naive_average_precision(values, inside))
        assert result[n].item() == pytest.approx(average_precision_score(inside, values))


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_rank_accuracy_without_ties_counts_the_highest_pixels(seed):
    generator = np.random.default_rng(seed)
    maps, masks = random_case(seed, 1)
    values = torch.from_numpy(generator.permutation(maps.numel())).reshape(maps.shape)
    result = metrics.relevance_rank_accuracy(values, masks)
    for n in range(3):
        inside = masks[n].flatten().numpy()
        highest = values[n].flatten().numpy().argsort()[::-1][: inside.sum()]
        assert result[n].item() == pytest.approx(inside[highest].mean())


@pytest.mark.parametrize("seed", range(4))
def test_rank_accuracy_with_ties_is_the_mean_over_their_orders(seed):
    maps, masks = random_case(seed, 1)
    result = metrics.relevance_rank_accuracy(maps, masks)
    for n in range(3):
        expected = naive_rank_accuracy(maps[n].flatten().tolist(), masks[n].flatten().tolist())
        assert result[n].item() == pytest.approx(expected, abs=0.03)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([2, 1000]))
def test_no_monotone_change_of_a_map_matters(seed, levels):
    maps, masks = random_case(seed, levels)
    for score in SCORES:
        expected = score(maps, masks)
        for changed in (maps * 7 - 100, maps**3, maps.exp(), torch.sign(maps) * maps.abs().sqrt()):
            torch.testing.assert_close(score(changed, masks), expected)
        order = torch.randperm(maps[0].numel())
        shuffled = (t.flatten(1)[:, order] for t in (maps, masks))
        torch.testing.assert_close(score(*shuffled), expected)


def test_by_hand():
    maps = torch.tensor([[0.9, 0.1, 0.5, 0.5, 0.2], [5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5]])
    masks = torch.tensor(
        [[True, False, True, False, False]] + [[True, True, False, False, False]] * 2
    )
    # A precision of 1 at the first; then both of the equal ones are taken, 2 of 3.
    expected = [(1 + 2 / 3) / 2, 1, (1 / 4 + 2 / 5) / 2]
    np.testing.assert_allclose(metrics.pixel_average_precision(maps, masks), expected)
    # The second rank is shared by a pixel inside and one outside.
    np.testing.assert_allclose(metrics.relevance_rank_accuracy(maps, masks), [1.5 / 2, 1, 0])


@pytest.mark.parametrize("score", SCORES)
def test_a_constant_map_is_chance_and_undefined_ones_are_zero(score):
    masks = torch.tensor([True, True, True, False]).expand(5, 4)
    maps = torch.tensor([[7.0] * 4, [0] * 4, [1, NAN, 2, 3], [1, INF, 2, 3], [-INF, 1, 2, 3]])
    assert score(maps, masks).tolist() == [0.75, 0.75, 0, 0, 0]
    assert score(maps, masks & False).tolist() == [0] * 5
    assert score(maps[:0], masks[:0]).tolist() == []
    everything = score(maps[:2], torch.ones(2, 4, dtype=torch.bool))
    assert everything.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
@pytest.mark.parametrize("score", SCORES)
def test_maps_of_any_type(score, dtype):
    maps = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]]).to(dtype)
    masks = torch.tensor([[False, True, False, False], [True, True, False, False]])
    result = score(maps, masks)
    assert result.dtype == torch.float64
    assert result.tolist() == [0.5, 1]


# Printed by Quantus 0.6.0, with normalise=False, abs=False and disable_warnings=True:
#     quantus.RelevanceMassAccuracy(...)(None, x, y, a_batch=MAPS[:, None], s_batch=MASKS[:, None])
#     quantus.RelevanceRankAccuracy(...)(None, x, y, a_batch=MAPS[:, None], s_batch=MASKS[:, None])
QUANTUS = np.random.default_rng(2022)
QUANTUS_MAPS = QUANTUS.random((4, 6, 7)) ** 3
QUANTUS_MASKS = QUANTUS.random((4, 6, 7)) < np.array([0.1, 0.3, 0.5, 0.9])[:, None, None]
QUANTUS_MASS = [0.10228771, 0.38442136, 0.34297425, 0.88554336]
QUANTUS_RANK = [0.0, 0.42857143, 0.33333333, 0.92307692]


def test_quantus():
    """Relevance mass is the energy inside, of maps without a negative value."""
    maps, masks = torch.from_numpy(QUANTUS_MAPS), torch.from_numpy(QUANTUS_MASKS)
    np.testing.assert_allclose(metrics.energy_inside(maps, masks), QUANTUS_MASS, rtol=1e-6)
    np.testing.assert_allclose(
        metrics.relevance_rank_accuracy(maps, masks), QUANTUS_RANK, rtol=1e-6
    )


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("maps", "masks", "error", "message"),
    [
        (torch.rand(1, 2), torch.ones(1, 2), ValueError, "and masks, bool, of the same shape"),
        (torch.rand(1, 2), torch.ones(1, 3) > 0, ValueError, "For boxes use boxes_to_mask"),
        (torch.rand(2), torch.ones(2) > 0, ValueError, r"Expected maps \(N, \*S\)"),
        (None, torch.ones(1, 2) > 0, TypeError, "Expected maps as a tensor"),
        (torch.rand(1, 2), None, TypeError, "Expected masks as a tensor"),
    ],
)
def test_errors(score, maps, masks, error, message):
    with pytest.raises(error, match=message):
        score(maps, masks)


def test_the_classes_take_masks_or_boxes():
    maps = torch.rand(3, 1, 6, 8, generator=torch.Generator().manual_seed(0))
    boxes = [
        torch.tensor([[1, 2, 5, 4]]),
        torch.tensor([[0, 0, 2, 2], [3, 3, 6, 6]]),
        torch.tensor([[4, 0, 8, 1]]),
    ]
    masks = torch.stack([metrics.boxes_to_mask(each, (6, 8)) for each in boxes])
    for score, make in zip(
        SCORES, (metrics.PixelAveragePrecision, metrics.RelevanceRankAccuracy), strict=True
    ):
        by_boxes, by_masks = make(), make()
        by_boxes.update(maps, boxes)
        by_masks.update(maps[:1, 0], masks[:1])
        by_masks.update(maps[1:, 0], masks[1:])
        expected = score(maps[:, 0], masks).mean().item()
        assert by_boxes.compute().item() == by_masks.compute().item() == pytest.approx(expected)
        inclusive = make(box_format="xyxy_inclusive")
        inclusive.update(maps, [each - torch.tensor([0, 0, 1, 1]) for each in boxes])
        assert inclusive.compute().item() == pytest.approx(expected)
        with pytest.raises(ValueError, match="box_format='xywh' is not known"):
            make(box_format="xywh")
