"""JointCAM: several methods, and the maps of layers, from one forward pass."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import conv_net, random_input
from torch import nn

from captum_3dcam import CounterfactualCAM, LayerwiseGradCAM, SlidingWindowCAM
from captum_3dcam._joint_cam import JointCAM
from captum_3dcam.attribution import METHODS, LayerwiseWhatWhereCAM

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*The map of sample"),
]
LAYERS = ["0", "1"]
FUSIONS = ("sum", "mean", "max", "product")


def close(maps, expected):
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)


@st.composite
def cases(draw):
    """A network of any rank, its inputs, some methods, and fusions of those that have one."""
    rank = draw(st.integers(1, 3))
    size = tuple(draw(st.lists(st.integers(1, 7), min_size=rank, max_size=rank)))
    seed = draw(st.integers(0, 10**6))
    net = conv_net(rank, depth=draw(st.integers(1, 3)), seed=seed)
    x = random_input(draw(st.integers(1, 3)), size, seed=seed)
    joinable = [name for name in METHODS if name != "Rival"]  # it explains another score
    names = draw(st.lists(st.sampled_from(joinable), min_size=1, max_size=4, unique=True))
    fusion = draw(st.sampled_from(FUSIONS))
    layers = [str(i) for i in range(len(net) - 3)]
    own_fusion = {n for n, each in METHODS.items() if issubclass(each, LayerwiseWhatWhereCAM)}
    options = [{} if name in own_fusion else {"fusion": fusion} for name in names]
    return net, x, [METHODS[name](net, layers, **o) for name, o in zip(names, options, strict=True)]


@given(cases(), st.booleans(), st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_each_map_is_that_of_the_method_alone(case, per_layer, classes):
    net, x, cams = case
    joint = JointCAM(cams, per_layer)
    maps, output = joint.explain(x, lambda output: classes)
    layers = len(cams[0].layers) if per_layer else 0
    assert maps.shape == (len(x), len(classes), len(cams) + layers, *x.shape[2:])
    close(output, net(x).detach())
    for number, cam in enumerate(cams):
        close(maps[:, :, number], cam.attribute_classes(x, classes))
    for rank, target in enumerate(classes):
        expected = cams[0].attribute(x, target, per_layer=True) if per_layer else ()
        for number, layer_map in enumerate(expected, start=len(cams)):
            close(maps[:, rank, [number]], layer_map)


@given(cases(), st.booleans())
def test_as_an_attribution_it_has_the_maps_as_channels(case, per_layer):
    _, x, cams = case
    joint = JointCAM(cams, per_layer)
    maps = joint.attribute(x, 1)
    expected, _ = joint.explain(x, lambda output: [1])
    assert torch.equal(maps, expected[:, 0])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_through_windows(rank):
    net, x = conv_net(rank), random_input(2, (9, 6, 5)[:rank])
    names = ("GlobalLocal", "WhatWhere", "GradCAM")
    joint = JointCAM([METHODS[name](net, LAYERS) for name in names], per_layer=True)
    maps = SlidingWindowCAM(joint, 4, 2).attribute(x, 2)
    assert maps.shape == (2, 3 + 2, *x.shape[2:])
    alone = [METHODS[name](net, LAYERS) for name in names]
    alone += [METHODS["GlobalLocal"](net, name) for name in LAYERS]
    for number, cam in enumerate(alone):
        close(maps[:, [number]], SlidingWindowCAM(cam, 4, 2).attribute(x, 2))


def test_the_targets_are_chosen_by_the_output_of_the_same_pass():
    net, x = conv_net(2), random_input(3, (8, 8))
    passes = []

    def top(output):
        passes.append(output)
        return [output.argmax(1).tolist(), output.argmin(1).tolist()]

    joint = JointCAM([METHODS["GradCAM"](net, LAYERS), CounterfactualCAM(net, LAYERS)])
    with net[-1].register_forward_hook(lambda *given: passes.append(given)):
        maps, output = joint.explain(x, top)
    assert len(passes) == 2  # one forward, and one choice
    for rank, target in enumerate((output.argmax(1), output.argmin(1))):
        close(maps[:, rank, :1], LayerwiseGradCAM(net, LAYERS).attribute(x, target))
        close(maps[:, rank, 1:], CounterfactualCAM(net, LAYERS).attribute(x, target))


def test_layers_are_chosen_once_for_all():
    net, x = conv_net(2, depth=3), random_input(1, (16, 16))
    cams = [METHODS[name](net, "auto") for name in ("GlobalLocal", "WhatWhere")]
    joint = JointCAM(cams, per_layer=True)
    maps, _ = joint.explain(x, lambda output: [1])
    expected = [METHODS[name](net, "auto") for name in ("GlobalLocal", "WhatWhere")]
    for number, cam in enumerate(expected):
        close(maps[:, :, number], cam.attribute(x, 1))
    names = [layer.name for layer in joint.layers]
    assert names == [layer.name for layer in expected[0].layers]
    assert all([layer.name for layer in cam.layers] == names for cam in cams)


def test_layers_keep_the_names_they_were_given():
    net = nn.DataParallel(conv_net(2), device_ids=[]).eval()
    cams = [METHODS[name](net, LAYERS) for name in ("GlobalLocal", "WhatWhere")]
    assert [layer.name for layer in JointCAM(cams).layers] == LAYERS


def test_flat_layers_are_those_of_all_calls():
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), *head).eval()
    joint = JointCAM([METHODS["GlobalLocal"](net, ["1", "3"])])
    assert joint.flat_layers is None
    joint.attribute(random_input(2, (8, 8)), 1)
    assert joint.flat_layers == {"3"}
    joint.flat_layers = {"1"}
    joint.attribute(random_input(2, (8, 8)), 1)
    assert joint.flat_layers == set()


@pytest.mark.filterwarnings("default")
def test_empty_maps_of_each_method_are_explained():
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    net[0].weight.data.abs_()
    net[0].bias.data.zero_()
    cams = [METHODS[name](net, "1") for name in ("GlobalLocal", "Counterfactual")]
    x = random_input(1, (6, 6)).abs()
    with pytest.warns(UserWarning, match="^CounterfactualCAM: The map of sample") as caught:
        maps, _ = JointCAM(cams).explain(x, lambda output: [0])
    assert len(caught) == 1
    assert maps[0, 0, 0].any()
    assert not maps[0, 0, 1].any()
    with pytest.warns(UserWarning, match=r"^The map of sample\(s\) 0 is zero"):
        JointCAM(cams[::-1]).explain(x, lambda output: [0])
