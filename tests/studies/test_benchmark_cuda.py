"""The study of GPUs on the CPU, with a tiny network; and what only a GPU can show."""

import json
import math
import os
import subprocess
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from networks import conv_net
from torch import nn

pytest.importorskip("resource")  # Windows has none

import _benchmark_cuda
import _cuda_graphs
import _cuda_networks
import _cuda_report
import _cuda_runs
import _fresh_process
import benchmark
from _benchmark_cuda import Bench, Budget, plan
from _benchmark_runs import limit
from _cuda_networks import NETWORKS, Network, Scores, make_subject
from _cuda_runs import CHANNELS_LAST, EAGER, GRAPH, Task
from captum_3dcam import LayerwiseGlobalLocalCAM

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def libraries_are_not_searched(monkeypatch):
    """They would stay importable in other tests."""
    monkeypatch.setattr(_cuda_networks, "find_libraries", lambda: None)


def tiny_network(depth=5, **options):
    build = partial(conv_net, 2, depth=depth, inputs=3)
    layers = _cuda_networks.plain([str(k) for k in range(depth)])
    return Network("torch", build, (2, 3, 16, 16), layers, **options)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(NETWORKS, "tiny", tiny_network())
    # A fresh process would not know it.
    monkeypatch.setattr(
        _benchmark_cuda,
        "in_fresh_process",
        lambda function, *arguments, max_seconds: function(*arguments),
    )


def run(tmp_path, *arguments):
    options = ["--studies", "cuda", "--repeats", "2", "--threads", "1", "--output", str(tmp_path)]
    return benchmark.main([*options, *arguments])["cuda"]


def tables_of(report):
    """{heading: rows of cells} of the tables of a report."""
    parts = report.text.split("\n\n")
    return {
        title: [[cell.strip() for cell in line[1:-1].split("|")] for line in body.split("\n")]
        for title, body in pairwise(parts)
        if body.startswith("|")
    }


# ------------------------------------------------------------------------------------- the study


@pytest.mark.usefixtures("tiny")
def test_all_rows_of_a_network_on_the_cpu(tmp_path, monkeypatch):
    def captured(run):
        raise RuntimeError("a value is read")

    monkeypatch.setattr(_cuda_runs, "captured", captured)  # on a GPU it would outlive the test
    report = run(tmp_path, "--device", "cpu", "--cuda-networks", "tiny")
    tasks = [(row["mode"], row["layers"], row["classes"]) for row in report.rows]
    assert tasks == [
        (EAGER, 5, 1), (EAGER, 5, 4), (GRAPH, 5, 1), (CHANNELS_LAST, 5, 1),
        (EAGER, 1, 1), (EAGER, 3, 1), (CHANNELS_LAST, 5, 4),
    ]  # fmt: skip
    for row in report.rows:
        assert 0 < row["ratios"]["3DCAM"].low <= row["ratios"]["3DCAM"].median
        assert row["mode"] == GRAPH or {"limit", "3DCAM", "Captum"} <= row["seconds"].keys()
    content = json.loads((tmp_path / "cuda.json").read_text())
    assert [row["network"] for row in content["rows"]] == ["tiny"] * 7
    assert content["rows"][0]["mib"]["limit"] is None  # of a GPU only
    tables = tables_of(report)
    header, _, *cells = tables["Time:"]
    assert header[5:9] == ["limit, ms", "3DCAM, ms", "3DCAM / limit", "Captum / limit"]
    assert [row[:5] for row in cells[:2]] == [
        ["tiny", "2", "eager", "5", "1"],
        ["tiny", "2", "eager", "5", "4"],
    ]
    *_, graphs = tables["CUDA graphs:"]
    assert graphs[:3] == ["tiny", "2", "5"]
    assert graphs[5:] == [
        "not capturable: RuntimeError: a value is read",
        "not capturable: not tried after limit",
        "-",
    ]


