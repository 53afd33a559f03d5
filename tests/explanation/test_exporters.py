"""Exporters: what other libraries receive, with stand-ins for them.

The code in docs/how_to/export.md runs with the libraries themselves, where they are installed.
"""

import gzip
import sys
from dataclasses import dataclass
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image

from captum_3dcam.explanation import ArgumentError, Explanation
from captum_3dcam.explanation.exporters import (
    add_to_tensorboard,
    to_fiftyone,
    to_napari,
    to_wandb,
    write_slicer_scene,
)
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Sampling, Video, Volume, open_video, read_volume
from captum_3dcam.io.volume import Header
from captum_3dcam.visualization import Scan

SECRET = "PATIENT-17"
EDGES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.8, 1.0]  # of six frames


def explanation_of(kind, original, maps, **fields):
    """Of one sample: maps (k, *S)."""
    count = len(maps)
    names = ["a <b> & c", "run/2"][:count]
    return Explanation(
        attribution=torch.as_tensor(maps)[None].float(),
        classes=[list(range(count))],
        class_names=[names],
        scores=torch.tensor([[2.0, 1.0][:count]]),
        probabilities=torch.tensor([[0.75, 0.25][:count]]),
        kind=kind,
        originals=[original],
        method="GlobalLocal",
        layers=["1"],
        **fields,
    )


def image_explanation(original=True):
    """10 x 20 pixels; the first map is 2 in the box (4, 2, 8, 6), the second 1 in one pixel."""
    maps = torch.zeros(2, 10, 20)
    maps[0, 1:8, 3:12] = 0.9  # below half of the maximum
    maps[0, 2:6, 4:8] = 2
    maps[1, 9, 19] = 1
    pixels = np.full((10, 20, 3), 100, np.uint8) if original else None
    return explanation_of("image", pixels, maps, facts={"size": [10, 20]})


def video_explanation(sampling=Sampling()):
    """Frames of 20 x 40 pixels and maps of 10 x 20, which are 3 in a box of two frames."""
    frames = np.full((6, 20, 40, 3), 100, np.uint8)
    times = FrameTimes(EDGES)
    video = open_video(Video(frames, times.fps, times), sampling=sampling)
    maps = torch.zeros(1, len(video.times), 10, 20)
    maps[0, 1:3, 2:6, 4:8] = 3
    return explanation_of("video", video, maps, times=video.times, facts={"size": [20, 40]})


def volume_explanation(orientation="SPL", channels=1, window=None):
    """A scan of 4 x 5 x 6 voxels that is tilted a little, with the map's peak at (2, 1, 4)."""
    signs = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (letter, spacing) in enumerate(zip(orientation, (4.0, 2.0, 1.5), strict=True)):
        world, sign = signs[letter]
        affine[world, axis] = sign * spacing
    cos, sin = np.cos(0.14), np.sin(0.14)
    tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    affine[:3, :3] = tilt @ affine[:3, :3]
    affine[:3, 3] = (10, -20, 30)
    data = np.arange(channels * 120.0).reshape(channels, 4, 5, 6).astype(np.float32)
    scan = Volume(data, affine, header=Header(description=SECRET))
    maps = torch.zeros(2, 4, 5, 6)
    maps[0, 2, 1, 4], maps[0, 2, 1, 3], maps[0, 0, 0, 0] = 4, 3, 1
    facts = {"size": [4, 5, 6], "affine": affine.tolist(), "window": window}
    return explanation_of("volume", scan, maps, facts=facts)


def two_samples(one):
    """The same explanation as a batch of two."""
    fields = {
        name: torch.cat([getattr(one, name)] * 2)
        for name in ("attribution", "scores", "probabilities")
    }
    fields |= {name: 2 * getattr(one, name) for name in ("classes", "class_names", "originals")}
    names = ("kind", "method", "layers", "times", "facts")
    return Explanation(**fields, **{name: getattr(one, name) for name in names})


# ------------------------------------------------------------------------------- TensorBoard


