"""Checkpoints: matching weights are loaded; any other file is an error and changes nothing."""

import argparse
import builtins
import io
import os
import pickle
import re
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_3dcam.models.checkpoint import load_checkpoint
from captum_3dcam.models.i3d import i3d
from captum_3dcam.models.resnext3d import resnext101_3d

ZIPPED = {True: "zip", False: "legacy"}
COUNTER = "num_batches_tracked"


class Net(nn.Module):
    """A small network, so that hundreds of files are read in seconds."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(2, 3, (1, 2, 2))
        self.bn1 = nn.BatchNorm3d(3)
        self.fc = nn.Linear(3, classes)
        self.fc2 = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn1(self.conv1(x)).mean(dim=(2, 3, 4)))


def randomised(model: nn.Module, seed: int = 1) -> nn.Module:
    """The model with random weights and statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith(COUNTER):
            tensor.fill_(seed + 6)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        else:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return model


@pytest.fixture(scope="module")
def trained() -> dict[str, Tensor]:
    return randomised(Net()).state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other) -> bool:
    """Bitwise equal, including NaN."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype
        and tensor.shape == other[name].shape
        and tensor.numpy().tobytes() == other[name].numpy().tobytes()
        for name, tensor in one.items()
    )


def refused(path, model=None, error=ValueError, **options) -> str:
    """The message of the error; the model must be unchanged."""
    model = randomised(Net(), seed=2) if model is None else model
    before, objects = copied(model), dict(model.named_parameters())
    flags = [
        (module.training, parameter.requires_grad)
        for module, parameter in zip(model.modules(), model.parameters(), strict=False)
    ]
    with pytest.raises(error) as raised:
        load_checkpoint(path, model, **options)
    assert type(raised.value) is error
    assert same(copied(model), before)
    assert all(parameter is objects[name] for name, parameter in model.named_parameters())
    assert flags == [
        (module.training, parameter.requires_grad)
        for module, parameter in zip(model.modules(), model.parameters(), strict=False)
    ]
    return str(raised.value)


# -------------------------------------------------------------------------------- valid files


@pytest.mark.parametrize("zipped", ZIPPED, ids=ZIPPED.values())
@pytest.mark.parametrize(
    ("make", "arch", "size"),
    [(resnext101_3d, "resnext-101", (4, 32, 32)), (i3d, "i3d", (8, 32, 32))],
)
def test_a_file_of_the_public_form_reproduces_the_logits(make, arch, size, zipped, path):
    donor = randomised(make()).eval()
    state = OrderedDict(
        (f"module.{name}", tensor)
        for name, tensor in donor.state_dict().items()
        if not name.endswith(COUNTER)
    )
    optimizer = torch.optim.SGD(donor.parameters(), lr=0.1, momentum=0.9).state_dict()
    content = {"epoch": 151, "arch": arch, "state_dict": state, "optimizer": optimizer}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model = make().eval()
    assert load_checkpoint(path, model) is model
    with torch.no_grad():
        clip = torch.rand(1, 3, *size)
        expected = donor(clip)
        assert expected.std() > 0
        assert torch.equal(model(clip), expected)


@pytest.mark.parametrize("zipped", ZIPPED, ids=ZIPPED.values())
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_a_state_dict_is_loaded_bare_or_under_a_key(zipped, key, prefix, trained, path):
    state = {prefix + name: tensor for name, tensor in trained.items()}
    content = state if key is None else {"epoch": 3, key: state}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(copied(load_checkpoint(path, Net())), trained)
    assert same(copied(load_checkpoint(str(path), Net())), trained)


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compile": lambda model: torch.compile(model, backend="eager"),
    "both": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
}


@pytest.mark.parametrize("in_file", [None, *WRAPPERS])
@pytest.mark.parametrize("in_model", WRAPPERS)
def test_a_wrapped_model_loads_files_of_every_wrapper(in_file, in_model, trained, path):
    donor = randomised(Net())
    torch.save((WRAPPERS[in_file](donor) if in_file else donor).state_dict(), path)
    inside = Net()
    model = WRAPPERS[in_model](inside)
    assert load_checkpoint(path, model) is model
    assert same(copied(inside), trained)
    torch.save({"fc.weight": torch.zeros(4, 3)}, path)
    assert "7 missing: conv1.weight, conv1.bias, " in refused(path, model, skip=["fc2"])


def test_a_model_with_a_submodule_named_module(trained, path):
    """The prefix is that of a submodule, not of a wrapper, in the file and in the model."""
    model = nn.ModuleDict({"module": Net()})
    torch.save({f"module.{name}": tensor for name, tensor in trained.items()}, path)
    assert same(copied(load_checkpoint(path, model)["module"]), trained)
    model["head"] = nn.Linear(1, 1)
    torch.save(randomised(model).state_dict(), path)
    loaded = load_checkpoint(path, nn.ModuleDict({"module": Net(), "head": nn.Linear(1, 1)}))
    assert same(copied(loaded), copied(model))


def test_missing_counters_keep_the_values_of_the_model(trained, path):
    torch.save({n: t for n, t in trained.items() if not n.endswith(COUNTER)}, path)
    model = Net()
    model.bn1.num_batches_tracked.fill_(42)
    load_checkpoint(path, model)
    assert same(copied(model), trained | {f"bn1.{COUNTER}": torch.tensor(42)})


def test_modes_and_parameter_objects_are_kept(trained, path):
    torch.save(trained, path)
    model = Net()
    model.bn1.eval()
    model.fc.weight.requires_grad_(False)
    parameters = list(model.parameters())
    load_checkpoint(path, model)
    assert (model.training, model.bn1.training) == (True, False)
    assert [p.requires_grad for p in parameters] == [p is not model.fc.weight for p in parameters]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_cast_to_the_dtype_of_the_model(dtype, trained, path):
    cast = {n: t.to(dtype) if t.is_floating_point() else t for n, t in trained.items()}
    torch.save(cast, path)
    expected = {n: cast[n].to(t.dtype) for n, t in trained.items()}
    assert same(copied(load_checkpoint(path, Net())), expected)


# -------------------------------------------------------------------------------------- skip


@pytest.mark.parametrize("skip", ["fc", ("fc",), ["fc"], ("fc.weight", "fc.bias")])
@pytest.mark.parametrize("in_file", ["another shape", "absent"])
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
def test_skipped_submodules_keep_their_weights(skip, in_file, wrap, trained, path):
    state = dict(trained)
    if in_file == "absent":
        del state["fc.weight"], state["fc.bias"]
    torch.save(state, path)
    net = randomised(Net(classes=9), seed=3)
    own = copied(net)
    load_checkpoint(path, wrap(net), skip=skip)
    expected = {n: own[n] if n.startswith("fc.") else trained[n] for n in own}
    assert same(copied(net), expected)


def test_skipped_submodules_may_be_damaged_or_have_other_names(trained, path):
    torch.save(trained | {"fc.scale": torch.ones(2), "fc.bias": torch.tensor(torch.nan)}, path)
    model = load_checkpoint(path, Net(), skip=("fc",))
    assert model.fc.bias.isfinite().all()
    assert torch.equal(model.fc2.bias, trained["fc2.bias"])


def test_skip_accepts_the_names_of_a_wrapped_model(trained, path):
    torch.save(trained, path)
    net = Net(classes=9)
    load_checkpoint(path, nn.DataParallel(net), skip=("module.fc",))
    assert torch.equal(net.conv1.weight, trained["conv1.weight"])


@pytest.mark.parametrize("skip", [("head",), "f", ("fc", "fc3"), ("fc.w",), ("",)])
def test_skipping_an_unknown_name_is_an_error(skip, trained, path):
    torch.save(trained, path)
    wrong = skip if isinstance(skip, str) else skip[-1]
    assert refused(path, skip=skip) == (
        f"skip: the model has no weights under {wrong!r}. It has conv1, bn1, fc, fc2."
    )


# ----------------------------------------------------------------------- mismatched weights


def test_all_mismatches_are_listed_at_once(trained, path):
    state = dict(trained)
    del state["conv1.bias"]
    state["head.weight"] = torch.ones(2)
    state["fc.weight"], state["fc.bias"] = torch.ones(7, 3), torch.ones(7)
    torch.save(state, path)
    assert refused(path) == (
        f"{str(path)!r} does not match this Net. 1 missing: conv1.bias. 1 unexpected: head.weight. "
        "2 of another shape: fc.weight (expected (4, 3), received (7, 3)), fc.bias (expected (4,), "
        "received (7,)). Submodules can be skipped by name, e.g. skip=('fc',)."
    )


def test_a_long_list_is_shortened(path):
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(4)))
    torch.save({f"{i}.scale": torch.ones(1) for i in range(6)}, path)
    message = refused(path, model)
    assert "8 missing: 0.weight, 0.bias, 1.weight, 1.bias, 2.weight, and 3 more. " in message
    scales = ", ".join(f"{i}.scale" for i in range(5))
    assert f"6 unexpected: {scales}, and 1 more. " in message


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_var", "fc2.bias"])
def test_nan_and_inf_are_refused(bad, name, trained, path):
    spoiled = trained[name].clone()
    spoiled.view(-1)[-1] = bad
    torch.save(dict(trained) | {name: spoiled}, path)
    assert refused(path) == f"{str(path)!r} has NaN or Inf in {name!r}; nothing was loaded."


@pytest.mark.parametrize(
    ("dtype", "model_dtype"), [(torch.float64, torch.float32), (torch.float32, torch.float16)]
)
def test_weights_beyond_the_range_of_the_models_dtype_are_refused(
    dtype, model_dtype, trained, path
):
    huge = torch.full((4,), 1e5 if model_dtype == torch.float16 else 1e300, dtype=dtype)
    torch.save(dict(trained) | {"fc.bias": huge}, path)
    assert "has NaN or Inf in 'fc.bias'" in refused(path, Net().to(model_dtype))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(4).to_sparse(),
        torch.ones(4, device="meta"),
        torch.ones(4, dtype=torch.complex64),
        torch.empty(4, dtype=torch.bits8),
    ],
    ids=["sparse", "meta", "complex", "bits"],
)
def test_tensors_that_are_not_dense_real_numbers_are_refused(tensor, trained, path):
    torch.save(dict(trained) | {"fc.bias": tensor}, path)
    assert refused(path) == (
        f"{str(path)!r} is not a state dict, a dict from names to tensors: under 'fc.bias' it has "
        f"a tensor of {tensor.dtype} that is not dense real numbers in memory."
    )


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_nested_tensor_is_refused(trained, path):
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    torch.save(dict(trained) | {"fc.bias": nested}, path)
    message = refused(path)
    # From PyTorch 2.15 on, the restricted unpickler refuses it before the tensor is seen.
    not_loaded = "cannot be read as a checkpoint" in message and "run code" in message
    assert not_loaded or "under 'fc.bias' it has a tensor of torch.float32 that is not" in message


@pytest.mark.parametrize(
    ("content", "described"),
    [
        ([torch.ones(3)], "an object of type list"),
        (torch.ones(3), "an object of type Tensor"),
        (None, "an object of type NoneType"),
        ({}, "an empty dict"),
        ({"state_dict": {}}, "an empty dict"),
    ],
)
@pytest.mark.parametrize("zipped", ZIPPED, ids=ZIPPED.values())
def test_files_without_weights_are_refused(content, described, zipped, path):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert refused(path) == (
        f"{str(path)!r} has no weights: expected a state dict, bare or under one of "
        f"'state_dict', 'model_state_dict', 'model'; got {described}."
    )


@pytest.mark.parametrize(
    ("content", "name", "described"),
    [
        ({"epoch": 3}, "'epoch'", "an object of type int"),
        ({"state_dict": torch.ones(1), "epoch": 3}, "'epoch'", "an object of type int"),
        ({"net": {"fc.bias": torch.ones(4)}}, "'net'", "an object of type dict"),
        ({3: torch.ones(4)}, "3", "an object of type Tensor"),
    ],
)
def test_dicts_that_are_no_state_dict_are_refused(content, name, described, path):
    torch.save(content, path)
    assert refused(path) == (
        f"{str(path)!r} is not a state dict, a dict from names to tensors: under {name} it has "
        f"{described}."
    )


def test_no_file(tmp_path):
    for absent in (tmp_path / "no.pt", tmp_path):
        message = refused(absent, error=FileNotFoundError)
        assert message == f"There is no checkpoint file {str(absent)!r}."


# ---------------------------------------------------------------------- files that run code


class Attack:
    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(marker):
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "system": Attack(os.system, f"touch {marker}"),
        "exec": Attack(builtins.exec, code),
        "eval": Attack(builtins.eval, code),
        "mkdir": Attack(os.mkdir, str(marker)),
    }


@pytest.mark.parametrize("function", attacks(""))
@pytest.mark.parametrize("zipped", ZIPPED, ids=ZIPPED.values())
@pytest.mark.parametrize("position", ["bare", "weights", "beside"])
def test_no_code_of_a_file_is_run(function, zipped, position, trained, tmp_path):
    path, marker = tmp_path / "model.pt", tmp_path / "marker"
    attack = attacks(marker)[function]
    content = {
        "bare": attack,
        "weights": dict(trained) | {"fc.bias": attack},
        "beside": {"state_dict": trained, "arch": attack},
    }[position]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError) as error:
        load_checkpoint(path, Net())
    assert isinstance(error.value.__cause__, pickle.UnpicklingError)
    required, _, advice = str(error.value).partition(", and ")
    start, _, name = required.partition(" requires ")
    assert start == f"{str(path)!r} cannot be read as a checkpoint: it"
    assert name.rpartition(".")[2] == function  # the message leaves out the module of builtins
    assert advice == (
        "anything except tensors and plain containers could run code. If you trust the file, "
        "allow it with torch.serialization.safe_globals, or save only the model's state_dict()."
    )
    assert refused(path) == str(error.value)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # without weights_only, the code runs
    assert marker.exists()


def test_no_code_of_an_ordinary_pickle_is_run(tmp_path):
    path, marker = tmp_path / "model.pkl", tmp_path / "marker"
    for attack in attacks(marker).values():
        for protocol in (0, 2, 4):
            path.write_bytes(pickle.dumps(attack, protocol))
            assert "cannot be read as a checkpoint: " in refused(path)
            assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"options": argparse.Namespace()}, "argparse.Namespace"),
    ],
)
def test_objects_are_refused_and_their_class_is_named(content, name, path):
    torch.save(content, path)
    assert f"it requires {name}, and anything" in refused(path)


def test_the_advice_of_that_error_works(trained, path):
    torch.save({"state_dict": trained, "options": argparse.Namespace(lr=0.1)}, path)
    refused(path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert same(copied(load_checkpoint(path, Net())), trained)


# ------------------------------------------------------------------------------- memory bombs


def rezipped(path, compression, **more):
    """The file with its members compressed, and more members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | more
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_compressed_file_is_refused(trained, path):
    torch.save({**trained, "more": torch.zeros(2**20)}, path)
    rezipped(path, zipfile.ZIP_STORED)
    assert "1 unexpected: more" in refused(path)
    rezipped(path, zipfile.ZIP_DEFLATED)
    message = refused(path)
    assert re.search(r" has [\d,]{5} bytes and would unpack to 4,19\d,\d{3}\. ", message)
    assert "load it with torch.load and save it again" in message
    torch.save(torch.load(path), path)
    assert "1 unexpected: more" in refused(path)


