"""Saved maps: what went in comes out; a file from elsewhere runs nothing and asks for nothing."""

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

from captum_3dcam.io import load_map, maps, save_map

METADATA = {"class": "golf", "layers": ["a.1", "b"], "fps": 25.5, "nested": {"é": None}}


def saved(path, data=None, metadata=None):
    save_map(np.arange(24.0).reshape(2, 3, 4) if data is None else data, path, metadata)
    return path


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 4, 8, 8), (0, 3)])
def test_any_shape_comes_back(tmp_path, shape):
    data = torch.rand(shape)
    found = load_map(saved(tmp_path / "a.npz", data, METADATA))
    assert found.data.dtype == np.float32
    np.testing.assert_array_equal(found.data, data.numpy())
    assert found.metadata == METADATA


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_any_kind_becomes_float32(tmp_path, dtype):
    data = torch.tensor([0.5, 1, 2]).to(dtype)
    found = load_map(saved(tmp_path / "a.npz", data))
    np.testing.assert_array_equal(found.data, data.float().numpy())
    assert found.metadata == {}


def test_a_gradient_is_no_hindrance(tmp_path):
    assert load_map(saved(tmp_path / "a.npz", torch.ones(2, requires_grad=True))).data.sum() == 2


def test_numpy_reads_it_too(tmp_path):
    with np.load(saved(tmp_path / "a.npz", metadata=METADATA), allow_pickle=False) as found:
        assert sorted(found) == ["map", "metadata"]
        assert found["map"].shape == (2, 3, 4)
        assert '"golf"' in str(found["metadata"])


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
def test_what_json_can_say_comes_back(tmp_path_factory, metadata):
    path = tmp_path_factory.getbasetemp() / "metadata.npz"
    assert load_map(saved(path, metadata=metadata)).metadata == metadata


@pytest.mark.parametrize("value", [{1, 2}, np.float32(1), torch.ones(1), math.nan, object()])
def test_what_json_cannot_say_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="metadata has to be what JSON can say: .*") as caught:
        save_map([1.0], tmp_path / "a.npz", {"value": value})
    assert caught.value.__cause__ is not None
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- wrong files


def as_npy(array):
    file = standard_io.BytesIO()
    npy.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def promising(shape, dtype="<f4", content=b""):
    """An .npy whose header says more than there is."""
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
    ({"map": as_npy(np.zeros(3, int))}, r"its 'map.npy' is an array \(3,\) of int64"),
    ({"map": promising((2**40,))}, r"its 'map.npy' is an array \(1099511627776,\) of float32"),
    ({"map": promising((9,), content=bytes(30))}, r"'map.npy' is an array|EOF|read"),
    ({"map": promising((-1,))}, ""),
    ({"map": b"nothing"}, ""),
    ({"metadata": as_npy("no json")}, "Expecting value"),
    ({"metadata": as_npy("[1]")}, "not saved by save_map"),
    ({"metadata": as_npy("[" * 100_000)}, ""),
    ({"metadata": as_npy(5)}, r"its 'metadata.npy' is an array \(\) of int64"),
]


def test_a_good_archive_is_one(tmp_path):
    assert load_map(archive(tmp_path / "a.npz", **GOOD)).data.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("members", "message"), CASES)
def test_damaged_members_are_named(tmp_path, members, message):
    path = archive(tmp_path / "a.npz", **GOOD | members)
    with pytest.raises(ValueError, match=rf"a.npz' cannot be read as a saved map: .*({message})"):
        load_map(path)


@pytest.mark.parametrize("name", ["map", "metadata"])
def test_a_member_that_is_missing_is_named(tmp_path, name):
    path = archive(tmp_path / "a.npz", **{k: v for k, v in GOOD.items() if k != name})
    with pytest.raises(ValueError, match=rf"no item named '{name}.npy'"):
        load_map(path)


@pytest.mark.parametrize("content", [b"", b"PK", bytes(500), as_npy(np.zeros(3))])
def test_what_is_no_archive_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.npz' cannot be read as a saved map"):
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
    with pytest.raises(ValueError, match=rf"its '{name}.npy' is an array \(1,\) of object"):
        load_map(path)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "_MAX_METADATA", 2**20)
    text = archive(tmp_path / "a.npz", **GOOD | {"metadata": as_npy(" " * 2**19)})
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"its 'metadata.npy' is an array \(\) of <U524288"):
        load_map(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_member_larger_than_it_can_be_is_not_unpacked(tmp_path):
    path = archive(tmp_path / "a.npz", **GOOD)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # of the map, in the directory
    content[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its 'map.npy' claims to be of 2147483648 bytes"):
        load_map(path)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    return saved(folder / "a.npz", metadata=METADATA).read_bytes(), folder / "broken.npz"


@given(data=st.data())
def test_damage_is_noticed_and_named(sample, data):
    content, path = bytearray(sample[0]), sample[1]
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = load_map(path)
    except ValueError as error:
        assert repr(str(path)) in str(error)  # noqa: PT017
    else:  # times and other things that do not matter; the checksums held
        np.testing.assert_array_equal(found.data.ravel(), np.arange(24))
        assert found.metadata == METADATA
