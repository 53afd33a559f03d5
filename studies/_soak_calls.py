"""What the package offers, called on small inputs: nothing of a call should remain."""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot
from torch import Tensor, nn

import captum_3dcam
from captum_3dcam import (
    Explanation,
    LayerwiseGlobalLocalCAM,
    SlidingWindowCAM,
    explain,
    metrics,
    sanity,
    suggest_layers,
    survey_layers,
)
from captum_3dcam import io as files
from captum_3dcam import localization as loc
from captum_3dcam import visualization as vis
from captum_3dcam.cli import main as command_line
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.evaluation import Sample, evaluate
from captum_3dcam.explanation import Reading, Windows
from captum_3dcam.functional import temporal_profile
from captum_3dcam.models import load_checkpoint
from captum_3dcam.sliding import shot_boundaries

OTHERS = ("SlidingWindowCAM", "FullGradCAM", "GuidedCAM", "AugmentedCAM")
METHODS = [name for name in captum_3dcam.__all__ if "CAM" in name and name not in OTHERS]
WITHOUT_DERIVATIVE = ("Ablation", "Eigen", "KPCA", "Score", "Shapley")
LAYERS = ["early", "late"]
MODEL_FILE = """
import _soak_calls

def image(): return _soak_calls.network(2)
def clip(): return _soak_calls.network(3)
def scan(): return _soak_calls.network(3, channels=1)
"""

Calls = dict[str, Callable[[], Any]]


def network(rank: int, channels: int = 3) -> nn.Module:
    """In eval mode, with 4 classes."""
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[rank]
    norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[rank]
    pool = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[rank]
    model = nn.Sequential()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.add_module("stem", convolution(channels, 6, 3, padding=1))
        model.add_module("early", nn.Sequential(norm(6), nn.ReLU(inplace=True)))
        model.add_module("late", nn.Sequential(convolution(6, 6, 3, 2, 1), nn.ReLU()))
        model.add_module("head", nn.Sequential(pool(2), nn.Flatten(), nn.Linear(6 * 2**rank, 4)))
    return model.eval()


def make_calls(folder: Path, models: list[nn.Module]) -> Calls:
    """By name; ``models`` are a network of two and one of three spatial axes."""
    torch.manual_seed(0)
    images, clips = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 8, 16, 16)
    maps = LayerwiseGlobalLocalCAM(models[1], LAYERS).attribute(clips)
    return {
        **_attributions("2D", models[0], images),
        **_attributions("3D", models[1], clips),
        "sliding windows": lambda: _slide(models[1], clips),
        **_localization(maps),
        "metrics": lambda: _score(maps),
        "figures": lambda: _draw(maps, clips),
        **_files(folder, models[0]),
        **_explanations(folder, models),
        **_commands(folder),
        "sanity checks": lambda: _check_sanity(models[0], images),
        "evaluation": lambda: _evaluate(models[1], clips),
    }


def _attributions(rank: str, model: nn.Module, inputs: Tensor) -> Calls:
    other = {"2D": "3D", "3D": "2D"}[rank]
    names = [name for name in METHODS if not name.endswith(other)]

    def explain(name: str) -> None:
        cam: Any = getattr(captum_3dcam, name)(model, LAYERS)
        cam.attribute(inputs)
        cam.attribute(inputs, 1, per_layer=True)
        cam.attribute(inputs, [2, 3], attribute_to_layer_input=True)
        if not any(word in name for word in WITHOUT_DERIVATIVE):
            cam.attribute(inputs, 0, create_graph=True)
        cam.attribute_classes(inputs, [0, 3])
        cam.attribute_top_k(inputs, 2)
        with contextlib.suppress(RuntimeError):  # an error should leave nothing either
            getattr(captum_3dcam, name)(model, nn.ReLU()).attribute(inputs)

    calls: Calls = {name: lambda name=name: explain(name) for name in names}
    calls[f"choice of layers, {rank}"] = lambda: (
        suggest_layers(model, inputs),
        survey_layers(model, inputs),
        LayerwiseGlobalLocalCAM(model, "auto").attribute(inputs),
    )
    return {f"{name} in {rank}": call for name, call in calls.items()}


