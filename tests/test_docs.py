"""Every Python block of the README and the docs runs, each page from top to bottom."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [code for name, code in BLOCK.findall(page.read_text()) if name == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)
    if page.name == "README.md":
        assert names["attribution"].shape == (1, 1, 16, 32, 32)
        assert names["maps"].shape == (1, 3, 16, 32, 32)
        assert names["attribution"].any()
        assert {path.name for path in tmp_path.iterdir()} == {"strip.png", "map.gif"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_commands_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for block in blocks(ROOT / "README.md", "sh"):
        for line in block.splitlines():
            words = line.split()
            if words[:1] == ["make"]:
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), line
            if words[:1] == ["python"]:
                assert (ROOT / words[1]).is_file(), line
