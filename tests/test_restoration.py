"""What a call changes is put back: after errors, after Ctrl-C at any instant, and in a fork."""

# ruff: noqa: PT012 - what happens inside of the blocks is what is tested

import os
import random
import signal
import sys
import threading
from contextlib import nullcontext

import pytest
import torch
from torch.overrides import BaseTorchFunctionMode, _len_torch_function_stack, _pop_mode

from captum_3dcam._restoration import Restoration, interruptible, restored

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def the_handler_is_as_before():
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_steps_run_in_reverse_order(error):
    done = []
    with nullcontext() if error is None else pytest.raises(error), Restoration() as restoration:
        restoration.add(lambda: done.append(1))
        restoration.add(lambda: done.append(2))
        if error is not None:
            raise error
    assert done == [2, 1]


def test_the_error_of_a_step_does_not_stop_the_others():
    done = []
    with pytest.raises(ZeroDivisionError), Restoration() as restoration:
        restoration.add(lambda: done.append(1))
        restoration.add(lambda: 1 / 0)
    assert done == [1]


def test_a_step_that_is_interrupted_by_other_means_runs_again():
    """As by PyThreadState_SetAsyncExc, which no handler holds back."""
    attempts = []

    def step():
        attempts.append(1)
        if len(attempts) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Restoration() as restoration:
        restoration.add(step)
    assert len(attempts) == 2


@pytest.mark.parametrize("before", [True, False])
def test_gradient_mode_and_function_modes_of_the_thread(before):
    with torch.set_grad_enabled(before), BaseTorchFunctionMode() as mode:
        with Restoration():
            torch.set_grad_enabled(not before)
            _pop_mode()  # as an interrupt inside of PyTorch leaves it
            BaseTorchFunctionMode().__enter__()
            BaseTorchFunctionMode().__enter__()
        assert torch.is_grad_enabled() is before
        assert _len_torch_function_stack() == 1
        assert torch.overrides._get_current_function_mode() is mode


def test_ctrl_c_waits_for_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt), Restoration() as restoration:
        restoration.add(lambda: done.append("restored"))
        interrupt()
        done.append("after")
    assert done == ["after", "restored"]


def test_ctrl_c_passes_in_an_interruptible_section_once():
    done = []
    with pytest.raises(KeyboardInterrupt), Restoration() as restoration:
        restoration.add(interrupt)
        restoration.add(lambda: done.append("restored"))
        with interruptible():
            try:
                interrupt()
            finally:
                interrupt()  # the second one, while the first one unwinds
                done.append("unwound")
    assert done == ["unwound", "restored"]


def test_what_waits_is_raised_where_it_may_be():
    with pytest.raises(KeyboardInterrupt), Restoration():
        interrupt()
        with interruptible():
            pytest.fail("the interrupt should come first")


def test_an_error_gives_way_to_an_interrupt_that_waits():
    with pytest.raises(KeyboardInterrupt), Restoration():
        interrupt()
        raise ValueError


@pytest.mark.parametrize("outer_lets_through", [True, False])
def test_nested(outer_lets_through):
    done = []

    def inner():
        with Restoration(), interruptible():
            interrupt()
            done.append("not interrupted")

    with pytest.raises(KeyboardInterrupt), Restoration():
        if outer_lets_through:
            with interruptible():
                inner()
        else:
            inner()
        done.append("after")
    assert done == ([] if outer_lets_through else ["not interrupted", "after"])


def test_a_handler_that_does_not_raise():
    received = []

    def handler(number, frame):
        received.append(number)

    signal.signal(signal.SIGINT, handler)
    with Restoration():
        with interruptible():
            interrupt()
            interrupt()
            assert len(received) == 2
        interrupt()
        assert len(received) == 2
    assert len(received) == 3
    assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_handlers_that_are_not_pythons_are_left(handler):
    signal.signal(signal.SIGINT, handler)
    with Restoration(), interruptible():
        assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_have_no_handlers():
    found = []

    def run():
        with Restoration(), interruptible():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_the_name_of_a_restored_function():
    @restored
    def add(a, *, b):
        """Docs."""
        torch.set_grad_enabled(False)
        return a + b

    assert add(1, b=2) == 3
    assert torch.is_grad_enabled()
    assert (add.__name__, add.__doc__) == ("add", "Docs.")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_of_another_thread_is_restored_in_the_child():
    state, statuses = {"value": "before"}, []

    def fork():
        child = os.fork()
        if child == 0:
            os._exit(0 if state["value"] == "before" else 1)
        statuses.append(os.waitpid(child, 0)[1])

    with Restoration() as restoration:
        restoration.add(lambda: state.update(value="before"))
        state["value"] = "changed"
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        assert state["value"] == "changed"
    assert statuses == [0]


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_of_the_same_thread_goes_on_in_the_child():
    state = {"value": "before"}
    with Restoration() as restoration:
        restoration.add(lambda: state.update(value="before"))
        state["value"] = "changed"
        child = os.fork()
        if child == 0:
            os._exit(0 if state["value"] == "changed" else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(sys.version_info < (3, 11), reason="raising from opcode events crashes 3.10")
def test_at_any_instruction_of_its_own():
    """Interrupted after each instruction, twice: what was changed is restored."""

    class Interrupts:
        def __init__(self, at):
            self.count, self.at = 0, at

        def __call__(self, frame, event, argument):
            frame.f_trace_opcodes = True
            if event == "opcode":
                self.count += 1
                if self.count in self.at:
                    interrupt()
            return self

    state = {"value": "before"}

    def call():
        with Restoration() as restoration:
            restoration.add(lambda: state.update(value="before"))
            state["value"] = "changed"
            with interruptible():
                sum(range(3))

    def traced(at):
        interrupts = Interrupts(at)
        try:
            sys.settrace(interrupts)
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        return interrupts.count

    count, generator = traced(()), random.Random(0)
    assert count > 100
    for first in range(1, count + 1):
        traced((first, first + generator.randint(1, 20)))
        assert state["value"] == "before", first
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, first


def test_an_interrupt_in_python_that_pytorch_calls_stays_one():
    """Where it expects no error, Python makes a SystemError of it."""
    with pytest.raises(KeyboardInterrupt), Restoration(), interruptible():
        raise SystemError from KeyboardInterrupt()
    with pytest.raises(SystemError), Restoration(), interruptible():
        raise SystemError
