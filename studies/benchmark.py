"""What does it cost to explain all depths of a network, beside the least that it can cost?

    python studies/benchmark.py --output out/benchmark

measures, study by study, and writes a JSON file, a Markdown table and, of the growth, a figure of
each into the output folder:

- ``time``: of K = 1 to 5 layers from the deepest on, for this package, for other packages, and for
  the least possible: one forward pass, and one backward pass to the shallowest of the layers.
- ``memory``: the most that a call takes, beside a bare forward pass; each in a process of its own.
- ``classes``: the maps of a clip's five highest classes.
- ``growth``: with the clip's length, its side, the number of layers, and the batch.
- ``maps``: what is neither the forward nor the backward pass.
- ``modes``: half precision, autocast, channels last, compiled parts.
- ``metrics``: what scoring one map costs.
- ``sliding``: frames per second of a long video, beside the network alone.

What is timed takes turns in one process, so that whatever else the machine does disturbs all
alike; ratios are those of each turn, medians with their quartiles. ``peers.py`` says how the other
packages are installed; the report names those that are not there.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

import captum_3dcam
from captum_3dcam import (
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    SlidingWindowCAM,
    localization,
    metrics,
)
from captum_3dcam import functional as maths
from captum_3dcam.attribution import LayerwiseCAM
from peers import PEERS, Explain, missing, torch_cam_classes, versions
from resnet import LAYERS, NETWORKS
from study import table, write
from timing import Quartiles, machine, peak_mib, quartiles, ratios, take_turns

OURS = {"3DCAM": LayerwiseGlobalLocalCAM, "Grad-CAM": LayerwiseGradCAM}


class Report(NamedTuple):
    """What a study found: rows for the file, and a table of them."""

    rows: list[dict[str, Any]]
    text: str


def main(arguments: Sequence[str] | None = None) -> dict[str, Report]:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    where = f"{machine()}, captum_3dcam {captum_3dcam.__version__}, {versions()}"
    reports = {}
    for name in options.studies:
        report = reports[name] = STUDIES[name](options)
        content = {"machine": where, "options": shown(options), "rows": report.rows}
        write(options.output, name, content, f"{where}\n\n{report.text}\n")
    return reports


def shown(options: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(options).items() if key != "output"}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--studies", nargs="+", choices=STUDIES, default=list(STUDIES), help="default: all")
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    add("--batches", nargs="+", type=int, default=[1, 4, 8], help="(default: 1 4 8)")
    add(
        "--methods",
        nargs="+",
        choices=["limit", *OURS, *PEERS],
        default=["limit", *OURS, *PEERS],
        help="of time and memory (default: all)",
    )
    add(
        "--depths",
        nargs="+",
        type=int,
        choices=range(1, 6),
        default=[1, 2, 3, 4, 5],
        help="K, layers to time together (default: 1 to 5)",
    )
    add("--repeats", type=int, default=9, help="rounds, at most (default: 9)")
    add("--enough", type=float, default=60, help="seconds after which rounds end (default: 60)")
    add("--frames", type=int, default=16, help="of a clip (default: 16)")
    add("--size", type=int, default=112, help="pixels a side, an image has twice (default: 112)")
    add("--threads", type=int, default=torch.get_num_threads(), help="(default: PyTorch's)")
    add("--output", type=Path, default=Path("out/benchmark"), help="folder to write into")
    options = parser.parse_args(arguments)
    if min(options.repeats, options.frames, options.threads, *options.batches) < 1:
        parser.error("--repeats, --frames, --threads and --batches must be at least 1")
    if not {"limit", "3DCAM"} <= set(options.methods):
        parser.error("--methods needs limit and 3DCAM, which the others are compared with")
    return options


# ------------------------------------------------------------------------------ what is measured


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def sample(name: str, batch: int, frames: int, size: int) -> Tensor:
    """A batch of clips, or of images of twice the size for a 2D network."""
    shape = (2 * size, 2 * size) if name.endswith("2d") else (frames, size, size)
    return torch.rand(batch, 3, *shape, generator=torch.Generator().manual_seed(1))


def predicted(network: nn.Module, x: Tensor) -> list[int]:
    with torch.no_grad():
        return network(x).argmax(dim=1).tolist()


def bare_forward(network: nn.Module, layers: Sequence[str]) -> Explain:
    def forward(x: Tensor, classes: list[int]) -> Tensor:
        with torch.no_grad():
            return network(x)

    return forward


def limit(network: nn.Module, layers: Sequence[str], backwards: int = 1) -> Explain:
    """One forward pass, and backward passes from the score to the shallowest layer; no map."""
    shallowest = network.get_submodule(layers[0])

    def passes(x: Tensor, classes: list[int]) -> list[Tensor]:
        starts = []

        def begin(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            torch.set_grad_enabled(True)
            starts.append(output.detach().requires_grad_())
            return starts[0].view_as(starts[0])

        handle = shallowest.register_forward_hook(begin)
        try:
            with torch.no_grad():
                scores = network(x)
                score = scores.gather(1, torch.tensor(classes, device=x.device)[:, None]).sum()
                again = range(backwards - 1)
                found = [torch.autograd.grad(score, starts, retain_graph=True) for _ in again]
                return [*found, torch.autograd.grad(score, starts)]
        finally:
            handle.remove()

    return passes


def ours(method: type[LayerwiseCAM], network: nn.Module, layers: Sequence[str]) -> Explain:
    cam = method(network, list(layers))

    def explain(x: Tensor, classes: list[int]) -> Tensor:
        return cam.attribute(x, target=classes)

    return explain


def methods(names: Sequence[str]) -> dict[str, Callable[[nn.Module, Sequence[str]], Explain]]:
    """Of the limit, ours, and the peers: those that are named and there."""
    absent = missing()
    every = {
        "limit": limit,
        **{name: partial(ours, method) for name, method in OURS.items()},
        **{name: peer.make for name, peer in PEERS.items() if name not in absent},
    }
    return {name: make for name, make in every.items() if name in names}


# ------------------------------------------------------------------------------------------- time


def time_study(options: argparse.Namespace) -> Report:
    rows, makers = [], methods(options.methods)
    for name in options.networks:
        network = network_of(name)
        for batch in options.batches:
            x = sample(name, batch, options.frames, options.size)
            classes = predicted(network, x)
            for depth in options.depths:
                runs = {
                    method: partial(make(network, LAYERS[-depth:]), x, classes)
                    for method, make in makers.items()
                }
                seconds = take_turns(runs, options.repeats, enough=options.enough)
                rows.append({"network": name, "batch": batch, "K": depth, **compared(seconds)})
    others = [name for name in makers if name != "limit"]
    head = ["network", "batch", "K", "limit, s", *(f"{name} / limit" for name in others)]
    cells = [
        [
            *(row[key] for key in ("network", "batch", "K")),
            f"{row['limit'].middle:.3f}",
            *(str(row["ratios"][name]) for name in others),
        ]
        for row in rows
    ]
    return Report(rows, table(head, cells))


def compared(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The limit's own seconds, and how the others' compare with it, and ours with theirs."""
    bound = seconds["limit"]
    rest = {name: values for name, values in seconds.items() if name != "limit"}
    return {
        "rounds": len(bound),
        "limit": quartiles(bound),
        "ratios": {name: ratios(values, bound) for name, values in rest.items()},
        "to 3DCAM": {name: ratios(values, seconds["3DCAM"]) for name, values in rest.items()},
    }


