"""Maps and what they are drawn over, for the tests of visualization; and what was drawn."""

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

HEAT = torch.zeros(1, 1, 4, 6)
HEAT[..., 1, 4] = 2.0
IMAGE = np.full((40, 60, 3), 255, np.uint8)
SIGNED = torch.tensor([[[-4.0, -1.0, 0.0], [0.0, 1.0, 2.0]]])

# A spot that moves to the right and gets brighter.
MOVING = torch.zeros(1, 1, 5, 4, 6)
for t in range(5):
    MOVING[0, 0, t, 1, t] = t + 1.0
CLIP = np.full((5, 40, 60, 3), 255, np.uint8)


def pixels(figure):
    """The drawn figure as RGB, (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def values(image):
    """The numbers of a drawn image."""
    return np.asarray(image.get_array())


def rectangles(ax):
    return [patch.get_bbox().extents.tolist() for patch in ax.patches]


def grid_positions(axes):
    """(row, column) of axes in their figure's grid."""
    specs = [ax.get_subplotspec() for ax in axes]
    return [(spec.rowspan.start, spec.colspan.start) for spec in specs]