def test_without_a_device_the_study_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    report = run(tmp_path)
    assert report.text == "Not measured: there is no CUDA device here."
    assert report.rows == [{"absent": "there is no CUDA device here"}]
    assert report.text in (tmp_path / "cuda.md").read_text()


def test_the_device_is_a_gpu_for_this_study_alone():
    options = benchmark.parse([])
    assert (options.device, options.cuda_device, options.minutes) == ("cpu", "cuda", 8)
    assert benchmark.parse(["--device", "cpu"]).cuda_device == "cpu"
    assert benchmark.parse(["--device", "cuda"]).device == "cuda"


@pytest.mark.usefixtures("tiny")
def test_what_is_left_out_is_reported(tmp_path, monkeypatch):
    def build():
        raise ImportError("needs another PyTorch\nand more")

    monkeypatch.setitem(NETWORKS, "r3d_18", Network("torch", build, (1, 3, 8, 8), (("0", None),)))
    monkeypatch.setitem(NETWORKS, "X3D-M", tiny_network())
    monkeypatch.setattr(
        _benchmark_cuda,
        "missing_library",
        lambda network: "lost" if network is NETWORKS["X3D-M"] else None,
    )
    report = run(tmp_path, "--device", "cpu", "--cuda-networks", "r3d_18", "X3D-M")
    assert report.rows == []
    left_out = report.text.split("Left out:\n\n")[1].split("\n")
    assert left_out[0] == "- X3D-M: lost"
    assert left_out[1] == "- r3d_18, eager, 1 layer(s): ImportError: needs another PyTorch"
    report = run(tmp_path, "--device", "cpu", "--cuda-networks", "tiny", "--minutes", "0")
    assert report.rows == []
    assert "- tiny, eager, 5 layer(s), top 5: no time left" in report.text


def test_a_missing_library_is_named():
    assert _cuda_networks.missing_library(NETWORKS["r3d_18"]) is None
    absent = Network("no_such_library", nn.Identity, (1,), ())
    assert _cuda_networks.missing_library(absent) == "no_such_library is not installed"


# ------------------------------------------------------------------------------- plan and budget


def test_every_network_has_its_most_important_row_before_any_has_a_second():
    networks = {"a": tiny_network(), "b": tiny_network(2, convolutional=False)}
    tasks = plan(networks)
    assert tasks[:6] == [
        Task("a", EAGER, 5), Task("b", EAGER, 1), Task("a", EAGER, 5, 5), Task("b", EAGER, 1, 5),
        Task("a", GRAPH, 5), Task("b", GRAPH, 1),
    ]  # fmt: skip
    assert tasks[6:] == [
        Task("a", CHANNELS_LAST, 5), Task("a", EAGER, 1), Task("a", EAGER, 3),
        Task("a", CHANNELS_LAST, 5, 5),
    ]  # fmt: skip
    assert plan({}) == []


def test_a_row_begins_while_there_is_time_for_one_like_it():
    now = [0.0]
    budget = Budget(10, clock=lambda: now[0])
    with budget.spent_on("a"):
        now[0] = 4
    with budget.spent_on("a"):
        now[0] = 5
    assert budget.left() == 5
    assert budget.allows("a")
    now[0] = 6
    assert not budget.allows("a")  # 4 seconds are left, and its longest row took 4
    assert budget.allows("b")
    now[0] = 11
    assert budget.left() == 0
    assert not budget.allows("b")


# ------------------------------------------------------------------------------------------ runs


