"""Plain pickles read as pickle reads them; every other one refused, and nothing of it run."""

import builtins
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

from captum_3dcam.datasets._restricted_pickle import load_plain

ROOM = 2**21
"""Bytes: far more than it takes to refuse the pickles below, far less than they ask for."""

given_a_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "a.pkl"


def load(file: Path, data: bytes):
    file.write_bytes(data)
    return load_plain(file)


def refused(file: Path, data: bytes) -> str:
    """The reason why a pickle is refused, which takes little memory and time."""
    file.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as error:
            load_plain(file)
        assert tracemalloc.get_traced_memory()[1] < ROOM + 60 * len(data)
    finally:
        tracemalloc.stop()
    start, reason = str(error.value).split(", or damaged: ")
    assert start == f"{str(file)!r} is no pickle of plain data and numeric arrays"
    assert error.value.__cause__ is not None
    return reason


def same(a, b) -> bool:
    """Of equal types and values throughout, whatever the order of bytes; nan is nan."""
    if isinstance(a, np.ndarray | np.generic):
        a_type, b_type = (x.dtype.newbyteorder("=") for x in (a, b))
        same_kind = type(a) is type(b) and a_type == b_type and a.shape == b.shape
        return same_kind and a.astype(a_type).tobytes() == b.astype(b_type).tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


# ------------------------------------------------------------------------------ what is plain

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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@given(DATA)
@given_a_file
def test_plain_data_is_what_pickle_makes_of_it(file, protocol, data):
    pickled = pickle.dumps(data, protocol)
    assert same(load(file, pickled), pickle.loads(pickled))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_in_either_order_of_axes_and_bytes(file, protocol):
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    given = [array, np.asfortranarray(array), array.T, array[:, ::2], array.astype(">i4")]
    found = load(file, pickle.dumps(given, protocol))
    assert [one.tolist() for one in found] == [one.tolist() for one in given]


def test_numpys_text_is_text(file):
    data = {np.str_("Biking/v_ø"): np.str_(""), "other": np.array("abc")[()]}
    found = load(file, pickle.dumps(data))
    assert found == {"Biking/v_ø": "", "other": "abc"}
    assert [type(text) for text in [*found, *found.values()]] == [str] * 4
    big_endian = pickle.dumps(np.str_("abc"), 2).replace(b"<", b">")
    assert (
        load(file, big_endian.replace(b"a\0\0\0b\0\0\0c\0\0\0", b"\0\0\0a\0\0\0b\0\0\0c")) == "abc"
    )


@pytest.mark.parametrize("protocol", [2, 3])
def test_numpy_1_and_2_name_their_insides_differently(file, protocol):
    data = {"boxes": np.arange(8, dtype=np.uint8).reshape(2, 4), "numf": np.uint8(3)}
    pickled = pickle.dumps(data, protocol)
    # The names are lines of their own in these protocols, so they may change in length.
    new = pickled.replace(b"numpy.core.", b"numpy._core.")
    old = new.replace(b"numpy._core.", b"numpy.core.")
    assert old != new
    assert same(load(file, old), data)
    assert same(load(file, new), data)


def test_python_2_has_bytes_for_text(file):
    """As it wrote a dict with an array, in protocols 0 and 2; its memos count from 1 in C."""
    state = b"(I1\n(I2\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    text = b"(dp1\nS'boxes'\np2\n" + array + state + b"I00\nS'\\x7f\\n'\ntbs."
    found = load(file, text)
    assert (list(found), found["boxes"].tolist()) == (["boxes"], [127, 10])
    binary = b"\x80\x02}q\x01U\x01aq\x02U\x02\xe9\xffs."
    assert load(file, binary) == {"a": "éÿ"} == pickle.loads(binary, encoding="latin1")


def test_bytes_are_latin1_text_up_to_protocol_2(file):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        expected = b"\xe9 " if protocol > 2 else "é "
        assert load(file, pickle.dumps([b"\xe9 "], protocol)) == [expected]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no pickle .*a.pkl"):
        load_plain(tmp_path / "a.pkl")
    with pytest.raises(FileNotFoundError):
        load_plain(tmp_path)


# -------------------------------------------------------------------------------- what is not


class Reduces:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def attacks(mark: Path) -> dict[str, bytes]:
    """Pickles that make the folder ``mark``, one way or another."""
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
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    }
    system = os.mkdir.__module__.encode()
    call = b"(V" + path + b"\ntR."
    length = struct.pack("<I", len(path))
    return made | {
        "a name from the stack": b"\x80\x04V" + system + b"\nVmkdir\n\x93" + call,
        "an old instance": b"(V" + path + b"\ni" + system + b"\nmkdir\n.",
        "an old object": b"(c" + system + b"\nmkdir\nV" + path + b"\no.",
        "a name in the memo": b"c" + system + b"\nmkdir\np0\n0g0\n" + call,
        "a name doubled": b"c" + system + b"\nmkdir\n2" + call,
        "a name from binary text": b"\x80\x02c" + system + b"\nmkdir\n(X" + length + path + b"tR.",
    }  # fmt: skip


