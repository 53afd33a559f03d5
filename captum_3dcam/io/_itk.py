"""Read and write NRRD and MetaImage files with SimpleITK."""

import math
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import (
    StrPath,
    atomic_write,
    check_size,
    import_extra,
    wrap_read_errors,
)
from captum_3dcam._validation import warn
from captum_3dcam.io import _metaimage, _nrrd
from captum_3dcam.io._voxels import Index, choose_volumes, replace_non_finite
from captum_3dcam.io.volume import Header, Volume, check_shape

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = [2, 1, 0, 3]  # columns of an affine: ITK's axes (i, j, k) are (w, h, d) here
_MAX_HEADER = 2**20  # bytes
_NAMES = {"Nrrd": "NRRD", "Meta": "MetaImage"}
# Where a header names the files of its values: there, or in the lines that follow LIST.
_DATA_FILE = {
    "Nrrd": re.compile(r"data ?file\s*:\s*([^\r\n]*)", re.IGNORECASE),
    "Meta": re.compile(r"ElementDataFile\s*[=:]?\s*([^\r\n]*)", re.IGNORECASE),
}
_ORIGINS = {"spaceorigin", "Offset", "Origin", "Position"}  # fields of NRRD and MetaImage
_UNITS = {"meter": ("m", 1000.0), "micron": ("um", 0.001)}  # of an NRRD header, in mm


def read_itk(path: Path, kind: str, index: Index, nan: float | None) -> Volume:
    """Read a file of the kind ``"Nrrd"`` or ``"Meta"``; its vectors are channels."""
    sitk = _import_simpleitk(_NAMES[kind])
    checks = _nrrd if kind == "Nrrd" else _metaimage
    with wrap_read_errors(path, _NAMES[kind]):
        header = _read_header(path, kind)
        _check_data_files(header, kind)
        fields = checks.read_fields(path, header)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO(f"{kind}ImageIO")
        _call(reader.ReadImageInformation)
        chosen, size = _check_size(sitk, reader, path, index)
        checks.check_lengths(path, header, fields, size)
        to_lps = checks.space_to_lps(fields, _space(reader))
        unit, name = checks.read_unit(fields, path)
        image = _call(reader.Execute)
        data = _values(sitk.GetArrayViewFromImage(image), image, chosen)
        replace_non_finite(data, nan)
        affine = (np.eye(4) if to_lps is None else to_lps) @ _affine(image)
        affine[:3] *= unit
        volume = Volume(data, _LPS_TO_RAS @ affine, header=Header(units=(name, "unknown")))
    if to_lps is None:
        space = f" (its space is {_space(reader)})" if _space(reader) else ""
        warn(
            f"{str(path)!r} states no orientation{space}. As in ITK, its axes are taken to run to "
            "the patient's left, back and head."
        )
    elif not fields.keys() & _ORIGINS:
        warn(f"{str(path)!r} states no origin: positions in mm are from its first voxel.")
    return volume


def write_itk(volume: Volume, path: StrPath) -> None:
    """Write ``.nrrd`` or ``.mha``, compressed, in float32."""
    sitk = _import_simpleitk("NRRD and MetaImage")
    data = volume.data
    several = volume.channels > 1
    image = sitk.GetImageFromArray(np.moveaxis(data, 0, -1) if several else data, isVector=several)
    is_nrrd = str(path).lower().endswith(".nrrd")
    unit, mm = _UNITS.get(volume.header.units[0], ("", 1.0)) if is_nrrd else ("", 1.0)
    affine = _LPS_TO_RAS @ volume.affine[:, _REVERSED]
    affine[:3] /= mm
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    with atomic_write(path, (".nrrd", ".mha")) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
        if unit:
            _add_unit(temporary, unit)


def _add_unit(path: Path, unit: str) -> None:
    """State the unit in an NRRD header: SimpleITK cannot."""
    before, space, after = path.read_bytes().partition(b"\nspace: left-posterior-superior\n")
    line = "space units:" + f' "{unit}"' * 3 + "\n"
    path.write_bytes(before + space + line.encode() + after)


def _import_simpleitk(kind: str) -> Any:
    return import_extra("SimpleITK", f"{kind} files need SimpleITK", "medical")


