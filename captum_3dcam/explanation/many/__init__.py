"""Many inputs: a data set on one process or several, resumable, with a summary and a gallery."""

from captum_3dcam.explanation.many._journal import Outcome
from captum_3dcam.explanation.many._run import explain_many
from captum_3dcam.explanation.many._summary import Outcomes
from captum_3dcam.explanation.many._worker import ExplainWorker

__all__ = ["ExplainWorker", "Outcome", "Outcomes", "explain_many"]
