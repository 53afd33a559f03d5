"""What grows is noticed; the calls that are repeated all work, and leave nothing."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

pytest.importorskip("resource")  # Windows has none

import soak
from _soak_calls import make_calls, network, passes
from soak import Sample

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWING = ("figures", "explain")  # calls that take seconds, and have their own tests


def sample(minute, mib=100.0, files=5, threads=2, hooks=0):
    return Sample(minute, mib, files, threads, hooks)


@pytest.mark.parametrize(
    ("later", "word"),
    [
        ({"mib": 106}, "resident memory grew from 100 to 106 MiB"),
        ({"files": 6}, "files grew from 5 to 6"),
        ({"threads": 3}, "threads grew from 2 to 3"),
        ({"hooks": 1}, "hooks grew from 0 to 1"),
    ],
)
def test_growth_after_the_first_minute_is_a_leak(later, word):
    samples = [sample(0.5, mib=50, files=1), sample(1.1), sample(2, **later), sample(3)]
    assert word in " ".join(soak.leaks(samples))
    assert len(soak.leaks(samples)) == 1


def test_growth_in_the_first_minute_and_a_little_memory_are_none():
    samples = [sample(0.5, mib=50, files=1, threads=1), sample(1.1), sample(2, mib=104.9)]
    assert soak.leaks(samples) == []


def test_a_sample_after_each_pass_until_the_time_is_over():
    clock = itertools.count(step=30).__next__  # half a minute a pass
    samples = list(soak.soak(itertools.count(), [], 2, clock))
    assert [s.minute for s in samples] == [0.5, 1, 1.5, 2]


def test_the_table_has_the_last_sample_of_each_minute():
    text = soak.report([sample(0.4), sample(0.9, hooks=7), sample(1.5)])
    assert text.splitlines()[2:] == [
        "| 0.9 | 2 | 100 | 5 | 2 | 7 |",
        "| 1.5 | 3 | 100 | 5 | 2 | 0 |",
    ]


def test_hooks_are_counted_wherever_they_are():
    model = nn.Sequential(nn.Linear(2, 2))
    before = soak.count_hooks([model])
    handles = [
        model[0].register_forward_hook(lambda *_: None),
        model.register_forward_pre_hook(lambda *_: None),
        model[0].register_full_backward_hook(lambda *_: None),
        model[0].weight.register_hook(lambda gradient: None),
        register_module_forward_hook(lambda *_: None),
    ]
    try:
        assert soak.count_hooks([model]) == before + 5
    finally:
        for handle in handles:
            handle.remove()
    assert soak.count_hooks([model]) == before


def test_what_a_call_leaves_is_noticed(tmp_path):
    model, kept = nn.Linear(2, 2), []
    count = int((32 + soak.measure(0, [model]).mib / 10) * 2**18)  # 10 % more memory, as float32

    def leave():
        kept.append(torch.ones(count))
        kept.append((tmp_path / "file").open("w"))
        kept.append(model.register_forward_hook(lambda *_: None))

    clock = itertools.count(step=30).__next__
    problems = soak.leaks(list(soak.soak(passes({"leave": leave}), [model], 3, clock)))
    for file in kept[1::3]:
        file.close()
    assert [problem.split(" grew")[0] for problem in problems] == [
        "The resident memory",
        "The number of files",
        "The number of hooks",
    ]


@pytest.mark.filterwarnings("ignore")
def test_the_calls_work_and_leave_no_hooks_files_or_threads(tmp_path):
    models = [network(2), network(3)]
    calls = make_calls(tmp_path, models)
    quick = {name: call for name, call in calls.items() if not name.startswith(DRAWING)}
    assert len(calls) - len(quick) == 6
    each_pass = passes(quick)
    next(each_pass)
    before = soak.measure(0, models)
    next(each_pass)
    after = soak.measure(0, models)
    assert before.hooks == 0
    assert after[2:] == before[2:]
