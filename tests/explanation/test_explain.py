"""explain(): inputs of every kind, against the attribution classes."""

import json
import math
import signal
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from explanation_inputs import (
    AFFINE,
    FPS,
    LAYERS,
    RATE,
    frames,
    network,
    pixels,
    received,
    sample,
    scan,
    video,
    write_images,
)
from networks import conv_net
from PIL import Image
from torch import nn

from captum_3dcam import (
    Explanation,
    GlobalLocalCAM2D,
    Layer,
    LayerwiseGradCAM,
    LayerwiseWhatWhereCAM,
    SlidingWindowCAM,
    explain,
)
from captum_3dcam.attribution import METHODS, LayerwiseCAM
from captum_3dcam.explanation import ArgumentError, ModelError, Reading, Windows
from captum_3dcam.explanation._identity import identify
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Sampling, Video, Volume, open_video
from captum_3dcam.models import Preprocessing, VolumePreprocessing
from captum_3dcam.visualization import Scan

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("image", "video", "volume")


def close(maps, expected):
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------------- inputs


@pytest.mark.filterwarnings("ignore:The map of .* is the same for every class")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_the_map_is_that_of_the_attribution_class(kind, method):
    given, x, more = sample(kind)
    model = network(kind)
    explanation = explain(model, given, 2, layers=LAYERS, method=method, **more)
    close(explanation.attribution, METHODS[method](model, LAYERS).attribute(x, 2))
    assert (explanation.kind, explanation.method) == (kind, method)
    assert (explanation.layers, explanation.classes) == (LAYERS, [[2]])
    with torch.no_grad():
        scores = model(x)
    close(explanation.scores, scores[:, [2]])
    close(explanation.probabilities, scores.softmax(1)[:, [2]])


def test_a_map_of_no_class_says_so():
    model, note = network("image"), "EigenCAM is the same for every class: it shows what stands"
    with pytest.warns(UserWarning, match=note):
        explanation = explain(model, pixels(), layers=LAYERS, method="Eigen-CAM", compare="GradCAM")
    assert [text for text in explanation.warnings if note in text]
    plain = explain(model, pixels(), layers=LAYERS, method="GradCAM")
    assert not [text for text in plain.warnings if "every class" in text]


def test_what_is_shown_is_what_was_explained(folder):
    model = network("image")
    assert (explain(model, pixels(), layers=LAYERS).originals[0] == pixels()).all()
    Image.fromarray(pixels()).save("image.png")
    assert (explain(model, "image.png", layers=LAYERS).originals[0] == pixels()).all()
    volume = scan()
    explanation = explain(network("volume"), volume, layers=LAYERS)
    assert explanation.originals == [volume]
    assert explanation.facts["affine"] == volume.affine.tolist()
    assert explanation.size == (8, 12, 10)


@pytest.mark.parametrize("how", ["frames", "Video", "VideoFile", "folder"])
def test_a_video_in_any_form(how, folder):
    given, reading = {
        "frames": (frames(), RATE),
        "Video": (video(), Reading()),
        "VideoFile": (open_video(video()), Reading()),
        "folder": (write_images("images", frames()), RATE),
    }[how]
    model = network("video")
    explanation = explain(model, given, 1, layers=LAYERS, reading=reading)
    close(explanation.attribution, LayerwiseWhatWhereCAM(model, LAYERS).attribute(
        received(frames()), 1
    ))  # fmt: skip
    expected = np.arange(9) / FPS if reading == RATE else video().times.edges
    np.testing.assert_allclose(explanation.times.edges, expected)
    assert explanation.size == (16, 20)
    np.testing.assert_array_equal(np.stack(list(explanation.originals[0])), frames())


def test_sampled_frames(folder):
    model, sampling = network("video"), Sampling(stride=3)
    x = received(frames(20)[::3])
    for given in (video(20), write_images("images", frames(20))):
        reading = RATE if isinstance(given, str) else Reading()
        explanation = explain(model, given, 1, layers=LAYERS, sampling=sampling, reading=reading)
        close(explanation.attribution, LayerwiseWhatWhereCAM(model, LAYERS).attribute(x, 1))
        assert len(explanation.times) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_is_the_input_of_the_model(kind):
    model, (_, x, _) = network(kind), sample(kind)
    x = torch.cat([x, 1 - x])
    more = {"reading": RATE} if kind == "video" else {}
    explanation = explain(model, x, layers=LAYERS, **more)
    close(explanation.attribution, LayerwiseWhatWhereCAM(model, LAYERS).attribute(x))
    assert (explanation.kind, len(explanation)) == (kind, 2)
    assert explanation.size == tuple(x.shape[-2:] if kind == "video" else x.shape[2:])


def test_a_batch_is_its_samples_one_by_one():
    model, x = network("image"), torch.rand(3, 3, 16, 20)
    options = {"layers": LAYERS, "compare": ["Counterfactual"], "per_layer": True}
    batch = explain(model, x, "top2", **options)
    for number, one in enumerate(batch):
        alone = explain(model, x[number : number + 1], "top2", **options)
        close(one.attribution, alone.attribution)
        close(one.scores, alone.scores)
        close(one.method_maps["Counterfactual"], alone.method_maps["Counterfactual"])
        close(one.layer_maps["1"], alone.layer_maps["1"])
        assert (one.classes, one.class_names) == (alone.classes, alone.class_names)
        np.testing.assert_array_equal(one.originals[0], alone.originals[0])


def test_the_kind_of_a_tensor():
    with pytest.warns(UserWarning, match="The frame rate is not known: 25 frames per second"):
        assert explain(network("video"), torch.rand(1, 3, 4, 8, 8), layers=LAYERS).kind == "video"
    model = network("video")
    assert explain(model, torch.rand(1, 3, 4, 8, 8), layers=LAYERS, kind="volume").kind == "volume"
    grey = torch.rand(1, 1, 4, 8, 8)
    assert explain(network("volume"), grey, layers=LAYERS).kind == "volume"
    given = {"layers": LAYERS, "kind": "video", "reading": RATE}
    assert explain(network("volume"), grey, **given).kind == "video"


# -------------------------------------------------------------------------------- preprocessing

CROPPED = Preprocessing(0.5, 0.25, size=12, crop=8)


@pytest.mark.parametrize("form", ["array", "bytes", "floats"])
def test_images_are_preprocessed_and_maps_lie_over_the_whole(form):
    image = torch.from_numpy(pixels()).movedim(-1, 0)[None]
    given = {"array": pixels(), "bytes": image, "floats": image / 255}[form]
    model = network("image")
    explanation = explain(model, given, 1, layers=LAYERS, preprocessing=CROPPED)
    cropped = LayerwiseWhatWhereCAM(model, LAYERS).attribute(CROPPED(image[0])[None], 1)
    expected = torch.zeros(1, 1, 12, 16)
    expected[..., 2:10, 4:12] = cropped
    close(explanation.attribution, expected)
    assert explanation.size == (24, 32)
    assert explanation.facts["model_size"] == [8, 8]
    np.testing.assert_array_equal(explanation.originals[0], pixels())


