"""Junk arguments: nothing but the package's own errors, and a fuzzer that sees others."""

import pytest
import torch

import _fuzz_calls
import fuzz_arguments
from captum_3dcam import functional, metrics


def test_every_public_function_has_a_valid_call():
    calls = _fuzz_calls.valid_calls()
    assert calls.keys() == _fuzz_calls.public_names()
    assert {"fuse", "Layer", "boxes", "MaxBoxAcc", "visualize_image_attr"} <= calls.keys()
    for name, call in calls.items():
        assert fuzz_arguments.problem_of(*call) is None, name


def test_junk_raises_the_packages_own_errors(capsys):
    assert fuzz_arguments.main(["--seed", "0", "--cases", "400"]) == 0
    assert "400 cases: 400 held, 0 failed" in capsys.readouterr().out


def test_the_time_limits_a_run():
    assert fuzz_arguments.run(seed=1, seconds=0) == (0, [])


MAPS = [torch.rand(2)]


def call_without_checks(maps):
    return maps.ndim


@pytest.mark.parametrize(
    ("function", "arguments", "problem"),
    [
        (call_without_checks, {"maps": None}, "AttributeError at outside: 'NoneType'"),
        (functional.fuse, {"layer_maps": MAPS, "count": 1, "fusion": len}, None),
        (
            functional.fuse,
            {"layer_maps": MAPS, "count": 1, "fusion": int},
            "ValueError at fus",
        ),
        (metrics.cam_thresholds, {"interval": "a"}, None),
        (metrics.cam_thresholds, {}, None),
    ],
)
def test_an_error_holds_if_the_package_raises_it(function, arguments, problem):
    received = fuzz_arguments.problem_of(function, arguments)
    assert received is None if problem is None else received.startswith(problem)


def test_failures_are_reported_once(monkeypatch, capsys):
    calls = {"broken": (call_without_checks, {"maps": torch.rand(2, 2)})}
    monkeypatch.setattr(fuzz_arguments, "valid_calls", lambda: calls)
    assert fuzz_arguments.main(["--cases", "50"]) == 1
    out = capsys.readouterr().out
    assert "broken: AttributeError at outside" in out
    assert "50 cases: " in out
    tried, failures = fuzz_arguments.run(seed=0, seconds=0.2)
    assert tried > len(failures) > 0
    assert len(set(failures)) == len(failures)
