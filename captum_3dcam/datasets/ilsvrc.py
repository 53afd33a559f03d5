"""ILSVRC (ImageNet) for localisation: photographs with boxes around the objects of one class.

Russakovsky et al., 2015, doi 10.1007/s11263-015-0816-y. The boxes come as text files, those of
*Evaluating Weakly Supervised Object Localization Methods Right* (Choe et al., CVPR 2020), or as
ImageNet's own XML files. In both a box holds its last pixel, and pixels count from 0.
"""

import re
import xml.etree.ElementTree as ET
from os import PathLike
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_3dcam.datasets._files import Problem, inside, noted, read_bytes, read_lines
from captum_3dcam.datasets._frames import read_image, to_tensor

_CLASSES = 1000
_LARGEST = 2**20  # of the numbers in the files; far more than a picture has pixels in a row


class LocalizedImage(NamedTuple):
    """A picture and its truth; B objects."""

    image: Tensor
    """(3, H, W), RGB in [0, 1]."""
    label: int
    """An index into the dataset's ``classes``."""
    boxes: Tensor
    """(B, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive."""
    image_id: str
    """One of the dataset's ``image_ids``."""


class ImageAnnotation(NamedTuple):
    """What is known of a picture without looking at it."""

    image_id: str
    label: int
    boxes: Tensor
    """(B, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive."""
    size: tuple[int, int]
    """Height and width in pixels."""


class ILSVRCLocalization(Dataset[LocalizedImage]):
    """ImageNet's pictures with boxes around the objects of their class.

    On disk, either ``image_ids.txt``, ``class_labels.txt``, ``image_sizes.txt`` and
    ``localization.txt``; or ``Annotations/CLS-LOC/val/*.xml`` and the list of synsets,
    ``LOC_synset_mapping.txt``: a label is the synset's place in their order. With the text files
    the list is optional; without it the classes' names are "0" to "999".

    Pictures differ in size, so a DataLoader takes them one by one, with ``batch_size=None``.

    Args:
        root: the folder of the annotations.
        images: the folder of the pictures. By default ``root``, as ``<image id>``, for the text
            files; and ``Data/CLS-LOC/val`` in it, as ``<image id>.JPEG``, for the XML files.
        synsets: the list of synsets. By default that in ``root`` or, as ImageNet comes, beside it.

    Raises:
        FileNotFoundError: without annotations, or without synsets that are needed.
        ValueError: for damaged text files, with the line. An XML file is read with its picture.

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
        root = Path(root)
        path = _find_synsets(root) if synsets is None else Path(synsets)
        names = {} if path is None else _read_synsets(path)
        self._annotations = _open(root, names)
        self._images = self._annotations.images if images is None else Path(images)
        self.classes = tuple(names.values()) or tuple(map(str, range(_CLASSES)))
        self.image_ids = self._annotations.image_ids

    def __len__(self) -> int:
        return len(self.image_ids)

    def annotation(self, index: int) -> ImageAnnotation:
        """What is known of a picture, which need not be there.

        Raises IndexError, and ValueError for an XML file that is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Sample {index} was asked for; there are {len(self)}, from 0.")
        return self._annotations.read(self.image_ids[index])

    def __getitem__(self, index: int) -> LocalizedImage:
        """Raises as :meth:`annotation`; FileNotFoundError, and ValueError for a picture that is
        damaged or of another size than its boxes were drawn on."""
        image_id, label, boxes, size = self.annotation(index)
        path = self._picture(image_id)
        pixels = read_image(path)
        _check_size(path, pixels.shape[:2], size)
        return LocalizedImage(to_tensor(pixels), label, boxes, image_id)

    def check(self) -> list[Problem]:
        """All that is wrong with the dataset's files, which are all read; [] if nothing is."""
        problems: list[Problem] = []
        for index, image_id in enumerate(self.image_ids):
            source, picture = self._annotations.source(image_id), self._picture(image_id)
            annotation = None
            with noted(problems, source):
                annotation = self.annotation(index)
                _check_boxes(source, annotation, problems)
            with noted(problems, picture):
                size = read_image(picture).shape[:2]
                if annotation is not None:
                    _check_size(picture, size, annotation.size)
        return problems

    def _picture(self, image_id: str) -> Path:
        return self._images / (image_id + self._annotations.suffix)


