"""The statements of docs/comparison.md, and the code that checks each of them.

``check_comparison.py`` runs them. A statement is about one package, at the version in the page.
"""

import inspect
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from _peers import placeholder_for_torchvision
from captum_3dcam import GlobalLocalCAM3D, LayerwiseGradCAM, functional, visualization
from comparison_probes import (
    CLASSES,
    LAYER_SIZES,
    LAYERS,
    SIZE,
    clips,
    frozen,
    hooks,
    leaves_grad,
    network,
    passes,
    raises,
)


class Statement(NamedTuple):
    """A sentence of the page, and the function that returns whether it holds."""

    package: str
    text: str
    check: Callable[[], bool]


STATEMENTS: list[Statement] = []


def states(package: str, text: str) -> Callable[[Callable[[], bool]], Callable[[], bool]]:
    """Register the decorated check."""

    def register(check: Callable[[], bool]) -> Callable[[], bool]:
        STATEMENTS.append(Statement(package, text, check))
        return check

    return register


# ---------------------------------------------------------------------------------- captum_3dcam


@states("captum_3dcam", "One forward and one backward pass explain all layers.")
def _() -> bool:
    model = network()
    with passes(model) as counter:
        GlobalLocalCAM3D(model, LAYERS).attribute(clips())
    return counter == {"forward": 1, "backward": 1}


@states("captum_3dcam", "The map has the size of the input, in 1, 2 and 3 dimensions.")
def _() -> bool:
    line = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    attributions = [
        LayerwiseGradCAM(model, "1").attribute(inputs)
        for model, inputs in (
            (line, torch.rand(2, 1, 9)),
            (network(2), torch.rand(2, 1, 9, 7)),
            (network(), clips()),
        )
    ]
    return [m.shape for m in attributions] == [(2, 1, 9), (2, 1, 9, 7), (2, 1, *SIZE)]


@states(
    "captum_3dcam",
    "Layers are fused by sum, mean, max, product, geometric mean or a function.",
)
def _() -> bool:
    names = {"sum", "mean", "max", "product", "geometric_mean"}
    cams = [LayerwiseGradCAM(network(), LAYERS, fusion=f) for f in [*names, torch.amin]]
    return all(cam.attribute(clips()).shape == (2, 1, *SIZE) for cam in cams[:-1]) and names <= set(
        functional.FUSIONS
    )


@states("captum_3dcam", "Each layer map is ReLU'd and divided by its maximum, per sample.")
def _() -> bool:
    maps = GlobalLocalCAM3D(network(), LAYERS).attribute(clips(), target=CLASSES, per_layer=True)
    single = LayerwiseGradCAM(network(), "3").attribute(clips(), target=CLASSES)
    return all(bool((m >= 0).all() and (m <= 1).all()) for m in maps) and bool(
        torch.isin(single.amax(dim=(1, 2, 3, 4)), torch.tensor([0.0, 1.0])).all()
    )


@states("captum_3dcam", "Hooks, train mode and the parameters' `.grad` are as before the call.")
def _() -> bool:
    model = network().train()
    GlobalLocalCAM3D(model, LAYERS).attribute(clips())
    return hooks(model) == 0 and model.training and not leaves_grad(model)


@states(
    "captum_3dcam", "There are figures of images, videos (strips, animations) and volumes (slices)."
)
def _() -> bool:
    names = {"visualize_image_attr", "visualize_video_attr", "animate_video_attr"}
    return {*names, "visualize_volume_attr"} <= set(visualization.__all__)


@states("captum_3dcam", "It explains a model whose parameters are all frozen.")
def _() -> bool:
    return GlobalLocalCAM3D(frozen(), LAYERS).attribute(clips()).shape == (2, 1, *SIZE)


# ---------------------------------------------------------------------------------------- Captum


def captum_map(model: nn.Module, layer: int, **options: Any) -> Tensor:
    attribution: Tensor = LayerGradCam(model, model[layer]).attribute(clips(), **options)
    return attribution.detach()


