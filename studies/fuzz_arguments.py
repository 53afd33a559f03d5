"""Call public functions with junk arguments: is each error one that says what to do?

Each case takes one valid call of a public class or function of ``functional``, ``layers``,
``localization``, ``metrics`` or ``visualization`` and replaces arguments by junk: other types,
tensors of other shapes and dtypes, NaN, and the valid argument with an axis more or less. A case
holds if the call works, or if it raises a TypeError, ValueError, IndexError or FileNotFoundError by
a ``raise`` statement of this package. Anything else is a failure: an AttributeError, or an error of
PyTorch, NumPy or Matplotlib that shows through.

    python studies/fuzz_arguments.py --seed 1 --cases 30000
    python studies/fuzz_arguments.py --seed 2 --seconds 60

The case ``seed-number`` of a failure is the same in every run. Sizes that exceed the memory are
legal, and are not tried.
"""

import dis
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from time import monotonic
from traceback import extract_tb
from typing import Any

import numpy as np
import torch
from torch import Tensor

import captum_3dcam
from _arguments import at_least, make_parser
from _fuzz_calls import Call, valid_calls
from captum_3dcam import localization
from captum_3dcam._validation import show

DOCUMENTED = (TypeError, ValueError, IndexError, FileNotFoundError)
PACKAGE = str(Path(captum_3dcam.__file__).parent)
MESSAGE_LENGTHS = range(20, 1500)
SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (0,),
    (3,),
    (2, 4),
    (2, 0),
    (0, 4),
    (4, 4),
    (1, 1, 4),
    (2, 5, 6),
    (1, 1, 4, 4),
    (2, 3, 4, 4),
    (1, 1, 2, 4, 4),
    (1, 1, 0, 4, 4),
    (1, 1, 2, 2, 2, 2),
)
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.int16,
    torch.bool,
    torch.complex64,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    0.5,
    -0.5,
    1e-9,
    1e9,
    float("nan"),
    float("inf"),
    1j,
    "",
    "junk",
    "0.5",
    r"$\frac{$",
    "_",
    b"junk",
    [],
    (),
    {},
    set(),
    [1, 2],
    (0.5, 0.7),
    [1.5, "a"],
    [None],
    [[1], [1, 2]],
    {"segments": None},
    range(2),
    slice(2),
    object(),
    type,
    len,
    Path("missing/junk"),
    np.float64(0.5),
    np.int64(2),
    np.array("junk"),
    np.array([object()]),
    np.array(2),
    localization.Segment(0, 1, 0.5),
    localization.Boxes(torch.zeros(0, 4), torch.zeros(0)),
    localization.Boxes(None, "junk"),  # type: ignore[arg-type]
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--cases", type=at_least(1), default=3000, help="the most to try")
    parser.add_argument("--seconds", type=at_least(1), default=600, help="the longest to take")
    options = parser.parse_args(arguments)
    tried, failures = fuzz(options.seed, options.cases, options.seconds)
    distinct = Counter(text.partition(": ")[2] for text in failures)
    first = {text.partition(": ")[2]: text for text in reversed(failures)}
    for text, times in distinct.most_common():
        print(f"{times} x {first[text]}")
    print(f"{tried} cases: {tried - len(failures)} held, {len(failures)} failed")
    return 1 if failures else 0


def run(seed: int, seconds: float) -> tuple[int, list[str]]:
    """The number of cases tried, and a text for each distinct failure."""
    tried, failures = fuzz(seed, None, seconds)
    return tried, list({text.partition(": ")[2]: text for text in failures}.values())


def fuzz(seed: int, cases: int | None, seconds: float) -> tuple[int, list[str]]:
    """Up to so many cases, until the time is over: how many, and a text for each failure."""
    torch.manual_seed(seed)
    calls = valid_calls()
    names, failures, end = sorted(calls), [], monotonic() + seconds
    for number in count():
        if number == cases or monotonic() > end:
            break
        generator = random.Random(f"{seed}-{number}")  # noqa: S311  no secret
        name = names[number % len(names)]
        function, arguments = make_case(calls[name], generator)
        problem = problem_of(function, arguments)
        if problem is not None:
            given = ", ".join(f"{key}={show(value)}" for key, value in arguments.items())
            failures.append(f"case {seed}-{number}: {name}: {problem} {chr(10)}    {given}")
    return number, failures


