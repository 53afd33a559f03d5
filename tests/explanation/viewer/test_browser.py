"""The viewer in a real browser: its pixels are NumPy's, and its controls do what they say."""

import re
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation
from viewer_contents import (
    EDGES,
    GREY,
    HOSTILE,
    blend,
    image_content,
    make_maps,
    payload_of,
    random,
    unpack,
    video_content,
    volume_content,
)

from captum_3dcam.explanation.viewer import (
    Regions,
    VolumeContent,
    notebook_html,
    report_page,
    viewer_page,
)
from captum_3dcam.localization import Boxes
from captum_3dcam.visualization import Scan, Style, render_image_attr

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_rotvec([0.2, -0.3, 0.25]).as_matrix() * [3.0, 1.5, 2.0]
OBLIQUE[:3, 3] = [-12.5, 30.25, 7.0]
# Slices from feet to head, rows from front to back, columns to the patient's left.
AXIAL = np.array([[0, 0, -2.0, 20], [0, -1.5, 0, 5], [4.0, 0, 0, -9], [0, 0, 0, 1]])
SAGITTAL = np.array([[3.0, 0, 0, -9], [0, 0, 2.0, 5], [0, -1.5, 0, 1], [0, 0, 0, 1]])
VOXELS = random(10, 14, 12)
AFFINES = {"RAS": None, "axial": AXIAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}


def levels_of(content, map_index=0, class_index=0):
    """The packed map, (frames or D, H, W)."""
    page = viewer_page(content)
    return unpack(payload_of(page)["maps"][map_index]["classes"][class_index])


def assert_same(drawn, expected):
    """Equal but for halves that round differently."""
    difference = np.abs(drawn.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


# ------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ([], GREY),
        (["g"], {**GREY, "grey": False}),
        (["+", "+"], {**GREY, "opacity": 1.0}),
        (["-", "-", "-"], {**GREY, "opacity": 0.5}),
        ([">", ">", ">", "<"], {**GREY, "threshold": 0.1}),
    ],
)
def test_the_pixels_of_an_image_are_those_of_numpy(show, controls, expected):
    content = image_content()
    page = show(viewer_page(content))
    page.press(*controls)
    base = page.pixels(0)
    assert np.abs(base.astype(int) - content.original.pixels).mean() < 2  # JPEG
    assert_same(page.pixels(1), blend(base, levels_of(content)[0], **expected))


def test_the_colours_are_those_of_the_figures(show):
    content = image_content()
    page = show(viewer_page(content))
    figure = render_image_attr(content.maps[0].values[0], page.pixels(0), style=Style())
    # Bytes of the map and of the palette, where the figure has floats.
    assert np.abs(page.pixels(1).astype(int) - figure).max() <= 4


def test_the_threshold_hides_what_is_at_most_its_share_of_the_maximum(show):
    content = replace(image_content(), maps=make_maps(40, 60))  # the maximum is in a pixel
    page = show(viewer_page(content))
    page.slide("threshold", 0.5)
    base = page.pixels(0)
    drawn = blend(base, levels_of(content)[0], **{**GREY, "threshold": 0.5})
    assert_same(page.pixels(1), drawn)
    is_grey = (np.ptp(page.pixels(1), axis=-1) == 0).mean()
    assert 0.1 < is_grey < 0.9
    page.slide("threshold", 1)
    assert (np.ptp(page.pixels(1), axis=-1) == 0).all()
    page.slide("threshold", 0)
    page.slide("opacity", 0)
    assert (np.ptp(page.pixels(1), axis=-1) == 0).all()


def test_class_and_map_are_chosen(show):
    content = image_content()
    page = show(viewer_page(content))
    base = page.pixels(0)
    for map_index, class_index in [(0, 1), (1, 1), (1, 0), (0, 0)]:
        page.choose("class", class_index)
        page.choose("map", map_index)
        levels = levels_of(content, map_index, class_index)[0]
        assert_same(page.pixels(1), blend(base, levels, **GREY))
        peak = content.maps[map_index].values[class_index].max()
        assert float(page.texts(".c3d-bar .c3d-ticks span")[-1]) == pytest.approx(peak, rel=5e-3)
        # The regions are those of the main map of the class.
        has_box = (map_index, class_index) == (0, 0)
        assert page.page.locator(".c3d-stage rect.c3d-line").count() == 2 * has_box


