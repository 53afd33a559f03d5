"""Small contents of the viewer, and the pixels that it should draw."""

import base64
import json
import re
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps

from captum_3dcam.explanation.viewer import (
    ImageContent,
    Regions,
    VideoContent,
    ViewerClass,
    ViewerContent,
    ViewerMap,
    VolumeContent,
)
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Volume
from captum_3dcam.localization import Boxes, Segment, Tube

HOSTILE = '</script><script>document.title="hacked"</script><b>&amp;'
CLASSES = [ViewerClass("run", 8.5, 0.75), ViewerClass(HOSTILE, 2.25, 0.125)]
EDGES = np.array([0, 0.1, 0.3, 0.35, 0.6, 1.0, 1.1, 1.5, 2.0])  # of frames of unequal durations
GREY = {"opacity": 0.8, "threshold": 0.0, "grey": True}


def random(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def make_maps(*size):
    return [
        ViewerMap("3DCAM", "method", 2.5 * random(2, *size, seed=1)),
        ViewerMap(HOSTILE, "layer", random(2, *size, seed=2)),
        ViewerMap("against", "counterfactual", np.zeros((2, *size))),
    ]


def image_content():
    y, x = np.mgrid[:40, :60]
    pixels = np.stack([4 * x, 6 * y, 255 - 2 * (x + y)], -1).astype(np.uint8)
    boxes = Boxes(torch.tensor([[15.0, 8.0, 45.0, 30.0]]), torch.tensor([0.9]))
    regions = [Regions(boxes=[boxes]), Regions()]
    return ViewerContent("image.png", ImageContent(pixels), CLASSES, make_maps(7, 9), regions)


def video_content(title="clip.mp4"):
    frames = np.zeros((8, 48, 64, 3), np.uint8)
    for t in range(8):
        frames[t] = [30 * t, 255 - 30 * t, 128]
        frames[t, 8 * (t % 6) :, :32] //= 2
    tube = Tube(2, torch.tensor([[16.0, 12.0, 32.0, 24.0]] * 3), 0.9)
    regions = [Regions(tubes=[tube], segments=[Segment(2, 5, 0.5)]), Regions()]
    original = VideoContent(
        frames, FrameTimes(EDGES), "every 2nd of 16 frames", size=(96, 128), step=2
    )
    return ViewerContent(title, original, CLASSES, make_maps(8, 6, 5), regions)


def volume_content(affine=None, shape=(10, 14, 12)):
    affine = np.diag([4.0, 1.5, 2.0, 1.0]) if affine is None else affine
    volume = Volume(random(*shape, seed=3), affine)
    boxes = Boxes(torch.tensor([[3.0, 0, 0, 9, 7, 5]]), torch.tensor([0.9]))
    original = VolumeContent(volume, window=(0.0, 1.0))
    maps = make_maps(5, 7, 6)
    return ViewerContent("scan.nii.gz", original, CLASSES, maps, [Regions(boxes=[boxes])] * 2)


def payload_of(page):
    """The JSON in a page, as a browser reads it."""
    (text,) = re.findall(r'<script type="application/json" id="c3d-payload">(.*?)</script>', page)
    return json.loads(text)


def unpack(packed):
    """The bytes of a packed array, by sums along its axes."""
    flat = zlib.decompress(base64.b64decode(packed["data"]))
    values = np.frombuffer(flat, np.uint8).reshape(packed["size"]).astype(np.int64)
    for axis in range(3 - packed["deltas"], 3):
        values = values.cumsum(axis)
    return (values % 256).astype(np.uint8)


def blend(base, levels, *, opacity, threshold, grey):
    """RGB (H, W, 3) of levels 0 to 255 over an RGB image, by the formula of the docs."""
    size = base.shape[:2]
    heat = torch.tensor(np.array(levels, np.float64))[None, None]
    fine = F.interpolate(heat, size, mode="bilinear")
    strength = fine[0, 0].numpy() / 255
    below = base.astype(np.float64)
    if grey:
        below = np.repeat((base.astype(int).sum(-1, keepdims=True) + 1) // 3, 3, -1).astype(float)
    palette = (colormaps["inferno"](np.arange(256))[:, :3] * 255).round()
    color = palette[np.minimum((strength * 256).astype(int), 255)]
    alpha = np.where(strength > threshold, opacity * np.sqrt(strength), 0)[..., None]
    return (below + alpha * (color - below)).round().astype(np.uint8)
