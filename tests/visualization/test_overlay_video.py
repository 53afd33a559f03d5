"""Overlay videos: the frames, and what stands in the margins around them."""

import numpy as np
import pytest
import torch
from figures import CLIP, MOVING
from matplotlib import colormaps

from captum_3dcam import FrameTimes
from captum_3dcam.io import read_video, write_video
from captum_3dcam.visualization import OverlayRenderer, Style, overlay_frames, render_image_attr

SIZE = (90, 160)
VIDEO = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
LONG = "a person playing an unusually long brass instrument in front of a large audience (0.93)"


def position_of(part, whole):
    """The row and column of a part in an image of which it is a part."""
    height, width = part.shape[:2]
    for top in range(len(whole) - height + 1):
        for left in range(whole.shape[1] - width + 1):
            if np.array_equal(whole[top : top + height, left : left + width], part):
                return top, left
    raise AssertionError("the frame is not in the image as it is")


def margins(frame, pixels):
    """The margins above and below a frame, of which nothing is covered."""
    top, left = position_of(pixels, frame)
    outside = np.delete(frame, np.s_[left : left + pixels.shape[1]], axis=1)
    assert (outside[top : top + len(pixels)] == 255).all()
    return frame[:top], frame[top + len(pixels) :]


def has_ink(part):
    return bool((part < 128).any())


@pytest.mark.parametrize("size", [(90, 160), (91, 161), (40, 60)])
@pytest.mark.parametrize(
    "style",
    [Style(), Style(base="color"), Style(raw=True), Style("masked_image"), Style(sign="all")],
)
def test_frames_are_those_that_are_rendered_on_one_scale(size, style):
    video = VIDEO[:, :40, :60] if size == (40, 60) else np.pad(
        VIDEO, ((0, 0), (0, size[0] - 90), (0, size[1] - 160), (0, 0)), mode="edge"
    )  # fmt: skip
    frames = overlay_frames(MOVING, video, fps=4, title="run (0.93)", style=style)
    assert frames.dtype == np.uint8
    assert frames.shape[0] == 5
    assert [side % 2 for side in frames.shape[1:3]] == [0, 0]
    sign = style.sign or "positive"
    one = Style(style.method, sign, vmax=5.0, base=style.base, raw=style.raw)
    for t, frame in enumerate(frames):
        above, below = margins(frame, render_image_attr(MOVING[0, 0, t], video[t], one))
        assert has_ink(above)
        assert has_ink(below)


def test_the_renderer_draws_the_same_frame_by_frame():
    times = FrameTimes([0.0, 0.1, 0.5, 0.6, 3.0, 3.1, 4.0])
    frames = overlay_frames(MOVING, VIDEO, fps=times, start=1, title="run")
    renderer = OverlayRenderer(SIZE, vmax=5.0, title="run")
    assert renderer.size == frames.shape[1:3]
    for t, expected in enumerate(frames):
        rendered = renderer.render(MOVING[:, :, t], VIDEO[t], times.at(t + 1))
        np.testing.assert_array_equal(rendered, expected)


def test_only_the_time_changes_in_the_margins():
    frames = overlay_frames(MOVING, VIDEO, fps=4, title="run")
    _, below = zip(
        *(
            margins(frame, render_image_attr(heat, image, Style(vmax=5.0)))
            for frame, heat, image in zip(frames, MOVING[0, 0], VIDEO, strict=True)
        ),
        strict=True,
    )
    top = frames.shape[1] - 90 - len(below[0])
    assert (frames[:, :top] == frames[0, :top]).all()
    rows, columns = np.nonzero((np.stack(below) != below[0]).any(axis=(0, 3)))
    assert columns.max() < 60  # at the left,
    assert rows.max() < len(below[0]) / 2  # above the colour bar, which is too wide to be beside
    again = OverlayRenderer(SIZE, 5.0, title="run")
    zero = np.zeros((2, 2))
    same, other = (again.render(zero, VIDEO[0], time) for time in (0.25, 0.2500001))
    np.testing.assert_array_equal(same, other)  # two decimals
    assert (again.render(zero, VIDEO[0], 1.25) != same).any()


