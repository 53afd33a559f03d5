"""Whatever a forward pass changes is restored."""

import os
from _thread import start_new_thread
from contextlib import contextmanager, nullcontext
from threading import Event, Thread, current_thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.module import _global_forward_pre_hooks
from torch.nn.utils import parametrize

from captum_3dcam import LayerwiseGradCAM
from captum_3dcam._model_state import ModelState, preserve_generators, preserved_state
from captum_3dcam._restoration import Restoration


class Counting(nn.Module):
    """Changes its state in each of the ways that a module can."""

    def __init__(self):
        super().__init__()
        self.register_buffer("in_place", torch.zeros(3))
        self.register_buffer("exchanged", torch.zeros(2))
        self.register_buffer("late", None)
        self.weight = nn.Parameter(torch.ones(1))
        self.count, self.hidden, self.written = 0, None, torch.zeros(2)
        self.history, self.cache, self.seen = [1], {"a": 1}, {1}

    def forward(self, x):
        self.in_place.add_(1)
        self.exchanged = self.exchanged + 1
        self.late = torch.ones(1)
        self.count += 1
        self.hidden = x
        self.written += 1
        self.history.append(x)
        self.cache.update(a=2, b=3)
        self.seen.add(2)
        self.added = 1
        self.training = False
        return x + torch.rand(())


def state_of(module):
    return {
        name: value.clone() if isinstance(value, torch.Tensor) else repr(value)
        for name, value in (*module.__dict__.items(), *module._buffers.items())
        if name not in ("_buffers", "_parameters")
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    for name, value in before.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, after[name]), name
        else:
            assert value == after[name], name


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("root", [True, False], ids=["root", "seen when it runs"])
def test_the_state_and_the_generator_are_restored(root, error):
    module = nn.Sequential(Counting(), Counting())
    before = [state_of(each) for each in module]
    identities = {name: id(buffer) for name, buffer in module.named_buffers()}
    containers = [id(value) for each in module for value in (each.history, each.cache, each.seen)]
    generator = torch.get_rng_state()
    expectation = nullcontext() if error is None else pytest.raises(error)
    with expectation, preserved_state(*([module] if root else [])):
        module(torch.zeros(1))
        assert module[0].in_place.tolist() == [1, 1, 1]
        assert module[0].count == 1
        if error is not None:
            raise error
    for each, its_state in zip(module, before, strict=True):
        assert_same(its_state, state_of(each))
    assert {name: id(buffer) for name, buffer in module.named_buffers()} == identities
    assert [id(v) for each in module for v in (each.history, each.cache, each.seen)] == containers
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_model_inside_any_callable_is_seen():
    """Nothing is guessed from closures, defaults or names in code."""
    module = Counting()
    learner = type("Learner", (), {"model": module})

    def default(x, model=module):
        return model(x)

    for forward in (lambda x: module(x), lambda x: learner.model(x), default, module.__call__):
        with preserved_state():
            forward(torch.zeros(1))
        assert module.count == 0


def test_modules_of_other_threads_are_not_ours():
    module = Counting()
    with preserved_state():
        thread = Thread(target=module, args=(torch.zeros(1),))
        thread.start()
        thread.join()
    assert module.count == 1


def test_new_modules_are_announced_once_before_they_run():
    net, counts = nn.Sequential(Counting(), Counting()), []
    with Restoration() as restoration:
        state = ModelState(on_new_module=lambda m: counts.append(getattr(m, "count", None)))
        state.preserve(restoration)
        net(torch.zeros(1))
        net(torch.zeros(1))
    assert counts == [None, 0, 0]


def test_buffers_shared_by_two_modules_are_restored():
    first, second = Counting(), Counting()
    second.in_place = first.in_place
    with preserved_state(first, second, first):
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
    with preserved_state(norm):
        norm(x)
        assert norm.running_mean.any()
    assert not norm.running_mean.any()
    y.backward()