def test_members_that_overlap_are_refused(trained, path):
    """Many entries of the directory refer to the same bytes."""
    torch.save({**trained, "more": torch.zeros(2**14)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist += [max(archive.filelist, key=lambda member: member.file_size)] * 100
        archive._didModify = True
    assert "would unpack to" in refused(path)


BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."  # of 2 GiB


@pytest.mark.parametrize("zipped", ZIPPED, ids=ZIPPED.values())
def test_a_bytearray_is_refused(zipped, trained, path):
    """A few bytes of the pickle could make it, of any size."""
    torch.save({"a": bytearray(3)}, path, _use_new_zipfile_serialization=zipped, pickle_protocol=2)
    assert "has a bytearray. Expected tensors and plain containers" in refused(path)
    if zipped:
        torch.save(trained, path)
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        rezipped(path, zipfile.ZIP_STORED, **{name: BYTEARRAY})
        assert "has a bytearray" in refused(path)


# ------------------------------------------------------------------------------ damaged files


@pytest.fixture(scope="module")
def whole(trained) -> dict[bool, bytes]:
    files = {}
    for zipped in ZIPPED:
        buffer = io.BytesIO()
        content = {"epoch": 3, "arch": "net", "state_dict": trained}
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        files[zipped] = buffer.getvalue()
    return files


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "model.pt"


def load_or_refuse(path) -> None:
    """All weights are loaded and finite, or a ValueError names the file and nothing changes."""
    model = randomised(Net(), seed=2)
    before = copied(model)
    error = None
    try:
        load_checkpoint(path, model)
    except ValueError as caught:
        error = caught
    after = copied(model)
    if error:
        assert type(error) is ValueError
        assert str(error).startswith(repr(str(path)))
        assert same(after, before)
    else:
        assert {n: (t.shape, t.dtype) for n, t in after.items()} == {
            n: (t.shape, t.dtype) for n, t in before.items()
        }
        assert all(tensor.isfinite().all() for tensor in after.values())


@pytest.mark.parametrize("zipped", ZIPPED, ids=ZIPPED.values())
def test_the_undamaged_file_is_loaded(zipped, whole, damaged, trained):
    damaged.write_bytes(whole[zipped])
    assert same(copied(load_checkpoint(damaged, Net())), trained)


@pytest.mark.parametrize("zipped", ZIPPED, ids=ZIPPED.values())
@settings(max_examples=80)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file(zipped, whole, damaged, share):
    content = whole[zipped]
    damaged.write_bytes(content[: int(share * len(content))])
    assert refused(damaged).startswith(f"{str(damaged)!r} cannot be read as a checkpoint: it ")


@pytest.mark.parametrize("zipped", ZIPPED, ids=ZIPPED.values())
@settings(max_examples=250)
@given(flips=st.dictionaries(st.floats(0, 1, exclude_max=True), st.integers(1, 255), min_size=1))
def test_a_file_with_flipped_bits(zipped, whole, damaged, flips):
    content = bytearray(whole[zipped])
    for share, bits in flips.items():
        content[int(share * len(content))] ^= bits
    damaged.write_bytes(content)
    load_or_refuse(damaged)


@settings(max_examples=60)
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"(dp0\n"]),
    rest=st.binary(max_size=200),
)
def test_a_file_of_random_bytes(start, rest, damaged):
    damaged.write_bytes(start + rest)
    refused(damaged)


