"""Damaged MetaImage files: SimpleITK's reader would end the process at some, and hang at others."""

import random
import re
import warnings

import numpy as np
import pytest

from captum_3dcam.io import Volume, read_volume, write_volume

sitk = pytest.importorskip("SimpleITK")

DATA = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)


@pytest.fixture
def plain(tmp_path):
    """A header and its values in one file, not compressed."""
    sitk.WriteImage(sitk.GetImageFromArray(DATA), str(tmp_path / "plain.mha"))
    return tmp_path / "plain.mha"


@pytest.fixture
def compressed(tmp_path):
    write_volume(Volume(DATA, np.eye(4)), tmp_path / "compressed.mha")
    return tmp_path / "compressed.mha"


def changed(path, old, new):
    content = path.read_bytes()
    assert len(re.findall(old, content)) == 1
    path.write_bytes(re.sub(old, new, content))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"NDims = 3", b"NDims = 93", "its header has NDims = '93'; expected three axes, or four"),
        (b"NDims = 3\n", b"", "its header has NDims = ''"),
        (b"DimSize = 7 6 5", b"DimSize = 7 6 5 4", "its header has DimSize = '7 6 5 4'"),
        (b"DimSize = 7 6 5", b"DimSize = 7 6 -5", "its header has no valid DimSize"),
        (b"DimSize = 7 6 5\n", b"", "its header has no valid DimSize"),
        (b"Offset = 0 0 0", b"Offset = 0 0 0" + b" 0" * 99, r"its header has Offset = '0 0 0 0 0"),
        (b"Offset = 0 0 0", b"Offset = 0 0 x", "its header has Offset = '0 0 x'"),
        (b"Offset = 0 0 0", b"Offset = 0 0 0\nOffset = 0 0 0", "has a damaged line: 'Offset = 0 0"),
        (b"Offset = 0 0 0", b"SequenceID = 0 0 0", "has a damaged line: 'SequenceID"),
        (b"Offset = 0 0 0", b"Name = " + b"x" * 5000, "has a damaged line: 'Name = xxx"),
        (b"Offset = 0 0 0", b"\xff\xff", "has a damaged line: "),
        (b"Offset = 0 0 0", b"NDims x = 93", "has a damaged line: 'NDims x = 93'"),
        (
            b"LOCAL\n",
            b"LOCAL\x1f%d\n",
            "its header has ElementDataFile = .*; expected LOCAL, LIST or",
        ),
        (b"LOCAL\n", b"a%d.raw 0 4 0\n", "its header has ElementDataFile = 'a%d.raw 0 4 0'"),
        (b"LOCAL\n", b"LIST 0\n", "its header has ElementDataFile = 'LIST 0'"),
        (b"LOCAL\n", b"\n", "its header has ElementDataFile = ''"),
        (b"TransformMatrix = 1 0 0 0", b"TransformMatrix = 1", "its header has TransformMatrix = "),
    ],
)
def test_a_damaged_header_is_refused(plain, old, new, message):
    with pytest.raises(ValueError, match=f"plain.mha' cannot be read as MetaImage: .*{message}"):
        read_volume(changed(plain, old, new))


def test_damaged_compressed_values_are_refused(compressed):
    content = bytearray(compressed.read_bytes())
    start = content.index(b"LOCAL\n") + 6
    content[start + 100 : start + 140] = bytes(40)
    compressed.write_bytes(content)
    with pytest.raises(ValueError, match=r"compressed.mha' cannot be read as MetaImage: "):
        read_volume(compressed)
    compressed.write_bytes(content[: start + 100])
    with pytest.raises(ValueError, match=r"its compressed values are damaged: \d+ of 840 bytes"):
        read_volume(compressed)
    compressed.write_bytes(content)
    with pytest.raises(ValueError, match=r"compressed.mha' cannot be read as MetaImage: "):
        read_volume(changed(compressed, rb"CompressedDataSize = \d+", b"CompressedDataSize = -9"))


@pytest.mark.parametrize("old", [b"MET_FLOAT", b"ElementDataFile"])
def test_compressed_values_that_cannot_be_checked_are_refused(compressed, old):
    new = {b"MET_FLOAT": b"MET_OTHER", b"ElementDataFile": b"HeaderSize = 9\nElementDataFile"}[old]
    with pytest.raises(ValueError, match="cannot be checked: save it without compression"):
        read_volume(changed(compressed, old, new))


def test_valid_files_of_all_layouts_are_read(plain, compressed, tmp_path):
    np.testing.assert_array_equal(read_volume(compressed).data, DATA)
    sitk.WriteImage(sitk.ReadImage(str(plain)), str(tmp_path / "apart.mhd"), useCompression=True)
    assert (tmp_path / "apart.zraw").is_file()
    np.testing.assert_array_equal(read_volume(tmp_path / "apart.mhd").data, DATA)
    changed(tmp_path / "apart.mhd", rb"CompressedDataSize = \d+\n", b"")
    np.testing.assert_array_equal(read_volume(tmp_path / "apart.mhd").data, DATA)
    tagged = sitk.ReadImage(str(compressed))
    tagged.SetMetaData("0008|0060", "CT = computed: tomography")  # as a converter of DICOM does
    sitk.WriteImage(tagged, str(tmp_path / "tagged.mha"))
    assert b"0008|0060 = CT" in (tmp_path / "tagged.mha").read_bytes()
    np.testing.assert_array_equal(read_volume(tmp_path / "tagged.mha").data, DATA)
    (tmp_path / "list.mhd").write_bytes(
        plain.read_bytes().partition(b"LOCAL\n")[0] + b"LIST\n" + b"one.raw\n" * 5
    )
    (tmp_path / "one.raw").write_bytes(DATA[0].tobytes())
    assert (read_volume(tmp_path / "list.mhd").data == DATA[0]).all()
    header, mark, values = plain.read_bytes().partition(b"LOCAL\n")
    plain.write_bytes(header.replace(b"= 0 0 0", b"= 0.0 -0. +0e0") + mark + values)
    np.testing.assert_array_equal(read_volume(plain).data, DATA)


