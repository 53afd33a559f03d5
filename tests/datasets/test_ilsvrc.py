"""ILSVRC in both of its formats: samples as written; errors that name the file and line."""

import pickle
import re
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from datasets_on_disk import (
    SYNSETS,
    voc_xml,
    write_ilsvrc_text,
    write_ilsvrc_voc,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from PIL import Image
from torch.utils.data import DataLoader

from captum_3dcam.datasets import ILSVRCLocalization, LocalizedImage

REAL = Path(__file__).parents[3] / "shared" / "data" / "ilsvrc"
BOTH = {"text": write_ilsvrc_text, "voc": write_ilsvrc_voc}
XML = Path("Annotations") / "CLS-LOC" / "val"
JPEG = {"text": Path("val"), "voc": Path("Data") / "CLS-LOC" / "val"}
FIRST = "ILSVRC2012_val_00000001"

# The folder fixture is only overwritten by each example.
given_a_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=BOTH)
def form(request) -> str:
    return request.param


# ------------------------------------------------------------------------------------- samples


def test_samples_are_as_written(tmp_path, form):
    written = BOTH[form](tmp_path, images=7)
    data = ILSVRCLocalization(tmp_path)
    assert data.image_ids == tuple(one.image_id for one in written)
    assert len(data) == 7
    for sample, one in zip(data, written, strict=True):
        assert isinstance(sample, LocalizedImage)
        assert (sample.image_id, sample.label) == (one.image_id, one.label)
        name = one.image_id.removesuffix(".JPEG").removeprefix("val/")
        pixels = np.asarray(Image.open(tmp_path / JPEG[form] / f"{name}.JPEG"))
        assert np.array_equal((sample.image * 255).round().movedim(0, -1).numpy(), pixels)
        assert np.abs(pixels - one.pixels.astype(float)).mean() < 5  # JPEG blurs the edges
        assert sample.boxes.dtype == torch.float32
        assert sample.boxes.tolist() == one.boxes.tolist()


def test_boxes_include_their_last_pixel(tmp_path, form):
    """In the pixels of the images."""
    BOTH[form](tmp_path)
    image, _, boxes, _ = ILSVRCLocalization(tmp_path)[0]
    rows, columns = torch.nonzero(image[0] > 0.5, as_tuple=True)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes.tolist() == [expected]


def test_annotations_do_not_need_the_image(tmp_path, form):
    written = BOTH[form](tmp_path)
    data = ILSVRCLocalization(tmp_path, images=tmp_path / "elsewhere")
    for index, one in enumerate(written):
        image_id, label, boxes, size = data.annotation(index)
        assert (image_id, label, size) == (one.image_id, one.label, (24, 32))
        assert boxes.tolist() == one.boxes.tolist()
    with pytest.raises(FileNotFoundError, match=r"There is no image file '.*elsewhere.*01.JPEG'"):
        data[0]


def test_images_may_be_elsewhere(tmp_path, form):
    BOTH[form](tmp_path)
    expected = ILSVRCLocalization(tmp_path)[1]
    (tmp_path / "elsewhere").mkdir()
    images = tmp_path / "elsewhere" / {"text": "", "voc": "photographs"}[form]
    (tmp_path / JPEG[form]).rename(images / {"text": "val", "voc": ""}[form])
    sample = ILSVRCLocalization(str(tmp_path), str(images))[1]
    assert torch.equal(sample.image, expected.image)


# Newer Pythons warn of any fork beside threads, torch of more workers than there are cores.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_return_the_same_samples(tmp_path, form):
    BOTH[form](tmp_path)
    data = pickle.loads(pickle.dumps(ILSVRCLocalization(tmp_path)))
    loaded = list(DataLoader(data, batch_size=None, num_workers=2))
    for a, b in zip(loaded, ILSVRCLocalization(tmp_path), strict=True):
        assert isinstance(a, LocalizedImage)
        assert (a.image_id, a.label, a.boxes.tolist()) == (b.image_id, b.label, b.boxes.tolist())
        assert torch.equal(a.image, b.image)


