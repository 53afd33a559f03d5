"""Pickles of plain data are loaded as pickle loads them; no other one runs or loads anything."""

import builtins
import copyreg
import datetime
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as st_numpy

from captum_3dcam.datasets._restricted_pickle import load_pickle

MAX_MEMORY = 2**21
"""Bytes: far more than refusing the pickles below takes, far less than the sizes in them."""

# The path fixture is only overwritten by each example.
given_a_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.pkl"


def load(path: Path, data: bytes):
    path.write_bytes(data)
    return load_pickle(path)


def refuse(path: Path, data: bytes) -> str:
    """The reason why a pickle is refused, without much memory."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as error:
            load_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY + 60 * len(data)
    finally:
        tracemalloc.stop()
    start = f"{str(path)!r} cannot be read as a pickle of plain data and numeric arrays: "
    assert str(error.value).startswith(start)
    assert error.value.__cause__ is not None
    return str(error.value).removeprefix(start)


def same(a, b) -> bool:
    """Equal values of equal types, in any byte order; scalars are Python's; nan equals nan."""
    if isinstance(b, np.generic):
        return same(a, b.item())
    if isinstance(b, np.ndarray):
        a_type, b_type = (x.dtype.newbyteorder("=") for x in (a, b))
        return (
            isinstance(a, np.ndarray)
            and (a_type, a.shape) == (b_type, b.shape)
            and a.astype(a_type).tobytes() == b.astype(b_type).tobytes()
        )
    if isinstance(b, dict):
        return isinstance(a, dict) and same(list(a.items()), list(b.items()))
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


# --------------------------------------------------------------------------------- plain data

NUMBERS = st.one_of(
    *(getattr(st_numpy, f"{kind}_dtypes")() for kind in ("integer", "unsigned_integer")),
    st_numpy.floating_dtypes(sizes=(16, 32, 64)),
)
ARRAYS = st_numpy.arrays(NUMBERS, st_numpy.array_shapes(min_dims=0, min_side=0))
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), ARRAYS,
    NUMBERS.flatmap(st_numpy.from_dtype),
)  # fmt: skip
DATA = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=9), inner, max_size=4),
    ),
    max_leaves=12,
)
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(DATA)
@given_a_path
def test_plain_data_is_loaded_as_pickle_loads_it(path, protocol, data):
    pickled = pickle.dumps(data, protocol)
    assert same(load(path, pickled), pickle.loads(pickled))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_in_either_order_of_axes_and_bytes(path, protocol):
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    arrays = [array, np.asfortranarray(array), array.T, array[:, ::2], array.astype(">i4")]
    loaded = load(path, pickle.dumps(arrays, protocol))
    assert [one.tolist() for one in loaded] == [one.tolist() for one in arrays]


def test_numpy_text_becomes_text(path):
    data = {np.str_("Biking/v_ø"): np.str_(""), "other": np.array("abc")[()]}
    loaded = load(path, pickle.dumps(data))
    assert loaded == {"Biking/v_ø": "", "other": "abc"}
    assert [type(text) for text in [*loaded, *loaded.values()]] == [str] * 4
    big_endian = pickle.dumps(np.str_("abc"), 2).replace(b"<", b">")
    big_endian = big_endian.replace(b"a\0\0\0b\0\0\0c\0\0\0", b"\0\0\0a\0\0\0b\0\0\0c")
    assert load(path, big_endian) == "abc"


@pytest.mark.parametrize("protocol", [2, 3])
def test_modules_of_numpy_1_and_2(path, protocol):
    data = {"boxes": np.arange(8, dtype=np.uint8).reshape(2, 4), "numf": np.uint8(3)}
    pickled = pickle.dumps(data, protocol)
    # The names are lines of their own in these protocols, so they may change in length.
    new = pickled.replace(b"numpy.core.", b"numpy._core.")
    old = new.replace(b"numpy._core.", b"numpy.core.")
    assert old != new
    assert same(load(path, old), data)
    assert same(load(path, new), data)


def test_text_of_python_2_is_latin1(path):
    """As it wrote a dict with an array, in protocols 0 and 2; its memos count from 1 in C."""
    state = b"(I1\n(I2\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    text = b"(dp1\nS'boxes'\np2\n" + array + state + b"I00\nS'\\x7f\\n'\ntbs."
    loaded = load(path, text)
    assert (list(loaded), loaded["boxes"].tolist()) == (["boxes"], [127, 10])
    binary = b"\x80\x02}q\x01U\x01aq\x02U\x02\xe9\xffs."
    assert load(path, binary) == {"a": "éÿ"} == pickle.loads(binary, encoding="latin1")
    scalar = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'u1'\nI0\nI1\ntRS'\\x7f'\ntR."
    assert load(path, scalar) == 127


def test_bytes_and_sets(path):
    for protocol in PROTOCOLS:
        assert load(path, pickle.dumps([b"\xe9 ", b""], protocol)) == [b"\xe9 ", b""]
    assert load(path, pickle.dumps({1, 2}, 4)) == {1, 2}


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no pickle .*a.pkl"):
        load_pickle(tmp_path / "a.pkl")
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path)