class StandInWriter:
    """torch.utils.tensorboard.SummaryWriter's methods that are called."""

    def __init__(self):
        self.figures, self.summaries = [], []

    def add_figure(self, tag, figure, global_step=None, close=True, walltime=None):
        self.figures.append((tag, figure, global_step))

    def _get_file_writer(self):
        return self

    def add_summary(self, summary, global_step=None, walltime=None):
        self.summaries.append((summary, global_step))


@pytest.fixture
def summary_proto(monkeypatch):
    class Summary(SimpleNamespace):
        Image = Value = SimpleNamespace

    module = SimpleNamespace(Summary=Summary)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.summary_pb2", module)


def durations(gif):
    image = Image.open(BytesIO(gif))
    of_frames = []
    for number in range(image.n_frames):
        image.seek(number)
        of_frames.append(image.info["duration"])
    return of_frames


@pytest.mark.parametrize("explanation", [image_explanation(), volume_explanation()])
def test_tensorboard_receives_a_figure_of_each_sample(explanation):
    writer = StandInWriter()
    add_to_tensorboard(two_samples(explanation), writer, "validation", 7)
    assert [(tag, step) for tag, _, step in writer.figures] == [
        ("validation/0", 7),
        ("validation/1", 7),
    ]
    assert writer.figures[0][1].axes
    assert not writer.summaries


def test_tensorboard_receives_a_gif_of_each_class_with_the_times_of_the_frames(summary_proto):
    writer = StandInWriter()
    add_to_tensorboard(two_samples(video_explanation()), writer, "clip")
    (value,), (other,) = (summary.value for summary, _ in writer.summaries)
    assert (value.tag, other.tag) == ("clip/0/0", "clip/1/0")
    assert [step for _, step in writer.summaries] == [None, None]
    gif = value.image.encoded_image_string
    assert gif.startswith(b"GIF89a")
    assert (value.image.width, value.image.height) == Image.open(BytesIO(gif)).size
    assert value.image.colorspace == 3
    assert durations(gif) == [100, 100, 100, 100, 400, 200]