@states("Captum", "`LayerGradCam` takes one layer: K layers need K forward and backward passes.")
def _() -> bool:
    model = network()
    with passes(model) as counter:
        for layer in (1, 3):
            captum_map(model, layer, target=CLASSES)
    both = [model[1], model[3]]
    return counter == {"forward": 2, "backward": 2} and raises(
        AttributeError, lambda: LayerGradCam(model, both).attribute(clips(), target=1)
    )


@states("Captum", "The map has the size of the layer, and keeps negative values by default.")
def _() -> bool:
    attribution = captum_map(network(), 3, target=CLASSES)
    return attribution.shape == (2, 1, *LAYER_SIZES[1]) and bool((attribution < 0).any())


@states("Captum", "`LayerAttribution.interpolate` is `nearest` by default; `trilinear` works.")
def _() -> bool:
    default = inspect.signature(LayerAttribution.interpolate).parameters["interpolate_mode"].default
    coarse = captum_map(network(), 3, target=CLASSES)
    upsampled = LayerAttribution.interpolate(coarse, SIZE, "trilinear")
    return default == "nearest" and upsampled.shape == (2, 1, *SIZE)


@states("Captum", "`target=None` raises an error for more than one class.")
def _() -> bool:
    return raises(AssertionError, lambda: captum_map(network(), 3))


@states("Captum", "Hooks, train mode and the parameters' `.grad` are as before the call.")
def _() -> bool:
    model = network().train()
    captum_map(model, 3, target=CLASSES)
    return hooks(model) == 0 and model.training and not leaves_grad(model)


@states("Captum", "It explains a model whose parameters are all frozen.")
def _() -> bool:
    return captum_map(frozen(), 3, target=CLASSES).shape == (2, 1, *LAYER_SIZES[1])


@states("Captum", "`captum.attr.visualization` has no function for videos or volumes.")
def _() -> bool:
    names = [name.lower() for name in dir(import_module("captum.attr").visualization)]
    return not any("video" in name or "volume" in name for name in names)


# ------------------------------------------------------------------------------------- torch-cam


def torch_cam_maps(method: str, model: nn.Module, layers: list[str]) -> list[Tensor]:
    extractor = getattr(import_module("torchcam.methods"), method)
    with extractor(model, layers, input_shape=(1, *SIZE)) as cam:
        maps: list[Tensor] = cam(CLASSES, model(clips()))
        return maps


@states("torch-cam", "One forward and one backward pass explain all layers.")
def _() -> bool:
    model = network()
    with passes(model) as counter:
        torch_cam_maps("GradCAM", model, LAYERS)
    return counter == {"forward": 1, "backward": 1}


@states("torch-cam", "Maps are a list, (N, \\*S_k), of the layers' sizes.")
def _() -> bool:
    maps = torch_cam_maps("GradCAM", network(), LAYERS)
    return [m.shape for m in maps] == [(2, *size) for size in LAYER_SIZES]


@states("torch-cam", "Its GradCAMs, XGradCAM, LayerCAM, ScoreCAM, SSCAM and ISCAM run in 3D.")
def _() -> bool:
    methods = ["GradCAM", "GradCAMpp", "SmoothGradCAMpp", "XGradCAM", "LayerCAM"]
    methods += ["ScoreCAM", "SSCAM", "ISCAM"]
    maps = [torch_cam_maps(method, network(), ["3"])[0] for method in methods]
    return all(m.shape == (2, *LAYER_SIZES[1]) for m in maps)


@states("torch-cam", "`fuse_cams` is the elementwise maximum, at the size of the largest map.")
def _() -> bool:
    methods = import_module("torchcam.methods")
    maps = torch_cam_maps("GradCAM", network(), LAYERS)
    upsampled = [F.interpolate(m[:, None], LAYER_SIZES[0], mode="trilinear")[:, 0] for m in maps]
    return torch.equal(methods.GradCAM.fuse_cams(maps), torch.maximum(*upsampled))


