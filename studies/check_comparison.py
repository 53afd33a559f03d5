"""Check every statement of docs/comparison.md by running the package that it is about.

The other packages do not belong in the environment (see ``_peers.py``). Install them beside it:

    make compare


It prints each statement with "holds", "DOES NOT HOLD" or "not installed", and exits with 1 if a
statement does not hold. ``tests/studies/test_check_comparison.py`` compares them with the page.
"""

import contextlib
import io
import sys
import warnings
from importlib import import_module
from importlib.metadata import version

import torch

from _peers import placeholder_for_torchvision
from comparison_statements import STATEMENTS, Statement

DISTRIBUTIONS = {  # name in the page: (distribution, module)
    "captum_3dcam": ("captum_3dcam", "captum_3dcam"),
    "Captum": ("captum", "captum"),
    "torch-cam": ("torchcam", "torchcam.methods"),
    "pytorch-grad-cam": ("grad-cam", "pytorch_grad_cam"),
    "MONAI": ("monai", "monai.visualize"),
    "M3d-Cam": ("medcam", "medcam.medcam"),
}


def is_installed(package: str) -> bool:
    with placeholder_for_torchvision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import_module(DISTRIBUTIONS[package][1])
        except Exception:  # whatever another package raises
            return False
    return True


def holds(statement: Statement) -> bool:
    """Run a check; what the package prints and warns is not shown."""
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with quiet[0], quiet[1], warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(statement.check())
        except Exception as error:  # whatever another package raises
            print(f"{statement}: {error!r}", file=sys.__stderr__)
            return False


def main() -> int:
    failed = 0
    for package, (distribution, _) in DISTRIBUTIONS.items():
        present = is_installed(package)
        print(f"\n{package} {version(distribution) if present else '(not installed)'}")
        for statement in [s for s in STATEMENTS if s.package == package]:
            result = None if not present else holds(statement)
            failed += result is False
            label = {None: "not installed", True: "holds", False: "DOES NOT HOLD"}[result]
            print(f"  {label:13}  {statement.text}")
    print(f"\n{len(STATEMENTS)} statements, {failed} of them do not hold.")
    return int(failed > 0)


if __name__ == "__main__":
    print(f"PyTorch {torch.__version__}")
    sys.exit(main())
