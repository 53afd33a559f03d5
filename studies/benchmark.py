"""What does it cost to explain all depths of a network, beside the least that it can cost?

    python studies/benchmark.py --output out/benchmark

runs these studies, and writes a JSON file and a Markdown table of each into the output folder:

- ``time``: of K = 1 to 5 layers, the deepest ones, for this package, for other packages, and for
  the limit: one forward pass, and one backward pass to the shallowest of the layers.
- ``memory``: the peak of a call, beside that of a bare forward pass; each in a fresh process.
- ``classes``: the maps of a clip's five highest classes.
- ``growth``: with the clip's length, its side, the number of layers, and the batch; and a figure.
- ``maps``: what is neither the forward nor the backward pass.
- ``modes``: half precision, autocast, channels last, compiled parts, CUDA.
- ``metrics``: what scoring one map costs.
- ``sliding``: frames per second of a long video, beside the network alone.
- ``cuda``: on a GPU, five networks of several kinds, also channels last and in CUDA graphs; within
  ``--minutes``. Without a GPU it says so.

The runs of a study take turns in one process, so that a busy machine slows all of them alike. A
ratio is that of one round, given as its median and quartiles. ``_peers.py`` says how the other
packages are installed; the report names those that are missing.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import captum_3dcam
from _arguments import at_least, make_parser
from _benchmark_cuda import measure_cuda
from _benchmark_growth import measure_growth
from _benchmark_runs import (
    OURS,
    available_methods,
    limit,
    make_inputs,
    make_network,
    ours,
    predict,
    prepare,
)
from _cuda_networks import NETWORKS as CUDA_NETWORKS
from _memory import peak_mib
from _peers import PEERS, Explain, missing, torch_cam_classes, versions
from _report import table, write_report
from _resnet import LAYERS, NETWORKS
from _timing import Quartiles, machine, quartiles, ratios, take_turns
from captum_3dcam import (
    LayerwiseGlobalLocalCAM,
    SlidingWindowCAM,
    functional,
    localization,
    metrics,
)

TOP_K = 5  # classes of the study of classes


class Report(NamedTuple):
    """A study's results: rows for the JSON file, and a table of them."""

    rows: list[dict[str, Any]]
    text: str


def main(arguments: Sequence[str] | None = None) -> dict[str, Report]:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    setup = f"{machine()}, captum_3dcam {captum_3dcam.__version__}, {versions()}"
    settings = {key: value for key, value in vars(options).items() if key != "output"}
    reports = {}
    for name in options.studies:
        report = reports[name] = STUDIES[name](options)
        content = {"machine": setup, "options": settings, "rows": report.rows}
        write_report(options.output, name, content, f"{setup}\n\n{report.text}\n")
    return reports


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add, positive = parser.add_argument, at_least(1)
    methods = ["limit", *OURS, *PEERS]
    add("--studies", nargs="+", choices=STUDIES, default=list(STUDIES), help="default: all")
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    add("--batches", nargs="+", type=positive, default=[1, 4, 8], help="(default: 1 4 8)")
    add("--methods", nargs="+", choices=methods, default=methods, help="of time and memory "
        "(default: all)")  # fmt: skip
    add("--depths", nargs="+", type=int, choices=range(1, 6), default=[1, 2, 3, 4, 5],
        help="K, layers to time together (default: 1 to 5)")  # fmt: skip
    add("--repeats", type=positive, default=9, help="rounds, at most (default: 9)")
    add("--enough", type=float, default=60, help="seconds after which rounds end (default: 60)")
    add("--frames", type=positive, default=16, help="of a clip (default: 16)")
    add("--size", type=int, default=112, help="pixels a side, an image has twice (default: 112)")
    add("--threads", type=positive, default=torch.get_num_threads(), help="(default: PyTorch's)")
    add("--device", choices=("cpu", "cuda"), help="(default: cpu, but cuda in the study cuda)")
    add("--minutes", type=float, default=8, help="of the study cuda, at most (default: 8)")
    add("--cuda-networks", nargs="+", choices=CUDA_NETWORKS, default=list(CUDA_NETWORKS),
        help="of the study cuda (default: all)")  # fmt: skip
    add("--output", type=Path, default=Path("out/benchmark"), help="folder to write to")
    options = parser.parse_args(arguments)
    options.cuda_device = options.device or "cuda"
    options.device = options.device or "cpu"
    if not {"limit", "3DCAM"} <= set(options.methods):
        parser.error("--methods needs limit and 3DCAM, which the others are compared with")
    return options