def make_case(call: Call, generator: random.Random) -> Call:
    """The call with junk for one or more of its arguments, in one of ten cases for none."""
    function, valid = call
    names = sorted(valid)
    junk_count = generator.choice((0, 1, 1, 1, 1, 1, 1, 2, 2, 3))
    replaced = generator.sample(names, min(junk_count, len(names)))
    junk = {name: make_junk(valid[name], generator) for name in replaced}
    return function, valid | junk


def problem_of(function: Callable[..., Any], arguments: dict[str, Any]) -> str | None:
    """What was raised, and where, if that is no error of this package; None if the case holds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)  # NumPy computed with junk
            function(**arguments)
    except Exception as error:  # whatever a function raises for junk
        if isinstance(error, DOCUMENTED) and is_raised_by_package(error):
            if len(str(error)) in MESSAGE_LENGTHS:
                return None
            return f"a message of {len(str(error))} characters: {str(error)[:80]}"
        stack = [frame for frame in extract_tb(error.__traceback__) if PACKAGE in frame.filename]
        where = f"{Path(stack[-1].filename).name}:{stack[-1].lineno}" if stack else "outside"
        return f"{type(error).__name__} at {where}: {str(error)[:200]}"
    return None


def is_raised_by_package(error: Exception) -> bool:
    """Whether the last frame is of this package, and at a ``raise`` statement."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    code = traceback.tb_frame.f_code
    operation = dis.opname[code.co_code[traceback.tb_lasti]]
    return code.co_filename.startswith(PACKAGE) and operation == "RAISE_VARARGS"


# ---------------------------------------------------------------------------------------- junk


def make_junk(valid: Any, generator: random.Random) -> Any:
    """Something else: of another kind, a tensor or array, or the valid value with a change."""
    kind = generator.random()
    if kind < 0.4:
        return generator.choice(VALUES)
    if kind < 0.6:
        return _junk_tensor(generator)
    return _changed(valid, generator)


def _junk_tensor(generator: random.Random) -> Any:
    shape, dtype = generator.choice(SHAPES), generator.choice(DTYPES)
    seed = torch.Generator().manual_seed(generator.randrange(2**32))
    tensor = (4 * torch.rand(shape, generator=seed)).to(dtype)
    changes: tuple[Callable[[Tensor], Any], ...] = (
        *[lambda x: x] * 4,
        lambda x: x * float("nan") if x.is_floating_point() else x,
        lambda x: x.requires_grad_() if x.is_floating_point() else x,
        lambda x: x.to_sparse() if x.ndim else x,
        lambda x: x.float().numpy() if not x.is_complex() else x.numpy(),
        lambda x: [x, x],
        lambda x: x.tolist(),
    )
    return generator.choice(changes)(tensor)


def _changed(valid: Any, generator: random.Random) -> Any:
    if isinstance(valid, Tensor):
        return _changed_tensor(valid, generator)
    if isinstance(valid, dict) and valid:
        key = generator.choice(list(valid))
        return {**valid, key: make_junk(valid[key], generator)}
    if isinstance(valid, (list, tuple)) and type(valid) in (list, tuple) and valid:
        index = generator.randrange(len(valid))
        changes: tuple[Callable[[], Any], ...] = (
            lambda: valid[:-1],
            lambda: [*valid, valid[0]],
            lambda: [*valid[:index], make_junk(valid[index], generator), *valid[index + 1 :]],
            lambda: iter(valid),
            lambda: [valid],
            lambda: valid[index],
        )
        return generator.choice(changes)()
    if isinstance(valid, (int, float)):
        return generator.choice((-valid, valid * 100, str(valid), [valid], torch.tensor(valid)))
    return generator.choice((str(valid), [valid], valid))


def _changed_tensor(valid: Tensor, generator: random.Random) -> Any:
    axis = generator.randrange(valid.ndim) if valid.ndim else 0
    changes: tuple[Callable[[Tensor], Any], ...] = (
        lambda x: x[None],
        lambda x: x[..., None],
        lambda x: x[0] if len(x) else x,
        lambda x: x.narrow(axis, 0, 0),
        lambda x: x.narrow(axis, 0, 1),
        lambda x: torch.cat([x, x], dim=axis),
        lambda x: x.to(generator.choice(DTYPES)),
        lambda x: x.to(torch.float32) * float("nan"),
        lambda x: x.to(torch.float32) * float("inf"),
        lambda x: -x.to(torch.float32),
        lambda x: x.numpy(),
        lambda x: x.tolist(),
        lambda x: x.to_sparse(),
        lambda x: x.float().clone().requires_grad_(),
        lambda x: x * 0,
    )
    return generator.choice(changes)(valid) if valid.ndim else valid[None]


if __name__ == "__main__":
    sys.exit(main())
