"""The peak memory of a run."""

import mmap
import sys

import pytest
import torch
from networks import allocating

pytest.importorskip("resource")  # Windows has none

import _memory


def test_the_peak_of_a_run_in_a_fresh_process():
    held = torch.ones(600, 2**18)  # the memory of this process does not count
    assert _memory.peak_mib(allocating, 300) == pytest.approx(300, abs=20)
    del held


def test_resident_memory_grows_by_what_is_held():
    before = _memory.resident_mib()
    with mmap.mmap(-1, 100 * 2**20) as held:  # from the system, not from what was freed before
        held.write(b"1" * len(held))
        assert _memory.resident_mib() - before == pytest.approx(100, abs=20)
        assert _memory.peak_resident_mib() >= _memory.resident_mib() - 1


def test_the_peak_of_the_resident_memory_is_in_mib(monkeypatch):
    class Usage:
        ru_maxrss = 3 * 2**20

    assert _memory.status_mib("VmPeak") >= _memory.status_mib("VmHWM")
    monkeypatch.setattr(_memory, "status_mib", lambda key: 0.0)  # on other systems than Linux
    monkeypatch.setattr(_memory.resource, "getrusage", lambda _: Usage)
    monkeypatch.setattr(sys, "platform", "linux")
    assert _memory.peak_resident_mib() == 3 * 2**10
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _memory.peak_resident_mib() == 3
