"""Overlays: boxes, tubes and segments over the frames of a clip."""

import matplotlib
import numpy as np
import pytest
import torch
from figures import CLIP, MOVING, rectangles

from captum_3dcam.localization import Boxes, Segment, Tube, frame_boxes
from captum_3dcam.visualization import Overlays, visualize_video_attr

BOXES = Boxes(torch.zeros(1, 4), torch.zeros(1))
TUBE = Tube(0, torch.zeros(2, 4), 1.0)


def test_frames_have_their_boxes_and_the_tubes_that_cross_them():
    tube = Tube(3, torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]]), score=0.5)
    overlays = Overlays(frame_boxes(MOVING)[0], [tube])
    _, axes = visualize_video_attr(MOVING, CLIP[:, :4, :6], frames=[0, 3, 4], overlays=overlays)
    # Above half the clip's maximum of 5 are the spots of frames 2 to 4 alone.
    assert rectangles(axes[0]) == []
    assert rectangles(axes[1]) == [[2.5, 0.5, 3.5, 1.5], [-0.5, -0.5, 1.5, 1.5]]
    assert rectangles(axes[2]) == [[3.5, 0.5, 4.5, 1.5], [0.5, -0.5, 2.5, 1.5]]
    (entry,) = axes[-1].get_legend().get_texts()
    assert entry.get_text() == "tube 1 (0.50)"


def test_each_tube_has_its_own_line_style_in_the_legend():
    tubes = {
        name: Tube(0, torch.tensor([[0.0, 0, 2, 2]]).expand(5, 4), 1.0)
        for name in ("ground truth", "b")
    }
    _, axes = visualize_video_attr(MOVING, CLIP, frames=1, overlays=Overlays(tubes=tubes))
    legend = axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["ground truth", "b"]
    for patch, line in zip(axes[0].patches, legend.get_lines(), strict=True):
        assert matplotlib.colors.same_color(patch.get_edgecolor(), line.get_color())
        assert patch.get_linestyle() == line.get_linestyle()
    assert len({line.get_color() for line in legend.get_lines()}) == 2


def test_a_box_with_nan_is_not_drawn():
    boxes = torch.tensor([[0.0, 0, 2, 2], [np.nan] * 4, [1, 0, 3, 2], [1, 0, 3, 2], [1, 0, 3, 2]])
    overlays = Overlays(tubes=[Tube(0, boxes, 1.0)])
    _, axes = visualize_video_attr(MOVING, CLIP, frames=[0, 1], overlays=overlays)
    assert [len(ax.patches) for ax in axes[:2]] == [1, 0]


def test_of_scores_that_cover_one_another_the_first_is_drawn():
    corners = torch.tensor([[np.nan] * 4, [0.0, 0, 1, 1], [0.1, 0, 1, 1], [4, 3, 5, 4]])
    boxes = Boxes(corners, torch.tensor([0.9, 0.8, 0.7, 0.6]))
    _, axes = visualize_video_attr(MOVING, CLIP, frames=[0], overlays=Overlays([boxes] * 5))
    assert len(axes[0].patches) == 3
    labels = [text.get_text().strip() for text in axes[0].texts if text.get_text().strip()]
    assert labels == ["0.80", "0.60"]


def test_without_tubes_there_is_no_legend():
    assert visualize_video_attr(MOVING, CLIP)[1][-1].get_legend() is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"boxes": [[BOXES] * 5]}, TypeError, r"of a video localization.frame_boxes\(maps\)\[i\]"),
        (
            {"boxes": [Boxes(torch.zeros(1, 6), torch.zeros(1))] * 5},
            ValueError,
            r"\(B, 4\), x0, y0, x1, y1; got shape \(1, 6\)",
        ),
        ({"tubes": [[TUBE]]}, TypeError, r"localization.tubes\(maps\)\[i\]"),
        ({"tubes": {"ground truth": [TUBE]}}, TypeError, r"localization.tubes\(maps\)\[i\]"),
        ({"tubes": [Tube(0, torch.zeros(2, 6), 1.0)]}, ValueError, r"got shape \(2, 6\)"),
        ({"segments": [[Segment(0, 1, 1.0)]]}, TypeError, "localization.segments"),
        ({"box_size": (0, 4)}, ValueError, r"box_size=\(0, 4\): expected \(H, W\)"),
        ({"box_size": 4}, TypeError, "box_size=4: expected a list of numbers"),
        ({"boxes": 3}, TypeError, "boxes=3: expected a list of Boxes"),
        ({"boxes": Boxes(None, None)}, TypeError, "boxes must hold real numbers"),
        (
            {"boxes": Boxes(torch.zeros(2, 4), torch.zeros(1))},
            ValueError,
            r"as many scores as boxes; got \(2, 4\) and \(1,\)",
        ),
        ({"tubes": 3}, TypeError, "tubes=3: expected a list of Tube, or a dict of them"),
        ({"tubes": {3: TUBE}}, TypeError, "a name of tubes=3: expected text"),
        ({"segments": None}, TypeError, "segments=None: expected a list of Segment"),
    ],
)
def test_overlays_of_a_batch_or_another_shape_raise(given, error, message):
    with pytest.raises(error, match=message):
        Overlays(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boxes": BOXES}, r"boxes for 1 images, and 5 to draw. .* a video localization.frame_b"),
        ({"boxes": [BOXES] * 4}, "boxes for 4 images, and 5 to draw"),
        (
            {"tubes": {"ground truth": Tube(5, torch.zeros(2, 4), 1.0)}},
            "ground truth covers the frames 5 to 6, and the clip has 5. Count",
        ),
        ({"segments": [Segment(7, 9, 1.0)]}, "frames 7 to 8, and the clip has 5"),
    ],
)
def test_overlays_of_another_clip_raise(given, message):
    with pytest.raises(ValueError, match=message):
        visualize_video_attr(MOVING, CLIP, overlays=Overlays(**given))
