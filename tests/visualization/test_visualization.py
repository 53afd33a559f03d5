"""Images and videos: what is drawn, where, and under which colour scale; nothing shown."""

import io
import subprocess
import sys
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from captum_3dcam.functional import temporal_profile
from captum_3dcam.localization import Boxes, Segment, Tube, frame_boxes
from captum_3dcam.visualization import (
    animate_video_attr,
    save_animation,
    visualize_image_attr,
    visualize_temporal_profile,
    visualize_video_attr,
)

HEAT = torch.zeros(1, 1, 4, 6)
HEAT[..., 1, 4] = 2.0
IMAGE = np.full((40, 60, 3), 255, np.uint8)
CLIP = np.full((5, 40, 60, 3), 255, np.uint8)
MOVING = torch.zeros(1, 1, 5, 4, 6)
for t in range(5):
    MOVING[0, 0, t, 1, t] = t + 1.0


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=50)
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)


@pytest.fixture(autouse=True)
def nothing_shown():
    yield
    assert not plt.get_fignums(), "a figure was left in pyplot's registry"


def test_a_map_covers_its_image_whatever_its_size():
    _, ax = visualize_image_attr(HEAT, IMAGE)
    grey, heat = ax.images
    assert list(grey.get_extent()) == list(heat.get_extent()) == [-0.5, 59.5, 39.5, -0.5]
    np.testing.assert_array_equal(heat.get_array(), HEAT[0, 0])
    assert heat.get_clim() == (0, 2)
    np.testing.assert_allclose(grey.get_array(), 1)


def test_the_hot_spot_is_drawn_where_the_map_has_it():
    figure, ax = visualize_image_attr(HEAT, IMAGE)
    ax.set_position([0, 0, 1, 1])
    figure.set_layout_engine("none")
    drawn = pixels(figure)
    height, width = drawn.shape[:2]
    coloured = np.abs(drawn - 255).sum(axis=2) > 60
    rows, columns = np.nonzero(coloured)
    assert rows.mean() / height == pytest.approx(1.5 / 4, abs=0.03)
    assert columns.mean() / width == pytest.approx(4.5 / 6, abs=0.03)


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("blended_heat_map", 2),
        ("heat_map", 1),
        ("masked_image", 2),
        ("alpha_scaling", 2),
        ("original_image", 1),
    ],
)
def test_methods(method, count):
    image = np.full((40, 60, 3), 128, np.uint8)
    figure, ax = visualize_image_attr(HEAT, image, method)
    assert len(ax.images) == count
    drawn = pixels(figure)[20:-20, 20:-20]
    # Far from the hot spot: the grey image, the scale's black, a black cover, a white one.
    corner = {"heat_map": 0, "masked_image": 0, "alpha_scaling": 255}.get(method, 128)
    assert np.abs(drawn[-1, 0] - corner).max() <= 4
    assert (np.abs(drawn - corner).max() > 40) == (method != "original_image")
    if method in ("masked_image", "alpha_scaling"):
        assert ax.images[1].get_alpha()[1, 4] == 0  # the image is bare where the map is highest


def test_opacity_follows_the_map_up_to_alpha_overlay():
    _, ax = visualize_image_attr(HEAT, IMAGE, alpha_overlay=0.6)
    opacity = ax.images[1].get_alpha()
    assert opacity.max() == pytest.approx(0.6)
    assert (opacity[HEAT[0, 0] == 0] == 0).all()
    _, ax = visualize_image_attr(HEAT / 4, IMAGE, alpha_overlay=0.6, vmax=2.0)
    assert ax.images[1].get_alpha().max() == pytest.approx(0.6 * 0.5)  # the root of a quarter


def test_drawing_on_an_axis_that_one_has():
    figure, axes = plt.subplots(1, 2)
    found = visualize_image_attr(HEAT, IMAGE, plt_fig_axis=(figure, axes[1]), title="second")
    assert found == (figure, axes[1])
    assert [len(ax.images) for ax in axes] == [0, 2]
    assert axes[1].get_title() == "second"
    plt.close(figure)


def test_a_colour_bar_has_the_maps_scale():
    figure, _ = visualize_image_attr(HEAT, IMAGE, show_colorbar=True)
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "attribution"
    assert bar.get_ylim() == (0, 2)


