"""Helpers for the tests of the networks of the paper."""

import math

import torch
from torch import nn


def seeded(make, *arguments, **keywords):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*arguments, **keywords)


def shapes_of(model: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def outputs_of(model: nn.Module, names, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """The outputs of each named module in one forward pass, in the order of its calls."""
    outputs: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    modules = dict(model.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda _, __, y, name=name: outputs[name].append(y))
        for name in names
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return outputs


def shuffled_norms(module: nn.Module) -> nn.Module:
    """The module in eval mode, with random weights and statistics of batch normalisation."""
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
            for tensor in (norm.weight.data, norm.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.normal_()
    return module.eval()


def naive_norm(x: torch.Tensor, norm: nn.Module, eps: float) -> torch.Tensor:
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        centred = (x[:, c] - norm.running_mean[c]) / math.sqrt(norm.running_var[c] + eps)
        out[:, c] = centred * norm.weight[c] + norm.bias[c]
    return out
