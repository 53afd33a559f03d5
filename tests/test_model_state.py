"""Whatever a forward changes is put back."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captum_3dcam._model_state import all_modules, modules_behind, unchanged


class Counting(nn.Module):
    """Changes its buffers in each of the ways that a module can."""

    def __init__(self):
        super().__init__()
        self.register_buffer("in_place", torch.zeros(3))
        self.register_buffer("exchanged", torch.zeros(2))
        self.register_buffer("late", None)

    def forward(self, x):
        self.in_place.add_(1)
        self.exchanged = self.exchanged + 1
        self.late = torch.ones(1)
        return x + torch.rand(())


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_buffers_and_generator_are_put_back(error):
    module = nn.Sequential(Counting(), Counting())
    before = {name: id(buffer) for name, buffer in module.named_buffers()}
    generator = torch.get_rng_state()
    with nullcontext() if error is None else pytest.raises(error), unchanged(all_modules([module])):
        module(torch.zeros(1))
        assert module[0].in_place.tolist() == [1, 1, 1]
        if error is not None:
            raise error
    assert {name: id(buffer) for name, buffer in module.named_buffers()} == before
    assert not any(buffer.any() for buffer in module.buffers())
    assert module[0].late is None
    assert torch.equal(torch.get_rng_state(), generator)


def test_buffers_shared_by_two_modules_are_put_back_once():
    first, second = Counting(), Counting()
    second.in_place = first.in_place
    with unchanged([first, second, first]):
        first(torch.zeros(1))
        second(torch.zeros(1))
    assert not first.in_place.any()
    assert second.in_place is first.in_place


def test_a_graph_of_the_callers_stays_usable():
    """Batch norm saves its buffers for backward, and moves them without counting a version."""
    norm = nn.BatchNorm1d(2).eval()
    x = torch.randn(4, 2, requires_grad=True)
    y = norm(x).sum()
    norm.train()
    with unchanged([norm]):
        norm(x)
        assert norm.running_mean.any()
    assert not norm.running_mean.any()
    y.backward()


GLOBALS = {"sum": sum}


def test_a_name_without_a_value_yet_is_passed_by():
    def closure(x):
        return later(x)

    assert modules_behind(closure) == []
    later = NET
    assert modules_behind(closure) == [NET]


def test_buffers_that_cannot_be_compared_do_not_stop_the_others():
    module = nn.Module()
    module.register_buffer("sparse", torch.eye(2).to_sparse())
    module.register_buffer("meta", torch.empty(2, device="meta"))
    module.register_buffer("expanded", torch.tensor(float("nan")).expand(3))
    module.register_buffer("last", torch.zeros(1))
    with unchanged(all_modules([module])):
        module.last += 1
    assert module.last.item() == 0


@given(
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=6),
    changed=st.integers(0, 5),
    dtype=st.sampled_from([torch.float32, torch.int64, torch.bool]),
)
def test_buffers_of_any_shape_are_put_back(shapes, changed, dtype):
    module = nn.Module()
    for number, shape in enumerate(shapes):
        values = torch.arange(torch.Size(shape).numel()).reshape(shape) % 2
        module.register_buffer(f"b{number}", values.to(dtype))
    module.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with unchanged([module]):
        module.turned.zero_()
        module.get_buffer(f"b{changed % len(shapes)}").fill_(3)
    assert all(torch.equal(b, before[name]) for name, b in module.named_buffers())


def test_all_modules_has_each_once():
    shared = nn.Linear(1, 1)
    net = nn.Sequential(shared, nn.Sequential(shared))
    assert all_modules([net[1], net, shared]) == [net[1], shared, net]


def test_without_buffers_and_parameters():
    with unchanged(all_modules([nn.ReLU()])):
        torch.rand(1)


NET = nn.Identity()


def _uses_a_global(x):
    return _calls_another(x)


def _calls_another(x):
    return NET(x)


class _Holder:
    def __init__(self, net):
        self.net = net

    def score(self, x):
        return self.net(x)

    def __call__(self, x):
        return self.net(x)


def test_modules_behind_every_kind_of_callable():
    net = nn.Linear(1, 1)
    holder = _Holder(net)

    def closure(x):
        return net(x)

    callables = [net, net.forward, closure, lambda x: closure(x), holder, holder.score]
    models, holder.listed = {"a": net}, [net]
    callables += [lambda x: models["a"](x), _Holder([net]), lambda x: GLOBALS["sum"](closure(x))]
    callables += [partial(closure, x=1), partial(lambda model, x: model(x), net)]
    for forward_func in callables:
        assert modules_behind(forward_func) == [net], forward_func
    assert modules_behind(_uses_a_global) == [NET]
    assert modules_behind(torch.relu) == []