@pytest.mark.parametrize("form", ["video", "tensor"])
def test_videos_are_preprocessed(form):
    clip = torch.from_numpy(frames()).movedim(-1, 0)
    given = video() if form == "video" else clip[None]
    model = network("video")
    more = {"reading": RATE} if form == "tensor" else {}
    explanation = explain(model, given, 1, layers=LAYERS, preprocessing=CROPPED, **more)
    cropped = LayerwiseWhatWhereCAM(model, LAYERS).attribute(CROPPED(clip)[None], 1)
    assert explanation.attribution.shape == (1, 1, 8, 12, 15)
    close(explanation.attribution[..., 2:10, 4:12], cropped)
    assert explanation.attribution.sum() == pytest.approx(cropped.sum().item(), rel=1e-4)


def test_volumes_are_resampled_and_maps_lie_on_the_scan():
    model, values = network("volume"), VolumePreprocessing((0.0, 0.5), "unit", spacing=2.0)
    explanation = explain(model, scan(), 1, layers=LAYERS, preprocessing=values)
    resampled = scan().resample(spacing=2.0)
    x = (resampled.to_tensor().clip(0, 0.5)) / 0.5
    expected = LayerwiseWhatWhereCAM(model, LAYERS).attribute(x, 1)
    on_scan = resampled.with_data(expected[0, 0].numpy()).resample_to(scan())
    np.testing.assert_allclose(explanation.heat_map(), on_scan.data, atol=1e-6)
    assert explanation.facts["window"] == (0.0, 0.5)
    tensor = explain(model, scan().to_tensor(), 1, layers=LAYERS, preprocessing=lambda x: 2 * x)
    close(tensor.attribution, LayerwiseWhatWhereCAM(model, LAYERS).attribute(
        2 * scan().to_tensor(), 1
    ))  # fmt: skip


def test_the_models_own_preprocessing_and_layers():
    class Own(nn.Sequential):
        PREPROCESSING = Preprocessing(0.5, 0.25, (12, 16))
        LAYERS = ("1",)

    model = Own(*network("image")).eval()
    x = Own.PREPROCESSING(torch.from_numpy(pixels()).movedim(-1, 0))[None]
    explanation = explain(model, pixels(), 1)
    close(explanation.attribution, LayerwiseWhatWhereCAM(model, "1").attribute(x, 1))
    assert explanation.layers == ["1"]
    assert explanation.model == {"name": "Own", "preprocessing": repr(Own.PREPROCESSING)}


def test_suggested_layers():
    model = network("image")
    explanation = explain(model, pixels(), 1)
    cam = LayerwiseWhatWhereCAM(model, "auto")
    close(explanation.attribution, cam.attribute(received(pixels()), 1))
    assert explanation.layers == [layer.name for layer in cam.layers]


# ------------------------------------------------------------- several methods, layers, windows


@pytest.mark.parametrize("kind", KINDS)
def test_other_methods_and_each_layer(kind):
    given, x, more = sample(kind)
    model = network(kind)
    explanation = explain(
        model, given, [3, 0], layers=LAYERS, method="GlobalLocal",
        compare=["GradCAM", "WhatWhere", LayerwiseGradCAM], per_layer=True, **more,
    )  # fmt: skip
    assert list(explanation.method_maps) == ["GradCAM", "WhatWhere"]
    for name in ("GradCAM", "WhatWhere"):
        cam = METHODS[name](model, LAYERS)
        close(explanation.method_maps[name], cam.attribute_classes(x, [3, 0]))
    cam = METHODS["GlobalLocal"](model, LAYERS)
    close(explanation.attribution, cam.attribute_classes(x, [3, 0]))
    for rank, target in enumerate([3, 0]):
        layer_maps = cam.attribute(x, target, per_layer=True)
        for name, expected in zip(LAYERS, layer_maps, strict=True):
            close(explanation.layer_maps[name][:, [rank]], expected)


CUT = {"image": Windows((12, 16), (6, 8)), "video": Windows(4, 2), "volume": Windows((4, 6, 5))}


@pytest.mark.parametrize("kind", KINDS)
def test_all_maps_through_windows(kind):
    given, x, more = sample(kind)
    model, windows = network(kind), CUT[kind]
    explanation = explain(
        model, given, [2, 0], layers=LAYERS, method="GlobalLocal", compare=["GradCAM"],
        per_layer=True, windows=windows, **more,
    )  # fmt: skip

    def expected(cam, target):
        sliding = SlidingWindowCAM(cam, windows.sizes, windows.stride)
        return sliding.attribute_windows(x, target)

    for rank, target in enumerate([2, 0]):
        of_method = expected(METHODS["GlobalLocal"](model, LAYERS), target)
        close(explanation.attribution[:, [rank]], of_method.attribution)
        of_other = expected(METHODS["GradCAM"](model, LAYERS), target)
        close(explanation.method_maps["GradCAM"][:, [rank]], of_other.attribution)
        for name in LAYERS:
            of_layer = expected(METHODS["GlobalLocal"](model, name), target)
            close(explanation.layer_maps[name][:, [rank]], of_layer.attribution)
        received_windows = explanation.windows[0][rank]
        assert [w[:2] for w in received_windows] == [w[:2] for w in of_method.windows[0]]
        mean = sum(w.score for w in received_windows) / len(received_windows)
        assert explanation.scores[0, rank] == pytest.approx(mean, rel=1e-5)


def test_a_batch_through_windows():
    model, x = network("image"), torch.rand(2, 3, 24, 20)
    explanation = explain(model, x, layers=LAYERS, target=1, windows=Windows(12))
    sliding = SlidingWindowCAM(LayerwiseWhatWhereCAM(model, LAYERS), 12)
    close(explanation.attribution, sliding.attribute(x, 1))
    assert [len(of_sample[0]) for of_sample in explanation.windows] == [3, 3]


def test_boundaries_of_a_tensor():
    model, x = network("video"), torch.rand(1, 3, 12, 10, 10)
    windows = Windows(4, boundaries=[5])
    explanation = explain(model, x, 1, layers=LAYERS, windows=windows, reading=RATE)
    sliding = SlidingWindowCAM(LayerwiseWhatWhereCAM(model, LAYERS), 4)
    close(explanation.attribution, sliding.attribute(x, 1, boundaries=[5]))


