"""FullGrad: its biases complete the score, and its map is a loop over layers and channels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import FramesFirst, conv_net, random_input
from torch import nn

from captum_3dcam import FullGradCAM, Layer
from captum_3dcam.attribution.full_gradient import _bias_of

SIZES = {1: (12,), 2: (9, 8), 3: (4, 8, 7)}
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def trained_norm(net, seed=0):
    """Statistics and weights of batch normalisation as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return net


def gradients(net, x, target):
    """The score, the gradient of the input, and of each layer with a bias, with its bias."""
    kept = {}
    x = x.clone().requires_grad_()
    biased = [m for m in net if not isinstance(m, (nn.ReLU, nn.Flatten, nn.Linear))]
    modules = [m for block in biased for m in (block if isinstance(block, nn.Sequential) else [])]
    modules = [m for m in modules if getattr(m, "bias", None) is not None]
    handles = [
        m.register_forward_hook(lambda module, args, output: kept.__setitem__(module, output))
        for m in modules
    ]
    score = net(x)[:, target].sum()
    for handle in handles:
        handle.remove()
    of_input, *of_layers = torch.autograd.grad(score, [x, *(kept[m] for m in modules)])
    return score, x.detach(), of_input, list(zip(modules, of_layers, strict=True))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_biases_and_the_input_make_up_the_score(rank, norm):
    net = trained_norm(conv_net(rank, norm=norm))
    x = random_input(1, SIZES[rank])
    score, own, of_input, of_layers = gradients(net, x, 1)
    parts = (of_input * own).sum() + net[-1].bias[1]
    for module, gradient in of_layers:
        shape = (1, -1, *[1] * rank)
        parts = parts + (_bias_of(module).reshape(shape) * gradient).sum()
    assert parts.item() == pytest.approx(score.item(), abs=1e-4)


def scaled(channel):
    channel = channel - channel.min()
    return channel / channel.max() if channel.max() > 0 else channel


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_agrees_with_a_loop_over_layers_and_channels(rank):
    net = trained_norm(conv_net(rank, norm=True))
    x = random_input(2, SIZES[rank])
    _, own, of_input, of_layers = gradients(net, x, 1)
    effects = [of_input * own]
    effects += [_bias_of(m).reshape(1, -1, *[1] * rank) * gradient for m, gradient in of_layers]
    total = np.zeros((2, *SIZES[rank]))
    for effect in effects:
        for sample, channels in enumerate(effect.abs().detach()):
            coarse = sum(scaled(channel) for channel in channels)
            fine = F.interpolate(coarse[None, None], SIZES[rank], mode=MODES[rank])
            total[sample] += fine[0, 0].numpy()
    expected = total / total.reshape(2, -1).max(axis=1).reshape(2, *[1] * rank)
    found = FullGradCAM(net).attribute(x, target=1)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)
    assert not found.requires_grad


def test_classes_layers_and_layer_maps():
    net, x = trained_norm(conv_net(2, norm=True)), random_input(2, (8, 8))
    cam = FullGradCAM(net)
    assert [layer.name for layer in cam.layers] == ["the input", "0.0", "0.1", "1.0", "1.1"]
    maps = cam.attribute_classes(x, [0, 3])
    torch.testing.assert_close(maps[:, [1]], cam.attribute(x, target=3))
    per_layer = FullGradCAM(net, ["0.0", "1.1"]).attribute(x, target=0, per_layer=True)
    assert len(per_layer) == 3
    assert all(m.shape == (2, 1, 8, 8) for m in per_layer)


def test_a_convolution_that_runs_at_several_levels():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x):
            x = self.stem(x).relu()
            fine, coarse = self.head(x), self.head(F.max_pool2d(x, 2))
            return fine.square().mean((2, 3)) + coarse.square().mean((2, 3))

    torch.manual_seed(0)
    model, x = Shared(), random_input(1, (8, 8)).requires_grad_()
    kept = []
    for layer in (model.stem, model.head):
        layer.register_forward_hook(lambda module, args, out: kept.append((module.bias, out)))
    score = model(x)[0, 1]
    of_input, *gradients = torch.autograd.grad(score, [x, *(out for _, out in kept)])
    effects = [of_input * x]
    effects += [b.reshape(1, -1, 1, 1) * g for (b, _), g in zip(kept, gradients, strict=True)]
    total = 0
    for effect in effects:
        coarse = sum(scaled(channel) for channel in effect[0].abs().detach())
        total = total + F.interpolate(coarse[None, None], (8, 8), mode="bilinear")
    found = FullGradCAM(model).attribute(x.detach(), target=1)
    torch.testing.assert_close(found, total / total.amax())


def test_the_input_in_another_layout():
    net, x = conv_net(3), random_input(2, (4, 8, 7))
    expected = FullGradCAM(net).attribute(x, target=1)
    cam = FullGradCAM(FramesFirst(net), input_layout="N T C H W")
    torch.testing.assert_close(cam.attribute(x.transpose(1, 2), target=1), expected)


def test_what_it_refuses():
    net, x = conv_net(2, norm=True), random_input(1, (8, 8))
    with pytest.raises(TypeError, match=r"biases of a torch\.nn\.Module; received function"):
        FullGradCAM(lambda x: net(x))
    with pytest.raises(ValueError, match="Layer '0.2' has no bias"):
        FullGradCAM(net, [Layer("0.2")])
    with pytest.raises(ValueError, match="no convolution or batch normalisation with a bias"):
        FullGradCAM(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    with pytest.raises(ValueError, match="leave attribute_to_layer_input out"):
        FullGradCAM(net).attribute(x, attribute_to_layer_input=True)
    with pytest.raises(ValueError, match=r"from its running statistics.* Call model\.eval\(\)"):
        FullGradCAM(net.train()).attribute(random_input(2, (8, 8)))