def test_tensorboard_reads_what_was_added(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        add_to_tensorboard(image_explanation(), writer, "image", 1)
        add_to_tensorboard(video_explanation(), writer, "video", 2)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["image/0", "video/0/0"]
    (image,), (video,) = events.Images("image/0"), events.Images("video/0/0")
    assert (image.step, video.step) == (1, 2)
    shown = Image.open(BytesIO(video.encoded_image_string))
    assert (shown.format, shown.size) == ("GIF", (video.width, video.height))
    assert durations(video.encoded_image_string) == [100, 100, 100, 100, 400, 200]


# -------------------------------------------------------------------------- Weights & Biases


@pytest.fixture
def wandb(monkeypatch):
    @dataclass
    class WandbImage:
        data_or_path: Any
        mode: Any = None
        caption: Any = None
        grouping: Any = None
        classes: Any = None
        boxes: Any = None
        masks: Any = None
        file_type: Any = None

    @dataclass
    class WandbVideo:
        data_or_path: Any
        caption: Any = None
        fps: Any = None
        format: Any = None

    module = SimpleNamespace(Image=WandbImage, Video=WandbVideo)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_receives_the_figure_and_the_image_with_boxes_and_masks(wandb):
    explanation = image_explanation()
    logged = to_wandb(explanation)
    assert logged.keys() == {"explanation", "regions"}
    (figure,), (regions,) = logged["explanation"], logged["regions"]
    assert figure.data_or_path.axes
    assert figure.caption == regions.caption == "a <b> & c (0.75), run/2 (0.25)"
    assert regions.data_or_path is explanation.originals[0]
    labels = {1: "a <b> & c", 2: "run/2"}
    boxes = regions.boxes["boxes"]
    assert boxes["class_labels"] == labels
    first, second = boxes["box_data"]
    assert first == {
        "position": {"minX": 4.0, "minY": 2.0, "maxX": 8.0, "maxY": 6.0},
        "domain": "pixel",
        "class_id": 1,
        "box_caption": "a <b> & c (0.75)",
        "scores": {"probability": 0.75, "attribution": 2.0},
    }
    assert (second["class_id"], second["position"]["maxX"]) == (2, 20.0)
    expected = np.zeros((10, 20))
    expected[2:6, 4:8] = 1
    assert [mask["class_labels"] for mask in regions.masks.values()] == [labels, labels]
    np.testing.assert_array_equal(regions.masks["class 0"]["mask_data"], expected)
    assert regions.masks["class 1"]["mask_data"].sum() == 2


def test_masks_have_the_size_of_the_image(wandb):
    maps = torch.zeros(1, 5, 10)
    maps[0, 1:3, 2:4] = 2
    pixels = np.zeros((10, 20, 3), np.uint8)
    (regions,) = to_wandb(explanation_of("image", pixels, maps, facts={"size": [10, 20]}))[
        "regions"
    ]
    expected = np.zeros((10, 20))
    expected[2:6, 4:8] = 1
    np.testing.assert_array_equal(regions.masks["class 0"]["mask_data"], expected)


def test_a_map_of_zeros_has_no_mask_and_no_box(wandb):
    explanation = explanation_of(
        "image", np.zeros((4, 4, 3), np.uint8), torch.zeros(1, 4, 4), facts={"size": [4, 4]}
    )
    (regions,) = to_wandb(explanation)["regions"]
    assert regions.boxes["boxes"]["box_data"] == []
    assert not regions.masks["class 0"]["mask_data"].any()


def test_wandb_receives_an_mp4_of_each_sample(wandb, tmp_path):
    pytest.importorskip("av")
    first, second = to_wandb(two_samples(video_explanation()))["explanation"]
    assert (first.format, first.fps, first.caption) == ("mp4", None, "a <b> & c (0.75)")
    assert second.caption == first.caption
    (tmp_path / "a.mp4").write_bytes(first.data_or_path.read())
    times = open_video(tmp_path / "a.mp4").times
    np.testing.assert_allclose(times.edges, EDGES, atol=2e-3)


def test_wandb_receives_a_figure_of_a_volume_and_of_an_image_that_was_not_loaded(wandb):
    for explanation in (volume_explanation(), image_explanation(original=False)):
        assert to_wandb(explanation).keys() == {"explanation"}


# ---------------------------------------------------------------------------------- FiftyOne


@pytest.fixture
def fiftyone(monkeypatch):
    names = (
        "Classification",
        "Classifications",
        "Detection",
        "Detections",
        "Heatmap",
        "TemporalDetection",
        "TemporalDetections",
    )
    module = SimpleNamespace(**{name: type(name, (SimpleNamespace,), {}) for name in names})
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    return module


def test_fiftyone_receives_maps_and_boxes_of_images(fiftyone):
    explanation = image_explanation()
    (fields, frames), (again, _) = to_fiftyone(two_samples(explanation))
    assert frames == {}
    assert again.keys() == fields.keys() == {"predictions", "map_0", "map_1", "boxes"}
    predictions = fields["predictions"].classifications
    assert [(p.label, p.confidence) for p in predictions] == [
        ("a <b> & c", 0.75),
        ("run/2", 0.25),
    ]
    np.testing.assert_array_equal(fields["map_0"].map, explanation.heat_map())
    assert fields["map_0"].range == [0, 2]
    first, second = fields["boxes"].detections
    assert first.label == "a <b> & c"
    assert first.bounding_box == [4 / 20, 2 / 10, 4 / 20, 4 / 10]
    assert (first.confidence, first.attribution) == (0.75, 2)
    assert (second.label, second.bounding_box[0]) == ("run/2", 19 / 20)


def test_fiftyone_receives_maps_and_boxes_of_frames(fiftyone):
    ((fields, frames),) = to_fiftyone(video_explanation())
    assert fields.keys() == {"predictions", "segments"}
    (segment,) = fields["segments"].detections
    assert (segment.label, segment.support) == ("a <b> & c", [2, 3])
    assert list(frames) == [1, 2, 3, 4, 5, 6]
    assert all(each["map_0"].range == [0, 3] for each in frames.values())
    assert [len(each["boxes"].detections) for each in frames.values()] == [0, 1, 1, 0, 0, 0]
    (box,) = frames[2]["boxes"].detections
    assert box.bounding_box == [4 / 20, 2 / 10, 4 / 20, 4 / 10]
    assert (box.index, box.attribution) == (1, 3)


@pytest.mark.parametrize(
    "sampling, expected",
    [
        (Sampling(stride=2), [1, 3, 5]),
        (Sampling(start=0.2, end=0.8), [3, 4, 5]),
        (Sampling(frames=3), [2, 5, 6]),  # shown at 1/6, 1/2 and 5/6 s
    ],
)
def test_frames_keep_their_numbers_if_some_are_sampled(fiftyone, sampling, expected):
    ((fields, frames),) = to_fiftyone(video_explanation(sampling))
    assert list(frames) == expected
    assert fields["segments"].detections[0].support == expected[1:3]


def test_fiftyone_does_not_show_volumes():
    with pytest.raises(ArgumentError, match="FiftyOne shows images and videos.*to_napari"):
        to_fiftyone(volume_explanation())


# ------------------------------------------------------------------------------------ napari


def world_of(layer, voxel):
    """Where a voxel of a layer's array is."""
    return layer[1]["affine"] @ (*voxel, 1)


def test_napari_receives_the_image_and_its_maps():
    explanation = image_explanation()
    base, first, second = to_napari(explanation)
    assert [layer[2] for layer in (base, first, second)] == ["image"] * 3
    assert [layer[1]["name"] for layer in (base, first, second)] == [
        "image",
        "a <b> & c (0.75)",
        "run/2 (0.25)",
    ]
    assert base[1]["rgb"]
    np.testing.assert_array_equal(base[0], explanation.originals[0])
    np.testing.assert_array_equal(first[0], explanation.heat_map())
    np.testing.assert_array_equal(first[1]["affine"], np.eye(3))
    assert (first[1]["contrast_limits"], second[1]["contrast_limits"]) == ((0, 2), (0, 1))
    assert (first[1]["visible"], second[1]["visible"]) == (True, False)


def test_napari_receives_a_video_in_seconds_and_pixels():
    base, heat = to_napari(video_explanation())
    assert base[0].shape == (6, 20, 40, 3)
    assert base[1]["rgb"]
    assert heat[1]["units"] == ("s", "pixel", "pixel")
    # Six frames in a second; a pixel of the map covers two of the frame.
    np.testing.assert_allclose(world_of(base, (3, 5, 7)), (0.5, 5, 7, 1))
    np.testing.assert_allclose(world_of(heat, (3, 0, 0)), (0.5, 0.5, 0.5, 1))
    np.testing.assert_allclose(world_of(heat, (3, 9, 19)), (0.5, 18.5, 38.5, 1))


@pytest.mark.parametrize("orientation", ["SPL", "RAS", "PSR", "LIA"])
def test_napari_receives_a_scan_in_mm_to_the_feet_the_back_and_the_left(orientation):
    explanation = volume_explanation(orientation)
    scan = explanation.originals[0]
    base, heat, _ = to_napari(explanation)
    peak = np.unravel_index(heat[0].argmax(), heat[0].shape)
    right, front, head = scan.to_world((2, 1, 4))
    for layer in (base, heat):
        np.testing.assert_allclose(world_of(layer, peak), (-head, -front, -right, 1))
        # Each axis of the array is closest to the coordinate at its position.
        directions = abs(layer[1]["affine"][:3, :3])
        assert directions.argmax(axis=0).tolist() == [0, 1, 2]
    assert base[0][peak] == scan.data[2, 1, 4]
    assert heat[1]["axis_labels"] == ("I", "P", "L")
    assert heat[1]["units"] == ("mm", "mm", "mm")


def test_napari_shows_a_scan_in_its_window_or_by_percentiles():
    base, *_ = to_napari(volume_explanation(window=(-100, 400)))
    assert base[1]["contrast_limits"] == (-100, 400)
    base, *_ = to_napari(volume_explanation(channels=2))
    assert base[0].shape == (4, 5, 6)
    np.testing.assert_allclose(
        base[1]["contrast_limits"], np.percentile(np.arange(120.0), (0.5, 99.5))
    )


def test_napari_receives_a_volume_without_an_affine_in_its_spacing():
    maps = torch.ones(1, 2, 3, 4)
    for spacing, unit in (((5.0, 2.0, 1.0), "mm"), (None, "pixel")):
        scan = Scan(np.zeros((2, 3, 4)), spacing)
        explanation = explanation_of("volume", scan, maps, facts={"size": [2, 3, 4]})
        base, heat = to_napari(explanation)
        for layer in (base, heat):
            assert layer[1]["units"] == (unit,) * 3
            np.testing.assert_array_equal(layer[1]["affine"], np.diag([*(spacing or (1, 1, 1)), 1]))
        low, high = base[1]["contrast_limits"]
        assert low < high


def test_napari_receives_the_maps_alone_if_the_original_was_not_loaded():
    first, second = to_napari(image_explanation(original=False))
    assert first[1]["colormap"] == second[1]["colormap"] == "inferno"


def test_napari_shows_one_of_the_samples():
    batch = two_samples(image_explanation())
    batch.attribution[1] *= 3
    _, first, _ = to_napari(batch, sample=1)
    assert first[1]["contrast_limits"] == (0, 6)


# ---------------------------------------------------------------------------------- 3D Slicer


def read_scene(path):
    """The nodes of a scene by their ids; an id is in the scene once."""
    nodes = list(ElementTree.parse(path).getroot())
    by_id = {node.get("id"): node for node in nodes}
    assert len(by_id) == len(nodes)
    return by_id


@pytest.mark.parametrize("channels", [1, 2])
def test_a_scene_refers_to_volumes_on_one_grid(tmp_path, channels):
    explanation = volume_explanation(channels=channels)
    scan = explanation.originals[0]
    path = write_slicer_scene(explanation, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "scene.mrml"
    nodes = read_scene(path)
    volumes = [node for node in nodes.values() if node.tag == "Volume"]
    assert [node.get("name") for node in volumes] == [
        "scan",
        "a <b> & c (0.75)",
        "run/2 (0.25)",
    ]
    expected = [scan.data.reshape(-1, 4, 5, 6)[0], *explanation.attribution[0].numpy()]
    for node, values in zip(volumes, expected, strict=True):
        assert nodes[node.get("displayNodeRef")].tag == "VolumeDisplay"
        file = path.parent / nodes[node.get("storageNodeRef")].get("fileName")
        read = read_volume(file)
        np.testing.assert_array_equal(read.data, values)
        np.testing.assert_allclose(read.affine, scan.affine, atol=1e-4)
        image = SimpleITK.ReadImage(str(file))  # as Slicer, by ITK
        x, y, z = image.TransformIndexToPhysicalPoint((4, 1, 2))
        np.testing.assert_allclose((-x, -y, z), scan.to_world((2, 1, 4)), atol=1e-4)
    assert {each.name for each in path.parent.iterdir()} == {
        "scene.mrml",
        "scene_scan.nii.gz",
        "scene_map_0.nii.gz",
        "scene_map_1.nii.gz",
    }


def test_a_scene_shows_the_first_map_over_the_scan(tmp_path):
    nodes = read_scene(write_slicer_scene(volume_explanation(window=(-100, 400)), tmp_path))
    scan, heat, zero = (node for node in nodes.values() if node.tag == "VolumeDisplay")
    assert scan.get("colorNodeID") == "vtkMRMLColorTableNodeGrey"
    assert (scan.get("window"), scan.get("level")) == ("500", "150.0")
    assert heat.get("colorNodeID") == "vtkMRMLColorTableNodeFileInferno.txt"
    shown = ("window", "level", "lowerThreshold", "upperThreshold")
    assert [float(heat.get(name)) for name in shown] == [4, 2, 2, 4]
    assert [float(zero.get(name)) for name in shown] == [1, 0.5, 0.5, 1]
    assert heat.get("applyThreshold") == "1"
    for view in ("Red", "Yellow", "Green"):
        composite = nodes[f"vtkMRMLSliceCompositeNode{view}"]
        assert composite.get("layoutName") == view
        assert nodes[composite.get("backgroundVolumeID")].get("name") == "scan"
        assert nodes[composite.get("foregroundVolumeID")].get("name") == "a <b> & c (0.75)"


def test_a_scan_without_a_window_has_slicers(tmp_path):
    nodes = read_scene(write_slicer_scene(volume_explanation(), tmp_path))
    assert nodes["vtkMRMLScalarVolumeDisplayNode1"].get("autoWindowLevel") == "1"
    assert nodes["vtkMRMLScalarVolumeDisplayNode1"].get("window") is None


def test_the_views_meet_at_the_peak_and_show_the_whole_scan(tmp_path):
    explanation = volume_explanation()
    scan = explanation.originals[0]
    nodes = read_scene(write_slicer_scene(explanation, tmp_path))
    peak = scan.to_world((2, 1, 4))
    corners = scan.to_world(
        [(d, h, w) for d in (-0.5, 3.5) for h in (-0.5, 4.5) for w in (-0.5, 5.5)]
    )
    for view, up, across in (("Red", 1, 2), ("Yellow", 2, 0), ("Green", 2, 1)):
        node = nodes[f"vtkMRMLSliceNode{view}"]
        matrix = np.array(node.get("sliceToRAS").split(), float).reshape(4, 4)
        assert matrix[up, 1] == 1
        assert abs(matrix[across, 2]) == 1
        # The slice contains the peak.
        assert (np.linalg.inv(matrix) @ (*peak, 1))[2] == pytest.approx(0, abs=1e-3)
        width, height, _ = map(float, node.get("fieldOfView").split())
        for corner in corners:
            x, y, *_ = np.linalg.inv(matrix) @ (*corner, 1)
            assert abs(x) <= width / 2 + 1e-3
            assert abs(y) <= height / 2 + 1e-3


def test_the_views_of_a_zero_map_meet_at_the_middle(tmp_path):
    explanation = volume_explanation()
    explanation.attribution.zero_()
    nodes = read_scene(write_slicer_scene(explanation, tmp_path))
    matrix = np.array(nodes["vtkMRMLSliceNodeRed"].get("sliceToRAS").split(), float).reshape(4, 4)
    middle = explanation.originals[0].to_world((1.5, 2, 2.5))
    np.testing.assert_allclose(matrix[:3, 3], middle, atol=1e-3)


def test_a_scene_replaces_an_earlier_one(tmp_path):
    write_slicer_scene(volume_explanation(), tmp_path)
    write_slicer_scene(volume_explanation(window=(0, 1)), tmp_path)
    nodes = read_scene(tmp_path / "scene.mrml")
    assert nodes["vtkMRMLScalarVolumeDisplayNode1"].get("window") == "1"


def test_a_scene_has_nothing_of_the_scans_header(tmp_path):
    write_slicer_scene(volume_explanation(), tmp_path)
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        assert SECRET.encode() not in content
        assert str(tmp_path).encode() not in content


def test_a_scene_needs_a_scan_with_an_affine(tmp_path):
    scan = Scan(np.zeros((2, 3, 4)))
    explanation = explanation_of("volume", scan, torch.ones(1, 2, 3, 4), facts={"size": [2, 3, 4]})
    for each, received in ((explanation, "'volume', of a Scan"), (image_explanation(), "'image'")):
        with pytest.raises(ArgumentError, match=f"shows a scan that has an affine.*{received}"):
            write_slicer_scene(each, tmp_path)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- what is missing


@pytest.mark.parametrize("function, library", [(to_wandb, "wandb"), (to_fiftyone, "fiftyone")])
def test_a_missing_library_is_named(monkeypatch, function, library):
    monkeypatch.setitem(sys.modules, library, None)
    name = function.__name__
    with pytest.raises(ImportError, match=f"{name} needs {library}: pip install {library}."):
        function(image_explanation())


def test_an_original_that_was_not_loaded_is_named(wandb, fiftyone, tmp_path):
    for kind, explanation, export in (
        ("video", video_explanation(), lambda e: add_to_tensorboard(e, StandInWriter(), "a")),
        ("video", video_explanation(), to_wandb),
        ("video", video_explanation(), to_fiftyone),
        ("volume", volume_explanation(), lambda e: write_slicer_scene(e, tmp_path)),
    ):
        explanation.originals[0] = None
        with pytest.raises(ArgumentError, match=f"without the {kind}.*load.folder, original"):
            export(explanation)
