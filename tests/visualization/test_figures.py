"""Figures and pyplot: shown only if asked for, and none left behind by an error."""

import subprocess
import sys

import matplotlib.pyplot as plt
import pytest
import torch
from figures import CLIP, HEAT, IMAGE, MOVING

from captum_3dcam.localization import Segment, Tube
from captum_3dcam.visualization import (
    Overlays,
    Style,
    visualize_image_attr,
    visualize_video_attr,
)


def test_use_pyplot_shows_the_figure(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    figure, _ = visualize_image_attr(HEAT, IMAGE, use_pyplot=True)
    assert shown == [[figure.number]]
    plt.close(figure)
    figure, _ = visualize_video_attr(MOVING, CLIP, style=Style(use_pyplot=True))
    assert shown[1:] == [[figure.number]]
    plt.close(figure)


def test_an_error_leaves_no_figure_in_pyplot():
    tubes = Overlays(tubes=[Tube(0, torch.zeros(2, 4), 1.0)])
    with pytest.raises(ValueError, match="no frames"):
        visualize_image_attr(HEAT, IMAGE, overlays=tubes, use_pyplot=True)
    segments = Overlays(segments=[Segment(7, 9, 1.0)])
    with pytest.raises(ValueError, match="segment"):
        visualize_video_attr(MOVING, CLIP, overlays=segments, style=Style(use_pyplot=True))


def test_importing_visualization_imports_no_pyplot():
    # Captum has imported pyplot by then: without it, an import of ours would bring it again.
    code = (
        "import sys, matplotlib, captum_3dcam; del sys.modules['matplotlib.pyplot']; "
        "del matplotlib.pyplot; import captum_3dcam.visualization; "
        "print([m for m in ('matplotlib.pyplot', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
