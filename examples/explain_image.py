"""Where did an image classifier look? Explain photographs with a real trained 2D network.

EfficientNet-Lite0 classifies each photograph, its centre square resized to 224 x 224. The maps of
its three highest classes come from one forward pass; the counterfactual shows what speaks
against the highest one. A second figure takes the explanation apart: the map of each layer, and
their sum as the layers are added one by one.

    python examples/explain_image.py                       # the demo photographs
    python examples/explain_image.py my.jpg --target 207 208 --layers _blocks.4 _blocks.10
    python examples/explain_image.py --method LayerwiseHiResCAM

The default layers are ReLUs, one late at each resolution. The network's last, _swish, is not among
them: global average pooling follows it, so its gradient is the same everywhere, and its map only
says where the network is active, whichever the class (or is zero). The classes part in the layers
before. Try --layers _swish.
"""

import argparse
import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from captum.attr import LayerActivation
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_3dcam import (
    CounterfactualCAM2D,
    GlobalLocalCAM2D,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseXGradCAM,
)
from captum_3dcam.layers import resolve_layers
from captum_3dcam.visualization import visualize_image_attr
from trained_networks.efficientnet import (
    LAYERS,
    Photograph,
    class_name,
    demo_photographs,
    load_efficientnet,
    preprocess,
    read_photograph,
)

METHODS = {
    method.__name__: method
    for method in (
        GlobalLocalCAM2D,
        LayerwiseGradCAM,
        LayerwiseGradCAMPlusPlus,
        LayerwiseHiResCAM,
        LayerwiseLayerCAM,
        LayerwiseXGradCAM,
    )
}
TOP = 3  # how many classes are explained
COLOURS = "inferno"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    photographs = [read_photograph(path) for path in options.images] or demo_photographs()
    network = load_efficientnet()
    shapes = output_shapes(network, options.layers, preprocess(photographs[0]))
    print_shapes(shapes)
    options.output.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"method": options.method, "layers": shapes}
    report["photographs"] = [
        explain_photograph(network, photograph, options) for photograph in photographs
    ]
    path = options.output / "explain_image.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print_classes(report["photographs"])
    print(f"Wrote {path} and, for each photograph, _classes.png and _layers.png.")
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", nargs="*", type=Path, help="image files; by default four of scikit-image")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    add("--layers", nargs="+", default=LAYERS, help=f"layers by name (default: {' '.join(LAYERS)})")
    add("--method", choices=METHODS, default="GlobalLocalCAM2D", help="what explains the classes")
    add("--target", nargs="+", type=int, help=f"classes to explain (default: the highest {TOP})")
    options = parser.parse_args(arguments)
    if len({path.stem for path in options.images}) < len(options.images):
        parser.error("two of the images have the same name, and so would their figures")
    return options


def output_shapes(network: nn.Module, names: list[str], inputs: Tensor) -> dict[str, list[int]]:
    """What each layer gives for these inputs, by name."""
    modules = [layer.module for layer in resolve_layers(names, network)]
    activations = LayerActivation(network, modules).attribute(inputs)
    return {name: list(output.shape) for name, output in zip(names, activations, strict=True)}


def explain_photograph(
    network: nn.Module, photograph: Photograph, options: argparse.Namespace
) -> dict[str, Any]:
    """Explain its classes, draw both figures, and say where each map is highest."""
    inputs = preprocess(photograph)
    cam = METHODS[options.method](network, options.layers)
    if options.target:
        classes = options.target
        batch = inputs.expand(len(classes), -1, -1, -1)
        maps = cam.attribute(batch, target=classes)[:, 0]
    else:
        top_maps, top_classes = cam.attribute_top_k(inputs, k=TOP)
        classes, maps = top_classes[0].tolist(), top_maps[0]
    first = classes[0]
    against = CounterfactualCAM2D(network, options.layers).attribute(inputs, target=first)[0, 0]
    layer_maps = [m[0, 0] for m in cam.attribute(inputs, target=first, per_layer=True)]
    sums = list(accumulate(layer_maps))
    with torch.no_grad():
        probabilities = network(inputs).softmax(dim=1)[0]

    scores = [float(probabilities[index]) for index in classes]
    draw_classes(photograph, classes, scores, maps, against, options.output)
    draw_layers(photograph, first, options.layers, layer_maps, sums, options.output)
    return {
        "name": photograph.name,
        "classes": [
            {
                "class": index,
                "name": class_name(index),
                "probability": round(score, 4),
                "peak": peak(attribution),
            }
            for index, score, attribution in zip(classes, scores, maps, strict=True)
        ],
        "counterfactual": {"class": first, "peak": peak(against)},
        "layers": [
            {"layer": name, "peak": peak(layer_map), "peak_of_sum": peak(added)}
            for name, layer_map, added in zip(options.layers, layer_maps, sums, strict=True)
        ],
    }