# ------------------------------------------------------------------------------------------- time


def time_study(options: argparse.Namespace) -> Report:
    rows, makers = [], available_methods(options.methods)
    for name in options.networks:
        network = make_network(name, options.device)
        for batch in options.batches:
            x = make_inputs(name, batch, options.frames, options.size, options.device)
            classes = predict(network, x)
            for depth in options.depths:
                runs = {
                    method: partial(make(network, LAYERS[-depth:]), x, classes)
                    for method, make in makers.items()
                }
                seconds = take_turns(runs, options.repeats, max_seconds=options.enough)
                rows.append({"network": name, "batch": batch, "K": depth, **compare(seconds)})
    others = [name for name in makers if name != "limit"]
    header = ["network", "batch", "K", "limit, s", *(f"{name} / limit" for name in others)]
    cells = [
        [
            *(row[key] for key in ("network", "batch", "K")),
            f"{row['limit'].median:.3f}",
            *(str(row["ratios"][name]) for name in others),
        ]
        for row in rows
    ]
    return Report(rows, table(header, cells))


def compare(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The limit's seconds, the ratios of the other runs to it, and those to 3DCAM."""
    others = {name: values for name, values in seconds.items() if name != "limit"}
    return {
        "rounds": len(seconds["limit"]),
        "limit": quartiles(seconds["limit"]),
        "ratios": {name: ratios(values, seconds["limit"]) for name, values in others.items()},
        "to 3DCAM": {name: ratios(values, seconds["3DCAM"]) for name, values in others.items()},
    }


# ----------------------------------------------------------------------------------------- memory

DEPTHS = {"last": 1, "last two": 2, "all five": 5}


def memory_study(options: argparse.Namespace) -> Report:
    batch = options.batches[min(1, len(options.batches) - 1)]
    rows, names = [], list(available_methods(options.methods))
    for name in options.networks:
        bare = memory_of("bare", name, LAYERS, batch, options)
        for layers, depth in DEPTHS.items():
            mib = {
                method: memory_of(method, name, LAYERS[-depth:], batch, options) for method in names
            }
            row = {"network": name, "batch": batch, "layers": layers, "bare": bare, "mib": mib}
            rows.append({**row, "ratios": {key: value / bare for key, value in mib.items()}})
    header = ["network", "batch", "layers", "bare forward, MiB", *(f"{n} / bare" for n in names)]
    cells = [
        [
            *(row[key] for key in ("network", "batch", "layers")),
            f"{row['bare']:.0f}",
            *(f"{row['ratios'][each]:.2f}" for each in names),
        ]
        for row in rows
    ]
    return Report(rows, table(header, cells))


def memory_of(
    method: str, name: str, layers: Sequence[str], batch: int, options: argparse.Namespace
) -> float:
    arguments = (method, name, layers, batch, options.frames, options.size, options.device)
    return peak_mib(prepare, *arguments, device=options.device)


# ---------------------------------------------------------------------------------------- classes


def classes_study(options: argparse.Namespace) -> Report:
    rows = []
    for name in options.networks:
        network = make_network(name, options.device)
        x = make_inputs(name, 1, options.frames, options.size, options.device)
        cam = LayerwiseGlobalLocalCAM(network, LAYERS)
        targets = [[target] for target in cam.attribute_top_k(x, TOP_K)[1][0].tolist()]
        runs = {
            "limit": partial(limit(network, LAYERS, TOP_K), x, targets[0]),
            "3DCAM": partial(cam.attribute_top_k, x, TOP_K),
            "3DCAM, one by one": partial(one_by_one, ours(type(cam), network, LAYERS), x, targets),
        }
        absent = missing()
        if "torch-cam" not in absent:
            runs["torch-cam"] = partial(torch_cam_classes(network, LAYERS), x, targets)
        for peer in ("Captum", "pytorch-grad-cam", "M3d-Cam"):
            if peer not in absent:
                explain = PEERS[peer].make(network, LAYERS)
                runs[f"{peer}, one by one"] = partial(one_by_one, explain, x, targets)
        seconds = take_turns(runs, options.repeats, max_seconds=options.enough)
        rows.append({"network": name, "classes": TOP_K, **compare(seconds)})
    header = ["network", "limit, s", *(f"{each} / limit" for each in rows[0]["ratios"])]
    cells = [
        [row["network"], f"{row['limit'].median:.3f}", *map(str, row["ratios"].values())]
        for row in rows
    ]
    return Report(rows, table(header, cells))


def one_by_one(explain: Explain, x: Tensor, targets: Sequence[list[int]]) -> list[Any]:
    return [explain(x, classes) for classes in targets]


# ----------------------------------------------------------------------------------------- growth


def growth_study(options: argparse.Namespace) -> Report:
    """Of the first 3D network that is requested."""
    name = next((each for each in options.networks if not each.endswith("2d")), "r3d_18")
    return Report(*measure_growth(name, options))


# ------------------------------------------------------------------------------------------- maps


def maps_study(options: argparse.Namespace) -> Report:
    """The sums, upsampling, normalisation and fusion, from given activations and gradients."""
    rows = []
    for name in options.networks:
        network = make_network(name, options.device)
        for batch in options.batches:
            x = make_inputs(name, batch, options.frames, options.size, options.device)
            classes = predict(network, x)
            pairs = activations_and_gradients(network, x, classes)
            runs = {
                "limit": partial(limit(network, LAYERS), x, classes),
                "3DCAM": partial(ours(LayerwiseGlobalLocalCAM, network, LAYERS), x, classes),
                "maps": partial(fused_map, pairs, tuple(x.shape[2:])),
            }
            seconds = take_turns(runs, options.repeats, max_seconds=options.enough)
            share = ratios(seconds["maps"], seconds["3DCAM"])
            rows.append({"network": name, "batch": batch, "share": share, **compare(seconds)})
    header = ["network", "batch", "limit, s", "maps / call, %", "call / limit"]
    cells = [
        [
            row["network"],
            row["batch"],
            f"{row['limit'].median:.3f}",
            str(Quartiles(*(100 * each for each in row["share"]))),
            str(row["ratios"]["3DCAM"]),
        ]
        for row in rows
    ]
    return Report(rows, table(header, cells))


def activations_and_gradients(
    network: nn.Module, x: Tensor, classes: list[int]
) -> list[tuple[Tensor, Tensor]]:
    captured: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        captured.append(output)

    handles = [network.get_submodule(name).register_forward_hook(keep) for name in LAYERS]
    scores = network(x)
    for handle in handles:
        handle.remove()
    score = scores.gather(1, torch.tensor(classes, device=x.device)[:, None]).sum()
    gradients = torch.autograd.grad(score, captured)
    return [(a.detach(), g) for a, g in zip(captured, gradients, strict=True)]


def fused_map(pairs: Sequence[tuple[Tensor, Tensor]], size: tuple[int, ...]) -> Tensor:
    layer_maps = (functional.layer_map(functional.global_local(a, g), size) for a, g in pairs)
    return functional.fuse(layer_maps, len(pairs))


# ------------------------------------------------------------------------------------------ modes


def modes_study(options: argparse.Namespace) -> Report:
    rows = []
    for name in options.networks:
        x = make_inputs(name, 1, options.frames, options.size, options.device)
        runs = dict(modes(name, x))
        seconds = take_turns(runs, options.repeats, max_seconds=options.enough)
        reference = runs["float32"]()
        rows += [
            {
                "network": name,
                "mode": mode,
                "seconds": quartiles(seconds[mode]),
                "ratio": ratios(seconds[mode], seconds["float32"]),
                "correlation": correlation(run().float(), reference),
            }
            for mode, run in runs.items()
        ]
    if not torch.cuda.is_available():
        rows.append({"mode": "CUDA", "network": "-", "absent": "there is no CUDA device here"})
    header = ["network", "mode", "s", "/ float32", "correlation with float32's map"]
    cells = [
        [row["network"], row["mode"], row["absent"], "-", "-"]
        if "absent" in row
        else [
            row["network"],
            row["mode"],
            f"{row['seconds'].median:.3f}",
            str(row["ratio"]),
            f"{row['correlation']:.4f}",
        ]
        for row in rows
    ]
    return Report(rows, table(header, cells))


def modes(name: str, x: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Ways to run one network on one sample; each explains the class that float32 predicts."""
    device = x.device.type
    network = make_network(name, device)
    target = predict(network, x)[0]

    def explained(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
        return partial(LayerwiseGlobalLocalCAM(network, LAYERS).attribute, x, target)

    yield "float32", explained(network, x)
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    network_last = make_network(name, device).to(memory_format=last)
    yield "channels last", explained(network_last, x.to(memory_format=last))
    yield "autocast to bfloat16", partial(under_autocast, device, explained(network, x))
    yield "bfloat16", explained(make_network(name, device).bfloat16(), x.bfloat16())
    compiled = make_network(name, device)
    for layer in LAYERS:
        setattr(compiled, layer, torch.compile(getattr(compiled, layer), backend="eager"))
    yield "compiled stages", explained(compiled, x)
    if device == "cpu" and torch.cuda.is_available():
        on_gpu = make_network(name, "cuda")
        yield "CUDA", lambda: explained(on_gpu, x.cuda())().cpu()


def under_autocast(device: str, run: Callable[[], Tensor]) -> Tensor:
    with torch.autocast(device, dtype=torch.bfloat16):
        return run()


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


# ---------------------------------------------------------------------------------------- metrics


def metrics_study(options: argparse.Namespace) -> Report:
    """On maps as networks give them: 7x7 cells, upsampled to an image's size; on the CPU."""
    size, count = 2 * options.size, 8
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 7, 7, generator=generator)
    maps = functional.upsample(coarse, (size, size))[:, 0]
    low, high = size // 4, 3 * size // 4
    boxes = [torch.tensor([[low, low, high, high]])] * count
    thresholds = metrics.cam_thresholds()
    masks = metrics.boxes_to_mask(boxes[0], (size, size)).expand(count, -1, -1)
    ious = partial(metrics.scoremap_ious, maps, boxes, thresholds)
    runs = {
        "MaxBoxAcc, V1": ious,
        "MaxBoxAcc, V2": partial(ious, multi_contour=True),
        "PxAP": partial(metrics.px_ap, maps, masks),
        "pointing game": partial(metrics.hit_point, maps, boxes),
        "energy inside": partial(metrics.energy_inside, maps, masks),
        "the box of a map": partial(localization.frame_boxes, maps[:, None, None]),
    }
    seconds = take_turns(runs, options.repeats, max_seconds=options.enough, clock=process_time)
    rows = [
        {"metric": name, "ms": quartiles([1000 * value / count for value in values])}
        for name, values in seconds.items()
    ]
    cells = [[row["metric"], str(row["ms"])] for row in rows]
    return Report(rows, table(["metric", f"ms for a map of {size}x{size}"], cells))


# ---------------------------------------------------------------------------------------- sliding


def sliding_study(options: argparse.Namespace) -> Report:
    rows = []
    for name in (each for each in options.networks if not each.endswith("2d")):
        network, window = make_network(name, options.device), options.frames
        video = make_inputs(name, 1, 8 * window, options.size, options.device)
        cam = LayerwiseGlobalLocalCAM(network, LAYERS)
        runs: dict[str, Callable[[], Any]] = {
            "network alone": partial(clip_by_clip, network, video, window),
            **{
                f"stride {stride}": partial(
                    SlidingWindowCAM(cam, window, stride, batch_size=1).attribute, video
                )
                for stride in (window, window // 2)
            },
        }
        seconds = take_turns(runs, options.repeats, max_seconds=options.enough)
        rows += [
            {
                "network": name,
                "run": run,
                "fps": quartiles([video.shape[2] / value for value in values]),
                "ratio": ratios(values, seconds["network alone"]),
            }
            for run, values in seconds.items()
        ]
    header = ["network", "", "frames per second", "time / network alone"]
    cells = [[row["network"], row["run"], str(row["fps"]), str(row["ratio"])] for row in rows]
    return Report(rows, table(header, cells))


@torch.no_grad()
def clip_by_clip(network: nn.Module, video: Tensor, window: int) -> list[Tensor]:
    return [network(clip) for clip in video.split(window, dim=2)]


# ------------------------------------------------------------------------------------------- cuda


def cuda_study(options: argparse.Namespace) -> Report:
    """Of networks of its own, and on a GPU unless ``--device`` is given."""
    return Report(*measure_cuda(options))


STUDIES: dict[str, Callable[[argparse.Namespace], Report]] = {
    "time": time_study,
    "memory": memory_study,
    "classes": classes_study,
    "growth": growth_study,
    "maps": maps_study,
    "modes": modes_study,
    "metrics": metrics_study,
    "sliding": sliding_study,
    "cuda": cuda_study,
}


if __name__ == "__main__":
    main()