@pytest.mark.usefixtures("tiny")
def test_runs_explain_the_same_classes():
    subject = make_subject(NETWORKS["tiny"], "cpu")
    runs, absent = _cuda_runs.make_runs(subject, Task("tiny", EAGER, 3, 2))
    maps, classes = runs["3DCAM"]()
    assert maps.shape == (2, 2, 16, 16)
    assert classes.T.tolist() == _cuda_runs.top_targets(subject, 2)
    assert len(runs["limit"]()) == len(runs["Captum"]()) == 2
    assert set(runs) | set(absent) == {"limit", *_cuda_runs.METHODS}
    cam = LayerwiseGlobalLocalCAM(subject.network, ["2", "3", "4"])
    for rank, targets in enumerate(classes.T.tolist()):
        expected = cam.attribute(subject.x, targets)
        torch.testing.assert_close(maps[:, rank : rank + 1], expected)
    runs, _ = _cuda_runs.make_runs(subject, Task("tiny", EAGER, 3))
    torch.testing.assert_close(runs["3DCAM"](), maps[:, :1])


def test_other_packages_are_absent_where_they_cannot_read_the_layers():
    network = tiny_network(1, input_layout="N C H W")
    _, absent = _cuda_runs.make_runs(make_subject(network, "cpu"), Task("tiny", EAGER, 1))
    assert absent == dict.fromkeys(
        ("Captum", "torch-cam", "pytorch-grad-cam"), "takes inputs and layers (N, C, *S) only"
    )


@pytest.mark.parametrize(
    ("rank", "memory_format"), [(2, torch.channels_last), (3, torch.channels_last_3d)]
)
def test_channels_last(rank, memory_format):
    build, size = partial(conv_net, rank, inputs=3), (8,) * rank
    network = Network("torch", build, (2, 3, *size), (("0", None), ("1", None)))
    last, plain = (make_subject(network, "cpu", channels_last) for channels_last in (True, False))
    assert last.x.is_contiguous(memory_format=memory_format)
    assert last.network[0][0].weight.is_contiguous(memory_format=memory_format)
    maps = [_cuda_runs.make_cam(each, 2).attribute(each.x, each.classes) for each in (last, plain)]
    torch.testing.assert_close(*maps)


def test_a_later_class_is_explained_where_the_map_of_the_first_is_zero():
    first, second = (make_subject(tiny_network(rank=rank), "cpu") for rank in (0, 1))
    ranked = first.network(first.x).argsort(dim=1, descending=True)
    assert first.classes == ranked[:, 0].tolist()
    assert second.classes == ranked[:, 1].tolist()


def test_errors_and_slow_runs_of_others(monkeypatch):
    calls = []

    def fail():
        raise MemoryError("too large")

    def sleep():
        calls.append("slow")
        time.sleep(0.02)

    monkeypatch.setattr(_cuda_runs, "SLOW_CALL", 0.01)
    runs = {"limit": partial(time.sleep, 0.005), "3DCAM": sleep, "torch-cam": sleep, "Captum": fail}
    timing = _cuda_runs.time_runs(runs, 3, 1, "cpu")
    assert timing.failed == {"Captum": "MemoryError: too large"}
    assert {name: len(values) for name, values in timing.seconds.items()} == {
        "limit": 3, "3DCAM": 3, "torch-cam": 1,
    }  # fmt: skip
    assert len(calls) == 1 + 2 + 1 + 3  # once; twice, for the memory; the warm-up; rounds
    row = timing.row()
    assert row["once"] == ["torch-cam"]
    assert _cuda_report.ratio_cell(row, "torch-cam").endswith(" (one call)")
    assert _cuda_report.ratio_cell(row, "Captum") == "-"
    with pytest.raises(MemoryError):
        _cuda_runs.time_runs({"limit": fail}, 3, 1, "cpu")


def test_memory_is_beside_that_of_the_limit():
    cells = _cuda_report.memory_cells({"limit": 200.0, "3DCAM": 100.0, "Captum": math.nan})
    assert list(cells) == ["200", "0.50", "-", "-", "-"]


# -------------------------------------------------------------------------------------- networks