def peak(attribution: Tensor) -> list[int] | None:
    """Where the map (H, W) is highest, [x, y] in pixels; None for a map that is zero."""
    y, x = divmod(int(attribution.argmax()), attribution.shape[1])
    return [x, y] if attribution[y, x] > 0 else None


def draw_classes(
    photograph: Photograph,
    classes: list[int],
    scores: list[float],
    maps: Tensor,
    against: Tensor,
    output: Path,
) -> None:
    """The photograph, the map of each class, and what speaks against the first."""
    columns = len(classes) + 2
    width = panel_width(columns)
    figure = Figure(figsize=(width * columns + 0.5, width + 0.6), layout="compressed")
    axes = figure.subplots(1, columns)
    axes[0].imshow(photograph.pixels)
    axes[0].set_axis_off()
    axes[0].set_title(photograph.name, fontsize="medium")
    titles = [
        f"{class_name(index)}\n{score:.0%}" for index, score in zip(classes, scores, strict=True)
    ]
    draw_row(
        figure,
        axes[1:],
        [*maps, against],
        [*titles, f"against\n{class_name(classes[0])}"],
        photograph,
        label="attribution",
    )
    figure.savefig(output / f"{photograph.name}_classes.png", dpi=100, bbox_inches="tight")


def draw_layers(
    photograph: Photograph,
    target: int,
    names: list[str],
    layer_maps: list[Tensor],
    sums: list[Tensor],
    output: Path,
) -> None:
    """The layers taken apart: above the map of each, below their sum as they are added."""
    columns = len(names)
    width = panel_width(columns)
    figure = Figure(figsize=(width * columns + 0.5, 2 * width + 1), layout="compressed")
    figure.suptitle(f"{class_name(target)}: each layer, and below it the sum up to it")
    axes = figure.subplots(2, columns, squeeze=False)
    draw_row(figure, axes[0], layer_maps, names, photograph, label="one layer", top=1)
    counts = [f"sum of {count}" for count in range(1, columns + 1)]
    draw_row(figure, axes[1], sums, counts, photograph, label="sum")
    figure.savefig(output / f"{photograph.name}_layers.png", dpi=100, bbox_inches="tight")


def panel_width(columns: int) -> float:
    """In inches: ten for the row where that leaves the panels neither tiny nor huge."""
    return min(max(10 / columns, 1.5), 2.5)


def draw_row(
    figure: Figure,
    axes: list[Axes],
    maps: list[Tensor],
    titles: list[str],
    photograph: Photograph,
    label: str,
    top: float | None = None,
) -> None:
    """Maps side by side under one colour scale, up to ``top`` or the highest value of all."""
    highest = max(float(attribution.max()) for attribution in maps)
    norm = Normalize(0, top or highest or 1)
    for ax, attribution, title in zip(axes, maps, titles, strict=True):
        visualize_image_attr(
            attribution, photograph.pixels, plt_fig_axis=(figure, ax), cmap=COLOURS, vmax=norm.vmax
        )
        ax.set_title(title if attribution.any() else f"{title} (zero)", fontsize="medium")
    figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, label=label, pad=0.01)


def print_shapes(shapes: dict[str, list[int]]) -> None:
    print(f"{'Layer':24}output shape")
    for name, shape in shapes.items():
        print(f"{name:24}{tuple(shape)}")


def print_classes(photographs: list[dict[str, Any]]) -> None:
    print(f"\n{'Photograph':14}{'class':24}{'probability':>11}   peak at (x, y)")
    for photograph in photographs:
        for row in photograph["classes"]:
            print(f"{photograph['name']:14}{row['name']:24}{row['probability']:11.3f}   ", end="")
            print(tuple(row["peak"]) if row["peak"] else "- (the map is zero)")
    print()


if __name__ == "__main__":
    main()
