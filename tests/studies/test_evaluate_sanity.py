"""The study of sanity: its scores by hand, and a small run."""

import json

import numpy as np
import pytest
import torch
from study_helpers import cells, painting, run

import evaluate_sanity as sanity
from _methods import METHODS
from _report import to_json
from captum_3dcam.evaluation import Bootstrap, Interval
from trained_networks.action_net import load_action_net

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def actions():
    return load_action_net()


def test_a_map_of_the_input_alone_stays_the_same(actions, monkeypatch, tmp_path):
    """Whatever parameters are randomised, and whatever class is explained."""
    methods = {
        "input": painting(lambda inputs, target: inputs.mean(dim=1, keepdim=True)),
        "GradCAM": METHODS["GradCAM"],
    }
    monkeypatch.setattr(sanity, "METHODS", methods)
    monkeypatch.setattr(sanity, "load_action_net", lambda path: actions)
    monkeypatch.setattr(sanity, "compare_classes", compare_three_classes)
    report = run(sanity, tmp_path, *few())
    cascade = report["randomization"]["input"]
    for metric in sanity.METRICS:
        assert [step.value for step in cascade[metric]["steps"]] == pytest.approx([1.0] * 6)
        assert cascade[metric]["mean"].value == pytest.approx(1.0)
        assert cascade[metric]["another_clip"].value < 0.9
        assert report["randomization"]["GradCAM"][metric]["steps"][-1].value < 0.9
        assert report["labels"]["input"][metric].value == pytest.approx(1.0)


def compare_three_classes(attribution, clips, seed):
    """A painter has no network that tells the number of classes."""
    result = sanity.label_sensitivity(
        attribution,
        clips,
        target=0,
        other_targets=[1, 2],
        comparison=sanity.MapComparison(sanity.METRICS),
    )
    return result.similarities


def few():
    sizes = {"--clips": 2, "--repeats": 1, "--curve-clips": 2, "--steps": 2}
    return [part for pair in sizes.items() for part in pair]


def test_the_whole_study(actions, monkeypatch, tmp_path):
    monkeypatch.setattr(sanity, "load_action_net", lambda path: actions)
    arguments = [*few(), "--methods", "GradCAM", "WhatWhere", "--layers", "layer2", "layer4"]
    report = run(sanity, tmp_path / "a", *arguments)
    run(sanity, tmp_path / "b", *arguments)
    for name in ("sanity.json", "sanity.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a/sanity.json").read_text()) == to_json(report)
    assert report["randomized"] == ["fc", "layer4", "layer3", "layer2", "layer1", "stem"]
    text = (tmp_path / "a/sanity.md").read_text()
    spearman, ssim, labels, areas = cells(text, "GradCAM")
    cascade = report["randomization"]["GradCAM"]
    assert spearman[0] == f"{cascade['absolute_rank_correlation']['steps'][0].value:.3f}"
    assert ssim[6] == str(cascade["ssim"]["mean"])
    assert labels[1] == str(report["labels"]["GradCAM"]["ssim"])
    assert areas[3] == str(report["curves"]["GradCAM"]["insertion"]["auc"])
    assert list(report["curves"]) == ["random map", "GradCAM", "WhatWhere"]
    with Image.open(tmp_path / "a/sanity.png") as image:
        assert image.width == 900
        assert np.asarray(image.convert("RGB")).std() > 20


def test_the_figure_draws_the_steps_of_each_method():
    steps = {"m": [0.5, 0.25], "n": [0.75, 0.0]}
    of = {
        name: {
            metric: {
                "steps": [Interval(v, v, v) for v in values],
                "another_clip": Interval(0.125, 0, 1),
            }
            for metric in sanity.METRICS
        }
        for name, values in steps.items()
    }
    figure = sanity.draw({"randomized": ["fc", "stem"], "randomization": of})
    for ax in figure.axes:
        lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
        assert lines["m"] == [1.0, 0.5, 0.25]
        assert lines["n"] == [1.0, 0.75, 0.0]
        separate = [list(line.get_ydata()) for line in ax.lines if list(line.get_xdata()) == [3]]
        assert separate == [[0.125], [0.125]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["m", "n"]
    styles = [sanity.line_style(i) for i in range(len(METHODS))]
    for key in ("color", "marker"):
        assert len({style[key] for style in styles}) == 8


def test_a_clip_that_deletion_hardly_changes_is_not_in_the_normalised_area():
    fractions = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.9, 0.2, 0.5]], dtype=torch.float64)
    curve = sanity.PerturbationCurve("deletion", "probability", fractions, scores)
    areas = sanity.normalized_auc(curve)
    # Normalised: 1, 1/8, 0; by the trapezoidal rule (1/2 + 1/8) / 2.
    assert float(areas[0]) == pytest.approx(0.3125)
    assert areas[1].isnan()
    summary = sanity.summarize_curve(curve, Bootstrap(resamples=5))
    assert summary["clips"] == 1
    assert summary["normalized_auc"].value == pytest.approx(0.3125)
    assert summary["auc"].value == pytest.approx((0.35 + 0.45) / 2)


def test_several_randomisations_are_averaged(actions):
    clips = sanity.load_clips(2, 5)
    method = METHODS["HiResCAM"]
    both, first, second = (
        sanity.randomize(actions, method, ["layer4"], clips, seeds).similarities["ssim"]
        for seeds in ((0, 1), (0,), (1,))
    )
    torch.testing.assert_close(both, (first + second) / 2)
    assert not torch.equal(first, second)


def test_too_few_clips_are_refused(capsys):
    with pytest.raises(SystemExit):
        sanity.parse(["--clips", "1"])
    assert "--clips: expected an integer of at least 2; got '1'" in capsys.readouterr().err