def test_a_map_of_zeros_is_said_to_be_zero(show):
    page = show(viewer_page(image_content()))
    assert not page.page.is_visible(".c3d-alert")
    page.press("[")
    assert "The map is zero. The map against" in page.text(".c3d-alert")
    assert (np.ptp(page.pixels(1), axis=-1) == 0).all()


def test_boxes_are_over_the_pixels_that_they_name(show):
    page = show(viewer_page(image_content()))
    stage = page.page.locator(".c3d-stage").nth(1).bounding_box()
    line = page.page.locator(".c3d-stage rect.c3d-line").nth(1).bounding_box()
    corners = [
        (line["x"] - stage["x"]) / stage["width"] * 60,
        (line["y"] - stage["y"]) / stage["height"] * 40,
        (line["x"] + line["width"] - stage["x"]) / stage["width"] * 60,
        (line["y"] + line["height"] - stage["y"]) / stage["height"] * 40,
    ]
    np.testing.assert_allclose(corners, [15, 8, 45, 30], atol=0.3)
    page.press("b")
    assert page.page.locator(".c3d-stage rect").count() == 0


def test_the_value_under_the_pointer(show):
    content = image_content()
    page = show(viewer_page(content))
    levels = levels_of(content)[0]
    fine = F.interpolate(torch.tensor(levels / 255)[None, None], (40, 60), mode="bilinear")
    fine = fine[0, 0].numpy()
    page.point(1, 20.5 / 40, 10.5 / 60)
    x, y, value, share = map(
        float,
        re.fullmatch(
            r"x (\d+), y (\d+): ([\d.]+) \((\d+) % of max.\)", page.text(".c3d-readout")
        ).groups(),
    )
    assert (x, y) == (10, 20)
    assert value == pytest.approx(fine[20, 10] * content.maps[0].values[0].max(), rel=5e-3)
    assert share == round(100 * fine[20, 10])


# -------------------------------------------------------------------------------------- videos


def frame_colours(content, page, t):
    """The colour of the frame that is drawn, and that of frame t; JPEG keeps flat areas."""
    return page.pixels(0)[-1, -1].astype(int), content.original.frames[t, -1, -1].astype(int)


@pytest.mark.parametrize("t", [0, 3, 7])
def test_scrubbing_changes_frame_and_map_together(show, t):
    content = video_content()
    page = show(viewer_page(content))
    page.slide("frame", t)
    drawn, expected = frame_colours(content, page, t)
    assert np.abs(drawn - expected).max() <= 4
    assert_same(page.pixels(1), blend(page.pixels(0), levels_of(content)[t], **GREY))
    assert page.text(".c3d-clock") == f"frame {2 * t} of 0 to 14, {EDGES[t]:.2f} s"


def test_a_video_opens_at_the_frame_with_the_highest_mean(show):
    content = video_content()
    page = show(viewer_page(content))
    means = content.maps[0].values[0].mean((1, 2))
    assert page.text(".c3d-clock").startswith(f"frame {2 * means.argmax()} of 0 to 14")
    assert page.text(".c3d-note") == "every 2nd of 16 frames"


def frame_number(page):
    """Of those that are shown."""
    return int(page.text(".c3d-clock").split()[1]) // 2


def test_the_keys_of_time(show):
    page = show(viewer_page(video_content()))
    page.press("Home", "ArrowLeft")
    assert frame_number(page) == 0
    page.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert frame_number(page) == 1
    page.press("End", "ArrowRight")
    assert frame_number(page) == 7


def test_the_profile_is_the_mean_of_each_frame_and_seeks(show):
    content = video_content()
    page = show(viewer_page(content))
    path = page.page.locator(".c3d-curve").get_attribute("d")
    points = np.array([point.split(",") for point in path[1:].split("L")], float)
    means = content.maps[0].values[0].mean((1, 2))
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    np.testing.assert_allclose(points[:, 0], 1000 * middles / 2, atol=0.06)
    np.testing.assert_allclose(100 - points[:, 1], 100 * means / (1.1 * means.max()), atol=0.5)
    segment = page.page.locator(".c3d-segments rect")
    assert float(segment.get_attribute("x")) == pytest.approx(1000 * 0.3 / 2)
    assert float(segment.get_attribute("width")) == pytest.approx(1000 * 0.7 / 2)
    box = page.page.locator(".c3d-plot").bounding_box()
    page.page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 20)  # at 0.8 s
    page.settle()
    assert page.text(".c3d-clock") == "frame 8 of 0 to 14, 0.60 s"


