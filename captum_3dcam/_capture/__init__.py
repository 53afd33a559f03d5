"""Layers -> their factors for a target: one forward and one backward pass, by hooks."""

from captum_3dcam._capture.recording import Recording, record

__all__ = ["Recording", "record"]