def test_the_repr(tmp_path, form):
    BOTH[form](tmp_path)
    expected = f"ILSVRCLocalization(root={tmp_path.name!r}, images=4)"
    assert repr(ILSVRCLocalization(tmp_path)) == expected


@pytest.mark.parametrize("index", [4, -1])
def test_an_index_out_of_range_is_refused(tmp_path, form, index):
    BOTH[form](tmp_path)
    data = ILSVRCLocalization(tmp_path)
    message = f"There is no sample {index}: the dataset has 4, numbered from 0."
    for ask in (data.__getitem__, data.annotation):
        with pytest.raises(IndexError) as error:
            ask(index)
        assert str(error.value) == message


def test_grey_images_have_three_channels(tmp_path, form):
    BOTH[form](tmp_path)
    path = next((tmp_path / JPEG[form]).iterdir())
    write_image(path, np.full((24, 32), 90, dtype=np.uint8))
    number = int(path.stem[-8:]) - 1
    assert ILSVRCLocalization(tmp_path)[number].image.unique().tolist() == [np.float32(90 / 255)]


# ------------------------------------------------------------------------------------- classes


def test_labels_count_in_the_order_of_the_synsets(tmp_path):
    written = write_ilsvrc_voc(tmp_path, images=3)
    data = ILSVRCLocalization(tmp_path)
    assert data.classes == tuple(f"class {n}, its other name" for n in range(3))
    for index, one in enumerate(written):
        xml = (tmp_path / XML / f"{one.image_id}.xml").read_text()
        assert SYNSETS[data.annotation(index).label] in xml


def test_synsets_may_be_beside_the_root_or_elsewhere(tmp_path):
    write_ilsvrc_voc(tmp_path / "ILSVRC")
    classes = ILSVRCLocalization(tmp_path / "ILSVRC").classes
    synsets = tmp_path / "ILSVRC" / "LOC_synset_mapping.txt"
    synsets = synsets.rename(tmp_path / synsets.name)
    assert ILSVRCLocalization(tmp_path / "ILSVRC").classes == classes
    synsets = synsets.rename(tmp_path / "list.txt")
    assert ILSVRCLocalization(tmp_path / "ILSVRC", synsets=str(synsets)).classes == classes
    with pytest.raises(FileNotFoundError, match=r"no 'LOC_synset_mapping.txt' in .* or its parent"):
        ILSVRCLocalization(tmp_path / "ILSVRC")
    with pytest.raises(FileNotFoundError, match="There is no list of synsets"):
        ILSVRCLocalization(tmp_path / "ILSVRC", synsets=tmp_path / "none.txt")


def test_classes_of_text_files(tmp_path):
    write_ilsvrc_text(tmp_path)
    assert ILSVRCLocalization(tmp_path).classes == tuple(str(n) for n in range(1000))
    (tmp_path / "LOC_synset_mapping.txt").write_text("n00000002 b\nn00000001\nn00000003 c, d\n")
    assert ILSVRCLocalization(tmp_path).classes == ("n00000001", "b", "c, d")


# ------------------------------------------------------------------------------ the real files


