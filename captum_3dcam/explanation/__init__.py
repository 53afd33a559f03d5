"""explain(): what a network says about an input, where it looked, and how to see it.

:func:`explain` takes a model and an image, a video, a volume or a tensor, and returns an
:class:`Explanation`, which shows itself in a notebook, localizes, and writes a report.
"""

from captum_3dcam._errors import ArgumentError, ModelError
from captum_3dcam.explanation._explain import explain
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._reading import Reading
from captum_3dcam.explanation._windows import Windows
from captum_3dcam.explanation.many import ExplainWorker, Outcome, Outcomes, explain_many

__all__ = [
    "ArgumentError",
    "ExplainWorker",
    "Explanation",
    "ModelError",
    "Outcome",
    "Outcomes",
    "Reading",
    "Windows",
    "explain",
    "explain_many",
]
