"""The notebooks of the docs: they run as a reader runs them, and show a figure and the viewer."""

import importlib.util
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
read = pytest.importorskip("myst_nb.core.read")

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
NEEDED = {
    "video_recogniser": ["skvideo", "av"],
    "long_video": ["skvideo", "av"],
    "ct_classifier": ["monai", "nibabel"],
    "transformers": ["timm", "transformers"],
    "layer_grad_cam": ["efficientnet_lite_pytorch", "skimage"],
    "evaluate": [],
}
WITHOUT_VIEWER = {"long_video"}  # of 250 frames, the page would be large


def is_installed(name: str) -> bool:
    from zoo_networks import FOLDER

    return bool(importlib.util.find_spec(name)) or (FOLDER / name).is_dir()


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.md")))
def test_a_notebook_shows_a_figure_and_the_viewer(name, monkeypatch):
    if missing := [module for module in NEEDED[name] if not is_installed(module)]:
        pytest.skip(f"not installed: {missing}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = NOTEBOOKS / f"{name}.md"
    notebook = read.read_myst_markdown_notebook(path.read_text(), path=str(path))
    folder = {"metadata": {"path": str(NOTEBOOKS)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=folder).execute()

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    shown = [output.data for output in outputs if "data" in output]
    assert any("image/png" in data for data in shown)
    viewers = [data["text/html"] for data in shown if "<iframe" in data.get("text/html", "")]
    assert bool(viewers) == (name not in WITHOUT_VIEWER)
    assert all("c3d-viewer" in viewer and len(viewer) < 1_000_000 for viewer in viewers)
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Warning" not in printed