NAMES = tuple(attacks(Path("mark")))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_run(file, tmp_path, name):
    mark = tmp_path / "mark"
    attack = attacks(mark)[name]
    reason = refused(file, attack)
    assert not mark.exists()
    assert any(cause in reason for cause in ("not allowed", "does not need", "another way than"))
    # The attack is one: Python's own reader falls for it.
    pickle.loads(attack)
    assert mark.exists()


def raw(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
BYTE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
OBJECT = b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R"
RECORD = b"cnumpy\ndtype\n(U\x01VK\x00K\x01tR"
SCALAR = b"cnumpy.core.multiarray\nscalar\n"
BUFFER = b"cnumpy.core.numeric\n_frombuffer\n"


def state(shape: bytes, dtype: bytes = BYTE, data: bytes = b"U\x04abcd") -> bytes:
    """The step that fills an array."""
    return b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


MISUSES = {
    "an array of objects": (raw(ARRAY, state(b"K\x01\x85", OBJECT, b"]N a".replace(b" ", b""))),
                            "has an array of type '=O', which is no number"),
    "an array of objects as bytes": (raw(ARRAY, state(b"K\x01\x85", OBJECT, b"U\x08abcdefgh")),
                                     "has an array of type '=O', which is no number"),
    "a scalar object": (raw(SCALAR, OBJECT, b"U\x08abcdefgh\x86R"),
                        "has an array of type '=O', which is no number"),
    "a buffer of objects": (raw(BUFFER, b"(U\x08abcdefgh", OBJECT, b"K\x01\x85U\x01CtR"),
                            "has an array of type '=O', which is no number"),
    "a record with fields": (
        raw(ARRAY, state(b"K\x01\x85", RECORD + b"(K\x03U\x01|NU\x01a\x85}K\x08K\x01K\x1btb")),
        "fills something in another way than NumPy's arrays do"),
    "another class": (raw(b"cnumpy.core.multiarray\n_reconstruct\nccollections\nOrderedDict\n"),
                      "names 'collections.OrderedDict', which is not allowed"),
    "a type for the array's class": (
        raw(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R"),
        "calls something in another way than NumPy's arrays do"),
    "an array's class called": (raw(b"cnumpy\nndarray\n", number(2**40), b"\x85\x85R"),
                                "calls something in another way than NumPy's arrays do"),
    "an array's class made anew": (raw(b"cnumpy\nndarray\n", number(2**40), b"\x85\x85\x81"),
                                   "has a step NEWOBJ, which plain data does not need"),
    "text called": (raw(b"U\x01a)R"), "calls something in another way than NumPy's arrays do"),
    "a name of NumPy's that is filled": (
        raw(SCALAR, b"N}U\x08__code__K\x01s\x86b"),
        "fills something in another way than NumPy's arrays do"),
    "a dict that is filled": (raw(b"}}U\x01aK\x01sb"),
                              "fills something in another way than NumPy's arrays do"),
    "another codec": (raw(b"c_codecs\nencode\nX\x01\x00\x00\x00aU\x03zip\x86R"),
                      "calls something in another way than NumPy's arrays do"),
    "another name of an allowed module": (raw(b"cnumpy\nload\n"),
                                          "names 'numpy.load', which is not allowed"),
    "a name below an allowed one": (raw(b"\x8c\x05numpy\x8c\x0bndarray.all\x93"),
                                    "names 'numpy.ndarray.all', which is not allowed"),
    "a name over two lines": (raw(b"cnumpy ndarray\nx\n"),
                              "names 'numpy.ndarray x', which is not allowed"),
    "a name that is no text": (raw(b"K\x01K\x02\x93"), "names something otherwise than by text"),
    "an extension's number": (raw(b"\x82\x01"), "has a step EXT1, which plain data does not need"),
    "something outside": (raw(b"Pabc\n"), "has a step PERSID, which plain data does not need"),
    "an order of bytes that there is not": (
        raw(ARRAY, state(b"K\x04\x85", BYTE + b"(K\x03U\x01xNNNtb")),
        "has an array of type 'xu1', which is no number"),
    "a huge array": (raw(ARRAY, state(number(2**40) + b"\x85")),
                     "has 4 bytes for an array of another size"),
    "an array of no bytes and huge sides": (
        raw(ARRAY, state(b"K\x00" + number(2**40) + b"\x86", data=b"U\x00")),
        "has 0 bytes for an array of another size"),
    "an array of negative sides": (raw(ARRAY, state(number(-2) * 2 + b"\x86")),
                                   "has 4 bytes for an array of another size"),
    "a shape that is no tuple": (raw(ARRAY, state(b"K\x04")),
                                 "gives an array's shape by something else than integers"),
    "a shape of text": (raw(ARRAY, state(b"U\x014\x85")),
                        "gives an array's shape by something else than integers"),
    "a list of bytes": (raw(ARRAY, state(b"K\x01\x85", data=b"]")),
                        "fills an array with something else than bytes"),
    "half a number": (raw(SCALAR, BYTE.replace(b"u1", b"u2"), b"U\x01a\x86R"),
                      "has 1 bytes for an array of another size"),
    "a list within itself": (raw(b"]q\x00h\x00a"), "has the same list in several places"),
    "a dict in two places": (raw(b"]}q\x00ah\x00a"), "has the same dict in several places"),
    "an array in two places": (raw(b"]", ARRAY, state(b"K\x04\x85"), b"q\x00ah\x00a"),
                               "has the same ndarray in several places"),
    "a tuple in two places": (raw(b"](Ntq\x00ah\x00a"), "has the same tuple in several places"),
    "an item added to text": (raw(b"U\x01aNa"), "adds items to a str"),
    "an item added to an array": (raw(ARRAY, state(b"K\x04\x85"), b"U\x01aNs"),
                                  "adds items to a ndarray"),
    "a key that is no text": (raw(b"}K\x01Ns"), "has a dict whose keys are not all text"),
    "a key without a value": (raw(b"}(U\x01au"), "has a dict whose keys are not all text"),
    "a type left over": (raw(b"]", BYTE, b"a"), "has something of NumPy's that is no array"),
    "a name left over": (raw(b"cnumpy\nndarray\n\x85"),
                         "has something of NumPy's that is no array"),
    "an array without bytes": (raw(b"}U\x01a", ARRAY, b"s"),
                               "has something of NumPy's that is no array"),
    "a memo that is not there": (raw(b"h\x07"), "its steps do not fit together"),
    "no value": (raw(), "its steps do not fit together"),
    "a mark that is not there": (raw(b"t"), "its steps do not fit together"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_misuses_of_what_is_allowed(file, name):
    data, reason = MISUSES[name]
    assert refused(file, data) in (f"it {reason}.", f"{reason}.")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({1, 2}, "set"),
        (1j, "complex"),
        (datetime.date(2000, 1, 1), "date"),
        (np.array([1j]), "'<c16'"),
        (np.array([True]), "'|b1'"),
        (np.array(["a"]), "'<U1'"),
        (np.array([b"a"]), "'|S1'"),
        (np.array(["2000"], dtype="M8[D]"), "'<M8'|fills something"),
        (np.zeros(1, dtype=[("a", "u1")]), "fills something"),
        (np.ma.masked_array([1]), "_mareconstruct"),
        ({1: 2}, "keys are not all text"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_data_is_refused(file, value, name):
    reason = refused(file, pickle.dumps(value, 2))
    assert any(part in reason for part in name.split("|"))


# --------------------------------------------------------------------------------- what grows


def test_lengths_and_places_that_a_pickle_only_claims(file):
    """Python's own reader fills 32 GB for the first of these."""
    assert "steps do not fit" in refused(file, raw(b"r\xff\xff\xff\x7f"))
    assert load(file, raw(b"Nr\xff\xff\xff\x7f")) is None
    huge = b"\xff" * 7 + b"\x0f"
    for step in (b"B\xff\xff\xff\x7f", b"\x8e" + huge, b"\x8d" + huge, b"\x96" + huge):
        assert "expected" in refused(file, raw(step + b"ab"))
    assert "not enough data" in refused(file, raw(b"\x8b\xff\xff\xff\x7fab"))


def test_one_text_for_many_arrays(file):
    """Each would be a copy of a thousand times the bytes that it takes in the pickle."""
    text = b"X\x00\x00\x01\x00" + b"a" * 2**16 + b"q\x00"
    one = ARRAY + state(number(2**16) + b"\x85", data=b"h\x00") + b"a"
    _, array = load(file, raw(b"]", text, b"a", one))
    assert array.tobytes() == b"a" * 2**16
    reason = refused(file, raw(b"]", text, b"a", one * 1000))
    assert reason == "it makes arrays that are together larger than the file."


def test_more_nested_than_the_stack_is_deep(file):
    """Python's own reader does not come back from the second of these: it hashes the key."""
    deep = 300_000
    nested = load(file, raw(b"]" * deep, b"a" * (deep - 1)))
    for _ in range(deep - 1):
        (nested,) = nested
    assert nested == []
    key = b")" + b"\x85" * deep
    assert "keys are not all text" in refused(file, raw(b"}", key, b"Ns"))


# ---------------------------------------------------------------------------------- what broke

SAMPLE = {
    "Biking/v_1": {
        "numf": np.uint8(9),
        "annotations": [{"sf": 2, "ef": 4, "boxes": np.arange(8, dtype=np.uint16).reshape(2, 4)}],
    },
    np.str_("other"): [None, True, 2**70, -1.5, "ø\\q'", (1, ())],
}
PICKLED = [pickle.dumps(SAMPLE, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


@pytest.mark.parametrize("data", PICKLED, ids=lambda data: f"{len(data)} bytes")
def test_no_beginning_of_a_pickle_is_one(file, data):
    for length in range(len(data)):
        file.write_bytes(data[:length])
        with pytest.raises(ValueError, match="or damaged: "):
            load_plain(file)


def attempt(file: Path, data: bytes) -> None:
    """Data, or a ValueError; and no more memory than that takes."""
    file.write_bytes(data)
    tracemalloc.start()
    try:
        load_plain(file)
    except ValueError as error:
        assert "or damaged: " in str(error)  # noqa: PT017
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < ROOM


@given(st.data(), st.sampled_from(PICKLED))
@settings(given_a_file, max_examples=400)
def test_flipped_bytes(file, data, pickled):
    broken = bytearray(pickled)
    places = st.integers(0, len(pickled) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1)):
        broken[place] = byte
    attempt(file, bytes(broken))


STEPS = [
    b"(", b")", b"]", b"}", b"N", b"\x88", b"K\x01", b"U\x01a", b"C\x01a", b"S'\\q'\n", b"L1L\n",
    b"0", b"1", b"2", b"a", b"b", b"d", b"e", b"l", b"o", b"s", b"t", b"u", b"R", b"\x81", b"\x92",
    b"\x85", b"\x86", b"\x87", b"\x8f", b"\x90", b"\x91", b"\x93", b"\x94", b"q\x00", b"h\x00",
    ARRAY, BYTE, OBJECT, SCALAR, BUFFER, state(b"K\x04\x85"), b"cos\ngetcwd\n",
    b"cnumpy\nndarray\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(STEPS), max_size=30))
@settings(given_a_file, max_examples=1000)
def test_steps_in_any_order(file, steps):
    attempt(file, raw(*steps))


@given(st.binary(max_size=60))
@given_a_file
def test_any_bytes(file, data):
    attempt(file, data)