@states("torch-cam", "`RefineCAM` multiplies the maps of the layers.")
def _() -> bool:
    (refined,) = torch_cam_maps("RefineCAM", network(), LAYERS)
    fine, coarse = torch_cam_maps("GradCAMpp", network(), LAYERS)
    product = fine * F.interpolate(coarse[:, None], LAYER_SIZES[0], mode="trilinear")[:, 0]
    product /= product.amax(dim=(1, 2, 3), keepdim=True)
    return torch.allclose(refined, product, atol=0.01)


@states("torch-cam", "Each map is shifted by its minimum and divided by its maximum.")
def _() -> bool:
    maps = torch_cam_maps("LayerCAM", network(), LAYERS)
    return all(bool((m.amin(dim=(1, 2, 3)) == 0).all()) for m in maps) and all(
        torch.allclose(m.amax(dim=(1, 2, 3)), torch.ones(2), atol=0.01) for m in maps
    )


@states("torch-cam", "Hooks stay from construction until `remove_hooks()` or the end of `with`.")
def _() -> bool:
    model = network()
    cam = import_module("torchcam.methods").GradCAM(model, LAYERS)
    before = hooks(model)
    cam.remove_hooks()
    return before > 0 and hooks(model) == 0


@states("torch-cam", "The parameters' `.grad` is as before the call.")
def _() -> bool:
    model = network()
    torch_cam_maps("GradCAM", model, LAYERS)
    return not leaves_grad(model)


@states("torch-cam", "It raises an error for a model whose parameters are all frozen.")
def _() -> bool:
    return raises(RuntimeError, lambda: torch_cam_maps("GradCAM", frozen(), LAYERS))


@states("torch-cam", "`overlay_mask` takes two PIL images.")
def _() -> bool:
    overlay = import_module("torchcam.utils").overlay_mask
    return raises(TypeError, lambda: overlay(np.zeros((4, 4, 3)), np.zeros((4, 4))))


# ------------------------------------------------------------------------------ pytorch-grad-cam


def grad_cam(name: str) -> Any:
    with placeholder_for_torchvision():
        return getattr(import_module("pytorch_grad_cam"), name)


def grad_cam_map(method: str, model: nn.Module, layers: list[str] | None = None) -> np.ndarray:
    with placeholder_for_torchvision():
        targets = import_module("pytorch_grad_cam.utils.model_targets")
    modules = [model.get_submodule(name) for name in layers or LAYERS]
    cam = grad_cam(method)(model, modules)
    attribution: np.ndarray = cam(clips(), [targets.ClassifierOutputTarget(c) for c in CLASSES])
    return attribution


@states("pytorch-grad-cam", "One forward and one backward pass explain all layers.")
def _() -> bool:
    model = network()
    with passes(model) as counter:
        grad_cam_map("GradCAM", model)
    return counter == {"forward": 1, "backward": 1}


@states(
    "pytorch-grad-cam",
    "GradCAM, GradCAM++, XGradCAM, HiResCAM, LayerCAM and EigenCAM run in 3D, at the input's size.",
)
def _() -> bool:
    methods = ["GradCAM", "GradCAMPlusPlus", "XGradCAM", "HiResCAM", "LayerCAM", "EigenCAM"]
    return all(grad_cam_map(method, network()).shape == (2, *SIZE) for method in methods)


@states("pytorch-grad-cam", "ScoreCAM, AblationCAM and FullGrad raise an error in 3D.")
def _() -> bool:
    methods = ["ScoreCAM", "AblationCAM", "FullGrad"]
    errors = (RuntimeError, ValueError)
    return all(raises(errors, lambda m=m: grad_cam_map(m, network())) for m in methods)


@states("pytorch-grad-cam", "Signals of one dimension raise an error.")
def _() -> bool:
    line = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    cam = grad_cam("GradCAM")(line, [line[1]])
    return raises(ValueError, lambda: cam(torch.rand(2, 1, 9), None))


@states("pytorch-grad-cam", "It returns a NumPy array: the rescaled mean over layers.")
def _() -> bool:
    model = network()
    both = grad_cam_map("GradCAM", model)
    mean = sum(grad_cam_map("GradCAM", model, [name]) for name in LAYERS)
    mean = mean - mean.min(axis=(1, 2, 3), keepdims=True)
    mean = mean / mean.max(axis=(1, 2, 3), keepdims=True)
    return isinstance(both, np.ndarray) and bool(np.corrcoef(both.flat, mean.flat)[0, 1] > 0.99)


