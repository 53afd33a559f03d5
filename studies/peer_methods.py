"""Which methods the other packages have, in how many dimensions, and what they are here.

    make .venv/peers/.installed .venv/zoo/.installed
    PYTHONPATH=.venv/peers python studies/peer_methods.py

tries every method of Captum's layer attributions, torch-cam, pytorch-grad-cam, MONAI and M3d-Cam on
a network of one, two and three dimensions, and prints what runs, beside the class of this package.
With torchvision, the second table has the largest difference between pytorch-grad-cam's maps and
those of this package, relative to the map's maximum and before either is resized, on networks of
its own tests.
"""

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from captum import attr
from torch import Tensor, nn

from _arguments import make_parser
from _peers import PEERS, placeholder_for_torchvision, why_missing
from _report import table, write_report
from captum_3dcam import (
    LayerwiseAblationCAM,
    LayerwiseEigenCAM,
    LayerwiseEigenGradCAM,
    LayerwiseFEM,
    LayerwiseGradCAM,
    LayerwiseGradCAMElementWise,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseKPCACAM,
    LayerwiseLayerCAM,
    LayerwiseScoreCAM,
    LayerwiseShapleyCAM,
    LayerwiseXGradCAM,
)
from zoo_networks import find_libraries

RANKS = (1, 2, 3)
CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOL: dict[int, Any] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
SIZES = {1: (12,), 2: (12, 10), 3: (6, 8, 10)}
TARGET = 1


class Head(nn.Module):
    """Global average pooling and a linear layer, as the method CAM needs them."""

    def __init__(self, rank: int, channels: int, classes: int) -> None:
        super().__init__()
        self.pool, self.flatten = POOL[rank](1), nn.Flatten()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.flatten(self.pool(x)))
        return out


class Network(nn.Module):
    """Two convolutions and a head, in any number of dimensions."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        torch.manual_seed(rank)
        self.first = nn.Sequential(CONV[rank](3, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Sequential(CONV[rank](4, 6, 3, stride=2, padding=1), nn.ReLU())
        self.head = Head(rank, 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.last(self.first(x)))
        return out


def inputs(rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, *SIZES[rank], generator=generator)


Run = Callable[[nn.Module, Tensor], Any]


class Method(NamedTuple):
    """A method of another package."""

    name: str
    run: Run
    here: str
    """The class of this package, or what is done instead."""


# ------------------------------------------------------------------------------------ the packages


def captum_methods() -> list[Method]:
    own = "Captum's own; its maps can be [upsampled and fused](reference/functional.md)"
    zeros = {"baselines": 0.0}
    several = {"baselines": torch.zeros(1)}
    names: list[tuple[str, dict[str, Any], str]] = [
        ("LayerGradCam", {}, "`LayerwiseGradCAM`"),
        ("LayerActivation", {}, own),
        ("LayerGradientXActivation", {}, "`LayerwiseHiResCAM` (its sum over channels)"),
        ("LayerIntegratedGradients", zeros, own),
        ("LayerConductance", zeros, own),
        ("InternalInfluence", zeros, own),
        ("LayerDeepLift", zeros, own),
        ("LayerFeatureAblation", {}, "`LayerwiseAblationCAM`, by channel"),
        ("LayerGradientShap", several, own),
        ("LayerDeepLiftShap", several, own),
        ("GuidedGradCam", {}, "`GuidedCAM`"),
    ]
    return [Method(name, _captum_run(name, options), here) for name, options, here in names]


def _captum_run(name: str, options: dict[str, Any]) -> Run:
    def run(model: Any, x: Tensor) -> Any:
        own = {
            key: torch.zeros(2, *x.shape[1:]) if isinstance(value, Tensor) else value
            for key, value in options.items()
        }
        if name == "LayerActivation":
            return attr.LayerActivation(model, model.last).attribute(x)
        return getattr(attr, name)(model, model.last).attribute(x, target=TARGET, **own)

    return run


def torch_cam_methods() -> list[Method]:
    names = {
        "CAM": "`LayerwiseGradCAM` of the last layer, which it equals under a linear head",
        "GradCAM": "`LayerwiseGradCAM`",
        "GradCAMpp": "`LayerwiseGradCAMPlusPlus`",
        "SmoothGradCAMpp": "Captum's `NoiseTunnel` over `LayerwiseGradCAMPlusPlus`",
        "XGradCAM": "`LayerwiseXGradCAM`",
        "LayerCAM": "`LayerwiseLayerCAM`",
        "ScoreCAM": "`LayerwiseScoreCAM`",
        "SSCAM": "Captum's `NoiseTunnel` over `LayerwiseScoreCAM`",
        "ISCAM": "none: `LayerwiseScoreCAM` is its last step",
        "FinerCAM": "any class with `target=margin()`",
        "RefineCAM": '`fusion="product"`',
    }

    def run_of(name: str) -> Run:
        def run(model: nn.Module, x: Tensor) -> Any:
            methods = importlib.import_module("torchcam.methods")
            options: dict[str, Any] = {"input_shape": tuple(x.shape[1:])}
            if name == "CAM":
                options |= {"fc_layer": "head.fc"}
            layers = ["first", "last"] if name == "RefineCAM" else "last"
            with getattr(methods, name)(model, layers, **options) as cam:
                return cam(TARGET, model(x.requires_grad_()))

        return run

    listed = [Method(name, run_of(name), here) for name, here in names.items()]
    here = "`LayerwiseLeGrad`, in any number of dimensions (tests)"
    return [*listed, Method("LeGrad, of transformers", _le_grad, here)]


def _le_grad(model: nn.Module, x: Tensor) -> Any:
    """Of torchvision's vision transformer, which is for images."""
    if x.ndim != 4:
        raise NotImplementedError("torchvision has no such vision transformer")
    transformer = importlib.import_module("torchvision.models").VisionTransformer
    vit = transformer(12, 4, 2, 2, 8, 16, num_classes=5).eval()
    image = torch.rand(1, 3, 12, 12, requires_grad=True)
    layers = list(vit.encoder.layers)
    with importlib.import_module("torchcam.methods").LeGrad(vit, layers) as cam:
        return cam(TARGET, vit(image))


