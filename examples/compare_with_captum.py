"""Coming from Captum: LayerGradCam layer by layer, and LayerwiseGradCAM over all layers at once.

Captum explains one layer a call, at the layer's own size. Here all layers share one forward and one
backward pass, and each map has the input's size, divided by its maximum. Apart from that the maps
are the same, which the table shows.

    python examples/compare_with_captum.py               # a photograph of scikit-image
    python examples/compare_with_captum.py my.jpg --target 207 --layers _blocks.4 _blocks.10
"""

import argparse
from pathlib import Path

import torch
from captum.attr import LayerAttribution, LayerGradCam

from captum_3dcam import Layer, LayerwiseGradCAM
from captum_3dcam.functional import normalize
from captum_3dcam.io import read_image
from captum_3dcam.visualization import Style, visualize_attr_panels
from trained_networks import efficientnet


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    image = (
        read_image(options.image) if options.image else efficientnet.demo_photographs()["coffee"]
    )
    pixels = efficientnet.crop(image)
    inputs = efficientnet.preprocess(pixels)
    network = efficientnet.load_efficientnet()
    with torch.no_grad():
        target = int(network(inputs).argmax()) if options.target is None else options.target
    passes: list[None] = []
    network.register_forward_hook(lambda *_: passes.append(None))

    theirs = [captum_map(network, name, inputs, target) for name in options.layers]
    print(f"LayerGradCam: {len(options.layers)} layers, {len(passes)} forward passes")
    passes.clear()
    # A block of this network runs one ReLU twice. Captum explains the last call; here one says so.
    cam = LayerwiseGradCAM(network, [Layer(name, calls="last") for name in options.layers])
    fused = cam.attribute(inputs, target=target)
    print(f"LayerwiseGradCAM: {len(options.layers)} layers, {len(passes)} forward pass")

    ours = cam.attribute(inputs, target=target, per_layer=True)
    print("\nlayer                   size of Captum's map   largest difference")
    for name, mine, other in zip(options.layers, ours, theirs, strict=True):
        upsampled = LayerAttribution.interpolate(other, tuple(inputs.shape[2:]), "bilinear")
        difference = float((normalize(upsampled) - mine).abs().max())
        print(f"{name:24}{tuple(other.shape[2:])!s:23}{difference:.1e}")
    figure, _ = visualize_attr_panels(
        [*ours, fused],
        pixels,
        [*options.layers, "sum"],
        title=efficientnet.class_name(target),
        style=Style(scale="row"),  # each map its own: a sum is larger than one layer
    )
    figure.savefig(options.output / "compare_with_captum.png", dpi=100)
    print(f"Wrote compare_with_captum.png to {options.output}.")


def captum_map(network, layer, inputs, target) -> torch.Tensor:
    cam = LayerGradCam(network, network.get_submodule(layer))
    return cam.attribute(inputs, target=target, relu_attributions=True).detach()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("image", nargs="?", type=Path, help="an image file (default: coffee of scikit-image)")
    add("--target", type=int, help="class to explain (default: the highest)")
    add("--layers", nargs="+", default=efficientnet.LAYERS, help="names (default: five depths)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
