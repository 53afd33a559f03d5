"""The benchmark of explanations: run on small clips, and its parts; nothing depends on how long it
took, and other packages are there or not."""

import importlib
import json
import math
import mmap
import sys
from functools import partial

import pytest
import torch
from networks import allocating
from torch import nn

pytest.importorskip("resource")  # Windows has none

import benchmark
import peers
import resnet
import timing
from captum_3dcam import LayerwiseGradCAM

SMALL = [
    "--networks",
    "r3d_18",
    "--size",
    "16",
    "--frames",
    "4",
    "--batches",
    "1",
    "--repeats",
    "1",
]

EVERY = ["limit", "3DCAM", "Grad-CAM", *peers.PEERS]


@pytest.fixture(autouse=True)
def threads():
    """The script sets them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_peers(monkeypatch):
    monkeypatch.setattr(benchmark, "missing", lambda: dict.fromkeys(peers.PEERS, "left out"))


def run(tmp_path, *arguments):
    reports = benchmark.main([*SMALL, "--threads", "1", "--output", str(tmp_path), *arguments])
    for name, report in reports.items():
        content = json.loads((tmp_path / f"{name}.json").read_text())
        assert len(content["rows"]) == len(report.rows)
        assert content["machine"] in (tmp_path / f"{name}.md").read_text()
        assert report.text in (tmp_path / f"{name}.md").read_text()
    return reports


def lines_of(report):
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in report.text.split("\n")
    ]


# ------------------------------------------------------------------------------------ studies


def test_time_is_of_every_depth_and_peer_beside_the_limit(tmp_path):
    report = run(tmp_path, "--studies", "time", "--depths", "1", "5")["time"]
    others = [name for name in benchmark.methods(EVERY) if name != "limit"]
    assert others[:2] == ["3DCAM", "Grad-CAM"]
    assert "Captum" in others
    head, _, *rows = lines_of(report)
    assert head == ["network", "batch", "K", "limit, s", *(f"{name} / limit" for name in others)]
    assert [row[:3] for row in rows] == [["r3d_18", "1", "1"], ["r3d_18", "1", "5"]]
    for row in report.rows:
        assert row["rounds"] == 1
        assert list(row["ratios"]) == list(row["to 3DCAM"]) == others
        assert all(0 < ratio.low <= ratio.middle for ratio in row["ratios"].values())
        assert row["to 3DCAM"]["3DCAM"] == (1, 1, 1)


@pytest.mark.usefixtures("no_peers")
def test_studies_in_one_process(tmp_path):
    names = ["classes", "maps", "metrics", "sliding", "modes"]
    reports = run(tmp_path, "--studies", *names)
    (classes,) = reports["classes"].rows
    assert list(classes["ratios"]) == ["3DCAM", "3DCAM, one by one"]
    (maps,) = reports["maps"].rows
    assert 0 < maps["share"].middle < 1
    assert [row["run"] for row in reports["sliding"].rows] == [
        "network alone", "stride 4", "stride 2",
    ]  # fmt: skip
    assert all(row["ms"].low > 0 for row in reports["metrics"].rows)
    modes = {row["mode"]: row for row in reports["modes"].rows}
    assert {"float32", "channels last", "bfloat16", "compiled stages"} < set(modes)
    for row in modes.values():
        assert "absent" in row or row["correlation"] > 0.97
    if not torch.cuda.is_available():
        assert modes["CUDA"]["absent"] == "there is no CUDA device here"


@pytest.mark.usefixtures("no_peers")
def test_memory_is_a_ratio_to_a_bare_forward(tmp_path, monkeypatch):
    asked = []

    def memory_of(method, name, layers, batch, options):
        asked.append((method, name, len(layers), batch))
        return 100.0 if method == "bare" else 100.0 + len(layers)

    monkeypatch.setattr(benchmark, "memory_of", memory_of)
    report = run(tmp_path, "--studies", "memory", "--batches", "1", "4", "8")["memory"]
    assert asked[0] == ("bare", "r3d_18", 5, 4)
    assert [row["layers"] for row in report.rows] == ["last", "last two", "all five"]
    assert [row["ratios"]["3DCAM"] for row in report.rows] == [1.01, 1.02, 1.05]
    assert lines_of(report)[2][:5] == ["r3d_18", "4", "last", "100", "1.01"]


def test_growth_is_a_slope_of_logarithms_and_a_figure(tmp_path, monkeypatch):
    def grown(name, axis, value, options):
        power = 2.0 if axis.startswith("side") else 1.0
        seconds = 0.001 * value**power
        return timing.Quartiles(seconds, seconds, seconds), 3.0 * value**power

    monkeypatch.setattr(benchmark, "grown", grown)
    report = run(tmp_path, "--studies", "growth")["growth"]
    slopes = {row["axis"]: row["slopes"] for row in report.rows}
    assert list(slopes) == ["frames", "side, pixels", "layers", "batch"]
    for axis, slope in slopes.items():
        expected = 2 if axis.startswith("side") else 1
        assert slope == pytest.approx({"time": expected, "memory": expected})
    assert (tmp_path / "growth.png").stat().st_size > 10_000


@pytest.mark.usefixtures("no_peers")
@pytest.mark.parametrize(
    ("axis", "value", "shape", "layers"),
    [
        ("frames", 6, (1, 3, 6, 16, 16), resnet.LAYERS),
        ("side, pixels", 20, (1, 3, 4, 20, 20), resnet.LAYERS),
        ("batch", 2, (2, 3, 4, 16, 16), resnet.LAYERS),
        ("layers", 2, (1, 3, 4, 16, 16), ["layer4.1.bn1", "layer4.1.bn2"]),
    ],
)
def test_one_size_grows_at_a_time(monkeypatch, axis, value, shape, layers):
    seen = []

    def explain(x, classes):
        seen.append(tuple(x.shape))

    def ours(method, network, names):
        seen.append(names)
        return explain

    monkeypatch.setattr(benchmark, "ours", ours)
    monkeypatch.setattr(benchmark, "peak_mib", lambda prepare, *arguments: arguments)
    _, asked = benchmark.grown("r3d_18", axis, value, benchmark.parse(SMALL))
    assert seen[0] == layers
    assert set(seen[1:]) == {shape}
    batch, _, frames, side, _ = shape
    assert asked == ("3DCAM", "r3d_18", layers, batch, frames, side)


def test_of_a_network_the_normalisations_run_in_their_order():
    names = benchmark.normalisations("r3d_18")
    assert len(names) == 20
    assert names[0] == "stem.1"
    assert names[-1] == "layer4.1.bn2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "0"], "--repeats, --frames, --threads and --batches must be at least 1"),
        (["--batches", "0"], "--repeats, --frames, --threads and --batches must be at least 1"),
        (["--studies", "taste"], "invalid choice: 'taste'"),
        (["--depths", "6"], "invalid choice: 6"),
        (["--methods", "limit", "Captum"], "--methods needs limit and 3DCAM"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse(arguments)
    assert message in capsys.readouterr().err


# -------------------------------------------------------------------------- what is measured


def test_the_limit_is_one_forward_and_so_many_backwards_to_the_shallowest_layer():
    network = benchmark.network_of("r3d_18")
    x = benchmark.sample("r3d_18", 2, 4, 16)
    passes = []
    handle = network.register_forward_hook(lambda *args: passes.append(torch.is_grad_enabled()))
    found = benchmark.limit(network, ["layer3", "layer4"], backwards=3)(x, [1, 2])
    handle.remove()
    assert passes == [True]
    assert len(found) == 3
    deep = nn.Sequential(network.layer4, nn.AdaptiveAvgPool3d(1), nn.Flatten(), network.fc)
    start = network.layer3(network.layer2(network.layer1(network.stem(x)))).detach()
    scores = deep(start.requires_grad_())
    (expected,) = torch.autograd.grad(scores[0, 1] + scores[1, 2], start)
    for (gradient,) in found:
        torch.testing.assert_close(gradient, expected)
    assert not any(module._forward_hooks for module in network.modules())


def test_samples_and_networks_are_the_same_each_time():
    assert torch.equal(benchmark.sample("r3d_18", 1, 4, 8), benchmark.sample("r3d_18", 1, 4, 8))
    assert benchmark.sample("resnet50_2d", 2, 4, 8).shape == (2, 3, 16, 16)
    first, again = (benchmark.network_of("r3d_18").state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not benchmark.network_of("r3d_18").training


@pytest.mark.parametrize(
    ("name", "millions"), [("r3d_18", 33.4), ("resnet50_3d", 47.0), ("resnet50_2d", 25.6)]
)
def test_networks_have_the_size_that_they_say(name, millions):
    parameters = resnet.NETWORKS[name]().parameters()
    assert sum(p.numel() for p in parameters) / 1e6 == pytest.approx(millions, abs=0.05)
    assert f"{millions} million" in " ".join(resnet.NETWORKS[name].__doc__.split())


# --------------------------------------------------------------------------------------- peers


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet.r3d_18(num_classes=5).eval()


def maps_of(name, network, layers, x, classes):
    if name in peers.missing():
        pytest.skip(f"{name} is not installed")
    return peers.PEERS[name].make(network, layers)(x, classes)


def test_captums_loop_is_the_sum_of_its_maps(network):
    x = torch.rand(2, 3, 4, 32, 32)
    found = maps_of("Captum", network, ["layer2", "layer3"], x, [1, 3])
    assert found.shape == (2, 1, 4, 32, 32)
    first, second = (maps_of("Captum", network, [name], x, [1, 3]) for name in ("layer2", "layer3"))
    torch.testing.assert_close(found, first + second)
    ours = LayerwiseGradCAM(network, "layer2").attribute(x, target=[1, 3])
    peak = first.amax((1, 2, 3, 4), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(first / peak, ours)
    assert ours.any()


@pytest.mark.parametrize("name", ["torch-cam", "pytorch-grad-cam", "M3d-Cam"])
def test_peers_make_maps_and_leave_the_network_alone(network, name):
    x = torch.rand(1, 3, 8, 32, 32)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    layers = ["layer2"] if name == "M3d-Cam" else ["layer1", "layer2"]
    found = torch.as_tensor(maps_of(name, network, layers, x, [1]))
    assert found.isfinite().all()
    # M3d-Cam leaves each layer's map at its own size.
    assert found.shape[-3:] == ((4, 8, 8) if name == "M3d-Cam" else (8, 32, 32))
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters()) or name != "M3d-Cam"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_peer_that_cannot_be_imported_is_named_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcam.methods", None)
    assert "torchcam.methods" in peers.missing()["torch-cam"]
    assert "torch-cam not there (ModuleNotFoundError: " in peers.versions()
    assert "Captum 0" in peers.versions()
    monkeypatch.setattr(benchmark, "missing", lambda: {"torch-cam": "why not"})
    assert "torch-cam" not in benchmark.methods(EVERY)


def test_torchvision_is_a_placeholder_only_while_a_peer_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # it cannot be imported
    with peers.placeholder_for_torchvision():
        transforms = importlib.import_module("torchvision.transforms")
        with pytest.raises(ImportError, match=r"torchvision.transforms.Compose is a placeholder"):
            transforms.Compose([])
        with pytest.raises(AttributeError):
            transforms.__wrapped__  # noqa: B018
    assert "torchvision.transforms" not in sys.modules
    assert sys.modules.get("torchvision") is None


# -------------------------------------------------------------------------------------- timing


def test_runs_take_turns_and_each_is_first_once():
    order = []
    runs = {name: partial(order.append, name) for name in "abc"}
    seconds = timing.take_turns(runs, 3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_rounds_end_when_it_is_enough_but_not_before_three():
    assert len(timing.take_turns({"a": int}, 9, enough=0)["a"]) == 3
    assert len(timing.take_turns({"a": int}, 2, enough=0)["a"]) == 2


def test_the_clock_is_that_which_was_given():
    ticks = iter(range(100))
    seconds = timing.take_turns({"a": int}, 2, clock=lambda: next(ticks))
    assert seconds == {"a": [1, 1]}


def test_ratios_are_of_the_same_turn():
    assert timing.ratios([2.0, 40.0, 6.0], [1.0, 10.0, 2.0]) == (2.5, 3, 3.5)


def test_the_peak_is_what_a_run_takes_in_a_process_of_its_own():
    held = torch.ones(600, 2**18)  # of ours nothing counts
    assert timing.peak_mib(allocating, 300) == pytest.approx(300, abs=20)
    del held


def test_resident_memory_grows_by_what_is_held():
    before = timing.resident_mib()
    with mmap.mmap(-1, 100 * 2**20) as held:  # of the system, not of what was freed before
        held.write(b"1" * len(held))
        assert timing.resident_mib() - before == pytest.approx(100, abs=20)
        assert timing.most_resident_mib() >= timing.resident_mib() - 1


def test_the_most_resident_memory_is_in_mib(monkeypatch):
    class Usage:
        ru_maxrss = 3 * 2**20

    assert timing.told_mib("VmPeak") >= timing.told_mib("VmHWM")
    monkeypatch.setattr(timing, "told_mib", lambda key: 0.0)  # elsewhere than on Linux
    monkeypatch.setattr(timing.resource, "getrusage", lambda _: Usage)
    monkeypatch.setattr(sys, "platform", "linux")
    assert timing.most_resident_mib() == 3 * 2**10
    monkeypatch.setattr(sys, "platform", "darwin")
    assert timing.most_resident_mib() == 3


def test_the_machine_is_named():
    assert f"torch {torch.__version__}" in timing.machine()
    assert timing.cpu()
    assert not math.isnan(timing.resident_mib())
