"""README and docs: the code runs, links and names exist, and the site builds."""

import ast
import importlib
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import _peers
import captum_3dcam

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("**/*.md"))]
# tests/zoo runs the code of this one, beside the libraries that it needs.
ELSEWHERE = DOCS / "your_model.md"
BLOCK = re.compile(r"^```(\w+|\{code-cell\} ipython3)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
MAX_BYTES = {".png": 250_000, ".gif": 500_000}
# Modules whose dotted names are checked. In the pages, those left out are variables.
PACKAGES = [
    path.stem
    for path in (ROOT / "captum_3dcam").glob("[a-z]*")
    if path.stem not in {"attribution", "explanation", "layers", "py"}
]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
each_document = pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *sorted(ROOT.glob("[C-Q]*.md")),
        ROOT / "RELEASING.md",
        *sorted(ROOT.glob("*/README.md")),
    ],
    ids=lambda page: page.stem,
)


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
    if page == ELSEWHERE:
        pytest.skip("run in tests/zoo")
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
        assert names["explanation"].attribution.shape == (1, 3, 16, 32, 48)
        assert (tmp_path / "out" / "report.html").is_file()


@each_page
def test_the_code_of_other_packages_runs_where_they_are_installed(page, tmp_path, monkeypatch):
    """Blocks in ``py`` are theirs. Each follows the blocks in ``python`` above it."""
    if page == ELSEWHERE or not blocks(page, "py"):
        pytest.skip("no code of other packages")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names, missing = {}, set()
    for language, code in BLOCK.findall(page.read_text()):
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
        elif language == "py":
            package = re.search(r"^from (\w+)", code)[1]
            with _peers.placeholder_for_torchvision(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    importlib.import_module(package)
                except ImportError:
                    missing.add(package)
                else:
                    exec(compile(code, str(page), "exec"), names)
    if missing:
        pytest.skip(f"not installed: {', '.join(sorted(missing))}")


def test_the_rule_of_slowfast_has_weights_for_each_time_step():
    """Its formula, written out: mean over height and width, ReLU, upsampling, shift, division."""
    names = {}
    for code in blocks(DOCS / "coming_from.md", "python"):
        exec(code, names)
    model, x = names["model"], names["x"]
    activation = model[0](x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model[1:](activation)[:, 2].sum(), activation)
    expected = torch.zeros(2, 1, 8, 32, 32)
    for n in range(2):
        for t in range(8):
            for c in range(8):
                expected[n, 0, t] += gradient[n, c, t].mean() * activation[n, c, t].detach()
        expected[n] = expected[n].relu() / expected[n].max()
    attribution = names["FramewiseGradCAM"](model, "0").attribute(x, target=2)
    torch.testing.assert_close(attribution, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(
        attribution, names["LayerwiseGradCAM"](model, "0").attribute(x, target=2), atol=0.1
    )


@each_document
def test_links_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if heading:
            assert heading in map(anchor, headings(target)), f"{page.name} links to {link}"


@each_document
def test_names_of_the_package_exist(page):
    """Dotted names, as ``localization.tubes``, and class names that end as this package's do."""
    if page.stem == "CHANGELOG":
        pytest.skip("it also names what was removed")
    prose = BLOCK.sub("", page.read_text())
    for code in re.findall(r"`([^`\n]+)`", prose):
        if dotted := re.match(rf"(?:captum_3dcam\.)?((?:{'|'.join(PACKAGES)})(?:\.\w+)*)", code):
            assert resolves(f"captum_3dcam.{dotted[1]}"), f"{page.name}: {code}"
        for name in re.findall(r"\b[A-Z]\w*CAM(?:[123]D|PlusPlus)?\b", code):
            if "Layerwise" in name or name.endswith("D"):
                assert hasattr(captum_3dcam, name), f"{page.name}: {name}"


def resolves(dotted):
    """Whether ``package.module.name`` can be imported."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[length:]:
                found = getattr(found, name)
        except AttributeError:
            return False
        return True
    return False


def test_names_that_do_not_exist_do_not_resolve():
    assert resolves("captum_3dcam.localization.tubes")
    assert resolves("captum_3dcam.layers.Layer")
    assert not resolves("captum_3dcam.localization.tube_finder")
    assert not resolves("captum_3dcam.localisation")


@each_document
def test_commands_exist(page):
    """The scripts, their options, and the targets of make."""
    for script in re.findall(r"(?<![\w/])(?:examples|studies)/\w+\.py", page.read_text()):
        assert (ROOT / script).is_file(), script
    makefile = (ROOT / "Makefile").read_text()
    commands = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    for line in commands.splitlines():
        if target := re.match(r"make (\w+)", line):
            assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), line
        for script, rest in re.findall(r"python ((?:examples|studies)/\w+\.py)([^;#|]*)", line):
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
    """The text of a string or f-string, with "..." for its fields."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if is_text(part) else "..." for part in node.values)
    return node.value if is_text(node) else ""


def messages(path):
    """The texts in the code of a file, without docstrings and comments."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (message(node) for node in ast.walk(tree) if id(node) not in docstrings)
    return set(filter(None, texts))


def test_headings_of_troubleshooting_are_messages_of_the_package():
    texts = set().union(*map(messages, (ROOT / "captum_3dcam").rglob("*.py")))
    errors = [heading[1:-1] for heading in headings(DOCS / "troubleshooting.md") if "`" in heading]
    assert len(errors) > 60
    for error in errors:
        assert any(error in text for text in texts), error
    assert sorted(errors) == sorted(set(errors))


PACKAGE = ROOT / "captum_3dcam"
CORE = [
    *(
        f"{path.parent.name}/{path.stem}"
        for folder in ("functional", "attribution")
        for path in sorted((PACKAGE / folder).glob("*.py"))
        if path.stem[0] != "_"
        and re.search(r"\b(Type|Value|Index|Runtime)Error\(", path.read_text())
    ),
    "_layout",
    "layers",
    "_targets",
    "_capture/layer_calls",
    "_capture/layer_output",
    "_capture/forward_run",
    "_capture/perturbed_run",
    "_capture/recording",
    "_diagnosis",
    "_layerwise_cam",
    "targets",
]


@pytest.mark.parametrize("module", CORE)
def test_troubleshooting_has_every_error_and_warning_of_an_attribution(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    errors = [heading[1:-1] for heading in headings(DOCS / "troubleshooting.md") if "`" in heading]
    raised = [
        message(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(Type|Value|Index|Runtime)Error", ast.unparse(node.func))
    ]
    # Warnings are texts that a generator of messages yields.
    raised += [message(node.value) for node in ast.walk(tree) if isinstance(node, ast.Yield)]
    assert raised
    for text in filter(re.compile(r"[a-z]").search, raised):
        assert any(error in text for error in errors), text


# ------------------------------------------------------------------------------------- figures


def test_figures_are_small_and_shown():
    shown = {(page.parent / path).resolve() for page in PAGES for _, path in figures(page)}
    committed = set((DOCS / "images").resolve().iterdir())
    assert committed <= shown
    for path in committed:
        assert path.stat().st_size < MAX_BYTES[path.suffix], path.name


COMMAND = re.compile(r"```sh\npython (examples|studies)/")


def test_a_command_stands_beside_the_figures_of_the_gallery():
    sections = (DOCS / "gallery.md").read_text().split("\n## ")[1:]
    assert len(sections) > 5
    for section in sections:
        assert FIGURE.search(section), section
        assert COMMAND.search(section), section


@pytest.mark.parametrize("page", sorted((DOCS / "how_to").glob("*.md")), ids=lambda page: page.stem)
def test_every_how_to_has_a_figure_and_the_command_that_makes_it(page):
    text = page.read_text()
    assert FIGURE.search(text)
    assert re.search(r"python (examples|studies)/\w+\.py", text)


def figures(page):
    """(alternative text, path) of each figure of a page."""
    pairs = FIGURE.findall(page.read_text())
    assert all(text for text, _ in pairs), f"A figure in {page.name} has no alternative text."
    return pairs


# ---------------------------------------------------------------------------------------- site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages. Warnings, as of a broken link, are errors."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    off = ["-D", "nb_execution_mode=off"]  # test_notebooks.py runs them
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", *off, str(DOCS), str(folder)],
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


def modules_of_the_reference():
    """The module of each page."""
    pages = sorted((DOCS / "reference").glob("*.md"))
    return {
        page.stem: re.search(r"automodule:: (\S+)", page.read_text())[1]
        for page in pages
        if page.stem != "index"
    }


def test_the_reference_has_every_public_class_and_function(site):
    modules = modules_of_the_reference()
    described = {
        name
        for page in modules
        for name in re.findall(
            r'id="(captum_3dcam[\w.]*)"', (site / "reference" / f"{page}.html").read_text()
        )
    }
    folders = {
        f"captum_3dcam.{path.parent.name}" for path in ROOT.glob("captum_3dcam/[!_]*/__init__.py")
    }
    # The classes of attribution are described as those of the package itself.
    elsewhere = {"captum_3dcam.cli", "captum_3dcam.attribution"}
    assert folders - set(modules.values()) == elsewhere & folders
    for module_name in modules.values():
        module = importlib.import_module(module_name)
        names = getattr(module, "__all__", [])
        # A name that two modules export is described in one of them.
        known = {n for n in names if any(f"{m}.{n}" in described for m in modules.values())}
        assert {name for name in names if callable(getattr(module, name))} <= known
    assert "captum_3dcam.attribution.LayerwiseCAM.attribute_top_k" in described


@pytest.mark.parametrize("page", sorted(modules_of_the_reference()))
def test_a_page_of_the_reference_begins_with_a_table_and_links_to_sources(site, page):
    html = (site / "reference" / f"{page}.html").read_text()
    table = html[html.index("<table") : html.index("</table>")]
    assert re.search(r'href="[^"]*#captum_3dcam[\w.]*"', table)
    sources = re.findall(r'href="\.\./(_modules/captum_3dcam/[\w/]+\.html)#', html)
    assert sources
    assert all((site / source).is_file() for source in sources)


def test_types_of_other_libraries_are_links(site):
    html = "".join(path.read_text() for path in (site / "reference").glob("*.html"))
    for link in (
        "https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor",
        "https://numpy.org/doc/stable/reference/generated/numpy.ndarray.html#numpy.ndarray",
        "https://docs.python.org/3/library/pathlib.html#pathlib.Path",
        "https://matplotlib.org/stable/api/_as_gen/matplotlib.figure.Figure.html",
        "https://captum.ai/api/base_classes.html",
    ):
        assert f'href="{link}' in html, link


def test_docstrings_keep_their_signs(site):
    """A star belongs to a shape, or surrounds emphasized words."""
    pages = {path.stem: path.read_text() for path in (site / "reference").glob("*.html")}
    assert "(N, C, *S_k)" in pages["functional"]
    assert "mean |x_t - x_(t-1)|" in pages["sliding"]
    assert "A <em>layer rule</em> takes" in pages["functional"]
    assert "| chance | 0.500" in re.sub(r"<[^>]+>", "", pages["evaluation"])  # an example's output
    assert "several series: its number" in pages["explanation"]  # a colon, and no type before it
    assert not any(re.search(r"\\[*_|]", html) for html in pages.values())


@pytest.mark.parametrize("page", ["method", "what_where", "how_to/fusion"])
def test_formulas_are_typeset(site, page):
    html = (site / f"{page}.html").read_text()
    assert html.count("<math") > 5
    assert "∑" in html
    prose = re.sub(r"<pre.*?</pre>", "", html, flags=re.DOTALL)
    assert not re.search(r"\\(sum|mathrm|frac)|\$\$", prose)


def test_notebooks_can_be_downloaded(site):
    notebooks = sorted((DOCS / "notebooks").glob("*.md"))
    assert len(notebooks) > 5
    for page in notebooks:
        html = (site / "notebooks" / f"{page.stem}.html").read_text()
        link = re.search(rf'href="\.\./(_downloads/\w+/{page.stem}\.ipynb)"', html)
        assert json.loads((site / link[1]).read_text())["nbformat"] == 4