def test_scenes_of_frames_are_found_unless_there_are_none():
    cut = np.concatenate([frames(10) // 8, 255 - frames(10) // 8])
    model, more = network("video"), {"layers": LAYERS, "reading": RATE}
    found = explain(model, cut, 1, **more)
    assert found.facts["boundaries"] == [10]
    assert all(w.stop[0] <= 10 or w.start[0] >= 10 for w in found.windows[0][0])
    one = explain(model, cut, 1, windows=Windows(boundaries="none"), **more)
    assert one.facts["boundaries"] == []
    close(one.attribution, SlidingWindowCAM(LayerwiseWhatWhereCAM(model, LAYERS), 16).attribute(
        received(cut), 1
    ))  # fmt: skip


def calls_of(model, *arguments, **options):
    """The number of forward passes of a call."""
    passes = []
    with model[-1].register_forward_hook(lambda *given: passes.append(given)):
        explain(model, *arguments, layers=LAYERS, **options)
    return len(passes)


def test_one_forward_pass_for_all_classes_methods_and_layers():
    model, more = network("image"), {"compare": ["GradCAM", "HiResCAM"], "per_layer": True}
    assert calls_of(model, pixels()) == 1
    assert calls_of(model, pixels(), "top3", **more) == 1
    assert calls_of(model, torch.rand(4, 3, 16, 16), [0, 1, 2], **more) == 1
    normed = conv_net(2, inputs=3, norm=True)
    assert calls_of(normed, pixels(), "top3", **more) == 1


def test_known_targets_of_windows_are_checked_as_others_are():
    windows = Windows((12, 32), batch_size=2)
    with pytest.raises(ArgumentError, match="target: "):
        explain(network("image"), pixels(), 99, layers=LAYERS, windows=windows)
    model = network("image")
    with torch.no_grad():
        model[-1].weight.mul_(1e6)
    before = len(model._forward_hooks)
    with pytest.warns(UserWarning, match="no classifier is trained to such logits"):
        explain(model, pixels(), 1, layers=LAYERS, windows=windows)
    model.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ModelError, match="failed on an input of shape .* ZeroDivisionError"):
        explain(model, pixels(), 1, layers=LAYERS, windows=windows)
    assert len(model._forward_hooks) == before + 1


def test_the_forward_passes_of_windows():
    """One of each batch of windows; one of the first window, if its scores are needed before."""
    model, more = network("image"), {"compare": ["GradCAM"], "per_layer": True}
    windows = Windows((12, 32), batch_size=2)
    assert calls_of(model, pixels(), 1, windows=windows, **more) == 2
    assert calls_of(model, pixels(), "each", windows=windows, **more) == 1 + 2
    assert calls_of(model, pixels(), windows=windows, **more) == 1 + 2 + 2  # to choose the class


# --------------------------------------------------------------------------------------- targets

NAMES = ["run", "golf", "sit", "top2"]


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (3, [3]),
        (np.int64(3), [3]),
        (torch.tensor(3), [3]),
        ("golf", [1]),
        ("top2", [3]),  # the name of a class
        ([2, "run"], [2, 0]),
        ("2", [2]),
        ((1,), [(1,)]),
    ],
)
def test_targets(target, classes):
    model = network("image")
    explanation = explain(model, pixels(), target, layers=LAYERS, class_names=NAMES)
    assert explanation.classes == [classes]
    plain = [each[0] if isinstance(each, tuple) else each for each in classes]
    cam = LayerwiseWhatWhereCAM(model, LAYERS)
    close(explanation.attribution, cam.attribute_classes(received(pixels()), plain))


def test_the_highest_classes_of_each_sample():
    model, x = network("image"), torch.randn(4, 3, 16, 16)
    explanation = explain(model, x, "top3", layers=LAYERS, class_names=NAMES)
    maps, classes = LayerwiseWhatWhereCAM(model, LAYERS).attribute_top_k(x, 3)
    close(explanation.attribution, maps)
    assert explanation.classes == classes.tolist()
    assert explanation.class_names == [[NAMES[i] for i in row] for row in classes]
    default = explain(model, x, layers=LAYERS)
    assert default.classes == classes[:, :1].tolist()


def test_a_function_of_the_output():
    def margin(output):
        return output[:, 0] - output[:, 1]

    model = network("image")
    explanation = explain(model, pixels(), [margin, 0], layers=LAYERS)
    cam = LayerwiseWhatWhereCAM(model, LAYERS)
    close(explanation.attribution, cam.attribute_classes(received(pixels()), [margin, 0]))
    assert explanation.class_names == [["margin", "class 0"]]
    assert explanation.settings["target"] == "[margin, 0]"


def test_a_position_of_a_segmentation():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    explanation = explain(model, pixels(), (1, 8, 9), layers=["1"])
    cam = LayerwiseWhatWhereCAM(model, "1")
    close(explanation.attribution, cam.attribute(received(pixels()), (1, 8, 9)))
    message = r"target: An output of shape \(1, 2, 24, 32\) needs a target: of a segmentation"
    with pytest.raises(ArgumentError, match=message):
        explain(model, pixels(), layers=["1"])


def test_the_highest_class_of_each_window():
    model = network("video")
    x = received(frames(20))
    windows = Windows(4, boundaries="none")
    explanation = explain(model, video(20), "each", layers=LAYERS, windows=windows)
    sliding = SlidingWindowCAM(LayerwiseWhatWhereCAM(model, LAYERS), 4)
    expected = sliding.attribute_windows(x)
    close(explanation.attribution, expected.attribution)
    assert explanation.classes == [[None]]
    assert explanation.class_names == [["highest class of each window"]]
    assert [w.target for w in explanation.windows[0][0]] == [
        w.predicted for w in expected.windows[0]
    ]


def test_each_window_of_a_video_of_one():
    model, short = network("video"), video(8)
    each, top = (explain(model, short, target, layers=LAYERS) for target in ("each", None))
    close(each.attribution, top.attribution)
    assert each.classes == top.classes


def test_a_model_of_one_score_and_one_of_probabilities():
    single = conv_net(2, inputs=3, classes=1)
    explanation = explain(single, pixels(), layers=LAYERS)
    score = single(received(pixels())).detach()
    assert (explanation.classes, explanation.class_names) == ([[None]], [["score"]])
    close(explanation.probabilities, score.sigmoid())
    likely = nn.Sequential(*network("image"), nn.Softmax(1)).eval()
    explanation = explain(likely, pixels(), 1, layers=LAYERS, returns="probabilities")
    assert torch.equal(explanation.scores, explanation.probabilities)


def test_scores_in_a_container():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network("image")

        def forward(self, x):
            return {"features": x, "scores": self.net(x)}

    layers = ["net.0", "net.1"]
    explanation = explain(Wrapped().eval(), pixels(), 1, layers=layers, output="scores")
    cam = LayerwiseWhatWhereCAM(network("image"), LAYERS)
    close(explanation.attribution, cam.attribute(received(pixels()), 1))