# ------------------------------------------------------------------------------------- attacks


class Reduces:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def attacks(mark: Path) -> dict[str, bytes]:
    """Pickles that create the folder ``mark``, one way or another."""
    code = f"__import__('os').mkdir({str(mark)!r})"
    path = str(mark).encode()
    reduced = {
        "os.mkdir": Reduces(os.mkdir, (str(mark),)),
        "os.system": Reduces(os.system, (f"mkdir {mark}",)),
        "eval": Reduces(builtins.eval, (code,)),
        "exec": Reduces(builtins.exec, (code,)),
        "in an array": np.array([Reduces(os.mkdir, (str(mark),))], dtype=object),
        "in a list in a dict": {"a": [1, (2, Reduces(os.mkdir, (str(mark),)))]},
        "as the state of an array": Reduces(
            np.ndarray, ((1,),), (1, (1,), np.dtype(object), False, [Reduces(exec, (code,))])
        ),
        "by a pickle in a pickle": Reduces(
            pickle.loads, (pickle.dumps(Reduces(os.mkdir, (str(mark),))),)
        ),
    }
    made = {
        f"{name}, protocol {protocol}": pickle.dumps(value, protocol)
        for name, value in reduced.items()
        for protocol in PROTOCOLS
    }
    system = os.mkdir.__module__.encode()
    call = b"(V" + path + b"\ntR."
    length = struct.pack("<I", len(path))
    return made | {
        "a name from the stack": b"\x80\x04V" + system + b"\nVmkdir\n\x93" + call,
        "a dotted name": b"\x80\x04Vos\nVpath.os.mkdir\n\x93" + call,
        "an old instance": b"(V" + path + b"\ni" + system + b"\nmkdir\n.",
        "an old object": b"(c" + system + b"\nmkdir\nV" + path + b"\no.",
        "a name in the memo": b"c" + system + b"\nmkdir\np0\n0g0\n" + call,
        "a name doubled": b"c" + system + b"\nmkdir\n2" + call,
        "a name from binary text": b"\x80\x02c" + system + b"\nmkdir\n(X" + length + path + b"tR.",
    }  # fmt: skip


@pytest.mark.parametrize("name", attacks(Path("mark")))
def test_no_code_is_run(path, tmp_path, name):
    mark = tmp_path / "mark"
    attack = attacks(mark)[name]
    reason = refuse(path, attack)
    assert not mark.exists()
    assert "is not allowed" in reason or "is not numeric" in reason
    # The attack works: Python's own unpickler runs it.
    pickle.loads(attack)
    assert mark.exists()


def test_extension_codes_are_refused(path, tmp_path):
    copyreg.add_extension(os.mkdir.__module__, "mkdir", 240)
    try:
        attack = b"\x80\x02\x82\xf0(V" + str(tmp_path / "mark").encode() + b"\ntR."
        pickle.loads(attack)  # puts the function into the registry's cache
        (tmp_path / "mark").rmdir()
        assert refuse(path, attack) == "extension code 240 is not allowed"
        assert not (tmp_path / "mark").exists()
    finally:
        copyreg.remove_extension(os.mkdir.__module__, "mkdir", 240)


