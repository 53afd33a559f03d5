"""Runs that are timed in turns."""

from functools import partial

import torch

import _timing


def test_runs_take_turns_and_each_is_first_once():
    order = []
    runs = {name: partial(order.append, name) for name in "abc"}
    seconds = _timing.take_turns(runs, 3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_rounds_end_after_a_time_but_not_before_three():
    assert len(_timing.take_turns({"a": int}, 9, max_seconds=0)["a"]) == 3
    assert len(_timing.take_turns({"a": int}, 2, max_seconds=0)["a"]) == 2


def test_the_given_clock_is_used():
    ticks = iter(range(100))
    seconds = _timing.take_turns({"a": int}, 2, clock=lambda: next(ticks))
    assert seconds == {"a": [1, 1]}


def test_ratios_are_of_the_same_round():
    assert _timing.ratios([2.0, 40.0, 6.0], [1.0, 10.0, 2.0]) == (2.5, 3, 3.5)


def test_the_machine_is_named():
    assert f"torch {torch.__version__}" in _timing.machine()
    assert _timing.cpu()