# ----------------------------------------------------------------------------- layouts of models


class FramesFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network("video")

    def forward(self, x):
        return self.net(x.transpose(1, 2))


class Folded(nn.Module):
    """A 2D network over frames that are folded into the batch, eight a clip."""

    def __init__(self):
        super().__init__()
        self.net = network("image")

    def forward(self, x):
        return self.net(x).unflatten(0, (-1, 8)).mean(1)


class Moved(nn.Module):
    """The same for clips (N, C, T, H, W)."""

    def __init__(self):
        super().__init__()
        self.folded = Folded()

    def forward(self, x):
        return self.folded(x.transpose(1, 2).flatten(0, 1))


@pytest.mark.parametrize("windows", [Windows(), Windows(4, 2)])
def test_a_model_that_takes_frames_first(windows):
    layers = ["net.0", "net.1"]
    options = {"compare": ["GradCAM"], "per_layer": True, "windows": windows}
    explanation = explain(
        FramesFirst().eval(), video(), 1, layers=layers, input_layout="N T C H W", **options
    )
    expected = explain(network("video"), video(), 1, layers=LAYERS, **options)
    close(explanation.attribution, expected.attribution)
    close(explanation.method_maps["GradCAM"], expected.method_maps["GradCAM"])
    close(explanation.layer_maps["net.1"], expected.layer_maps["1"])
    assert explanation.layers == layers


def test_a_model_that_takes_frames_in_the_batch():
    layout = {"layout": "(N T) C H W"}
    explanation = explain(
        Folded().eval(), video(), 1, layers=[Layer(f"net.{i}", **layout) for i in LAYERS],
        input_layout="(N T) C H W",
    )  # fmt: skip
    layers = [Layer(f"folded.net.{i}", **layout) for i in LAYERS]
    cam = LayerwiseWhatWhereCAM(Moved().eval(), layers)
    close(explanation.attribution, cam.attribute(received(frames()), 1))
    assert explanation.layers == ["net.0", "net.1"]


def test_suggested_layers_of_a_model_that_takes_frames_first():
    explanation = explain(FramesFirst().eval(), video(), 1, input_layout="N T C H W")
    plain = explain(network("video"), video(), 1)
    assert explanation.layers == [f"net.{name}" for name in plain.layers]
    close(explanation.attribution, plain.attribution)


def test_frames_first_are_refused_if_the_model_is_not_said_to_take_them_so():
    message = (
        r"The model takes an input of shape \(1, 8, 3, 16, 20\) as frames first\. Pass clips "
        r'\(N, C, T, H, W\), and input_layout="N T C H W"\.'
    )
    x = received(frames()).transpose(1, 2)
    with pytest.raises(ArgumentError, match=message):
        explain(FramesFirst().eval(), x, 1)
    with pytest.warns(UserWarning, match="Pass input_layout='N T C H W'"):
        explain(FramesFirst().eval(), x, 1, layers=["net.0"])
    with pytest.raises(ModelError, match="has the axes N C T H W; received"):
        explain(FramesFirst().eval(), pixels(), 1, layers=["net.0"], input_layout="N T C H W")


def test_layers_of_one_name_have_numbers():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network("image")[:1]

        def forward(self, x):
            return (self.net(x) - self.net(x.flip(-1))).mean((2, 3))

    model = Twice().eval()
    layers = [Layer("net", calls=0), Layer("net", calls=1)]
    explanation = explain(model, pixels(), 1, layers=layers, per_layer=True)
    assert list(explanation.layer_maps) == explanation.layers == ["net (1)", "net (2)"]


# ------------------------------------------------------------------------------ the model's state


class Fickle(nn.Sequential):
    """In part in train mode; raises on request."""

    error = None

    def forward(self, x):
        if self.error is not None:
            super().forward(x)
            raise self.error
        return super().forward(x)


@pytest.fixture
def fickle():
    model = Fickle(*conv_net(2, inputs=3, norm=True))
    model.train()
    model[0].eval()
    model.error = None
    return model


def state_of(model):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        (
            module.training,
            [len(getattr(module, name)) for name in hooks],
            sorted(vars(module)),
            [(p.requires_grad, p.grad is None) for p in module.parameters(recurse=False)],
            [(k, v.clone()) for k, v in module.state_dict().items()],
        )
        for module in model.modules()
    ]


def assert_same(before, after):
    for old, new in zip(before, after, strict=True):
        assert old[:-1] == new[:-1]
        for (name, value), (other, now) in zip(old[-1], new[-1], strict=True):
            assert name == other
            assert torch.equal(value, now)


OPTIONS = [
    {},
    {"compare": ["GradCAM"], "per_layer": True},
    {"windows": Windows(12)},
    {"input_layout": "N H W C"},
]


@pytest.mark.filterwarnings("ignore:The model is in train mode", "ignore:The input is probably")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("error", [None, ZeroDivisionError("by zero"), KeyboardInterrupt()])
def test_the_model_is_left_as_it_was(error, options, fickle):
    model = fickle
    if "input_layout" in options:
        model = nn.Sequential(ChannelsLast(), fickle)
        model.training = False
    before = state_of(model)
    layers = ["0"] if model is fickle else ["1.0"]
    fickle.error = error
    if error is None:
        explain(model, pixels(), layers=layers, **options)
    else:
        expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ModelError
        with pytest.raises(expected):
            explain(model, pixels(), layers=layers, **options)
        assert torch.is_grad_enabled()
    fickle.error = None
    assert_same(before, state_of(model))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class ChannelsLast(nn.Module):
    def forward(self, x):
        return x.movedim(-1, 1)


# --------------------------------------------------------------------------------------- warnings


def test_train_mode_is_warned_of():
    model = network("image")
    model[0].train()
    with pytest.warns(UserWarning, match="^The model is in train mode: call model.eval") as caught:
        explanation = explain(model, pixels(), layers=LAYERS)
    assert explanation.warnings == [str(each.message) for each in caught]


def test_a_flat_layer_is_warned_of():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip
    with pytest.warns(UserWarning, match="^At layer '3' the gradient is the same at all posit"):
        explanation = explain(model, pixels(), layers=["1", "3"], method="GlobalLocal")
    (text,) = explanation.warnings
    assert text.endswith("does not depend on the class. Choose layers before it.")
    with pytest.warns(UserWarning, match="^At layer '3' the gradient is the same at all posit"):
        explain(model, pixels(), layers=["3"], method="GlobalLocal", windows=Windows(12))


