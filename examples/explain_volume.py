"""Where in the scan did a classifier look, in the patient's millimetres?

The scan, NIfTI or a DICOM series, is turned and resampled to the size that the network takes. The
map of its class goes back to the scan's own grid and is written as NIfTI with the scan's affine, so
that it lies on the scan in any viewer. The world coordinates of its peak are printed, and drawn are
the slices through the peak and a montage.

    python examples/explain_volume.py                     # a made scan with a known lesion
    python examples/explain_volume.py --number 2          # another one
    python examples/explain_volume.py scan.nii.gz --model my_net.py:load --size 64 128 128 \\
        --layers layer2 layer3 --target 1 --lesion 31.5 -12 48

By default the scan is a phantom with a lesion, tilted in its scanner, that the network has not
seen; and the network is the small one of volume_net.py, trained here and now in a quarter of a
minute. Then the distance from the lesion's centre to the peak is printed too. Of your own,
``--model`` names a Python file and a function in it: called without arguments, it gives the network
with its weights, which takes (1, 1, D, H, W) in the scan's own units, and does what scaling it
needs. The file is run, so it should be one that you trust.

Needs the extra ``medical``.
"""

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from captum_3dcam import (
    CounterfactualCAM3D,
    GlobalLocalCAM3D,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseWhatWhereCAM,
)
from captum_3dcam.io import Volume, read_nifti, read_volume, write_nifti
from captum_3dcam.visualization import Style, visualize_volume_attr, visualize_volume_montage
from trained_networks import volume_net

METHODS = {
    method.__name__: method
    for method in (
        LayerwiseWhatWhereCAM,
        GlobalLocalCAM3D,
        LayerwiseHiResCAM,
        LayerwiseGradCAM,
        CounterfactualCAM3D,
    )
}


