"""Explanations in a folder: what is written, and what is read again."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from explanation_inputs import AFFINE, LAYERS, RATE, frames, network, pixels, sample, scan, video
from PIL import Image
from torch import nn

from captum_3dcam import Explanation, explain
from captum_3dcam.explanation import ArgumentError, Reading, Windows
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import (
    Video,
    Volume,
    load_map,
    open_video,
    read_nifti,
    read_video,
    read_volume,
    save_map,
    write_nifti,
)
from captum_3dcam.visualization import Scan

pytestmark = pytest.mark.usefixtures("one_thread", "folder", "figures_not_drawn")
KINDS = ("image", "video", "volume")
NAMES = ["run", "golf", "class 2", "class 3"]


def explained(kind, target="top2", **more):
    given, _, options = sample(kind)
    options = {"layers": LAYERS, "class_names": NAMES, **options, **more}
    return explain(network(kind), given, target, **options)


def names_in(folder):
    return {path.name for path in Path(folder).iterdir()}


# ---------------------------------------------------------------------------------------- writing


def test_the_files_of_an_image():
    explanation = explained("image", 1)
    files = explanation.save("out", command="explain it")
    assert {name: path.name for name, path in files.items()} == {
        "report": "report.html", "map": "map.npz", "figure": "figure.png", "json": "report.json",
    }  # fmt: skip
    assert names_in("out") == {path.name for path in files.values()}
    report = json.loads(files["json"].read_text())
    assert report["command"] == "explain it"
    assert {*report["files"].values(), "report.json"} == names_in("out")
    torch.testing.assert_close(
        torch.from_numpy(load_map(files["map"]).data), explanation.attribution[0]
    )
    page = files["report"].read_text()
    assert "golf" in page
    assert "explain it" in page


def test_the_files_of_several_methods_and_layers():
    explanation = explained("image", 1, compare=["GradCAM", "LayerCAM"], per_layer=True)
    files = explanation.save("out")
    assert set(files) == {"report", "map", "maps", "figure", "layers", "methods", "json"}
    written = load_map("out/maps.npz")
    assert written.metadata["names"] == ["GradCAM", "LayerCAM", *LAYERS]
    assert written.metadata["groups"] == ["method", "method", "layer", "layer"]
    expected = [*explanation.method_maps.values(), *explanation.layer_maps.values()]
    np.testing.assert_array_equal(written.data, torch.cat(expected))


@pytest.mark.parametrize("overlay", ["mp4", "gif", "none"])
def test_the_files_of_a_video(overlay):
    if overlay == "mp4":
        pytest.importorskip("av")
    explanation = explained("video", [3, 0])
    files = explanation.save("out", overlay=overlay)
    of_classes = [] if overlay == "none" else ["overlay_3", "overlay_0"]
    assert set(files) == {"report", "map", "figure", "json", *of_classes}
    for name in of_classes:
        assert files[name].name == f"{name}.{overlay}"
        assert len(read_video(files[name]).frames) == 8


def test_the_files_of_a_volume():
    pytest.importorskip("nibabel")
    explanation = explained("volume", [3, 0])
    files = explanation.save("out")
    assert set(files) == {"report", "map", "figure", "nifti_3", "nifti_0", "json"}
    for rank, target in enumerate([3, 0]):
        written = read_nifti(f"out/map_{target}.nii.gz")
        np.testing.assert_allclose(written.data, explanation.heat_map(rank), rtol=1e-6)
        np.testing.assert_allclose(written.affine, AFFINE)
    assert set(explained("volume", 1).save("one")) == {
        "report", "map", "nifti", "figure", "montage", "json",
    }  # fmt: skip
    tensor = explain(network("volume"), scan().to_tensor(), layers=LAYERS)
    assert set(tensor.save("two")) == {"report", "map", "figure", "montage", "json"}


@pytest.mark.parametrize(
    ("target", "stems"),
    [
        ([1, 0], ["overlay_1", "overlay_0"]),
        ([(2,), -1], ["overlay_2", "overlay_-1"]),
        ([lambda output: output[:, 0], 1], ["overlay_0", "overlay_1"]),
        (1, ["overlay"]),
        (lambda output: output[:, 0], ["overlay"]),
    ],
)
def test_names_of_the_files_of_classes(target, stems):
    files = explained("video", target).save("out", overlay="gif")
    assert [path.stem for name, path in files.items() if name.startswith("overlay")] == stems


def test_each_sample_has_a_folder():
    batch = explain(network("image"), torch.rand(2, 3, 12, 16), 1, layers=LAYERS)
    files = batch.save("out")
    assert names_in("out") == {"sample_0", "sample_1"}
    assert files["sample_1/map"] == Path("out/sample_1/map.npz")
    for number in (0, 1):
        loaded = Explanation.load(f"out/sample_{number}")
        assert torch.equal(loaded.attribution, batch.attribution[[number]])
    batch[0].save("alone")
    with pytest.raises(ArgumentError, match="output 'alone': the folder holds the result of anot"):
        batch[1].save("alone")


def test_a_second_result_of_an_input_replaces_the_first():
    explained("image", 1, compare=["GradCAM"], per_layer=True).save("out")
    Path("out/notes.txt").write_text("mine")
    explained("image", 2).save("out")
    assert names_in("out") == {
        "report.html", "map.npz", "figure.png", "report.json", "notes.txt",
    }  # fmt: skip
    assert Explanation.load("out").classes == [[2]]


def test_an_error_leaves_the_folder_as_it_was(monkeypatch):
    explained("image", 1).save("out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("captum_3dcam.explanation._saving.make_report", interrupt)
    for folder in ("out", "new"):
        with pytest.raises(KeyboardInterrupt):
            explained("image", 2).save(folder)
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    assert not Path("new").exists()


def test_an_unknown_overlay():
    with pytest.raises(ArgumentError, match="overlay='avi' is not known. Choose one of 'mp4', 'gi"):
        explained("video", 1).save("out", overlay="avi")
    assert not Path("out").exists()


def test_no_file_names_the_input():
    pytest.importorskip("nibabel")
    Path("doe_jane").mkdir()
    Image.fromarray(pixels()).save("doe_jane/19700101.png")
    write_nifti(scan(), "doe_jane/19700101.nii.gz")
    for number, frame in enumerate(frames()):
        Path("doe_jane/clip").mkdir(exist_ok=True)
        Image.fromarray(frame).save(f"doe_jane/clip/19700101_{number}.png")
    for kind, path, more in (
        ("image", "doe_jane/19700101.png", {}),
        ("video", "doe_jane/clip", {"reading": RATE}),
        ("volume", Path("doe_jane/19700101.nii.gz").absolute(), {}),
    ):
        explanation = explain(network(kind), path, 1, layers=LAYERS, **more)
        explanation.save(kind, overlay="gif")
        for content in _contents(Path(kind)):
            assert b"doe_jane" not in content
            assert b"19700101" not in content
        assert "doe_jane" not in explanation.html()


def _contents(folder):
    for path in folder.iterdir():
        yield path.name.encode()
        yield path.read_bytes()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:  # UTF-32 of NumPy
                yield archive.read("metadata.npy").replace(b"\0", b"")


# ---------------------------------------------------------------------------------------- reading

CUT = {"image": Windows(12), "video": Windows(4), "volume": Windows((4, 6))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_windows", [False, True])
def test_a_round_trip(kind, in_windows):
    more = {"windows": CUT[kind]} if in_windows else {}
    saved = explained(kind, compare=["GradCAM"], per_layer=True, **more)
    saved.save("out", overlay="none")
    loaded = Explanation.load("out")
    for name in ("attribution", "scores", "probabilities"):
        assert torch.equal(getattr(loaded, name), getattr(saved, name)), name
    for name in ("layer_maps", "method_maps"):
        maps, expected = getattr(loaded, name), getattr(saved, name)
        assert list(maps) == list(expected)
        assert all(torch.equal(maps[key], expected[key]) for key in maps), name
    for name in ("classes", "class_names", "kind", "method", "layers", "warnings", "fingerprint"):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert loaded.size == saved.size
    assert [[list(w) for w in row] for row in loaded.windows] == [
        [list(w) for w in row] for row in saved.windows
    ]
    assert bool(loaded.windows[0][0]) == in_windows
    assert loaded.originals == [None]
    if kind == "video":
        np.testing.assert_allclose(loaded.times.edges, saved.times.edges, atol=1e-6)
        spans = [[(s.start, s.end) for s in each.segments(1)] for each in (loaded, saved)]
        assert spans[0] == spans[1]
        assert len(loaded.tubes(1)) == len(saved.tubes(1))
    else:
        assert torch.equal(loaded.boxes(1).boxes, saved.boxes(1).boxes)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_shown_and_saved_again(kind):
    saved = explained(kind, 1, per_layer=True)
    saved.save("out", overlay="none")
    originals = {"image": pixels(), "video": open_video(video()), "volume": scan()}
    for original in (None, originals[kind]):
        loaded = Explanation.load("out", original)
        assert loaded.originals[0] is original
        assert loaded.html().startswith("<!DOCTYPE html>")
        assert loaded.figure() is not None
        loaded.save("again", overlay="none")
        assert torch.equal(Explanation.load("again").attribution, saved.attribution)
    if kind == "volume":
        given = Scan(scan().data)
        assert Explanation.load("out", given).originals == [given]


def test_a_gif_of_one_short_frame():
    x = torch.rand(1, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    fast = Reading(fps=1000.0)
    explain(network("video"), x, 1, layers=LAYERS, reading=fast).save("out", overlay="gif")
    assert len(read_video("out/overlay.gif").frames) == 1


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        ((2,), [(2,)]),
        ([0, (1,)], [0, (1,)]),
        (lambda x: x[:, 0], ["<lambda>"]),
    ],
)
def test_targets_come_back(target, classes):
    explained("image", target).save("out")
    assert Explanation.load("out").classes == [classes]


def test_without_its_frames_a_video_has_no_overlay():
    explained("video", 1).save("out", overlay="none")
    assert "overlay" not in Explanation.load("out").save("again")


@pytest.mark.parametrize(
    ("kind", "original", "message"),
    [
        ("image", pixels(8), r"expected the image of size \(24, 32\) .* ndarray of \(8, 32\)"),
        ("image", "image.png", r"expected the image of size \(24, 32\) .*; received str\."),
        ("image", video(), r"expected the image of size \(24, 32\) .*; received Video\."),
        ("video", frames(), r"expected the video of size \(16, 20\) .*; received ndarray"),
        ("video", open_video(video(6)), "expected the 8 frames that were explained; received 6. "
         "Open the video with the same sampling"),
        ("volume", Volume(np.zeros((8, 12, 11)), AFFINE), r"expected the volume of size "
         r"\(8, 12, 10\) that was explained; received Volume of \(8, 12, 11\)"),
    ],
)  # fmt: skip
def test_another_original(kind, original, message):
    explained(kind, 1).save("out", overlay="none")
    with pytest.raises(ArgumentError, match=message):
        Explanation.load("out", original)


def test_folders_without_a_result():
    with pytest.raises(FileNotFoundError, match=r"There is no report\.json of an explanation in "):
        Explanation.load("missing")
    Path("empty").mkdir()
    with pytest.raises(FileNotFoundError, match="of an explanation in 'empty'"):
        Explanation.load("empty")
    explained("image", 1).save("out")
    Path("out/map.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"map\.npz"):
        Explanation.load("out")


def change(report, path, value):
    *parents, last = path
    for key in parents:
        report = report[key]
    if value is None:
        del report[last]
    else:
        report[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["results"], None),
        (["results"], 3),
        (["results", 0, "score"], "high"),
        (["results", 0, "score"], {}),
        (["results", 0, "windows"], [{"start": 0}]),
        (["results", 0, "class"], None),
        (["input", "size"], None),
        (["input", "kind"], "sound"),
        (["input", "kind"], "volume"),
        (["input", "fingerprint"], "another"),
        (["model"], 3),
        (["model", "layers"], None),
        (["settings", "method"], None),
        (["warnings"], 3),
        (["input"], []),
    ],
)
def test_damaged_reports(path, value):
    explained("image", 1).save("out")
    report = json.loads(Path("out/report.json").read_text())
    change(report, path, value)
    Path("out/report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"report\.json"):
        Explanation.load("out")


@pytest.mark.parametrize("text", ["{", "[]", "3", ""])
def test_reports_that_are_none(text):
    explained("image", 1).save("out")
    Path("out/report.json").write_text(text)
    with pytest.raises(ValueError, match=r"'out/report\.json' is not of save\(\)"):
        Explanation.load("out")


@pytest.mark.parametrize("times", [[0, 1], [0, 0.5, 0.25], "now", [[0]]])
def test_damaged_times(times):
    explained("video", 1).save("out", overlay="none")
    report = json.loads(Path("out/report.json").read_text())
    report["input"]["times"] = times
    Path("out/report.json").write_text(json.dumps(report))
    with pytest.raises((ValueError, TypeError)):
        Explanation.load("out")


@pytest.mark.parametrize("name", ["map.npz", "maps.npz"])
def test_maps_of_another_result(name):
    more = {"compare": ["GradCAM"], "per_layer": True}
    explained("image", 1, **more).save("out")
    other = explain(network("image"), pixels(seed=1), 1, layers=LAYERS, **more)
    other.save("other")
    Path("other", name).replace(Path("out", name))
    with pytest.raises(ValueError, match=f"^{name} and report.json in 'out' are not of the same"):
        Explanation.load("out")


@pytest.mark.parametrize("shape", [(1, 24), (2, 24, 32), (24, 32), (1, 1, 24, 32)])
def test_maps_of_another_shape(shape):
    explanation = explained("image", 1)
    explanation.save("out")
    metadata = load_map("out/map.npz").metadata
    save_map(np.zeros(shape), "out/map.npz", metadata)
    with pytest.raises(ValueError, match=r"^map\.npz and report\.json in 'out' are not of the sa"):
        Explanation.load("out")


@pytest.mark.parametrize("shape", [(1, 24, 32), (2, 1, 24, 32), (1, 2, 24, 32), (1, 1, 8, 8)])
def test_other_maps_of_another_shape(shape):
    explained("image", 1, compare=["GradCAM"]).save("out")
    metadata = load_map("out/maps.npz").metadata
    save_map(np.zeros(shape), "out/maps.npz", metadata)
    with pytest.raises(ValueError, match=r"^'out/maps\.npz' is not of save\(\): ValueError"):
        Explanation.load("out")


class Touch:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("name", ["map.npz", "maps.npz", "report.json"])
def test_no_file_runs_code(name):
    explained("image", 1, compare=["GradCAM"]).save("out")
    Path("out", name).write_bytes(pickle.dumps(Touch()))
    with pytest.raises(ValueError, match=r"map\.npz|maps\.npz|report\.json"):
        Explanation.load("out")
    if name != "report.json":
        np.savez(Path("out", name), map=np.array([Touch()], object), metadata=np.array("{}"))
        with pytest.raises(ValueError, match=name):
            Explanation.load("out")
    assert not Path("ran").exists()


# ---------------------------------------------------------------------- what could be mixed up


def test_another_scan_or_another_video_is_refused():
    explained("volume", 1).save("scan")
    moved = Volume(scan().data, AFFINE + np.eye(4, k=3))
    with pytest.raises(ArgumentError, match="the scan that was explained; its affine differs"):
        Explanation.load("scan", moved)
    explained("video", 1).save("video", overlay="none")
    frames = video().frames
    later = Video(frames, 7.0, FrameTimes.from_rate(len(frames), 7.0))
    with pytest.raises(ArgumentError, match="the video that was explained; its times differ"):
        Explanation.load("video", open_video(later))


@pytest.mark.parametrize("kind", ["image", "video", "volume"])
def test_an_original_of_another_content_is_warned_of(kind):
    make = {"image": pixels, "video": lambda **how: open_video(video(**how)), "volume": scan}[kind]
    explained(kind, 1).save("out", overlay="none")
    with pytest.warns(UserWarning, match="its content is not what was explained, or was read by"):
        Explanation.load("out", make(seed=1))
    loaded = Explanation.load("out", make())
    assert loaded.save("again", overlay="none")
    with pytest.warns(UserWarning, match="its content is not what was explained"):
        Explanation.load("again", make(seed=1))


def test_a_result_is_not_replaced_by_one_without_the_original():
    saved = explained("volume", 1)
    saved.save("out")
    names = {path.name for path in Path("out").iterdir()}
    loaded = Explanation.load("out")
    with pytest.raises(ArgumentError, match=r"Pass original to Explanation\.load\(\), or save to"):
        loaded.save("out")
    assert {path.name for path in Path("out").iterdir()} == names
    assert loaded.peak_mm() == saved.peak_mm()
    files = loaded.save("again")  # the map lies on the scan all the same
    assert np.allclose(read_volume(files["nifti"]).affine, AFFINE, atol=1e-5)


def test_infinite_scores_are_saved():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network("image")

        def forward(self, x):
            return self.model(x).index_fill(1, torch.tensor([1]), -torch.inf)

    explanation = explain(Masked().eval(), pixels(), "top4", layers=["model.0"])
    report = json.loads(explanation.save("out")["json"].read_text())
    assert report["results"][-1]["score"] is None
    assert Explanation.load("out").scores[0, -1].isnan()


def test_functions_are_pickled_by_their_names():
    explanation = explain(network("image"), pixels(), lambda x: x[:, 1], layers=LAYERS)
    again = pickle.loads(pickle.dumps(explanation))
    assert again.classes == [["<lambda>"]]
    assert torch.equal(again.attribution, explanation.attribution)
