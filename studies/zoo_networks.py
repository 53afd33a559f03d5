"""Small networks of timm, torchvision, transformers, MONAI and pytorchvideo, with random weights.

Each family is what its library builds, with few channels and blocks, and an input that it takes.
The libraries lie beside the environment, where ``make test`` installs them.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / ".venv" / "zoo"
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    *(f"{name}(Tensor x) -> Tensor" for name in (
        "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d",
        "_roi_align_backward", "_roi_pool_backward", "_ps_roi_align_backward",
        "_ps_roi_pool_backward", "_deform_conv2d_backward",
    )),
)  # fmt: skip


def find_libraries() -> None:
    """Make the libraries importable, torchvision also beside another build of PyTorch.

    Its compiled operators, for detection, fail to load there. They are declared without code.
    """
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    try:
        import_module("torchvision")
    except ImportError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        _LIBRARIES.append(library)
        for operator in _OPERATORS:
            library.define(operator)
        import_module("torchvision")


def installed(names: Iterable[str]) -> Iterator[str]:
    """The families among these whose library is there."""
    find_libraries()
    return (name for name in names if find_spec(FAMILIES[name].library))


_LIBRARIES: list[Any] = []  # a declaration lasts as long as its library


@dataclass(frozen=True)
class Family:
    """A kind of network as its library builds it."""

    library: str
    build: Callable[[Any], nn.Module]
    """From the library's module."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the input; of several, which the network takes in a list."""
    layers: tuple[tuple[str, str | None, tuple[int, ...]], ...]
    """What layers="auto" chooses: name, layout and grid."""
    target: int | None = None
    """A class of which the map is not zero."""
    map_size: tuple[int, ...] = ()
    """Where it is not that of the input, as of frames first."""

    def model(self, seed: int = 0) -> nn.Module:
        """In eval mode, with weights that tell positions and classes apart."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build(import_module(self.library)).eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim > 1:  # heads and tokens of zeros among them
                        parameter.add_(torch.randn_like(parameter) * 0.02)
        return model

    def inputs(self, seed: int = 0) -> Tensor | list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        tensors = [torch.rand(shape, generator=generator) for shape in self.shapes]
        return tensors if len(tensors) > 1 else tensors[0]

    @property
    def size(self) -> tuple[int, ...]:
        """Of the map."""
        return self.map_size or self.shapes[-1][2:]


# --------------------------------------------------------------------------------------- video

_CLIP = ((1, 8, 3, 32, 32),)  # (N, T, C, H, W), as Hugging Face's processors return it
_HF = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_labels": 5}
_TRANSFORMER = {"image_size": 32, "hidden_size": 32, "intermediate_size": 64, **_HF}


def _videomae(hf: Any) -> nn.Module:
    config = hf.VideoMAEConfig(patch_size=8, num_frames=8, **_TRANSFORMER)
    return hf.VideoMAEForVideoClassification(config)


def _timesformer(hf: Any) -> nn.Module:
    config = hf.TimesformerConfig(patch_size=8, num_frames=8, **_TRANSFORMER)
    return hf.TimesformerForVideoClassification(config)


def _vivit(hf: Any) -> nn.Module:
    config = hf.VivitConfig(tubelet_size=[2, 8, 8], num_frames=8, **_TRANSFORMER)
    return hf.VivitForVideoClassification(config)


def _vjepa2(hf: Any) -> nn.Module:
    config = hf.VJEPA2Config(
        crop_size=32,
        patch_size=8,
        frames_per_clip=8,
        hidden_size=48,
        mlp_ratio=2,
        pred_hidden_size=48,
        pred_num_attention_heads=4,
        pred_num_hidden_layers=1,
        num_pooler_layers=1,
        **_HF,
    )
    return hf.VJEPA2ForVideoClassification(config)


def _mvit(tv: Any) -> nn.Module:
    video = tv.models.video
    blocks = [
        video.mvit.MSBlockConfig(
            num_heads=heads,
            input_channels=inputs,
            output_channels=32,
            kernel_q=[3, 3, 3],
            kernel_kv=[3, 3, 3],
            stride_q=[1, stride, stride],
            stride_kv=[1, 2, 2],
        )
        for heads, inputs, stride in ((1, 16, 1), (2, 32, 2), (2, 32, 1))
    ]
    return video.MViT((32, 32), 8, blocks, False, False, False, False, num_classes=5)


def _video_swin(tv: Any) -> nn.Module:
    options = {"depths": [2, 2], "num_heads": [2, 4], "window_size": [2, 4, 4]}
    return tv.models.video.swin_transformer.SwinTransformer3d(
        [2, 4, 4], 12, num_classes=5, **options
    )


def _torchvision_video(name: str) -> Callable[[Any], nn.Module]:
    return lambda tv: getattr(tv.models.video, name)(num_classes=5)


def _x3d(_: Any) -> nn.Module:
    x3d = import_module("pytorchvideo.models.x3d")
    return x3d.create_x3d(input_clip_length=4, input_crop_size=64, model_num_class=5)


def _slowfast(_: Any) -> nn.Module:
    slowfast = import_module("pytorchvideo.models.slowfast")
    return slowfast.create_slowfast(
        model_num_class=5,
        slowfast_channel_reduction_ratio=(8,),
        stem_dim_outs=(16, 2),
        head_pool_kernel_sizes=((2, 2, 2), (8, 2, 2)),
    )


VIDEO = {
    "VideoMAE": Family(
        "transformers", _videomae, _CLIP,
        (("videomae.encoder.layer.1.intermediate", "N L C", (4, 4, 4)),), map_size=(8, 32, 32),
    ),
    "TimeSformer": Family(
        "transformers", _timesformer, _CLIP,
        (("timesformer.encoder.layer.1.intermediate", "N (H W T) C", (8, 4, 4)),),
        map_size=(8, 32, 32),
    ),
    "ViViT": Family(
        "transformers", _vivit, _CLIP,
        (("vivit.layers.1.mlp.activation_fn", "N L C", (4, 4, 4)),), map_size=(8, 32, 32), target=2,
    ),
    "V-JEPA 2": Family(
        "transformers", _vjepa2, _CLIP,
        (("vjepa2.encoder.layer.2.mlp.activation", "N L C", (4, 4, 4)),), map_size=(8, 32, 32),
    ),
    "MViT": Family(
        "torchvision", _mvit, ((1, 3, 8, 32, 32),),
        (("blocks.0", "N L C", (4, 8, 8)), ("blocks.1.mlp.1", "N L C", (4, 4, 4))),
    ),
    "Video Swin": Family(
        "torchvision", _video_swin, ((1, 3, 8, 64, 64),),
        (("features.0.1.mlp.1", "N T H W C", (4, 16, 16)),
         ("features.2.1.mlp.1", "N T H W C", (4, 8, 8))),
    ),
    "R(2+1)D": Family(
        "torchvision", _torchvision_video("r2plus1d_18"), ((1, 3, 8, 32, 32),),
        (("layer1", None, (8, 16, 16)), ("layer2", None, (4, 8, 8)),
         ("layer3", None, (2, 4, 4)), ("layer4.0", None, (1, 2, 2))),
    ),
    "S3D": Family(
        "torchvision", _torchvision_video("s3d"), ((1, 3, 13, 224, 224),),
        (("features.0", None, (7, 112, 112)), ("features.3", None, (7, 56, 56)),
         ("features.6", None, (7, 28, 28)), ("features.12", None, (4, 14, 14)),
         ("features.14", None, (2, 7, 7))),
    ),
    "r3d_18": Family(
        "torchvision", _torchvision_video("r3d_18"), ((1, 3, 8, 32, 32),),
        (("layer1", None, (8, 16, 16)), ("layer2", None, (4, 8, 8)),
         ("layer3", None, (2, 4, 4)), ("layer4.0", None, (1, 2, 2))),
    ),
    "X3D": Family(
        "pytorchvideo", _x3d, ((1, 3, 4, 64, 64),),
        (("blocks.0", None, (4, 32, 32)), ("blocks.1", None, (4, 16, 16)),
         ("blocks.2", None, (4, 8, 8)), ("blocks.3", None, (4, 4, 4)),
         ("blocks.4", None, (4, 2, 2))),
    ),
    "SlowFast": Family(
        "pytorchvideo", _slowfast, ((1, 3, 2, 64, 64), (1, 3, 8, 64, 64)),
        (("blocks.0.multipathway_blocks.1.activation", None, (8, 32, 32)),
         ("blocks.1", None, (2, 16, 16)), ("blocks.1", None, (8, 16, 16)),
         ("blocks.2", None, (2, 8, 8)), ("blocks.2", None, (8, 8, 8)),
         ("blocks.3", None, (2, 4, 4)), ("blocks.3", None, (8, 4, 4)),
         ("blocks.4.multipathway_blocks.0.res_blocks.1", None, (2, 2, 2)),
         ("blocks.4.multipathway_blocks.1.res_blocks.1", None, (8, 2, 2))),
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------- volumes


def _swin_unetr(monai: Any) -> nn.Module:
    options = {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)}
    return import_module("monai.networks.nets").SwinUNETR(in_channels=1, out_channels=3, **options)


def _densenet(monai: Any) -> nn.Module:
    nets = import_module("monai.networks.nets")
    return nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=3)


def _segresnet(monai: Any) -> nn.Module:
    return import_module("monai.networks.nets").SegResNet(out_channels=3)


VOLUMES = {
    "Swin UNETR": Family(
        "monai", _swin_unetr, ((1, 1, 32, 32, 64),),
        tuple((name, None, (size // 2, size // 2, size)) for name, size in (
            ("encoder1", 64), ("encoder2", 32), ("encoder3", 16), ("encoder4", 8),
            ("encoder10", 2), ("decoder5", 4), ("decoder4", 8), ("decoder3", 16),
            ("decoder2", 32), ("decoder1", 64),
        )), target=1,
    ),
    "DenseNet121-3D": Family(
        "monai", _densenet, ((1, 1, 48, 48, 48),),
        tuple((f"features.{name}", None, (size,) * 3) for name, size in (
            ("relu0", 24), ("denseblock1", 12), ("denseblock2", 6), ("denseblock3", 3),
        )),
    ),
    "SegResNet": Family(
        "monai", _segresnet, ((1, 1, 32, 32, 32),),
        tuple((name, None, (size,) * 3) for name, size in (
            ("down_layers.0", 32), ("down_layers.1", 16), ("down_layers.2", 8),
            ("down_layers.3", 4), ("up_layers.0", 8), ("up_layers.1", 16), ("up_layers.2", 32),
        )), target=1,
    ),
}  # fmt: skip


# -------------------------------------------------------------------------------------- images

_IMAGE = ((1, 3, 64, 64),)


def _timm(name: str, **options: Any) -> Callable[[Any], nn.Module]:
    return lambda timm: timm.create_model(name, num_classes=5, **options)


def _torchvision(name: str) -> Callable[[Any], nn.Module]:
    return lambda tv: getattr(tv.models, name)(num_classes=5)


def _hf(
    name: str, suffix: str = "ForImageClassification", **options: Any
) -> Callable[..., nn.Module]:
    def build(hf: Any) -> nn.Module:
        config = getattr(hf, f"{name}Config")(num_labels=5, **options)
        return getattr(hf, name + suffix)(config)

    return build


_SMALL_VIT = {"img_size": 64, "depth": 3, "embed_dim": 48}
_SWIN = {
    "img_size": 64,
    "window_size": 4,
    "embed_dim": 24,
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 2, 2),
}
_HF_VIT = {**_TRANSFORMER, "image_size": 64, "patch_size": 16}
del _HF_VIT["num_labels"]
_HF_SWIN = {
    "image_size": 64,
    "embed_dim": 16,
    "depths": [1, 1, 2],
    "num_heads": [1, 2, 4],
    "window_size": 4,
}
_STAGES = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]}
_SEGFORMER = {
    **_STAGES,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 16,
}


def _stages(names: dict[str, int], layout: str | None = None) -> tuple[Any, ...]:
    return tuple((name, layout, (size, size)) for name, size in names.items())


_RESNET18 = _stages({"layer1": 16, "layer2": 8, "layer3": 4, "layer4.0": 2})
IMAGES = {
    "timm ViT": Family(
        "timm", _timm("vit_tiny_patch16_224", **_SMALL_VIT), _IMAGE,
        _stages({"blocks.1.mlp.act": 4}, "N L C"),
    ),
    "timm DeiT": Family(
        "timm", _timm("deit_tiny_distilled_patch16_224", **_SMALL_VIT), _IMAGE,
        _stages({"blocks.1.mlp.act": 4}, "N L C"), target=3,
    ),
    "timm Swin": Family(
        "timm", _timm("swin_tiny_patch4_window7_224", **_SWIN), _IMAGE,
        _stages({"layers.0": 16, "layers.1": 8, "layers.2": 4}, "N H W C")
        + _stages({"layers.3.blocks.0.mlp.act": 2}, "N L C"),
    ),
    "timm ConvNeXt": Family(
        "timm", _timm("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)), _IMAGE,
        _stages({"stages.0.blocks.0.mlp.act": 16, "stages.1.blocks.0.mlp.act": 8,
                 "stages.2.blocks.1.mlp.act": 4}),
    ),
    "timm EdgeNeXt": Family(
        "timm", _timm("edgenext_xx_small"), _IMAGE,
        _stages({"stages.0.blocks.1.mlp.act": 16, "stages.1.blocks.1.mlp.act": 8,
                 "stages.2.blocks.5.mlp.act": 4}, "N H W C"),
    ),
    "timm ResNet": Family(
        "timm", _timm("resnet18"), _IMAGE, (*_stages({"act1": 32}), *_RESNET18),
    ),
    "timm EfficientNet": Family(
        "timm", _timm("efficientnet_b0"), _IMAGE,
        _stages({"blocks.0": 32, "blocks.1": 16, "blocks.2": 8, "blocks.4": 4, "blocks.5": 2}),
    ),
    "torchvision ViT": Family(
        "torchvision", lambda tv: tv.models.VisionTransformer(64, 16, 3, 4, 48, 96, num_classes=5),
        _IMAGE, _stages({"encoder.layers.encoder_layer_1.mlp.1": 4}, "N L C"),
    ),
    "torchvision ConvNeXt": Family(
        "torchvision", _torchvision("convnext_tiny"), _IMAGE,
        _stages({"features.1.2.block.4": 16, "features.3.2.block.4": 8,
                 "features.5.8.block.4": 4, "features.7.1.block.4": 2}, "N H W C"),
    ),
    "torchvision ResNet": Family(
        "torchvision", _torchvision("resnet18"), _IMAGE, (*_stages({"relu": 32}), *_RESNET18),
    ),
    "torchvision EfficientNet": Family(
        "torchvision", _torchvision("efficientnet_b0"), _IMAGE,
        _stages({"features.1": 32, "features.2": 16, "features.3": 8, "features.5": 4,
                 "features.6": 2}),
    ),
    "SegFormer": Family(
        "transformers", _hf("Segformer", "ForSemanticSegmentation", **_SEGFORMER), _IMAGE,
        _stages({f"segformer.stages.{i}.blocks.0.mlp.activation_fn": 16 >> i for i in range(4)},
                "N L C") + _stages({"decode_head.activation": 16}), target=1,
    ),
    "transformers ViT": Family(
        "transformers", _hf("ViT", **_HF_VIT), _IMAGE,
        _stages({"vit.layers.1.mlp.activation_fn": 4}, "N L C"),
    ),
    "transformers Swin": Family(
        "transformers",
        _hf("Swin", **_HF_SWIN), _IMAGE,
        _stages({"swin.encoder.layers.0.blocks.0.mlp.activation_fn": 16,
                 "swin.encoder.layers.1.blocks.0.mlp.activation_fn": 8,
                 "swin.encoder.layers.2.blocks.1.mlp.activation_fn": 4}, "N L C"),
    ),
    "transformers ConvNeXt": Family(
        "transformers", _hf("ConvNext", **_STAGES), _IMAGE,
        _stages({"convnext.encoder.stages.0.layers.0.act": 16,
                 "convnext.encoder.stages.1.layers.0.act": 8,
                 "convnext.encoder.stages.2.layers.1.act": 4}, "N H W C"),
    ),
    "transformers ResNet": Family(
        "transformers", _hf("ResNet", embedding_size=8, layer_type="basic", **_STAGES), _IMAGE,
        _stages({"resnet.embedder.embedder": 32, "resnet.encoder.stages.0": 16,
                 "resnet.encoder.stages.1": 8, "resnet.encoder.stages.2": 4,
                 "resnet.encoder.stages.3.layers.0.layer.0": 2}),
    ),
}  # fmt: skip

FAMILIES = {**VIDEO, **VOLUMES, **IMAGES}
