"""Random networks, values, arguments, files and interrupts: does the package stay right?

Each kind tries random cases for a limited time, and fails where a result is not as an independent
derivation has it, where an error is not one of the package's own, or where a state has changed. The
cases follow from the seed; how many are tried depends on the machine. The exit status is 1 if one
fails. Its number is in the text, so that `check(number)` of the kind's module repeats it.

    python studies/fuzz.py --seconds 60
    python studies/fuzz.py --kinds networks values --seed 7 --seconds 600
"""

import sys
from collections.abc import Sequence
from importlib import import_module

import torch

from _arguments import at_least, make_parser
from _report import table

KINDS = {
    "networks": "_fuzz_networks",
    "values": "_fuzz_values",
    "arguments": "fuzz_arguments",
    "files": "_fuzz_files",
    "interrupts": "_fuzz_interrupts",
}
"""By kind, the module whose ``run(seed, seconds)`` gives the cases tried and the failures."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the cases (default: 0)")
    parser.add_argument("--seconds", type=at_least(1), default=60, help="a kind (default: 60)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
        help=f"{', '.join(KINDS)} (default: all)")  # fmt: skip
    options = parser.parse_args(arguments)
    rows, texts = [], []
    for kind in options.kinds:
        tried, failures = import_module(KINDS[kind]).run(options.seed, options.seconds)
        rows.append((kind, tried, tried - len(failures), len(failures)))
        texts += [f"{kind}: {failure}" for failure in failures]
    print(table(("kind", "cases", "held", "failures"), rows))
    for text in texts:
        print(f"\n{text}")
    return int(bool(texts))


if __name__ == "__main__":
    torch.set_num_threads(1)  # faster for what is small
    sys.exit(main())
