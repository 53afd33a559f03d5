"""Shapley-CAM against the whole Hessian, and LeGrad against autograd."""

import pytest
import torch
from networks import CONV, POOL, conv_net, random_input
from torch import nn

from captum_3dcam import (
    Layer,
    LayerwiseGradCAM,
    LayerwiseLeGrad,
    LayerwiseShapleyCAM,
    attention_to_grid,
    functional,
)
from captum_3dcam._joint_cam import JointCAM

SIZES = {1: (6,), 2: (4, 5), 3: (2, 3, 4)}


def curved_net(rank, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            CONV[rank](2, 3, 3, padding=1),
            nn.GELU(),
            CONV[rank](3, 4, 3, padding=1),
            nn.Tanh(),
            POOL[rank](1),
            nn.Flatten(),
            nn.Linear(4, 3),
            nn.Softmax(dim=1),
        ).eval()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_shapley_cam_takes_half_the_hessian_off(rank):
    net, x = curved_net(rank), random_input(1, SIZES[rank])
    activation = net[:2](x).detach()

    def score(features):
        return net[2:](features.reshape(activation.shape))[0, 1]

    flat = activation.flatten()
    gradient = torch.autograd.functional.jacobian(score, flat)
    hessian = torch.autograd.functional.hessian(score, flat)
    weights = (gradient - hessian @ flat / 2).reshape(activation.shape)
    means = weights.mean(dim=tuple(range(2, rank + 2)), keepdim=True)
    raw = (means * activation).sum(dim=1, keepdim=True).relu()
    expected = functional.layer_map((raw,), SIZES[rank])
    found = LayerwiseShapleyCAM(net, "1").attribute(x, target=1)
    torch.testing.assert_close(found, expected)
    plain = LayerwiseGradCAM(net, "1").attribute(x, target=1)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_of_a_piecewise_linear_network_it_is_grad_cam():
    net, x = conv_net(2, depth=3), random_input(3, (9, 8))
    for layers in ("0", ["0", "1", "2"]):
        found = LayerwiseShapleyCAM(net, layers).attribute(x)
        torch.testing.assert_close(found, LayerwiseGradCAM(net, layers).attribute(x))
        assert not found.requires_grad


def test_several_layers_targets_and_methods():
    net, x = curved_net(2), random_input(2, (4, 5))
    cam = LayerwiseShapleyCAM(net, ["1", "3"])
    maps = cam.attribute_classes(x, [0, 2])
    for k, target in enumerate([0, 2]):
        torch.testing.assert_close(maps[:, [k]], cam.attribute(x, target=target))
    for sample in range(2):
        alone = cam.attribute(x[sample : sample + 1], target=2)
        torch.testing.assert_close(maps[sample : sample + 1, [1]], alone)
    joint = JointCAM([LayerwiseGradCAM(net, ["1", "3"]), LayerwiseShapleyCAM(net, ["1", "3"])])
    together, _ = joint.explain(x, lambda output: [0, 2])
    torch.testing.assert_close(together[:, :, 1], maps)
    grad_cam = LayerwiseGradCAM(net, ["1", "3"]).attribute_classes(x, [0, 2])
    torch.testing.assert_close(together[:, :, 0], grad_cam)


def test_nothing_of_the_model_changes():
    net, x = curved_net(3), random_input(1, SIZES[3])
    LayerwiseShapleyCAM(net, ["1", "3"]).attribute(x)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


class Attention(nn.Module):
    """A block of attention over patches, its weights the output of a module."""

    def __init__(self, dim=8, heads=2):
        super().__init__()
        self.heads, self.qkv, self.drop = heads, nn.Linear(dim, 3 * dim), nn.Dropout(0.0)

    def forward(self, x):
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=2)
        )
        weights = self.drop((q @ k.mT).softmax(dim=-1))
        return x + (weights @ v).transpose(1, 2).flatten(2), weights


class Transformer(nn.Module):
    """Two blocks over the patches of a video, after a class token."""

    def __init__(self, rank=3):
        super().__init__()
        self.embed = CONV[rank](2, 8, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList([Attention(), Attention()])
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x, _ = block(x)
        return self.head(x[:, 0])


def naive_le_grad(model, x, target, grid):
    kept = []
    handles = [
        block.drop.register_forward_hook(lambda module, args, output: kept.append(output))
        for block in model.blocks
    ]
    score = model(x)[:, target].sum()
    for handle in handles:
        handle.remove()
    total = 0
    for gradient in torch.autograd.grad(score, kept):
        coarse = gradient.relu().mean(dim=(1, 2))[:, 1:].reshape(len(x), 1, *grid)
        total = total + functional.layer_map((coarse,), x.shape[2:])
    return total


@pytest.mark.parametrize("place", ["drop", "block"])
def test_le_grad_reads_attention_weights(place):
    torch.manual_seed(0)
    model, x = Transformer().eval(), random_input(2, (4, 4, 6))
    reshape = attention_to_grid((2, 2, 3), prefix_tokens=1)
    if place == "drop":
        layers = [Layer(f"blocks.{number}.drop", reshape) for number in range(2)]
    else:  # returned beside the tokens that were computed with them
        layers = [Layer(f"blocks.{number}", reshape, index=1) for number in range(2)]
    found = LayerwiseLeGrad(model, layers).attribute(x, target=1)
    torch.testing.assert_close(found, naive_le_grad(model, x, 1, (2, 2, 3)))


@pytest.mark.parametrize("layers", ["1", Layer("1", layout="N C H W"), "auto"])
def test_le_grad_of_other_layers_is_refused(layers):
    net, x = conv_net(2), random_input(1, (8, 8))
    with pytest.raises(ValueError, match=r"explains attention weights .*attention_to_grid"):
        LayerwiseLeGrad(net, layers).attribute(x)


def test_attention_of_another_shape():
    with pytest.raises(ValueError, match=r"expects attention weights .* received \(2, 3, 4\)"):
        attention_to_grid((2, 2))(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"expects tokens of shape \(N, 5, C\)"):
        attention_to_grid((2, 2), prefix_tokens=1)(torch.zeros(2, 3, 4, 4))
