"""The command line: ``captum-3dcam explain``, ``layers`` and ``evaluate``.

A command's modules are imported when it runs, so that it needs only the optional packages of its
input, and ``--help`` imports nothing heavy.
"""

from captum_3dcam.cli._entry_point import main

__all__ = ["main"]
