"""The random trials hold for a short while, and notice what is broken on purpose."""

import gc
import os
import pickle
import random
import struct
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("resource")  # Windows has none

import _fuzz_cases
import _fuzz_files
import _fuzz_formulas
import _fuzz_networks
import _fuzz_values
import _memory
import captum_3dcam
import fuzz
from captum_3dcam import functional

pytestmark = pytest.mark.usefixtures("one_thread")


def problems(check, cases):
    """The failures' texts of the first cases."""
    texts = (_fuzz_cases.problem_of(check, case) for case in range(cases))
    return [text for text in texts if text]


# ----------------------------------------------------------------------------------- the table


@pytest.mark.parametrize(("failures", "status"), [([], 0), (["case 1: wrong | false"], 1)])
def test_the_table_and_the_exit_status(failures, status, monkeypatch, capsys):
    received = []

    def run(seed, seconds):
        received.append((seed, seconds))
        return 3, failures

    monkeypatch.setitem(sys.modules, "_made_up", SimpleNamespace(run=run))
    monkeypatch.setitem(fuzz.KINDS, "values", "_made_up")
    assert fuzz.main(["--kinds", "values", "--seed", "7", "--seconds", "2"]) == status
    printed = capsys.readouterr().out
    assert received == [(7, 2)]
    assert f"| values | 3 | {3 - len(failures)} | {len(failures)} |" in printed
    assert all(f"values: {failure}" in printed for failure in failures)


def test_cases_of_two_seeds_are_not_the_same():
    tried = []
    count, failures = _fuzz_cases.run_cases(tried.append, 2, 0.001)
    assert failures == []
    assert tried == list(range(2_000_000, 2_000_000 + count))


def test_failures_name_their_case():
    def check(case):
        raise KeyError("layer")

    _, failures = _fuzz_cases.run_cases(check, 1, 0.001)
    line = check.__code__.co_firstlineno + 1
    assert failures[0] == f"case 1000000: KeyError: 'layer' (check:{line})"


@pytest.mark.parametrize("kind, count", [(_fuzz_networks, 6), (_fuzz_values, 80)])
def test_random_cases_hold(kind, count):
    assert problems(kind.check, count) == []
    tried, failures = kind.run(1, 0.05)
    assert tried > 0
    assert failures == []


# ------------------------------------------------------------------------------------ networks


def test_most_maps_of_random_networks_are_compared(monkeypatch):
    """Not so much lost to rounding that nothing is known."""
    comparable, peaks = [], []

    def note(what, request, received, expected):
        comparable.extend(expected.tolerance.isfinite().tolist())
        peaks.extend(expected.values.flatten(1).amax(dim=1).tolist())

    monkeypatch.setattr(_fuzz_networks, "_compare", note)
    assert problems(_fuzz_networks.check, 8) == []
    assert np.mean(comparable) > 0.8
    assert np.mean(np.greater(peaks, 0)) > 0.5


def test_another_formula_is_noticed(monkeypatch):
    rule = staticmethod(functional.hi_res_cam)
    monkeypatch.setattr(captum_3dcam.LayerwiseLayerCAM, "rule", rule)
    texts = problems(_fuzz_networks.check, 6)
    assert texts
    assert all("LayerwiseLayerCAM at" in text for text in texts)


@pytest.mark.parametrize(
    ("what", "leave"),
    [
        ("hooks", lambda network, inputs: network.register_forward_hook(lambda *_: None)),
        ("modes", lambda network, inputs: network.train(not network.training)),
        ("generator", lambda network, inputs: torch.rand(1)),
        ("inputs", lambda network, inputs: inputs.add_(1)),
        ("attributes", lambda network, inputs: setattr(network, "seen", inputs)),
        (
            "parameters and buffers",
            lambda network, inputs: network.head.register_buffer("seen", inputs),
        ),
        ("requires_grad", lambda network, inputs: flip_requires_grad(network)),
    ],
)
def test_a_state_that_is_not_restored_is_noticed(what, leave, monkeypatch):
    attribute = captum_3dcam.LayerwiseXGradCAM.attribute

    def leaving(cam, inputs, *args, **options):
        maps = attribute(cam, inputs, *args, **options)
        if "per_layer" not in options:  # else the next maps differ
            leave(cam.forward_func, inputs)
        return maps

    monkeypatch.setattr(captum_3dcam.LayerwiseXGradCAM, "attribute", leaving)
    texts = problems(_fuzz_networks.check, 1)
    assert "LayerwiseXGradCAM" in texts[0]
    assert "changed" in texts[0]
    assert repr(what) in texts[0]


def flip_requires_grad(network):
    parameter = next(network.parameters())
    parameter.requires_grad_(not parameter.requires_grad)


# -------------------------------------------------------------------------------------- values