def _check_size(picture: Path, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    if size != expected:
        raise ValueError(
            f"The picture {str(picture)!r} is of {size[1]} x {size[0]} pixels; its boxes belong to "
            f"one of {expected[1]} x {expected[0]}. Use the pictures as ImageNet gives them, and "
            "resize them with their boxes afterwards."
        )


def _check_boxes(source: Path, annotation: ImageAnnotation, problems: list[Problem]) -> None:
    height, width = annotation.size
    place = f"{str(source)!r}, {annotation.image_id!r}"
    if not len(annotation.boxes):
        problems.append(Problem(source, f"{place}: there is no box."))
    for number, (x0, y0, x1, y1) in enumerate(annotation.boxes.tolist()):
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            problems.append(
                Problem(
                    source,
                    f"{place}: box {number}, {[x0, y0, x1, y1]}, is empty or reaches out of the "
                    f"picture of {width} x {height}.",
                )
            )


# -------------------------------------------------------------------------------- annotations


class _Annotations(Protocol):
    """One of the two formats."""

    image_ids: tuple[str, ...]
    images: Path
    suffix: str

    def source(self, image_id: str) -> Path:
        """The file with the picture's boxes."""

    def read(self, image_id: str) -> ImageAnnotation: ...


def _open(root: Path, synsets: dict[str, str]) -> _Annotations:
    folder = root / "Annotations" / "CLS-LOC" / "val"
    if (root / "localization.txt").is_file():
        return _TextAnnotations(root, len(synsets) or _CLASSES)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There are no annotations in {str(root)!r}: expected 'localization.txt' and the text "
            "files that belong to it, or the folder 'Annotations/CLS-LOC/val' of XML files."
        )
    if not synsets:
        raise FileNotFoundError(
            f"There is no 'LOC_synset_mapping.txt' in {str(root)!r} or beside it. The XML files "
            "need it to number the classes: give its path as synsets."
        )
    return _XMLAnnotations(root, folder, list(synsets))


class _TextAnnotations:
    """``image_ids.txt`` and what the other three files say of each."""

    suffix = ""

    def __init__(self, root: Path, classes: int) -> None:
        self.images = root
        self._file = root / "localization.txt"
        labels = _read_numbers(root / "class_labels.txt", "id,label")
        sizes = _read_numbers(root / "image_sizes.txt", "id,width,height")
        boxes = _read_numbers(self._file, "id,x0,y0,x1,y1")
        self._of: dict[str, tuple[int, list[list[int]], tuple[int, int]]] = {}
        for place, image_id in read_lines(root / "image_ids.txt", "list"):
            inside(Path(), image_id, place)
            if image_id in self._of:
                raise ValueError(f"{place}: {image_id!r} is listed twice.")
            label = _only(labels, image_id, root / "class_labels.txt")[0]
            width, height = _only(sizes, image_id, root / "image_sizes.txt")
            if label >= classes:
                raise ValueError(f"{place}: {image_id!r} has label {label}, of {classes} classes.")
            self._of[image_id] = label, boxes.get(image_id, []), (height, width)
        self.image_ids = tuple(self._of)

    def source(self, image_id: str) -> Path:
        return self._file

    def read(self, image_id: str) -> ImageAnnotation:
        label, boxes, size = self._of[image_id]
        return ImageAnnotation(image_id, label, _exclusive(boxes), size)