# ----------------------------------------------------------------------------------------- memory

DEPTHS = {"last": 1, "last two": 2, "all five": 5}


def memory_study(options: argparse.Namespace) -> Report:
    batch = options.batches[min(1, len(options.batches) - 1)]
    rows, names = [], list(methods(options.methods))
    for name in options.networks:
        bare = memory_of("bare", name, LAYERS, batch, options)
        for words, depth in DEPTHS.items():
            found = {
                method: memory_of(method, name, LAYERS[-depth:], batch, options) for method in names
            }
            row = {"network": name, "batch": batch, "layers": words, "bare": bare, "mib": found}
            rows.append({**row, "ratios": {key: mib / bare for key, mib in found.items()}})
    head = [
        "network",
        "batch",
        "layers",
        "bare forward, MiB",
        *(f"{each} / bare" for each in names),
    ]
    cells = [
        [
            *(row[key] for key in ("network", "batch", "layers")),
            f"{row['bare']:.0f}",
            *(f"{row['ratios'][each]:.2f}" for each in names),
        ]
        for row in rows
    ]
    return Report(rows, table(head, cells))


def memory_of(
    method: str, name: str, layers: Sequence[str], batch: int, options: argparse.Namespace
) -> float:
    return peak_mib(prepare, method, name, layers, batch, options.frames, options.size)