def test_a_zero_map_is_drawn_without_a_warning():
    figure, ax = visualize_image_attr(HEAT * 0, IMAGE, show_colorbar=True)
    assert ax.images[1].get_clim() == (0, 1)
    pixels(figure)


def test_a_strip_has_one_scale_for_all_frames_and_the_profile_below():
    figure, axes = visualize_video_attr(MOVING, CLIP, frames=[0, 2, 4], fps=2, start=10)
    *strip, profile = axes
    assert [ax.get_title() for ax in strip] == ["5.00 s", "6.00 s", "7.00 s"]
    for ax, frame in zip(strip, (0, 2, 4), strict=True):
        assert ax.images[1].get_clim() == (0, 5)
        np.testing.assert_array_equal(ax.images[1].get_array(), MOVING[0, 0, frame])
    line, dots = profile.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [5, 5.5, 6, 6.5, 7])
    np.testing.assert_allclose(line.get_ydata(), temporal_profile(MOVING)[0])
    np.testing.assert_allclose(dots.get_xdata(), [5, 6, 7])
    assert profile.get_xlabel() == "time (s)"
    assert profile.get_ylabel() == "mean attribution"
    pixels(figure)


def test_a_strip_without_a_rate_counts_frames():
    _, axes = visualize_video_attr(MOVING, CLIP, frames=3, title="moving")
    assert [ax.get_title() for ax in axes[:-1]] == ["0", "2", "4"]
    assert axes[-1].get_xlabel() == "frame"
    assert axes[0].figure.get_suptitle() == "moving"


