"""Runs over methods and layers, with progress; invalid arguments."""

import numpy as np
import pytest
import torch
from evaluation_samples import FirstChannel, random_samples
from networks import conv_net

from captum_3dcam import LayerwiseGradCAM, LayerwiseHiResCAM
from captum_3dcam.evaluation import Sample, evaluate, make_attributions


def test_methods_over_layer_sets_of_images_and_clips():
    for rank, size in ((2, (8, 8)), (3, (3, 8, 8))):
        net = conv_net(rank)
        methods = {"HiResCAM": LayerwiseHiResCAM, "GradCAM": LayerwiseGradCAM}
        rows = make_attributions(net, methods, {"first": ["0"], "both": ["0", "1"]})
        assert list(rows) == [
            "HiResCAM: first",
            "GradCAM: first",
            "HiResCAM: both",
            "GradCAM: both",
        ]
        frames = int(np.prod(size[:-2]))
        inputs = torch.randn(2, *size)
        result = evaluate(rows, [Sample(inputs, 1, torch.tensor([[1, 1, 6, 6]] * frames))])
        heatmap = rows["GradCAM: both"].attribute(inputs[None], target=1)[0, 0]
        inside = heatmap[..., 1:6, 1:6].sum() / heatmap.sum()
        assert result.scores["GradCAM: both"].energy == pytest.approx(inside.item())


def test_the_progress_bar_counts_resumed_samples(tmp_path, capsys):
    samples = random_samples(4)
    plain = evaluate({"map": FirstChannel()}, samples, checkpoint=tmp_path)
    path = tmp_path / "process-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    capsys.readouterr()
    with_bar = evaluate({"map": FirstChannel()}, samples, checkpoint=tmp_path, progress=True)
    output = capsys.readouterr().err
    assert " 3/4 " in output
    assert " 4/4 " in output
    assert with_bar.to_json() == plain.to_json()


def test_invalid_arguments():
    with pytest.raises(ValueError, match="tolerance=-1: expected a distance"):
        evaluate({}, random_samples(3), tolerance=-1)
    with pytest.raises(ValueError, match="'whole frame' is the name of a baseline"):
        evaluate({"whole frame": FirstChannel()}, random_samples(1))
    with pytest.raises(ValueError, match="There are no samples"):
        evaluate({}, [])
    with pytest.raises(TypeError, match="a dict of attributions by name.* received list"):
        evaluate([FirstChannel()], random_samples(1))