@pytest.mark.skipif(not REAL.exists(), reason=f"no annotations at {REAL}")
def test_the_real_annotations():
    data = ILSVRCLocalization(REAL)
    annotations = [data.annotation(index) for index in range(len(data))]
    assert (len(data), len(data.classes)) == (500, 1000)
    assert sum(len(one.boxes) for one in annotations) == 770
    image_id, label, boxes, size = annotations[0]
    assert (image_id, label, size) == ("val/ILSVRC2012_val_00000001.JPEG", 65, (375, 500))
    assert boxes.tolist() == [[111, 108, 442, 194]]
    assert len({one.label for one in annotations}) == 387
    sides = torch.cat(
        [
            torch.cat([one.boxes, torch.tensor([one.size]).expand(len(one.boxes), 2)], dim=1)
            for one in annotations
        ]
    )
    x0, y0, x1, y1, height, width = sides.unbind(1)
    # Pixels count from 0, and boxes include their last pixel: for many boxes this is the last one
    # of the image, and for none it is beyond.
    assert [(x0 == 0).sum(), (y0 == 0).sum()] == [85, 54]
    assert [(x1 == width).sum(), (y1 == height).sum()] == [68, 91]
    assert not (x1 > width).any()
    assert not (y1 > height).any()
    with pytest.raises(FileNotFoundError, match=r"There is no image file .*val_00000001.JPEG"):
        data[0]
    assert [str(p).startswith("There is no image file") for p in data.check()] == [True] * 500


# ---------------------------------------------------------------------------------- text files


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


ROW = f"val/{FIRST}.JPEG"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("class_labels", f"{ROW},0", f"{ROW}", f"'*', line 1: expected id,label; got '{ROW}'."),
        ("class_labels", f"{ROW},0", f"{ROW},-1", "line 1: expected a number from 0 to 1048576; "
         "got '-1'."),
        ("class_labels", f"{ROW},0", f"{ROW},1000", f"'image_ids.txt', line 1: '{ROW}' has label "
         "1000, of 1000 classes."),
        ("class_labels", f"{ROW},0\n", "", f"'image_ids.txt', line 1: '{ROW}' needs exactly one "
         "line in 'class_labels.txt'."),
        ("image_sizes", f"{ROW},", f"{ROW},3,4\n{ROW},", f"'image_ids.txt', line 1: '{ROW}' needs "
         "exactly one line in 'image_sizes.txt'."),
        ("image_sizes", ",32,24", ",32", "'*', line 1: expected id,width,height; got "),
        ("image_sizes", ",32,24", ",32,24.5", "got '24.5'."),
        ("image_sizes", ",32,24", ",32,1048577", "got '1048577'."),
        ("image_sizes", ",32,24", f",32,{'9' * 5000}", "got '99"),
        ("image_sizes", ",32,24", ",32,²", "got '²'."),
        ("localization", f"{ROW},", f"{ROW},nan,", "'*', line 1: expected id,x0,y0,x1,y1; got "),
        ("localization", f"{ROW},", f"{ROW} ", "'*', line 1: expected id,x0,y0,x1,y1; got "),
        ("image_ids", ROW, f"{ROW}\n{ROW}", f"'*', line 2: '{ROW}' is listed twice."),
        ("image_ids", ROW, "val/other.JPEG", "line 1: 'val/other.JPEG' needs exactly one line in"),
        ("image_ids", ROW, "../x.JPEG", "'*', line 1: '../x.JPEG' is not a path inside"),
        ("image_ids", ROW, "/etc/passwd", "'*', line 1: '/etc/passwd' is not a path inside"),
        ("image_ids", ROW, "C:/x.JPEG", "'*', line 1: 'C:/x.JPEG' is not a path inside"),
        ("image_ids", ROW, "a\\..\\b", "is not a path inside"),
        ("image_ids", ROW, "a\0b", "is not a path inside"),
    ],
)  # fmt: skip
def test_damaged_text_files(tmp_path, file, old, new, message):
    write_ilsvrc_text(tmp_path)
    change(tmp_path / f"{file}.txt", old, new)
    with pytest.raises(ValueError) as error:
        ILSVRCLocalization(tmp_path)
    received = str(error.value).replace(str(tmp_path / f"{file}.txt"), "*")
    assert message in received.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("file", ["image_ids", "class_labels", "image_sizes", "localization"])
def test_a_missing_text_file(tmp_path, file):
    write_ilsvrc_text(tmp_path)
    (tmp_path / f"{file}.txt").unlink()
    named = "There are no annotations in" if file == "localization" else f"no list .*{file}.txt"
    with pytest.raises(FileNotFoundError, match=named):
        ILSVRCLocalization(tmp_path)


