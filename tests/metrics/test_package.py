"""What importing the metrics costs, and what is missing without torchmetrics."""

import subprocess
import sys

import pytest

from captum_3dcam import metrics


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_the_functions_are_imported_without_the_heavy_packages():
    code = (
        "import sys, captum_3dcam; print('captum_3dcam.metrics' in sys.modules)\n"
        "from captum_3dcam import metrics\n"
        "print(*(name in sys.modules for name in ('torchmetrics', 'scipy.ndimage', 'cv2')))\n"
        "print('MaxBoxAcc' in dir(metrics), metrics.MaxBoxAcc.__name__)"
    )
    assert run(code) == ["False"] * 4 + ["True", "MaxBoxAcc"]


def test_without_torchmetrics_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "captum_3dcam.metrics.torchmetrics_classes", raising=False)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(ImportError, match=r"pip install 'captum_3dcam\[metrics\]'"):
        metrics.PxAP  # noqa: B018
    assert metrics.px_ap is not None


def test_all_names_are_there():
    for name in metrics.__all__:
        assert getattr(metrics, name) is not None
    with pytest.raises(AttributeError, match="'captum_3dcam.metrics' has no attribute 'MaxBox'"):
        metrics.MaxBox  # noqa: B018
