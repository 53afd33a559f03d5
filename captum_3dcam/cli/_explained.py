"""What is found in an input, whatever it is."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captum_3dcam.cli._explainer import Explainer, Said


class Explained(NamedTuple):
    """What was found in an input, and written of it."""

    about: dict[str, Any]
    """The input."""
    results: list[tuple[Said, dict[str, Any]]]
    """Each class, and where it is."""
    files: dict[str, Path]


def map_metadata(options: Namespace, explainer: Explainer, said: Sequence[Said]) -> dict[str, Any]:
    """What goes with the maps into ``map.npz``; the map of the first class comes first."""
    return {
        "input": str(options.input),
        "classes": [each.target for each in said],
        "names": [each.name for each in said],
        "layers": [layer.name for layer in explainer.cam.layers],
        "method": options.method,
    }


def name_of_file(stem: str, said: Said, several: bool) -> str:
    """``stem``, with the class where there are several.

    >>> name_of_file("overlay", Said(17, "golf", 1.0, 0.5, []), several=True)
    'overlay_17'
    """
    return f"{stem}_{said.target}" if several else stem