def test_a_tube_is_drawn_in_its_frames(show):
    page = show(viewer_page(video_content()))
    shown = []
    for t in range(8):
        page.slide("frame", t)
        shown.append(page.page.locator(".c3d-stage").nth(1).locator("rect.c3d-line").count())
    assert shown == [0, 0, 1, 1, 1, 0, 0, 0]
    assert page.texts(".c3d-legend button") == [
        "tube 1: frames 4 to 8 (0.30 to 1.00 s), mean of the frames' maxima 0.9",
        "segment: frames 4 to 8 (0.30 to 1.00 s), mean of the map 0.5",
    ]


def test_a_tube_of_the_legend_seeks_to_its_first_frame(show):
    content = video_content()
    (tube,) = content.regions[0].tubes
    tubes = [replace(tube, start=t, boxes=tube.boxes[:1]) for t in (1, 2, 3, 4, 6)]
    page = show(viewer_page(replace(content, regions=[Regions(tubes=tubes), Regions()])))
    buttons = page.page.locator(".c3d-legend button:visible")
    assert [text.split("(")[0] for text in buttons.all_inner_texts()] == [
        "tube 1: frame 2 ",
        "tube 2: frame 4 ",
        "tube 3: frame 6 ",
    ]
    page.page.get_by_text("and 2 more").click()
    assert buttons.count() == 5
    buttons.nth(4).click()
    page.settle()
    assert frame_number(page) == 6
    assert buttons.count() == 5  # still unfolded
    page.choose("class", 1)
    assert not page.page.is_visible(".c3d-legend")


@pytest.mark.parametrize(
    ("make", "name"), [(image_content, "boxes"), (video_content, "tubes and segments")]
)
def test_regions_of_another_map_than_the_first_cannot_be_shown(show, make, name):
    page = show(viewer_page(make()))
    assert f"b {name}" in page.texts(".c3d-help span")
    box = page.page.get_by_role("checkbox", name=name)
    assert box.is_enabled()
    page.press("]", "b")
    assert box.is_disabled()
    assert page.texts(".c3d-toggle")[-1] == f"{name} (of the first map only)"
    page.press("[")
    assert box.is_enabled()
    assert box.is_checked()


def test_the_colour_bar_says_what_the_values_are(show):
    content = image_content()
    maps = [replace(content.maps[0], meaning="attribution times a factor"), *content.maps[1:]]
    page = show(viewer_page(replace(content, maps=maps)))
    caption = ".c3d-bar figcaption"
    assert page.text(caption) == "attribution times a factor, 0 to this map's maximum"
    page.press("]")
    assert page.text(caption) == "attribution, 0 to this map's maximum"
    assert page.text(".c3d-scores").startswith("run: probability 0.750, class score 8.5; ")
    options = page.page.get_by_role("combobox", name="class").locator("option").all_inner_texts()
    assert options[0] == "run (key 1)"