def test_an_animation_has_every_frame(tmp_path):
    path = tmp_path / "map.gif"
    animate_video_attr(MOVING, CLIP, fps=5, fig_size=(3, 3)).save(path, writer="pillow", dpi=40)
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
    pictures = [frame[: len(frame) // 2, : int(0.7 * frame.shape[1])] for frame in frames]
    yellow = [(picture[..., 0] - picture[..., 2]).max() for picture in pictures]
    assert yellow[0] < 30
    assert yellow[-1] > 60


def test_grey_videos_and_tensors():
    grey = torch.rand(5, 8, 8)
    for video in (grey, grey[..., None], grey.numpy()):
        _, axes = visualize_video_attr(MOVING[0], video, frames=1)
        np.testing.assert_allclose(axes[0].images[0].get_array(), grey[0])


@pytest.mark.parametrize(
    ("attr", "image", "message"),
    [
        (torch.zeros(2, 1, 4, 4), IMAGE, r"one map \(H, W\), .* got shape \(2, 1, 4, 4\)"),
        (torch.zeros(4), IMAGE, "Choose one sample"),
        (HEAT, IMAGE.transpose(2, 0, 1), r"channels-last, .* got shape \(3, 40, 60\)"),
        (HEAT, IMAGE.astype(float), r"bytes, or floats in \[0, 1\]; got float64 from 255 to 255"),
        (HEAT, -np.ones((4, 4)), "Undo the model's preprocessing"),
    ],
)
def test_pictures_that_do_not_fit_are_named(attr, image, message):
    with pytest.raises(ValueError, match=message):
        visualize_image_attr(attr, image)


def test_clips_of_another_length_are_named():
    with pytest.raises(ValueError, match="The map has 5 frames and the video 4"):
        visualize_video_attr(MOVING, CLIP[:4])
    with pytest.raises(ValueError, match=r"one map \(T, H, W\)"):
        animate_video_attr(torch.zeros(2, 1, 5, 4, 4), CLIP)


def test_channels_that_are_not_last_are_pointed_at():
    with pytest.raises(ValueError, match=r"tensor.movedim\(1, -1\)"):
        visualize_video_attr(MOVING, torch.zeros(5, 3, 8, 8))


@pytest.mark.parametrize("frames", [0, [], [5], [-1]])
def test_frames_that_are_not_there_are_named(frames):
    with pytest.raises(ValueError, match="must be a positive number, or frames from 0 to 4"):
        visualize_video_attr(MOVING, CLIP, frames=frames)


def test_a_rate_that_is_none_and_a_broken_map_are_named():
    with pytest.raises(ValueError, match="fps must be positive; got 0"):
        visualize_video_attr(MOVING, CLIP, fps=0)
    with pytest.raises(ValueError, match="attr holds NaN or Inf"):
        visualize_image_attr(HEAT / 0 * 0, IMAGE)


def test_rounding_outside_the_unit_interval_and_half_precision_are_drawn():
    _, ax = visualize_image_attr(HEAT.bfloat16(), torch.full((1, 4, 6, 3), 1.0005))
    assert ax.images[0].get_array().max() == 1
    visualize_image_attr(HEAT, torch.ones(1, 4, 6, 3).bfloat16())


def test_an_unknown_method_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="method='heatmap' is not known. Choose one of 'blend"):
        visualize_image_attr(HEAT, IMAGE, method="heatmap")


# -------------------------------------------------------------------------------------- signs

SIGNED = torch.tensor([[[-4.0, -1.0, 0.0], [0.0, 1.0, 2.0]]])


@pytest.mark.parametrize(
    ("sign", "rule", "limits", "label"),
    [
        ("positive", lambda v: v if v > 0 else 0, (0, 2), "attribution"),
        ("negative", lambda v: -v if v < 0 else 0, (0, 4), "−attribution"),
        ("absolute_value", abs, (0, 4), "|attribution|"),
        ("all", lambda v: v, (-4, 4), "attribution"),
        (None, lambda v: v, (-4, 4), "attribution"),
    ],
)
def test_a_sign_is_drawn_under_its_scale(sign, rule, limits, label):
    figure, ax = visualize_image_attr(SIGNED, sign=sign, method="heat_map", show_colorbar=True)
    (heat,) = ax.images
    expected = [[rule(v) for v in row] for row in SIGNED[0].tolist()]
    np.testing.assert_allclose(heat.get_array(), expected)
    assert heat.get_clim() == limits
    assert heat.cmap.name == ("RdBu_r" if sign in ("all", None) else "inferno")
    assert figure.axes[-1].get_ylabel() == label


def test_a_signed_map_is_clear_at_zero_and_as_opaque_at_either_end():
    _, ax = visualize_image_attr(SIGNED, np.ones((2, 3)), alpha_overlay=0.9)
    expected = [[0.9 * (abs(v) / 4) ** 0.5 for v in row] for row in SIGNED[0].tolist()]
    np.testing.assert_allclose(ax.images[1].get_alpha(), expected, rtol=1e-6)


def test_a_map_without_negative_values_has_a_scale_from_zero_unless_asked():
    _, ax = visualize_image_attr(HEAT, IMAGE, sign="all", cmap="PuOr")
    assert ax.images[1].get_clim() == (-2, 2)
    assert ax.images[1].cmap.name == "PuOr"
    assert visualize_image_attr(HEAT, IMAGE)[1].images[1].get_clim() == (0, 2)


@pytest.mark.parametrize("method", ["masked_image", "alpha_scaling"])
def test_a_method_that_hides_the_sign_says_so(method):
    with pytest.raises(ValueError, match="cannot tell negative .* Choose sign='positive'"):
        visualize_image_attr(SIGNED, np.ones((2, 3)), method)
    _, ax = visualize_image_attr(SIGNED, np.ones((2, 3)), method, "absolute_value")
    np.testing.assert_allclose(ax.images[1].get_alpha(), 1 - SIGNED[0].abs() / 4)


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("sign", [None, "positive", "negative", "all"])
def test_constant_maps_are_drawn_without_a_warning(value, sign):
    attr = torch.full((2, 4, 4), value)
    figure, _ = visualize_video_attr(
        attr, np.zeros((2, 8, 8)), sign=sign, scale="each", fig_size=(4, 3)
    )
    pixels(figure)


# ------------------------------------------------------------------------------ boxes, tubes


def rectangles(ax):
    return [patch.get_bbox().extents.tolist() for patch in ax.patches]


def test_boxes_of_the_map_lie_over_the_same_part_of_the_picture():
    # The map's pixel (1, 4) of 4 x 6 covers rows 10 to 19 and columns 40 to 49 of 40 x 60.
    boxes = Boxes(torch.tensor([[4.0, 1.0, 5.0, 2.0]]), torch.tensor([0.876]))
    _, ax = visualize_image_attr(HEAT, IMAGE, boxes=boxes)
    assert rectangles(ax) == [[39.5, 9.5, 49.5, 19.5]]
    assert [text.get_text().strip() for text in ax.texts] == ["0.88"]
    _, ax = visualize_image_attr(HEAT, IMAGE, boxes=boxes, box_size=(40, 60))
    assert rectangles(ax) == [[3.5, 0.5, 4.5, 1.5]]


def test_frames_have_their_boxes_and_the_tubes_that_cross_them():
    tube = Tube(3, torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]]), score=0.5)
    _, axes = visualize_video_attr(
        MOVING, CLIP[:, :4, :6], frames=[0, 3, 4], boxes=frame_boxes(MOVING)[0], tubes=[tube]
    )
    # Above half the clip's maximum of 5 are the spots of frames 2 to 4 alone.
    assert rectangles(axes[0]) == []
    assert rectangles(axes[1]) == [[2.5, 0.5, 3.5, 1.5], [-0.5, -0.5, 1.5, 1.5]]
    assert rectangles(axes[2]) == [[3.5, 0.5, 4.5, 1.5], [0.5, -0.5, 2.5, 1.5]]
    (entry,) = axes[-1].get_legend().get_texts()
    assert entry.get_text() == "tube 1 (0.50)"