def test_scores_of_a_segmentation_and_of_logits():
    output = torch.randn(2, 3, 4, 5)
    scores = Scores(nn.Identity())(output)
    for sample, of_sample in zip(output, scores, strict=True):
        predicted = sample.argmax(dim=0)
        for number in range(3):
            expected = sample[number][predicted == number].sum()
            torch.testing.assert_close(of_sample[number], expected)

    class Output(nn.Module):
        def forward(self, x):
            return type("Returned", (), {"logits": x})

    assert Scores(Output())(output[..., 0, 0]).equal(output[..., 0, 0])


@pytest.mark.parametrize("name", ["r3d_18", "ResNet-50"])
def test_the_residual_networks_are_explained_at_a_small_size(name):
    network = NETWORKS[name]
    small = network.shape[1:2] + (4, 32, 32)[-(len(network.shape) - 2) :]
    network = Network("torch", network.build, (1, *small), network.layers)
    subject = make_subject(network, "cpu")
    runs, _ = _cuda_runs.make_runs(subject, Task(name, EAGER, 5))
    assert runs["3DCAM"]().shape == (1, 1, *small[1:])
    assert len(runs["limit"]()[0]) == 1


def test_the_number_of_layers():
    assert {name: _benchmark_cuda.depths(network) for name, network in NETWORKS.items()} == {
        "r3d_18": [1, 3, 5],
        "ResNet-50": [1, 3, 5],
        "VideoMAE-B": [1],
        "Swin UNETR": [1, 3, 5],
        "X3D-M": [1, 3, 5],
    }


# ----------------------------------------------------------------------------------- CUDA graphs


class Capture:
    """Stands for torch.cuda's graphs: a replay runs the call again, into the same output."""

    def __init__(self, monkeypatch):
        self.events = []
        names = {"CUDAGraph": self.graph, "Stream": self.stream, "current_stream": self.stream}
        for name, value in names.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.cuda, "stream", partial(self.section, "side"))
        monkeypatch.setattr(torch.cuda, "graph", partial(self.section, "capture"))

    def graph(self):
        return type("Graph", (), {"replay": lambda _: self.events.append("replay")})()

    def stream(self):
        return type("Stream", (), {"wait_stream": lambda *_: self.events.append("wait")})()

    def section(self, name, *_):
        events = self.events

        class Section:
            def __enter__(self):
                events.append(name)

            def __exit__(self, *_):
                events.append("end")

        return Section()


def test_a_capture_follows_a_warm_up_on_another_stream(monkeypatch):
    capture = Capture(monkeypatch)
    replay, output = _cuda_graphs.captured(lambda: capture.events.append("run") or "output")
    replay()
    warm_up = ["wait", "side", "run", "run", "run", "end", "wait"]
    assert capture.events == [*warm_up, "capture", "run", "end", "replay"]
    assert output == "output"


@pytest.mark.usefixtures("tiny")
def test_the_ratio_of_a_replay_or_the_reason_why_there_is_none(monkeypatch):
    Capture(monkeypatch)
    row = _cuda_runs.graph_row("tiny", 5, "cpu", 2, 1)
    assert list(row["replays"]) == ["limit", "3DCAM"]
    assert all(ratio.low > 0 for ratio in row["replays"].values())
    assert not row["reasons"]
    values = iter(range(9))
    runs = {"limit": lambda: torch.ones(2), "3DCAM": lambda: torch.full((2,), 1.0 + next(values))}
    replays, reasons = _cuda_runs.measure_replays(runs, 1, 1)
    assert list(replays) == ["limit"]
    assert reasons == {"3DCAM": "ArithmeticError: the replay's output differs by 1"}


def test_outputs_are_compared_by_their_peak():
    _cuda_runs.check_same([(torch.tensor([10.0, 0.05]),)], [(torch.tensor([10.0, 0.0]),)])
    _cuda_runs.check_same(torch.zeros(2), torch.zeros(2))
    for wrong in (10.2, math.nan):
        with pytest.raises(ArithmeticError):
            _cuda_runs.check_same(torch.tensor([wrong]), torch.tensor([10.0]))


