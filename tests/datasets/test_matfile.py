"""MAT files: what SciPy wrote, as SciPy reads it; and damaged ones, which end in an error."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.io import loadmat, savemat

from captum_3dcam.datasets import _matfile as matfile
from captum_3dcam.datasets._matfile import read_mat

KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
VALUES = np.arange(24.0).reshape(2, 3, 4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.mat"


def message_of(path, name="x"):
    with pytest.raises(ValueError) as error:
        read_mat(path, name)
    start = f"No array {name!r} can be read from the MAT file {str(path)!r}: "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start)


# ---------------------------------------------------------------------------------- sound files


@given(
    st.sampled_from(KINDS).flatmap(lambda kind: arrays(kind, array_shapes(min_dims=2, max_dims=4))),
    st.booleans(),
    st.text("abcxyz_0123456789", min_size=1, max_size=30).map("v{}".format),
)
def test_what_scipy_writes_is_read_as_scipy_reads_it(tmp_path_factory, array, compress, name):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    others = {"a_text": "some text", "a_cell": np.array([1, "b"], dtype=object), "one": 1j}
    savemat(path, others | {name: array, "after": 3}, do_compression=compress)
    found = read_mat(path, name)
    np.testing.assert_array_equal(found, loadmat(path)[name])
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize("values", [np.zeros((0, 0)), np.zeros((0, 3, 5)), np.array([], "u1")])
def test_empty_arrays_are_arrays(path, values):
    savemat(path, {"x": values})
    found = read_mat(path, "x")
    assert found.size == 0
    assert found.shape == loadmat(path)["x"].shape


def test_masks_of_bools_are_numbers(path):
    savemat(path, {"x": VALUES > 7})
    np.testing.assert_array_equal(read_mat(path, "x") > 0, VALUES > 7)


def element(order, kind, content):
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def by_hand(values, order="<", stored=1, kind="u1", flags=6, sizes=None, name=b"x", compress=False):
    """A MAT file of one double array whose numbers are stored as bytes, as MATLAB does it."""
    sizes = values.shape if sizes is None else sizes
    content = [
        element(order, 6, struct.pack(order + "II", flags, 0)),
        element(order, 5, struct.pack(f"{order}{len(sizes)}i", *sizes)),
        element(order, 1, name),
        element(order, stored, values.astype(order + kind).tobytes(order="F")),
    ]
    matrix = element(order, 14, b"".join(content))
    if compress:
        packed = zlib.compress(matrix)
        matrix = struct.pack(order + "II", 15, len(packed)) + packed
    ends = {"<": b"\0\1IM", ">": b"\1\0MI"}[order]
    return b"MATLAB 5.0 MAT-file".ljust(124) + ends + matrix


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("stored", "kind"), [(1, "i1"), (3, "i2"), (7, "f4"), (9, "f8"), (13, "u8")]
)
@pytest.mark.parametrize("compress", [False, True])
def test_numbers_may_be_stored_smaller_and_in_either_order(path, order, stored, kind, compress):
    path.write_bytes(by_hand(VALUES, order, stored, kind, compress=compress))
    found = read_mat(path, "x")
    np.testing.assert_array_equal(found, VALUES)
    np.testing.assert_array_equal(found, loadmat(path)["x"])
    assert found.dtype == np.dtype(kind)


# -------------------------------------------------------------------------------- damaged files


def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match="There is no MAT file '.*a.mat'"):
        read_mat(path, "x")


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 7.3", bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(200)]
)
def test_another_format_is_named(path, content):
    path.write_bytes(content)
    assert message_of(path) == (
        "it has no header of level 5. Save it anew with MATLAB's option '-v7'."
    )


def test_a_missing_variable_is_named(path):
    savemat(path, {"y": 1, "xx": 2})
    assert message_of(path) == "there is none of that name."


@pytest.mark.parametrize(
    "value", ["text", 1j, np.array([1, "b"], dtype=object), {"field": 1}], ids=repr
)
def test_what_is_no_array_of_real_numbers_is_refused(path, value):
    savemat(path, {"x": value})
    assert message_of(path) == "it is no array of real numbers."


def test_a_wrong_size_is_named(path):
    for sizes in ((2, 3, 5), (-2, -3, 4), (2**31 - 1, 2**31 - 1, 4), (0, 3, 4)):
        path.write_bytes(by_hand(VALUES, sizes=sizes))
        assert message_of(path) == f"its size is {sizes}, and its content 24 bytes."


def test_a_wrong_description_is_named(path):
    for sizes in ((), (24,)):
        path.write_bytes(by_hand(VALUES, sizes=sizes))
        assert message_of(path) == "its description is damaged."
    path.write_bytes(by_hand(VALUES, stored=14))
    assert message_of(path) == "it is no array of real numbers."


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_cut_off_anywhere_is_refused(path, compress):
    savemat(path, {"x": VALUES}, do_compression=compress)
    content = path.read_bytes()
    for end in range(len(content) - 1):
        path.write_bytes(content[:end])
        assert message_of(path)


def test_a_length_beyond_the_end_is_refused(path):
    content = bytearray(by_hand(VALUES))
    content[132:136] = struct.pack("<I", 2**32 - 1)
    path.write_bytes(content)
    assert message_of(path) == "it is cut off, or a length in it is wrong."


def test_a_bomb_is_not_unpacked(path, monkeypatch):
    path.write_bytes(by_hand(np.zeros((1000, 1000)), compress=True))
    assert read_mat(path, "x").shape == (1000, 1000)
    monkeypatch.setattr(matfile, "_MAX_BYTES", 1_000_000)
    assert message_of(path) == "a variable is cut off, or has more than 256 MiB."


def test_the_byte_that_ends_scipys_reader(path):
    """An unknown type of numbers: SciPy 1.17 looks it up beyond the end of a table."""
    path.write_bytes(by_hand(VALUES, stored=0xB909))
    assert message_of(path)


@given(st.data(), st.booleans())
@settings(max_examples=400)
def test_damaged_files_give_clean_errors(tmp_path_factory, data, compress):
    path = tmp_path_factory.getbasetemp() / "fuzz.mat"
    savemat(path, {"y": "text", "x": VALUES}, do_compression=compress)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(124, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(124, len(content)))])
    try:
        found = read_mat(path, "x")
    except ValueError:
        assert message_of(path)
    else:
        assert found.nbytes <= len(content) + 10_000