def test_playing_shows_each_frame_for_its_own_time(show):
    page = show(viewer_page(video_content()))
    page.press("Home")
    script = """() => new Promise((done, fail) => {
        setTimeout(() => fail(new Error("the last frame was not shown")), 5000);
        const clock = document.querySelector(".c3d-clock");
        const times = [];
        const start = performance.now();
        new MutationObserver(() => {
            const frame = Number(clock.textContent.split(" ")[1]);
            const seconds = (performance.now() - start) / 1000;
            if (times.at(-1)?.[0] !== frame) times.push([frame, seconds]);
            if (frame === 14) done(times);
        }).observe(clock, { childList: true });
        document.querySelector(".c3d-play").click();
    })"""
    times = dict(page.page.evaluate(script))
    assert list(times) == sorted(times)
    for number in (8, 10, 14):  # the frames before them are long
        assert times[number] == pytest.approx(EDGES[number // 2], abs=0.2)
    page.press(" ")
    assert page.text(".c3d-play") == "▶ Play"
    stopped = page.text(".c3d-clock")
    page.page.wait_for_timeout(300)
    assert page.text(".c3d-clock") == stopped


# ------------------------------------------------------------------------------------- volumes


def crosshair(page):
    """The voxel and the millimetres that the page states."""
    line = page.texts(".c3d-readout span")[0]
    voxel, mm = re.match(r"Crosshair: voxel (.+); (.+) mm \(RAS\)", line).groups()
    return np.array(voxel.split(", "), int), np.array(mm.split(", "), float)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_the_crosshair_links_the_planes_in_radiological_convention(show, affine):
    """By nibabel: its directions of the axes, and its millimetres of a voxel."""
    content = volume_content(affine)
    volume = content.original.volume
    codes = nibabel.aff2axcodes(volume.affine)
    page = show(viewer_page(content))
    page.press("o")  # scans are shown with the map alone at first
    sides = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    levels = levels_of(content)
    scan = np.rint(volume.data.astype(np.float64) * 255)
    for number, (name, edges) in enumerate(sides.items()):
        assert page.texts("figcaption")[2 * number + 1] == name
        stage = page.page.locator(".c3d-stage").nth(2 * number)
        assert stage.locator(".c3d-side").all_inner_texts() == list(edges)
        page.point(2 * number, 0.22, 0.34, click=True)
        voxel, mm = crosshair(page)
        np.testing.assert_allclose(mm, apply_affine(volume.affine, voxel), atol=0.006)
        # Towards the left and the top of the image is towards the sides with these letters.
        for axis, code in enumerate(codes):
            size, pair = volume.shape[axis], {"R": "RL", "A": "AP", "S": "SI"}
            grows_to = next(p for p in pair.values() if code in p)
            if grows_to not in (edges[:2], edges[2:]):
                continue
            share = 0.34 if grows_to == edges[:2] else 0.22
            first = edges[0] if grows_to == edges[:2] else edges[2]
            expected = (1 - share) * size if code == first else share * size
            assert voxel[axis] == int(expected), (name, code)
        for other, (_, other_edges) in enumerate(sides.items()):
            image, heat = oriented(scan, levels, codes, voxel, other_edges)
            base = np.repeat(image[..., None], 3, -1).astype(np.uint8)
            assert_same(page.pixels(2 * other), base)
            assert_same(page.pixels(2 * other + 1), blend(base, heat, **GREY))


def oriented(scan, levels, codes, voxel, edges):
    """The slices of scan and map through a voxel, rows from the third of the edges, columns from
    the first."""
    axis_of = {
        pair: next(i for i, c in enumerate(codes) if c in pair) for pair in ("RL", "AP", "SI")
    }
    columns, rows = axis_of[edges[:2]], axis_of[edges[2:]]
    (across,) = {0, 1, 2} - {columns, rows}
    position = (voxel[across] + 0.5) * levels.shape[across] / scan.shape[across] - 0.5
    position = min(max(position, 0), levels.shape[across] - 1)
    low = int(position)
    high = min(low + 1, levels.shape[across] - 1)
    floats = levels.astype(np.float64)
    heat = floats.take(low, across) * (1 - position + low) + floats.take(high, across) * (
        position - low
    )
    images = []
    for image in (scan.take(voxel[across], across), heat):
        image = image if rows < columns else image.T
        image = image[::-1] if codes[rows] == edges[2] else image
        images.append(image[:, ::-1] if codes[columns] == edges[0] else image)
    return images


def test_a_scan_opens_at_the_peak_of_the_map(show):
    content = volume_content()
    page = show(viewer_page(content))
    peak = np.unravel_index(content.maps[0].values[0].argmax(), (5, 7, 6))
    np.testing.assert_array_equal(crosshair(page)[0], [2 * i + 1 for i in peak])
    line = page.texts(".c3d-readout span")[0]
    assert float(re.search(r"map ([\d.]+)", line)[1]) > 0.5 * content.maps[0].values[0].max()


def test_the_keys_of_a_scan(show):
    page = show(viewer_page(volume_content(AXIAL)))
    page.slide("axial slice", 5)
    page.point(1, 0.52, 0.52, click=True)  # the axial plane: W is horizontal, H vertical
    before = crosshair(page)[0]
    page.press("ArrowRight", "ArrowRight", "ArrowDown", "PageUp")
    np.testing.assert_array_equal(crosshair(page)[0] - before, [1, 1, 2])
    page.press("ArrowLeft", "ArrowUp", "PageDown", "PageDown")
    np.testing.assert_array_equal(crosshair(page)[0] - before, [-1, 0, 1])
    page.slide("axial slice", 7)
    assert crosshair(page)[0][0] == 7
    assert page.texts(".c3d-slice output")[0] == "D = 7, S 19 mm"


@pytest.mark.parametrize(
    ("scan", "position", "label", "edges"),
    [
        (Scan(VOXELS), "", "D = 7", ""),
        (Scan(VOXELS, (4, 1.5, 2)), "; 28, 3, 4 mm", "D = 7, 28 mm", ""),
        (Scan(VOXELS, None, "SPL"), "", "D = 7", "RLAP"),
    ],
)
def test_a_scan_without_an_affine_has_the_positions_that_it_knows(
    show, scan, position, label, edges
):
    content = replace(volume_content(), original=VolumeContent(scan, (0, 1)))
    page = show(viewer_page(content))
    page.point(1, 2.5 / 14, 2.5 / 12, click=True)
    page.page.locator("[type=range][aria-label$=slice]").first.fill("7")
    page.settle()
    line = page.texts(".c3d-readout span")[0]
    assert line.startswith(f"Crosshair: voxel 7, 2, 2{position}; map ")
    assert page.texts(".c3d-slice output")[0] == label
    stage = page.page.locator(".c3d-stage").nth(1)
    assert stage.locator(".c3d-side").all_inner_texts() == list(edges)
    assert page.texts("figcaption")[1] == ("axial" if edges else "across D")


def test_boxes_are_drawn_in_the_slices_that_they_cross(show):
    page = show(viewer_page(volume_content(AXIAL)))
    shown = []
    for d in range(10):
        page.slide("axial slice", d)
        shown.append(page.page.locator(".c3d-stage").nth(1).locator("rect.c3d-line").count())
    assert shown == [1] * 5 + [0] * 5


# ------------------------------------------------------------------------- pages and notebooks

CONTENTS = {"image": image_content, "video": video_content, "volume": volume_content}


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_its_width(show, make, width):
    content = replace(make(), title="long" * 100, warnings=["longer" * 100])
    page = show(viewer_page(content), width, has_touch=width == 390)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    for control in page.page.locator("select:visible, button:visible").all():
        assert control.bounding_box()["height"] >= (40 if width == 390 else 32)
    if width == 390:
        stage = page.page.locator(".c3d-stage").nth(1)
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        page.page.touchscreen.tap(box["x"] + 20, box["y"] + 20)
        page.settle()
        assert "% of max." in page.text(".c3d-readout")


def test_the_original_is_beside_the_map_where_it_fits_until_it_is_chosen(show):
    page = show(viewer_page(image_content()), width=1280)
    is_shown = page.page.locator(".c3d-stage").first.is_visible
    page.settle()
    assert is_shown()
    page.page.set_viewport_size({"width": 390, "height": 800})
    page.settle()
    assert not is_shown()
    page.press("o")
    assert is_shown()
    page.page.set_viewport_size({"width": 400, "height": 800})
    page.settle()
    assert is_shown()


def test_a_map_alone_has_the_width_of_the_page_and_a_scan_its_originals_above(show):
    page = show(viewer_page(image_content()), width=1280, height=1600)
    page.press("o")
    stage = page.page.locator(".c3d-stage").nth(1).bounding_box()
    assert stage["width"] > 0.95 * (1200 - 24)
    page = show(viewer_page(volume_content(OBLIQUE)), width=1280, height=700)
    assert "~S: the closest direction" in page.text(".c3d-help")
    page.press("o")
    boxes = [stage.bounding_box() for stage in page.page.locator(".c3d-stage").all()]
    assert max(box["y"] + box["height"] for box in boxes) < 700
    millimetres = [box["width"] / w for box, w in zip(boxes[::2], (30, 30, 21), strict=True)]
    np.testing.assert_allclose(millimetres, millimetres[0], rtol=0.05)  # one scale
    for selector in (".c3d-plane-view > figure:first-child", ".c3d-slice"):
        tops = {each.bounding_box()["y"] for each in page.page.locator(selector).all()}
        assert len(tops) == 1
    page = show(viewer_page(volume_content()), width=390)
    assert page.page.locator(".c3d-stage").nth(5).bounding_box()["width"] == 366
    page.press("o")
    left, right = (page.page.locator(".c3d-stage").nth(i).bounding_box() for i in (4, 5))
    assert (left["y"], left["width"]) == (right["y"], right["width"])


def test_of_labels_that_cover_one_another_the_first_is_shown(show):
    corners = [[15.0, 8, 17, 9], [16, 8, 18, 9], [40, 30, 50, 38]]
    boxes = Boxes(torch.tensor(corners), torch.tensor([0.9, 0.8, 0.7]))
    page = show(viewer_page(replace(image_content(), regions=[Regions([boxes])] * 2)))
    labels = page.page.locator(".c3d-labels").nth(1).locator("span:visible")
    assert labels.all_inner_texts() == ["0.9", "0.7"]


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
def test_every_control_has_a_name(show, make):
    page = show(viewer_page(make()))
    for control in page.page.locator("select, button, input").all():
        snapshot = control.aria_snapshot()
        assert re.search(r'"[^"]+"', snapshot), snapshot
    assert len(page.texts(".c3d-help span")) >= 6


def test_texts_stay_texts(show):
    page = show(viewer_page(video_content(HOSTILE)))
    assert page.page.title() == HOSTILE
    assert page.text("h2") == HOSTILE
    assert HOSTILE in page.page.locator("option").all_inner_texts()[1]
    assert page.page.locator("b").count() == 0
    page.choose("class", 1)
    page.choose("map", 1)
    label = page.page.locator(".c3d-stage > canvas").nth(1).get_attribute("aria-label")
    assert label == f"The map {HOSTILE} of the class {HOSTILE}"
    assert page.page.title() == HOSTILE


def test_a_report_has_all_that_was_stated(show):
    report = {
        "warnings": [f"The map of layer1 is zero. {HOSTILE}"],
        "results": [
            {
                "class": 3,
                "name": HOSTILE,
                "score": 8.5,
                "probability": 0.75,
                "tubes": [{"start": 2, "end": 5, "seconds": np.array([0.3, 1.0]), "score": 0.5}],
                "windows": [{"start": (0, 0), "stop": (1, 9), "seconds": [0, 0.1], "score": 7.0}]
                * 24,
                "boxes": [],
                "peak": {"kind": HOSTILE},
            }
        ],
        "input": {"path": HOSTILE, "times": EDGES},
        "model": {"name": "net.py:load"},
        "settings": {"fusion": "sum", HOSTILE: None, "compare": ["GradCAM", HOSTILE]},
        "versions": {"torch": "2.6"},
        "files": {"overlay": "overlay <1>.mp4"},
        "command": f"captum-3dcam explain '{HOSTILE}'",
    }
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
    )
    page = show(report_page(video_content(), report, [(f"layers {HOSTILE}", png)]))
    viewer = page.page.locator("#c3d-viewer").bounding_box()
    for text in (f"3\t{HOSTILE}\t8.5\t0.75", f"The map of layer1 is zero. {HOSTILE}"):
        assert text in page.page.locator(".c3d-report").first.inner_text()
    assert viewer["y"] + 300 < 900  # on the first screen
    for summary in page.page.locator(".c3d-report summary").all():
        summary.click()
    text = page.page.inner_text("body")
    for expected in (
        "24 windows",
        "frame 0 (0.00 to 0.10 s), [0:9], class score 7",
        f"The map of layer1 is zero. {HOSTILE}",
        f"peak: kind {HOSTILE}",
        "1 tube",
        "frames 2 to 4 (0.30 to 1.00 s), mean of the frames' maxima 0.5",
        f"captum-3dcam explain '{HOSTILE}'",
        f"layers {HOSTILE}",
        "net.py:load",
        "fusion\tsum",
        f"compare\tGradCAM, {HOSTILE}",
        "times\t[0.0, 0.1, 0.3, 0.35, 0.6, 1.0, 1.1, 1.5, 2.0]",
        "overlay <1>.mp4 (overlay)",
    ):
        assert expected in text
    assert page.page.locator("a").get_attribute("href") == "./overlay%20%3C1%3E.mp4"
    assert page.page.locator("b").count() == 0
    assert page.page.locator("section img").evaluate("(image) => image.naturalWidth") == 1
    page.slide("frame", 3)
    assert page.text(".c3d-clock").startswith("frame 6 of 0 to 14")


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("width", [390, 1280])
def test_a_notebook_shows_it_in_a_frame_that_is_as_high_as_it(browser, make, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.set_content(f"<style>canvas {{ display: none }}</style><body>{notebook_html(make())}")
    frame = page.frame_locator("iframe")
    frame.locator(".c3d-bar .c3d-ticks span").first.wait_for()
    second = 1 if make is not volume_content else 3  # of a scan the originals are hidden
    frame.locator(".c3d-stage > canvas").nth(second).wait_for(state="visible")
    inner = page.frames[1]
    assert inner.evaluate("window.origin") == "null"
    for key in ("", "o", "o"):  # it grows with the originals, and shrinks again
        if key:
            frame.locator(".c3d-help").click()
            page.keyboard.press(key)
        page.wait_for_timeout(300)
        script = "[document.body.offsetHeight, document.documentElement.scrollHeight, innerHeight]"
        content, scrolled, height = inner.evaluate(script)
        assert content == scrolled == height
    page.evaluate("postMessage({ c3dHeight: 50 }, '*')")  # from another frame than the viewer's
    page.wait_for_timeout(100)
    assert inner.evaluate("innerHeight") == height
    page.close()
    assert messages == []
