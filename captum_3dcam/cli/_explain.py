"""``captum-3dcam explain``: check the options, explain the input, write the files and a report."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from captum_3dcam.cli._errors import UsageError
from captum_3dcam.cli._explainer import Explainer, make_explainer
from captum_3dcam.cli._explanation import Explanation, Source
from captum_3dcam.cli._model import load_model
from captum_3dcam.cli._output import to_json, write_text
from captum_3dcam.cli._report import make_report, summarize
from captum_3dcam.io import save_map

_IMAGES = (".bmp", ".jpg", ".jpeg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_VOLUMES = (".nii", ".nii.gz", ".dcm")
_AXES = {"image": 2, "video": 3, "volume": 3}
_VIDEO_WINDOW = (16,)  # frames
_KINDS_OF_OPTION = {
    "boundaries": ("video",),
    "overlay": ("video",),
    "series": ("volume",),
    "orientation": ("volume",),
    "spacing": ("volume",),
    "clip": ("volume",),
    "normalize": ("volume",),
    "crop": ("image", "video"),
    "mean": ("image", "video"),
    "std": ("image", "video"),
    "channels": ("image", "video"),
}
"""The kinds of input of the options that are not for all of them."""


def run(options: Namespace) -> None:
    """Explain the input, write the files, and print the report or a summary."""
    kind = kind_of(options.input)
    _check_options(options, kind)
    model = load_model(options)
    explainer = make_explainer(options, model, _VIDEO_WINDOW if kind == "video" else None)
    with _output_folder(options) as folder:
        source = _read(kind, options, model)
        explanation = _explain(source, explainer, folder)
        facts = {"kind": kind, **source.describe(explanation.maps)}
        layers = [layer.name for layer in explainer.cam.layers]
        files = {"map": folder / "map.npz"}
        save_map(explanation.maps, files["map"], _metadata(options, facts, layers, explanation))
        files |= source.write(explanation, folder)
        report = to_json(make_report(options, facts, layers, explanation, files))
        write_text(folder / "report.json", report)
    paths = [*files.values(), folder / "report.json"]
    print(report if options.json else summarize(explanation, paths))


def kind_of(path: Path) -> str:
    """``"image"``, ``"video"`` or ``"volume"``; a file of unknown suffix is taken as a video.

    Raises UsageError if the file does not exist.

    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile(suffix=".nii.gz") as file:
    ...     kind_of(Path(file.name))
    'volume'
    """
    if not path.exists():
        raise UsageError(f"There is no file or folder {str(path)!r}.")
    name = path.name.lower()
    if path.is_dir() or name.endswith(_VOLUMES):
        return "volume"
    return "image" if name.endswith(_IMAGES) else "video"


def _check_options(options: Namespace, kind: str) -> None:
    a_kind = f"{'an' if kind == 'image' else 'a'} {kind}"
    for name, kinds in _KINDS_OF_OPTION.items():
        if getattr(options, name) is not None and kind not in kinds:
            raise UsageError(f"--{name} is for {' and '.join(kinds)} input; INPUT is {a_kind}.")
    for name in ("window", "stride"):
        sizes = getattr(options, name)
        if sizes is not None and len(sizes) > _AXES[kind]:
            raise UsageError(
                f"--{name} {' '.join(map(str, sizes))}: {a_kind} has {_AXES[kind]} axes."
            )
    if options.window is None and kind != "video":
        if options.stride is not None:
            raise UsageError("--stride needs --window.")
        if options.target.each:
            raise UsageError("--target each needs --window.")


@contextmanager
def _output_folder(options: Namespace) -> Iterator[Path]:
    """The folder to write to; if it is new, it is removed when nothing was written."""
    folder: Path = options.output or Path(f"{_stem(options.input)}_explained")
    existed = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--output {folder}: a file of that name exists.") from error
    try:
        yield folder
    except BaseException:
        if not existed:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


def _stem(path: Path) -> str:
    """The name without its suffix; that of a folder as it is.

    >>> _stem(Path("scans/head.nii.gz")), _stem(Path("my.clip.mp4"))
    ('head', 'my.clip')
    """
    name = path.absolute().name
    return name if path.is_dir() else Path(name.removesuffix(".gz")).stem


def _read(kind: str, options: Namespace, model: nn.Module) -> Source:
    module = import_module(f"captum_3dcam.cli._{kind}")
    source: Source = getattr(module, f"{kind.title()}Source")(options, model)
    return source


def _explain(source: Source, explainer: Explainer, folder: Path) -> Explanation:
    predictions, maps = source.explain(explainer, folder)
    return Explanation(predictions, maps, [source.localize(heat_map) for heat_map in maps])


def _metadata(
    options: Namespace, facts: dict[str, Any], layers: list[str], explanation: Explanation
) -> dict[str, Any]:
    """The metadata of the maps."""
    return {
        "input": str(options.input),
        "classes": [prediction.target for prediction in explanation.predictions],
        "names": [prediction.name for prediction in explanation.predictions],
        "layers": layers,
        "method": options.method,
        **facts,
    }
