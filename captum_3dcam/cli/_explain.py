"""``captum-3dcam explain``: check the options, explain the input, write the files and a report."""

from argparse import Namespace
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
from captum_3dcam.cli._result_folder import REPORT, fingerprint, result_folder
from captum_3dcam.io import dicom_kind, save_map
from captum_3dcam.io.kinds import KINDS, input_kind

_AXES = {"image": 2, "video": 3, "volume": 3}
_VIDEO_WINDOW = (16,)  # frames
_KINDS_OF_OPTION = {
    **dict.fromkeys(("start", "end", "every", "frames", "fps", "boundaries"), ("video",)),
    "overlay": ("video",),
    **dict.fromkeys(("index", "channel_files", "nan"), ("volume",)),
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
    kind = _kind(options)
    _check_options(options, kind)
    model = load_model(options)
    explainer = make_explainer(options, model, _VIDEO_WINDOW if kind == "video" else None)
    identity = fingerprint([options.input, *(options.channel_files or ())])
    with result_folder(options.output, _default_folder(options.input, kind), identity) as folders:
        source = _read(kind, options, model)
        explanation = _explain(source, explainer, folders.staging)
        facts = {"kind": kind, "fingerprint": identity, **source.describe(explanation.maps)}
        model_facts = {
            "preprocessing": source.preprocessing,
            "layers": [layer.name for layer in explainer.cam.layers],
        }
        files = {"map": folders.staging / "map.npz"}
        save_map(
            explanation.maps, files["map"], _metadata(options, facts, model_facts, explanation)
        )
        files |= source.write(explanation, folders.staging)
        report = to_json(make_report(options, facts, model_facts, explanation, files))
        write_text(folders.staging / REPORT, report)
    names = [*(path.name for path in files.values()), REPORT]
    print(report if options.json else summarize(explanation, names, folders.result))


def _kind(options: Namespace) -> str:
    """The kind of ``--kind``, or that of the input's content."""
    if not options.input.exists():
        raise UsageError(f"There is no file or folder {str(options.input)!r}.")
    if options.kind is not None:
        return str(options.kind)
    try:
        return input_kind(options.input)
    except ValueError as error:
        raise UsageError(f"{error} (--kind {'|'.join(KINDS)})") from error


def _check_options(options: Namespace, kind: str) -> None:
    a_kind = f"{'an' if kind == 'image' else 'a'} {kind}"
    for name, kinds in _KINDS_OF_OPTION.items():
        if getattr(options, name) is not None and kind not in kinds:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is for {' and '.join(kinds)} input; INPUT is {a_kind}.")
    for name in ("window", "stride"):
        sizes = getattr(options, name)
        if sizes is not None and len(sizes) > _AXES[kind]:
            raise UsageError(
                f"--{name} {' '.join(map(str, sizes))}: {a_kind} has {_AXES[kind]} axes."
            )
    if options.output is not None and _is_same(options.output, options.input):
        raise UsageError("--output is INPUT itself. Pass another folder.")
    if options.window is None and kind != "video":
        if options.stride is not None:
            raise UsageError("--stride needs --window.")
        if options.target.each:
            raise UsageError("--target each needs --window.")


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and path.samefile(other)


def _default_folder(path: Path, kind: str) -> str:
    """The folder's name; not that of a scan or a DICOM file, which may be a patient's."""
    try:
        is_medical = kind == "volume" or dicom_kind(path) is not None
    except ValueError:  # a file that only its suffix calls DICOM
        is_medical = True
    return "scan_explained" if is_medical else f"{_stem(path)}_explained"


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
    options: Namespace,
    facts: dict[str, Any],
    model_facts: dict[str, Any],
    explanation: Explanation,
) -> dict[str, Any]:
    """The metadata of the maps."""
    return {
        **({"input": str(options.input)} if options.keep_names else {}),
        "classes": [prediction.target for prediction in explanation.predictions],
        "names": [prediction.name for prediction in explanation.predictions],
        **model_facts,
        "method": options.method,
        **facts,
    }
