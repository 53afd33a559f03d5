"""Which frames and regions the figures of a video show, and what is written of them."""

import pytest
import torch
from explanation_inputs import LAYERS, RATE, network

from captum_3dcam import Explanation, explain
from captum_3dcam.explanation._figures import every_nth, spread
from captum_3dcam.io import read_image
from captum_3dcam.localization import Segment, Tube


def test_frames_are_spread_and_include_the_peak():
    for length in (1, 3, 8, 9, 40):
        for peak in range(length):
            shown = spread(length, peak, count=8)
            assert peak in shown
            assert shown == sorted(set(shown))
            assert len(shown) == min(8, length)
            assert set(shown) <= set(range(length))


def test_several_frames_are_included():
    for required in ([0, 1, 2, 3], [9, 9, 4], [39, 38]):
        shown = spread(40, *required, count=4)
        assert set(required) <= set(shown)
        assert len(shown) == 4


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_tubes_in_every_nth_frame_have_the_boxes_of_these_frames(step):
    for start in range(8):
        for length in range(1, 9):
            boxes = torch.arange(start, start + length).float()[:, None].repeat(1, 4)
            tube = Tube(start, boxes, 1.0)
            frames = [t for t in range(0, 20, step) if tube.start <= t < tube.end]
            shown = every_nth(step, [tube])
            assert len(shown) == bool(frames)
            for each in shown:
                assert [step * t for t in range(each.start, each.end)] == frames
                assert each.boxes[:, 0].tolist() == frames


def test_segments_in_every_nth_frame_cover_what_they_touch():
    (shown,) = every_nth(3, [Segment(4, 8, 0.5)])
    assert (shown.start, shown.end) == (1, 3)


@pytest.mark.parametrize("kind", ["image", "video", "volume"])
def test_maps_as_narrow_as_colours_are_many(kind, folder, one_thread):
    shape = {"image": (1, 3, 6, 3), "video": (1, 3, 5, 6, 3), "volume": (1, 1, 5, 6, 3)}[kind]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    more = {"reading": RATE} if kind == "video" else {}
    saved = explain(network(kind), x, "top2", layers=LAYERS, per_layer=True, **more)
    for name, path in saved.save("out", overlay="none").items():
        assert name not in ("figure", "layers") or read_image(path).std() > 10
    loaded = Explanation.load("out")
    assert len(loaded.figure().axes) == len(saved.figure().axes)
    loaded.save("again")
    assert torch.equal(Explanation.load("again").attribution, saved.attribution)
