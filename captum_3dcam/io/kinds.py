"""What kind of input a file or folder is, by its content."""

import re
from pathlib import Path

from captum_3dcam._files import StrPath
from captum_3dcam.io.dicom import dicom_kind
from captum_3dcam.io.image import count_pages
from captum_3dcam.io.image_sequence import list_images
from captum_3dcam.io.medical import content_format
from captum_3dcam.io.video import is_video

KINDS = ("image", "video", "volume")

# The starts of files that people have their data in, as regular expressions.
_OTHERS = {
    rb"\x93NUMPY": "a NumPy array",
    rb"PK\x03\x04": "a zip archive (.npz, .pt, .zip)",
    rb"\x89HDF": "an HDF5 file (.h5, .mat, MINC)",
    rb"CDF": "a NetCDF file (MINC)",
    rb"MATLAB 5.0": "a MATLAB file",
    rb"%PDF": "a PDF",
    rb"\x80[\x02-\x05]": "a pickle",
    rb"\x1f\x8b": "a gzip file of unknown content",
    rb"....ftyp(avi[fs]|he[iv]|mif1|msf1)": "an AVIF or HEIC image (convert it to JPEG)",
    rb"\x00\x00\x00\x0cjP|\xff\x4f\xff\x51": "a JPEG 2000 image (convert it to PNG)",
    rb"8BPS": "a Photoshop file",
    rb"\x76\x2f\x31\x01": "an OpenEXR image",
    rb"\x00\x00\x01\x00": "an icon",
    rb"ID3|\xff[\xfb\xf3\xf2]|fLaC|RIFF....WAVE|....ftypM4A": "a sound file",
}
# Where the content is of no known format: a damaged file is refused as what it should be.
_KINDS_OF_SUFFIX = {
    "image": "bmp jpg jpeg jfif png ppm tif tiff webp",
    "video": "mp4 m4v mov avi mkv webm mpg mpeg ts wmv flv gif ogv",
    "volume": "nii nii.gz hdr img mgh mgz nrrd nhdr mha mhd dcm dicom ima",
}
_MAX_LISTED = 5


def input_kind(path: StrPath) -> str:
    """``"image"``, ``"video"`` or ``"volume"``, by the content of a file or folder.

    A file whose content is not known, as of a damaged one, is what its suffix says.

    A DICOM file or folder is what its objects are: an X-ray is an image, a cine loop a video, a CT
    or MR series a volume. An animated GIF, PNG or WebP and a folder of images are videos.

    Raises FileNotFoundError, and ValueError for a TIFF of several pages, which may be either, for
    a folder of several inputs, and for any other content.

    >>> from PIL import Image
    >>> path = getfixture("tmp_path") / "scan.nii"  # the suffix does not count
    >>> Image.new("RGB", (8, 8)).save(path, "PNG")
    >>> input_kind(path)
    'image'
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r}.")
    kind = _folder_kind(path) if path.is_dir() else _file_kind(path)
    if kind is None:
        what = "a folder" if path.is_dir() else _describe(path)
        raise ValueError(
            f"{str(path)!r} is {what}, neither an image, a video nor a scan of a known format. "
            "What you have loaded yourself can be explained in Python, as a tensor."
        )
    return kind


def _file_kind(path: Path) -> str | None:
    if not path.stat().st_size:
        raise ValueError(f"{str(path)!r} is empty.")
    if "AVIF" in _describe(path):  # FFmpeg takes it for a video
        return None
    if pages := count_pages(path):
        return _image_kind(path, *pages)
    if kind := dicom_kind(path):
        return kind
    if content_format(path):
        return "volume"
    return "video" if is_video(path) else kind_of_suffix(path)


def kind_of_suffix(path: Path) -> str | None:
    suffixes = "".join(path.suffixes[-2:]).lower(), path.suffix.lower()
    for kind, known in _KINDS_OF_SUFFIX.items():
        if any(suffix.removeprefix(".") in known.split() for suffix in suffixes):
            return kind
    return None


def _image_kind(path: Path, image_format: str, pages: int) -> str:
    if pages > 1 and image_format == "TIFF":
        raise ValueError(
            f"{str(path)!r} is a TIFF of {pages} pages, which may be frames or slices. Say what it "
            "is: a video of so many frames, or an image, the first page."
        )
    return "video" if pages > 1 else "image"


def _folder_kind(folder: Path) -> str | None:
    if kind := dicom_kind(folder):
        return kind
    files = [each for each in sorted(folder.iterdir()) if each.is_file()]
    files = [each for each in files if not each.name.startswith(".")]
    if not files:
        raise ValueError(f"The folder {str(folder)!r} has no files.")
    images = set(list_images(folder))
    others = {each.name: _kind_or_none(each) for each in files if each not in images}
    inputs = [f"{name} ({kind})" for name, kind in others.items() if kind]
    if len(images) > 1 and not inputs:
        return "video"
    inputs += [f"{each.name} (image)" for each in sorted(images)]
    if inputs:
        more = ", ..." if len(inputs) > _MAX_LISTED else ""
        raise ValueError(
            f"The folder {str(folder)!r} holds {len(inputs)} input(s): "
            f"{', '.join(inputs[:_MAX_LISTED])}{more}. Pass one of them."
        )
    return None


def _kind_or_none(path: Path) -> str | None:
    try:
        return _file_kind(path)
    except ValueError:
        return None


def _describe(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(2**10)
    for pattern, description in _OTHERS.items():
        if re.match(pattern, start, re.DOTALL):
            return description
    return "binary data" if b"\0" in start else "text"