def _call(function: Any) -> Any:
    """Call SimpleITK; of its errors, keep the reason without positions in source files."""
    try:
        return function()
    except RuntimeError as error:
        reason = " ".join(str(error).split("ERROR: ")[-1].split())
        raise ValueError(re.sub(r"\(0x[0-9a-f]+\)", "", reason)) from error


# ------------------------------------------------------------------------------- the header


def _read_header(path: Path, kind: str) -> str:
    """The text before the values."""
    with path.open("rb") as file:
        text = file.read(_MAX_HEADER).decode("latin-1")
    if kind == "Nrrd":
        end = re.search(r"\r?\n\r?\n", text)
        stop = end.start() if end else len(text)
    else:
        last = _DATA_FILE[kind].search(text)
        if last is None:
            raise ValueError("its header has no ElementDataFile.")
        stop = last.end() if last[1].strip().upper() == "LOCAL" else len(text)
    if stop == _MAX_HEADER:
        raise ValueError(f"its header has more than {_MAX_HEADER} bytes.")
    return text[:stop]


def _check_data_files(header: str, kind: str) -> None:
    """Raise ValueError if the values are to be read from outside of the header's folder."""
    for match in _DATA_FILE[kind].finditer(header):
        names = [match[1].strip()]
        if names[0].upper().startswith("LIST"):
            names += header[match.end() :].splitlines()
        for name in names:
            paths = PurePosixPath(name.strip()), PureWindowsPath(name.strip())
            if any(path.anchor or ".." in path.parts for path in paths):
                raise ValueError(
                    f"its values are in {name.strip()!r}, outside of its folder. Copy the file "
                    "beside the header, and write its name alone into the header."
                )


def _space(reader: Any) -> str:
    """The space of the positions that SimpleITK gives for an NRRD header; "" if it has none."""
    key = "NRRD_space"
    return str(reader.GetMetaData(key)) if reader.HasMetaDataKey(key) else ""


def _check_size(sitk: Any, reader: Any, path: Path, index: Index) -> tuple[range, int]:
    """Check the size that the header describes.

    Returns the channels or volumes to keep, and the bytes of all values.
    """
    pixel_type = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    size, components = list(reader.GetSize()), int(reader.GetNumberOfComponents())
    if len(size) not in (3, 4):
        raise ValueError(f"it is an image of {len(size)} axes; expected three, or four.")
    check_shape(tuple(size[2::-1]))
    bits = re.search(r"(\d+)-bit", pixel_type)
    if "complex" in pixel_type or bits is None:
        raise ValueError(f"its values are {pixel_type}; expected real numbers.")
    volumes = size[3] if len(size) == 4 else 1
    if volumes > 1 and components > 1:
        raise ValueError(f"it has {volumes} volumes of vectors. Save one of the volumes alone.")
    chosen = choose_volumes(volumes * components, index, components > 1)
    voxels = math.prod(size[:3])
    stored = volumes * components * int(bits[1]) // 8
    content = f"{' x '.join(map(str, size))} voxels of {components} x {bits[1]} bits"
    check_size(path, voxels * (stored + 4 * len(chosen)), content)
    return chosen, voxels * stored


def _values(view: NDArray[Any], image: Any, chosen: range) -> NDArray[np.float32]:
    """(D, H, W), or (C, D, H, W), of the chosen components or volumes, as a copy in float32."""
    stacked = view[None] if view.ndim == 3 else view
    if image.GetNumberOfComponentsPerPixel() > 1:
        stacked = np.moveaxis(view.reshape(*view.shape[-4:]), -1, 0)
    part = stacked[chosen.start : chosen.stop]
    with np.errstate(over="ignore"):
        return np.array(part if len(chosen) > 1 else part[0], np.float32, order="C")


def _affine(image: Any) -> NDArray[np.float64]:
    """(4, 4), from (d, h, w) to the positions that SimpleITK gives, without those in time."""
    affine, axes = np.eye(4), image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(axes, axes)
    if direction[:3, 3:].any() or direction[3:, :3].any():
        raise ValueError("its last axis is not that of time. Save one of the volumes alone.")
    affine[:3, :3] = direction[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return affine[:, _REVERSED]
