"""Read images."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import (
    BYTES_PER_PIXEL,
    StrPath,
    check_size,
    existing_path,
    wrap_read_errors,
)
from captum_3dcam._validation import warn

if TYPE_CHECKING:
    from PIL import Image

# Not every format of Pillow: some of its decoders run external programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def read_image(path: StrPath, apply_orientation: bool = True) -> NDArray[np.uint8]:
    """Read an image as RGB, (H, W, 3) uint8.

    Reads BMP, GIF, JPEG, PNG, PPM, TIFF and WebP, of several pages the first with a warning, and
    DICOM (:func:`read_dicom_image`), all by content. A grey image is repeated over the three
    channels, 16-bit values are scaled to 8 bits, and transparency is dropped.

    Args:
        path: the file.
        apply_orientation: rotate and flip the image as its EXIF orientation says. With False the
            pixels are as stored, e.g. for box annotations that refer to them. (Pillow always
            decodes TIFF upright.)

    Raises FileNotFoundError, and ValueError for a file that is damaged, of another format or too
    large (2^26 pixels, unless ``CAPTUM_3DCAM_MAX_BYTES`` is set), or whose values have no defined
    range (32-bit integers and floats).

    >>> read_image("missing.png")
    Traceback (most recent call last):
    FileNotFoundError: There is no image file 'missing.png'.
    """
    from PIL import Image, ImageOps

    from captum_3dcam.io.dicom import read_dicom_image  # which imports videos, and they images

    path = existing_path(path, "image file")
    if has_dicom_prefix(path):
        return read_dicom_image(path)
    pages = count_pages(path)
    if pages and pages[1] > 1:
        warn(f"{str(path)!r} has {pages[1]} pages; the first one is read.")
    with wrap_read_errors(path, "an image"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata is harmless; sizes are checked below
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            check_size(path, BYTES_PER_PIXEL * width * height, f"{width} x {height} pixels")
            upright = ImageOps.exif_transpose(image) if apply_orientation else image
            return _to_rgb(upright, image.format)


def count_pages(path: StrPath) -> tuple[str, int] | None:
    """The format of an image file, and the number of its pages or frames; None for other files.

    An MPO is a JPEG with previews or a second view, as phones write it: one page.
    """
    from PIL import Image

    if has_dicom_prefix(Path(path)):  # it may begin as a TIFF does
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                image_format = str(image.format)
                return image_format, 1 if image_format == "MPO" else getattr(image, "n_frames", 1)
    except Exception:  # a decoder may raise any error for what is no image
        return None


def has_dicom_prefix(path: Path) -> bool:
    """Whether the file is DICOM with a preamble, whatever else it begins as."""
    with path.open("rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"


def _to_rgb(image: "Image.Image", file_format: str | None) -> NDArray[np.uint8]:
    # Some versions of Pillow open 16-bit PNG and PPM as 32-bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        grey = (np.asarray(image).astype(np.int64) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"the values of mode {image.mode!r} have no defined range. Save the image with 8 or 16 "
            "bits per channel."
        )
    # Via RGBA, because Pillow warns if a palette with transparency is converted to RGB directly.
    return np.array(image.convert("RGBA").convert("RGB"))