def _slide(model: nn.Module, clips: Tensor) -> None:
    sliding = SlidingWindowCAM(LayerwiseGlobalLocalCAM(model, LAYERS), window=4, stride=2)
    sliding.attribute(clips, "whole")
    sliding.attribute_windows(clips, boundaries=[4])
    for part in sliding.stream(clips[0].split(2, dim=1), 1):
        assert len(part.attribution) == 1
    next(iter(sliding.stream(clips[0].split(2, dim=1))))  # a stream that is left
    shot_boundaries(clips[0].split(2, dim=1))


def _localization(maps: Tensor) -> Calls:
    profile = temporal_profile(maps)
    return {
        "thresholds": lambda: [loc.binarize(maps, method) for method in ("relative", "otsu")],
        "boxes": lambda: (loc.boxes(maps), loc.components(loc.binarize(maps))),
        "tubes": lambda: (loc.tubes(maps), loc.link(loc.frame_boxes(maps))),
        "segments": lambda: loc.segments(profile, fps=25),
    }


def _score(maps: Tensor) -> None:
    flat, boxes = maps[:, 0, 0], [torch.tensor([[2, 2, 9, 9]])] * len(maps)
    ious = metrics.scoremap_ious(flat, boxes, metrics.cam_thresholds())
    metrics.max_box_acc(ious)
    metrics.px_ap(flat, flat > 0.5 * flat.amax())
    metrics.hit_point(flat, boxes)
    metrics.temporal_hit(temporal_profile(maps), [torch.tensor([[0.0, 3.0]])] * len(maps))
    with contextlib.suppress(ImportError):
        accumulated = metrics.MaxBoxAcc()
        accumulated.update(flat, boxes)
        accumulated.compute()


def _draw(maps: Tensor, clips: Tensor) -> None:
    """Figures, as PNG. Those of pyplot are closed; the others are the caller's alone."""
    video = clips[0].permute(1, 2, 3, 0)
    style = vis.Style(use_pyplot=True)
    figures = [
        vis.visualize_image_attr(maps[0, 0, 0], video[0])[0],
        vis.visualize_video_attr(maps[0], video, frames=4)[0],
        vis.visualize_volume_attr(maps[0], video[..., 0])[0],
        vis.visualize_volume_montage(maps[0], video[..., 0], slices=4)[0],
        vis.visualize_volume_projections(maps[0], video[..., 0])[0],
        vis.visualize_attr_panels([maps[0], maps[1]], video, ["first", "second"], frames=4)[0],
        vis.visualize_temporal_profile(maps[0], style=style)[0],
    ]
    for figure in figures:
        figure.savefig(io.BytesIO(), dpi=40)
    pyplot.close("all")
    vis.render_image_attr(maps[0, 0, 0], video[0])


def _files(folder: Path, model: nn.Module) -> Calls:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), np.uint8)
    torch.save(model.state_dict(), folder / "model.pth")
    scan = files.Volume(np.random.default_rng(0).normal(size=(5, 6, 7)), np.eye(4))

    def video(name: str) -> None:
        files.write_video(pixels, folder / name, fps=10)
        files.read_video(folder / name)
        next(iter(files.open_video(folder / name)))  # an iteration that is left

    def nifti() -> None:
        files.write_nifti(scan, folder / "scan.nii.gz")
        files.read_nifti(folder / "scan.nii.gz").resample(size=4)

    def numbers() -> None:
        files.save_map(pixels[0], folder / "map.npz", {"class": "golf"})
        files.load_map(folder / "map.npz")

    return {
        "MP4": lambda: video("clip.mp4"),
        "GIF": lambda: (video("clip.gif"), files.read_image(folder / "clip.gif")),
        "NIfTI": nifti,
        "maps": numbers,
        "checkpoints": lambda: load_checkpoint(folder / "model.pth", network(2)),
        "damaged files": lambda: _read_damaged(folder),
    }