def test_tubes_have_lines_of_their_own_which_the_legend_names():
    tubes = {
        name: Tube(0, torch.tensor([[0.0, 0, 2, 2]]).expand(5, 4), 1.0) for name in ("truth", "b")
    }
    _, axes = visualize_video_attr(MOVING, CLIP, frames=1, tubes=tubes)
    legend = axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["truth", "b"]
    for patch, line in zip(axes[0].patches, legend.get_lines(), strict=True):
        assert plt.matplotlib.colors.same_color(patch.get_edgecolor(), line.get_color())
        assert patch.get_linestyle() == line.get_linestyle()
    assert len({line.get_color() for line in legend.get_lines()}) == 2


def test_a_box_with_nan_is_none():
    boxes = torch.tensor([[0.0, 0, 2, 2], [np.nan] * 4, [1, 0, 3, 2], [1, 0, 3, 2], [1, 0, 3, 2]])
    _, axes = visualize_video_attr(MOVING, CLIP, frames=[0, 1], tubes=[Tube(0, boxes, 1.0)])
    assert [len(ax.patches) for ax in axes[:2]] == [1, 0]


def test_without_tubes_there_is_no_legend():
    assert visualize_video_attr(MOVING, CLIP)[1][-1].get_legend() is None


BOXES = Boxes(torch.zeros(1, 4), torch.zeros(1))
TUBE = Tube(0, torch.zeros(2, 4), 1.0)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"boxes": BOXES}, TypeError, r"of a clip localization.frame_boxes\(maps\)\[i\]"),
        ({"boxes": [[BOXES] * 5]}, TypeError, "those of one sample"),
        ({"boxes": [BOXES] * 4}, ValueError, "boxes for 4 frames, and the clip has 5"),
        (
            {"boxes": [Boxes(torch.zeros(1, 6), torch.zeros(1))] * 5},
            ValueError,
            r"\(B, 4\), x0, y0, x1, y1; got shape \(1, 6\)",
        ),
        ({"tubes": [[TUBE]]}, TypeError, r"localization.tubes\(maps\)\[i\]"),
        ({"tubes": {"truth": [TUBE]}}, TypeError, r"localization.tubes\(maps\)\[i\]"),
        (
            {"tubes": {"truth": Tube(5, torch.zeros(2, 4), 1.0)}},
            ValueError,
            "truth covers the frames 5 to 6, and the clip has 5. Count",
        ),
        ({"tubes": [Tube(0, torch.zeros(2, 6), 1.0)]}, ValueError, r"got shape \(2, 6\)"),
        ({"segments": [[Segment(0, 1, 1.0)]]}, TypeError, "localization.segments"),
        ({"segments": [Segment(7, 9, 1.0)]}, ValueError, "frames 7 to 8, and the clip has 5"),
        ({"box_size": (0, 4)}, ValueError, r"box_size=\(0, 4\) must be \(H, W\)"),
    ],
)
def test_what_is_not_of_this_clip_is_named(given, error, message):
    with pytest.raises(error, match=message):
        visualize_video_attr(MOVING, CLIP, **given)