@pytest.mark.filterwarnings("default")
def test_a_map_of_zeros_is_warned_of():
    class Dark(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            score = self.relu(x).square().flatten(1).mean(1)
            return torch.stack([-score, score], 1)

    with pytest.warns(UserWarning, match="The map of sample") as caught:
        explanation = explain(Dark().eval(), pixels(), 0, layers=["relu"], method="GlobalLocal")
    assert explanation.warnings == [str(each.message) for each in caught]
    assert not explanation.attribution.any()
    with pytest.warns(
        UserWarning, match="^The map of 'class 0' is zero in all 3 windows"
    ) as caught:
        explanation = explain(
            Dark().eval(), pixels(), 0, layers=["relu"], method="GlobalLocal", windows=Windows(12)
        )
    assert explanation.warnings == [str(each.message) for each in caught]


def normalised():
    """A network whose batch normalisation knows the range of its inputs."""
    model = conv_net(2, inputs=3, norm=True).train()
    for _ in range(60):
        model((torch.rand(4, 3, 24, 32) - 0.45) / 0.225)
    return model.eval()


def test_odd_ranges_are_warned_of_once():
    model = normalised()
    with pytest.warns(UserWarning, match="The input is probably not preprocessed as") as caught:
        explanation = explain(
            model, 255 * received(pixels()), "top2", layers=LAYERS, compare=["GradCAM"],
            per_layer=True,
        )  # fmt: skip
    assert len(caught) == len(explanation.warnings) == 1
    likely = nn.Sequential(*network("image"), nn.Softmax(1)).eval()
    with pytest.warns(UserWarning, match='already. Pass returns="probabilities"'):
        assert len(explain(likely, pixels(), layers=LAYERS).warnings) == 1
    assert explain(network("image"), pixels(), layers=LAYERS).warnings == []


def test_warnings_come_before_an_error():
    model = normalised()
    model[-1].weight.data[:] = float("nan")
    with (
        pytest.warns(UserWarning, match="The input is probably not preprocessed"),
        pytest.raises(RuntimeError, match="NaN or Inf"),
    ):
        explain(model, 255 * received(pixels()), 1, layers=LAYERS)


@pytest.mark.filterwarnings("ignore:The frame rate is not known")
def test_each_of_several_calls_notes_its_warning_once():
    for _ in range(3):
        explanation = explain(network("video"), torch.rand(1, 3, 4, 8, 8), layers=LAYERS)
        assert len(explanation.warnings) == 1


def test_files_are_not_named_in_the_warnings_that_are_kept(folder):
    pages = [Image.fromarray(pixels(seed=i)) for i in range(3)]
    pages[0].save("jane_doe.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(UserWarning, match="'jane_doe.tif' has 3 pages; the first one is read."):
        explanation = explain(network("image"), "jane_doe.tif", layers=LAYERS, kind="image")
    assert explanation.warnings == ["the input has 3 pages; the first one is read."]


# --------------------------------------------------------------------------- originals of tensors


def test_the_original_of_an_image_may_be_larger():
    model, whole = network("image"), torch.from_numpy(pixels()).movedim(-1, 0)[None]
    x = F.interpolate(whole / 255, (12, 16), mode="area")
    plain = explain(model, x, layers=LAYERS)
    explanation = explain(model, x, layers=LAYERS, original=pixels())
    assert explanation.size == (24, 32)
    torch.testing.assert_close(explanation.boxes().boxes, 2 * plain.boxes().boxes)
    np.testing.assert_array_equal(explanation.originals[0], pixels())
    for given in (pixels()[None], torch.from_numpy(pixels()).movedim(-1, 0), [pixels() / 255]):
        shown = explain(model, x, layers=LAYERS, original=given).originals[0]
        np.testing.assert_array_equal(shown, pixels())


def test_an_input_is_shown_stretched_to_its_range():
    x = 4 * torch.rand(2, 3, 12, 16) - 1
    x[1] = x[1].clip(0.25, 0.5)
    first, second = explain(network("image"), x, layers=LAYERS).originals
    expected = (x[0] - x[0].min()) / (x[0].max() - x[0].min())
    np.testing.assert_allclose(first / 255, expected.movedim(0, -1), atol=0.003)
    np.testing.assert_allclose(second / 255, x[1].movedim(0, -1), atol=0.003)


@pytest.mark.parametrize("form", ["Video", "VideoFile"])
def test_the_original_of_a_video_has_its_own_times(form):
    original = video() if form == "Video" else open_video(video())
    whole = torch.from_numpy(frames()).movedim(-1, 0)[None] / 255
    x = F.interpolate(whole, (8, 8, 10), mode="area")
    explanation = explain(network("video"), x, layers=LAYERS, original=original)
    np.testing.assert_allclose(explanation.times.edges, video().times.edges)
    assert explanation.size == (16, 20)
    plain = explain(network("video"), x, layers=LAYERS, original=frames(), reading=RATE)
    assert plain.times.fps == pytest.approx(FPS)
    with pytest.raises(ArgumentError, match="fps is of videos without times; the original has its"):
        explain(network("video"), x, layers=LAYERS, original=original, reading=RATE)


def test_the_original_of_a_volume_has_its_affine():
    x = scan().to_tensor()
    explanation = explain(network("volume"), x, layers=LAYERS, original=scan())
    assert explanation.facts["affine"] == scan().affine.tolist()
    shown = explain(network("volume"), x, layers=LAYERS).originals[0]
    np.testing.assert_array_equal(shown.array, scan().data)
    given = Scan(scan().data)
    assert explain(network("volume"), x, layers=LAYERS, original=given).originals == [given]


# --------------------------------------------------------------------------------------- progress


def test_progress_bars(capsys):
    cut = np.concatenate([frames(16), frames(16)])
    options = {"layers": LAYERS, "reading": RATE, "progress": True}
    explain(network("video"), cut, **options)
    err = capsys.readouterr().err
    for name in ("finding scenes: 100%", "choosing classes: 100%", "explaining: 100%"):
        assert name in err
    assert "32/32" in err
    explain(network("video"), cut, **{**options, "progress": False})
    assert capsys.readouterr().err == ""


# ----------------------------------------------------------------------------------------- errors


class Pinned(GlobalLocalCAM2D):
    pass


IMAGE = "image", pixels()
ERRORS = {
    "a kind that is none": (*IMAGE, {"kind": "clip"}, "kind='clip' is not known. Choose one of "),
    "another kind": (*IMAGE, {"kind": "video"}, "kind='video': the input is of kind 'image'."),
    "another kind of tensor": (
        "image", torch.rand(1, 3, 8, 8), {"kind": "video"},
        "kind='video': shape (1, 3, 8, 8) has 2 spatial axes.",
    ),
    "a sample without a batch": (
        "image", torch.rand(3, 8), {},
        "Expected a tensor (N, C, H, W), (N, C, T, H, W) or (N, C, D, H, W); received shape (3, 8)."
        " One sample needs a batch axis: inputs[None].",
    ),
    "floats": (
        "image", pixels() / 255, {},
        "input: expected a path, a tensor (N, C, *S), an io.Video, an io.Volume, or RGB bytes (H, "
        "W, 3) or (T, H, W, 3); received float64 of shape (24, 32, 3).",
    ),
    "a list of paths": (
        "image", ["a.png", "b.png"], {},
        "input: expected a path, a tensor (N, C, *S), an io.Video, an io.Volume, or RGB bytes (H, "
        "W, 3) or (T, H, W, 3); received <U5 of shape (2,).",
    ),
    "nothing": ("image", None, {}, "or (T, H, W, 3); received NoneType."),
    "returns": (*IMAGE, {"returns": "scores"}, "returns='scores' is not known. Choose one of "
                "'logits', 'probabilities', 'values'."),
    "no method": (*IMAGE, {"method": "CAM"}, "method='CAM' is not known. Choose one of 'WhatWh"),
    "a method that is none": (
        *IMAGE, {"method": nn.ReLU}, "method=<class 'torch.nn.modules.activation.ReLU'>: expected "
        f"one of {', '.join(METHODS)}, or an attribution class.",
    ),
    "another method to compare": (*IMAGE, {"compare": ["CAM"]}, "method='CAM' is not known."),
    "a fusion of what has its own": (
        *IMAGE, {"fusion": "max"}, "WhatWhere has its own fusion of the layers: leave fusion out.",
    ),
    "no fusion": (
        *IMAGE, {"fusion": "most", "method": "GradCAM"}, "fusion='most'",
    ),
    "a class of another rank": (
        "video", video(), {"method": Pinned}, "Pinned is of 2 spatial axes, and a video has 3.",
    ),
    "no layer": (*IMAGE, {"layers": ["late"]}, "layers: The model has no layer named 'late'."),
    "a number as layer": (*IMAGE, {"layers": 3}, "layers: layers takes modules, dotted names"),
    "a layout": (*IMAGE, {"input_layout": "H W"}, "input_layout: layout='H W': expected the names"),
    "a class beyond the last": (
        *IMAGE, {"target": 4}, "target: target 4 is out of range: axis 1 of the output, of shape "
        "(1, 4), takes 0 to 3.",
    ),
    "more classes than there are": (
        *IMAGE, {"target": "top5"}, "target: k must be from 1 to the 4 classes; received 5.",
    ),
    "a name without names": (
        *IMAGE, {"target": "golf"}, "or a list of indices and names. For a name, pass class_names.",
    ),
    "no window": (
        *IMAGE, {"target": "each"}, 'target="each" is the class of each window: pass windows.',
    ),
    "more windows than axes": (
        *IMAGE, {"windows": Windows((8, 8, 8))}, "windows: size=(8, 8, 8): an image has 2 axes.",
    ),
    "a stride without windows": (
        *IMAGE, {"windows": Windows(stride=4)}, "windows: stride needs size.",
    ),
    "a stride longer than its window": (
        *IMAGE, {"windows": Windows(8, 9)}, "stride=9 is longer than window=(8,): it would leave ",
    ),
    "boundaries of an image": (
        *IMAGE, {"windows": Windows(8, boundaries=[4])},
        "windows: boundaries are of the scenes of a video.",
    ),
    "boundaries without windows": (
        "video", torch.rand(1, 3, 8, 8, 8), {"windows": Windows(boundaries=[4]), "reading": RATE},
        "windows: boundaries needs size.",
    ),
    "an original of a file": (
        *IMAGE, {"original": pixels()}, "original is for tensors: what is explained is shown.",
    ),
    "originals for other samples": (
        "image", torch.rand(2, 3, 8, 8), {"original": pixels()[None]},
        "original: expected one for each of the 2 samples; received 1.",
    ),
    "originals of several sizes": (
        "image", torch.rand(2, 3, 8, 8), {"original": [pixels(), pixels(8)]},
        "original: expected samples of one size; received (24, 32) and (8, 32).",
    ),
    "an original of other frames": (
        "video", torch.rand(1, 3, 4, 8, 8), {"original": video()},
        "original: expected 4 frames, as the input has; received 8.",
    ),
    "an original on another grid": (
        "volume", torch.rand(1, 1, 8, 8, 8), {"original": scan()},
        "original: expected the grid of the input, (8, 8, 8); received (8, 12, 10).",
    ),
    "a path as original": (
        "image", torch.rand(1, 3, 8, 8), {"original": "image.png"},
        "original: expected a tensor, an array, an io.Video, an io.VideoFile, an io.Volume or a "
        "visualization.Scan; received str.",
    ),
    "sampling of an image": (
        *IMAGE, {"sampling": Sampling(frames=4)},
        "sampling is of videos that are opened here: open_video() takes it.",
    ),
    "sampling of an open video": (
        "video", open_video(video()), {"sampling": Sampling(frames=4)},
        "sampling is of videos that are opened here: open_video() takes it.",
    ),
    "a rate of a video that has times": (
        "video", video(), {"reading": RATE},
        "reading: fps is of videos without times that are read here.",
    ),
    "an index of an image": (
        *IMAGE, {"reading": Reading(index=0)}, "reading: index is of scans that are read here.",
    ),
    "another preset": (
        *IMAGE, {"preprocessing": "ct-lung"}, "preprocessing='ct-lung': expected for images and "
        "videos one of 'none', 'imagenet', ",
    ),
    "no preprocessing": (
        *IMAGE, {"preprocessing": 3}, "preprocessing is of type int, which is not callable.",
    ),
    "a preprocessing of volumes": (
        *IMAGE, {"preprocessing": VolumePreprocessing()}, " is not for images and videos: pass a "
        "name of ['none', 'imagenet', ",
    ),
    "a preprocessing to another rank": (
        *IMAGE, {"preprocessing": lambda x: x[None]},
        "turns an image (3, H, W) into shape (1, 3, 24, 32); expected a tensor (C, H, W).",
    ),
    "a preprocessing to fewer frames": (
        "video", video(), {"preprocessing": lambda x: x[:, ::2] / 255},
        "turns 8 frames into shape (3, 4, 16, 20); expected a tensor (C, T, H, W) with as many ",
    ),
    "a preprocessing of a tensor to fewer frames": (
        "video", torch.rand(1, 3, 8, 6, 6), {"preprocessing": lambda x: x[:, ::2], "reading": RATE},
        "The preprocessing turns samples (3, 8, 6, 6) into (3, 4, 6, 6); expected as many axes, ",
    ),
    "a tensor that is resampled": (
        "volume", torch.rand(1, 1, 8, 8, 8), {"preprocessing": VolumePreprocessing(spacing=1.0)},
        "preprocessing: a tensor has no spacing to resample by. Pass an io.Volume, or leave "
        "orientation, spacing and size out.",
    ),
    "names that are no names": (
        *IMAGE, {"class_names": 4}, "class_names=4: expected names, a dict from indices to names",
    ),
    "a dict from names": (
        *IMAGE, {"class_names": {"golf": "club"}}, "class_names: 'golf' is no class index.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_of_arguments(case):
    kind, given, options, text = ERRORS[case]
    with pytest.raises(ArgumentError) as error:
        explain(network(kind), given, **{"layers": LAYERS, **options})
    assert text in str(error.value)
    assert isinstance(error.value, ValueError)


def test_types_of_arguments():
    with pytest.raises(TypeError, match=r"model=.*: expected Module\(\.\.\.\)"):
        explain(lambda x: x, pixels())
    with pytest.raises(TypeError, match="per_layer='yes': expected True or False"):
        explain(network("image"), pixels(), per_layer="yes")
    with pytest.raises(TypeError, match="compare=3: expected a list of methods"):
        explain(network("image"), pixels(), compare=3)
    with pytest.raises(FileNotFoundError, match=r"There is no file or folder 'missing\.png'"):
        explain(network("image"), "missing.png")


def test_errors_of_the_model():
    with pytest.raises(ModelError) as error:
        explain(network("volume"), video(), layers=LAYERS, preprocessing=Preprocessing())
    assert str(error.value).startswith(
        "The model failed on an input of shape (1, 3, 8, 16, 20): RuntimeError: Given groups=1"
    )
    assert str(error.value).endswith("takes 1 channels; the input has 3. Pass a Preprocessing with "
                                     "channels=1: --channels on the command line.")  # fmt: skip
    with pytest.raises(ModelError, match=r"input has 2. The axes of a tensor are \(N, C, \*S\)"):
        explain(network("image"), torch.rand(1, 2, 8, 8), layers=LAYERS)
    joined = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(0)).eval()
    with pytest.raises(ModelError, match=r"must return scores, one row per sample; .* \(1320,\)"):
        explain(joined, pixels(), layers=["0"])
    with pytest.raises(ModelError, match="If it takes frames first, pass input_layout="):
        explain(FramesFirst().eval(), video(), layers=["net.0"])


def test_a_method_of_ones_own():
    class ActivationCAM(LayerwiseCAM):
        rule = staticmethod(lambda activation, gradient: (activation.sum(1, keepdim=True),))

    model = network("image")
    explanation = explain(model, pixels(), 1, layers=LAYERS, method=ActivationCAM, fusion="max")
    cam = ActivationCAM(model, LAYERS, fusion="max")
    close(explanation.attribution, cam.attribute(received(pixels()), 1))
    assert explanation.method == "ActivationCAM"
    explanation = explain(model, pixels(), 1, layers=LAYERS, method="GradCAM", fusion=total)
    cam = LayerwiseGradCAM(model, LAYERS)
    close(explanation.attribution, cam.attribute(received(pixels()), 1))
    assert explanation.settings["fusion"] == "total"


def total(maps):
    return maps.sum(0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pixels(), pixels(seed=1)),
        (frames(), frames(seed=1)),
        (video(), video(seed=1)),
        (open_video(video()), open_video(video(seed=1))),
        (scan(), scan(seed=1)),
        (torch.rand(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8).index_fill(3, torch.tensor(5), 1e-6)),
        (pixels()[..., ::-1], pixels()),
    ],
)
def test_inputs_are_told_apart(one, other):
    kind = "volume" if isinstance(one, Volume) else "image"
    kind = "video" if not isinstance(one, (Volume, torch.Tensor)) and _is_video(one) else kind
    more = {"reading": RATE} if kind == "video" and isinstance(one, np.ndarray) else {}
    prints = [
        explain(network(kind), each, 1, layers=LAYERS, **more).fingerprint
        for each in (one, one, other)
    ]
    assert prints[0] == prints[1] != prints[2]


def in_place(x):
    return x.float().div_(255) if x.dtype == torch.uint8 and x.fill_(7).numel() else x.mul_(0)


@pytest.mark.parametrize("form", ["pixels", "frames", "tensor", "scan"])
def test_a_function_that_writes_to_its_input(form):
    given = {"pixels": pixels, "frames": video, "scan": scan}.get(
        form, lambda: torch.rand(2, 3, 8, 8)
    )
    one = given()
    kind = {"frames": "video", "scan": "volume"}.get(form, "image")
    before = explain(network(kind), one, 1, layers=LAYERS).fingerprint
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = explain(network(kind), one, 1, layers=LAYERS, preprocessing=in_place)
    again = explain(network(kind), one, 1, layers=LAYERS)
    assert again.fingerprint == before == explanation.fingerprint
    for left, right in zip(explanation.originals, again.originals, strict=True):
        assert identify(left) == identify(right)


def crop_of_bright(x):
    rows, columns = (x.amax(dim=(0, axis)).nonzero() for axis in (-1, -2))
    return x[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] + 0.5


def test_each_sample_is_placed_by_its_own_crop():
    x = torch.zeros(2, 3, 32, 32)
    x[0, :, 2:18, 4:20] = x[1, :, 12:28, 10:26] = torch.rand(3, 16, 16) + 0.1
    with pytest.warns(UserWarning, match="what it keeps depends on the content"):
        explain(network("image"), x, 1, layers=LAYERS, preprocessing=crop_of_bright)

    def corner(sample):  # it finds the sample by a pixel that no strip changes
        first = 4 if sample[0, 0, 0] == 0.125 else 10
        return sample[:, first : first + 16, 4:20]

    x = torch.rand(2, 3, 32, 32)
    x[0, 0, 0, 0] = 0.125
    maps = explain(network("image"), x, 1, layers=LAYERS, preprocessing=corner).attribution
    for given, expected in zip(x, maps, strict=True):
        alone = explain(network("image"), given[None], 1, layers=LAYERS, preprocessing=corner)
        torch.testing.assert_close(expected, alone.attribution[0])

    def zoom(sample):
        side = 16 if sample[0, 0, 0] == 0.125 else 24
        return F.interpolate(sample[None, :, 4 : 4 + side, 4 : 4 + side], (12, 12), mode="area")[0]

    with pytest.raises(ArgumentError, match="crops the samples differently: explain them one by"):
        explain(network("image"), x, 1, layers=LAYERS, preprocessing=zoom)


def test_a_function_that_moves_voxels_is_warned_of():
    with pytest.warns(UserWarning, match="moves content along H, or is random"):
        explain(network("volume"), scan(), 1, layers=LAYERS, preprocessing=lambda x: x.flip(2))


def test_a_network_of_several_labels_is_warned_of():
    model = network("image")
    model.config = SimpleNamespace(problem_type="multi_label_classification")
    with pytest.warns(UserWarning, match=r"several labels at once, .* output\.logits\.sigmoid\(\)"):
        explain(model, pixels(), 1, layers=LAYERS)
    options = {"output": torch.sigmoid, "returns": "probabilities"}
    explanation = explain(model, pixels(), 1, layers=LAYERS, **options)
    assert explanation.probabilities[0, 0] == explanation.scores[0, 0]


def _is_video(given):
    return isinstance(given, Video) or getattr(given, "ndim", 4) == 4


# ------------------------------------------------------------------------------- probabilities


def margin(output):
    return output[:, 1] - output[:, 0]


def test_a_function_over_windows_is_weighed_by_the_sigmoid_of_its_value():
    model = network("video")
    options = {"layers": LAYERS, "reading": RATE, "windows": Windows(8)}
    explanation = explain(model, frames(16), margin, **options)
    assert explanation.attribution.min() >= 0 < explanation.attribution.max()
    assert explanation.probabilities.isnan().all()
    assert explanation.captions == [[f"margin (score {float(explanation.scores):.3g})"]]
    for window in explanation.windows[0][0]:
        assert window.factor == pytest.approx(1 / (1 + math.exp(-window.score)))


def test_values_have_no_probability(tmp_path):
    explanation = explain(network("image"), pixels(), 2, layers=LAYERS, returns="values")
    assert explanation.probabilities.isnan().all()
    report = json.loads(explanation.save(tmp_path / "out")["json"].read_text())
    assert report["results"][0]["probability"] is None
    assert Explanation.load(tmp_path / "out").probabilities.isnan().all()
    cut = explain(network("video"), frames(16), 2, layers=LAYERS, returns="values", reading=RATE,
                  windows=Windows(8))  # fmt: skip
    assert {window.factor for window in cut.windows[0][0]} == {1.0}


def test_the_probability_of_a_segmentation_is_one():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    explanation = explain(model, pixels(), 1, layers=["0"])
    assert 0 <= explanation.probabilities.item() <= 1


# -------------------------------------------------------------------------------- what is known


@pytest.mark.parametrize(
    ("name", "method"),
    [("3DCAM", "GlobalLocal"), ("Grad-CAM", "GradCAM"), ("what x where", "WhatWhere"),
     ("LayerwiseLayerCAM", "LayerCAM")],
)  # fmt: skip
def test_other_names_of_methods(name, method):
    explanation = explain(
        network("image"), pixels(), layers=LAYERS, method=name, compare="HiResCAM"
    )
    assert explanation.method == method
    assert list(explanation.method_maps) == ["HiResCAM"]


def test_the_names_in_the_configuration_of_a_model():
    model = network("image")
    model.config = SimpleNamespace(id2label={0: "run", 1: "golf", 2: "sit", 3: "ride"})
    explanation = explain(model, pixels(), "ride", layers=LAYERS)
    assert (explanation.classes, explanation.class_names) == ([[3]], [["ride"]])
    model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    assert explain(model, pixels(), 1, layers=LAYERS).class_names == [["class 1"]]


def test_the_peak_in_mm():
    explanation = explain(network("volume"), scan(), layers=LAYERS)
    mm = AFFINE @ [*explanation.peak(), 1]
    assert explanation.peak_mm() == pytest.approx(mm[:3], abs=0.01)
    with pytest.raises(ValueError, match=r"mm are those of an io\.Volume; this is ndarray"):
        explain(network("image"), pixels(), layers=LAYERS).peak_mm()


def test_bytes_without_a_preprocessing_are_refused():
    message = r'received torch\.uint8\. Pass floats, or preprocessing="none"'
    with pytest.raises(ArgumentError, match=message):
        explain(network("image"), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), layers=LAYERS)