@pytest.mark.filterwarnings("ignore:.*states no ori")  # orientation, or origin
def test_random_damage_gives_a_volume_or_an_error_that_names_the_file(plain, compressed):
    rng = random.Random(0)
    for path in (plain, compressed):
        original = path.read_bytes()
        for _ in range(400):
            content = bytearray(original)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(500)
                change = rng.choice(b"0123456789 -.\n\x00\xffaN()")
                content[at : at + rng.randint(0, 1)] = bytes([change])
            path.write_bytes(content)
            try:
                volume = read_volume(path)
            except ValueError as error:
                assert repr(str(path)) in str(error)  # noqa: PT017
            else:
                assert volume.data.size <= DATA.size


# ------------------------------------------------------------------- lengths and units of files


@pytest.fixture
def apart(tmp_path):
    """A header, and its values in raw.raw."""
    sitk.WriteImage(sitk.GetImageFromArray(DATA), str(tmp_path / "apart.mhd"))
    return tmp_path / "apart.mhd"


@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_list_has_a_file_for_each_slice(apart, count):
    for number in range(6):
        (apart.parent / f"{number}.raw").write_bytes(DATA[number % 5].tobytes())
    header = apart.read_text()
    names = [f"{number}.raw" for number in range(count)]
    apart.write_text(header.replace("apart.raw", "\n".join(["LIST", *names])))
    message = f"its header lists {count} files for its 5 slices"
    with pytest.raises(ValueError, match=message):
        read_volume(apart)
    names = [f"{number}.raw" for number in range(5)]
    apart.write_text(header.replace("apart.raw", "\n".join(["LIST", *names])))
    np.testing.assert_array_equal(read_volume(apart).data, DATA)
    (apart.parent / "3.raw").write_bytes(DATA[3].tobytes()[:-4])
    with pytest.raises(ValueError, match=r"'3.raw' has 164 bytes; its header describes 168\. It"):
        read_volume(apart)


def test_a_list_of_a_file_for_each_volume(tmp_path):
    image = sitk.JoinSeries([sitk.GetImageFromArray(DATA), sitk.GetImageFromArray(DATA + 1)])
    sitk.WriteImage(image, str(tmp_path / "four.mhd"))
    for number in range(2):
        (tmp_path / f"{number}.raw").write_bytes((DATA + np.float32(number)).tobytes())
    header = (tmp_path / "four.mhd").read_text()
    (tmp_path / "four.mhd").write_text(header.replace("four.raw", "LIST\n0.raw\n1.raw\n"))
    np.testing.assert_array_equal(read_volume(tmp_path / "four.mhd", index=1).data, DATA + 1)
    (tmp_path / "four.mhd").write_text(header.replace("four.raw", "LIST\n0.raw\n"))
    with pytest.raises(ValueError, match="its header lists 1 files for its 2 volumes"):
        read_volume(tmp_path / "four.mhd", index=1)


def test_detached_values_have_the_length_of_the_header(apart):
    values = apart.parent / "apart.raw"
    values.write_bytes(b"head" + DATA.tobytes())
    message = r"'apart.raw' has 844 bytes; its header describes 840\. If .* write HeaderSize = -1"
    with pytest.raises(ValueError, match=message):
        read_volume(apart)
    header = apart.read_text()
    for size in (-1, 4):
        apart.write_text(header.replace("ElementData", f"HeaderSize = {size}\nElementData"))
        np.testing.assert_array_equal(read_volume(apart).data, DATA)
    values.write_bytes(DATA.tobytes()[:-1])
    apart.write_text(header)
    with pytest.raises(ValueError, match=r"'apart.raw' has 839 bytes; .* 840\. It is truncated"):
        read_volume(apart)
    values.unlink()
    with pytest.raises(ValueError, match="there is no file 'apart.raw' of its values"):
        read_volume(apart)


def test_lengths_of_a_single_file(plain, compressed):
    content = plain.read_bytes()
    plain.write_bytes(content[:-5])
    with pytest.raises(ValueError, match="it is truncated: 835 of 840 bytes of values"):
        read_volume(plain)
    plain.write_bytes(content + bytes(512))  # a block of padding
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_volume(plain).data, DATA)
    for rest in (bytes(999), bytes(3) + b"4"):
        plain.write_bytes(content + rest)
        message = f"plain.mha' has {len(rest)} bytes or more after the values"
        with pytest.warns(UserWarning, match=message):
            np.testing.assert_array_equal(read_volume(plain).data, DATA)
    with pytest.raises(ValueError, match=r"its compressed values are damaged: 8\d\d of 672 bytes"):
        read_volume(changed(compressed, b"DimSize = 7 6 5", b"DimSize = 7 6 4"))


@pytest.mark.parametrize(
    ("unit", "mm", "message"),
    [("um", 0.001, "are converted"), ("cm", 10, "are converted"), ("ell", 1, "are taken as")],
)
def test_units_that_simpleitk_does_not_apply(plain, unit, mm, message):
    changed(plain, b"ElementSpacing", f"DistanceUnits = {unit}\nElementSpacing".encode())
    with pytest.warns(UserWarning, match=f"has the unit '{unit}'. Positions {message}"):
        assert read_volume(plain).spacing == pytest.approx((mm, mm, mm))