def prepare(
    method: str, name: str, layers: Sequence[str], batch: int, frames: int, size: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Of a method: a run on a small input, and that which is asked for."""
    network = network_of(name)
    explain = {**methods([method]), "bare": bare_forward}[method](network, layers)
    small = sample(name, 1, 4, 32)
    return partial(explain, small, [0]), partial(
        explain, sample(name, batch, frames, size), [0] * batch
    )


# ---------------------------------------------------------------------------------------- classes

COUNT = 5


def classes_study(options: argparse.Namespace) -> Report:
    rows = []
    for name in options.networks:
        network = network_of(name)
        x = sample(name, 1, options.frames, options.size)
        cam = LayerwiseGlobalLocalCAM(network, LAYERS)
        highest = cam.attribute_top_k(x, COUNT)[1][0].tolist()
        each = [[target] for target in highest]
        runs = {
            "limit": partial(limit(network, LAYERS, COUNT), x, each[0]),
            "3DCAM": partial(cam.attribute_top_k, x, COUNT),
            "3DCAM, one by one": partial(one_by_one, ours(type(cam), network, LAYERS), x, each),
        }
        absent = missing()
        if "torch-cam" not in absent:
            runs["torch-cam"] = partial(torch_cam_classes(network, LAYERS), x, each)
        for peer in ("Captum", "pytorch-grad-cam", "M3d-Cam"):
            if peer not in absent:
                explain = PEERS[peer].make(network, LAYERS)
                runs[f"{peer}, one by one"] = partial(one_by_one, explain, x, each)
        seconds = take_turns(runs, options.repeats, enough=options.enough)
        rows.append({"network": name, "classes": COUNT, **compared(seconds)})
    head = ["network", "limit, s", *(f"{each} / limit" for each in rows[0]["ratios"])]
    cells = [
        [row["network"], f"{row['limit'].middle:.3f}", *map(str, row["ratios"].values())]
        for row in rows
    ]
    return Report(rows, table(head, cells))


def one_by_one(explain: Explain, x: Tensor, each: Sequence[list[int]]) -> list[Any]:
    return [explain(x, classes) for classes in each]


# ----------------------------------------------------------------------------------------- growth


def growth_study(options: argparse.Namespace) -> Report:
    """Of the first 3D network that was asked for, with one thing growing at a time."""
    name = next((each for each in options.networks if not each.endswith("2d")), "r3d_18")
    scale = options.size / 112
    axes: dict[str, list[int]] = {
        "frames": [8, 16, 32, 64, 128],
        "side, pixels": [round(side * scale) for side in (64, 96, 128, 192, 256)],
        "layers": [1, 2, 5, 10, 20],
        "batch": [1, 2, 4, 8, 16],
    }
    rows = []
    for axis, values in axes.items():
        found = [grown(name, axis, value, options) for value in values]
        rows.append(
            {
                "axis": axis,
                "values": values,
                "seconds": [each[0] for each in found],
                "mib": [each[1] for each in found],
                "slopes": {
                    "time": slope(values, [each[0].middle for each in found]),
                    "memory": slope(values, [each[1] for each in found]),
                },
            }
        )
    options.output.mkdir(parents=True, exist_ok=True)
    draw_growth(rows, options.output / "growth.png")
    cells = [
        [
            f"{row['axis']}, {row['values'][0]} to {row['values'][-1]}",
            *(f"{row['seconds'][k].middle:.2f} s, {row['mib'][k]:.0f} MiB" for k in (0, -1)),
            *(f"{row['slopes'][key]:.2f}" for key in ("time", "memory")),
        ]
        for row in rows
    ]
    head = [f"{name}: what grows", "least", "most", "slope of time", "slope of memory"]
    return Report(rows, table(head, cells))


def grown(name: str, axis: str, value: int, options: argparse.Namespace) -> tuple[Quartiles, float]:
    """Seconds and MiB of one map, with one of its sizes changed."""
    batch, frames, size = 1, options.frames, options.size
    layers = LAYERS
    if axis == "frames":
        frames = value
    elif axis == "batch":
        batch = value
    elif axis == "layers":
        layers = normalisations(name)[-value:]
    else:
        size = value
    network = network_of(name)
    run = partial(
        ours(LayerwiseGlobalLocalCAM, network, layers),
        sample(name, batch, frames, size),
        [0] * batch,
    )
    seconds = take_turns({"3DCAM": run}, options.repeats, enough=options.enough / 4)["3DCAM"]
    return quartiles(seconds), peak_mib(prepare, "3DCAM", name, layers, batch, frames, size)


def normalisations(name: str) -> list[str]:
    """The batch normalisations of a network, in the order in which they run."""
    kinds = (nn.BatchNorm2d, nn.BatchNorm3d)
    return [key for key, module in network_of(name).named_modules() if isinstance(module, kinds)]


def slope(values: Sequence[float], costs: Sequence[float]) -> float:
    """Of the line through the logarithms: 1 where cost is proportional.

    >>> round(slope([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def draw_growth(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """All columns on one scale, so that steep is steep; ticks at powers of two."""
    figure, axes = plt.subplots(
        2, len(rows), figsize=(11, 5), sharex="col", sharey="row", squeeze=False
    )
    for column, row in zip(axes.T, rows, strict=True):
        costs = {"time": [each.middle for each in row["seconds"]], "memory": row["mib"]}
        for axis, (what, values), color in zip(
            column, costs.items(), ("#0072b2", "#d55e00"), strict=True
        ):
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
            axis.plot(row["values"], values, "o-", color=color)
            axis.set_title(f"slope {row['slopes'][what]:.2f}", fontsize=10)
            axis.grid(visible=True, alpha=0.3)
            axis.yaxis.set_major_formatter("{x:g}")
        column[1].set_xlabel(row["axis"])
        column[1].set_xticks(row["values"], row["values"])
    axes[0, 0].set_ylabel("time, s")
    axes[1, 0].set_ylabel("memory, MiB")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


# ------------------------------------------------------------------------------------------- maps


def maps_study(options: argparse.Namespace) -> Report:
    """The sums, upsampling, normalisation and fusion, from activations and gradients as given."""
    rows = []
    for name in options.networks:
        network = network_of(name)
        for batch in options.batches:
            x = sample(name, batch, options.frames, options.size)
            classes = predicted(network, x)
            pairs = activations_and_gradients(network, x, classes)
            runs = {
                "limit": partial(limit(network, LAYERS), x, classes),
                "3DCAM": partial(ours(LayerwiseGlobalLocalCAM, network, LAYERS), x, classes),
                "maps": partial(fused_maps, pairs, tuple(x.shape[2:])),
            }
            seconds = take_turns(runs, options.repeats, enough=options.enough)
            share = ratios(seconds["maps"], seconds["3DCAM"])
            rows.append(
                {"network": name, "batch": batch, "share": share, **compared(seconds)},
            )
    head = ["network", "batch", "limit, s", "maps / call, %", "call / limit"]
    cells = [
        [
            row["network"],
            row["batch"],
            f"{row['limit'].middle:.3f}",
            str(Quartiles(*(100 * each for each in row["share"]))),
            str(row["ratios"]["3DCAM"]),
        ]
        for row in rows
    ]
    return Report(rows, table(head, cells))


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
    score = scores.gather(1, torch.tensor(classes)[:, None]).sum()
    gradients = torch.autograd.grad(score, captured)
    return [(a.detach(), g) for a, g in zip(captured, gradients, strict=True)]


def fused_maps(pairs: Sequence[tuple[Tensor, Tensor]], size: tuple[int, ...]) -> Tensor:
    layer_maps = (maths.layer_map(maths.global_local(a, g), size) for a, g in pairs)
    return maths.fuse(layer_maps, len(pairs))


# ------------------------------------------------------------------------------------------ modes


def modes_study(options: argparse.Namespace) -> Report:
    rows = []
    for name in options.networks:
        x = sample(name, 1, options.frames, options.size)
        runs = dict(modes(name, x))
        seconds = take_turns(runs, options.repeats, enough=options.enough)
        plain = runs["float32"]()
        for mode, run in runs.items():
            found = run().float()
            rows.append(
                {
                    "network": name,
                    "mode": mode,
                    "seconds": quartiles(seconds[mode]),
                    "ratio": ratios(seconds[mode], seconds["float32"]),
                    "correlation": correlation(found, plain),
                }
            )
    if not torch.cuda.is_available():
        rows.append({"mode": "CUDA", "network": "-", "absent": "there is no CUDA device here"})
    head = ["network", "mode", "s", "/ float32", "correlation with float32's map"]
    cells = [
        [row["network"], row["mode"], row["absent"], "-", "-"]
        if "absent" in row
        else [
            row["network"],
            row["mode"],
            f"{row['seconds'].middle:.3f}",
            str(row["ratio"]),
            f"{row['correlation']:.4f}",
        ]
        for row in rows
    ]
    return Report(rows, table(head, cells))


def modes(name: str, x: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Ways to run one network on one sample; each explains the class that float32 predicts."""
    network = network_of(name)
    target = predicted(network, x)[0]

    def explained(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
        return partial(LayerwiseGlobalLocalCAM(network, LAYERS).attribute, x, target)

    yield "float32", explained(network, x)
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    yield (
        "channels last",
        explained(network_of(name).to(memory_format=last), x.to(memory_format=last)),
    )
    yield "autocast to bfloat16", partial(under_autocast, explained(network, x))
    yield "bfloat16", explained(network_of(name).bfloat16(), x.bfloat16())
    compiled = network_of(name)
    for layer in LAYERS:
        setattr(compiled, layer, torch.compile(getattr(compiled, layer), backend="eager"))
    yield "compiled stages", explained(compiled, x)
    if torch.cuda.is_available():
        on_gpu = network_of(name).cuda()
        yield "CUDA", lambda: explained(on_gpu, x.cuda())().cpu()


def under_autocast(run: Callable[[], Tensor]) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return run()


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


# ---------------------------------------------------------------------------------------- metrics


def metrics_study(options: argparse.Namespace) -> Report:
    """Of maps as networks give them: 7x7 cells, upsampled to an image's size."""
    size, count = 2 * options.size, 8
    generator = torch.Generator().manual_seed(0)
    maps = maths.upsample(torch.rand(count, 1, 7, 7, generator=generator), (size, size))[:, 0]
    low, high = size // 4, 3 * size // 4
    boxes = [torch.tensor([[low, low, high, high]])] * count
    cuts = metrics.cam_thresholds()
    masks = metrics.boxes_to_mask(boxes[0], (size, size)).expand(count, -1, -1)
    runs = {
        "MaxBoxAcc, V1": partial(metrics.scoremap_ious, maps, boxes, cuts),
        "MaxBoxAcc, V2": partial(metrics.scoremap_ious, maps, boxes, cuts, multi_contour=True),
        "PxAP": partial(metrics.px_ap, maps, masks),
        "pointing game": partial(metrics.hit_point, maps, boxes),
        "energy inside": partial(metrics.energy_inside, maps, masks),
        "the box of a map": partial(localization.frame_boxes, maps[:, None, None]),
    }
    seconds = take_turns(runs, options.repeats, enough=options.enough, clock=process_time)
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
        network, window = network_of(name), options.frames
        video = sample(name, 1, 8 * window, options.size)
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
        seconds = take_turns(runs, options.repeats, enough=options.enough)
        for run, values in seconds.items():
            rows.append(
                {
                    "network": name,
                    "run": run,
                    "fps": quartiles([video.shape[2] / value for value in values]),
                    "ratio": ratios(values, seconds["network alone"]),
                }
            )
    head = ["network", "", "frames per second", "time / network alone"]
    cells = [[row["network"], row["run"], str(row["fps"]), str(row["ratio"])] for row in rows]
    return Report(rows, table(head, cells))


@torch.no_grad()
def clip_by_clip(network: nn.Module, video: Tensor, window: int) -> list[Tensor]:
    return [network(clip) for clip in video.split(window, dim=2)]


STUDIES: dict[str, Callable[[argparse.Namespace], Report]] = {
    "time": time_study,
    "memory": memory_study,
    "classes": classes_study,
    "growth": growth_study,
    "maps": maps_study,
    "modes": modes_study,
    "metrics": metrics_study,
    "sliding": sliding_study,
}


if __name__ == "__main__":
    main()
