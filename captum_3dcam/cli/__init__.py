"""The command line: ``captum-3dcam explain``, ``layers`` and ``evaluate``.

A command imports what it needs when it runs: of the optional packages only those that its input
asks for, and nothing heavy for ``--help``.
"""

from captum_3dcam.cli._run import main

__all__ = ["main"]
