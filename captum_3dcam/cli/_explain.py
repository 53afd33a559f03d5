"""``captum-3dcam explain``: what INPUT is, and what is written of it, whatever it is."""

import platform
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import captum_3dcam
from captum_3dcam.cli._errors import WrongUseError
from captum_3dcam.cli._explained import Explained
from captum_3dcam.cli._explainer import Explainer, Said
from captum_3dcam.cli._parser import Target
from captum_3dcam.cli._writing import as_json, write_text

_IMAGES = (".bmp", ".jpg", ".jpeg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_VOLUMES = (".nii", ".nii.gz", ".dcm")
_AXES = {"image": 2, "video": 3, "volume": 3}
_ONLY = {
    "boundaries": ("video",),
    "overlay": ("video",),
    "series": ("volume",),
    "orientation": ("volume",),
    "spacing": ("volume",),
    "clip": ("volume",),
    "normalize": ("volume",),
    "scale": ("image", "video"),
    "mean": ("image", "video"),
}
"""Options of some kinds of input only."""


def run(options: Namespace) -> None:
    """Explain, write, and print the report or a summary of it."""
    kind = kind_of(options.input)
    _check(options, kind)
    explainer = Explainer.of(options)
    with _folder(options) as folder:
        explain = import_module(f"captum_3dcam.cli._{kind}").explain
        found: Explained = explain(options, explainer, folder)
        text = as_json(_report(options, kind, explainer, found))
        path = folder / "report.json"
        write_text(path, text)
    print(text if options.json else _summary(found, path))


def kind_of(path: Path) -> str:
    """``"image"``, ``"video"`` or ``"volume"``; what has no known suffix is taken for a video.

    Raises WrongUseError if nothing is there.

    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile(suffix=".nii.gz") as file:
    ...     kind_of(Path(file.name))
    'volume'
    """
    if not path.exists():
        raise WrongUseError(f"There is no file or folder {str(path)!r}.")
    name = path.name.lower()
    if path.is_dir() or name.endswith(_VOLUMES):
        return "volume"
    return "image" if name.endswith(_IMAGES) else "video"


# -------------------------------------------------------------------------------- at the door


def _check(options: Namespace, kind: str) -> None:
    for name, kinds in _ONLY.items():
        if getattr(options, name) is not None and kind not in kinds:
            raise WrongUseError(
                f"--{name} is for {' and '.join(kinds)} input; INPUT is {_an(kind)}."
            )
    for name in ("window", "stride"):
        given = getattr(options, name)
        if given is not None and len(given) > _AXES[kind]:
            raise WrongUseError(
                f"--{name} {' '.join(map(str, given))}: {_an(kind)} has {_AXES[kind]} axes."
            )
    if options.stride is not None and options.window is None and kind != "video":
        raise WrongUseError("--stride needs --window, from one to the next of which it leads.")
    if options.target.each and options.window is None and kind != "video":
        raise WrongUseError("--target each needs --window.")


def _an(kind: str) -> str:
    return f"{'an' if kind == 'image' else 'a'} {kind}"


@contextmanager
def _folder(options: Namespace) -> Iterator[Path]:
    """The folder to write to; one that was made is gone if nothing came into it."""
    folder: Path = options.output or Path(f"{_stem(options.input)}_explained")
    existed = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise WrongUseError(f"--output {folder}: a file of that name is in the way.") from error
    try:
        yield folder
    except BaseException:
        if not existed:
            with suppress(OSError):  # there is something in it
                folder.rmdir()
        raise


def _stem(path: Path) -> str:
    """The name without its suffix; that of a folder as it is.

    >>> _stem(Path("scans/head.nii.gz")), _stem(Path("my.clip.mp4"))
    ('head', 'my.clip')
    """
    name = path.absolute().name
    return name if path.is_dir() else Path(name.removesuffix(".gz")).stem


# ----------------------------------------------------------------------------------- the report


def _report(
    options: Namespace, kind: str, explainer: Explainer, found: Explained
) -> dict[str, Any]:
    return {
        "input": {"path": str(options.input), "kind": kind, **found.about},
        "model": {
            "name": options.model,
            "arguments": options.model_args,
            "checkpoint": options.checkpoint and str(options.checkpoint),
            "layers": [layer.name for layer in explainer.cam.layers],
        },
        "results": [{**said.report(), **places} for said, places in found.results],
        "files": {name: str(path) for name, path in found.files.items()},
        "settings": _settings(vars(options)),
        "versions": {
            "python": platform.python_version(),
            "captum_3dcam": captum_3dcam.__version__,
            **{name: version(name) for name in ("torch", "captum", "numpy")},
        },
    }


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as JSON has it, without those that only say how to print."""
    said = {name: value for name, value in options.items() if name not in ("json", "debug")}
    return {name: _plain(value) for name, value in said.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Target):
        return asdict(value)
    return str(value) if isinstance(value, Path) else value


def _summary(found: Explained, report: Path) -> str:
    lines = [_line(said, places) for said, places in found.results]
    names = [path.name for path in (*found.files.values(), report)]
    return "\n".join([*lines, f"wrote {', '.join(names)} into {report.parent}"])


def _line(said: Said, places: Mapping[str, Any]) -> str:
    number = "" if said.target is None or said.name == f"class {said.target}" else f"{said.target} "
    words = [f"{number}{said.name}: score {said.score:.2f}, probability {said.probability:.2f}"]
    if places.get("peak"):
        voxel = ", ".join(map(str, places["peak"]["voxel"]))
        world = ", ".join(f"{x:.1f}" for x in places["peak"]["mm"])
        words.append(f"peak at voxel ({voxel}), {world} mm RAS")
    if places.get("boxes"):
        words.append(f"box {_corners(places['boxes'][0]['box'])}")
    if places.get("tubes"):
        tube = places["tubes"][0]
        words.append(f"tube over frames {tube['start']} to {tube['end'] - 1}")
    if not places.get("boxes") and not places.get("tubes"):
        words.append("the map is zero")
    return "; ".join(words)


def _corners(box: Sequence[float]) -> str:
    return ", ".join(f"{x:.0f}" for x in box)
