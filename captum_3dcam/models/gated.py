"""Layer-wise gating: a classifier whose logits depend on several layers of a network."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import get_ident
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_3dcam import functional
from captum_3dcam._capture.layer_output import select_tensor
from captum_3dcam._validation import check_choice, check_integer, describe
from captum_3dcam.layers import Layer, resolve_layers

LayerSpec = nn.Module | str | Layer
_ATTENTION_CHANNELS = 32
_FUSIONS = ("sum", "mean", "learned", "concat")


class LayerwiseGatedClassifier(nn.Module):
    """A backbone with a small classifier, a *gate*, at each of several layers.

    With the activation A_k of layer k, gate k computes

        z_k = FC_k(pool(relu(A_k))),

    where pool averages time from T to max(1, T // temporal_factor) and space to 1. The fused logits
    are Σ_k z_k + the backbone's logits (Yudistira, Kavitha, Kurita, IJCV 2022, section 3.9). All
    parts are trained together with one cross-entropy loss on the fused logits. The last two axes
    are space, the ones before are time; images (H, W) have no time.

    The gates are torch's lazy modules: run one clip, or load a state dict, before you create an
    optimizer. After that, clips may change in height and width, but not in the number of frames.

    Args:
        backbone: a network whose output is logits (N, num_classes).
        layers: of the backbone: modules, dotted names or :class:`~captum_3dcam.Layer`, or a list.
        num_classes: number of classes of the backbone.
        temporal_factor: divisor of the number of time steps in the pooling.
        fusion: how to combine the logits of the K gates and the backbone: "sum" (the paper),
            "mean", "learned" (a weighted sum with trained weights) or "concat" (a trained linear
            layer over all of them). The trained ones are initialised to the sum.
        gate: "pool" (the paper), or "grid": before the pooling, each position is multiplied by an
            attention in [0, 1], computed from the activation and a gating signal. With W_x, W_g and
            ψ linear layers over channels and ↑ linear interpolation, it is
            σ(ψ · relu(W_x x + ↑ W_g g)) (Schlemper et al., 2019, arXiv 1808.08114, eqs. 1-2).
        pool_channels: also average over channels, as the paper's text says; a gate then sees one
            number per time step.
        signal: the layer of the gating signal g for ``gate="grid"``; by default the last of
            ``layers``, which should be the deepest.

    Raises TypeError or ValueError for layers that are not in the backbone and for invalid options.

    >>> features = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Conv3d(4, 8, 3, stride=2))
    >>> backbone = nn.Sequential(*features, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> model = LayerwiseGatedClassifier(backbone, ["1", "2"], num_classes=5)
    >>> model(torch.rand(2, 3, 10, 12, 12)).shape  # time 8 -> 4 and 3 -> 1
    torch.Size([2, 5])
    >>> [gate.fc.in_features for gate in model.gates]
    [16, 8]
    """

    def __init__(
        self,
        backbone: nn.Module,
        layers: LayerSpec | Sequence[LayerSpec],
        num_classes: int,
        temporal_factor: int = 2,
        *,
        fusion: str = "sum",
        gate: str = "pool",
        pool_channels: bool = False,
        signal: LayerSpec | None = None,
    ) -> None:
        super().__init__()
        check_choice("fusion", fusion, _FUSIONS)
        check_choice("gate", gate, _GATES)
        check_integer("num_classes", num_classes)
        check_integer("temporal_factor", temporal_factor)
        if signal is not None and gate != "grid":
            raise ValueError(f'signal needs gate="grid"; got gate={gate!r}.')
        self.backbone = backbone
        self.backbone_is_frozen = False
        self.layers = _by_name(layers, backbone)
        (self.signal,) = self.layers[-1:] if signal is None else _by_name(signal, backbone)
        self.num_classes = num_classes
        self.gates = nn.ModuleList(
            _GATES[gate](num_classes, temporal_factor, pool_channels) for _ in self.layers
        )
        self.fuse = _Fusion(fusion, len(self.layers) + 1, num_classes)

    def forward(self, *inputs: Any, **kwargs: Any) -> Tensor:
        """Compute the fused logits (N, num_classes) from the backbone's inputs."""
        logits, features, signal = self._run(inputs, kwargs)
        pairs = zip(self.gates, features, strict=True)
        fused: Tensor = self.fuse(torch.stack([logits, *(gate(x, signal) for gate, x in pairs)]))
        return fused

    def attention_maps(self, *inputs: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """Compute the attention of each grid gate, (N, 1, *S) in [0, 1], at the input's size.

        Raises ValueError for other gates.

        >>> backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.LazyLinear(5))
        >>> model = LayerwiseGatedClassifier(backbone, "0", num_classes=5, gate="grid")
        >>> [attention.shape for attention in model.attention_maps(torch.rand(2, 3, 9, 9))]
        [torch.Size([2, 1, 9, 9])]
        """
        gates = [gate for gate in self.gates if isinstance(gate, _GridGate)]
        if not gates:
            raise ValueError('Only gate="grid" has attention maps.')
        _, features, signal = self._run(inputs, kwargs)
        size = inputs[0].shape[2:]
        pairs = zip(gates, features, strict=True)
        return tuple(functional.upsample(gate.attention(x, signal), size) for gate, x in pairs)

    def freeze_backbone(self) -> "LayerwiseGatedClassifier":
        """Train only the gates and the fusion; the backbone stays in eval mode. Returns self."""
        self.backbone_is_frozen = True
        self.backbone.requires_grad_(False).eval()
        return self

    def train(self, mode: bool = True) -> "LayerwiseGatedClassifier":
        """Set the mode of all parts except a frozen backbone."""
        super().train(mode)
        if self.backbone_is_frozen:
            self.backbone.eval()
        return self

    def _run(self, inputs: Any, kwargs: Any) -> tuple[Tensor, list[Tensor], Tensor]:
        """Return the backbone's logits, relu(A_k) of each layer, and relu(A) of the signal."""
        layers = (*self.layers, self.signal)
        batch_size = next(len(x) for x in (*inputs, *kwargs.values()) if isinstance(x, Tensor))
        with ExitStack() as stack:
            recorded = [
                stack.enter_context(_record(self.backbone, layer, batch_size)) for layer in layers
            ]
            logits = self.backbone(*inputs, **kwargs)
        for layer, tensors in zip(layers, recorded, strict=True):
            if not tensors:
                raise RuntimeError(
                    f"Layer {layer.name!r} did not run in the backbone's forward pass, so its gate "
                    "has no input. Choose a layer that runs for every input."
                )
        if not isinstance(logits, Tensor) or logits.shape[1:] != (self.num_classes,):
            raise ValueError(
                f"Expected logits (N, {self.num_classes}) from the backbone; received "
                f"{describe(logits)}. Pass its number of classes as num_classes."
            )
        *features, signal = (tensors[-1] for tensors in recorded)
        return logits, features, signal


class _PoolGate(nn.Module):
    """FC(pool(x)): features (N, C, *S) -> logits (N, num_classes)."""

    def __init__(self, num_classes: int, temporal_factor: int, pool_channels: bool) -> None:
        super().__init__()
        self.temporal_factor = temporal_factor
        self.pool_channels = pool_channels
        self.fc = nn.LazyLinear(num_classes)

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        if self.pool_channels:
            x = x.mean(dim=1, keepdim=True)
        time, space = x.shape[2:-2], x.shape[2:][-2:]
        size = [max(1, length // self.temporal_factor) for length in time] + [1] * len(space)
        pooled = F.interpolate(x, size, mode="area").flatten(1)
        weight: Tensor = self.fc.weight
        if not is_lazy(weight) and pooled.shape[1] != weight.shape[1]:
            raise ValueError(
                f"The gate was initialised for {weight.shape[1]} pooled features; a layer of shape "
                f"{tuple(x.shape)} gives {pooled.shape[1]}. All clips need the same number of "
                "frames."
            )
        logits: Tensor = self.fc(pooled)
        return logits


class _GridGate(_PoolGate):
    """FC(pool(a ⊙ x)) with the attention a of the gating signal, one value per position."""

    def __init__(self, num_classes: int, temporal_factor: int, pool_channels: bool) -> None:
        super().__init__(num_classes, temporal_factor, pool_channels)
        # A linear layer over channels is a 1x1 convolution of any rank.
        self.theta = nn.LazyLinear(_ATTENTION_CHANNELS, bias=False)
        self.phi = nn.LazyLinear(_ATTENTION_CHANNELS)
        self.psi = nn.Linear(_ATTENTION_CHANNELS, 1)

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        return super().forward(self.attention(x, signal) * x, signal)

    def attention(self, x: Tensor, signal: Tensor) -> Tensor:
        """Compute (N, 1, *S) in [0, 1] from features (N, C, *S) and a signal (N, C', *S')."""
        gating = functional.upsample(_over_channels(self.phi, signal), x.shape[2:])
        joined = torch.relu(_over_channels(self.theta, x) + gating)
        return _over_channels(self.psi, joined).sigmoid()


_GATES: dict[str, type[_PoolGate]] = {"pool": _PoolGate, "grid": _GridGate}


def _over_channels(linear: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = linear(x.movedim(1, -1))
    return out.movedim(-1, 1)


class _Fusion(nn.Module):
    """Combine the logits of several parts, (K, N, num_classes) -> (N, num_classes)."""

    def __init__(self, kind: str, parts: int, num_classes: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "learned":
            self.weight = nn.Parameter(torch.ones(parts))
        elif kind == "concat":
            self.fc = nn.Linear(parts * num_classes, num_classes)
            nn.init.zeros_(self.fc.bias)
            with torch.no_grad():
                self.fc.weight.copy_(torch.eye(num_classes).repeat(1, parts))

    def forward(self, logits: Tensor) -> Tensor:
        if self.kind == "learned":
            return torch.einsum("k,knc->nc", self.weight, logits)
        if self.kind == "concat":
            return F.linear(logits.movedim(0, 1).flatten(1), self.fc.weight, self.fc.bias)
        return logits.mean(dim=0) if self.kind == "mean" else logits.sum(dim=0)


@contextmanager
def _record(backbone: nn.Module, layer: Layer, batch_size: int) -> Iterator[list[Tensor]]:
    """Yield a list that will hold relu(A) of the layer's last call."""
    recorded: list[Tensor] = []
    own_thread = get_ident()

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        # The replicas of DataParallel share their hooks, and each runs in its own thread.
        if get_ident() != own_thread:
            return
        tensor = output if isinstance(output, Tensor) else select_tensor(output, layer)[1]
        tensor = layer.arrangement(batch_size)(tensor)
        if tensor.ndim < 3:
            raise ValueError(
                f"Layer {layer.name!r} gives shape {tuple(tensor.shape)}; a gate pools (N, C, *S). "
                "Choose a layer before the pooling, or pass Layer(..., layout=...) or reshape=."
            )
        # relu makes a new tensor, which an in-place operation after the layer does not change.
        recorded[:] = [torch.relu(tensor)]

    handle = backbone.get_submodule(str(layer.module)).register_forward_hook(hook)
    try:
        yield recorded
    finally:
        handle.remove()


def _by_name(layers: Any, backbone: nn.Module) -> tuple[Layer, ...]:
    """Return the layers with dotted names, which remain valid in copies and replicas."""
    names = {module: name for name, module in backbone.named_modules()}
    named = []
    for layer in resolve_layers(layers, backbone):
        if layer.module not in names:
            raise ValueError(
                f"{layer.name} is not part of the backbone. Choose from its named_modules()."
            )
        name = names[layer.module]
        named.append(replace(layer, module=name, name=name))
    return tuple(named)
