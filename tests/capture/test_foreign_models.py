"""What other people's models do, each of which once gave a wrong map, or left something behind."""

from threading import Thread

import pytest
import torch
from captum.attr import LayerGradCam
from networks import conv_net
from torch import nn
from torch.nn.modules.module import _global_forward_hooks

from captum_3dcam import (
    GlobalLocalCAM2D,
    GlobalLocalCAM3D,
    LayerwiseGradCAM,
    SlidingWindowCAM,
    functional,
)


class Kept(nn.Module):
    """Keeps the output of its block, and reads it once more after the next layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.head, self.block = nn.Conv2d(3, 4, 3), nn.Linear(8, 5), nn.Sequential()
        self.block.append(Stash())

    def forward(self, x):
        y = self.block(self.conv(x))
        later = self.block[0].feature.square().mean((2, 3))
        return self.head(torch.cat([y.amax((2, 3)), 50 * later], 1))


class Stash(nn.Module):
    def forward(self, x):
        self.feature = x.relu()
        return self.feature


@pytest.mark.parametrize("layer", ["block", "block.0"])
def test_a_layers_output_that_is_read_under_another_name_too(layer):
    model, x = Kept().eval(), torch.rand(2, 3, 12, 12)
    for target in range(5):
        module = model.get_submodule(layer)
        theirs = LayerGradCam(model, module).attribute(x, target, relu_attributions=True).detach()
        size = (12, 12)
        expected = functional.normalize(functional.upsample(theirs, size))
        ours = LayerwiseGradCAM(model, layer).attribute(x, target)
        torch.testing.assert_close(ours, expected)


def test_a_buffer_that_a_layer_returns_stays_a_buffer():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.rand(1, 4, 6, 6))

        def forward(self, x):
            return self.table

    table = Table()
    model = nn.Sequential(
        nn.Identity(), table, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    GlobalLocalCAM2D(model.eval(), "1").attribute(torch.rand(1, 4, 6, 6), target=1)
    assert not table.table.requires_grad
    assert table.table.is_leaf


class Recurrent(nn.Module):
    def __init__(self, before=lambda rnn: None):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU())
        self.rnn, self.head, self.before = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 5), before

    def forward(self, x):
        self.before(self.rnn)
        return self.head(self.rnn(self.conv(x).mean((3, 4)).transpose(1, 2))[0][:, -1])


def test_recurrent_networks_in_several_threads_and_interrupted():
    """cuDNN is a setting of the whole process."""
    model, clip, errors = Recurrent().eval(), torch.rand(1, 3, 4, 8, 8), []

    def explain():
        try:
            for _ in range(5):
                GlobalLocalCAM3D(model, "conv").attribute(clip, target=1)
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=explain) for _ in range(3)]
    for thread in threads:
        thread.start()
    with torch.no_grad():
        for _ in range(20):
            model(clip)
    for thread in threads:
        thread.join()
    assert not errors

    def interrupt(*args):
        raise KeyboardInterrupt

    handle = model.rnn.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        GlobalLocalCAM3D(model, "conv").attribute(clip)
    handle.remove()
    for before in (nn.Module.eval, nn.Module.train):
        GlobalLocalCAM3D(Recurrent(before), "conv").attribute(clip, target=1)
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize("size", [64, 320], ids=["small", "large"])
def test_a_model_that_differentiates_by_its_batch_norms_weight(size):
    class Penalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x):
            y = self.norm(self.conv(x))
            if y.requires_grad:
                torch.autograd.grad(y.amax((2, 3)).sum(), self.norm.weight, retain_graph=True)
            return self.head(y.amax((2, 3)))

    cam = LayerwiseGradCAM(Penalised().eval(), "conv")
    assert cam.attribute(torch.rand(1, 3, size, size), target=1).shape == (1, 1, size, size)


def test_windows_of_inputs_with_frames_first_are_refused():
    cam = GlobalLocalCAM3D(conv_net(3), "0", input_layout="N T C H W")
    with pytest.raises(ValueError, match=r"cuts inputs \(N, C, \*S\); .* input_layout='N T C H W'"):
        SlidingWindowCAM(cam, window=4)


def test_a_buffer_that_a_hook_counts_in_is_restored():
    model = conv_net(2)
    model[0][0].register_buffer("calls", torch.zeros(()))
    model[0][0].register_forward_hook(lambda module, args, output: module.calls.add_(1) and None)
    GlobalLocalCAM2D(model, "1").attribute(torch.rand(1, 2, 6, 6), target=1)
    assert model[0][0].calls.item() == 0


@pytest.mark.parametrize("classes", [5, None, "dog"])
def test_classes_that_are_no_sequence(classes):
    with pytest.raises(TypeError, match="classes must be a sequence of targets, as"):
        GlobalLocalCAM2D(conv_net(2), "0").attribute_classes(torch.rand(1, 2, 6, 6), classes)


def test_several_threads_explain_one_model():
    model = conv_net(2)
    xs = [torch.rand(1, 2, 9, 9, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    expected = [GlobalLocalCAM2D(model, ["0", "1"]).attribute(x, target=0) for x in xs]
    found = [[] for _ in xs]

    def explain(number):
        cam = GlobalLocalCAM2D(model, ["0", "1"])
        found[number] += [cam.attribute(xs[number], target=0) for _ in range(10)]

    threads = [Thread(target=explain, args=(number,)) for number in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for maps, same in zip(found, expected, strict=True):
        assert len(maps) == 10
        assert all(torch.equal(each, same) for each in maps)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not _global_forward_hooks
