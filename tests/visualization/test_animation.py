"""Animations: what moves, and the files they are saved as."""

from base64 import b64decode
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import torch
from figures import CLIP, MOVING, rectangles, values
from matplotlib.animation import AbstractMovieWriter
from PIL import Image, ImageSequence

from captum_3dcam import FrameTimes
from captum_3dcam.localization import Segment, Tube
from captum_3dcam.visualization import Overlays, Style, animate_video_attr, save_animation


def small_animation(size=(2.05, 2.05), **given):
    return animate_video_attr(MOVING, CLIP, style=Style(fig_size=size), **given)


def test_map_boxes_title_and_cursor_move(tmp_path):
    tube = Tube(1, torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]]), score=0.5)
    overlays = Overlays(tubes=[tube], segments=[Segment(1, 3, 1.0)])
    animation = small_animation(fps=4, start=2, overlays=overlays)
    seen = []

    class Watch(AbstractMovieWriter):
        def setup(self, fig, outfile, dpi=None):
            self.fig = fig

        def grab_frame(self, **_):
            ax, profile, _ = self.fig.axes
            cursor = profile.get_lines()[-1]
            heat = values(ax.images[1])
            seen.append((ax.get_title(), rectangles(ax), heat, cursor.get_xdata()[0]))

        def finish(self):
            pass

    animation.save(tmp_path / "x", writer=Watch())
    titles, boxes, heats, cursors = zip(*seen, strict=True)
    assert titles == ("0.50 s", "0.75 s", "1.00 s", "1.25 s", "1.50 s")
    assert boxes == ([], [[-0.5, -0.5, 19.5, 19.5]], [[9.5, -0.5, 29.5, 19.5]], [], [])
    np.testing.assert_array_equal(np.stack(heats), MOVING[0, 0])
    np.testing.assert_allclose(cursors, [0.625, 0.875, 1.125, 1.375, 1.625])


def test_a_gif_has_every_frame(tmp_path):
    path = tmp_path / "map.gif"
    save_animation(small_animation(size=(3, 3), fps=5), path, dpi=40)
    with Image.open(path) as gif:
        frames = []
        for index in range(gif.n_frames):
            gif.seek(index)
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
            assert gif.info["duration"] == 200
    assert len(frames) == 5
    for before, after in pairwise(frames):
        assert np.abs(after - before)[2 * len(after) // 3 :].max() > 100  # the cursor has moved
    # Purple at the bottom of the scale, yellow at its top, where the spot is in the last frame.
    images = [frame[: len(frame) // 2, : int(0.7 * frame.shape[1])] for frame in frames]
    yellow = [(image[..., 0] - image[..., 2]).max() for image in images]
    assert yellow[0] < 30
    assert yellow[-1] > 60


def test_an_mp4_has_every_frame_at_its_rate(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "map.mp4"
    save_animation(small_animation(fps=12.5), path, dpi=60)
    with av.open(str(path)) as movie:
        stream = movie.streams.video[0]
        assert stream.average_rate == 12.5
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in movie.decode(stream)]
    assert [frame.shape for frame in frames] == [(124, 124, 3)] * 5  # 123 pixels, made even
    # The last frame has the brightest spot, and colours come in their order: yellow has no blue.
    yellow = [(frame[..., 0] - frame[..., 2])[:80, :90].max() for frame in frames]
    assert yellow[-1] == max(yellow)
    assert yellow[-1] > 100
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "map.gif"
    path.write_text("before")
    animation = small_animation()

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    save = animation.save
    animation.save = lambda *args, **kwargs: save(*args, progress_callback=interrupt, **kwargs)
    with pytest.raises(KeyboardInterrupt):
        save_animation(animation, path, dpi=20)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_paths_that_cannot_be_written_raise(tmp_path):
    animation = small_animation()
    with pytest.raises(ValueError, match="map.avi' should end on"):
        save_animation(animation, tmp_path / "map.avi")
    with pytest.raises(FileNotFoundError, match="There is no folder .*missing"):
        save_animation(animation, tmp_path / "missing" / "map.gif")
    save_animation(animation, tmp_path / "MAP.GIF", dpi=20)


def test_invalid_maps_and_rates_raise():
    with pytest.raises(ValueError, match=r"one map \(T, H, W\)"):
        animate_video_attr(torch.zeros(2, 1, 5, 4, 4), CLIP)
    with pytest.raises(ValueError, match="fps=0: expected a finite number above 0"):
        animate_video_attr(MOVING, CLIP, fps=0)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"path": 3}, TypeError, "path=3: expected the path of a file"),
        ({"dpi": "100"}, TypeError, "dpi='100': expected a number"),
        ({"dpi": 1}, ValueError, "dpi=1: expected dots per inch, 10 to 2400"),
        ({"dpi": 1e9}, ValueError, "dpi=1000000000.0: expected dots per inch, 10 to 2400"),
        ({"animation": None}, TypeError, r"animation=None: expected VideoAnimation\(\.\.\.\)"),
    ],
)
def test_arguments_that_do_not_fit_raise(tmp_path, given, error, message):
    animation = small_animation()
    animation._draw_was_started = True  # else Matplotlib warns when it is deleted
    right = {"animation": animation, "path": tmp_path / "map.gif"}
    with pytest.raises(error, match=message):
        save_animation(**right | given)
    assert not list(tmp_path.iterdir())


def test_an_animation_has_a_frame_rate():
    with pytest.raises(TypeError, match="fps=None: expected a number"):
        animate_video_attr(MOVING, CLIP, fps=None)


def test_frames_are_saved_at_their_own_times(tmp_path):
    times = FrameTimes([0.0, 1.0, 1.1, 1.5, 1.6, 3.0, 3.1])
    animation = small_animation(fps=times, start=1)
    save_animation(animation, tmp_path / "map.gif", dpi=40)
    with Image.open(tmp_path / "map.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations == [100, 400, 100, 1400, 100]
    with pytest.raises(ValueError, match="fps holds the times of 6 frames"):
        small_animation(fps=times, start=2)


def shown(animation):
    """The figure of an animation that is not saved."""
    animation._draw_was_started = True  # else Matplotlib warns when it is deleted
    return animation._fig


def test_the_raw_video_is_to_the_left_and_a_zero_map_says_so():
    clip = np.random.default_rng(0).random((5, 40, 60, 3))
    figure = shown(animate_video_attr(MOVING * 0, clip, style=Style(raw=True)))
    raw, own, profile = figure.axes
    assert [len(ax.images) for ax in (raw, own, profile)] == [1, 2, 0]
    np.testing.assert_allclose(values(raw.images[0]), clip[0], rtol=1e-6)
    assert [text.get_text() for text in own.texts] == ["the map is zero"]
    assert not raw.texts


def test_a_notebook_shows_an_animation_at_its_own_times(tmp_path):
    times = FrameTimes([0.0, 1.0, 1.1, 1.5, 1.6, 3.0])
    html = small_animation(fps=times)._repr_html_()
    prefix, data = html.removesuffix('">').split(",")
    assert prefix == '<img src="data:image/gif;base64'
    with Image.open(BytesIO(b64decode(data))) as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations == [1000, 100, 400, 100, 1400]


def test_a_notebook_shows_what_is_too_fast_for_a_gif_in_a_player():
    html = small_animation(fps=100)._repr_html_()
    assert "<script" in html
