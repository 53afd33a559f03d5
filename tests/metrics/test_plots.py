"""``plot()`` of every class: single results, and results over time."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from metric_accumulators import alone, make

from captum_3dcam import metrics

NAMES = list(make())
LABELS = {
    "v1": ["max box acc"],
    "v2": ["max box acc", "IoU 0.3", "IoU 0.5", "IoU 0.7"],
    "clips": [
        "frame acc", "frame IoU 0.1", "frame IoU 0.3", "tube acc", "tube IoU 0.1", "tube IoU 0.3",
    ],
    "box": ["box accuracy", "IoU 0.1", "IoU 0.3"],
    "map": ["map", "tIoU 0.1", "tIoU 0.3"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def numbers_in(result):
    """All numbers of a result, those of a list of one left out: it is the mean."""
    if not isinstance(result, dict):
        return [float(result)]
    values = []
    for value in result.values():
        if isinstance(value, list):
            values += [float(each) for each in value] if len(value) > 1 else []
        elif not isinstance(value, str):
            values.append(float(value))
    return values


@pytest.mark.parametrize("name", NAMES)
def test_one_result(name):
    metric = alone()[name]
    fig, ax = metric.plot()
    assert isinstance(fig, Figure)
    assert ax.figure is fig
    heights = [line.get_ydata().item() for line in ax.lines]
    assert heights == pytest.approx(numbers_in(metric.compute()))
    assert ax.get_ylabel() == type(metric).__name__
    low, high = ax.get_ylim()
    assert low < 0 < 1 < high
    if name in LABELS:
        assert [text.get_text() for text in ax.get_legend().get_texts()] == LABELS[name]
    given = metric.plot(metric.compute())[1]
    assert [line.get_ydata().item() for line in given.lines] == heights


@pytest.mark.parametrize("name", NAMES)
def test_results_over_time_on_axes_of_the_caller(name):
    results = [alone(share)[name].compute() for share in ([0, 1, 2], [3, 4], [5, 6])]
    figure = Figure()
    axes = figure.subplots()
    assert make()[name].plot(results, axes) == (figure, axes)
    assert not plt.get_fignums()
    lines = np.array([line.get_ydata() for line in axes.lines])
    np.testing.assert_allclose(lines.T, [numbers_in(result) for result in results], rtol=1e-6)
    assert axes.get_xlabel() == "Step"
    if name in LABELS:
        assert [line.get_label() for line in axes.lines] == LABELS[name]


def test_the_results_of_batches():
    metric = metrics.EnergyInside()
    maps, masks = torch.rand(4, 3, 3), torch.rand(4, 3, 3) > 0.5
    values = [metric(maps[n : n + 1], masks[n : n + 1]) for n in range(4)]
    _, axes = metric.plot(values)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), metrics.energy_inside(maps, masks))


def test_no_results():
    with pytest.raises(ValueError, match="plot: val is an empty list. Pass results of compute"):
        metrics.PxAP().plot([])
