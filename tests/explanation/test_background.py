"""Work beside the model's."""

import threading
import time
import warnings
from functools import partial

import pytest

from captum_3dcam._validation import noted_warnings, warn
from captum_3dcam.explanation._background import Writer, read_ahead


def threads():
    return threading.active_count()


def test_the_next_item_is_made_while_one_is_used():
    made = []

    def items():
        for number in range(10):
            made.append(number)
            yield number

    before = threads()
    iterator = read_ahead(items(), depth=2)
    assert next(iterator) == 0
    until = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)
    assert made == [0, 1, 2, 3]  # two are kept, and one more has been made
    assert list(iterator) == list(range(1, 10))
    assert threads() == before


def test_an_error_is_raised_where_the_item_would_be():
    def items():
        yield 1
        raise OSError("gone")

    iterator = read_ahead(items())
    assert next(iterator) == 1
    with pytest.raises(OSError, match="gone"):
        next(iterator)


def test_the_thread_ends_with_its_iterator():
    before = threads()
    iterator = read_ahead(iter(int, 1))
    next(iterator)
    assert threads() == before + 1
    iterator.close()
    assert threads() == before
    next(read_ahead(iter(int, 1)))  # no longer referred to
    assert threads() == before


def test_warnings_are_noted_where_its_own_are():
    def items():
        warn("one frame is missing")
        yield 1

    notes = []
    with noted_warnings(notes), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list(read_ahead(items())) == [1]
    assert notes == ["one frame is missing"]


def test_functions_are_called_in_their_order_and_all_of_them():
    called = []
    with Writer() as writer:
        for number in range(10):
            writer.submit(partial(called.append, number))
    assert called == list(range(10))


def test_an_error_of_a_function_is_raised_and_no_other_is_called():
    called = []

    def fail():
        raise OSError("no space")

    def submit_many(writer):
        for _ in range(100):
            writer.submit(fail)
            writer.submit(partial(called.append, 1))
            time.sleep(0.01)

    with pytest.raises(OSError, match="no space"), Writer() as writer:
        submit_many(writer)
    with pytest.raises(OSError, match="no space"), Writer() as writer:
        writer.submit(fail)
    assert not called


def test_after_an_error_of_the_caller_what_waits_is_not_begun():
    called, begun, go_on = [], threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(10)
        called.append("slow")

    def interrupt():
        with Writer() as writer:
            writer.submit(slow)
            writer.submit(partial(called.append, "waiting"))
            begun.wait(10)
            threading.Timer(0.2, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert called == ["slow"]
