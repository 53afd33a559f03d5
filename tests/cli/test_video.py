"""``captum-3dcam explain`` of videos, against what the library returns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from explain_command import FPS, SEED, fails, maps, network, run
from PIL import Image, ImageSequence

from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam import localization as loc
from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.cli import main
from captum_3dcam.explanation import _figures as figures
from captum_3dcam.explanation import _overlay as overlay
from captum_3dcam.explanation import _regions as regions
from captum_3dcam.explanation import _saving as saving
from captum_3dcam.explanation import _video as video
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import FrameTimes, VideoFile, read_video, write_video
from captum_3dcam.models import Preprocessing
from captum_3dcam.sliding import SlidingWindowCAM, shot_boundaries
from captum_3dcam.visualization import OverlayRenderer, Style, overlay_frames


def frames_of(length, seed=SEED, size=(16, 20)):
    """Smooth drifting frames, which the codec hardly changes."""
    rng = np.random.default_rng(seed)
    wide = rng.uniform(40, 216, (4, 5 + length // 6 + 2, 3))
    y = np.linspace(0, 3, size[0])
    frames = []
    for t in range(length):
        x = np.linspace(0, 4, size[1]) + t / 6
        rows = wide[y.astype(int)] * (1 - y % 1)[:, None, None]
        rows = rows + wide[np.minimum(y.astype(int) + 1, 3)] * (y % 1)[:, None, None]
        columns = rows[:, x.astype(int)] * (1 - x % 1)[None, :, None]
        frames.append(columns + rows[:, x.astype(int) + 1] * (x % 1)[None, :, None])
    return np.stack(frames).round().astype(np.uint8)


@pytest.fixture
def video_file(folder):
    """Write a video of scenes of these lengths; return its path and the decoded clip."""
    pytest.importorskip("av")

    def make(*lengths):
        scenes = [frames_of(length, seed) for seed, length in enumerate(lengths)]
        write_video(np.concatenate(scenes), "video.mp4", FPS)
        clip = torch.from_numpy(read_video("video.mp4").frames)
        return "video.mp4", clip.movedim(-1, 0)[None] / 255

    return make


def test_a_video_of_one_window(video_file, capsys):
    path, clip = video_file(14)
    report = run(capsys, path, "clip", "--layers", "first", "second")
    model, _ = network("clip")
    expected = GlobalLocalCAM3D(model, ["first", "second"]).attribute(clip)
    torch.testing.assert_close(maps(), expected[0])
    (result,) = report["results"]
    assert "windows" not in result
    with torch.no_grad():
        assert result["score"] == pytest.approx(model(clip).max().item(), rel=1e-4)
    # What is shown is the file.
    assert report["input"].pop("fingerprint") == report["input"].pop("original")
    assert report["input"] == {
        "kind": "video", "size": [16, 20], "frames": 14, "fps": FPS, "boundaries": [],
        "model_size": [16, 20], "damage": None, "times": [t / FPS for t in range(15)],
    }  # fmt: skip
    assert set(report["files"]) == {"report", "map", "figure", "overlay"}


def test_tubes_and_segments_are_those_of_localization(video_file, figures_not_drawn, capsys):
    path, _ = video_file(45)
    report = run(capsys, path, "prepared_clip", "--overlay", "none", "--layers", "late")
    heat = maps()[None]
    (result,) = report["results"]
    (segments,) = loc.segments(temporal_profile(heat), fps=FPS)
    assert [(s["start"], s["end"]) for s in result["segments"]] == [
        (s.start, s.end) for s in segments
    ]
    assert result["segments"][0]["seconds"] == pytest.approx(segments[0].seconds, abs=0.005)
    (tubes,) = loc.link(loc.frame_boxes(heat, select="all"), 0.1, 2, fps=FPS)
    assert [(t["start"], t["end"]) for t in result["tubes"]] == [
        (t.start, t.end) for t in tubes[: regions._MAX_TUBES]
    ]
    # In pixels of the video, 16 x 20; the model receives 12 x 16.
    scale = torch.tensor([20 / 16, 16 / 12, 20 / 16, 16 / 12])
    for reported, tube in zip(result["tubes"], tubes, strict=False):
        boxes = torch.tensor(reported["boxes"])
        torch.testing.assert_close(boxes, tube.boxes * scale, atol=0.006, rtol=0)


def explain_in_windows(model, clip, boundaries=(), target=None, **more):
    sliding = SlidingWindowCAM(GlobalLocalCAM3D(model, "first"), 16, batch_size=4, **more)
    return sliding.attribute_windows(clip, target, boundaries=boundaries)


def windows_of(report, number=0):
    return [(w["start"][0], w["stop"][0], w["class"]) for w in report["results"][number]["windows"]]


def test_a_longer_video_is_explained_in_windows_for_one_class(
    video_file, figures_not_drawn, capsys
):
    path, clip = video_file(45)
    report = run(capsys, path, "clip", "--layers", "first")
    model, _ = network("clip")
    expected = explain_in_windows(model, clip, target="whole")
    torch.testing.assert_close(maps()[None], expected.attribution)
    assert windows_of(report) == [(w.start[0], w.stop[0], w.target) for w in expected.windows[0]]
    (result,) = report["results"]
    assert result["class"] == expected.windows[0][0].target
    means = [sum(part) / len(part) for part in zip(
        *((w.score, w.factor) for w in expected.windows[0]), strict=True
    )]  # fmt: skip
    assert [result["score"], result["probability"]] == pytest.approx(means, rel=1e-4)


def test_target_each_is_the_highest_class_of_each_window(video_file, figures_not_drawn, capsys):
    path, clip = video_file(45)
    more = ["--target", "each", "--overlay", "none"]
    report = run(capsys, path, "clip", "--layers", "first", *more)
    model, _ = network("clip")
    expected = explain_in_windows(model, clip)
    torch.testing.assert_close(maps()[None], expected.attribution)
    assert windows_of(report) == [(w.start[0], w.stop[0], w.predicted) for w in expected.windows[0]]
    (result,) = report["results"]
    assert (result["class"], result["name"]) == (None, "highest class of each window")


def test_target_each_of_a_video_of_one_window_is_its_highest_class(
    video_file, figures_not_drawn, capsys
):
    path, clip = video_file(14)
    report = run(capsys, path, "clip", "--layers", "first", "--target", "each", "--overlay", "none")
    model, _ = network("clip")
    with torch.no_grad():
        assert report["results"][0]["class"] == model(clip).argmax()
    assert report["settings"]["target"] == "each"


def test_the_highest_classes_of_a_longer_video(video_file, capsys):
    path, clip = video_file(45)
    report = run(capsys, path, "clip", "--layers", "first", "--target", "top2")
    model, _ = network("clip")
    starts = [0, 8, 16, 24, 29]
    with torch.no_grad():
        outputs = torch.cat([model(clip[:, :, t : t + 16]) for t in starts])
    top = outputs.softmax(1).mean(0).topk(2)
    assert [result["class"] for result in report["results"]] == top.indices.tolist()
    probabilities = [result["probability"] for result in report["results"]]
    assert probabilities == pytest.approx(top.values.tolist(), rel=1e-4)
    for heat, target in zip(maps(), top.indices.tolist(), strict=True):
        torch.testing.assert_close(
            heat[None, None], explain_in_windows(model, clip, target=target).attribution
        )
    a, b = top.indices.tolist()
    assert set(report["files"]) == {"report", "map", "figure", f"overlay_{a}", f"overlay_{b}"}


def test_the_default_class_has_the_highest_mean_probability(folder, figures_not_drawn, capsys):
    pytest.importorskip("av")
    levels = np.repeat([10, 128, 128, 254], 16)
    frames = np.broadcast_to(levels[:, None, None, None], (64, 16, 20, 3)).astype(np.uint8)
    write_video(frames, "levels.mp4", FPS)
    more = ["--layers", "active", "--stride", "16", "--boundaries", "none", "--overlay", "none"]
    (result,) = run(capsys, "levels.mp4", "Brightness", *more)["results"]
    # Neither the class of the first window, nor that of the highest mean score, which is white.
    assert result["class"] == 1
    assert [w["probability"] > 0.9 for w in result["windows"]] == [False, True, True, False]


def test_a_model_of_probabilities(video_file, figures_not_drawn, capsys):
    path, clip = video_file(45)
    more = ["--returns", "probabilities", "--target", "1", "--overlay", "none"]
    report = run(capsys, path, "likely", "--layers", "first", *more)
    model, _ = network("likely")
    expected = explain_in_windows(model, clip, target=1, scale="score")
    torch.testing.assert_close(maps()[None], expected.attribution)
    (result,) = report["results"]
    assert result["probability"] == pytest.approx(result["score"])
    short = run(capsys, path, "likely", "--layers", "first", *more, "--window", "60")
    assert short["results"][0]["probability"] == short["results"][0]["score"]


def test_a_model_of_one_score(video_file, figures_not_drawn, capsys):
    path, clip = video_file(45)
    report = run(capsys, path, "single", "--layers", "first", "--overlay", "none")
    model, _ = network("single")
    torch.testing.assert_close(maps()[None], explain_in_windows(model, clip).attribution)
    (result,) = report["results"]
    assert (result["class"], result["name"]) == (None, "score")
    probabilities = [torch.tensor(w["score"]).sigmoid().item() for w in result["windows"]]
    assert result["probability"] == pytest.approx(sum(probabilities) / len(probabilities), rel=1e-4)


def test_no_window_crosses_a_boundary(video_file, figures_not_drawn, capsys):
    path, clip = video_file(20, 22)
    assert shot_boundaries(clip[0]) == [20]
    words = ["clip", "--layers", "first", "--target", "2", "--overlay", "none"]
    report = run(capsys, path, *words)
    model, _ = network("clip")
    assert report["input"]["boundaries"] == [20]
    torch.testing.assert_close(maps()[None], explain_in_windows(model, clip, [20], 2).attribution)
    assert all(stop <= 20 or start >= 20 for start, stop, _ in windows_of(report))
    given = run(capsys, path, *words, "--boundaries", "10,30")
    assert given["input"]["boundaries"] == [10, 30]
    torch.testing.assert_close(
        maps()[None], explain_in_windows(model, clip, [10, 30], 2).attribution
    )
    run(capsys, path, *words, "--boundaries", "none")
    torch.testing.assert_close(maps()[None], explain_in_windows(model, clip, [], 2).attribution)


def test_a_boundary_in_the_first_window(video_file, figures_not_drawn, capsys):
    path, clip = video_file(7, 8)
    report = run(capsys, path, "clip", "--layers", "first", "--target", "2", "--overlay", "none")
    model, _ = network("clip")
    assert windows_of(report) == [(0, 7, 2), (7, 15, 2)]
    torch.testing.assert_close(maps()[None], explain_in_windows(model, clip, [7], 2).attribution)


def test_a_long_video_is_never_in_memory_as_a_whole(video_file, capsys, monkeypatch):
    path, _ = video_file(70)
    lengths = []
    frames = VideoFile.chunks

    def counted(self, length):
        for chunk in frames(self, length):
            lengths.append(len(chunk))
            yield chunk

    monkeypatch.setattr(VideoFile, "chunks", counted)
    monkeypatch.setattr(figures, "_MAX_FRAMES", 16)
    run(capsys, path, "clip", "--layers", "first", "--target", "1")
    _, received = network("clip")
    assert max(lengths) == 17
    assert max(x.shape[0] * x.shape[2] for x in received) == 4 * 16
    assert maps().shape[1] == 70


def explained(capsys, path, *more):
    """The report and the maps of a video, without those of its files that take time."""
    report = run(capsys, path, "clip", "--layers", "first", "--overlay", "none", *more)
    return report["results"], maps().clone()


@pytest.mark.parametrize("lengths", [(14,), (45,)])
def test_large_frames_are_read_in_parts_of_a_window(
    lengths, video_file, figures_not_drawn, capsys, monkeypatch
):
    path, _ = video_file(*lengths)
    results, expected = explained(capsys, path)
    frame = 4 * 3 * 16 * 20
    decoded = []
    frames = VideoFile.chunks
    monkeypatch.setattr(
        VideoFile, "chunks", lambda self, length: decoded.append(length) or frames(self, length)
    )
    for share in (2, 6, 20):
        monkeypatch.setenv(MAX_BYTES_VARIABLE, str(20 * frame))
        monkeypatch.setattr(video, "_MEMORY_SHARE", share)
        monkeypatch.setattr("captum_3dcam.io._video_decoder.BYTES_PER_PIXEL", 1)
        found, shown = explained(capsys, path)
        assert found == results
        torch.testing.assert_close(shown, expected)
    assert set(decoded) == {9, 3, 1}


def test_windows_above_the_memory_limit_are_refused(video_file, capsys, monkeypatch):
    path, _ = video_file(45)
    size = 17 * 4 * 3 * 16 * 20
    monkeypatch.setattr("captum_3dcam.io._video_decoder.BYTES_PER_PIXEL", 1)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size - 1))
    message, code = fails(capsys, path, "clip", "--layers", "first")
    assert code == 1
    assert message.startswith(
        f"'video.mp4' describes windows of 16 frames as floats, {size:,} bytes in memory; the "
        f"limit is {size - 1:,}. Pass a smaller size, or smaller windows. If this is right"
    )
    assert not Path("video_explained").exists()
    with Path("model.py").open("a") as file:
        file.write("class Own(Net):\n    PREPROCESSING = staticmethod(lambda x: x.float() / 255)\n")
    message, _ = fails(capsys, path, "Own", "--layers", "first")
    assert "describes windows of 16 frames as floats, " in message
    # A short video is smaller, and one that is resized too.
    path, _ = video_file(16)
    explained(capsys, path)
    path, _ = video_file(45)
    explained(capsys, path, "--size", "12", "16")


def test_the_figure_of_large_maps_shows_fewer_frames(video_file, capsys, monkeypatch):
    path, _ = video_file(40)
    shown = []
    figure = figures.visualize_video_attr
    monkeypatch.setattr(
        figures,
        "visualize_video_attr",
        lambda attr, clip, **more: shown.append(attr.shape) or figure(attr, clip, **more),
    )
    monkeypatch.setattr("captum_3dcam.io._video_decoder.BYTES_PER_PIXEL", 1)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(20 * 4 * 3 * 16 * 20))
    explained(capsys, path)
    monkeypatch.setattr(figures, "_MEMORY_SHARE", 2)
    explained(capsys, path)
    assert shown == [(14, 16, 20), (20, 16, 20)]


def test_very_wide_frames_are_resized_by_their_width(
    folder, figures_not_drawn, monkeypatch, capsys
):
    pytest.importorskip("av")
    write_video(frames_of(8, size=(16, 80)), "wide.mp4", FPS)
    monkeypatch.setattr(overlay, "_HEIGHT", 8)
    sizes, make = [], overlay.OverlayRenderer
    monkeypatch.setattr(
        overlay, "OverlayRenderer", lambda size, *a, **k: sizes.append(size) or make(size, *a, **k)
    )
    run(capsys, "wide.mp4", "clip", "--layers", "first")
    assert sizes == [(6, 32)]
    assert len(read_video("out/overlay.mp4").frames) == 8


def test_the_overlay_shows_the_map_over_the_video(video_file, figures_not_drawn, capsys):
    path, clip = video_file(14)
    frames = (255 * clip[0]).round().byte().movedim(0, -1)
    for suffix in ("mp4", "gif"):
        report = run(capsys, path, "prepared_clip", "--overlay", suffix)
        shown = read_video(f"out/overlay.{suffix}")
        assert shown.fps == pytest.approx(FPS, rel=0.01)
        (result,) = report["results"]
        title = f"{result['name']} ({result['probability']:.2f})"
        style = Style(sign="positive")
        expected = overlay_frames(maps(), frames, fps=FPS, title=title, style=style)
        assert shown.frames.shape == expected.shape
        difference = np.abs(shown.frames.astype(float) - expected)
        assert difference.mean() < 4 < np.abs(expected - 255.0).mean()


def test_a_gif_of_a_fast_video_skips_frames(folder, figures_not_drawn, capsys):
    pytest.importorskip("av")
    write_video(frames_of(12), "fast.mp4", 60)
    run(capsys, "fast.mp4", "clip", "--layers", "first", "--overlay", "gif")
    with Image.open("out/overlay.gif") as shown:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(shown)]
    assert len(durations) == 6
    assert sum(durations) == 200  # ms, of 12 frames at 60 a second


def test_a_preprocessing_may_not_change_the_number_of_frames(video_file, figures_not_drawn, capsys):
    path, _ = video_file(14)
    assert fails(capsys, path, "skipping", "--layers", "first") == (
        "The preprocessing turns 14 frames into shape (3, 7, 16, 20); expected a tensor "
        "(C, T, H, W) with as many frames.", 2,
    )  # fmt: skip


def test_a_file_that_is_not_a_video(folder, figures_not_drawn, capsys):
    pytest.importorskip("av")
    Path("notes.txt").write_text("no frames")
    words = ["notes.txt", "clip", "--layers", "first"]
    message, code = fails(capsys, *words)
    assert code == 2
    assert "'notes.txt' is text, neither an image, a video nor a scan" in message
    message, code = fails(capsys, *words, "--kind", "video")
    assert code == 1
    assert message.startswith("'notes.txt' cannot be read as a video: ")


@pytest.mark.parametrize("step", ["map", "overlay", "report"])
def test_ctrl_c_leaves_no_partial_file(step, video_file, figures_not_drawn, capsys, monkeypatch):
    path, _ = video_file(45)
    run(capsys, path, "clip", "--layers", "first", "--target", "0")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}

    def interrupt(*arguments):
        raise KeyboardInterrupt

    if step == "map":
        monkeypatch.setattr(video._MapFile, "read", interrupt)
    elif step == "overlay":
        render, calls = OverlayRenderer.render, []

        def interrupt_frame_20(*arguments):
            calls.append(arguments)
            return interrupt() if len(calls) == 20 else render(*arguments)

        monkeypatch.setattr(OverlayRenderer, "render", interrupt_frame_20)
    else:
        monkeypatch.setattr(saving, "make_report", interrupt)
    words = ["explain", path, "--model", "model.py:clip", "--layers", "first", "--output", "out"]
    assert main([*words, "--target", "1"]) == 130
    assert capsys.readouterr() == ("", "captum-3dcam explain: interrupted\n")
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_a_cropped_video_is_explained_where_the_network_saw_it(video_file, capsys):
    path, clip = video_file(45)
    words = ["--layers", "first", "--target", "1", "--size", "12", "--crop", "8"]
    report = run(capsys, path, "clip", *words)
    prepared = Preprocessing(size=12, crop=8)((255 * clip[0]).round().byte())[None]
    model, _ = network("clip")
    expected = explain_in_windows(model, prepared, target=1).attribution
    assert maps().shape == (1, 45, 12, 15)  # frames of 16 x 20, resized
    torch.testing.assert_close(maps()[None, :, :, 2:10, 4:12], expected, atol=1e-5, rtol=1e-3)
    assert maps().sum() == pytest.approx(expected.sum().item(), rel=1e-3)
    assert report["input"]["model_size"] == [8, 8]
    boxes = torch.cat([torch.tensor(tube["boxes"]) for tube in report["results"][0]["tubes"]])
    x0, y0, x1, y1 = Preprocessing(size=12, crop=8).seen((16, 20))
    assert (boxes[:, :2] >= torch.tensor([x0, y0]) - 0.01).all()
    assert (boxes[:, 2:] <= torch.tensor([x1, y1]) + 0.01).all()


# --------------------------------------------------------------------------------- time


EDGES = np.concatenate([0.04 * np.arange(20), 0.8 + 0.4 * np.arange(21)])


@pytest.fixture
def variable_video(folder):
    """Forty frames, the last twenty of which are shown for 0.4 s each."""
    pytest.importorskip("av")
    write_video(frames_of(40), "variable.mp4", FrameTimes(EDGES))
    clip = torch.from_numpy(read_video("variable.mp4").frames)
    return "variable.mp4", clip.movedim(-1, 0)[None] / 255


def test_everything_is_at_the_frames_own_times(variable_video, figures_not_drawn, capsys):
    path, _ = variable_video
    report = run(capsys, path, "clip", "--layers", "first", "--boundaries", "none")
    np.testing.assert_allclose(report["input"]["times"], EDGES, atol=1e-4)
    assert report["input"]["fps"] == pytest.approx(40 / 8.8, abs=1e-4)
    (result,) = report["results"]
    for region in result["segments"] + result["tubes"]:
        expected = [EDGES[region["start"]], EDGES[region["end"]]]
        assert region["seconds"] == pytest.approx(expected, abs=1e-4)
    for window in result["windows"]:
        expected = [EDGES[window["start"][0]], EDGES[window["stop"][0]]]
        assert window["seconds"] == pytest.approx(expected, abs=1e-4)
    overlay = read_video("out/overlay.mp4")
    np.testing.assert_allclose(overlay.times.edges, EDGES, atol=1e-4)


def test_a_gif_shows_frames_for_20_ms_at_least(folder, figures_not_drawn, capsys):
    pytest.importorskip("av")
    edges = np.array([0, 0.01, 0.02, 0.1, 0.115, 0.4, 0.405, 0.5, 0.51])
    write_video(frames_of(8), "fast.mp4", FrameTimes(edges))
    run(capsys, "fast.mp4", "clip", "--layers", "first", "--overlay", "gif")
    with Image.open("out/overlay.gif") as shown:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(shown)]
    # Of the frames 0, 2, 3, 5 and 7, the last is shown for 10 ms, and so left out.
    assert np.cumsum([0, *durations]).tolist() == [0, 20, 100, 400, 510]


SAMPLINGS = [
    (["--every", "3"], range(0, 40, 3)),
    (["--start", "0.4", "--end", "2.5"], range(10, 25)),
    (["--start", "1", "--every", "2", "--frames", "5"], range(21, 31, 2)),
    (["--frames", "4", "--end", "0.8"], [2, 7, 12, 17]),
]


@pytest.mark.parametrize(("words", "frames"), SAMPLINGS)
def test_sampled_frames_are_explained_at_their_times(
    words, frames, variable_video, figures_not_drawn, capsys
):
    path, clip = variable_video
    report = run(capsys, path, "clip", "--layers", "first", "--boundaries", "none", *words)
    model, _ = network("clip")
    expected = GlobalLocalCAM3D(model, "first").attribute(clip[:, :, list(frames)])
    torch.testing.assert_close(maps()[None], expected)
    assert report["input"]["frames"] == len(frames)
    times = report["input"]["times"]
    np.testing.assert_allclose(times[:-1], EDGES[list(frames)], atol=1e-4)
    overlay = read_video("out/overlay.mp4")
    assert len(overlay.frames) == len(frames)
    # The overlay begins at --start: the first frame is shown from there on.
    start = float(words[words.index("--start") + 1]) if "--start" in words else 0.0
    np.testing.assert_allclose(overlay.times.edges[1:], np.array(times[1:]) - start, atol=1e-4)


def test_scenes_are_those_of_the_sampled_frames(video_file, figures_not_drawn, capsys):
    path, _ = video_file(20, 24)
    words = ["clip", "--layers", "first", "--overlay", "none", "--every", "2"]
    report = run(capsys, path, *words)
    assert report["input"]["boundaries"] == [10]
    assert report["input"]["times"][10] == pytest.approx(20 / FPS)


def test_an_interval_without_frames(variable_video, capsys):
    path, _ = variable_video
    message, code = fails(capsys, path, "clip", "--layers", "first", "--start", "20")
    assert (code, "has no frames from 20 s to the end: it ends at 8.8 s" in message) == (1, True)
    message, code = fails(capsys, path, "clip", "--layers", "first", "--start", "3", "--end", "2")
    assert (code, "start=3.0, end=2.0: expected 0 <= start < end" in message) == (2, True)


def test_a_folder_of_images_is_a_video(folder, figures_not_drawn, capsys):
    frames = frames_of(12)
    Path("frames").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(f"frames/{number}.png")
    report = run(capsys, "frames", "clip", "--layers", "first", "--fps", "10")
    clip = torch.from_numpy(frames).movedim(-1, 0)[None] / 255
    model, _ = network("clip")
    torch.testing.assert_close(
        maps()[None], GlobalLocalCAM3D(model, "first").attribute(clip), atol=1e-4, rtol=1e-3
    )
    assert report["input"]["times"] == pytest.approx([t / 10 for t in range(13)])


def test_a_rate_is_for_images_alone(video_file, image_file, capsys):
    path, _ = video_file(14)
    message, _ = fails(capsys, path, "clip", "--layers", "first", "--fps", "10")
    assert "fps=10.0: the frames of 'video.mp4' have their own times" in message
    for word in ("fps", "start", "end", "every", "frames"):
        message, code = fails(capsys, image_file[0], "image", "--layers", "first", f"--{word}", "5")
        assert (message, code) == (f"--{word} is for video input; INPUT is an image.", 2)


def test_what_is_missing_is_said_and_written(folder, figures_not_drawn, capsys):
    av = pytest.importorskip("av")
    noise = np.random.default_rng(0).integers(0, 256, (20, 16, 20, 3), dtype=np.uint8)
    with av.open("cut.avi", "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 20, 16, "yuv420p"
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    content = Path("cut.avi").read_bytes()
    Path("cut.avi").write_bytes(content[: len(content) * 8 // 10])
    words = ["explain", "cut.avi", "--model", "model.py:clip", "--layers", "first"]
    assert main([*words, "--output", "out", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("captum-3dcam: warning: 'cut.avi' is truncated or damaged: ")
    assert err.count("damaged:") == 1
    report = json.loads(out)
    damage = report["input"]["damage"]
    (warning,) = report["warnings"]
    assert warning.startswith("the input is truncated or damaged: ")
    for name in ("report.json", "report.html"):
        assert "cut.avi" not in Path("out", name).read_text()
    assert "of 20 frames are missing" in damage
    assert damage in err


def figure_of(capsys, monkeypatch, path, *more):
    """The shown frames, the overlays and the report."""
    calls = []
    figure = figures.visualize_video_attr
    monkeypatch.setattr(
        figures, "visualize_video_attr", lambda *a, **k: calls.append(k) or figure(*a, **k)
    )
    report = run(capsys, path, "clip", "--layers", "first", "--overlay", "none", *more)
    return calls[0]["frames"], calls[0]["overlays"], calls[0]["fps"], report


def test_the_tubes_of_the_figure_are_visible_and_those_of_the_report(
    video_file, figures_not_drawn, capsys, monkeypatch
):
    path, _ = video_file(41)
    shown, overlays, times, report = figure_of(capsys, monkeypatch, path)
    np.testing.assert_allclose(times.edges, np.arange(42) / FPS)
    (result,) = report["results"]
    assert overlays.tubes
    for tube, written in zip(overlays.tubes, result["tubes"], strict=False):
        assert any(tube.start <= frame < tube.end for frame in shown)
        assert (tube.start, tube.end) == (written["start"], written["end"])
        np.testing.assert_allclose(tube.boxes, written["boxes"], rtol=1e-4)
