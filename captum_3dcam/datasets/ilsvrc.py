"""ILSVRC (ImageNet) for localization: photographs with boxes around the objects of one class.

Russakovsky et al., 2015, doi 10.1007/s11263-015-0816-y. The boxes are either in text files, as in
*Evaluating Weakly Supervised Object Localization Methods Right* (Choe et al., CVPR 2020), or in
ImageNet's XML files. Both count pixels from 0 and include a box's last pixel.
"""

import re
import xml.etree.ElementTree as ET
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from captum_3dcam._files import wrap_read_errors
from captum_3dcam.datasets._files import (
    Problem,
    box_problems,
    check_index,
    collect_problems,
    path_inside,
    read_bytes,
    read_lines,
)
from captum_3dcam.datasets._frames import read_stored_image, to_tensor

_MAX_NUMBER = 2**20  # far more than the pixels in a row of an image
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class LocalizedImage(NamedTuple):
    """An image with the ground truth of its B objects."""

    image: Tensor
    """(3, H, W), RGB in [0, 1]."""
    label: int
    """An index into the dataset's ``classes``."""
    boxes: Tensor
    """(B, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive."""
    image_id: str
    """One of the dataset's ``image_ids``."""


class ImageAnnotation(NamedTuple):
    """The annotation of an image, available without the image itself."""

    image_id: str
    label: int
    boxes: Tensor
    """(B, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive."""
    size: tuple[int, int]
    """Height and width in pixels."""


