import numpy as np
import pytest
import torch
from explain_command import MODEL, SEED
from PIL import Image

from captum_3dcam.explanation import _saving
from captum_3dcam.explanation._figures import draw


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the models of explain_command in model.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    torch.set_num_threads(1)
    return tmp_path


@pytest.fixture
def figures(figures_not_written, monkeypatch):
    """The figures of the last result by their names."""
    drawn = {}

    def draw_and_keep(explanation):
        drawn.clear()
        for name, figure in draw(explanation):
            drawn[name] = figure
            yield name, figure

    monkeypatch.setattr(_saving, "draw", draw_and_keep)
    return drawn


@pytest.fixture
def image_file(folder):
    """A path and its pixels."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("image.png")
    return "image.png", torch.from_numpy(pixels)