def test_buffers_that_cannot_be_copied_do_not_stop_the_others():
    module = nn.Module()
    module.register_buffer("sparse", torch.eye(2).to_sparse())
    module.register_buffer("meta", torch.empty(2, device="meta"))
    module.register_buffer("expanded", torch.tensor(float("nan")).expand(3))
    module.register_buffer("last", torch.zeros(1))
    with preserved_state(module):
        module.last += 1
    assert module.last.item() == 0


@given(
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=6),
    changed=st.integers(0, 5),
    dtype=st.sampled_from([torch.float32, torch.int64, torch.bool]),
)
def test_buffers_of_any_shape_are_restored(shapes, changed, dtype):
    module = nn.Module()
    for number, shape in enumerate(shapes):
        values = torch.arange(torch.Size(shape).numel()).reshape(shape) % 2
        module.register_buffer(f"b{number}", values.to(dtype))
    module.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with preserved_state(module):
        module.turned.zero_()
        module.get_buffer(f"b{changed % len(shapes)}").fill_(3)
    assert all(torch.equal(b, before[name]) for name, b in module.named_buffers())


def test_parameters_are_not_copied():
    module = Counting()
    with preserved_state(module), torch.no_grad():
        module.weight += 1  # training in another thread, say
    assert module.weight.item() == 2


def test_the_cache_of_parametrizations_is_the_callers():
    """A weight that is computed without gradients must not stay in the cache of a training step."""

    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Doubled())
    with parametrize.cached():
        with preserved_state(), torch.no_grad():
            layer(torch.zeros(1, 2))
        assert layer.weight.requires_grad


def test_without_buffers_and_parameters():
    with preserved_state(nn.ReLU()):
        torch.rand(1)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_pytorchs_modules_in_eval_mode_are_not_copied_unless_they_may_change():
    norm = nn.BatchNorm1d(2).eval()
    hooked = nn.utils.weight_norm(nn.Linear(2, 2)).eval()
    switched = nn.BatchNorm1d(2).eval()
    weight = hooked.weight

    def forward(x):
        y = hooked(norm(x))
        switched.train()  # test-time adaptation
        return switched(y)

    state = {name: value.clone() for name, value in switched.state_dict().items()}
    with preserved_state(norm, hooked, switched):
        norm.running_mean += 1  # in another thread, say
        forward(torch.rand(4, 2))
        assert hooked.weight is not weight
    assert norm.running_mean.tolist() == [1, 1]
    assert hooked.weight is weight
    assert all(torch.equal(v, state[name]) for name, v in switched.state_dict().items())


def test_hooks_that_a_model_installs_in_its_first_forward_pass():
    """As transformers' models do, which note it in an attribute."""

    class Hooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 3)
            self.conv.register_forward_hook(lambda *_: None)

        def forward(self, x):
            if not getattr(self, "installed", False):
                self.conv.register_forward_hook(lambda m, args, y: self.collected.append(y))
                self.installed = True
            self.collected = []
            self.conv(x)
            (features,) = self.collected
            return features.amax(dim=2)

    model, x = Hooked(), torch.rand(1, 1, 9)
    maps = [LayerwiseGradCAM(model, "conv").attribute(x) for _ in range(2)]
    assert torch.equal(*maps)
    assert len(model.conv._forward_hooks) == 1
    assert not hasattr(model, "installed")
    model(x)
    assert torch.equal(LayerwiseGradCAM(model, "conv").attribute(x), maps[0])
    assert len(model.conv._forward_hooks) == 2


# ------------------------------------------------------------------------------- other threads


@contextmanager
def another_thread(work):
    """A thread that exists already, and works when it is told to."""
    begin, done = Event(), Event()

    def run():
        begin.wait()
        work()
        done.set()
        end.wait()

    def meanwhile():
        begin.set()
        done.wait()

    end = Event()
    thread = Thread(target=run)
    thread.start()
    try:
        yield meanwhile
    finally:
        begin.set()
        end.set()
        thread.join()


def test_random_numbers_of_another_thread_are_not_repeated():
    """A network in eval mode draws none, so whatever was drawn is another thread's."""
    drawn, net = [], nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    with another_thread(lambda: drawn.append(torch.rand(4))) as meanwhile:
        with preserved_state():
            net(torch.zeros(1, 2))
            meanwhile()
        assert not torch.equal(torch.rand(4), drawn[0])


