"""Captum's private helpers: all that this package takes of them is imported here."""

from captum._utils.common import (
    _expand_additional_forward_args as expand_additional_forward_args,
)
from captum._utils.common import (
    _format_additional_forward_args as format_additional_forward_args,
)
from captum._utils.common import (
    _format_tensor_into_tuples as format_tensor_into_tuples,
)
from captum._utils.common import (
    _run_forward as run_forward,
)
from captum._utils.common import (
    _select_targets as select_targets,
)
from captum._utils.common import (
    _sort_key_list as sort_key_list,
)

__all__ = [
    "expand_additional_forward_args",
    "format_additional_forward_args",
    "format_tensor_into_tuples",
    "run_forward",
    "select_targets",
    "sort_key_list",
]
