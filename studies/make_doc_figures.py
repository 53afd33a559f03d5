"""All figures of the docs, made anew by the commands that stand beside them.

    python studies/make_doc_figures.py                  # about 20 minutes
    python studies/make_doc_figures.py fusions volume   # some

Those of the how-to pages are drawn here; the others are what the examples write, smaller and with
at most 256 colours. ``benchmark.py`` makes benchmark_growth.png, ``viewer_screenshots.py`` the
screenshots of the viewer, and ``animate_directions.py`` the animation.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import _how_to_figures
from _arguments import make_parser

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "examples"))
MAX_WIDTH = 900  # pixels; the pages are narrower
MAX_BYTES = 250_000
# What each script writes, by the name in the docs.
SCRIPTS = {
    "explain_video": {"demo": "cut_0136_3dcam", "demo_counterfactual": "cut_0136_counterfactual"},
    "explain_actions": {"actions": "actions", "actions_boxes": "actions_up"},
    "explain_directions": {"directions": "directions"},
    "explain_image": {"image_classes": "chelsea_classes", "image_layers": "chelsea_layers"},
    "explain_long_video": {"long_video": "long_video"},
    "explain_transformer": {"transformer": "transformer"},
    "explain_volume": {"volume": "volume"},
    "compare_with_captum": {"compare_with_captum": "compare_with_captum"},
    "smoothgrad_cam": {"smoothgrad": "smoothgrad"},
    "evaluate_counterfactual": {"counterfactual": "counterfactual"},
    "evaluate_sanity": {"sanity": "sanity"},
    "draw_multilabel": {"multilabel": "multilabel"},
}
NAMES = [*_how_to_figures.FIGURES, *(name for each in SCRIPTS.values() for name in each)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(NAMES)}")
    add("--output", type=Path, default=ROOT / "docs" / "images", help="(default: docs/images)")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no figure is named {unknown[0]!r}; there are {', '.join(NAMES)}")
    requested = options.names or NAMES
    options.output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        for name, draw in _how_to_figures.FIGURES.items():
            if name in requested:
                draw().savefig(Path(folder) / name, dpi=100)
                reduce(Path(folder) / f"{name}.png", options.output / f"{name}.png")
        for script, figures in SCRIPTS.items():
            if chosen := {name: file for name, file in figures.items() if name in requested}:
                import_module(script).main(["--output", folder])
                for name, file in chosen.items():
                    reduce(Path(folder) / f"{file}.png", options.output / f"{name}.png")


def reduce(source: Path, path: Path) -> None:
    """Write a figure with the size and the colours that a page needs."""
    with Image.open(source) as image:
        original = image.convert("RGB")
    for width in range(MAX_WIDTH, MAX_WIDTH // 2, -50):
        reduced = original.copy()
        reduced.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
        # The few bright colours of a map count as much as the many greys below it.
        reduced.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        if path.stat().st_size < MAX_BYTES:
            break
    print(f"Wrote {path.name}, {path.stat().st_size / 1000:.0f} kB.", flush=True)


if __name__ == "__main__":
    main()
