"""Layers by module, by name and as grids; each wrong one with its message."""

import pytest
import torch
from networks import conv_net
from torch import nn

from captum_3dcam import GlobalLocalCAM2D, Layer, frames_to_clip, tokens_to_grid
from captum_3dcam.layers import resolve_layers


@pytest.fixture
def net():
    return conv_net(2, depth=3)


def test_names_and_modules_mix(net):
    found = resolve_layers(["0.0", net[1], Layer("2"), Layer(net[2][1])], net)
    assert [layer.module for layer in found] == [net[0][0], net[1], net[2], net[2][1]]
    assert [layer.name for layer in found] == ["0.0", "1", "2", "2.1"]


@pytest.mark.parametrize("given", ["1", Layer("1"), ["1"], ("1",)])
def test_one_layer_needs_no_list(net, given):
    (found,) = resolve_layers(given, net)
    assert found.module is net[1]


def test_a_sequential_is_one_layer_and_a_module_list_is_several(net):
    assert len(resolve_layers(net[1], net)) == 1
    assert len(resolve_layers(nn.ModuleList([net[0], net[1]]), net)) == 2


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_a_wrapped_model_keeps_its_names(net, wrap):
    wrapped = wrap(net)
    inside = next(name for name, module in wrapped.named_modules() if module is net[1][0])
    assert inside != "1.0"
    for name in ("1.0", inside):
        (found,) = resolve_layers(name, wrapped)
        assert found.module is net[1][0]


def test_modules_have_the_names_of_the_model_if_it_has_them(net):
    _, second = resolve_layers(["0", net[1]], net)
    assert (second.module, second.name) == (net[1], "1")
    (elsewhere,) = resolve_layers(nn.ReLU(), net)
    assert elsewhere.name == "layers[0] (ReLU)"


def test_a_tied_module_has_both_its_names(net):
    net.again = net[0]
    assert [layer.module for layer in resolve_layers(["0", "again"], net)] == [net[0]] * 2


def test_a_wrong_name_gives_the_nearest():
    net = nn.ModuleDict({"stem": nn.Conv2d(1, 1, 1), "layer1": nn.Conv2d(1, 1, 1)})
    with pytest.raises(ValueError, match="no layer named 'layer2'. The nearest names are 'layer1'"):
        resolve_layers("layer2", net)
    with pytest.raises(ValueError, match="The nearest names are 'stem', 'layer1'"):
        resolve_layers("zzz", net)


def test_a_name_of_a_function_is_looked_up_in_the_network_that_runs(net):
    x = torch.rand(1, 2, 4, 4)
    learner = type("Learner", (), {"model": net})
    expected = GlobalLocalCAM2D(net, ["0", "1"]).attribute(x, per_layer=True)
    for forward_func in (lambda x: net(x), lambda x: learner.model(x) + 0, net.__call__):
        maps = GlobalLocalCAM2D(forward_func, ["0", "1"]).attribute(x, per_layer=True)
        torch.testing.assert_close(maps, expected)


def test_a_name_that_no_network_has_or_several_have_is_refused(net):
    x = torch.rand(1, 2, 4, 4)
    with pytest.raises(ValueError, match="no layer named '7'. The nearest names are '0', '0.0'"):
        GlobalLocalCAM2D(lambda x: net(x), "7").attribute(x)
    with pytest.raises(ValueError, match="'0' needs a network to look it up in, and forward_func"):
        GlobalLocalCAM2D(lambda x: x.relu(), "0").attribute(x)
    other = conv_net(2)
    with pytest.raises(ValueError, match="'0' is in more than one of the networks"):
        GlobalLocalCAM2D(lambda x: net(x) + other(x), "0").attribute(x)


def test_an_iterator_of_layers_is_taken_as_a_list(net):
    assert len(resolve_layers(net.children(), net)) == len(net)


@pytest.mark.parametrize("bad", [3, None, [None], torch.zeros(1), Layer(3)])
def test_what_is_no_layer_is_refused(net, bad):
    with pytest.raises(TypeError, match="layers takes modules, dotted names, Layer"):
        resolve_layers(bad, net)


@pytest.mark.parametrize("empty", [[], ()])
def test_no_layers_are_refused(net, empty):
    with pytest.raises(ValueError, match="layers is empty"):
        resolve_layers(empty, net)


# ------------------------------------------------------------------------------------- grids


def test_tokens_to_grid_puts_each_token_at_its_position():
    tokens = torch.arange(2 * (1 + 2 * 3 * 4) * 5.0).reshape(2, 25, 5)
    grid = tokens_to_grid((2, 3, 4), prefix_tokens=1)(tokens)
    assert grid.shape == (2, 5, 2, 3, 4)
    for t, h, w in ((0, 0, 0), (1, 2, 3), (1, 0, 2)):
        token = 1 + (t * 3 + h) * 4 + w
        assert grid[1, :, t, h, w].tolist() == tokens[1, token].tolist()


def test_tokens_to_grid_says_how_many_it_expects():
    with pytest.raises(ValueError, match=r"tokens of shape \(N, 10, C\); received \(1, 9, 2\)"):
        tokens_to_grid((3, 3), prefix_tokens=1)(torch.zeros(1, 9, 2))


@pytest.mark.parametrize("grid", [(0, 3), (2.5, 3), (True, 3), ("2", 3), 4, None])
def test_a_grid_is_of_positive_integers(grid):
    with pytest.raises((TypeError, ValueError), match=r"^grid.*: expected a"):
        tokens_to_grid(grid)


def test_reshapes_take_tensors():
    for reshape in (tokens_to_grid((2, 2)), frames_to_clip(2)):
        with pytest.raises(TypeError, match="Expected the layer's output as a tensor; got list"):
            reshape([1.0])
    with pytest.raises(ValueError, match="prefix_tokens=-1: expected an integer, 0 or more"):
        tokens_to_grid((2, 2), prefix_tokens=-1)
    for num_frames in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match=f"num_frames={num_frames}: expected an integer, 1 or"):
            frames_to_clip(num_frames)
    assert frames_to_clip(2)(torch.zeros(4, 0, 3)).shape == (2, 0, 2, 3)


def test_a_layers_reshape_is_a_function():
    with pytest.raises(TypeError, match="reshape='N C': expected a function from the layer's"):
        Layer("cnn", reshape="N C")


@pytest.mark.parametrize("layout", [5, ("N", "C", "H"), torch.zeros(3), {}])
def test_a_layout_is_text(layout):
    with pytest.raises(ValueError, match="layout=.*: expected the names of all axes"):
        Layer("cnn", layout=layout)


def test_calls_are_names_or_numbers():
    for calls in (torch.tensor([0, 1]), True, [0], -1, "every"):
        with pytest.raises(ValueError, match=r"calls=.* is not known. Choose 'last', 'stack',"):
            Layer("cnn", calls=calls)


def test_frames_to_clip_unfolds_the_batch():
    folded = torch.arange(6 * 2 * 2.0).reshape(6, 2, 2, 1)
    clip = frames_to_clip(3)(folded)
    assert clip.shape == (2, 2, 3, 2, 1)
    for n, t in ((0, 0), (0, 2), (1, 1)):
        assert clip[n, :, t].tolist() == folded[n * 3 + t].tolist()


def test_frames_to_clip_says_when_frames_do_not_divide():
    with pytest.raises(ValueError, match=r"expects a multiple of 4 rows, one per frame; received"):
        frames_to_clip(4)(torch.zeros(6, 2, 2, 2))
