"""Pictures in."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.io._files import StrPath, existing, reading

if TYPE_CHECKING:
    from PIL import Image

# Not all that Pillow knows: some of its decoders run programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MAX_PIXELS = 2**26


def read_image(path: StrPath) -> NDArray[np.uint8]:
    """A picture as RGB bytes (H, W, 3), upright: its EXIF orientation is applied.

    BMP, GIF (the first frame), JPEG, PNG, PPM, TIFF and WebP, in any mode that has a range: grey
    is repeated, 16 bits become 8, transparency is dropped.

    Raises FileNotFoundError, and ValueError for a file that is damaged, of another format, of
    more than 2^26 pixels, or of numbers without a range (32-bit integers, floats).

    >>> read_image("missing.png")
    Traceback (most recent call last):
    FileNotFoundError: There is no picture 'missing.png'.
    """
    from PIL import Image, ImageOps

    existing(path, "picture")
    with reading(path, "a picture"), warnings.catch_warnings():
        # Odd metadata is common and does no harm; the size is checked below.
        warnings.simplefilter("ignore")
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > _MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels are too many.")
            return _rgb(ImageOps.exif_transpose(image), image.format)


def _rgb(image: "Image.Image", file_format: str | None) -> NDArray[np.uint8]:
    # Some versions of Pillow open PNG and PPM of 16 bits as 32-bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        grey = (np.asarray(image).astype(np.int64) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its numbers (mode {image.mode!r}) have no range that would say what is white. Save "
            "it with 8 or 16 bits."
        )
    # Palettes with transparency go through RGBA, or Pillow warns.
    return np.array(image.convert("RGBA").convert("RGB"))
