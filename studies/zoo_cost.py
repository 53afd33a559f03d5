"""Print the table of costs in docs/your_model.md: other libraries' networks at published sizes.

    python studies/zoo_cost.py    # alone on the machine: about ten minutes

The cost is the time of attribute() with layers="auto", relative to one forward and one backward
pass to the same layers by plain hooks: medians of alternating runs, of one input with random
weights.
"""

import argparse
import warnings
from dataclasses import replace
from functools import partial
from importlib import import_module
from statistics import median
from time import perf_counter
from typing import Any

from _naive_maps import two_passes
from _report import print_table
from captum_3dcam import LayerwiseGlobalLocalCAM
from zoo_networks import FAMILIES, Family, installed


def _hf(name: str, suffix: str = "ForImageClassification", **options: Any) -> Any:
    return lambda hf: getattr(hf, name + suffix)(getattr(hf, f"{name}Config")(**options))


def _video(name: str) -> Any:
    return lambda tv: getattr(tv.models.video, name)()


def _tv(name: str) -> Any:
    return lambda tv: getattr(tv.models, name)()


def _timm(name: str) -> Any:
    return lambda timm: timm.create_model(name)


def _monai(name: str, **options: Any) -> Any:
    return lambda _: getattr(import_module("monai.networks.nets"), name)(**options)


def _pytorchvideo(name: str, **options: Any) -> Any:
    return lambda _: getattr(import_module(f"pytorchvideo.models.{name}"), f"create_{name}")(
        **options
    )


_IMAGE, _CLIP_112 = ((1, 3, 224, 224),), ((1, 3, 16, 112, 112),)
_LABELS = {"in_channels": 1, "out_channels": 3}

# What each library builds by default; V-JEPA 2 with 16 frames of half the size instead of 64.
PUBLISHED: dict[str, tuple[Any, tuple[tuple[int, ...], ...]]] = {
    "VideoMAE": (_hf("VideoMAE", "ForVideoClassification"), ((1, 16, 3, 224, 224),)),
    "TimeSformer": (_hf("Timesformer", "ForVideoClassification"), ((1, 8, 3, 224, 224),)),
    "ViViT": (_hf("Vivit", "ForVideoClassification", num_labels=400), ((1, 32, 3, 224, 224),)),
    "V-JEPA 2": (
        _hf("VJEPA2", "ForVideoClassification", crop_size=128, frames_per_clip=16),
        ((1, 16, 3, 128, 128),),
    ),
    "MViT": (_video("mvit_v2_s"), ((1, 3, 16, 224, 224),)),
    "Video Swin": (_video("swin3d_t"), ((1, 3, 32, 224, 224),)),
    "R(2+1)D": (_video("r2plus1d_18"), _CLIP_112),
    "S3D": (_video("s3d"), ((1, 3, 64, 224, 224),)),
    "r3d_18": (_video("r3d_18"), _CLIP_112),
    "X3D": (
        _pytorchvideo("x3d", input_clip_length=13, input_crop_size=160), ((1, 3, 13, 160, 160),),
    ),
    "SlowFast": (_pytorchvideo("slowfast"), ((1, 3, 8, 224, 224), (1, 3, 32, 224, 224))),
    "Swin UNETR": (_monai("SwinUNETR", feature_size=24, **_LABELS), ((1, 1, 96, 96, 96),)),
    "DenseNet121-3D": (_monai("DenseNet121", spatial_dims=3, **_LABELS), ((1, 1, 96, 96, 96),)),
    "SegResNet": (_monai("SegResNet", out_channels=3), ((1, 1, 96, 96, 96),)),
    "timm ViT": (_timm("vit_base_patch16_224"), _IMAGE),
    "timm DeiT": (_timm("deit_base_distilled_patch16_224"), _IMAGE),
    "timm Swin": (_timm("swin_tiny_patch4_window7_224"), _IMAGE),
    "timm ConvNeXt": (_timm("convnext_tiny"), _IMAGE),
    "timm EdgeNeXt": (_timm("edgenext_base"), _IMAGE),
    "timm ResNet": (_timm("resnet50"), _IMAGE),
    "timm EfficientNet": (_timm("efficientnet_b0"), _IMAGE),
    "torchvision ViT": (_tv("vit_b_16"), _IMAGE),
    "torchvision ConvNeXt": (_tv("convnext_tiny"), _IMAGE),
    "torchvision ResNet": (_tv("resnet50"), _IMAGE),
    "torchvision EfficientNet": (_tv("efficientnet_b0"), _IMAGE),
    "SegFormer": (_hf("Segformer", "ForSemanticSegmentation"), ((1, 3, 512, 512),)),
    "transformers ViT": (_hf("ViT"), _IMAGE),
    "transformers Swin": (_hf("Swin"), _IMAGE),
    "transformers ConvNeXt": (_hf("ConvNext"), _IMAGE),
    "transformers ResNet": (_hf("ResNet"), _IMAGE),
}  # fmt: skip


_MIN_RUNS, _MAX_SECONDS = 3, 30


def published(name: str) -> Family:
    """The family at the size that its library builds by default."""
    build, shapes = PUBLISHED[name]
    return replace(FAMILIES[name], build=build, shapes=shapes)


def row(name: str, family: Family, runs: int) -> list[str]:
    model, inputs = family.model(), family.inputs()
    cam = LayerwiseGlobalLocalCAM(model, layers="auto")
    explain = partial(cam.attribute, inputs, family.target)
    explain()
    passes = partial(two_passes, model, inputs, family, cam.layers)
    passes()
    times = [(_seconds(passes), _seconds(explain)) for _ in range(_MIN_RUNS)]
    while len(times) < runs and sum(map(sum, times)) < _MAX_SECONDS:
        times.append((_seconds(passes), _seconds(explain)))
    of_passes, of_attribute = (median(column) for column in zip(*times, strict=True))
    shapes = ", ".join("x".join(map(str, shape[1:])) for shape in family.shapes)
    cells = [name, shapes, str(len(cam.layers)), f"{of_passes * 1e3:.0f} ms"]
    return [*cells, f"{of_attribute / of_passes:.2f}"]


def _seconds(run: Any) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(PUBLISHED), choices=PUBLISHED)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = installed(options.families)
    rows = (row(name, published(name), options.runs) for name in names)
    print_table(["family", "input", "layers", "both passes", "cost"], rows)


if __name__ == "__main__":
    main()