def grad_cam_methods() -> list[Method]:
    names = {
        "GradCAM": "`LayerwiseGradCAM`",
        "GradCAMPlusPlus": "`LayerwiseGradCAMPlusPlus`",
        "GradCAMElementWise": "`LayerwiseGradCAMElementWise`",
        "XGradCAM": "`LayerwiseXGradCAM`",
        "HiResCAM": "`LayerwiseHiResCAM`",
        "LayerCAM": "`LayerwiseLayerCAM`",
        "EigenCAM": "`LayerwiseEigenCAM`",
        "EigenGradCAM": "`LayerwiseEigenGradCAM`",
        "SegEigenCAM": "`LayerwiseEigenGradCAM`, which has its sign",
        "KPCA_CAM": "`LayerwiseKPCACAM`",
        "FEM": "`LayerwiseFEM`",
        "ShapleyCAM": "`LayerwiseShapleyCAM`",
        "ScoreCAM": "`LayerwiseScoreCAM`",
        "AblationCAM": "`LayerwiseAblationCAM`",
        "FullGrad": "`FullGradCAM`",
        "FinerCAM": "any class with `target=margin()`",
        "RefineCAM": '`fusion="product"`',
        "RandomCAM": "none: `sanity` has randomised networks and maps",
        "SESS": "none",
    }

    def run_of(name: str) -> Run:
        def run(model: Any, x: Tensor) -> Any:
            with placeholder_for_torchvision():
                package = importlib.import_module("pytorch_grad_cam")
            cam = getattr(package, name)(model=model, target_layers=[model.last])
            return cam(input_tensor=x, targets=[output_target(TARGET)])

        return run

    smoothing = Method("aug_smooth=True", _augmented, "`AugmentedCAM`")
    return [*(Method(name, run_of(name), here) for name, here in names.items()), smoothing]


def output_target(category: int) -> Any:
    with placeholder_for_torchvision():
        targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    return targets.ClassifierOutputTarget(category)


