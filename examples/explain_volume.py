"""Where in the scan did a classifier look, in the patient's millimetres?

The scan is reoriented and resampled to the network's input. The map of the predicted class goes
back to the scan's own grid, and is written as NIfTI with the scan's affine.

    python examples/explain_volume.py --number 2      # a synthetic scan with a known lesion
    python examples/explain_volume.py scan.nii.gz     # NIfTI, or a folder of DICOM files

The network, trained here in 15 seconds, knows synthetic scans alone. The command line takes your
own: captum-3dcam explain scan.nii.gz --model my_net.py:load --layers layer2 layer3
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from captum_3dcam import LayerwiseWhatWhereCAM
from captum_3dcam.io import Volume, read_volume, write_nifti
from captum_3dcam.visualization import Style, visualize_volume_attr
from trained_networks import volume_net


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path, known = options.scan, volume_net.make_scan(options.number)
    if path is None:
        path = options.output / "volume_scan.nii.gz"
        write_nifti(known.volume, path)
    scan = read_volume(path)
    print("Training the network of volume_net.py.", flush=True)
    name, heat = explain(scan, volume_net.train())
    write_nifti(heat, options.output / "volume_map.nii.gz")

    peak = heat.to_world(np.unravel_index(heat.data.argmax(), heat.shape))
    print(f"{name}: the map is highest at {peak.round(1)} mm to the right, front and head.")
    if options.scan is None and known.label:
        distance, inside = np.linalg.norm(peak - known.lesion), heat.data[known.mask].sum()
        print(f"That is {distance:.1f} mm from the lesion's centre. In the lesion lies", end=" ")
        print(f"{inside / heat.data.sum():.0%} of the map (chance {known.mask.mean():.1%}).")
    draw(heat, scan, name).savefig(options.output / "volume.png", dpi=90)
    print(f"Wrote volume_map.nii.gz and volume.png to {options.output}.")


def explain(scan: Volume, network) -> tuple[str, Volume]:
    """The predicted class, and its map on the grid of the scan."""
    seen = volume_net.preprocess(scan)  # scan.reorient("SPL").resample(size=(32, 32, 32))
    inputs = seen.to_tensor()  # (1, 1, D, H, W)
    with torch.no_grad():
        target = int(network(inputs).argmax())
    attribution = LayerwiseWhatWhereCAM(network, volume_net.LAYERS).attribute(inputs, target)
    return volume_net.CLASSES[target], seen.with_data(attribution).resample_to(scan)


def draw(heat, scan, title) -> Figure:
    """Slices through the map's peak: above the scan, below the map over it."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    above, below = figure.subplots(2, 3).tolist()
    plain = Style("original_image", plt_fig_axis=(figure, above), show_colorbar=False)
    for style in (plain, Style(plt_fig_axis=(figure, below))):
        visualize_volume_attr(heat.data, scan, style=style)
    figure.suptitle(title)
    return figure


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("scan", nargs="?", type=Path, help="NIfTI or DICOM (default: a synthetic scan)")
    add("--number", type=int, default=1, help="of the synthetic scan (default: 1, with a blob)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