NAMES = list(Net().state_dict())
EDITS = ("keep", "drop", "rename", "reshape", "nan", "text")


@settings(max_examples=150)
@given(few=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(EDITS)))
def test_a_state_dict_with_changed_entries(few, trained, damaged):
    edits = dict.fromkeys(NAMES, "keep") | few
    state: dict[str, object] = {}
    for name, tensor in trained.items():
        edit = edits[name]
        if edit == "rename":
            state[f"old.{name}"] = tensor
        elif edit == "reshape":
            state[name] = tensor[None]
        elif edit == "nan":
            state[name] = torch.full_like(tensor, torch.nan, dtype=torch.float32)
        elif edit == "text":
            state[name] = "weights"
        elif edit == "keep":
            state[name] = tensor
    torch.save(state, damaged)
    edited = {kind: [n for n in NAMES if edits[n] == kind] for kind in EDITS}
    missing = [n for n in NAMES if edits[n] in ("drop", "rename") and not n.endswith(COUNTER)]
    problems = {
        "missing": missing,
        "unexpected": [f"old.{name}" for name in edited["rename"]],
        "of another shape": edited["reshape"],
    }
    if not state:
        assert "got an empty dict" in refused(damaged)
    elif edited["text"]:
        assert f"under {edited['text'][0]!r} it has an object of type str" in refused(damaged)
    elif any(problems.values()):
        message = refused(damaged)
        for problem, names in problems.items():
            assert (f" {len(names)} {problem}: " in message) == bool(names)
            assert all(name in message for name in names[:5])
    elif edited["nan"]:
        assert f"has NaN or Inf in {edited['nan'][0]!r}" in refused(damaged)
    else:
        loaded = copied(load_checkpoint(damaged, Net()))
        assert same({n: loaded[n] for n in state}, {n: trained[n] for n in state})
