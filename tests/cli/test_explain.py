"""``captum-3dcam explain``: what it writes against what the classes themselves give."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageSequence
from torch import nn

from captum_3dcam import CounterfactualCAM, GlobalLocalCAM2D, GlobalLocalCAM3D, LayerwiseHiResCAM
from captum_3dcam import localization as loc
from captum_3dcam.cli import _explain as explain
from captum_3dcam.cli import _explained as results
from captum_3dcam.cli import _video as video
from captum_3dcam.cli import _writing as output
from captum_3dcam.cli import main
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import (
    VideoFile,
    Volume,
    load_map,
    read_image,
    read_nifti,
    read_video,
    write_nifti,
    write_video,
)
from captum_3dcam.models import Preprocessing
from captum_3dcam.sliding import SlidingWindowCAM, shot_boundaries

SEED, FPS = 3, 25
MODEL = """
import torch
from torch import nn
from captum_3dcam import Layer
from captum_3dcam.models import Preprocessing

SEEN = []

class Net(nn.Module):
    def __init__(self, rank=3, channels=3, classes=4):
        super().__init__()
        torch.manual_seed(3)
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[rank]
        pool = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[rank]
        self.first = nn.Sequential(conv(channels, 6, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(conv(6, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Sequential(pool(2), nn.Flatten(), nn.Linear(6 * 2**rank, classes))
    def forward(self, x):
        SEEN.append(x.detach().clone())
        return 20 * self.head(self.second(self.first(x)))

class Prepared(Net):
    PREPROCESSING = Preprocessing(2.0, (1.0, 1.0, 1.0), (12, 16))
    LAYERS = {"early": "first", "late": Layer("second")}

def image(): return Net(2)
def prepared(): return Prepared(2)
def clip(): return Net(3)
def prepared_clip(): return Prepared(3)
class One(Net):
    def forward(self, x): return super().forward(x)[:, 0]
def single(): return One(3, classes=1)

class Brightness(nn.Module):
    # dark: the first class; grey: the second; white: the third, with a score beyond all others
    def __init__(self):
        super().__init__()
        self.grey = nn.Conv3d(3, 1, 1, bias=False)
        self.grey.weight.data.fill_(1 / 3)
        self.active = nn.ReLU()
    def forward(self, x):
        mean = self.active(self.grey(x)).flatten(2).mean(2)
        return torch.cat([mean * 0, 20 * mean - 6, 2000 * (mean - 0.9).relu()], 1)
def scan(): return Net(3, channels=1)

class Probabilities(Net):
    def forward(self, x): return super().forward(x).softmax(1)
def likely(): return Probabilities(3)

class Halves(Net):
    PREPROCESSING = staticmethod(lambda x: x.float()[..., ::2, ::2] / 255)
def halves(): return Halves(2)

class Skipping(Net):
    PREPROCESSING = staticmethod(lambda x: x.float()[:, ::2] / 255)
def skipping(): return Skipping(3)

class ScanPrepared(Net):
    PREPROCESSING = staticmethod(lambda x: x / 100)
def scan_prepared(): return ScanPrepared(3, channels=1)
class ScanCut(Net):
    PREPROCESSING = staticmethod(lambda x: x[:, 1:])
def scan_cut(): return ScanCut(3, channels=1)

class Places(nn.Module):
    # a segmentation: (N, 2, H, W)
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(4, 2, 3, padding=1)
    def forward(self, x): return self.last(self.first(x))

class Lesion(nn.Module):
    # what is bright, averaged over 3x3x3 voxels, weighed by the class
    def __init__(self):
        super().__init__()
        self.mean = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        self.mean.weight.data.fill_(1 / 27)
        self.bright = nn.ReLU()
    def forward(self, x):
        y = self.bright(self.mean(x) - 0.5)
        total = y.flatten(1).pow(2).sum(1)
        return torch.stack([-total, total], 1)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    torch.set_num_threads(1)
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Figures are not drawn: most of the time goes into them, and few tests look at them."""

    def saved(figure, path, **more):
        Image.new("RGB", (1, 1)).save(path)

    monkeypatch.setattr(Figure, "savefig", saved)


def run(capsys, path, name, *more):
    """The report of a run that goes well and prints nothing else."""
    words = ["explain", str(path), "--model", f"model.py:{name}", "--output", "out", "--json"]
    code = main([*words, *map(str, more)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert json.loads((explain.Path("out") / "report.json").read_text()) == report
    assert all(explain.Path(path).is_file() for path in report["files"].values())
    return report


def fails(capsys, path, name, *more):
    """The line that a run fails with, and its exit code."""
    code = main(["explain", str(path), "--model", f"model.py:{name}", *map(str, more)])
    out, err = capsys.readouterr()
    assert out == ""
    return err.removeprefix("captum-3dcam explain: error: ").rstrip("\n"), code


def network(name):
    """The same network as in the file, and what the command has shown it."""
    module = sys.modules["_captum_3dcam_model_model"]
    return getattr(module, name)().eval(), module.SEEN


def maps():
    return torch.from_numpy(load_map("out/map.npz").data)


# ---------------------------------------------------------------------------------------- images


@pytest.fixture
def picture(here):
    """A path and its pixels."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("picture.png")
    return "picture.png", torch.from_numpy(pixels)


def test_an_image(picture, capsys):
    path, pixels = picture
    report = run(capsys, path, "image", "--layers", "first", "second")
    model, _ = network("image")
    x = pixels.movedim(-1, 0)[None] / 255
    cam = GlobalLocalCAM2D(model, ["first", "second"])
    with torch.no_grad():
        scores = model(x)[0]
    torch.testing.assert_close(maps(), cam.attribute(x)[0])
    (found,) = report["results"]
    assert found["class"] == scores.argmax()
    assert found["name"] == f"class {found['class']}"
    assert found["score"] == pytest.approx(scores.max().item(), rel=1e-4)
    assert found["probability"] == pytest.approx(scores.softmax(0).max().item(), rel=1e-4)
    (boxes,) = loc.boxes(cam.attribute(x), select="all")
    assert [each["box"] for each in found["boxes"]] == boxes.boxes.tolist()
    assert report["input"] == {
        "path": path, "kind": "image", "size": [24, 32], "model_size": [24, 32],
    }  # fmt: skip
    assert set(report["files"]) == {"map", "figure"}
    assert read_image("out/figure.png").std() > 10
    metadata = load_map("out/map.npz").metadata
    assert metadata["layers"] == ["first", "second"]
    assert metadata["classes"] == [found["class"]]


def test_the_report_says_what_was_run(picture, quick, capsys):
    report = run(capsys, picture[0], "image", "--layers", "first", "--method", "hirescam")
    assert report["model"] == {
        "name": "model.py:image", "arguments": {}, "checkpoint": None, "layers": ["first"],
    }  # fmt: skip
    assert report["settings"]["method"] == "HiResCAM"
    assert report["settings"]["target"] == {"top": 1, "index": None, "name": None, "each": False}
    assert set(report["versions"]) == {"python", "captum_3dcam", "torch", "captum", "numpy"}
    assert report["versions"]["torch"] == torch.__version__


def test_without_json_a_line_a_class_and_what_was_written(picture, quick, capsys):
    path, _ = picture
    explain.Path("names.txt").write_text("golf\nswim\nrun\nsit\n\n")
    words = ["explain", path, "--model", "model.py:image", "--layers", "first"]
    assert main([*words, "--classes", "names.txt", "--target", "swim"]) == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(explain.Path("picture_explained/report.json").read_text())
    (found,) = report["results"]
    box = ", ".join(f"{x:.0f}" for x in found["boxes"][0]["box"])
    assert lines == [
        f"1 swim: score {found['score']:.2f}, probability {found['probability']:.2f}; box {box}",
        "wrote map.npz, figure.png, report.json into picture_explained",
    ]


@pytest.mark.parametrize(
    "more, make, target",
    [
        (["--target", "2"], GlobalLocalCAM2D, 2),
        (["--method", "Counterfactual", "--target", "1"], CounterfactualCAM, 1),
        (["--method", "HiResCAM", "--fusion", "product", "--target", "0"],
         lambda *given: LayerwiseHiResCAM(*given, fusion="product"), 0),
    ],
)  # fmt: skip
def test_targets_methods_and_fusions(more, make, target, picture, quick, capsys):
    path, pixels = picture
    report = run(capsys, path, "image", "--layers", "first", "second", *more)
    model, _ = network("image")
    expected = make(model, ["first", "second"]).attribute(pixels.movedim(-1, 0)[None] / 255, target)
    torch.testing.assert_close(maps(), expected[0])
    assert report["results"][0]["class"] == target


def test_the_highest_classes(picture, capsys):
    path, pixels = picture
    explain.Path("names.txt").write_text("golf\nswim\nrun\nsit")
    more = ["--target", "top3", "--classes", "names.txt"]
    report = run(capsys, path, "image", "--layers", "first", "second", *more)
    model, _ = network("image")
    x = pixels.movedim(-1, 0)[None] / 255
    expected, classes = GlobalLocalCAM2D(model, ["first", "second"]).attribute_top_k(x, 3)
    torch.testing.assert_close(maps(), expected[0])
    assert [found["class"] for found in report["results"]] == classes[0].tolist()
    names = ["golf", "swim", "run", "sit"]
    assert [found["name"] for found in report["results"]] == [names[c] for c in classes[0]]
    scores = [found["score"] for found in report["results"]]
    assert scores == sorted(scores, reverse=True)


def test_a_place_of_a_segmentation(picture, quick, capsys):
    path, pixels = picture
    report = run(capsys, path, "Places", "--layers", "first", "--target", "1,8,9")
    model, _ = network("Places")
    expected = GlobalLocalCAM2D(model, "first").attribute(
        pixels.movedim(-1, 0)[None] / 255, target=(1, 8, 9)
    )
    torch.testing.assert_close(maps(), expected[0])
    assert report["results"][0]["class"] == [1, 8, 9]
    message, code = fails(capsys, path, "Places", "--layers", "first")
    assert code == 2
    assert message.startswith("--target: attribute_top_k needs scores of shape (N, classes)")


def test_the_models_own_layers_and_preprocessing(picture, quick, capsys):
    path, pixels = picture
    report = run(capsys, path, "prepared")
    model, seen = network("prepared")
    x = Preprocessing(2.0, (1.0, 1.0, 1.0), (12, 16))(pixels.movedim(-1, 0))[None]
    torch.testing.assert_close(seen[0], x)
    expected = GlobalLocalCAM2D(model, ["first", "second"]).attribute(x)
    torch.testing.assert_close(maps(), expected[0])
    assert report["model"]["layers"] == ["first", "second"]
    assert report["input"]["model_size"] == [12, 16]
    # In pixels of the picture, which is twice as large.
    (boxes,) = loc.boxes(expected, select="all")
    assert [each["box"] for each in report["results"][0]["boxes"]] == (boxes.boxes * 2).tolist()
    run(capsys, path, "prepared", "--layers", "late")
    torch.testing.assert_close(maps(), GlobalLocalCAM2D(model, "second").attribute(x)[0])


def test_options_replace_what_they_name_of_the_preprocessing(picture, quick, capsys):
    path, pixels = picture
    run(capsys, path, "prepared", "--size", "8", "10", "--mean", "-1", "0", "0.5")
    _, seen = network("prepared")
    expected = Preprocessing(2.0, (-1.0, 0.0, 0.5), (8, 10))(pixels.movedim(-1, 0))[None]
    torch.testing.assert_close(seen[0], expected)


def test_a_preprocessing_of_its_own_kind(picture, quick, capsys):
    path, pixels = picture
    run(capsys, path, "halves", "--layers", "first")
    _, seen = network("halves")
    torch.testing.assert_close(seen[0], pixels.movedim(-1, 0)[None, :, ::2, ::2] / 255)
    assert fails(capsys, path, "halves", "--layers", "first", "--scale", "2") == (
        "The model's PREPROCESSING is of type function, which --size, --scale and --mean cannot "
        "change.", 2,
    )  # fmt: skip


def test_an_image_in_windows(picture, quick, capsys):
    path, pixels = picture
    more = ["--window", "12", "16", "--stride", "3", "8", "--target", "2"]
    report = run(capsys, path, "image", "--layers", "first", *more)
    model, _ = network("image")
    sliding = SlidingWindowCAM(GlobalLocalCAM2D(model, "first"), (12, 16), (3, 8))
    expected = sliding.explain(pixels.movedim(-1, 0)[None] / 255, 2)
    torch.testing.assert_close(maps(), expected.attribution[0])
    windows = report["results"][0]["windows"]
    assert [(tuple(w["start"]), tuple(w["stop"])) for w in windows] == [
        (w.start, w.stop) for w in expected.windows[0]
    ]


# ---------------------------------------------------------------------------------------- videos


def frames_of(length, seed=SEED, size=(16, 20)):
    """Smooth frames that drift, so that the coding leaves them nearly as they are."""
    rng = np.random.default_rng(seed)
    wide = rng.uniform(40, 216, (4, 5 + length // 6 + 2, 3))
    y = np.linspace(0, 3, size[0])
    drawn = []
    for t in range(length):
        x = np.linspace(0, 4, size[1]) + t / 6
        rows = wide[y.astype(int)] * (1 - y % 1)[:, None, None]
        rows = rows + wide[np.minimum(y.astype(int) + 1, 3)] * (y % 1)[:, None, None]
        columns = rows[:, x.astype(int)] * (1 - x % 1)[None, :, None]
        drawn.append(columns + rows[:, x.astype(int) + 1] * (x % 1)[None, :, None])
    return np.stack(drawn).round().astype(np.uint8)


@pytest.fixture
def film(here):
    """Writes a video of a length, cut at some frames; gives its path and the decoded clip."""
    pytest.importorskip("av")

    def make(*lengths):
        scenes = [frames_of(length, seed) for seed, length in enumerate(lengths)]
        write_video(np.concatenate(scenes), "film.mp4", FPS)
        clip = torch.from_numpy(read_video("film.mp4").frames)
        return "film.mp4", clip.movedim(-1, 0)[None] / 255

    return make


def test_a_video_of_one_window(film, capsys):
    path, clip = film(14)
    report = run(capsys, path, "clip", "--layers", "first", "second")
    model, _ = network("clip")
    expected = GlobalLocalCAM3D(model, ["first", "second"]).attribute(clip)
    torch.testing.assert_close(maps(), expected[0])
    (found,) = report["results"]
    assert "windows" not in found
    with torch.no_grad():
        assert found["score"] == pytest.approx(model(clip).max().item(), rel=1e-4)
    assert report["input"] == {
        "path": path, "kind": "video", "size": [16, 20], "frames": 14, "fps": FPS,
        "boundaries": [], "model_size": [16, 20],
    }  # fmt: skip
    assert set(report["files"]) == {"map", "figure", "overlay"}


def test_where_and_when_as_the_localization_room_says(film, quick, capsys):
    path, _ = film(45)
    report = run(capsys, path, "prepared_clip", "--overlay", "none", "--layers", "late")
    heat = maps()[None]
    (found,) = report["results"]
    (segments,) = loc.segments(temporal_profile(heat), fps=FPS)
    assert [(s["start"], s["end"]) for s in found["segments"]] == [
        (s.start, s.end) for s in segments
    ]
    assert found["segments"][0]["seconds"] == pytest.approx(segments[0].seconds, abs=0.005)
    (tubes,) = loc.link(loc.frame_boxes(heat, select="all"), 0.1, 2, fps=FPS)
    assert [(t["start"], t["end"]) for t in found["tubes"]] == [
        (t.start, t.end) for t in tubes[: video._MAX_TUBES]
    ]
    # In pixels of the video: 16 x 20, of which the model saw 12 x 16.
    scale = torch.tensor([20 / 16, 16 / 12, 20 / 16, 16 / 12])
    for said, tube in zip(found["tubes"], tubes, strict=False):
        torch.testing.assert_close(
            torch.tensor(said["boxes"]), tube.boxes * scale, atol=0.006, rtol=0
        )


def whole(model, clip, boundaries=(), target=None, **more):
    sliding = SlidingWindowCAM(GlobalLocalCAM3D(model, "first"), 16, batch_size=4, **more)
    return sliding.explain(clip, target, boundaries=boundaries)


def windows_of(report, number=0):
    return [(w["start"][0], w["stop"][0], w["class"]) for w in report["results"][number]["windows"]]


def test_a_longer_video_has_one_class_and_no_seams(film, quick, capsys):
    path, clip = film(45)
    report = run(capsys, path, "clip", "--layers", "first")
    model, _ = network("clip")
    expected = whole(model, clip, target="whole")
    torch.testing.assert_close(maps()[None], expected.attribution)
    assert windows_of(report) == [(w.start[0], w.stop[0], w.target) for w in expected.windows[0]]
    (found,) = report["results"]
    assert found["class"] == expected.windows[0][0].target
    means = [sum(part) / len(part) for part in zip(
        *((w.score, w.factor) for w in expected.windows[0]), strict=True
    )]  # fmt: skip
    assert [found["score"], found["probability"]] == pytest.approx(means, rel=1e-4)


def test_each_window_its_own_class(film, quick, capsys):
    path, clip = film(45)
    more = ["--target", "each", "--overlay", "none"]
    report = run(capsys, path, "clip", "--layers", "first", *more)
    model, _ = network("clip")
    expected = whole(model, clip)
    torch.testing.assert_close(maps()[None], expected.attribution)
    assert windows_of(report) == [(w.start[0], w.stop[0], w.predicted) for w in expected.windows[0]]
    assert report["results"][0]["class"] is None


def test_the_highest_classes_of_a_longer_video(film, capsys):
    path, clip = film(45)
    report = run(capsys, path, "clip", "--layers", "first", "--target", "top2")
    model, _ = network("clip")
    starts = [0, 8, 16, 24, 29]
    with torch.no_grad():
        likely = torch.stack([model(clip[:, :, t : t + 16])[0].softmax(0) for t in starts]).mean(0)
    top = likely.topk(2)
    assert [found["class"] for found in report["results"]] == top.indices.tolist()
    said = [found["probability"] for found in report["results"]]
    assert said == pytest.approx(top.values.tolist(), rel=1e-4)
    for heat, target in zip(maps(), top.indices.tolist(), strict=True):
        torch.testing.assert_close(heat[None, None], whole(model, clip, target=target).attribution)
    a, b = top.indices.tolist()
    assert set(report["files"]) == {"map", "figure", f"overlay_{a}", f"overlay_{b}"}


def test_the_class_of_the_whole_has_the_highest_mean_probability(here, quick, capsys):
    pytest.importorskip("av")
    levels = np.repeat([10, 128, 128, 254], 16)
    frames = np.broadcast_to(levels[:, None, None, None], (64, 16, 20, 3)).astype(np.uint8)
    write_video(frames, "levels.mp4", FPS)
    more = ["--layers", "active", "--stride", "16", "--boundaries", "none", "--overlay", "none"]
    (found,) = run(capsys, "levels.mp4", "Brightness", *more)["results"]
    # Neither what the first window says, nor the highest mean of the scores, which is white's.
    assert found["class"] == 1
    assert [w["probability"] > 0.9 for w in found["windows"]] == [False, True, True, False]


def test_a_model_of_probabilities(film, quick, capsys):
    path, clip = film(45)
    more = ["--returns", "probabilities", "--target", "1", "--overlay", "none"]
    report = run(capsys, path, "likely", "--layers", "first", *more)
    model, _ = network("likely")
    expected = whole(model, clip, target=1, scale="score")
    torch.testing.assert_close(maps()[None], expected.attribution)
    (found,) = report["results"]
    assert found["probability"] == pytest.approx(found["score"])
    short = run(capsys, path, "likely", "--layers", "first", *more, "--window", "60")
    assert short["results"][0]["probability"] == short["results"][0]["score"]


def test_a_model_of_one_score(film, quick, capsys):
    path, clip = film(45)
    report = run(capsys, path, "single", "--layers", "first", "--overlay", "none")
    model, _ = network("single")
    torch.testing.assert_close(maps()[None], whole(model, clip).attribution)
    (found,) = report["results"]
    assert (found["class"], found["name"]) == (None, "score")
    likely = [torch.tensor(w["score"]).sigmoid().item() for w in found["windows"]]
    assert found["probability"] == pytest.approx(sum(likely) / len(likely), rel=1e-4)


def test_no_window_crosses_a_cut_that_is_found_or_given(film, quick, capsys):
    path, clip = film(20, 22)
    assert shot_boundaries(clip[0]) == [20]
    model_of = ["clip", "--layers", "first", "--target", "2", "--overlay", "none"]
    report = run(capsys, path, *model_of)
    model, _ = network("clip")
    assert report["input"]["boundaries"] == [20]
    torch.testing.assert_close(maps()[None], whole(model, clip, [20], 2).attribution)
    assert all(stop <= 20 or start >= 20 for start, stop, _ in windows_of(report))
    given = run(capsys, path, *model_of, "--boundaries", "10,30")
    assert given["input"]["boundaries"] == [10, 30]
    torch.testing.assert_close(maps()[None], whole(model, clip, [10, 30], 2).attribution)
    run(capsys, path, *model_of, "--boundaries", "none")
    torch.testing.assert_close(maps()[None], whole(model, clip, [], 2).attribution)


def test_a_cut_within_the_first_window_counts_too(film, quick, capsys):
    path, clip = film(7, 8)
    report = run(capsys, path, "clip", "--layers", "first", "--target", "2", "--overlay", "none")
    model, _ = network("clip")
    assert windows_of(report) == [(0, 7, 2), (7, 15, 2)]
    torch.testing.assert_close(maps()[None], whole(model, clip, [7], 2).attribution)


def test_a_long_video_never_lies_in_memory_whole(film, capsys, monkeypatch):
    path, _ = film(70)
    lengths = []
    frames = VideoFile._chunks

    def counted(self, length):
        for chunk in frames(self, length):
            lengths.append(len(chunk))
            yield chunk

    monkeypatch.setattr(VideoFile, "_chunks", counted)
    monkeypatch.setattr(video, "_FIGURE_FRAMES", 16)
    run(capsys, path, "clip", "--layers", "first", "--target", "1")
    _, seen = network("clip")
    assert max(lengths) == 17
    assert max(x.shape[0] * x.shape[2] for x in seen) == 4 * 16
    assert maps().shape[1] == 70


def test_the_overlay_is_the_video_with_the_map_over_it(film, quick, capsys):
    path, _ = film(14)
    for suffix in ("mp4", "gif"):
        run(capsys, path, "prepared_clip", "--overlay", suffix)
        shown = read_video(f"out/overlay.{suffix}")
        assert shown.frames.shape == (14, 16, 20, 3)
        assert shown.fps == pytest.approx(FPS, rel=0.01)
        # Grey where the map is zero; the more coloured the higher it is.
        colour = np.ptp(shown.frames.astype(float), axis=-1)
        heat = nn.functional.interpolate(maps(), (16, 20), mode="bilinear")[0].numpy()
        assert np.corrcoef(colour.ravel(), np.sqrt(heat).ravel())[0, 1] > 0.7


def test_the_blend_is_that_of_the_figures():
    rng = np.random.default_rng(SEED)
    frame = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    heat = rng.uniform(0, 2, (4, 6)).astype(np.float32)
    look = video.Look("blended_heat_map", "positive", None, 0.8, None).over([heat])
    from matplotlib import colormaps

    got = video._blended(heat, frame, look)
    for y in range(4):
        for x in range(6):
            grey = frame[y, x].mean() / 255
            share = heat[y, x] / heat.max()
            colour = np.array(colormaps["inferno"](share)[:3])
            expected = grey + 0.8 * math.sqrt(share) * (colour - grey)
            assert np.abs(got[y, x] - 255 * expected).max() <= 1.5  # a map has 256 colours


def test_a_fast_video_as_a_gif_leaves_frames_out(here, quick, capsys):
    pytest.importorskip("av")
    write_video(frames_of(12), "fast.mp4", 60)
    run(capsys, "fast.mp4", "clip", "--layers", "first", "--overlay", "gif")
    with Image.open("out/overlay.gif") as shown:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(shown)]
    assert len(durations) == 6
    assert sum(durations) == 200  # ms, of 12 frames at 60 a second


def test_a_preprocessing_may_not_change_the_number_of_frames(film, quick, capsys):
    path, _ = film(14)
    assert fails(capsys, path, "skipping", "--layers", "first") == (
        "The model's PREPROCESSING makes (3, 7, 16, 20) of 14 frames; expected (C, T, H, W) with "
        "as many.", 2,
    )  # fmt: skip


def test_what_is_no_video(here, quick, capsys):
    pytest.importorskip("av")
    explain.Path("notes.txt").write_text("no frames")
    message, code = fails(capsys, "notes.txt", "clip", "--layers", "first")
    assert code == 1
    assert message.startswith("'notes.txt' cannot be read as a video: ")


@pytest.mark.parametrize("at", ["map", "overlay", "report"])
def test_ctrl_c_leaves_no_half_written_file(at, film, quick, capsys, monkeypatch):
    path, _ = film(45)
    explain.Path("out").mkdir()
    (explain.Path("out") / "overlay.mp4").write_bytes(b"of an earlier run")

    def interrupted(*given):
        raise KeyboardInterrupt

    if at == "map":
        monkeypatch.setattr(video._Store, "maps", interrupted)
    elif at == "overlay":
        blended, calls = video._blended, []

        def stopped(*given):
            calls.append(given)
            return interrupted() if len(calls) == 20 else blended(*given)

        monkeypatch.setattr(video, "_blended", stopped)
    else:
        monkeypatch.setattr(explain, "_report", interrupted)
    words = ["explain", path, "--model", "model.py:clip", "--layers", "first", "--output", "out"]
    assert main([*words, "--target", "1"]) == 130
    assert capsys.readouterr() == ("", "captum-3dcam explain: interrupted\n")
    names = {each.name for each in explain.Path("out").iterdir()}
    whole_ones = {"map": set(), "overlay": {"map.npz", "figure.png"}}
    assert names == {"overlay.mp4", *whole_ones.get(at, {"map.npz", "figure.png"})}
    kept = (explain.Path("out") / "overlay.mp4").read_bytes() == b"of an earlier run"
    assert kept == (at != "report")


def test_ctrl_c_in_the_report_leaves_the_one_before(here, monkeypatch):
    report = explain.Path("report.json")
    report.write_text("of an earlier run")
    write = explain.Path.write_text

    def stopped(path, text, **more):
        write(path, text[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(explain.Path, "write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        output.write_text(report, "of this run")
    assert report.read_text() == "of an earlier run"
    assert {path.name for path in here.iterdir()} == {"model.py", "report.json"}


# --------------------------------------------------------------------------------------- volumes

SIZE = (14, 22, 18)
LESION = (9, 6, 13)


def oblique():
    """Voxels of 3 x 1.5 x 1.2 mm on axes that follow none of the patient's."""
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * (3.0, 1.5, 1.2)
    affine[:3, 3] = (12.5, -40.0, 77.0)
    return affine


def scan_with_lesion():
    """Noise, and a bright ball of 4 mm around the voxel LESION."""
    place = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), axis=-1)
    affine = oblique()
    world = place @ affine[:3, :3].T + affine[:3, 3]
    distance = np.linalg.norm(world - world[LESION], axis=-1)
    noise = np.random.default_rng(SEED).normal(0, 0.02, SIZE)
    return Volume(np.exp(-((distance / 4) ** 2)) + noise, affine)


@pytest.fixture
def scan(here):
    pytest.importorskip("nibabel")
    volume = scan_with_lesion()
    write_nifti(volume, "scan.nii.gz")
    return read_nifti("scan.nii.gz")


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--size", "14", "28", "24"],
        ["--spacing", "1.4"],
        ["--orientation", "SPL", "--spacing", "2", "1.5", "1.5"],
        ["--window", "8", "12", "12", "--stride", "4", "6", "6"],
    ],
)
def test_the_map_of_a_scan_lies_on_its_lesion(more, scan, quick, capsys):
    report = run(capsys, "scan.nii.gz", "Lesion", "--layers", "bright", "--target", "1", *more)
    import nibabel

    # By nothing of ours: the file as any viewer reads it.
    image, original = nibabel.load("out/map.nii.gz"), nibabel.load("scan.nii.gz")
    np.testing.assert_allclose(image.affine, original.affine, atol=1e-5)
    assert image.shape == original.shape
    assert image.get_data_dtype() == np.float32
    heat = image.get_fdata()
    peak = np.unravel_index(heat.argmax(), heat.shape)
    assert max(abs(p - q) for p, q in zip(peak, LESION[::-1], strict=True)) <= 1
    world = image.affine[:3] @ [*peak, 1]
    lesion = scan.to_world(LESION)
    assert np.linalg.norm(world - lesion) <= np.linalg.norm([3.0, 1.5, 1.2])
    (found,) = report["results"]
    assert found["peak"]["voxel"] == list(peak[::-1])
    assert found["peak"]["mm"] == pytest.approx(world, abs=0.006)
    x0, y0, z0, x1, y1, z1 = found["boxes"][0]["box"]
    assert z0 <= LESION[0] < z1
    assert y0 <= LESION[1] < y1
    assert x0 <= LESION[2] < x1


def test_what_is_written_of_a_scan(scan, capsys):
    report = run(capsys, "scan.nii.gz", "scan", "--layers", "first", "second")
    model, _ = network("scan")
    expected = GlobalLocalCAM3D(model, ["first", "second"]).attribute(scan.to_tensor())
    torch.testing.assert_close(maps(), expected[0])
    assert set(report["files"]) == {"map", "nifti", "figure", "montage"}
    for name in ("figure", "montage"):
        assert read_image(report["files"][name]).std() > 10
    assert report["input"]["size"] == list(SIZE)
    assert report["input"]["spacing"] == [3.0, 1.5, 1.2]
    assert report["input"]["orientation"] == scan.orientation
    metadata = load_map("out/map.npz").metadata
    np.testing.assert_allclose(metadata["affine"], scan.affine)


def test_the_summary_of_a_scan(scan, quick, capsys):
    main(["explain", "scan.nii.gz", "--model", "model.py:scan", "--layers", "first"])
    line, wrote = capsys.readouterr().out.splitlines()
    assert "; peak at voxel (" in line
    assert line.partition(" mm RAS")[1]
    assert wrote == (
        "wrote map.npz, map.nii.gz, figure.png, montage.png, report.json into scan_explained"
    )


def test_a_map_that_is_zero_has_no_places(scan, quick, capsys):
    # What is bright speaks against the first class, so its map is zero.
    report = run(capsys, "scan.nii.gz", "Lesion", "--layers", "bright", "--target", "0")
    (found,) = report["results"]
    assert not maps().any()
    assert (found["peak"], found["boxes"]) == (None, [])
    words = ["--layers", "bright", "--target", "0", "--output", "out"]
    assert main(["explain", "scan.nii.gz", "--model", "model.py:Lesion", *words]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("; the map is zero")


def test_several_classes_of_a_scan(scan, capsys):
    report = run(capsys, "scan.nii.gz", "scan", "--layers", "first", "--target", "top2")
    a, b = (found["class"] for found in report["results"])
    assert set(report["files"]) == {"map", f"nifti_{a}", f"nifti_{b}", "figure"}
    for number, target in enumerate((a, b)):
        written = read_nifti(f"out/map_{target}.nii.gz")
        np.testing.assert_allclose(written.data, maps()[number], rtol=1e-6)


@pytest.mark.parametrize(
    "more, formula",
    [
        ([], lambda x: x),
        (["--clip", "-0.01", "0.4"], lambda x: x.clip(-0.01, 0.4)),
        (["--normalize", "unit"], lambda x: (x - x.min()) / (x.max() - x.min())),
        (["--clip", "-0.01", "0.4", "--normalize", "unit"],
         lambda x: (x.clip(-0.01, 0.4) + 0.01) / 0.41),
        (["--clip", "-1", "3", "--normalize", "unit"], lambda x: (x + 1) / 4),
        (["--normalize", "zscore"], lambda x: (x - x.mean()) / x.std(ddof=1)),
        (["--orientation", "ras"], None),
    ],
)  # fmt: skip
def test_what_the_model_is_given_of_a_scan(more, formula, scan, quick, capsys):
    run(capsys, "scan.nii.gz", "scan", "--layers", "first", *more)
    _, seen = network("scan")
    expected = scan.reorient("RAS").data if formula is None else formula(scan.data)
    np.testing.assert_allclose(seen[0][0, 0], expected, atol=1e-5)


def test_a_scans_preprocessing(scan, quick, capsys):
    run(capsys, "scan.nii.gz", "scan_prepared", "--layers", "first")
    _, seen = network("scan_prepared")
    np.testing.assert_allclose(seen[0][0, 0], scan.data / 100, rtol=1e-5)
    run(capsys, "scan.nii.gz", "scan_prepared", "--layers", "first", "--normalize", "none")
    np.testing.assert_allclose(network("scan_prepared")[1][0][0, 0], scan.data, rtol=1e-5)
    assert fails(capsys, "scan.nii.gz", "scan_cut", "--layers", "first") == (
        "The model's PREPROCESSING makes (1, 13, 22, 18) of (1, D, H, W) = (1, 14, 22, 18); the "
        "grid has to stay. Resample by --size or --spacing.", 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    "more, message",
    [
        (["--size", "8", "8", "8", "--spacing", "2"],
         "--size and --spacing both say how to resample: give one."),
        (["--size", "8", "8"], "--size 8 8: a volume has three sides, D H W."),
        (["--spacing", "2", "2"], "--spacing 2.0 2.0: a volume has three sides, D H W."),
        (["--spacing", "-1"], "resample to -1.0: expected positive numbers."),
        (["--clip", "3", "1"], "--clip 3 1: expected LOW < HIGH."),
        (["--series", "1.2"], "--series is for a folder of DICOM files."),
        (["--mean", "1", "1", "1"], "--mean is for image and video input; INPUT is a volume."),
        (["--target", "each"], "--target each needs --window."),
    ],
)  # fmt: skip
def test_wrong_uses_of_a_scan(more, message, scan, quick, capsys):
    assert fails(capsys, "scan.nii.gz", "scan", "--layers", "first", *more) == (message, 2)
    assert not explain.Path("scan_explained").exists()


def test_an_orientation_that_is_none(scan, quick, capsys):
    message, code = fails(
        capsys, "scan.nii.gz", "scan", "--layers", "first", "--orientation", "RAX"
    )
    assert code == 2
    assert message.startswith("'RAX' is no orientation. Expected one letter each of R or L")


def write_series(folder, volume, uid):
    """Slices as a scanner writes them: in LPS, in integers with a slope."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(exist_ok=True)
    flip = np.array([-1, -1, 1])
    axes = volume.affine[:3, :3] / volume.spacing * flip[:, None]
    for number, pixels in enumerate(volume.data):
        item = pydicom.Dataset()
        item.SOPClassUID, item.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{uid}.{number}"
        item.SeriesInstanceUID, item.Modality = uid, "CT"
        item.Rows, item.Columns = pixels.shape
        item.PixelSpacing = [float(volume.spacing[1]), float(volume.spacing[2])]
        item.ImageOrientationPatient = [f"{x:.12f}" for x in (*axes[:, 2], *axes[:, 1])]
        position = volume.to_world((number, 0, 0)) * flip
        item.ImagePositionPatient = [f"{x:.10f}" for x in position]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated = item.BitsStored = 16
        item.HighBit, item.PixelRepresentation = 15, 1
        item.RescaleSlope, item.RescaleIntercept = 0.001, 0
        item.PixelData = (pixels * 1000).round().astype(np.int16).tobytes()
        item.file_meta = pydicom.dataset.FileMetaDataset()
        item.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        item.save_as(folder / f"{uid}-{number}.dcm", enforce_file_format=True)


def test_a_folder_of_dicom(here, quick, capsys):
    pytest.importorskip("nibabel")
    volume = scan_with_lesion()
    write_series(here / "series.one", volume, "1.2.3")
    report = run(capsys, "series.one", "Lesion", "--layers", "bright", "--target", "1")
    written = read_nifti("out/map.nii.gz")
    # The slices are sorted along their normal, which may run against the volume's first axis.
    peak = written.to_world(np.unravel_index(written.data.argmax(), written.shape))
    assert np.linalg.norm(peak - volume.to_world(LESION)) <= np.linalg.norm([3.0, 1.5, 1.2])
    assert report["input"]["kind"] == "volume"
    write_series(here / "series.one", volume, "1.2.4")
    message, code = fails(capsys, "series.one", "Lesion", "--layers", "bright")
    assert code == 1
    assert message.startswith("There are several series in 'series.one'. Pass series= one of: ")
    run(capsys, "series.one", "Lesion", "--layers", "bright", "--series", "1.2.4")
    assert main(
        ["explain", "series.one", "--model", "model.py:Lesion", "--layers", "bright",
         "--series", "1.2.4"]
    ) == 0  # fmt: skip
    assert (here / "series.one_explained" / "map.nii.gz").is_file()


def test_the_figure_of_several_classes_shows_the_slice_of_the_peak():
    for length in (1, 3, 8, 9, 40):
        for peak in range(length):
            shown = output.spread(length, peak)
            assert peak in shown
            assert shown == sorted(set(shown))
            assert len(shown) == min(8, length)
            assert set(shown) <= set(range(length))


def test_names_of_files_and_of_the_image(here):
    assert results.name_of_file("map", results.Said(3, "x", 0.0, 0.0, []), False) == "map"
    for name, kind in (("a.JPG", "image"), ("b.nii", "volume"), ("c.gif", "video"), ("d", "video")):
        explain.Path(name).touch()
        assert explain.kind_of(explain.Path(name)) == kind