def _read_damaged(folder: Path) -> None:
    (folder / "damaged").write_bytes(b"no video")
    readers: list[Callable[[Path], Any]] = [
        files.read_video, files.read_image, files.read_nifti, files.load_map
    ]  # fmt: skip
    for read in readers:
        with contextlib.suppress(ValueError, ImportError):
            read(folder / "damaged")


def _explanations(folder: Path, models: list[nn.Module]) -> Calls:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 24, 32, 3), np.uint8)
    options: dict[str, Any] = {"layers": LAYERS, "compare": ["GradCAM"], "per_layer": True}

    def show(explanation: Explanation, name: str) -> None:
        explanation.figure().savefig(io.BytesIO(), dpi=40)
        assert explanation.html()
        explanation.save(folder / name, overlay="gif")
        assert len(Explanation.load(folder / name)) == 1

    def clip() -> None:
        explanation = explain(
            models[1], pixels, "top2", reading=Reading(fps=8), windows=Windows(4), **options
        )
        show(explanation, "explained_clip")

    def failing() -> None:
        with contextlib.suppress(ValueError):
            explain(models[0], pixels[0], 7, **options)

    return {
        "explain() of pixels": lambda: show(explain(models[0], pixels[0], **options), "explained"),
        "explain() of frames": clip,
        "an error of explain()": failing,
    }


def _commands(folder: Path) -> Calls:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (8, 24, 32, 3), np.uint8)
    Image.fromarray(pixels[0]).save(folder / "image.png")
    files.write_video(pixels, folder / "input.gif", fps=8)
    files.write_nifti(files.Volume(pixels[..., 0], np.eye(4)), folder / "input.nii")
    model = folder / "soak_model.py"
    model.write_text(MODEL_FILE)

    def run(command: str, name: str, *words: str) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = command_line([command, *words, "--model", f"{model}:{name}", "--quiet"])
        assert code == 0, printed.getvalue()

    def command(name: str, file: str, *words: str) -> None:
        run("explain", name, str(folder / file), "--output", str(folder / f"out_{name}"), *words)

    return {
        "explain an image": lambda: command("image", "image.png", "--layers", *LAYERS),
        "explain a video": lambda: command("clip", "input.gif", "--overlay", "gif"),
        "explain a volume": lambda: command("scan", "input.nii"),
        "list the layers": lambda: run("layers", "image", "--input-size", "3", "16", "16"),
    }


def _check_sanity(model: nn.Module, images: Tensor) -> None:
    cam = LayerwiseGlobalLocalCAM(model, LAYERS)
    maps = cam.attribute(images)
    sanity.parameter_randomization(model, lambda m: LayerwiseGlobalLocalCAM(m, LAYERS), images)
    sanity.perturbation_curve(model, images, maps, perturbation=sanity.Perturbation(steps=4))
    sanity.label_sensitivity(cam, images)
    sanity.compare_models(lambda m: LayerwiseGlobalLocalCAM(m, LAYERS), model, network(2), images)


def _evaluate(model: nn.Module, clips: Tensor) -> None:
    boxes = torch.tensor([[[2.0, 2.0, 9.0, 9.0]] * 8])
    samples = [Sample(clip, 0, boxes) for clip in clips]
    evaluate({"3DCAM": LayerwiseGlobalLocalCAM(model, LAYERS)}, samples)
    assert SyntheticActions(1, frames=4, size=64)[0] is not None


def passes(calls: Calls) -> Iterator[int]:
    """Make all calls, again and again; yields the number of passes after each."""
    number = 0
    while True:
        for call in calls.values():
            call()
        number += 1
        yield number
