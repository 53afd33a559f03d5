"""The libraries' networks of the study ``cuda``, with few channels and blocks."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from _cuda_networks import NETWORKS, Scores, make_subject
from _cuda_runs import EAGER, Task, make_runs
from captum_3dcam import LayerwiseGlobalLocalCAM
from zoo_networks import FAMILIES

pytestmark = [
    # Of the libraries themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*indexing argument.*:UserWarning"),
]
SMALL = {"VideoMAE-B": "VideoMAE", "Swin UNETR": "Swin UNETR", "X3D-M": "X3D"}


@pytest.fixture(params=SMALL)
def small(request):
    """A network of the study and its small family."""
    network, family = NETWORKS[request.param], FAMILIES[SMALL[request.param]]
    if find_spec(family.library) is None:
        pytest.skip(f"{family.library} is not installed: make test installs it")
    layers = tuple((f"model.{name}", layout) for name, layout, _ in family.layers)
    if network.convolutional:  # of the transformer the small one has fewer blocks
        assert network.layers == layers
    sizes = {"shape": family.shapes[0], "layers": layers}
    return replace(network, build=lambda: Scores(family.model()), **sizes), family


def test_the_map_is_that_of_the_model_inside(small):
    network, family = small
    subject = make_subject(network, "cpu")
    depth = min(2, len(network.layers))
    runs, absent = make_runs(subject, Task("small", EAGER, depth))
    fused = runs["3DCAM"]()
    assert fused.shape == (1, 1, *family.size)
    layers = [
        replace(layer, module=layer.module.removeprefix("model."))
        for layer in subject.layers[-depth:]
    ]
    inner = LayerwiseGlobalLocalCAM(
        subject.network.model, layers, input_layout=network.input_layout
    )
    torch.testing.assert_close(fused, inner.attribute(subject.x, subject.classes[0]))
    assert len(runs["limit"]()[0]) == 1
    assert ("Captum" in absent) == (not network.is_plain)
    if network.is_plain:
        assert runs["Captum"]().shape == fused.shape


def test_the_highest_classes(small):
    network, family = small
    subject = make_subject(network, "cpu")
    runs, _ = make_runs(subject, Task("small", EAGER, 1, subject.num_classes))
    maps, classes = runs["3DCAM"]()
    assert maps.shape == (1, subject.num_classes, *family.size)
    assert sorted(classes[0].tolist()) == list(range(subject.num_classes))
    assert len(runs["limit"]()) == subject.num_classes