@states("pytorch-grad-cam", "`RefineCAM` multiplies the maps of the layers, with a pass for each.")
def _() -> bool:
    model = network()
    with passes(model) as counter:
        refined = grad_cam_map("RefineCAM", model)
    fine, coarse = (grad_cam_map("GradCAMPlusPlus", model, [name]) for name in LAYERS)
    correlation = np.corrcoef(refined.flat, (fine * coarse).flat)[0, 1]
    return counter == {"forward": 2, "backward": 2} and bool(correlation > 0.99)


@states(
    "pytorch-grad-cam",
    "Volumes are resized on the CPU by a cubic spline, which leaves the range of its input.",
)
def _() -> bool:
    with placeholder_for_torchvision():
        image = import_module("pytorch_grad_cam.utils.image")
    coarse = np.random.default_rng(0).random((1, 3, 4, 5), dtype=np.float32)
    resized = image.scale_cam_image(coarse, SIZE[::-1])
    return resized.shape == (1, *SIZE) and bool(resized.min() < 0 and resized.max() > 1)


@states("pytorch-grad-cam", "`show_cam_on_image` overlays a map on one image (H, W, 3).")
def _() -> bool:
    with placeholder_for_torchvision():
        show = import_module("pytorch_grad_cam.utils.image").show_cam_on_image
    volume = np.zeros((4, 9, 7, 3), np.float32)
    image = show(volume[0] + 0.5, np.zeros((9, 7), np.float32))
    return image.shape == (9, 7, 3) and raises(Exception, lambda: show(volume, volume[..., 0]))


@states("pytorch-grad-cam", "Hooks stay from construction to the end of `with`.")
def _() -> bool:
    model = network()
    with grad_cam("GradCAM")(model, [model[1]]):
        inside = hooks(model)
    return inside > 0 and hooks(model) == 0


@states("pytorch-grad-cam", "The model stays in eval mode, and the parameters' `.grad` is filled.")
def _() -> bool:
    model = network().train()
    grad_cam_map("GradCAM", model)
    return not model.training and leaves_grad(model)


@states("pytorch-grad-cam", "It raises an error for a model whose parameters are all frozen.")
def _() -> bool:
    return raises(RuntimeError, lambda: grad_cam_map("GradCAM", frozen()))


# ----------------------------------------------------------------------------------------- MONAI


def monai_cam(method: str, model: nn.Module, layers: str | list[str]) -> Any:
    return getattr(import_module("monai.visualize"), method)(model, layers)


@states("MONAI", "GradCAM and GradCAMpp run in 2D and 3D; the map has the size of the input.")
def _() -> bool:
    image = torch.rand(1, 1, 9, 7)
    return all(
        monai_cam(method, network(dimensions), "3")(inputs).shape == inputs.shape
        for method in ("GradCAM", "GradCAMpp")
        for dimensions, inputs in ((2, image), (3, clips(1)))
    )


@states("MONAI", "Of several layers, `layer_idx` picks one; they are not fused.")
def _() -> bool:
    model = network()
    maps = [monai_cam("GradCAM", model, LAYERS)(clips(1), layer_idx=k) for k in (0, 1)]
    alone = [monai_cam("GradCAM", model, name)(clips(1)) for name in LAYERS]
    return all(torch.allclose(m, a) for m, a in zip(maps, alone, strict=True))


@states(
    "MONAI", "The map is upsampled linearly and inverted: its maximum becomes 0, its minimum 1."
)
def _() -> bool:
    cam = monai_cam("GradCAM", network(), "3")
    upsampled = F.interpolate(cam.compute_map(clips(1)), SIZE, mode="trilinear")
    inverted = (upsampled.max() - upsampled) / (upsampled.max() - upsampled.min())
    return torch.allclose(cam(clips(1)), inverted, atol=1e-5)


