"""``captum-3dcam explain`` of images, against what the attribution classes return."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from explain_command import fails, maps, network, run
from PIL import Image

from captum_3dcam import CounterfactualCAM, GlobalLocalCAM2D, LayerwiseHiResCAM
from captum_3dcam import localization as loc
from captum_3dcam.cli import main
from captum_3dcam.explanation._identity import fingerprint, identify
from captum_3dcam.io import load_map, read_image
from captum_3dcam.models import Preprocessing
from captum_3dcam.sliding import SlidingWindowCAM


def test_an_image(image_file, capsys):
    path, pixels = image_file
    report = run(capsys, path, "image", "--layers", "first", "second")
    model, _ = network("image")
    x = pixels.movedim(-1, 0)[None] / 255
    cam = GlobalLocalCAM2D(model, ["first", "second"])
    with torch.no_grad():
        scores = model(x)[0]
    torch.testing.assert_close(maps(), cam.attribute(x)[0])
    (result,) = report["results"]
    assert result["class"] == scores.argmax()
    assert result["name"] == f"class {result['class']}"
    assert result["score"] == pytest.approx(scores.max().item(), rel=1e-4)
    assert result["probability"] == pytest.approx(scores.softmax(0).max().item(), rel=1e-4)
    (boxes,) = loc.boxes(cam.attribute(x), select="all")
    assert [each["box"] for each in result["boxes"]] == boxes.boxes.tolist()
    assert report["input"].pop("original") == identify(read_image(path))
    assert report["input"] == {
        "kind": "image", "fingerprint": fingerprint([Path(path)]), "size": [24, 32],
        "model_size": [24, 32],
    }  # fmt: skip
    assert set(report["files"]) == {"report", "map", "figure"}
    assert read_image("out/figure.png").std() > 10
    metadata = load_map("out/map.npz").metadata
    assert metadata["layers"] == ["first", "second"]
    assert metadata["classes"] == [result["class"]]


@pytest.mark.parametrize(
    "more, make, target",
    [
        (["--target", "2"], GlobalLocalCAM2D, 2),
        (["--method", "Counterfactual", "--target", "1"], CounterfactualCAM, 1),
        (["--method", "HiResCAM", "--fusion", "product", "--target", "0"],
         lambda *given: LayerwiseHiResCAM(*given, fusion="product"), 0),
    ],
)  # fmt: skip
def test_targets_methods_and_fusions(more, make, target, image_file, figures_not_drawn, capsys):
    path, pixels = image_file
    report = run(capsys, path, "image", "--layers", "first", "second", *more)
    model, _ = network("image")
    expected = make(model, ["first", "second"]).attribute(pixels.movedim(-1, 0)[None] / 255, target)
    torch.testing.assert_close(maps(), expected[0])
    assert report["results"][0]["class"] == target


def test_the_highest_classes(image_file, capsys):
    path, pixels = image_file
    Path("names.txt").write_text("golf\nswim\nrun\nsit")
    more = ["--target", "top3", "--classes", "names.txt"]
    report = run(capsys, path, "image", "--layers", "first", "second", *more)
    model, _ = network("image")
    x = pixels.movedim(-1, 0)[None] / 255
    expected, classes = GlobalLocalCAM2D(model, ["first", "second"]).attribute_top_k(x, 3)
    torch.testing.assert_close(maps(), expected[0])
    assert [result["class"] for result in report["results"]] == classes[0].tolist()
    names = ["golf", "swim", "run", "sit"]
    assert [result["name"] for result in report["results"]] == [names[c] for c in classes[0]]
    scores = [result["score"] for result in report["results"]]
    assert scores == sorted(scores, reverse=True)


def test_a_pixel_of_a_segmentation(image_file, figures_not_drawn, capsys):
    path, pixels = image_file
    report = run(capsys, path, "Segmentation", "--layers", "first", "--target", "1,8,9")
    model, _ = network("Segmentation")
    expected = GlobalLocalCAM2D(model, "first").attribute(
        pixels.movedim(-1, 0)[None] / 255, target=(1, 8, 9)
    )
    torch.testing.assert_close(maps(), expected[0])
    assert report["results"][0]["class"] == [1, 8, 9]
    message, code = fails(capsys, path, "Segmentation", "--layers", "first")
    assert code == 2
    assert message.startswith("target: An output of shape (1, 2, 24, 32) needs a target: of a seg")
    message, code = fails(capsys, path, "Segmentation", "--layers", "first", "--target", "top2")
    assert code == 2
    assert message.startswith("target: attribute_top_k needs scores of shape (N, classes)")


def test_the_models_own_layers_and_preprocessing(image_file, figures_not_drawn, capsys):
    path, pixels = image_file
    report = run(capsys, path, "prepared")
    model, received = network("prepared")
    x = Preprocessing(0.5, 0.5, (12, 16))(pixels.movedim(-1, 0))[None]
    torch.testing.assert_close(received[0], x)
    expected = GlobalLocalCAM2D(model, ["first", "second"]).attribute(x)
    torch.testing.assert_close(maps(), expected[0])
    assert report["model"]["layers"] == ["first", "second"]
    assert report["input"]["model_size"] == [12, 16]
    # In pixels of the image, which is twice as large.
    (boxes,) = loc.boxes(expected, select="all")
    assert [each["box"] for each in report["results"][0]["boxes"]] == (boxes.boxes * 2).tolist()
    run(capsys, path, "prepared", "--layers", "late")
    torch.testing.assert_close(maps(), GlobalLocalCAM2D(model, "second").attribute(x)[0])


def test_options_replace_values_of_the_preprocessing(image_file, figures_not_drawn, capsys):
    path, pixels = image_file
    run(capsys, path, "prepared", "--size", "8", "10", "--mean", "-1", "0", "0.5", "--std", "0.5")
    _, received = network("prepared")
    expected = Preprocessing((-1.0, 0.0, 0.5), 0.5, (8, 10))(pixels.movedim(-1, 0))[None]
    torch.testing.assert_close(received[0], expected)


def test_a_preprocessing_that_is_a_function(image_file, figures_not_drawn, capsys):
    path, pixels = image_file
    run(capsys, path, "halves", "--layers", "first")
    _, received = network("halves")
    torch.testing.assert_close(received[0], pixels.movedim(-1, 0)[None, :, ::2, ::2] / 255)
    assert fails(capsys, path, "halves", "--layers", "first", "--std", "2", "--size", "8") == (
        "The model's PREPROCESSING is of type function, which size, std cannot change.", 2,
    )  # fmt: skip


def test_an_image_in_windows(image_file, figures_not_drawn, capsys):
    path, pixels = image_file
    more = ["--window", "12", "16", "--stride", "3", "8", "--target", "2"]
    report = run(capsys, path, "image", "--layers", "first", *more)
    model, _ = network("image")
    sliding = SlidingWindowCAM(GlobalLocalCAM2D(model, "first"), (12, 16), (3, 8))
    expected = sliding.attribute_windows(pixels.movedim(-1, 0)[None] / 255, 2)
    torch.testing.assert_close(maps(), expected.attribution[0])
    windows = report["results"][0]["windows"]
    assert [(tuple(w["start"]), tuple(w["stop"])) for w in windows] == [
        (w.start, w.stop) for w in expected.windows[0]
    ]


def test_a_cropped_image_is_explained_where_the_network_saw_it(image_file, capsys):
    path, pixels = image_file
    more = ["--layers", "first", "--size", "12", "--crop", "8"]
    report = run(capsys, path, "image", *more)
    model, received = network("image")
    prepare = Preprocessing(size=12, crop=8)
    x = prepare(pixels.movedim(-1, 0))[None]
    torch.testing.assert_close(received[0], x)
    cropped = GlobalLocalCAM2D(model, "first").attribute(x)
    assert report["input"]["model_size"] == [8, 8]
    # The shorter side of 24 pixels is resized to 12, the longer one to 16; 8 of them are seen.
    torch.testing.assert_close(maps()[0, 2:10, 4:12], cropped[0, 0])
    assert maps().shape == (1, 12, 16)
    assert maps().sum() == pytest.approx(cropped.sum().item())
    (boxes,) = loc.boxes(cropped, select="all")
    expected = boxes.boxes * 2 + torch.tensor([8, 4, 8, 4])
    torch.testing.assert_close(
        torch.tensor([each["box"] for each in report["results"][0]["boxes"]]), expected
    )


def test_the_boxes_drawn_are_those_printed_and_written(image_file, figures, capsys):
    path, _ = image_file
    words = ["explain", path, "--model", "model.py:image", "--layers", "first", "--output", "out"]
    assert main(words) == 0
    summary = capsys.readouterr().out
    boxes = json.loads(Path("out/report.json").read_text())["results"][0]["boxes"]
    ax = figures["figure"].axes[0]
    corners = [patch.get_bbox().extents + 0.5 for patch in ax.patches]
    assert len(boxes) > 1
    assert np.allclose(corners, [each["box"] for each in boxes], atol=1e-3)
    assert f"box {', '.join(f'{x:.0f}' for x in boxes[0]['box'])}" in summary


def test_a_file_of_several_pages_read_as_an_image(folder, figures_not_drawn, capsys):
    pages = [Image.new("RGB", (16, 16), (20 * i, 0, 0)) for i in range(3)]
    pages[0].save("stack.tif", save_all=True, append_images=pages[1:])
    message, code = fails(capsys, "stack.tif", "image", "--layers", "first")
    assert code == 2
    assert message == (
        "'stack.tif' is a TIFF of 3 pages, which may be frames or slices. Say what it is: a video "
        "of so many frames, or an image, the first page. (kind=image|video|volume)"
    )
    words = ["explain", "stack.tif", "--model", "model.py:image", "--layers", "first"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*words, "--kind", "image"]) == 0
    warning = "warning: 'stack.tif' has 3 pages; the first one is read."
    assert warning in capsys.readouterr().err


def test_the_content_of_an_image_counts_and_not_its_suffix(image_file, figures_not_drawn, capsys):
    path, pixels = image_file
    Path(path).rename("image.dcm")
    run(capsys, "image.dcm", "image", "--layers", "first")
    _, received = network("image")
    torch.testing.assert_close(received[0], pixels.movedim(-1, 0)[None] / 255)


@pytest.mark.parametrize("size", [(600, 1), (1, 600)])
def test_very_wide_and_high_images(size, folder, capsys):
    Image.new("RGB", size, (90, 20, 0)).save("thin.png")
    words = ["explain", "thin.png", "--model", "model.py:image", "--layers", "first"]
    assert main([*words, "--target", "1"]) == 0
    with Image.open("thin_explained/figure.png") as figure:
        assert 100 <= min(figure.size) < max(figure.size) <= 2400


def test_a_folder_is_no_image(folder, capsys):
    Path("frames").mkdir()
    Image.new("RGB", (16, 16)).save("frames/1.png")
    message, code = fails(capsys, "frames", "image", "--layers", "first", "--kind", "image")
    assert (message, code) == ("kind=image: the folder 'frames' has no DICOM image.", 2)