# ----------------------------------------------------------------------------- grids, scales


def test_a_grid_has_so_many_columns_and_the_profile_below_all():
    figure, axes = visualize_video_attr(MOVING, CLIP, frames=5, columns=2)
    places = [ax.get_subplotspec() for ax in axes]
    rows = [[place.rowspan.start, place.colspan.start] for place in places]
    assert rows == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [3, 0]]
    assert list(places[-1].colspan) == [0, 1]
    pixels(figure)
    with pytest.raises(ValueError, match="columns=0 must be 1 or more"):
        visualize_video_attr(MOVING, CLIP, columns=0)


def test_each_frame_by_its_own_maximum_when_asked_and_the_profile_as_it_is():
    figure, axes = visualize_video_attr(MOVING, CLIP, frames=5, scale="each")
    for ax, frame in zip(axes, range(5), strict=False):
        np.testing.assert_allclose(ax.images[1].get_array(), MOVING[0, 0, frame] / (frame + 1))
        assert ax.images[1].get_clim() == (0, 1)
    assert figure.axes[-1].get_ylabel() == "attribution / frame's maximum"
    assert axes[-1].get_ylabel() == "mean attribution"
    np.testing.assert_allclose(axes[-1].get_lines()[0].get_ydata(), temporal_profile(MOVING)[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": "frame"}, "scale='frame' is not known. Choose one of 'shared', 'each'"),
        ({"scale": "each", "vmax": 2.0}, "vmax=2.0 is one scale for all and scale='each' is not"),
        ({"vmax": 0}, "vmax=0 must be positive"),
        ({"vmax": float("nan")}, "vmax=nan must be positive"),
        ({"alpha_overlay": 1.1}, "alpha_overlay=1.1 is not an opacity"),
        ({"sign": "both"}, "sign='both' is not known"),
        ({"plt_fig_axis": (None, [])}, "needs 6 axes; plt_fig_axis has 0"),
    ],
)
def test_arguments_that_fight_or_are_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        visualize_video_attr(MOVING, CLIP, **given)


def test_a_video_on_axes_that_one_has():
    figure = plt.matplotlib.figure.Figure()
    given = list(figure.subplots(1, 3))
    found, axes = visualize_video_attr(MOVING, CLIP, frames=2, plt_fig_axis=(figure, given))
    assert (found, axes) == (figure, given)
    assert [len(ax.images) for ax in given] == [2, 2, 0]


def test_titles_name_the_class_and_its_score():
    named = {"class_name": "run", "class_score": 0.934}
    assert visualize_image_attr(HEAT, IMAGE, **named)[1].get_title() == "run (0.93)"
    figure, _ = visualize_video_attr(MOVING, CLIP, title="Sum3DCAM", **named)
    assert figure.get_suptitle() == "Sum3DCAM: run (0.93)"
    assert visualize_image_attr(HEAT, IMAGE, class_name="run")[1].get_title() == "run"
    assert visualize_image_attr(HEAT, IMAGE, class_score=2)[1].get_title() == "score (2.00)"
    assert visualize_image_attr(HEAT, IMAGE)[1].get_title() == ""


# ------------------------------------------------------------------------------ the profile


def test_a_profile_is_the_mean_over_space_with_its_segments_half_a_frame_around():
    figure, ax = visualize_temporal_profile(
        MOVING, [Segment(1, 3, 0.5)], fps=2, start=10, class_name="run"
    )
    (line,) = ax.get_lines()
    means = [sum(v for row in frame for v in row) / 24 for frame in MOVING[0, 0].tolist()]
    np.testing.assert_allclose(line.get_ydata(), means)
    (span,) = ax.patches
    assert span.get_bbox().intervalx.tolist() == [(11 - 0.5) / 2, (13 - 0.5) / 2]
    assert ax.get_xlim() == ((10 - 0.5) / 2, (14 + 0.5) / 2)
    assert ax.get_title() == "run"
    pixels(figure)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5)])
