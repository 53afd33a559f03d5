"""What an explanation gives to the viewer."""

import numpy as np
import pytest
import torch

from captum_3dcam.explanation import Explanation, _content
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.sliding import Window

WINDOW = Window((0,), (4,), target=1, predicted=1, score=2.0, factor=0.9)


def explained(windows, length=8):
    maps = torch.rand(1, 1, length, 4, 6)
    return Explanation(
        maps,
        classes=[[1]],
        class_names=[["run"]],
        scores=torch.tensor([[2.0]]),
        probabilities=torch.tensor([[0.9]]),
        kind="video",
        originals=[None],
        method="3DCAM",
        layers=["a"],
        times=FrameTimes.from_rate(length, 25),
        layer_maps={"a": maps},
        method_maps={"GradCAM": maps},
        windows=[[windows]],
        facts={"size": (4, 6)},
        settings={"compare": ["GradCAM"]},
    ).with_maps("Saliency", maps)


@pytest.mark.parametrize("windows", [[], [WINDOW]])
def test_a_map_over_windows_says_that_it_is_weighted(windows):
    maps = _content.viewer_content(explained(windows)).maps
    weighted = "attribution times the probability of the class in each window"
    assert {heat.name: heat.meaning for heat in maps} == {
        **dict.fromkeys(["3DCAM", "GradCAM", "a"], weighted if windows else "attribution"),
        "Saliency": "attribution",  # not of these windows
    }


def test_frames_of_a_long_video_keep_their_numbers():
    original = _content.viewer_content(explained([], length=601)).original
    assert original.step == 3
    assert original.note == "one in 3 of 601 frames"
    np.testing.assert_allclose(original.times.edges[:3], [0, 3 / 25, 6 / 25])