def test_the_reason_is_the_first_error():
    class Section:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            raise RuntimeError("the capture ended")

    with pytest.raises(RuntimeError) as caught, Section():
        int("first")
    assert _fresh_process.reason_of(caught.value).startswith("ValueError: invalid literal")
    assert _fresh_process.reason_of(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert _fresh_process.reason_of(KeyError()) == "KeyError: "


def test_a_fresh_process():
    fresh = partial(_fresh_process.in_fresh_process, max_seconds=120)
    assert fresh(math.sqrt, 9) == 3
    with pytest.raises(RuntimeError, match="ValueError: "):
        fresh(int, "nine")
    with pytest.raises(RuntimeError, match="the process ended without a result"):
        fresh(os._exit, 1)
    with pytest.raises(TimeoutError, match="no result after 0 s"):
        _fresh_process.in_fresh_process(time.sleep, 60, max_seconds=0.01)


def test_classes_on_the_device_give_the_same_limit():
    subject = make_subject(tiny_network(), "cpu")
    run_passes = limit(subject.network, ["2", "3"])
    listed = run_passes(subject.x, subject.classes)
    held = run_passes(subject.x, torch.tensor(subject.classes))
    assert torch.equal(listed[0][0], held[0][0])


# ------------------------------------------------------------------------------- script and GPU


def run_script(folder, interpreter):
    interpreter.chmod(0o755)
    return subprocess.run(
        ["bash", str(ROOT / "studies" / "run_on_gpu.sh"), str(folder)],
        env={**os.environ, "GPU_PYTHON": str(interpreter)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_ends_with_a_message_where_there_is_no_device(tmp_path):
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nexit 1\n")
    ended = run_script(tmp_path / "gpu", interpreter)
    assert ended.returncode == 1
    assert "has no PyTorch that sees a CUDA device" in ended.stderr


def test_the_script_measures_also_where_a_test_fails(tmp_path):
    interpreter = tmp_path / "python"
    interpreter.write_text('#!/bin/sh\necho "called: $*"\ncase "$*" in *pytest*) exit 3;; esac\n')
    ended = run_script(tmp_path / "gpu", interpreter)
    assert ended.returncode == 3
    assert "called: -m pytest -q tests/test_gpu.py" in (tmp_path / "gpu" / "tests.txt").read_text()
    called = (tmp_path / "gpu" / "benchmark.txt").read_text().removeprefix("called: ")
    script, *arguments = called.split()
    assert script == "studies/benchmark.py"
    options = benchmark.parse(arguments)
    assert options.studies == ["cuda"]
    assert options.output == tmp_path / "gpu"
    assert options.minutes < 8


@needs_gpu
def test_the_limit_is_captured_and_waits_are_counted():
    network = tiny_network(2)
    subject = make_subject(network, "cuda")
    classes = torch.tensor(subject.classes, device="cuda")
    run_passes = partial(limit(subject.network, ["0", "1"]), subject.x, classes)
    assert _cuda_graphs.count_waits(run_passes) == 0
    assert _cuda_graphs.count_waits(lambda: subject.x.sum().item()) >= 1
    replay, output = _cuda_graphs.captured(run_passes)
    replay()
    _cuda_runs.check_same(output, run_passes())


@needs_gpu
def test_memory_of_a_call_on_the_gpu():
    def allocate():
        return torch.ones(2**20, 4, device="cuda")

    _, mib = _cuda_runs.measure_call(allocate, "cuda")
    assert mib == pytest.approx(16, abs=1)


@needs_gpu
def test_a_row_in_a_process_of_its_own():
    bench = Bench("cuda", 2, 1)
    row = bench.measure(Task("r3d_18", GRAPH, 1), 300)
    assert set(row["replays"]) | set(row["reasons"]) == {"limit", "3DCAM"}
    assert row["waits"] >= 0