@pytest.mark.parametrize("names", [["run", "golf"], list("abcdefgh")], ids=len)
def test_names_of_other_classes_are_warned_of(names):
    message = f"There are {len(names)} class names for 4 classes: they may be shifted"
    with pytest.warns(UserWarning, match=message):
        explanation = explain(network("image"), pixels(), layers=LAYERS, class_names=names)
    assert explanation.warnings[0].startswith(message)
    explain(network("image"), pixels(), layers=LAYERS, class_names={1: "golf"})  # some


def test_a_name_of_two_classes_is_refused():
    names = ["crane", "run", "crane", "sit"]
    with pytest.raises(ArgumentError, match="it is the name of the classes 0, 2. Pass the index"):
        explain(network("image"), pixels(), "crane", layers=LAYERS, class_names=names)
    for bad in ({"run", "golf"}, {1: "a", 10**9: "b"}):
        with pytest.raises(ArgumentError, match="class_names"):
            explain(network("image"), pixels(), layers=LAYERS, class_names=bad)


def test_a_batch_has_one_time_axis_and_one_affine():
    x = torch.rand(2, 3, 8, 16, 20)
    slow = Video(frames(8), 5.0, FrameTimes.from_rate(8, 5.0))
    with pytest.raises(ArgumentError, match="samples of one times. Explain those of another one"):
        explain(network("video"), x, layers=LAYERS, original=[video(8), slow])
    grids = [scan(), Volume(scan().data, AFFINE + np.eye(4, k=3))]
    with pytest.raises(ArgumentError, match="samples of one affine"):
        explain(network("volume"), torch.rand(2, 1, 8, 12, 10), layers=LAYERS, original=grids)


