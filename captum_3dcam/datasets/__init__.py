"""Data with localisation truth, as :class:`torch.utils.data.Dataset`."""

from captum_3dcam.datasets.actions import (
    ACTIONS,
    ActionClip,
    ActionVideo,
    SyntheticActions,
    SyntheticActionVideos,
    freeze,
)

__all__ = [
    "ACTIONS",
    "ActionClip",
    "ActionVideo",
    "SyntheticActionVideos",
    "SyntheticActions",
    "freeze",
]
