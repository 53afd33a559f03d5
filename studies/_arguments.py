"""What the studies' command lines share."""

import argparse
from collections.abc import Callable


def make_parser(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, as it is laid out there."""
    return argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def at_least(minimum: int) -> Callable[[str], int]:
    """The ``type`` of an option that is an integer of at least so much.

    >>> at_least(1)("8")
    8
    """

    def convert(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(
                f"expected an integer of at least {minimum}; got {text!r}"
            )
        return int(text)

    return convert
