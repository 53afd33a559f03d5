"""The README and the docs: every Python block runs, every link holds, and the site builds."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("**/*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
MAX_BYTES = 250_000  # a picture

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def blocks(page, language):
    return [code for name, code in BLOCK.findall(page.read_text()) if name == language]


def headings(page):
    prose = BLOCK.sub("", page.read_text())
    return re.findall(r"^#+ (.*)$", prose, re.MULTILINE)


def anchor(heading):
    """As code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# -------------------------------------------------------------------------------------- pages


@each_page
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    try:
        for code in blocks(page, "python"):
            exec(compile(code, str(page), "exec"), names)
    except ImportError as error:
        if "captum_3dcam[" not in str(error):
            raise
        pytest.skip(str(error))
    if page.name == "README.md":
        assert names["attribution"].shape == (1, 1, 16, 32, 32)
        assert names["maps"].shape == (1, 3, 16, 32, 32)
        assert names["attribution"].any()
        assert {path.name for path in tmp_path.iterdir()} == {"strip.png", "map.gif"}


@each_page
def test_links_and_pictures_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, wanted = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if wanted:
            assert wanted in map(anchor, headings(target)), f"{page.name} links to {link}"


@each_page
def test_commands_exist(page):
    """The scripts, their options, and the targets of make."""
    for script in re.findall(r"examples/\w+\.py", page.read_text()):
        assert (ROOT / script).is_file(), script
    makefile = (ROOT / "Makefile").read_text()
    commands = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    for line in commands.splitlines():
        if target := re.match(r"make (\w+)", line):
            assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), line
        for script, rest in re.findall(r"python (examples/\w+\.py)([^;#|]*)", line):
            source = (ROOT / script).read_text()
            for option in re.findall(r"--[a-z][\w-]*", rest):
                assert f'"{option}"' in source, line


def test_the_distributed_example_gives_the_same_table_alone_and_shared(tmp_path):
    code, _ = blocks(DOCS / "how_to" / "distributed.md", "python")
    script = tmp_path / "evaluate_my_clips.py"
    script.write_text(code.replace(', checkpoint="run"', ""))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    alone, shared = (
        subprocess.run(
            [sys.executable, *launcher, str(script)],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        ).stdout
        for launcher in ([], torchrun)
    )
    assert alone == shared
    assert alone.count("| 3DCAM: 1 |") == 1


# ----------------------------------------------------------------------------- troubleshooting


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def message(node):
    """What a string or f-string says, "..." for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if is_text(part) else "..." for part in node.values)
    return node.value if is_text(node) else ""


def messages(path):
    """All that the code of a file can say; docstrings and comments are not among it."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    said = (message(node) for node in ast.walk(tree) if id(node) not in docstrings)
    return {text for text in said if text}


def test_headings_of_troubleshooting_are_messages_of_the_package():
    said = set().union(*map(messages, (ROOT / "captum_3dcam").rglob("*.py")))
    errors = [heading[1:-1] for heading in headings(DOCS / "troubleshooting.md") if "`" in heading]
    assert len(errors) > 60
    for error in errors:
        assert any(error in text for text in said), error
    assert sorted(errors) == sorted(set(errors))


@pytest.mark.parametrize("room", ["attribution", "cam", "capture", "layers"])
def test_troubleshooting_has_all_that_explaining_itself_can_raise(room):
    tree = ast.parse((ROOT / "captum_3dcam" / f"{room}.py").read_text())
    errors = [heading[1:-1] for heading in headings(DOCS / "troubleshooting.md") if "`" in heading]
    raised = [
        message(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(Type|Value|Index|Runtime)Error|warnings\.warn", ast.unparse(node.func))
    ]
    assert raised
    for text in filter(None, raised):
        assert any(error in text for error in errors), text


# ------------------------------------------------------------------------------------ pictures


def test_pictures_are_small_and_shown():
    shown = {(page.parent / path).resolve() for page in PAGES for _, path in pictures(page)}
    committed = set((DOCS / "images").resolve().iterdir())
    assert committed <= shown
    for path in committed:
        assert path.stat().st_size < MAX_BYTES, path.name


def test_a_command_stands_beside_the_pictures_of_the_gallery():
    sections = (DOCS / "gallery.md").read_text().split("\n## ")[1:]
    assert len(sections) > 5
    for section in sections:
        assert PICTURE.search(section), section
        assert re.search(r"```sh\npython (examples|studies)/", section)


def pictures(page):
    found = PICTURE.findall(page.read_text())
    assert all(words for words, _ in found), f"a picture in {page.name} says not what it shows"
    return found


# ---------------------------------------------------------------------------------------- site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages. A warning, as of a link that leads nowhere, is an error."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page_and_needs_no_network(site):
    for page in PAGES[1:]:
        built = site / page.relative_to(DOCS).with_suffix(".html")
        html = built.read_text()
        loaded = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="([^"]+)"', html)
        assert loaded
        assert not [url for url in loaded if "//" in url]


def test_the_reference_has_every_public_class_and_function(site):
    described = set(re.findall(r'id="(captum_3dcam[\w.]*)"', (site / "reference.html").read_text()))
    rooms = re.findall(r"automodule:: (\S+)", (DOCS / "reference.md").read_text())
    folders = {
        f"captum_3dcam.{path.parent.name}" for path in ROOT.glob("captum_3dcam/*/__init__.py")
    }
    assert folders - set(rooms) == {"captum_3dcam.cli"} & folders
    for room in rooms:
        module = importlib.import_module(room)
        names = getattr(module, "__all__", [])
        # What two rooms give is described in one of them.
        known = {name for name in names if any(f"{r}.{name}" in described for r in rooms)}
        assert {name for name in names if callable(getattr(module, name))} <= known
    assert "captum_3dcam.attribution.LayerwiseCAM.attribute_top_k" in described


def test_docstrings_keep_their_signs(site):
    """A star is a shape's there, or around words that are stressed."""
    html = (site / "reference.html").read_text()
    assert "(N, C, *S_k)" in html
    assert "mean |x_t - x_(t-1)|" in html
    assert "A <em>layer rule</em> takes" in html
    assert "| chance | 0.500" in re.sub(r"<[^>]+>", "", html)  # what an example prints
    assert not re.search(r"\\[*_|]", html)