def test_the_colour_bar_has_the_colours_of_the_scale():
    renderer = OverlayRenderer((240, 320), vmax=0.5, timed=False)
    (footer,) = [renderer.render(np.zeros((2, 2)), np.zeros((240, 320, 3)))[240:]]
    palette = (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(int)
    row = footer[len(footer) // 2].astype(int)
    distance = np.abs(row[:, None] - palette).sum(axis=-1)
    level = np.where(distance.min(axis=1) <= 6, distance.argmin(axis=1), -1)
    colourful = np.flatnonzero((level > 20) & (row.max(axis=1) - row.min(axis=1) > 40))
    assert len(colourful) > 100
    assert (np.diff(level[colourful[0] : colourful[-1] + 1]) >= 0).all()
    assert level[colourful[-1]] > 250
    hidden = OverlayRenderer((240, 320), 0.5, timed=False, style=Style(show_colorbar=False))
    assert hidden.size == (240, 320)
    assert OverlayRenderer((240, 320), 0.5, timed=False, style=Style("masked_image")).size[0] == 240


@pytest.mark.parametrize("size", [(480, 640), (240, 320), (112, 112), (28, 28)])
@pytest.mark.parametrize("title", [LONG, LONG.replace(" ", "_"), "run"])
def test_titles_of_any_length_stay_in_the_margin(size, title):
    renderer = OverlayRenderer(size, 0.123456, title=title)
    frame = renderer.render(np.zeros((2, 2)), np.full((*size, 3), 200, np.uint8), 12.5)
    above, below = margins(frame, np.full((*size, 3), 200, np.uint8))
    for margin in (above, below):
        assert has_ink(margin[:, 2:-2])
        assert not has_ink(margin[:, :2])
        assert not has_ink(margin[:, -2:])
    lines = 1 + (above.min(axis=(1, 2)) == 255).sum() // 2
    assert title == "run" or size[0] == 480 or lines > 2


def test_a_zero_map_says_so_in_place_of_the_colour_bar():
    def below(heat, sign=None):
        return overlay_frames(heat, VIDEO, style=Style(sign=sign))[0, 90:].astype(int)

    for heat in (MOVING * 0, -MOVING):
        note = below(heat, "positive")
        assert has_ink(note)
        assert (note.max(axis=-1) - note.min(axis=-1)).max() == 0  # words, no colours
    bar = below(MOVING)
    assert (bar.max(axis=-1) - bar.min(axis=-1)).max() > 100
    assert (below(MOVING * 0) != below(-MOVING, "positive")).any()
    by_hand = OverlayRenderer(SIZE, 0.0, timed=False).render(MOVING[0, 0, 0] * 0, VIDEO[0])
    np.testing.assert_array_equal(by_hand[90:], below(MOVING * 0))
    by_hand = OverlayRenderer(SIZE, -1.0, timed=False).render(-MOVING[0, 0, 0], VIDEO[0])
    np.testing.assert_array_equal(by_hand[90:], below(-MOVING, "positive"))


def test_scale_each_divides_each_frame_by_its_maximum():
    frames = overlay_frames(MOVING, CLIP, style=Style(scale="each"))
    for t, frame in enumerate(frames):
        margins(frame, render_image_attr(MOVING[0, 0, t], CLIP[t], Style(vmax=t + 1.0)))


def test_a_title_is_not_read_as_a_formula():
    frames = [overlay_frames(MOVING, VIDEO, title=title)[0] for title in (r"$\frac{$", "a\nb")]
    assert frames[1].shape[0] > frames[0].shape[0]


def test_the_overlay_is_a_video_with_the_times_of_its_frames(tmp_path):
    pytest.importorskip("av")
    times = FrameTimes([0.0, 0.1, 0.5, 0.6, 3.0, 3.1])
    frames = overlay_frames(MOVING, CLIP, fps=times, title="run (0.93)")
    write_video(frames, tmp_path / "overlay.mp4", times)
    video = read_video(tmp_path / "overlay.mp4")
    assert video.frames.shape == frames.shape  # even: nothing is padded
    np.testing.assert_allclose(video.times.edges, times.edges, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"size": (90,)}, ValueError, r"size=\(90,\): expected \(H, W\), in pixels"),
        ({"size": (0, 90)}, ValueError, "size"),
        ({"size": "large"}, TypeError, "size='large': expected"),
        ({"vmax": float("nan")}, ValueError, "vmax=nan: expected a finite number, the map's max"),
        ({"vmax": None}, TypeError, "vmax=None: expected a number"),
        ({"title": 3}, TypeError, "title=3: expected text"),
        ({"timed": 1}, TypeError, "timed=1: expected True or False"),
        ({"style": None}, TypeError, r"style=None: expected Style\(...\)"),
    ],
)
def test_invalid_settings_raise(given, error, message):
    with pytest.raises(error, match=message):
        OverlayRenderer(**{"size": SIZE, "vmax": 1.0} | given)


def test_invalid_frames_and_maps_raise():
    renderer = OverlayRenderer(SIZE, 1.0)
    with pytest.raises(ValueError, match=r"frame is \(40, 60\); expected the size .* \(90, 160\)"):
        renderer.render(MOVING[0, 0, 0], CLIP[0])
    with pytest.raises(ValueError, match=r"one map \(H, W\)"):
        renderer.render(MOVING, VIDEO[0])
    with pytest.raises(TypeError, match="time='now': expected a number"):
        renderer.render(MOVING[0, 0, 0], VIDEO[0], "now")
    with pytest.raises(ValueError, match="The map has 5 frames and the video 4"):
        overlay_frames(MOVING, VIDEO[:4])
    with pytest.raises(ValueError, match="fps holds the times of 2 frames"):
        overlay_frames(MOVING, VIDEO, fps=FrameTimes([0.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match="pass it after attr, or choose method='heat_map'"):
        overlay_frames(MOVING)
    assert overlay_frames(torch.rand(2, 40, 60), style=Style("heat_map")).shape[0] == 2
