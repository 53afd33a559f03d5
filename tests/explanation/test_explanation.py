"""Explanation: its samples, regions, and what shows it."""

import io
import pickle

import numpy as np
import pytest
import torch
from explanation_inputs import LAYERS, network, sample
from matplotlib.figure import Figure

from captum_3dcam import explain
from captum_3dcam import localization as loc
from captum_3dcam.explanation import Windows
from captum_3dcam.functional import temporal_profile
from captum_3dcam.models import Preprocessing

pytestmark = pytest.mark.usefixtures("one_thread")


def explained(kind, target="top2", **more):
    given, _, options = sample(kind)
    options = {"layers": LAYERS, "method": "GlobalLocal", **options, **more}
    return explain(network(kind), given, target, **options)


@pytest.fixture(scope="module")
def batch():
    x = torch.rand(3, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    return explain(
        network("image"), x, "top2", layers=LAYERS, compare=["GradCAM"], per_layer=True,
        class_names=["run", "golf", "sit", "<swim>"],
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- samples


def test_each_sample(batch):
    assert len(batch) == len(list(batch)) == 3
    for number in (0, 2, -1):
        one, index = batch[number], number % 3
        assert len(one) == 1
        assert torch.equal(one.attribution, batch.attribution[index : index + 1])
        assert torch.equal(one.scores, batch.scores[index : index + 1])
        assert torch.equal(one.layer_maps["0"], batch.layer_maps["0"][index : index + 1])
        assert torch.equal(one.method_maps["GradCAM"], batch.method_maps["GradCAM"][[index]])
        assert one.classes == [batch.classes[index]]
        assert one.originals == [batch.originals[index]]
        assert torch.equal(one.boxes(1).boxes, batch.boxes(1, index).boxes)
        assert one.peak(1) == batch.peak(1, index)
    assert len({one.fingerprint for one in (batch, *batch)}) == 4
    assert batch[0][0].fingerprint == batch[0].fingerprint
    with pytest.raises(IndexError):
        batch[3]
    with pytest.raises(TypeError, match="'slice' object cannot be interpreted as an integer"):
        batch[0:1]


@pytest.mark.parametrize("name", ["rank", "sample"])
@pytest.mark.parametrize("value", [-1, 3, 1.5, "0"])
def test_numbers_out_of_range(name, value, batch):
    for find in (batch.heat_map, batch.boxes, batch.peak):
        with pytest.raises(ValueError, match=rf"{name}={value!r}: (there are|expected)"):
            find(**{name: value})


# ---------------------------------------------------------------------------------------- regions


def test_boxes_of_an_image():
    cropped = Preprocessing(size=12, crop=8)
    explanation = explained("image", preprocessing=cropped)
    assert explanation.attribution.shape[2:] == (12, 16)
    for rank in (0, 1):
        (expected,) = loc.boxes(explanation.heat_map(rank)[None, None], select="all")
        boxes = explanation.boxes(rank)
        torch.testing.assert_close(boxes.boxes, 2 * expected.boxes)  # of 24 x 32 pixels
        assert torch.equal(boxes.scores, expected.scores)


def test_boxes_and_peak_of_a_volume():
    explanation = explained("volume")
    for rank in (0, 1):
        heat = explanation.heat_map(rank)
        (expected,) = loc.boxes(heat[None, None], select="all")
        assert torch.equal(explanation.boxes(rank).boxes, expected.boxes)
        assert explanation.boxes(rank).boxes.shape[1] == 6
        peak = explanation.peak(rank)
        assert heat[peak] == heat.max()
        assert all(isinstance(i, int) for i in peak)


def test_regions_of_a_video():
    explanation = explained("video", preprocessing=Preprocessing(size=(8, 10)))
    times = explanation.times
    for rank in (0, 1):
        heat = explanation.heat_map(rank)[None, None]
        profile = temporal_profile(heat)
        torch.testing.assert_close(explanation.profile(rank), profile[0])
        (expected,) = loc.segments(profile, fps=times)
        assert explanation.segments(rank) == expected
        (tubes,) = loc.link(loc.frame_boxes(heat, select="all"), 0.1, 2, fps=times)
        found = explanation.tubes(rank)
        assert 0 < len(found) <= len(tubes)
        for tube, other in zip(found, tubes, strict=False):
            assert (tube.start, tube.end, tube.score) == (other.start, other.end, other.score)
            assert tube.seconds == other.seconds
            torch.testing.assert_close(tube.boxes, 2 * other.boxes)  # of 16 x 20 pixels
    assert explanation.peak() == tuple(
        map(int, np.unravel_index(explanation.heat_map().numpy().argmax(), (8, 8, 10)))
    )


def test_a_map_of_zeros_has_no_regions():
    explanation = explained("video")
    explanation.attribution.zero_()
    assert explanation.peak() is None
    assert explanation.tubes() == []
    assert explanation.segments() == []


def test_regions_of_another_kind():
    image, clip = explained("image"), explained("video")
    with pytest.raises(ValueError, match=r"A video has no boxes of its own: see tubes\(\)"):
        clip.boxes()
    for name in ("tubes", "segments", "profile"):
        with pytest.raises(ValueError, match=rf"{name}\(\) is of videos, and this is of kind 'ima"):
            getattr(image, name)()


def test_lists_of_regions_are_the_callers_own():
    explanation = explained("video")
    explanation.tubes().clear()
    explanation.segments().clear()
    assert explanation.tubes()
    assert explanation.segments()


# ------------------------------------------------------------------------------------- what shows


def test_words(batch):
    names = ", ".join(map(repr, dict.fromkeys(name for row in batch.class_names for name in row)))
    assert repr(batch) == (f"Explanation(image, WhatWhere of {names}, attribution=(3, 2, 16, 20))")
    probability = batch.probabilities[1, 0].item()
    assert batch.captions[1][0] == f"{batch.class_names[1][0]} ({probability:.2f})"


@pytest.mark.parametrize("kind", ["image", "video", "volume"])
@pytest.mark.parametrize("target", [1, "top2"])
def test_a_figure(kind, target):
    explanation = explained(kind, target, class_names=["run", "golf", "sit", "swim"])
    figure = explanation.figure()
    assert isinstance(figure, Figure)
    figure.savefig(buffer := io.BytesIO(), format="png")
    assert len(buffer.getvalue()) > 5000
    words = " ".join(text.get_text() for text in figure.findobj(lambda x: hasattr(x, "get_text")))
    for name in explanation.class_names[0]:
        assert name in words


def test_a_page_and_a_notebook_show_the_viewer(batch):
    page = batch.html(1)
    assert page.startswith("<!DOCTYPE html>")
    assert "GradCAM" in page
    assert "<swim>" not in page
    assert batch._repr_html_().count("<iframe") == 3
    with pytest.raises(IndexError):
        batch.html(3)


def test_a_widget(batch):
    pytest.importorskip("anywidget")
    widget = batch.widget(1)
    assert "AnyWidget" in {each.__name__ for each in type(widget).__mro__}


def test_maps_of_other_packages(batch):
    maps = torch.rand(3, 2, 8, 10)
    joined = batch.with_maps("other", maps)
    assert list(joined.method_maps) == ["GradCAM", "other"]
    expected = torch.nn.functional.interpolate(maps, (16, 20), mode="bilinear")
    torch.testing.assert_close(joined.method_maps["other"], expected)
    assert list(batch.method_maps) == ["GradCAM"]
    for wrong in (maps[:2], maps[:, :1], maps[..., None]):
        with pytest.raises(ValueError, match=r"Expected maps \(N, k, \*S\) = \(3, 2, \.\.\.\)"):
            batch.with_maps("other", wrong)


# ----------------------------------------------------------------------------------------- pickle


@pytest.mark.parametrize("kind", ["image", "video", "volume"])
def test_pickles(kind):
    explanation = explained(kind, windows=Windows(6), per_layer=True, compare=["GradCAM"])
    explanation.boxes() if kind != "video" else explanation.tubes()
    copy = pickle.loads(pickle.dumps(explanation))
    assert torch.equal(copy.attribution, explanation.attribution)
    assert torch.equal(copy.scores, explanation.scores)
    for name in LAYERS:
        assert torch.equal(copy.layer_maps[name], explanation.layer_maps[name])
    assert torch.equal(copy.method_maps["GradCAM"], explanation.method_maps["GradCAM"])
    assert (copy.classes, copy.windows) == (explanation.classes, explanation.windows)
    assert (copy.times, copy.settings) == (explanation.times, explanation.settings)
    assert copy.html() == explanation.html()


def test_a_pickle_of_a_sample_has_no_other(batch):
    whole, one = len(pickle.dumps(batch)), len(pickle.dumps(batch[0]))
    maps = 4 * batch.attribution.numel() * 4  # float32, of two methods and two layers
    assert maps < whole < 1.5 * maps
    assert one < whole / 2
    assert torch.equal(pickle.loads(pickle.dumps(batch[1])).attribution, batch.attribution[[1]])


def test_it_cannot_be_changed(batch):
    with pytest.raises(AttributeError):
        batch.method = "GradCAM"
