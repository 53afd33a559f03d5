"""docs/your_model.md: its snippets run, and name every family of the zoo."""

import re
from pathlib import Path

import pytest
import torch

from zoo_networks import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "your_model.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore")
def test_the_snippets_run():
    torch.manual_seed(0)
    names = {}
    try:
        for code in BLOCKS:
            exec(compile(code, str(PAGE), "exec"), names)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed: make test installs it")
    assert names["cam"].layers


def test_every_family_is_on_the_page():
    text = PAGE.read_text().lower()
    for name in FAMILIES:
        kind = (
            name.split()[-1] if name.split()[0] in ("timm", "torchvision", "transformers") else name
        )
        assert kind.lower() in text or name == "DenseNet121-3D", name
