"""Small networks of any rank, and the naive re-derivation that they are held against."""

import threading
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="DataParallel would use the GPUs")
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv_net(
    rank: int,
    depth: int = 2,
    channels: int = 3,
    inputs: int = 2,
    classes: int = 4,
    inplace: bool = False,
    norm: bool = False,
    seed: int = 0,
) -> nn.Sequential:
    """``depth`` blocks of convolution and ReLU, then a linear head over a 2^rank grid."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = []
        for level in range(depth):
            width = inputs if level == 0 else channels
            # A stride in the second block only, so that the layers differ in size.
            parts = [CONV[rank](width, channels, 3, padding=1, stride=2 if level == 1 else 1)]
            parts += [NORM[rank](channels)] if norm else []
            blocks.append(nn.Sequential(*parts, nn.ReLU(inplace=inplace)))
        head = nn.Linear(channels * 2**rank, classes)
        return nn.Sequential(*blocks, POOL[rank](2), nn.Flatten(), head).eval()


def random_input(batch: int, size: tuple[int, ...], channels: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *size, generator=generator)


class FramesFirst(nn.Module):
    """A network of clips (N, C, T, H, W) that takes (N, T, C, H, W)."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, frames):
        return self.net(frames.transpose(1, 2))


class FramesInALoop(nn.Module):
    """A 2D network on each frame of (N, C, T, H, W), then an LSTM over the frames."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU()
        )
        self.tail = nn.Sequential(nn.Conv2d(5, 5, 3, padding=1), nn.Tanh())
        self.rnn, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, clip):
        features = [self.tail(self.cnn(frame)).mean((2, 3)) for frame in clip.unbind(2)]
        return self.head(self.rnn(torch.stack(features, dim=1))[0][:, -1])


class Pyramid(nn.Module):
    """A head that three feature levels of different sizes share; some levels may be detached."""

    def __init__(self, detached=()):
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Conv2d(2 if level == 0 else 4, 4, 3, stride=2, padding=1) for level in range(3)
        )
        self.head = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.ReLU())
        self.scores = nn.Sequential(nn.Conv2d(5, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 3, 1))
        self.detached = detached

    def forward(self, x):
        scores = []
        for number, level in enumerate(self.levels):
            x = level(x).relu()
            features = self.head(x)
            features = features.detach() if number in self.detached else features
            scores.append(self.scores(features).flatten(2).amax(2))
        return torch.stack(scores).mean(0)


class Threaded(nn.DataParallel):
    """Does on the CPU what DataParallel does on GPUs: the module in a thread, in the grad mode
    of the caller, and the output put together in the caller's thread."""

    def forward(self, x):
        outputs, mode = [], torch.is_grad_enabled()

        def worker():
            with torch.set_grad_enabled(mode):
                outputs.append(self.module(x))

        thread = threading.Thread(target=worker)
        thread.start()
        thread.join()
        return torch.cat(outputs)


# ------------------------------------------------------------------- the naive re-derivation


def naive_pairs(net: nn.Sequential, x: Tensor, layers: list[int], targets: list[int]):
    """Activations and gradients, by running the Sequential by hand and calling backward()."""
    kept = []
    y = x
    for position, module in enumerate(net):
        y = module(y)
        if position in layers:
            y = y.detach().clone().requires_grad_() if not kept else y
            y.retain_grad()
            kept.append(y)
            y = y * 1  # so that an in-place operation does not touch what is kept
    sum(y[i, target] for i, target in enumerate(targets)).backward()
    for parameter in net.parameters():
        parameter.grad = None
    return [(t.detach().numpy(), t.grad.numpy()) for t in kept]


def calls_by_hand(model, module, *inputs, target, layer_input=False):
    """Activation and gradient of each call of a module, with a hook and gradients everywhere."""
    tensors = []

    def keep(module, args, output):
        tensors.append(args[0] if layer_input else output)

    with module.register_forward_hook(keep):
        score = model(*inputs)[:, target].sum()
    gradients = torch.autograd.grad(score, tensors, allow_unused=True)
    return [
        (tensor.detach(), torch.zeros_like(tensor) if gradient is None else gradient)
        for tensor, gradient in zip(tensors, gradients, strict=True)
    ]