def test_a_binary_file_is_not_text(tmp_path):
    write_ilsvrc_text(tmp_path)
    (tmp_path / "localization.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"localization.txt' cannot be read as UTF-8 text"):
        ILSVRCLocalization(tmp_path)


@pytest.mark.parametrize("line", ["tench", "n0144076 tench", "n01440764 b"])
def test_a_damaged_list_of_synsets(tmp_path, line):
    write_ilsvrc_voc(tmp_path)
    path = tmp_path / "LOC_synset_mapping.txt"
    path.write_text(f"n01440764 a\n{line}\n")
    with pytest.raises(ValueError) as error:
        ILSVRCLocalization(tmp_path)
    assert str(error.value) == (
        f"{str(path)!r}, line 2: expected a new synset and its name, as in 'n01440764 tench'; got "
        f"{line!r}."
    )


@given(st.data())
@settings(given_a_file, max_examples=150)
def test_flipped_bytes_in_text_files(tmp_path, data):
    write_ilsvrc_text(tmp_path, images=2)
    name = data.draw(st.sampled_from(["image_ids", "class_labels", "image_sizes", "localization"]))
    flip(tmp_path / f"{name}.txt", data)
    valid_or_refused(tmp_path, tmp_path)


def flip(path: Path, data: st.DataObject) -> None:
    broken = bytearray(path.read_bytes())
    changes = st.tuples(st.integers(0, len(broken) - 1), st.integers(0, 255))
    for position, byte in data.draw(st.lists(changes, min_size=1, max_size=3)):
        broken[position] = byte
    path.write_bytes(broken[: data.draw(st.just(len(broken)) | st.integers(0, len(broken)))])


def valid_or_refused(root: Path, named: Path) -> None:
    """All errors of reading and checking name the file; little memory is used."""
    tracemalloc.start()
    try:
        dataset = ILSVRCLocalization(root)
        assert all(str(root) in str(problem) for problem in dataset.check())
        for index in range(len(dataset)):
            _, label, boxes, size = dataset.annotation(index)
            assert 0 <= label < len(dataset.classes)
            assert 0 <= min(size) <= max(size) <= 2**20
            assert boxes.shape[1:] == (4,)
            assert boxes.isfinite().all()
    except (ValueError, FileNotFoundError) as error:
        assert str(named) in str(error)  # noqa: PT017
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**21


# ----------------------------------------------------------------------------------- XML files


def xml_error(root: Path) -> str:
    """The error of reading the first annotation; its path is '*'."""
    with pytest.raises(ValueError) as error:
        ILSVRCLocalization(root).annotation(0)
    text = str(error.value)
    assert text.startswith(repr(str(root / XML / f"{FIRST}.xml")))
    return text.replace(str(root / XML / f"{FIRST}.xml"), "*")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<annotation>", "<annotation", "'*' cannot be read as an XML annotation: not well-formed"),
        ("</annotation>", "", "'*' cannot be read as an XML annotation: no element found"),
        ("<annotation>", "<?xml version='1.0' encoding='klingon'?><annotation>",
         "'*' cannot be read as an XML annotation: unknown encoding"),
        ("<width>32</width>", "", "'*': expected a number from 0 to 1048576; got nothing."),
        ("<width>32</width>", "<width/>", "'*': expected a number from 0 to 1048576; got ''."),
        ("<width>32<", "<width>-32<", "'*': expected a number from 0 to 1048576; got '-32'."),
        ("<width>32<", "<width>2000000<", "expected a number from 0 to 1048576; got '2000000'."),
        ("<xmin>", "<xmin>nan", "'*': expected a number from 0 to 1048576; got 'nan"),
        ("<ymax>", "<y>", "'*' cannot be read as an XML annotation: mismatched tag"),
        ("bndbox>", "box>", "'*' cannot be read as an XML annotation: mismatched tag"),
        (f"<name>{SYNSETS[0]}</name>", "", "'*': expected objects of one class, a listed "
         "synset such as 'n01440764'; got ['']."),
        (f"<name>{SYNSETS[0]}", "<name>n12345678", "such as 'n01440764'; got ['n12345678']."),
        ("<object>", f"<object><name>{SYNSETS[1]}</name></object><object>",
         f"'n01440764'; got ['{SYNSETS[0]}', '{SYNSETS[1]}']."),
        (FIRST, "../../../etc/passwd", "'*' is of another image, '../../../etc/passwd'."),
        (FIRST, "ILSVRC2012_val_00000002", "is of another image, 'ILSVRC2012_val_00000002'."),
    ],
)  # fmt: skip
def test_damaged_xml_files(tmp_path, old, new, message):
    write_ilsvrc_voc(tmp_path)
    change(tmp_path / XML / f"{FIRST}.xml", old, new)
    assert message in xml_error(tmp_path)
    # The other files are not affected.
    assert ILSVRCLocalization(tmp_path)[1].label == 1