def _augmented(model: Any, x: Tensor) -> Any:
    with placeholder_for_torchvision():
        package = importlib.import_module("pytorch_grad_cam")
    with package.GradCAM(model=model, target_layers=[model.last]) as cam:
        return cam(input_tensor=x, targets=[output_target(TARGET)], aug_smooth=True)


def monai_methods() -> list[Method]:
    def run_of(name: str) -> Run:
        def run(model: Any, x: Tensor) -> Any:
            visualize = importlib.import_module("monai.visualize")
            options: dict[str, Any] = {"target_layers": "last"}
            if name == "CAM":
                options |= {"fc_layers": "head.fc"}
            classes: Any = [TARGET] if name == "CAM" else TARGET
            return getattr(visualize, name)(model, **options)(x, class_idx=classes)

        return run

    def plain(name: str) -> Run:
        def run(model: Any, x: Tensor) -> Any:
            visualize = importlib.import_module("monai.visualize")
            if name == "OcclusionSensitivity":
                return visualize.OcclusionSensitivity(model, mask_size=4, n_batch=8)(x)
            return getattr(visualize, name)(model)(x, index=torch.tensor([TARGET]))

        return run

    pixels = "Captum's `Saliency`, `NoiseTunnel`, `GuidedBackprop`"
    return [
        Method("CAM", run_of("CAM"), "`LayerwiseGradCAM` of the last layer"),
        Method("GradCAM", run_of("GradCAM"), "`LayerwiseGradCAM`"),
        Method("GradCAMpp", run_of("GradCAMpp"), "`LayerwiseGradCAMPlusPlus`"),
        Method("VanillaGrad", plain("VanillaGrad"), pixels),
        Method("SmoothGrad", plain("SmoothGrad"), pixels),
        Method("GuidedBackpropGrad", plain("GuidedBackpropGrad"), pixels),
        Method("OcclusionSensitivity", plain("OcclusionSensitivity"), "Captum's `Occlusion`"),
    ]


def med_cam_methods() -> list[Method]:
    def run_of(backend: str) -> Run:
        def run(model: nn.Module, x: Tensor) -> Any:
            inject = importlib.import_module("medcam.medcam_inject").inject
            injected = inject(
                model, backend=backend, layer="last", label=TARGET, return_attention=True
            )
            return injected(x)

        return run

    return [
        Method("gcam", run_of("gcam"), "`LayerwiseGradCAM`"),
        Method("gcampp", run_of("gcampp"), "`LayerwiseGradCAMPlusPlus`"),
        Method("gbp", run_of("gbp"), "Captum's `GuidedBackprop`"),
        Method("ggcam", run_of("ggcam"), "`GuidedCAM`"),
    ]


PACKAGES = {
    "Captum": (captum_methods, "captum"),
    "torch-cam": (torch_cam_methods, "torchcam.methods"),
    "pytorch-grad-cam": (grad_cam_methods, "pytorch_grad_cam"),
    "MONAI": (monai_methods, "monai.visualize"),
    "M3d-Cam": (med_cam_methods, "medcam"),
}


