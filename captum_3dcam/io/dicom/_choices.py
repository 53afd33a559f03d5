"""What tells the series or volumes of a list apart, none of which identifies the patient."""

import numpy as np
from numpy.typing import ArrayLike


def tell_apart(own: dict[str, str], alike: list[dict[str, str]]) -> str:
    """The detail that differs in each of those alike, else all that are not the same in all.

    >>> echoes = [{"number": "SeriesNumber 3", "echo": f"EchoTime {time}"} for time in (5, 20)]
    >>> tell_apart(echoes[1], echoes)
    'EchoTime 20'
    """
    distinct = {name: len({details.get(name) for details in alike}) for name in own}
    telling = [name for name in own if distinct[name] == len(alike)][:1]
    return ", ".join(own[n] for n in telling or [n for n in own if distinct[n] > 1])


def format_position(lps: ArrayLike) -> str:
    """A position in mm to the patient's right, front and head.

    >>> format_position([10, -20.25, 0])
    '(-10.0, 20.2, 0.0) mm RAS'
    """
    x, y, z = np.asarray(lps, np.float64) * (-1, -1, 1) + 0.0  # no -0.0
    return f"({x:.1f}, {y:.1f}, {z:.1f}) mm RAS"