def naive_channel_sum(x: np.ndarray) -> np.ndarray:
    total = np.zeros((x.shape[0], *x.shape[2:]))
    for sample, channel in product(range(x.shape[0]), range(x.shape[1])):
        total[sample] += x[sample, channel]
    return total


def naive_linear(x: np.ndarray, size: tuple[int, ...], align_corners: bool = False) -> np.ndarray:
    """Linear interpolation of one sample's map, axis by axis, from its definition."""
    for axis, new in enumerate(size):
        old = x.shape[axis]
        rows = []
        for i in range(new):
            if align_corners:
                position = i * (old - 1) / (new - 1) if new > 1 else 0.0
            else:
                position = max((i + 0.5) * old / new - 0.5, 0.0)
            low = min(int(np.floor(position)), old - 1)
            high = min(low + 1, old - 1)
            weight = position - low
            rows.append((1 - weight) * x.take(low, axis) + weight * x.take(high, axis))
        x = np.stack(rows, axis=axis)
    return x


def naive_normalize(x: np.ndarray) -> np.ndarray:
    """One sample's map: eq. 2, with zero where the maximum is not positive."""
    peak = max(x.ravel())
    return np.array([max(v, 0.0) / peak if peak > 0 else 0.0 for v in x.ravel()]).reshape(x.shape)


def naive_layer_map(
    activation: np.ndarray,
    gradient: np.ndarray,
    size: tuple[int, ...],
    sign: int = 1,
    align_corners: bool = False,
) -> np.ndarray:
    """Eqs. 1-5 and 7: (N, C, *S_k) twice -> (N, 1, *size)."""
    alpha, beta = naive_channel_sum(activation), sign * naive_channel_sum(gradient)
    maps = [
        naive_normalize(naive_linear(b, size, align_corners))
        * naive_normalize(naive_linear(a, size, align_corners))
        for a, b in zip(alpha, beta, strict=True)
    ]
    return np.stack(maps)[:, None]


def naive_what_where(
    pairs: list[tuple[np.ndarray, np.ndarray]], size: tuple[int, ...], of_energy=lambda r: r
) -> np.ndarray:
    """What x where of one sample: [(C, *S_k) activation and gradient] -> (*size).

    ``of_energy`` is what of R the energy is of: all of it, or its positive part.
    """
    nets, energies = naive_effects(pairs, of_energy)
    what = sum(naive_normalize(net) for net in naive_pooled(nets, size)) / len(nets)
    return what * naive_where(energies, size)


def naive_effects(pairs, of_energy):
    """Of each layer Σ_c R_c, and the energy of R averaged over neighbours."""
    nets, energies = [], []
    for activation, gradient in pairs:
        axes = tuple(range(1, activation.ndim))
        removed = gradient * (activation - activation.mean(axis=axes, keepdims=True))
        nets.append(removed.sum(axis=0))
        energies.append(naive_local_mean((of_energy(removed) ** 2).sum(axis=0)))
    return nets, energies


def naive_pooled(nets, size):
    """Each on the coarsest grid of all, upsampled."""
    grid = [
        min([n for n in axis if n > 1], default=1)
        for axis in zip(*(x.shape for x in nets), strict=True)
    ]
    return [naive_linear(naive_area(net, grid), size) for net in nets]


def naive_where(energies, size):
    """The geometric mean over the layers that have any energy; zero without one."""
    where = [naive_normalize(naive_linear(x, size)) for x in energies]
    where = [x for x in where if x.max() > 0]
    return np.prod([x ** (1 / len(where)) for x in where], axis=0) if where else np.zeros(size)


def positive(x):
    return np.maximum(x, 0)


def naive_local_mean(x: np.ndarray) -> np.ndarray:
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        around = tuple(slice(max(i - 1, 0), i + 2) for i in place)
        found[place] = x[around].mean()
    return found


def naive_area(x: np.ndarray, size: list[int]) -> np.ndarray:
    """The mean over each cell's places, those that it has in part included."""
    found = np.zeros(size)
    for cell in np.ndindex(*size):
        part = tuple(
            slice(i * old // new, -(-(i + 1) * old // new))
            for i, old, new in zip(cell, x.shape, size, strict=True)
        )
        found[cell] = x[part].mean()
    return found


def allocating(mib: int):
    """Two runs, of which the second takes so much memory: for a process that imports this file."""
    return int, partial(torch.ones, mib, 2**18)
