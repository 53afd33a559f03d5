"""MAT files: what SciPy wrote, as SciPy reads it; damaged ones give clear errors."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io.matlab
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.io import loadmat, savemat

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.datasets._matfile import _check_data_types, read_mat

KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
VALUES = np.arange(24.0).reshape(2, 3, 4)
# Written by several versions of MATLAB; they come with SciPy's tests.
MATLAB_FILES = Path(scipy.io.matlab.__file__).parent / "tests" / "data"

NOT_NUMERIC = (
    "the variable is not an array of real numbers.",
    "an element has the data type 14, which is not a number.",
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.mat"


def message_of(path, name="x"):
    with pytest.raises(ValueError) as error:
        read_mat(path, name)
    start = f"{str(path)!r} cannot be read as a MAT file with an array {name!r}: "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start)


# --------------------------------------------------------------------------------- memory bombs


def test_a_compressed_variable_cannot_request_more_than_the_limit(path, monkeypatch):
    savemat(path, {"x": np.zeros(2**19)}, do_compression=True)
    assert path.stat().st_size < 2**13
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(2**22))
    with pytest.raises(ValueError, match=r"a.mat' describes a variable 'x', 4,194,3\d\d bytes"):
        read_mat(path, "x")
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(2**22 + 2**10))
    assert read_mat(path, "x").shape == (1, 2**19)


def test_what_is_compressed_beyond_the_size_in_the_header_is_not_unpacked(path):
    savemat(path, {"x": VALUES[0]}, do_compression=True)
    content = path.read_bytes()
    packed = zlib.compress(zlib.decompress(content[136:]) + bytes(2**24))
    element = struct.pack("<II", 15, len(packed)) + packed
    tracemalloc.start()
    _check_data_types(element, "<", {15})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    path.write_bytes(content[:128] + element)
    assert "Did not fully consume" in message_of(path)


# ---------------------------------------------------------------------------------- valid files


@given(
    st.sampled_from(KINDS).flatmap(lambda kind: arrays(kind, array_shapes(min_dims=2, max_dims=4))),
    st.booleans(),
    st.text("abcxyz_0123456789", min_size=1, max_size=30).map("v{}".format),
)
def test_arrays_are_read_as_scipy_wrote_them(tmp_path_factory, array, compress, name):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    others = {"a_text": "some text", "a_cell": np.array([1, "b"], dtype=object), "one": 1j}
    savemat(path, others | {name: array, "after": 3}, do_compression=compress)
    result = read_mat(path, name)
    np.testing.assert_array_equal(result, loadmat(path)[name])
    np.testing.assert_array_equal(result, array)
    assert result.dtype == array.dtype


@pytest.mark.skipif(not MATLAB_FILES.exists(), reason="SciPy is installed without its tests")
@pytest.mark.parametrize("version", ["6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86"])
def test_files_of_matlab(version):
    angles = read_mat(MATLAB_FILES / f"testdouble_{version}.mat", "testdouble")
    np.testing.assert_allclose(angles, np.linspace(0, 2 * np.pi, 9)[None])
    cube = read_mat(MATLAB_FILES / f"test3dmatrix_{version}.mat", "test3dmatrix")
    np.testing.assert_array_equal(cube, np.arange(1, 25).reshape(2, 3, 4, order="F"))
    for kind in ("complex", "string", "cell", "struct"):
        message = message_of(MATLAB_FILES / f"test{kind}_{version}.mat", f"test{kind}")
        assert message in NOT_NUMERIC


@pytest.mark.parametrize("values", [np.zeros((0, 0)), np.zeros((0, 3, 5)), np.array([], "u1")])
def test_arrays_may_be_empty(path, values):
    savemat(path, {"x": values})
    result = read_mat(path, "x")
    assert result.size == 0
    assert result.shape == loadmat(path)["x"].shape


def test_masks_of_bools_are_numbers(path):
    savemat(path, {"x": VALUES > 7})
    np.testing.assert_array_equal(read_mat(path, "x") > 0, VALUES > 7)


def element(order, kind, content):
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def make_file(
    values, order="<", stored=1, kind="u1", flags=6, sizes=None, name=b"x", compress=False
):
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
def test_numbers_can_be_stored_smaller_and_in_either_order(path, order, stored, kind, compress):
    path.write_bytes(make_file(VALUES, order, stored, kind, compress=compress))
    result = read_mat(path, "x")
    np.testing.assert_array_equal(result, VALUES)
    np.testing.assert_array_equal(result, loadmat(path)["x"])
    assert result.dtype == np.dtype(kind)


# -------------------------------------------------------------------------------- damaged files


def test_the_error_names_a_missing_file(path):
    with pytest.raises(FileNotFoundError, match="There is no MAT file '.*a.mat'"):
        read_mat(path, "x")


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 7.3", bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(200)]
)
def test_the_error_names_the_format(path, content):
    path.write_bytes(content)
    assert message_of(path) == "it is not in format 5. Save it again with MATLAB's option '-v7'."


def test_the_error_lists_the_variables(path):
    savemat(path, {"y": 1, "xx": 2})
    assert message_of(path) == "there is no such variable. There are ['xx', 'y']."


@pytest.mark.parametrize(
    "value",
    ["text", 1j, np.array([1, "b"], dtype=object), {"field": 1}, scipy.sparse.csc_array(np.eye(2))],
    ids=repr,
)
def test_other_variables_are_refused(path, value):
    savemat(path, {"x": value})
    assert message_of(path) in NOT_NUMERIC


def test_a_wrong_size_is_refused(path):
    for sizes in ((2, 3, 5), (-2, -3, 5), (2**31 - 1, 2**31 - 1, 4), (0, 3, 4), ()):
        path.write_bytes(make_file(VALUES, sizes=sizes))
        assert message_of(path)


@pytest.mark.parametrize("compress", [False, True])
def test_a_truncated_file_is_refused(path, compress):
    savemat(path, {"x": VALUES}, do_compression=compress)
    content = path.read_bytes()
    for end in range(len(content) - 1):
        path.write_bytes(content[:end])
        assert message_of(path)


@pytest.mark.parametrize("size", [25, 2**32 - 1])
def test_a_size_beyond_the_end_is_refused(path, size):
    content = make_file(VALUES)
    path.write_bytes(content.replace(struct.pack("<II", 1, 24), struct.pack("<II", 1, size)))
    assert path.read_bytes() != content
    assert message_of(path)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("stored", [0, 8, 10, 11, 19, 20, 0xB909])
def test_an_unknown_data_type_is_refused(path, stored, compress):
    """SciPy 1.17 crashes the process for these."""
    path.write_bytes(make_file(VALUES, stored=stored, compress=compress))
    assert message_of(path) == f"an element has the data type {stored}, which is not a number."


def test_a_damaged_header_of_an_array_is_refused(path):
    """SciPy ignores the size in it, and would find the elements elsewhere than the check."""
    content = bytearray(make_file(VALUES, stored=0xB909))
    content[140:144] = struct.pack("<I", 200)
    path.write_bytes(content)
    assert message_of(path) == "the header of an array is damaged."


@given(st.data(), st.booleans())
@settings(max_examples=400)
def test_damaged_files_give_clear_errors(tmp_path_factory, data, compress):
    path = tmp_path_factory.getbasetemp() / "fuzz.mat"
    savemat(path, {"y": "text", "x": VALUES}, do_compression=compress)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(124, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(124, len(content)))])
    try:
        result = read_mat(path, "x")
    except ValueError:
        assert message_of(path)
    else:
        assert result.nbytes <= len(content) + 10_000