def test_an_xml_file_without_objects(tmp_path):
    write_ilsvrc_voc(tmp_path)
    path = tmp_path / XML / f"{FIRST}.xml"
    path.write_text(re.sub("<object>.*</object>", "", path.read_text()))
    assert xml_error(tmp_path).endswith("such as 'n01440764'; got [].")


def test_the_filename_in_an_xml_file_is_optional(tmp_path):
    write_ilsvrc_voc(tmp_path)
    path = tmp_path / XML / f"{FIRST}.xml"
    change(path, FIRST, f"{FIRST}.JPEG")
    assert ILSVRCLocalization(tmp_path)[0].image_id == FIRST
    change(path, f"<filename>{FIRST}.JPEG</filename>", "")
    assert ILSVRCLocalization(tmp_path)[0].image_id == FIRST


ENTITIES = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))


@pytest.mark.parametrize(
    "document",
    [
        f'<!DOCTYPE annotation [<!ENTITY a0 "ha">{ENTITIES}]>',
        '<!DOCTYPE annotation [<!ENTITY a0 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE annotation SYSTEM "http://localhost/a.dtd">',
        '<!DOCTYPE annotation [<!ENTITY % a0 SYSTEM "file:///etc/passwd"> %a0;]>',
        "<!DOCTYPE annotation>",
    ],
    ids=["entities of entities", "a file", "an address", "a parameter", "undefined"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_expanded(tmp_path, document, encoding):
    """The text of the first one has 2 TB; the others refer to files."""
    write_ilsvrc_voc(tmp_path)
    path = tmp_path / XML / f"{FIRST}.xml"
    text = path.read_text().replace("val</folder>", "&a0;&a12;</folder>")
    path.write_bytes((document + text).encode(encoding))
    tracemalloc.start()
    try:
        assert xml_error(tmp_path).startswith("'*' cannot be read as an XML annotation: ")
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_deeply_nested_xml(tmp_path):
    write_ilsvrc_voc(tmp_path)
    path = tmp_path / XML / f"{FIRST}.xml"
    text = "<a>" * 100_000 + "</a>" * 100_000
    change(path, "<folder>val</folder>", text)
    assert ILSVRCLocalization(tmp_path)[0].label == 0


@given(st.data())
@settings(given_a_file, max_examples=200)
def test_flipped_bytes_in_xml_files(tmp_path, data):
    write_ilsvrc_voc(tmp_path, images=1)
    flip(tmp_path / XML / f"{FIRST}.xml", data)
    valid_or_refused(tmp_path, tmp_path)


# ------------------------------------------------------------------------------------ problems


def test_without_annotations(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        ILSVRCLocalization(tmp_path)
    assert str(error.value) == (
        f"There are no annotations in {str(tmp_path)!r}: expected 'localization.txt' and the other "
        "text files, or the folder 'Annotations/CLS-LOC/val' of XML files."
    )


def test_valid_data_has_no_problems(tmp_path, form):
    BOTH[form](tmp_path)
    assert ILSVRCLocalization(tmp_path).check() == []


@pytest.mark.parametrize(
    ("box", "is_wrong"),
    [
        ("5,6,5,6", False),
        ("0,0,31,23", False),
        ("5,6,4,6", True),
        ("5,6,5,5", True),
        ("0,0,32,23", True),
        ("0,0,31,24", True),
    ],
)
def test_a_box_needs_a_pixel_and_must_lie_in_the_image(tmp_path, box, is_wrong):
    write_ilsvrc_text(tmp_path, images=1)
    (tmp_path / "localization.txt").write_text(f"{ROW},{box}\n")
    problems = [str(problem) for problem in ILSVRCLocalization(tmp_path).check()]
    assert ["extend beyond the image of 32 x 24 pixels" in p for p in problems] == (
        [True] if is_wrong else []
    )


def test_check_returns_all_problems(tmp_path, form):
    first, second, third, fourth, fifth = BOTH[form](tmp_path, images=5)
    ids = [f"ILSVRC2012_val_{n:08d}" for n in (1, 2, 3, 4, 5)]
    images = [tmp_path / JPEG[form] / f"{name}.JPEG" for name in ids]
    images[0].unlink()
    images[2].write_bytes(images[2].read_bytes()[:-200])
    write_image(images[3], np.zeros((12, 16, 3), dtype=np.uint8))
    right = [str(int(side)) for side in fifth.boxes[0] - [0, 0, 1, 1]]
    wrong = [right[2], right[1], "32", "0"]
    if form == "text":
        source = tmp_path / "localization.txt"
        sources = [source] * 5
        change(source, ",".join([fifth.image_id, *right]), ",".join([fifth.image_id, *wrong]))
        lines = source.read_text().splitlines()
        source.write_text("\n".join(line for line in lines if third.image_id not in line))
    else:
        sources = [tmp_path / XML / f"{name}.xml" for name in ids]
        bad = fifth._replace(boxes=np.array([wrong]).astype(float) + np.array([0, 0, 1, 1]))
        sources[4].write_text(voc_xml(bad))
        sources[2].write_text(voc_xml(third)[:-20])
    box = [float(wrong[0]), float(wrong[1]), 33.0, 1.0]
    no_box = (
        f"{str(sources[2])!r}, {third.image_id!r}: there is no box."
        if form == "text"
        else f"{str(sources[2])!r} cannot be read as an XML annotation: "
    )
    expected = [
        (images[0], f"There is no image file {str(images[0])!r}."),
        (sources[2], no_box),
        (images[2], f"{str(images[2])!r} cannot be read as an image: "),
        (images[3], f"The image {str(images[3])!r} has 16 x 12 pixels; its annotation is for "
         "32 x 24. Use ImageNet's original images; resize them together with their boxes "
         "afterwards."),
        (sources[4], f"{str(sources[4])!r}, {fifth.image_id!r}: 1 of {len(fifth.boxes)} boxes are "
         f"empty or extend beyond the image of 32 x 24 pixels; the first is box 0, {box}."),
    ]  # fmt: skip
    problems = ILSVRCLocalization(tmp_path).check()
    assert [p.path for p in problems] == [path for path, _ in expected]
    for problem, (_, message) in zip(problems, expected, strict=True):
        assert str(problem).startswith(message)
    data = ILSVRCLocalization(tmp_path)
    assert data[1].image_id == second.image_id
    for index in (0, 2, 3):
        with pytest.raises((ValueError, FileNotFoundError), match=ids[index]):
            data[index]
    assert [data.annotation(index).label for index in (0, 3)] == [first.label, fourth.label]
