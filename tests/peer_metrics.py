"""The metrics of pytorch-grad-cam 1.5.7, for the tests that compare with them."""

import importlib
import warnings

import pytest

import _peers


def peer_module(name):
    """A module of pytorch_grad_cam; the test is skipped where it is not installed."""
    with _peers.placeholder_for_torchvision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"pytorch_grad_cam.{name}")
        except ImportError as error:
            pytest.skip(f"pytorch_grad_cam: {error}")