def test_random_numbers_of_a_network_in_train_mode_are_put_back():
    net = nn.Dropout()
    with another_thread(lambda: None):
        generator = torch.get_rng_state()
        with preserved_state():
            net(torch.zeros(9))
        assert torch.equal(torch.get_rng_state(), generator)


def test_generators_that_are_preserved_in_any_case():
    with another_thread(lambda: None):
        generator = torch.get_rng_state()
        with Restoration() as restoration:
            preserve_generators(restoration, [])
            torch.rand(1)
        assert torch.equal(torch.get_rng_state(), generator)


def test_a_module_that_another_thread_trains_keeps_what_it_learned():
    module, frozen = Counting(), Counting()
    training = another_thread(lambda: module(torch.zeros(1)))
    with training as meanwhile, preserved_state(module, frozen):
        frozen(torch.zeros(1))
        meanwhile()
    assert (module.count, module.in_place.tolist()) == (1, [1, 1, 1])
    assert (frozen.count, frozen.in_place.tolist()) == (0, [0, 0, 0])


def test_threads_of_the_model_are_the_models():
    """Threads that begin inside of its forward pass."""
    module = Counting()
    with preserved_state(module):
        thread = Thread(target=module, args=(torch.zeros(1),))
        thread.start()
        thread.join()
    assert module.count == 0


def test_threads_that_pytorch_has_started_are_the_models():
    """On a GPU, autograd's threads recompute checkpoints; Python knows them as dummies."""
    module, begin, seen, done = Counting(), Event(), Event(), Event()

    def autograd():
        current_thread()  # from now on, enumerate() lists a dummy
        seen.set()
        begin.wait()
        module(torch.zeros(1))
        done.set()

    start_new_thread(autograd, ())
    seen.wait()
    state = ModelState()
    with Restoration() as restoration:
        state.preserve(restoration, module)
    with Restoration() as restoration:  # the backward pass
        state.preserve(restoration)
        begin.set()
        done.wait()
    assert module.count == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_finds_the_model_as_it_was():
    net, statuses = nn.Sequential(Counting(), nn.BatchNorm1d(2)), []

    def fork():
        child = os.fork()
        if child == 0:
            is_clean = net[0].count == 0 and not net[1].running_mean.any()
            is_clean &= not _global_forward_pre_hooks
            os._exit(0 if is_clean else 1)
        statuses.append(os.waitpid(child, 0)[1])

    with another_thread(fork) as meanwhile, preserved_state():
        net(torch.rand(3, 2))
        assert net[1].running_mean.any()
        meanwhile()
    assert statuses == [0]


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x + torch.rand(()),
        lambda x: x + torch.randn_like(x),
        lambda x: x.clone().normal_(),
        lambda x: torch.bernoulli(x),
        lambda x: nn.functional.dropout(x),
    ],
)
def test_a_network_that_draws_in_eval_mode_beside_a_thread_that_does_nothing(draw):
    """As a progress bar leaves one."""

    class Drawing(nn.Module):
        def forward(self, x):
            return draw(x)

    net = Drawing().eval()
    with another_thread(lambda: None):
        generator = torch.get_rng_state()
        with preserved_state(net):
            net(torch.zeros(9))
        assert torch.equal(torch.get_rng_state(), generator)


def test_a_function_without_modules_draws():
    generator = torch.get_rng_state()
    with preserved_state():
        torch.rand(1)
    assert torch.equal(torch.get_rng_state(), generator)


def test_what_draws_inside_of_pytorch_in_train_mode():
    """As the dropout of an LSTM, which no Python function sees."""
    net, x = nn.LSTM(2, 2, num_layers=2, dropout=0.5), torch.rand(3, 1, 2)
    with another_thread(lambda: None):
        generator = torch.get_rng_state()
        with preserved_state():
            net(x)
        assert torch.equal(torch.get_rng_state(), generator)