class ILSVRCLocalization(Dataset[LocalizedImage]):
    """ImageNet's images with boxes around the objects of their class.

    ``root`` contains either ``image_ids.txt``, ``class_labels.txt``, ``image_sizes.txt`` and
    ``localization.txt``; or ``Annotations/CLS-LOC/val/*.xml`` and the list of synsets,
    ``LOC_synset_mapping.txt``, whose sorted order numbers the labels. The list is optional for
    the text files; without it the classes are named "0" to "999". Images differ in size, so a
    DataLoader needs ``batch_size=None``.

    Args:
        root: the folder of the annotations.
        images: the folder of the images: by default ``root``, with files ``<image id>``, for the
            text files, and ``Data/CLS-LOC/val`` in it, with ``<image id>.JPEG``, for the XML files.
        synsets: the list of synsets: by default the one in ``root`` or in its parent.

    Raises:
        FileNotFoundError: if annotations, or synsets that are needed, are missing.
        ValueError: for a damaged text file, with the line. XML files are read with their images.

    >>> import tempfile
    >>> rows = {"image_ids": "a.JPEG", "class_labels": "a.JPEG,65"}
    >>> rows |= {"image_sizes": "a.JPEG,500,375", "localization": "a.JPEG,111,108,441,193"}
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name, row in rows.items():
    ...         _ = Path(root, f"{name}.txt").write_text(row)
    ...     ILSVRCLocalization(root).annotation(0).boxes
    tensor([[111., 108., 442., 194.]])
    """

    def __init__(
        self,
        root: str | PathLike[str],
        images: str | PathLike[str] | None = None,
        synsets: str | PathLike[str] | None = None,
    ) -> None:
        self.root = Path(root)
        names = _read_synsets(self.root, synsets)
        self.classes = tuple(names.values()) or tuple(map(str, range(1000)))
        self._synsets = list(names)
        self._text_file = self.root / "localization.txt"
        self._xml_folder = self.root / "Annotations" / "CLS-LOC" / "val"
        self._text: dict[str, ImageAnnotation] = {}
        if self._text_file.is_file():
            self._text = _read_text_files(self._text_file, len(self.classes))
            self.image_ids = tuple(self._text)
            self._image_name, default = "{}", self.root
        else:
            self._check_xml_files()
            names_of_files = (path.stem for path in self._xml_folder.glob("[!.]*.xml"))
            self.image_ids = tuple(sorted(names_of_files))
            self._image_name, default = "{}.JPEG", self.root / "Data" / "CLS-LOC" / "val"
        self._images = default if images is None else Path(images)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(root={self.root.resolve().name!r}, images={len(self)})"

    def __len__(self) -> int:
        return len(self.image_ids)

    def annotation(self, index: int) -> ImageAnnotation:
        """The annotation of an image, whose file may be missing.

        Raises IndexError, and ValueError for a damaged XML file.
        """
        check_index(index, len(self))
        image_id = self.image_ids[index]
        return self._text.get(image_id) or _read_xml_file(
            self._annotation_file(image_id), self._synsets
        )

    def __getitem__(self, index: int) -> LocalizedImage:
        """Raises as :meth:`annotation`, FileNotFoundError, and ValueError for an image that is
        damaged or has another size than the one annotated."""
        image_id, label, boxes, size = self.annotation(index)
        return LocalizedImage(to_tensor(self._read_image(image_id, size)), label, boxes, image_id)

    def check(self) -> list[Problem]:
        """Read all files of the dataset and return what is wrong with them."""
        problems: list[Problem] = []
        for index, image_id in enumerate(self.image_ids):
            file, size = self._annotation_file(image_id), None
            with collect_problems(problems, file):
                _, _, boxes, size = self.annotation(index)
                name = f"{str(file)!r}, {image_id!r}"
                if not len(boxes):
                    raise ValueError(f"{name}: there is no box.")
                problems += box_problems(boxes, size, file, name)
            with collect_problems(problems, self._image_file(image_id)):
                self._read_image(image_id, size)
        return problems

    def _check_xml_files(self) -> None:
        if not self._xml_folder.is_dir():
            raise FileNotFoundError(
                f"There are no annotations in {str(self.root)!r}: expected 'localization.txt' and "
                "the other text files, or the folder 'Annotations/CLS-LOC/val' of XML files."
            )
        if not self._synsets:
            raise FileNotFoundError(
                f"There is no 'LOC_synset_mapping.txt' in {str(self.root)!r} or its parent. The "
                "labels of XML files need it: give its path as synsets."
            )

    def _annotation_file(self, image_id: str) -> Path:
        return self._text_file if self._text else self._xml_folder / f"{image_id}.xml"

    def _image_file(self, image_id: str) -> Path:
        return self._images / self._image_name.format(image_id)

    def _read_image(self, image_id: str, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        path = self._image_file(image_id)
        image = read_stored_image(path)
        if size is not None and image.shape[:2] != size:
            raise ValueError(
                f"The image {str(path)!r} has {image.shape[1]} x {image.shape[0]} pixels; its "
                f"annotation is for {size[1]} x {size[0]}. Use ImageNet's original images; resize "
                "them together with their boxes afterwards."
            )
        return image


def _to_exclusive(boxes: list[list[int]]) -> Tensor:
    """Boxes that include their last pixel -> (B, 4), inclusive-exclusive."""
    exclusive = [[x0, y0, x1 + 1, y1 + 1] for x0, y0, x1, y1 in boxes]
    return torch.tensor(exclusive, dtype=torch.float32).reshape(-1, 4)


def _parse_number(text: str | None, location: str) -> int:
    if text is None or not re.fullmatch("[0-9]{1,9}", text) or int(text) > _MAX_NUMBER:
        received = "nothing" if text is None else repr(text[:80])
        raise ValueError(f"{location}: expected a number from 0 to {_MAX_NUMBER}; got {received}.")
    return int(text)


def _read_text_files(file: Path, classes: int) -> dict[str, ImageAnnotation]:
    """The annotations of the images in ``image_ids.txt``, from the files beside ``file``."""
    labels = _read_rows(file.with_name("class_labels.txt"), "id,label")
    sizes = _read_rows(file.with_name("image_sizes.txt"), "id,width,height")
    boxes = _read_rows(file, "id,x0,y0,x1,y1")
    annotations: dict[str, ImageAnnotation] = {}
    for location, image_id in read_lines(file.with_name("image_ids.txt"), "list"):
        path_inside(Path(), image_id, location)
        if image_id in annotations:
            raise ValueError(f"{location}: {image_id!r} is listed twice.")
        for name, rows in (("class_labels.txt", labels), ("image_sizes.txt", sizes)):
            if len(rows.get(image_id, [])) != 1:
                raise ValueError(f"{location}: {image_id!r} needs exactly one line in {name!r}.")
        (label,), (width, height) = labels[image_id][0], sizes[image_id][0]
        if label >= classes:
            raise ValueError(f"{location}: {image_id!r} has label {label}, of {classes} classes.")
        image_boxes = _to_exclusive(boxes.get(image_id, []))
        annotations[image_id] = ImageAnnotation(image_id, label, image_boxes, (height, width))
    return annotations


def _read_rows(path: Path, columns: str) -> dict[str, list[list[int]]]:
    """The rows of a file by their first column, the id; the other columns are numbers."""
    rows: dict[str, list[list[int]]] = {}
    for location, line in read_lines(path, "list"):
        image_id, *numbers = line.split(",")
        if len(numbers) != columns.count(","):
            raise ValueError(f"{location}: expected {columns}; got {line[:80]!r}.")
        rows.setdefault(image_id, []).append([_parse_number(text, location) for text in numbers])
    return rows


def _read_xml_file(path: Path, synsets: list[str]) -> ImageAnnotation:
    """The annotation in a file in the format of PASCAL VOC."""
    data, location = read_bytes(path, "annotation"), f"{str(path)!r}"
    with wrap_read_errors(path, "an XML annotation"):
        tree = ET.fromstring(data)  # noqa: S314  (expat limits entities, and loads no files)
    # Only the name of the XML file leads to the image; the name inside is just compared.
    filename = tree.findtext("filename", path.stem)
    if filename.removesuffix(".JPEG") != path.stem:
        raise ValueError(f"{location} is of another image, {filename[:80]!r}.")
    objects = tree.findall("object")
    names = {item.findtext("name", "") for item in objects}
    if len(names) != 1 or not names <= set(synsets):
        raise ValueError(
            f"{location}: expected objects of one class, a listed synset such as 'n01440764'; "
            f"got {sorted(name[:80] for name in names)}."
        )
    height, width = (
        _parse_number(tree.findtext(f"size/{axis}"), location) for axis in ("height", "width")
    )
    boxes = [
        [_parse_number(item.findtext(f"bndbox/{side}"), location) for side in _SIDES]
        for item in objects
    ]
    label = synsets.index(names.pop())
    return ImageAnnotation(path.stem, label, _to_exclusive(boxes), (height, width))


def _read_synsets(root: Path, path: str | PathLike[str] | None) -> dict[str, str]:
    """The names of the synsets, sorted by synset; by default from ``root`` or its parent."""
    if path is None:
        paths = [folder / "LOC_synset_mapping.txt" for folder in (root, root.absolute().parent)]
        path = next((path for path in paths if path.is_file()), None)
    names: dict[str, str] = {}
    for location, line in [] if path is None else read_lines(Path(path), "list of synsets"):
        synset, _, name = line.partition(" ")
        if not re.fullmatch("n[0-9]{8}", synset) or synset in names:
            raise ValueError(
                f"{location}: expected a new synset and its name, as in 'n01440764 tench'; got "
                f"{line[:80]!r}."
            )
        names[synset] = name or synset
    return dict(sorted(names.items()))
