"""The benchmark on small clips, and its parts. No assertion depends on how long a run took, or on
whether the other packages are installed."""

import json

import pytest
import torch
from torch import nn

pytest.importorskip("resource")  # Windows has none

import _benchmark_growth
import _benchmark_runs
import _peers
import _resnet
import benchmark
from _timing import Quartiles

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

EVERY = ["limit", "3DCAM", "Grad-CAM", *_peers.PEERS]


@pytest.fixture(autouse=True)
def threads():
    """The script sets them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_peers(monkeypatch):
    for module in (benchmark, _benchmark_runs):
        monkeypatch.setattr(module, "missing", lambda: dict.fromkeys(_peers.PEERS, "left out"))


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


def test_time_of_every_depth_and_peer_beside_the_limit(tmp_path):
    report = run(tmp_path, "--studies", "time", "--depths", "1", "5")["time"]
    others = [name for name in benchmark.available_methods(EVERY) if name != "limit"]
    assert others[:2] == ["3DCAM", "Grad-CAM"]
    assert "Captum" in others
    header, _, *rows = lines_of(report)
    assert header == ["network", "batch", "K", "limit, s", *(f"{name} / limit" for name in others)]
    assert [row[:3] for row in rows] == [["r3d_18", "1", "1"], ["r3d_18", "1", "5"]]
    for row in report.rows:
        assert row["rounds"] == 1
        assert list(row["ratios"]) == list(row["to 3DCAM"]) == others
        assert all(0 < ratio.low <= ratio.median for ratio in row["ratios"].values())
        assert row["to 3DCAM"]["3DCAM"] == (1, 1, 1)


@pytest.mark.usefixtures("no_peers")
def test_studies_in_one_process(tmp_path):
    names = ["classes", "maps", "metrics", "sliding", "modes"]
    reports = run(tmp_path, "--studies", *names)
    (classes,) = reports["classes"].rows
    assert list(classes["ratios"]) == ["3DCAM", "3DCAM, one by one"]
    (maps,) = reports["maps"].rows
    assert 0 < maps["share"].median < 1
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
    requests = []

    def memory_of(method, name, layers, batch, options):
        requests.append((method, name, len(layers), batch))
        return 100.0 if method == "bare" else 100.0 + len(layers)

    monkeypatch.setattr(benchmark, "memory_of", memory_of)
    report = run(tmp_path, "--studies", "memory", "--batches", "1", "4", "8")["memory"]
    assert requests[0] == ("bare", "r3d_18", 5, 4)
    assert [row["layers"] for row in report.rows] == ["last", "last two", "all five"]
    assert [row["ratios"]["3DCAM"] for row in report.rows] == [1.01, 1.02, 1.05]
    assert lines_of(report)[2][:5] == ["r3d_18", "4", "last", "100", "1.01"]


def test_growth_is_a_slope_of_logarithms_and_a_figure(tmp_path, monkeypatch):
    def measure_size(name, axis, value, options):
        power = 2.0 if axis.startswith("side") else 1.0
        seconds = 0.001 * value**power
        return Quartiles(seconds, seconds, seconds), 3.0 * value**power

    monkeypatch.setattr(_benchmark_growth, "measure_size", measure_size)
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
        ("frames", 6, (1, 3, 6, 16, 16), _resnet.LAYERS),
        ("side, pixels", 20, (1, 3, 4, 20, 20), _resnet.LAYERS),
        ("batch", 2, (2, 3, 4, 16, 16), _resnet.LAYERS),
        ("layers", 2, (1, 3, 4, 16, 16), ["layer4.1.bn1", "layer4.1.bn2"]),
    ],
)
def test_one_size_grows_at_a_time(monkeypatch, axis, value, shape, layers):
    calls = []

    def explain(x, classes):
        calls.append(tuple(x.shape))

    def ours(method, network, names):
        calls.append(names)
        return explain

    monkeypatch.setattr(_benchmark_growth, "ours", ours)
    monkeypatch.setattr(
        _benchmark_growth, "peak_mib", lambda prepare, *arguments, device: (arguments, device)
    )
    options = benchmark.parse(SMALL)
    _, (arguments, device) = _benchmark_growth.measure_size("r3d_18", axis, value, options)
    assert calls[0] == layers
    assert set(calls[1:]) == {shape}
    batch, _, frames, side, _ = shape
    assert arguments == ("3DCAM", "r3d_18", layers, batch, frames, side, "cpu")
    assert device == "cpu"


def test_the_batch_normalisations_of_a_network_in_the_order_of_their_runs():
    names = _benchmark_growth.batch_norms("r3d_18")
    assert len(names) == 20
    assert names[0] == "stem.1"
    assert names[-1] == "layer4.1.bn2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "0"], "--repeats: expected an integer of at least 1; got '0'"),
        (["--batches", "0"], "--batches: expected an integer of at least 1; got '0'"),
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


def test_the_limit_is_one_forward_and_backwards_to_the_shallowest_layer():
    network = benchmark.make_network("r3d_18")
    x = benchmark.make_inputs("r3d_18", 2, 4, 16)
    passes = []
    handle = network.register_forward_hook(lambda *args: passes.append(torch.is_grad_enabled()))
    gradients = benchmark.limit(network, ["layer3", "layer4"], backwards=3)(x, [1, 2])
    handle.remove()
    assert passes == [True]
    assert len(gradients) == 3
    deep = nn.Sequential(network.layer4, nn.AdaptiveAvgPool3d(1), nn.Flatten(), network.fc)
    start = network.layer3(network.layer2(network.layer1(network.stem(x)))).detach()
    scores = deep(start.requires_grad_())
    (expected,) = torch.autograd.grad(scores[0, 1] + scores[1, 2], start)
    for (gradient,) in gradients:
        torch.testing.assert_close(gradient, expected)
    assert not any(module._forward_hooks for module in network.modules())


def test_inputs_and_networks_are_the_same_at_every_call():
    assert torch.equal(
        benchmark.make_inputs("r3d_18", 1, 4, 8), benchmark.make_inputs("r3d_18", 1, 4, 8)
    )
    assert benchmark.make_inputs("resnet50_2d", 2, 4, 8).shape == (2, 3, 16, 16)
    first, again = (benchmark.make_network("r3d_18").state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not benchmark.make_network("r3d_18").training


@pytest.mark.parametrize(
    ("name", "millions"), [("r3d_18", 33.4), ("resnet50_3d", 47.0), ("resnet50_2d", 25.6)]
)
def test_networks_have_the_documented_size(name, millions):
    parameters = _resnet.NETWORKS[name]().parameters()
    assert sum(p.numel() for p in parameters) / 1e6 == pytest.approx(millions, abs=0.05)
    assert f"{millions} million" in " ".join(_resnet.NETWORKS[name].__doc__.split())