class Truth(NamedTuple):
    """What is known of the lesion."""

    centre: NDArray[np.float64]
    """(3,), in the world, mm."""
    mask: NDArray[np.bool_] | None = None
    """On the scan's grid."""


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path, truth = (options.scan, None) if options.scan else made_scan(options)
    if options.lesion:
        truth = Truth(np.array(options.lesion))
    scan = read_volume(path)
    network = load(options.model) if options.model else trained()
    seen = scan.reorient(options.orientation).resample(size=options.size)
    with torch.no_grad():
        scores = network(seen.to_tensor()).softmax(dim=1)[0]
    target = int(scores.argmax()) if options.target is None else options.target
    if not 0 <= target < len(scores):
        raise SystemExit(f"--target {target}: the network has the classes 0 to {len(scores) - 1}.")
    attribution = METHODS[options.method](network, options.layers).attribute(
        seen.to_tensor(), target=target
    )
    heat = seen.with_data(attribution).resample_to(scan)
    written = options.output / "volume_map.nii.gz"
    write_nifti(heat, written)

    report = {
        "scan": str(path),
        "shape": scan.shape,
        "spacing": rounded(scan.spacing),
        "orientation": scan.orientation,
        "method": options.method,
        "layers": options.layers,
        "class": target,
        "name": class_name(target, options),
        "probability": round(float(scores[target]), 4),
        "peak": rounded(peak(heat)),
        "affine_difference": float(np.abs(read_nifti(written).affine - scan.affine).max()),
        **(against_truth(heat, truth) if truth else {}),
    }
    draw(heat, scan, truth, report, options.output)
    json_path = options.output / "explain_volume.json"
    json_path.write_text(json.dumps(report, indent=2) + "\n")
    print_report(report, seen)
    print(f"Wrote {written}, {json_path}, volume_slices.png and volume_montage.png.")
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("scan", nargs="?", type=Path, help="NIfTI file or DICOM folder (default: a made scan)")
    add("--number", type=int, default=1, help="of the made scan (default: 1, with a blob)")
    add("--model", metavar="FILE.py:FUNCTION", help="what gives the network (default: ours)")
    add("--layers", nargs="+", help=f"by name (default, of ours: {' '.join(volume_net.LAYERS)})")
    add("--classes", nargs="+", help="names of the classes")
    add("--target", type=int, help="index of the class to explain (default: the highest)")
    add("--method", choices=METHODS, default="LayerwiseWhatWhereCAM", help="whose map")
    add("--size", nargs=3, type=int, default=volume_net.SIZE, help="D H W that the network takes")
    add("--orientation", default="SPL", help="that it takes, D H W (default: SPL)")
    add("--lesion", nargs=3, type=float, metavar=("X", "Y", "Z"), help="known place, in mm (RAS)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if options.model is None:
        options.layers = options.layers or volume_net.LAYERS
        options.classes = options.classes or list(volume_net.CLASSES)
    elif not options.layers:
        parser.error("--model needs --layers too: the names of layers to look at")
    if options.number < 0:
        parser.error(f"--number {options.number}: expected 0 or more")
    return options


# -------------------------------------------------------------------------- scan and network


def made_scan(options: argparse.Namespace) -> tuple[Path, Truth | None]:
    """A file with a phantom, and the truth about its lesion."""
    scan = volume_net.make_scan(options.number)
    path = options.output / "volume_scan.nii.gz"
    write_nifti(scan.volume, path)
    return path, Truth(scan.lesion, scan.mask) if scan.mask.any() else None


def trained() -> nn.Module:
    print("Training the network of volume_net.py.", flush=True)
    network = volume_net.train()
    print(f"Of held-out scans it classifies {volume_net.accuracy(network):.0%} correctly.")
    return network


def load(model: str) -> nn.Module:
    """The network that a function of a file gives; SystemExit says what is wrong."""
    file, _, function = model.rpartition(":")
    if not Path(file).is_file():
        raise SystemExit(f"--model {model}: expected FILE.py:FUNCTION; there is no file {file!r}.")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--model {model}: {file!r} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = getattr(module, function, lambda: None)()
    if not isinstance(network, nn.Module):
        raise SystemExit(f"--model {model}: {file!r} has no {function!r} that gives a network.")
    return network.eval()


def class_name(target: int, options: argparse.Namespace) -> str:
    names = options.classes or []
    return names[target] if target < len(names) else f"class {target}"


# -------------------------------------------------------------------------------- places in mm


def peak(heat: Volume) -> NDArray[np.float64]:
    """Where the map is highest, in the world, mm."""
    return heat.to_world(np.unravel_index(heat.data.argmax(), heat.shape))


def against_truth(heat: Volume, truth: Truth) -> dict[str, Any]:
    """Where the lesion is, how far the peak is from its centre, and what lies in it."""
    found = {
        "lesion": rounded(truth.centre),
        "distance": round(float(np.linalg.norm(peak(heat) - truth.centre)), 2),
    }
    if truth.mask is not None:
        total = float(heat.data.sum())
        found["share"] = round(float(heat.data[truth.mask].sum()) / total, 4) if total else 0.0
        found["chance"] = round(float(truth.mask.mean()), 4)
    return found


def rounded(numbers: Any) -> list[float]:
    return [round(float(number), 2) for number in numbers]


# ----------------------------------------------------------------------------------- drawing


def draw(
    heat: Volume, scan: Volume, truth: Truth | None, report: dict[str, Any], output: Path
) -> None:
    """The slices through the peak, without the map and with it; and a montage."""
    name = f"{report['method']}: {report['name']} ({report['probability']:.2f})"
    figure = Figure(figsize=(11, 8), layout="constrained")
    above, below = figure.subplots(2, 3).tolist()
    scan_alone = Style("original_image", plt_fig_axis=(figure, above), show_colorbar=False)
    visualize_volume_attr(heat.data, scan, style=scan_alone)
    visualize_volume_attr(heat.data, scan, style=Style(plt_fig_axis=(figure, below)))
    figure.suptitle(name)
    if truth:
        mark([*above, *below], scan, truth)
        place = f"its peak {report['distance']:.1f} mm from the lesion's centre (circle)"
        figure.suptitle(f"{name}, {place}")
    figure.savefig(output / "volume_slices.png", dpi=90)
    montage, _ = visualize_volume_montage(heat.data, scan, title=name)
    montage.savefig(output / "volume_montage.png", dpi=90)


def mark(axes: list[Axes], scan: Volume, truth: Truth) -> None:
    """A circle at the lesion's centre, in each slice's own axes."""
    place = dict(zip("DHW", scan.to_voxels(truth.centre) * scan.spacing, strict=True))
    for ax in axes:
        # An axis is labelled by its letter: "W (mm)".
        x, y = (place[label[0]] for label in (ax.get_xlabel(), ax.get_ylabel()))
        for width, colour in ((4, "black"), (2, "white")):
            ax.plot(x, y, "o", markersize=12, mfc="none", mec=colour, mew=width)


def print_report(report: dict[str, Any], seen: Volume) -> None:
    def mm(numbers: Any) -> str:
        return " ".join(f"{number:8.2f}" for number in numbers)

    print(f"{report['scan']}: {report['shape']} {report['orientation']}")
    print(f"{'class':24}{report['name']} ({report['probability']:.2f})")
    print(f"{'voxel, mm':24}{mm(report['spacing'])}")
    print(f"{'voxel of the network, mm':24}{mm(seen.spacing)}")
    print(f"{'peak of the map, mm':24}{mm(report['peak'])}   to the right, front and head")
    if "lesion" in report:
        print(f"{'centre of lesion, mm':24}{mm(report['lesion'])}")
        print(f"{'distance, mm':24}{report['distance']:8.2f}")
    if "share" in report:
        print(
            f"{'share of map in lesion':24}{report['share']:8.2f}   chance {report['chance']:.3f}"
        )
    difference = report["affine_difference"]
    print(f"The affine of the map, as written, differs from the scan's by {difference:.1g}.")


if __name__ == "__main__":
    main()
