"""Networks of random layers, of one to three spatial axes."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CLASSES = 4


class _Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class _Concatenated(nn.Module):
    def __init__(self, branches: Sequence[nn.Module], joint: nn.Module) -> None:
        super().__init__()
        self.branches, self.joint = nn.ModuleList(branches), joint

    def forward(self, x: Tensor) -> Tensor:
        return self.joint(torch.cat([branch(x) for branch in self.branches], dim=1))


class _SqueezeExcite(nn.Module):
    def __init__(self, squeeze: nn.Module, excite: nn.Module) -> None:
        super().__init__()
        self.squeeze, self.excite = squeeze, excite

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excite(self.squeeze(x)).sigmoid()


class _Shared(nn.Module):
    """One layer that runs twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).relu())


class _Checkpointed(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.part, x, use_reentrant=False)


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class _Network(nn.Module):
    def __init__(self, blocks: nn.Module, head: nn.Module, returns: str) -> None:
        super().__init__()
        self.blocks, self.head, self.returns = blocks, head, returns

    def forward(self, x: Tensor) -> Any:
        features = self.blocks(x)
        logits = self.head(features).flatten(1)
        if self.returns == "dict":
            return {"features": features, "logits": logits}
        return (features, logits) if self.returns == "tuple" else logits


class _Builder:
    """Draws the blocks of a network of one rank and number of channels."""

    def __init__(self, generator: random.Random, rank: int, channels: int) -> None:
        self.choose, self.rank, self.channels = generator, rank, channels
        self.halvings, self.doublings = 2, 1  # how many are left

    def named(self, name: str) -> Callable[..., nn.Module]:
        """The class of torch.nn for this rank, as ``Conv`` for Conv2d."""
        module: Callable[..., nn.Module] = getattr(nn, f"{name}{self.rank}d")
        return module

    def convolution(self) -> nn.Module:
        kernel, dilation = self.choose.choice(((1, 1), (3, 1), (3, 2)))
        groups = self.choose.choice((1, 2, self.channels))
        stride = 1
        if self.halvings and self.choose.random() < 0.3:
            self.halvings, stride = self.halvings - 1, 2
        padding = dilation * (kernel // 2)
        bias = self.choose.random() < 0.7
        return self.named("Conv")(
            self.channels, self.channels, kernel, stride, padding, dilation, groups, bias
        )

    def same(self) -> nn.Module:
        """A convolution that keeps the size."""
        return self.named("Conv")(self.channels, self.channels, 3, padding=1)

    def transposed(self) -> nn.Module:
        if not self.doublings:
            return self.activation()
        self.doublings -= 1
        return self.named("ConvTranspose")(self.channels, self.channels, 2, 2)

    def pooling(self) -> nn.Module:
        if not self.halvings:
            return self.named("MaxPool")(3, 1, 1)
        self.halvings -= 1
        return self.named(self.choose.choice(("MaxPool", "AvgPool")))(3, 2, 1)

    def norm(self) -> nn.Module:
        return self.choose.choice(
            (
                lambda: self.named("BatchNorm")(self.channels),
                lambda: nn.GroupNorm(2, self.channels),
                lambda: self.named("InstanceNorm")(self.channels, affine=True),
                lambda: _ChannelNorm(self.channels),
            )
        )()

    def activation(self) -> nn.Module:
        return self.choose.choice((nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh))()

    def activated(self) -> nn.Module:
        """An in-place ReLU follows what nothing else reads."""
        first = self.choose.choice((self.same(), self.norm()))
        return nn.Sequential(self.same(), first, nn.ReLU(inplace=True))

    def branch(self) -> nn.Module:
        return nn.Sequential(self.same(), *(self.inner() for _ in range(self.choose.randint(0, 2))))

    def inner(self) -> nn.Module:
        kinds = (self.same, self.norm, self.activation, self.activated)
        return self.choose.choice(kinds)()

    def concatenated(self) -> nn.Module:
        joint = self.named("Conv")(2 * self.channels, self.channels, 1)
        return _Concatenated([self.branch(), self.branch()], joint)

    def squeeze_excite(self) -> nn.Module:
        pool, project = self.named("AdaptiveAvgPool")(1), self.named("Conv")
        return _SqueezeExcite(pool, project(self.channels, self.channels, 1))

    def block(self) -> nn.Module:
        kinds: tuple[Callable[[], nn.Module], ...] = (
            self.convolution,
            self.convolution,
            self.transposed,
            self.pooling,
            self.norm,
            self.activation,
            self.activated,
            lambda: _Residual(self.branch()),
            self.concatenated,
            self.squeeze_excite,
            lambda: _Shared(self.same()),
            lambda: nn.Dropout(0.2),
            lambda: _Checkpointed(self.branch()),
        )
        return self.choose.choice(kinds)()

    def head(self) -> nn.Module:
        positions = self.choose.choice((1, 2))
        pool = self.named(self.choose.choice(("AdaptiveAvgPool", "AdaptiveMaxPool")))(positions)
        linear = nn.Linear(self.channels * positions**self.rank, CLASSES)
        pooled = nn.Sequential(pool, nn.Flatten(), nn.Dropout(0.1), linear)
        project = self.named("Conv")(self.channels, CLASSES, 1)
        return self.choose.choice(
            (pooled, nn.Sequential(project, self.named("AdaptiveAvgPool")(1)))
        )


def random_network(generator: random.Random, rank: int, inputs: int) -> nn.Module:
    """With random weights and running statistics; torch's generator draws them."""
    build = _Builder(generator, rank, channels=generator.choice((4, 6, 8)))
    stem = build.named("Conv")(inputs, build.channels, 3, padding=1)
    blocks = [build.block() for _ in range(generator.randint(2, 6))]
    returns = generator.choice(("tensor", "tensor", "dict", "tuple"))
    network = _Network(nn.Sequential(stem, *blocks), build.head(), returns)
    for name, tensor in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    if generator.random() < 0.5:
        network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(generator.random() < 0.7)
    return network
