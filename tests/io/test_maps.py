"""Saved maps: round trips; clear errors for damaged files; no code of a file is run."""

import io as standard_io
import math
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import load_map, save_map

METADATA = {"class": "golf", "layers": ["a.1", "b"], "fps": 25.5, "nested": {"é": None}}


def saved(path, data=None, metadata=None):
    save_map(np.arange(24.0).reshape(2, 3, 4) if data is None else data, path, metadata)
    return path


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 4, 8, 8), (0, 3)])
def test_every_shape_survives_a_round_trip(tmp_path, shape):
    data = torch.rand(shape)
    loaded = load_map(saved(tmp_path / "a.npz", data, METADATA))
    assert loaded.data.dtype == np.float32
    np.testing.assert_array_equal(loaded.data, data.numpy())
    assert loaded.metadata == METADATA


def test_repr(tmp_path):
    loaded = load_map(saved(tmp_path / "a.npz", metadata={"fps": 25}))
    assert repr(loaded) == "Map(shape=(2, 3, 4), metadata={'fps': 25})"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_every_dtype_is_saved_as_float32(tmp_path, dtype):
    data = torch.tensor([0.5, 1, 2]).to(dtype)
    loaded = load_map(saved(tmp_path / "a.npz", data))
    np.testing.assert_array_equal(loaded.data, data.float().numpy())
    assert loaded.metadata == {}


def test_a_tensor_that_requires_grad_is_saved(tmp_path):
    assert load_map(saved(tmp_path / "a.npz", torch.ones(2, requires_grad=True))).data.sum() == 2


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_values_that_float32_cannot_store_are_refused(tmp_path, kind):
    with pytest.raises(ValueError, match=r"complex; .* Pass their magnitude, np.abs\(data\)"):
        save_map(kind([3 + 4j]), tmp_path / "a.npz")
    wide = (lambda x: torch.tensor(x, dtype=torch.float64)) if kind is torch.tensor else kind
    with pytest.raises(ValueError, match="values above 3.4e38, which float32 cannot store"):
        save_map(wide([1e300, np.inf]), tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
    save_map(wide([np.inf, np.nan, 1e38]), tmp_path / "a.npz")
    np.testing.assert_array_equal(
        load_map(tmp_path / "a.npz").data, np.float32([np.inf, np.nan, 1e38])
    )


def test_numpy_reads_a_saved_map(tmp_path):
    with np.load(saved(tmp_path / "a.npz", metadata=METADATA), allow_pickle=False) as content:
        assert sorted(content) == ["map", "metadata"]
        assert content["map"].shape == (2, 3, 4)
        assert '"golf"' in str(content["metadata"])


@given(
    metadata=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        ).filter(lambda value: "inf" not in repr(value)),
        max_size=3,
    )
)
def test_metadata_survives_a_round_trip(tmp_path_factory, metadata):
    path = tmp_path_factory.getbasetemp() / "metadata.npz"
    assert load_map(saved(path, metadata=metadata)).metadata == metadata


@pytest.mark.parametrize("value", [{1, 2}, np.float32(1), torch.ones(1), math.nan, object()])
def test_metadata_that_json_cannot_represent_are_refused(tmp_path, value):
    with pytest.raises(
        ValueError, match="metadata: expected values that JSON can represent: .*"
    ) as caught:
        save_map([1.0], tmp_path / "a.npz", {"value": value})
    assert caught.value.__cause__ is not None
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------ invalid files


def as_npy(array):
    file = standard_io.BytesIO()
    npy.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def truncated(shape, dtype="<f4", content=b""):
    """An .npy whose header describes more data than it has."""
    file = standard_io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


GOOD = {"map": as_npy(np.zeros(3, np.float32)), "metadata": as_npy("{}")}
CASES = [
    ({"map": as_npy(np.zeros(3))}, "not saved by save_map"),
    ({"map": as_npy(np.zeros(3, int))}, "not saved by save_map"),
    ({"map": truncated((2**20,))}, "EOF"),
    ({"map": truncated((9,), content=bytes(30))}, "EOF"),
    ({"map": truncated((-1,))}, ""),
    ({"map": b"nothing"}, ""),
    ({"metadata": as_npy("no json")}, "Expecting value"),
    ({"metadata": as_npy("[1]")}, "not saved by save_map"),
    ({"metadata": as_npy("[" * 100_000)}, ""),
    ({"metadata": as_npy(5)}, "not saved by save_map"),
]


def test_an_archive_of_the_same_form_is_loaded(tmp_path):
    assert load_map(archive(tmp_path / "a.npz", **GOOD)).data.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("members", "message"), CASES)
def test_damaged_members_are_described(tmp_path, members, message):
    path = archive(tmp_path / "a.npz", **GOOD | members)
    with pytest.raises(ValueError, match=rf"a.npz' cannot be read as a saved map: .*({message})"):
        load_map(path)


TOO_LARGE = {
    "a shape": ({"map": truncated((2**40,))}, r"an array of shape \(1099511627776,\), 4,398,046,"),
    "a text": (
        {"metadata": truncated((), "<U99999999")},
        r"an array of shape \(\), 399,999,996",
    ),
    "zeros": ({"map": bytes(2**22)}, r"2 compressed arrays, 4,19\d,\d{3} bytes"),
    "a header": ({"map": b"\x93NUMPY\x02\0\0\0\x40\0" + bytes(2**22)}, "2 compressed arrays, 4,19"),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_small_file_cannot_request_much_memory(tmp_path, monkeypatch, case):
    members, message = TOO_LARGE[case]
    path = archive(tmp_path / "a.npz", **GOOD | members)
    assert path.stat().st_size < 2**14
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(2**22))
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"a.npz' describes {message}"):
        load_map(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


@pytest.mark.parametrize("name", ["map", "metadata"])
def test_a_missing_member_is_named(tmp_path, name):
    path = archive(tmp_path / "a.npz", **{k: v for k, v in GOOD.items() if k != name})
    with pytest.raises(ValueError, match=rf"a.npz' .*{name} is not a file in the archive"):
        load_map(path)


@pytest.mark.parametrize("content", [b"", b"PK", bytes(500), as_npy(np.zeros(3))])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a.npz' cannot be read as a saved map: it is not an .npz"
    ):
        load_map(tmp_path / "a.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no map file '.*none.npz'"):
        load_map(tmp_path / "none.npz")


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize("name", ["map", "metadata"])
def test_a_pickle_inside_is_not_run(tmp_path, name):
    path = archive(tmp_path / "a.npz", **GOOD | {name: as_npy(np.array([Payload()]))})
    with pytest.raises(ValueError, match=r"a.npz' .*Object arrays cannot be loaded"):
        load_map(path)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    return saved(folder / "a.npz", metadata=METADATA).read_bytes(), folder / "broken.npz"


@given(data=st.data())
def test_a_damaged_file_gives_the_map_or_an_error_that_names_it(sample, data):
    content, path = bytearray(sample[0]), sample[1]
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        loaded = load_map(path)
    except ValueError as error:
        assert repr(str(path)) in str(error)  # noqa: PT017
    else:  # the damage is in a field that does not affect the content, such as the time
        np.testing.assert_array_equal(loaded.data.ravel(), np.arange(24))
        assert loaded.metadata == METADATA
