"""Seeded cases, one after the other until the time is over."""

import traceback
from collections.abc import Callable
from time import monotonic

MAX_CASES = 10**6  # of one seed; the cases of the next seed have the next numbers


def run_cases(check: Callable[[int], None], seed: int, seconds: float) -> tuple[int, list[str]]:
    """The number of cases tried, and the failures' texts. ``check`` raises if a case fails."""
    failures, tried, end = [], 0, monotonic() + seconds
    while monotonic() < end and tried < MAX_CASES:
        case = seed * MAX_CASES + tried
        problem = problem_of(check, case)
        if problem is not None:
            failures.append(f"case {case}: {problem}")
        tried += 1
    return tried, failures


def problem_of(check: Callable[[int], None], case: int) -> str | None:
    """What the check raised, and where; None if it held."""
    try:
        check(case)
    except Exception as error:  # the case failed, in whatever way
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, AssertionError) else f" ({frame.name}:{frame.lineno})"
        return f"{type(error).__name__}: {error}{where}"
    return None