def raw(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
BYTE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
OBJECT = b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R"
RECORD = b"cnumpy\ndtype\n(U\x01VK\x00K\x01tR"
SCALAR = b"cnumpy.core.multiarray\nscalar\n"
BUFFER = b"cnumpy.core.numeric\n_frombuffer\n"


def state(shape: bytes, dtype: bytes = BYTE, data: bytes = b"U\x04abcd") -> bytes:
    """The step that sets the state of an array."""
    return b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


NOT_NUMERIC = "the data type 'O' is not numeric"
ERRORS = {
    "an array of objects": (raw(ARRAY, state(b"K\x01\x85", OBJECT, b"]Na")), NOT_NUMERIC),
    "objects from bytes": (raw(ARRAY, state(b"K\x01\x85", OBJECT, b"U\x08abcdefgh")), NOT_NUMERIC),
    "an array of objects called": (
        raw(b"cnumpy\nndarray\n(K\x01\x85U\x01OU\x08abcdefghtR", state(b"K\x01\x85", OBJECT)),
        NOT_NUMERIC),
    "a type of objects whose flags say numbers": (
        raw(ARRAY, state(b"K\x01\x85", OBJECT + b"(K\x03U\x01|NNNK\x08K\x08K\x00tb")),
        NOT_NUMERIC),
    "a scalar object": (raw(SCALAR, OBJECT, b"U\x08abcdefgh\x86R"), NOT_NUMERIC),
    "a buffer of objects": (
        raw(BUFFER, b"(U\x08abcdefgh", OBJECT, b"K\x01\x85U\x01CtR"), NOT_NUMERIC),
    "a record": (raw(ARRAY, state(b"K\x01\x85", RECORD)), "the data type 'V' is not numeric"),
    "a number with fields": (
        raw(ARRAY, state(b"K\x04\x85", BYTE + b"(K\x03U\x01|NU\x01a\x85}K\x08K\x01K\x1btb")),
        "structured data types are not allowed"),
    "a subarray": (
        raw(ARRAY, state(b"K\x04\x85", BYTE + b"(K\x03U\x01|" + BYTE + b"K\x09\x86NNtb")),
        "structured data types are not allowed"),
    "an array of text": (
        raw(ARRAY, state(b"K\x01\x85", b"cnumpy\ndtype\nU\x02U1\x85R")),
        "the data type of an array is not numeric"),
    "another class": (
        raw(b"cnumpy.core.multiarray\n_reconstruct\nccollections\nOrderedDict\n"),
        "the name 'collections.OrderedDict' is not allowed"),
    "another name of an allowed module": (
        raw(b"cnumpy\nload\n"), "the name 'numpy.load' is not allowed"),
    "a name below an allowed one": (
        raw(b"\x8c\x05numpy\x8c\x0bndarray.all\x93"),
        "the name 'numpy.ndarray.all' is not allowed"),
    "a private name of NumPy": (
        raw(b"\x8c\x16numpy._core.multiarray\x8c\x12scalar.__globals__\x93"),
        "the name 'numpy.core.multiarray.scalar.__globals__' is not allowed"),
    "a name over two lines": (
        raw(b"cnumpy ndarray\nx\n"), "the name 'numpy ndarray.x' is not allowed"),
    "copyreg": (
        raw(b"ccopyreg\n_reconstructor\n"), "the name 'copyreg._reconstructor' is not allowed"),
    "a name that is not text": (raw(b"K\x01K\x02\x93"), "STACK_GLOBAL requires str"),
    "an unknown extension": (raw(b"\x82\x01"), "extension code 1 is not allowed"),
    "a persistent id": (raw(b"Pabc\n"), "A load persistent id instruction was encountered"),
    "the class of an array instantiated": (
        raw(b"cnumpy\nndarray\n", number(2**40), b"\x85\x85\x81"), "NEWOBJ"),
    "text called": (raw(b"U\x01a)R"), "'str' object is not callable"),
    "code of a function": (
        raw(SCALAR, b"N}U\x08__code__K\x01s\x86b"), "attributes of functions cannot be set"),
    "a function with the type of objects": (
        raw(SCALAR, b"(", SCALAR, b"}U\x05dtypeU\x01OsbU\x08abcdefghtR"),
        "attributes of functions cannot be set"),
    "a function with the address of an array": (
        raw(ARRAY, state(b"K\x04\x85"), b")", SCALAR, b"}U\x13__array_interface__}(U\x07version"
            b"K\x03U\x05shapeK\x04\x85U\x07typestrU\x03|O8U\x04dataK\x08\x89\x86usbs"),
        "attributes of functions cannot be set"),
    "text as the type of an array": (
        raw(ARRAY, state(b"K\x04\x85", b"U\x02u1")), "the data type of an array is not numeric"),
    "text as the type of a scalar": (
        raw(SCALAR, b"U\x01OU\x08abcdefgh\x86R"), "the data type of an array is not numeric"),
    "another codec": (
        raw(b"c_codecs\nencode\nX\x01\x00\x00\x00aU\x03zip\x86R"),
        "the codec 'zip' is not allowed"),
    "an unknown byte order": (
        raw(ARRAY, state(b"K\x04\x85", BYTE + b"(K\x03U\x01xNNNtb")), "byteorder"),
    "a huge array": (raw(ARRAY, state(number(2**40) + b"\x85")), "has 4 bytes"),
    "an array with an overflow": (raw(ARRAY, state(number(2**62) * 2 + b"\x86")), "has 4 bytes"),
    "an array of negative length": (raw(ARRAY, state(number(-2) * 2 + b"\x86")), ""),
    "a shape that is not a tuple": (raw(ARRAY, state(b"U\x014")), ""),
    "a list of bytes": (raw(ARRAY, state(b"K\x01\x85", data=b"]Na")), "pickle not returning strin"),
    "a buffer of a number": (raw(BUFFER, b"(", number(2**40), BYTE, b"K\x01\x85U\x01CtR"), "bytes"),
    "half a number": (raw(SCALAR, BYTE.replace(b"u1", b"u2"), b"U\x01a\x86R"), "buffer is too sm"),
    "a memo that does not exist": (raw(b"h\x07"), "Memo value not found at index 7"),
    "no value": (raw(), "unpickling stack underflow"),
    "no mark": (raw(b"t"), "could not find MARK"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_misuse_of_allowed_names_is_refused(path, name):
    data, reason = ERRORS[name]
    assert reason in refuse(path, data)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1j, "complex' is not allowed"),
        (datetime.date(2000, 1, 1), "datetime.date' is not allowed"),
        (np.array([1j]), "'c16' is not numeric"),
        (np.array([True]), "'b1' is not numeric"),
        (np.array(["a"]), "the data type of an array is not numeric"),
        (np.array([b"a"]), "'S1' is not numeric"),
        (np.array(["2000"], dtype="M8[D]"), "'M8' is not numeric"),
        (np.zeros(1, dtype=[("a", "u1")]), "'V1' is not numeric"),
        (np.array([{}]), "'O8' is not numeric"),
        (np.ma.masked_array([1]), "_mareconstruct' is not allowed"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_data_is_refused(path, value, name):
    assert name in refuse(path, pickle.dumps(value, 2))


# ------------------------------------------------------------------------------ damaged pickles


@pytest.mark.parametrize("step", [b"r\xff\xff\xff\x7f", b"r\xff\xff\xff\xff", b"p9999999999\n"])
def test_a_huge_index_is_refused(path, step):
    """The unpickler of CPython can fill 64 GiB for it."""
    assert "exceeds the length of the file" in refuse(path, raw(b"N" + step))


def test_a_size_beyond_the_end_is_refused(path):
    huge = b"\xff" * 7 + b"\x0f"
    for step in (b"B\xff\xff\xff\x7f", b"\x8e" + huge, b"\x8d" + huge, b"\x96" + huge):
        assert "expected" in refuse(path, raw(step + b"ab"))
    assert "not enough data" in refuse(path, raw(b"\x8b\xff\xff\xff\x7fab"))


def test_lists_can_be_nested_deeper_than_the_stack(path):
    depth = 300_000
    nested = load(path, raw(b"]" * depth, b"a" * (depth - 1)))
    for _ in range(depth - 1):
        (nested,) = nested
    assert nested == []


SAMPLE = {
    "Biking/v_1": {
        "numf": np.uint8(9),
        "annotations": [{"sf": 2, "ef": 4, "boxes": np.arange(8, dtype=np.uint16).reshape(2, 4)}],
    },
    np.str_("other"): [None, True, 2**70, -1.5, "ø\\q'", (1, ())],
}
PICKLED = [pickle.dumps(SAMPLE, protocol) for protocol in PROTOCOLS]


@pytest.mark.parametrize("data", PICKLED, ids=lambda data: f"{len(data)} bytes")
def test_a_truncated_pickle_is_refused(path, data):
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="a.pkl' cannot be read as a pickle of"):
            load_pickle(path)


def attempt(path: Path, data: bytes) -> None:
    """Load data or raise a ValueError, without much memory."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        load_pickle(path)
    except ValueError as error:
        assert "a.pkl' cannot be read as a pickle of" in str(error)  # noqa: PT017
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MAX_MEMORY


@given(st.data(), st.sampled_from(PICKLED))
@settings(given_a_path, max_examples=400)
def test_flipped_bytes(path, data, pickled):
    broken = bytearray(pickled)
    positions = st.integers(0, len(pickled) - 1)
    changes = st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1)
    for position, byte in data.draw(changes):
        broken[position] = byte
    attempt(path, bytes(broken))


STEPS = [
    b"(", b")", b"]", b"}", b"N", b"\x88", b"K\x01", b"U\x01a", b"C\x01a", b"S'\\q'\n", b"L1L\n",
    b"0", b"1", b"2", b"a", b"b", b"d", b"e", b"l", b"o", b"s", b"t", b"u", b"R", b"\x81", b"\x92",
    b"\x85", b"\x86", b"\x87", b"\x8f", b"\x90", b"\x91", b"\x93", b"\x94", b"q\x00", b"h\x00",
    ARRAY, BYTE, OBJECT, SCALAR, BUFFER, state(b"K\x04\x85"), b"cos\ngetcwd\n",
    b"cnumpy\nndarray\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(STEPS), max_size=30))
@settings(given_a_path, max_examples=1000)
def test_steps_in_any_order(path, steps):
    attempt(path, raw(*steps))


@given(st.binary(max_size=60))
@given_a_path
def test_any_bytes(path, data):
    attempt(path, data)
