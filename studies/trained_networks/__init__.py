"""The package of this name in ``examples``: a script has only its own folder on the path."""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "examples" / "trained_networks")]
