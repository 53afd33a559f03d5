"""Where did an image classifier look? Its three highest classes, and each layer's part.

The maps of the classes come from one forward pass; the counterfactual map shows what speaks against
the highest class. A second figure takes the explanation apart into the maps of its layers.

    python examples/explain_image.py                       # photographs of scikit-image
    python examples/explain_image.py my.jpg --target 207 208 --layers _blocks.4 _blocks.10
    python examples/explain_image.py --method LayerwiseHiResCAM

The default layers are ReLUs, one late at each resolution. The network's last layer, _swish, is not
among them: before global average pooling the gradient is the same everywhere, so its map shows
where the network is active, whichever the class, or is zero. Try --layers _swish.
"""

import argparse
from pathlib import Path

import torch

import captum_3dcam
from captum_3dcam import CounterfactualCAM2D, Layer
from captum_3dcam.io import read_image
from captum_3dcam.visualization import Style, visualize_attr_panels
from trained_networks import efficientnet


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    images = {path.stem: read_image(path) for path in options.images}
    network = efficientnet.load_efficientnet()
    # A block of this network runs one ReLU twice; its last call is explained.
    layers = [Layer(name, calls="last") for name in options.layers]
    cam = getattr(captum_3dcam, options.method)(network, layers)
    against = CounterfactualCAM2D(network, layers)
    by_row = Style(scale="row")  # each map its own: a sum over layers is larger than one layer
    for name, image in (images or efficientnet.demo_photographs()).items():
        pixels = efficientnet.crop(image)
        inputs = efficientnet.preprocess(pixels)
        classes, maps = explain(cam, inputs, options.target)
        with torch.no_grad():
            scores = network(inputs).softmax(dim=1)[0, classes].tolist()
        names = [efficientnet.class_name(index) for index in classes]
        titles = [f"{n} ({score:.2f})" for n, score in zip(names, scores, strict=True)]
        print(f"{name}: {', '.join(titles)}")

        maps = [*maps, against.attribute(inputs, target=classes[0])]
        titles = [*titles, f"against {names[0]}"]
        figure, _ = visualize_attr_panels(maps, pixels, titles, title=name)
        figure.savefig(options.output / f"{name}_classes.png", dpi=100)
        layer_maps = cam.attribute(inputs, target=classes[0], per_layer=True)
        maps, titles = [*layer_maps, maps[0]], [*options.layers, "fused"]
        figure, _ = visualize_attr_panels(maps, pixels, titles, title=names[0], style=by_row)
        figure.savefig(options.output / f"{name}_layers.png", dpi=100)
    print(f"Wrote <name>_classes.png and <name>_layers.png of each image to {options.output}.")


def explain(cam, inputs, targets):
    """The classes, by default the highest three, and their maps (classes, H, W)."""
    if not targets:
        maps, classes = cam.attribute_top_k(inputs, k=3)
        return classes[0].tolist(), maps[0]
    return targets, cam.attribute(inputs.expand(len(targets), -1, -1, -1), target=targets)[:, 0]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("images", nargs="*", type=Path, help="image files (default: four of scikit-image)")
    add("--target", nargs="+", type=int, help="classes to explain (default: the highest three)")
    add("--layers", nargs="+", default=efficientnet.LAYERS, help="names (default: five depths)")
    add("--method", default="GlobalLocalCAM2D", help="any attribution class of captum_3dcam")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