def test_a_signal_is_its_own_profile(shape):
    _, ax = visualize_temporal_profile(torch.arange(5.0).reshape(shape))
    assert ax.get_lines()[0].get_ydata().tolist() == [0, 1, 2, 3, 4]


def test_a_profile_with_negative_values_is_whole_and_has_a_line_at_zero():
    _, ax = visualize_temporal_profile(torch.tensor([-3.0, 1.0]))
    profile, zero = ax.get_lines()
    assert profile.get_ydata().tolist() == [-3, 1]
    assert set(zero.get_ydata()) == {0}
    assert ax.get_ylim()[0] < -3
    _, ax = visualize_temporal_profile(torch.tensor([-3.0, 1.0]), sign="negative")
    assert ax.get_lines()[0].get_ydata().tolist() == [3, 0]
    assert ax.get_ylabel() == "mean −attribution"


# --------------------------------------------------------------------------------- animations


def small_animation(**given):
    return animate_video_attr(MOVING, CLIP, fig_size=(2.05, 2.05), **given)


def test_an_animation_moves_its_map_boxes_and_clock(tmp_path):
    tube = Tube(1, torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]]), score=0.5)
    animation = small_animation(fps=4, start=2, tubes=[tube], segments=[Segment(1, 3, 1.0)])
    seen = []

    class Watch(plt.matplotlib.animation.AbstractMovieWriter):
        def setup(self, fig, outfile, dpi=None):
            self.fig = fig

        def grab_frame(self, **_):
            ax, profile, _ = self.fig.axes
            cursor = profile.get_lines()[-1]
            heat = np.asarray(ax.images[1].get_array())
            seen.append((ax.get_title(), rectangles(ax), heat, cursor.get_xdata()[0]))

        def finish(self):
            pass

    animation.save(tmp_path / "x", writer=Watch())
    titles, boxes, heats, cursors = zip(*seen, strict=True)
    assert titles == ("0.50 s", "0.75 s", "1.00 s", "1.25 s", "1.50 s")
    assert boxes == ([], [[-0.5, -0.5, 19.5, 19.5]], [[9.5, -0.5, 29.5, 19.5]], [], [])
    np.testing.assert_array_equal(np.stack(heats), MOVING[0, 0])
    np.testing.assert_allclose(cursors, [0.5, 0.75, 1, 1.25, 1.5])


def test_a_movie_has_every_frame_at_its_rate(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    monkeypatch.setitem(plt.rcParams, "animation.ffmpeg_path", "there-is-no-such-program")
    path = tmp_path / "map.mp4"
    save_animation(small_animation(fps=12.5), path, dpi=60)
    with av.open(str(path)) as movie:
        stream = movie.streams.video[0]
        assert stream.average_rate == 12.5
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in movie.decode(stream)]
    assert [frame.shape for frame in frames] == [(122, 122, 3)] * 5  # 123 pixels, made even
    # The last frame has the brightest spot, and colours come in their order: yellow has no blue.
    yellow = [(frame[..., 0] - frame[..., 2])[:80, :90].max() for frame in frames]
    assert yellow[-1] == max(yellow)
    assert yellow[-1] > 100
    assert list(tmp_path.iterdir()) == [path]