@states("MONAI", "A batch is explained for the sum of its samples' classes.")
def _() -> bool:
    model = network()
    batch = monai_cam("GradCAM", model, "1")(clips(), class_idx=CLASSES)
    own = monai_cam("GradCAM", model, "1")(clips(1), class_idx=CLASSES[:1])
    total = monai_cam("GradCAM", model, "1")(clips(1), class_idx=CLASSES)
    return torch.allclose(batch[:1], total) and not torch.allclose(batch[:1], own, atol=0.01)


@states("MONAI", "Hooks stay, and an in-place ReLU that is a target layer stays out of place.")
def _() -> bool:
    model = network()
    model[1].inplace = True
    monai_cam("GradCAM", model, "1")(clips(1))
    return hooks(model) > 0 and not model[1].inplace


@states("MONAI", "Train mode is as before the call; the parameters' `.grad` is filled.")
def _() -> bool:
    model = network().train()
    monai_cam("GradCAM", model, "1")(clips(1))
    return model.training and leaves_grad(model)


@states("MONAI", "`matshow3d` draws the slices of a volume.")
def _() -> bool:
    figure, _ = import_module("monai.visualize").matshow3d(clips()[0], show=False)
    return len(figure.axes) > 0


@states("MONAI", "It raises an error for a model whose parameters are all frozen.")
def _() -> bool:
    return raises(RuntimeError, lambda: monai_cam("GradCAM", frozen(), "1")(clips(1)))


# --------------------------------------------------------------------------------------- M3d-Cam


def med_cam(model: nn.Module, layer: str | list[str], **options: Any) -> Any:
    inject = import_module("medcam.medcam").inject
    return inject(model, backend="gcam", layer=layer, label=1, **options)


@states("M3d-Cam", "`inject` returns a shallow copy whose `forward` explains at each call.")
def _() -> bool:
    model = network()
    injected = med_cam(model, "1")
    output = injected(clips())
    return injected is not model and injected[0] is model[0] and output.shape == (2, 5)


@states("M3d-Cam", "The map of a classifier is a NumPy array of the size of the layer.")
def _() -> bool:
    injected = med_cam(network(), "3")
    injected(clips())
    attribution = injected.get_attention_map()
    return isinstance(attribution, np.ndarray) and attribution.shape == (2, 1, *LAYER_SIZES[1])


@states("M3d-Cam", "Of several layers it writes a file for each and returns no map.")
def _() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        injected = med_cam(network(), LAYERS, output_dir=folder, save_maps=True)
        injected(clips(1))
        files = sorted(path.parent.name for path in Path(folder).rglob("*.nii.gz"))
        return injected.get_attention_map() is None and files == LAYERS


@states("M3d-Cam", "Its NIfTI files hold bytes, with the identity as affine.")
def _() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        med_cam(network(), "1", output_dir=folder, save_maps=True)(clips(1))
        scan = nibabel.load(next(Path(folder).rglob("*.nii.gz")))
        return scan.get_data_dtype() == np.uint8 and np.array_equal(scan.affine, np.eye(4))


@states("M3d-Cam", "The layers of the model stay in eval mode, and `.grad` is filled.")
def _() -> bool:
    model = network().train()
    med_cam(model, "1")(clips())
    return not model[0].training and leaves_grad(model)


@states("M3d-Cam", "Its evaluation raises an error with NumPy 1.24 and newer (`np.float`).")
def _() -> bool:
    score = import_module("medcam.medcam").compute_score
    return raises(AttributeError, lambda: score(np.random.rand(4, 5), np.ones((4, 5))))


@states("M3d-Cam", "One forward and one backward pass explain all layers, after a test run.")
def _() -> bool:
    model = network()
    injected = med_cam(model, LAYERS)
    injected(clips())
    with passes(model) as counter:
        injected(clips())
    return counter == {"forward": 1, "backward": 1}


@states("M3d-Cam", "It raises an error for a model whose parameters are all frozen.")
def _() -> bool:
    return raises(RuntimeError, lambda: med_cam(frozen(), "3")(clips()))