def test_a_rule_that_is_not_its_formula_is_noticed(monkeypatch):
    def averaged(activation, gradient):
        return (functional.channel_sum(gradient.mean(dim=-1, keepdim=True) * activation).relu(),)

    monkeypatch.setattr(functional, "grad_cam", averaged)
    texts = problems(_fuzz_values.check, 20)
    assert texts
    assert all("LayerwiseGradCAM" in text for text in texts)


def test_nan_that_is_not_refused_is_noticed(monkeypatch):
    monkeypatch.setattr("captum_3dcam._capture.extremes._check_finite", lambda *given: None)
    texts = problems(_fuzz_values.check, 40)
    assert any("in the activation" in text for text in texts)
    assert any("in the gradient" in text for text in texts)


def test_sums_in_half_precision_are_noticed(monkeypatch):
    for module in (functional, functional.gradient_rules):
        monkeypatch.setattr(module, "channel_sum", lambda x: x.sum(dim=1, keepdim=True))
    texts = problems(_fuzz_values.check, 40)
    assert texts
    assert all("float16" in text for text in texts)


def test_the_formulas_are_those_of_the_paper():
    """The fixture of the paper's two factors, and of its counterfactual."""
    alpha = torch.tensor([[[[1.0, 3.0], [2.0, 4.0]]]])
    beta = torch.tensor([[[[2.0, -1.0], [1.0, 4.0]]]])
    for rule, expected in (
        ("global_local", [0.125, 0, 0.125, 1]),
        ("counterfactual", [0, 0.75, 0, 0]),
    ):
        sums = _fuzz_formulas.sums_of(rule, alpha, beta)
        factors = [_fuzz_formulas.drawn([each], (2, 2), 1e-16) for each in sums]
        product = _fuzz_formulas.multiplied(factors)
        assert product.values.flatten().tolist() == expected
        assert float(product.tolerance) < 1e-12


# --------------------------------------------------------------------------------------- files


def test_mutated_files_hold():
    tried, failures = _fuzz_files.run(0, 1)
    assert tried > 10
    assert failures == []


def test_every_original_can_be_read(tmp_path):
    for number, original in enumerate(_fuzz_files.originals()):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / f"file{original.suffix}"
        path.write_bytes(original.content)
        original.read(path)


def test_another_error_is_noticed(monkeypatch):
    def read(path):
        raise struct.error("unpack requires a buffer of 4 bytes")

    broken = [each._replace(read=read) for each in _fuzz_files.originals()]
    monkeypatch.setattr(_fuzz_files, "_originals", broken)
    assert any("error: unpack requires" in text for text in problems(_fuzz_files.check, 3))


def test_an_error_that_names_no_file_is_noticed(monkeypatch):
    def read(path):
        raise ValueError("bad magic number")

    broken = [each._replace(read=read) for each in _fuzz_files.originals()]
    monkeypatch.setattr(_fuzz_files, "_originals", broken)
    assert any("names no file" in text for text in problems(_fuzz_files.check, 3))


def test_memory_is_noticed(monkeypatch):
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak, which other tests have raised

    def read(path):
        # More than the process has had since, also if other memory is freed meanwhile.
        free = _memory.peak_resident_mib() - _memory.resident_mib()
        np.ones(int(free + 3 * _fuzz_files.RESIDENT_LIMIT_MIB) * 2**20, np.uint8)

    broken = [each._replace(read=read) for each in _fuzz_files.originals()]
    monkeypatch.setattr(_fuzz_files, "_originals", broken)
    assert "MiB" in problems(_fuzz_files.check, 1)[0]


def test_code_that_runs_is_noticed(monkeypatch):
    monkeypatch.setattr(_fuzz_files, "load_pyannot", lambda path: pickle.loads(path.read_bytes()))
    assert any("its code has run" in text for text in problems(_fuzz_files.check, 150))


def test_malicious_files_are_that(tmp_path):
    """Each pickle of them makes the sentinel where pickles are trusted."""
    for number in range(40):
        sentinel = tmp_path / f"sentinel{number}"
        file = _fuzz_files.malicious(random.Random(number), sentinel)
        if file.kind == "malicious pickle":
            pickle.loads(file.content)
            assert sentinel.exists()


def test_a_crash_is_noticed_and_the_next_cases_are_tried():
    tried, failures = _fuzz_files.run_apart(os._exit, 0, 0.01)
    assert tried >= 1  # more than one where a process starts and ends within the time
    assert failures == [f"case {n}: ends the process, exit code {n}" for n in range(tried)]


def test_a_file_that_hangs_is_noticed():
    tried, failures = _fuzz_files.run_apart(time.sleep, 1, 0.01, case_seconds=0.1)
    assert tried == 1
    assert failures == ["case 1000000: hangs for more than 0.1 s"]