def test_a_warning_belongs_to_its_sample():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(-1.0)
        model[3].weight.fill_(0.01)
    x = torch.rand(3, 3, 8, 8)
    x[1] = 0
    with pytest.warns(UserWarning, match=r"sample\(s\) 1 is zero"):
        explanation = explain(model, x, 0, layers=["1"])
    of_samples = [any("is zero" in text for text in explanation[i].warnings) for i in range(3)]
    assert of_samples == [False, True, False]


def test_the_original_is_a_copy():
    given = pixels()
    explanation = explain(network("image"), given, layers=LAYERS)
    given[:] = 0
    assert explanation.originals[0].any()


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_originals(channels):
    original = np.full((24, 32, channels), 7, np.uint8)
    explanation = explain(network("image"), torch.rand(1, 3, 24, 32), layers=LAYERS,
                          original=original)  # fmt: skip
    assert explanation.size == (24, 32)
    assert (explanation.originals[0] == 7).all()


def test_maps_of_a_name_that_is_taken_are_refused():
    explanation = explain(network("image"), pixels(), layers=LAYERS)
    with pytest.raises(ValueError, match="there are maps of this name"):
        explanation.with_maps("WhatWhere", np.ones((1, 1, 4, 4)))
    added = explanation.with_maps("ones", np.ones((1, 1, 4, 4)))
    assert added.method_maps["ones"].shape == explanation.attribution.shape


def test_a_model_in_double_precision_gets_doubles():
    explanation = explain(network("image").double(), pixels(), 1, layers=LAYERS)
    assert explanation.attribution.shape == (1, 1, 24, 32)