# ------------------------------------------------------------------------------------------ tables


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what packages print, warn of and show as progress."""
    sink = io.StringIO()
    with (
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def outcome(method: Method, rank: int) -> str:
    """ "yes" if the method returns finite numbers, with how many axes."""
    try:
        with quiet():
            result = method.run(Network(rank).eval(), inputs(rank))
            values = torch.cat(
                [torch.as_tensor(part).detach().flatten() for part in _parts(result)]
            )
    except Exception:  # whatever another package raises
        return "error"
    return "yes" if len(values) > 1 and bool(values.isfinite().all()) else "no map"


def _parts(result: Any) -> Iterator[Any]:
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from _parts(part)
    elif isinstance(result, (Tensor, np.ndarray)):
        yield torch.as_tensor(result)


def availability() -> list[list[str]]:
    rows = []
    for package, (methods, module) in PACKAGES.items():
        peer = next((each for each in PEERS.values() if each.module == module), None)
        if peer is not None and why_missing(peer):
            rows.append([package, "not installed", "", "", "", ""])
            continue
        rows += [
            [package, method.name, *(outcome(method, rank) for rank in RANKS), method.here]
            for method in methods()
        ]
    return rows


RAW = {
    "GradCAM": LayerwiseGradCAM,
    "GradCAMPlusPlus": LayerwiseGradCAMPlusPlus,
    "GradCAMElementWise": LayerwiseGradCAMElementWise,
    "XGradCAM": LayerwiseXGradCAM,
    "HiResCAM": LayerwiseHiResCAM,
    "LayerCAM": LayerwiseLayerCAM,
    "EigenCAM": LayerwiseEigenCAM,
    "EigenGradCAM": LayerwiseEigenGradCAM,
    "KPCA_CAM": LayerwiseKPCACAM,
    "FEM": LayerwiseFEM,
    "ShapleyCAM": LayerwiseShapleyCAM,
    "ScoreCAM": LayerwiseScoreCAM,
    "AblationCAM": LayerwiseAblationCAM,
}
OPEN_SIGN = {"EigenCAM", "EigenGradCAM"}
"""Those whose sign pytorch-grad-cam leaves to the decomposition."""


def peer_map(
    name: str, model: nn.Module, layer: nn.Module, x: Tensor, target: int
) -> np.ndarray[Any, Any]:
    """pytorch-grad-cam's map at the layer's own size, signed."""
    with placeholder_for_torchvision():
        package = importlib.import_module("pytorch_grad_cam")
    kept: list[np.ndarray[Any, Any]] = []
    with getattr(package, name)(model=model, target_layers=[layer]) as cam:
        image = cam.get_cam_image

        def keep(*args: Any, **kwargs: Any) -> Any:
            kept.append(np.asarray(image(*args, **kwargs)))
            return kept[-1]

        cam.get_cam_image = keep
        cam(input_tensor=x, targets=[output_target(target)] * len(x))
    return kept[0]


def difference(name: str, model: nn.Module, layer: str, x: Tensor) -> float:
    """The largest difference of the maps of the highest class, each over its maximum."""
    with quiet():
        target = int(model(x).argmax())
        theirs = peer_map(name, model, model.get_submodule(layer), x.clone(), target)
        size = theirs.shape[1:]
        # Score-CAM's masks are upsampled with aligned corners there.
        cam = RAW[name](model, layer, align_corners=name == "ScoreCAM")
        ours = cam.attribute(x, target=target, output_size=size)
    signs = (1, -1) if name in OPEN_SIGN else (1,)
    candidates = []
    for sign in signs:
        positive = np.maximum(sign * theirs[0], 0)
        over_peak = positive / positive.max() if positive.max() > 0 else positive
        candidates.append(float(np.abs(over_peak - ours[0, 0].numpy()).max()))
    return min(candidates)


def networks() -> dict[str, tuple[Callable[[], nn.Module], str]]:
    """Networks of pytorch-grad-cam's tests, by torchvision's code, with random weights."""
    models = importlib.import_module("torchvision.models")

    def make(name: str) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            torch.manual_seed(0)
            model: nn.Module = getattr(models, name)(num_classes=10)
            return model.eval()

        return build

    return {
        "resnet18": (make("resnet18"), "layer4.1"),
        "vgg11": (make("vgg11"), "features.19"),
        "mobilenet_v2": (make("mobilenet_v2"), "features.18"),
    }


def values(size: int) -> list[list[str]]:
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    rows: list[list[str]] = []
    made = [(make(), layer) for make, layer in networks().values()]
    for name in RAW:
        cells = [f"{difference(name, model, layer, x):.0e}" for model, layer in made]
        rows.append([name, *cells])
    return rows


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=int, default=64, help="of the images, pixels")
    parser.add_argument("--output", type=Path, default=Path("out/peer_methods"))
    options = parser.parse_args()
    find_libraries()
    available = availability()
    header = ["package", "method", *(f"{rank}D" for rank in RANKS), "here"]
    parts = [table(header, available)]
    differences: list[list[str]] = []
    if importlib.util.find_spec("torchvision") and not why_missing(PEERS["pytorch-grad-cam"]):
        differences = values(options.size)
        parts.append(table(["", *networks()], differences))
    write_report(
        options.output,
        "peer_methods",
        {"available": available, "differences": differences},
        "\n\n".join(parts),
    )


if __name__ == "__main__":
    main()