def test_ffmpeg_writes_the_movie_where_there_is_one(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    code = "import sys; data = sys.stdin.buffer.read(); open(sys.argv[-1], 'wb').write(data)"
    program.write_text(f"#!{sys.executable}\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setitem(plt.rcParams, "animation.ffmpeg_path", str(program))
    save_animation(small_animation(), tmp_path / "map.mp4", dpi=40)
    raw = (tmp_path / "map.mp4").read_bytes()
    assert len(raw) == 5 * 82 * 82 * 4  # five frames of four bytes a pixel came through the pipe


def test_a_movie_without_a_writer_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(plt.rcParams, "animation.ffmpeg_path", "there-is-no-such-program")
    monkeypatch.setattr("captum_3dcam.visualization.animation.find_spec", lambda name: None)
    animation = small_animation()
    with pytest.raises(ImportError, match=r"pip install 'captum_3dcam\[video\]'. A .gif needs"):
        save_animation(animation, tmp_path / "map.mp4")
    save_animation(animation, tmp_path / "map.gif", dpi=20)


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "map.gif"
    path.write_text("what was there")
    animation = small_animation()

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    whole = animation.save
    animation.save = lambda *args, **kwargs: whole(*args, progress_callback=interrupt, **kwargs)
    with pytest.raises(KeyboardInterrupt):
        save_animation(animation, path, dpi=20)
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_written_are_named(tmp_path):
    animation = small_animation()
    with pytest.raises(ValueError, match="map.avi' should end on .gif or .mp4"):
        save_animation(animation, tmp_path / "map.avi")
    with pytest.raises(FileNotFoundError, match="There is no folder .*missing"):
        save_animation(animation, tmp_path / "missing" / "map.gif")
    save_animation(animation, tmp_path / "MAP.GIF", dpi=20)


# ------------------------------------------------------------------------------------ pyplot


def test_pyplot_shows_what_was_drawn_when_asked(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    figure, _ = visualize_image_attr(HEAT, IMAGE, use_pyplot=True)
    assert shown == [[figure.number]]
    plt.close(figure)
    figure, _ = visualize_video_attr(MOVING, CLIP, use_pyplot=True)
    assert shown[1:] == [[figure.number]]
    plt.close(figure)


def test_what_is_wrong_leaves_no_figure_in_pyplot():
    with pytest.raises(TypeError):
        visualize_image_attr(HEAT, IMAGE, boxes=[BOXES], use_pyplot=True)
    with pytest.raises(ValueError, match="segment"):
        visualize_video_attr(MOVING, CLIP, segments=[Segment(7, 9, 1.0)], use_pyplot=True)


def test_importing_the_room_imports_no_pyplot():
    # Captum has brought pyplot by then: without it, an import of ours would bring it again.
    code = (
        "import sys, matplotlib, captum_3dcam; del sys.modules['matplotlib.pyplot']; "
        "del matplotlib.pyplot; import captum_3dcam.visualization; "
        "print([m for m in ('matplotlib.pyplot', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------- at the door


def test_a_map_alone_needs_no_picture_and_the_others_say_so():
    _, ax = visualize_image_attr(HEAT, method="heat_map")
    assert list(ax.images[0].get_extent()) == [-0.5, 5.5, 3.5, -0.5]
    _, axes = visualize_video_attr(MOVING, method="heat_map", frames=2)
    assert [len(ax.images) for ax in axes] == [1, 1, 0]
    with pytest.raises(ValueError, match="pass it beside attr, or choose method='heat_map'"):
        visualize_image_attr(HEAT)


@pytest.mark.parametrize(
    ("attr", "image", "message"),
    [
        (torch.zeros(1, 3, 4, 4), IMAGE, r"sum channels: attr.sum\(1\)"),
        (torch.zeros(0, 4), IMAGE, r"got shape \(0, 4\)"),
        (torch.full((4, 4), 1e39, dtype=torch.float64), IMAGE, "attr holds NaN or Inf"),
        (torch.zeros(4, 4, dtype=torch.complex64), IMAGE, "real numbers; got complex64"),
        (HEAT, np.zeros((0, 4, 3)), "The picture is empty"),
        (HEAT, np.zeros((40, 60, 4)), "must be channels-last"),
    ],
)
def test_maps_and_pictures_that_are_none_are_named(attr, image, message):
    with pytest.raises(ValueError, match=message):
        visualize_image_attr(attr, image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_maps_of_any_precision_with_gradients(dtype):
    attr = HEAT.to(dtype)
    if dtype.is_floating_point:
        attr.requires_grad_()
    _, ax = visualize_image_attr(attr, IMAGE)
    np.testing.assert_array_equal(ax.images[1].get_array(), HEAT[0, 0])


def test_a_batch_of_one_grey_picture():
    _, ax = visualize_image_attr(HEAT, torch.full((1, 1, 40, 60), 0.5))
    assert ax.images[0].get_array().shape == (40, 60)
