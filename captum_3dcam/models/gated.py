"""Layer-wise gating: a classifier that decides by every depth of a network."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import get_ident
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_3dcam import functional
from captum_3dcam._capture import select_tensor
from captum_3dcam._validation import check_choice, check_integer
from captum_3dcam.layers import Layer, resolve_layers

LayerSpec = nn.Module | str | Layer


class LayerwiseGatedClassifier(nn.Module):
    """A backbone with a small classifier, a *gate*, at each of several layers; logits are fused.

    With A_k the activation of layer k, gate k gives

        z_k = FC_k(pool(relu(A_k))),

    where pool averages time from T to max(1, T // temporal_factor) and space to 1, and the fused
    logits are Σ_k z_k + the backbone's (Yudistira, Kavitha, Kurita, IJCV 2022, section 3.9). It is
    trained whole, by one cross-entropy on the fused logits. Space is the last two axes; what comes
    before them is time. An image (H, W) has none.

    The gates take their sizes from the first data that passes, or from a state dict: they are
    torch's lazy modules, so run one clip before making an optimizer. From then on clips keep
    their number of frames, but not their height and width.

    Args:
        backbone: any network that gives logits (N, num_classes).
        layers: of the backbone: modules, dotted names or :class:`~captum_3dcam.Layer`, or a list.
        num_classes: how many the backbone has.
        temporal_factor: how much shorter time gets.
        fusion: of the K gates' and the backbone's logits: "sum" (the paper's), "mean", "learned",
            a weighted sum with a trained weight each, or "concat", a trained linear layer over
            all of them. The trained ones begin as the sum.
        gate: "pool" (the paper's), or "grid": before pooling, each place is multiplied by an
            attention in [0, 1] that the place and a gating signal decide; see :class:`GridGate`.
        pool_channels: average over channels too, as the paper's text has it: a gate then sees no
            more than a number a moment.
        signal: with ``gate="grid"``, the layer of the gating signal; by default the last of
            ``layers``, which should be the deepest.
        freeze_backbone: train the gates alone; the backbone's parameters get no gradient, and it
            stays in eval mode.

    Raises:
        TypeError, ValueError: for layers that are none of the backbone's, unknown options and
            numbers out of range; when it runs, for a layer that did not run, for logits of
            another shape, and for clips of another number of frames.

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
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        check_choice("fusion", fusion, _FUSIONS)
        check_choice("gate", gate, _GATES)
        check_integer("num_classes", num_classes)
        check_integer("temporal_factor", temporal_factor)
        if signal is not None and gate != "grid":
            raise ValueError('signal is for gate="grid"; the gates of gate="pool" take none.')
        self.backbone = backbone
        self.layers = _named(layers, backbone)
        (self.signal,) = _named(signal, backbone) if signal is not None else self.layers[-1:]
        self.num_classes = num_classes
        self.gates = nn.ModuleList(
            _GATES[gate](num_classes, temporal_factor, pool_channels) for _ in self.layers
        )
        self.fuse = _FUSIONS[fusion](len(self.layers) + 1, num_classes)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            backbone.requires_grad_(False)
            backbone.eval()

    def forward(self, *inputs: Any, **kwargs: Any) -> Tensor:
        """What the backbone takes -> the fused logits (N, num_classes)."""
        logits, features, signal = self._run(inputs, kwargs)
        pairs = zip(self.gates, features, strict=True)
        fused: Tensor = self.fuse([logits, *(gate(x, signal) for gate, x in pairs)])
        return fused

    def attention_maps(self, *inputs: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """Of each layer, the grid gate's attention (N, 1, *S) at the first input's size, in [0, 1].

        Raises ValueError for gates of another kind.

        >>> backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.LazyLinear(5))
        >>> model = LayerwiseGatedClassifier(backbone, "0", num_classes=5, gate="grid")
        >>> [attention.shape for attention in model.attention_maps(torch.rand(2, 3, 9, 9))]
        [torch.Size([2, 1, 9, 9])]
        """
        gates = [gate for gate in self.gates if isinstance(gate, GridGate)]
        if not gates:
            raise ValueError('Only gates with gate="grid" have attention maps to show.')
        _, features, signal = self._run(inputs, kwargs)
        size = inputs[0].shape[2:]
        pairs = zip(gates, features, strict=True)
        return tuple(functional.upsample(gate.attention(x, signal), size) for gate, x in pairs)

    def train(self, mode: bool = True) -> "LayerwiseGatedClassifier":
        """As of any module, but a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def _run(self, inputs: Any, kwargs: Any) -> tuple[Tensor, list[Tensor], Tensor]:
        """The backbone's logits, relu(A_k) of each layer, and relu(A) of the signal."""
        with ExitStack() as stack:
            taps = [
                stack.enter_context(_tap(self.backbone, layer))
                for layer in (*self.layers, self.signal)
            ]
            logits = self.backbone(*inputs, **kwargs)
        for layer, tap in zip((*self.layers, self.signal), taps, strict=True):
            if not tap:
                raise RuntimeError(
                    f"Layer {layer.name!r} did not run in the backbone's forward pass, so its gate "
                    "has nothing to see. Choose a layer that every input passes."
                )
        if not isinstance(logits, Tensor) or logits.shape[1:] != (self.num_classes,):
            came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"The backbone should give logits (N, {self.num_classes}) to be fused with those "
                f"of the gates; it gave {came}. Pass its number of classes as num_classes."
            )
        *features, signal = (tap[-1] for tap in taps)
        return logits, features, signal


class PoolGate(nn.Module):
    """FC(pool(x)): features (N, C, *S), after their ReLU, -> logits (N, num_classes)."""

    def __init__(self, num_classes: int, temporal_factor: int, pool_channels: bool) -> None:
        super().__init__()
        self.temporal_factor = temporal_factor
        self.pool_channels = pool_channels
        self.fc = nn.LazyLinear(num_classes)

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        """Logits of features; the pooling gate needs no signal."""
        return self.classify(x)

    def classify(self, x: Tensor) -> Tensor:
        """Average over channels if asked for, over time in part, over space; then the layer."""
        if self.pool_channels:
            x = x.mean(dim=1, keepdim=True)
        shape = x.shape[2:]
        size = [max(1, length // self.temporal_factor) for length in shape[:-2]]
        size += [1] * len(shape[-2:])
        pooled = F.interpolate(x, size, mode="area").flatten(1)
        self._check_features(pooled, x)
        logits: Tensor = self.fc(pooled)
        return logits

    def _check_features(self, pooled: Tensor, x: Tensor) -> None:
        lazy = is_lazy(self.fc.weight)
        known = 0 if lazy else self.fc.weight.shape[1]
        if not lazy and pooled.shape[1] != known:
            raise ValueError(
                f"A gate was made for {known} pooled features; a layer of shape {tuple(x.shape)} "
                f"gives {pooled.shape[1]}. All clips must have the number of frames that the "
                "first one had."
            )


class GridGate(PoolGate):
    """FC(pool(a ⊙ x)) with additive attention a over the grid of places (Schlemper et al., 2019).

    a = σ(ψ · relu(W_x x + ↑ W_g g) + b), from the features x and a gating signal g of a deeper
    layer, brought to the size of x by linear interpolation (arXiv 1808.08114, eqs. 1-2). One
    number in [0, 1] for each place, all channels alike.
    """

    def __init__(self, num_classes: int, temporal_factor: int, pool_channels: bool) -> None:
        super().__init__(num_classes, temporal_factor, pool_channels)
        # A linear layer over channels is a 1x1 convolution of any rank.
        self.theta = nn.LazyLinear(_ATTENTION_CHANNELS, bias=False)
        self.phi = nn.LazyLinear(_ATTENTION_CHANNELS)
        self.psi = nn.Linear(_ATTENTION_CHANNELS, 1)

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        """Logits of features (N, C, *S) and a signal (N, C', *S')."""
        return self.classify(self.attention(x, signal) * x)

    def attention(self, x: Tensor, signal: Tensor) -> Tensor:
        """(N, C, *S) and (N, C', *S') -> (N, 1, *S), in [0, 1]."""
        gating = functional.upsample(_over_channels(self.phi, signal), x.shape[2:])
        joined = torch.relu(_over_channels(self.theta, x) + gating)
        return _over_channels(self.psi, joined).sigmoid()


_ATTENTION_CHANNELS = 32
_GATES: dict[str, type[PoolGate]] = {"pool": PoolGate, "grid": GridGate}


def _over_channels(linear: nn.Module, x: Tensor) -> Tensor:
    found: Tensor = linear(x.movedim(1, -1))
    return found.movedim(-1, 1)


# ------------------------------------------------------------------------------------- fusion


class _Sum(nn.Module):
    def __init__(self, count: int, num_classes: int) -> None:
        super().__init__()

    def forward(self, logits: list[Tensor]) -> Tensor:
        return torch.stack(logits).sum(dim=0)


class _Mean(_Sum):
    def forward(self, logits: list[Tensor]) -> Tensor:
        return torch.stack(logits).mean(dim=0)


class _Learned(nn.Module):
    def __init__(self, count: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))

    def forward(self, logits: list[Tensor]) -> Tensor:
        return torch.einsum("k,knc->nc", self.weight, torch.stack(logits))


class _Concat(nn.Module):
    def __init__(self, count: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(count * num_classes, num_classes)
        nn.init.zeros_(self.fc.bias)
        with torch.no_grad():
            self.fc.weight.copy_(torch.eye(num_classes).repeat(1, count))

    def forward(self, logits: list[Tensor]) -> Tensor:
        fused: Tensor = self.fc(torch.cat(logits, dim=1))
        return fused


_FUSIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "sum": _Sum,
    "mean": _Mean,
    "learned": _Learned,
    "concat": _Concat,
}


# --------------------------------------------------------------------------- taps and the door


@contextmanager
def _tap(backbone: nn.Module, layer: Layer) -> Iterator[list[Tensor]]:
    """A list that holds relu(A) of the layer's last run, while it is open."""
    found: list[Tensor] = []
    own_thread = get_ident()

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        # DataParallel's replicas share their hooks, each running in a thread of its own.
        if get_ident() != own_thread:
            return
        tensor = output if isinstance(output, Tensor) else select_tensor(output, layer)[1]
        tensor = tensor if layer.reshape is None else layer.reshape(tensor)
        if tensor.ndim < 3:
            raise ValueError(
                f"Layer {layer.name!r} gives shape {tuple(tensor.shape)}; a gate pools (N, C, *S). "
                "Choose a layer before the pooling, or reshape it with Layer(..., reshape=...)."
            )
        # A new tensor, which an in-place operation after the layer does not reach.
        found[:] = [torch.relu(tensor)]

    handle = backbone.get_submodule(str(layer.module)).register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def _named(layers: Any, backbone: nn.Module) -> tuple[Layer, ...]:
    """The layers by name: a name holds in copies and replicas, a module does not."""
    names = {module: name for name, module in backbone.named_modules()}
    found = []
    for layer in resolve_layers(layers, backbone):
        if layer.module not in names:
            raise ValueError(
                f"{layer.name} is no part of the backbone. Choose from its named_modules()."
            )
        name = names[layer.module]
        found.append(replace(layer, module=name, name=name))
    return tuple(found)