class _XMLAnnotations:
    """A folder of XML files in the form of PASCAL VOC, one a picture."""

    suffix = ".JPEG"

    def __init__(self, root: Path, folder: Path, synsets: list[str]) -> None:
        self.images = root / "Data" / "CLS-LOC" / "val"
        self.image_ids = tuple(sorted(path.stem for path in folder.glob("[!.]*.xml")))
        self._folder = folder
        self._synsets = synsets

    def source(self, image_id: str) -> Path:
        return self._folder / f"{image_id}.xml"

    def read(self, image_id: str) -> ImageAnnotation:
        path = self.source(image_id)
        place = f"{str(path)!r}"
        tree = _parse(path)
        # The file's own name leads to the picture; what it says of itself leads nowhere.
        filename = tree.findtext("filename", image_id)
        if filename.removesuffix(self.suffix) != image_id:
            raise ValueError(f"{place} is of another picture, {filename[:80]!r}.")
        width, height = (_whole(tree.findtext(f"size/{axis}"), place) for axis in _SIZE)
        objects = tree.findall("object")
        names = {item.findtext("name", "") for item in objects}
        if len(names) != 1 or not names <= set(self._synsets):
            raise ValueError(
                f"{place}: expected objects of one class, a synset such as 'n01440764' in the "
                f"list; got {sorted(name[:80] for name in names)}."
            )
        boxes = [
            [_whole(item.findtext(f"bndbox/{side}"), place) for side in _SIDES] for item in objects
        ]
        label = self._synsets.index(names.pop())
        return ImageAnnotation(image_id, label, _exclusive(boxes), (height, width))


_SIZE = ("width", "height")
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def _exclusive(boxes: list[list[int]]) -> Tensor:
    """Boxes that hold their last pixel -> (B, 4), inclusive-exclusive."""
    inclusive = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return inclusive + torch.tensor([0.0, 0.0, 1.0, 1.0])


# --------------------------------------------------------------------------------- text files


def _read_numbers(path: Path, form: str) -> dict[str, list[list[int]]]:
    """The rows of a file by their ids; ``form`` names the columns, the first of which is the id."""
    found: dict[str, list[list[int]]] = {}
    for place, line in read_lines(path, "list"):
        image_id, *numbers = line.split(",")
        if len(numbers) != form.count(","):
            raise ValueError(f"{place}: expected {form}; got {line[:80]!r}.")
        found.setdefault(image_id, []).append([_whole(number, place) for number in numbers])
    return found


def _only(rows: dict[str, list[list[int]]], image_id: str, path: Path) -> list[int]:
    found = rows.get(image_id, [])
    if len(found) != 1:
        raise ValueError(
            f"{str(path)!r} has {len(found)} lines for {image_id!r} of 'image_ids.txt'; expected "
            "one."
        )
    return found[0]


def _whole(text: str | None, place: str) -> int:
    if text is None or not re.fullmatch("[0-9]{1,9}", text) or int(text) > _LARGEST:
        got = "nothing" if text is None else repr(text[:80])
        raise ValueError(f"{place}: expected a number from 0 to {_LARGEST}; got {got}.")
    return int(text)


def _find_synsets(root: Path) -> Path | None:
    places = [folder / "LOC_synset_mapping.txt" for folder in (root, root.absolute().parent)]
    return next((path for path in places if path.is_file()), None)


def _read_synsets(path: Path) -> dict[str, str]:
    """The names of the synsets, in the order of the synsets."""
    names: dict[str, str] = {}
    for place, line in read_lines(path, "list of synsets"):
        synset, _, name = line.partition(" ")
        if not re.fullmatch("n[0-9]{8}", synset) or synset in names:
            raise ValueError(
                f"{place}: expected a new synset and its name, as in 'n01440764 tench'; got "
                f"{line[:80]!r}."
            )
        names[synset] = name or synset
    return dict(sorted(names.items()))


# ---------------------------------------------------------------------------------- XML files


class _Builder(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        """Called before anything in it is carried out: its entities could grow without bounds."""
        raise ValueError("it has a document type, which annotations do not need")


def _parse(path: Path) -> ET.Element:
    parser = ET.XMLParser(target=_Builder())  # noqa: S314  (without entities there is no danger)
    try:
        parser.feed(read_bytes(path, "annotation"))
        tree: ET.Element = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"{str(path)!r} is no XML of an annotation: {error}.") from error
    return tree
