"""The glossary of CONTRIBUTING.md: the terms of the field in code, README and docs."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [
    path
    for folder in ("captum_3dcam", "examples", "studies")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Where a word of the glossary is the right one.
ALLOWED = re.compile(
    r"ground[ -]truths?|(?:in|take|takes|out of|decimal)[ -]places?|place holders?", re.IGNORECASE
)
# A word as another library or a format has it.
EXCEPTIONS: set[tuple[str, str]] = set()


def read_glossary():
    """{phrase: term} of prose, and {word: term} of names, as CONTRIBUTING.md has them."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Glossary")[1]
    header, *rows = re.findall(r"^\| (.+) \| (.+) \|$", section, re.MULTILINE)
    assert header == ("instead of", "write")
    terms = [(phrase, term) for phrases, term in rows for phrase in phrases.split(", ")]
    prose = {phrase: term for phrase, term in terms if "`" not in phrase}
    names = {phrase.strip("`"): term for phrase, term in terms if " " not in phrase}
    return prose, names


PROSE, NAMES = read_glossary()


def prose_of(path):
    """(line, text) of comments and string literals of a module, or of a whole page."""
    text = path.read_text()
    if path.suffix == ".md":
        yield from enumerate(text.splitlines(), start=1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or "FSTRING_MIDDLE" in str(
            tokenize.tok_name[token.type]
        ):
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line


def names_of(path):
    """(line, name) of everything that a module names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def words_of(name):
    """The words of snake_case and CamelCase names; ground_truth and in_place are one each.

    >>> words_of("_MOST_PIXELS"), words_of("PlaceFinder"), words_of("ground_truth")
    (['MOST', 'PIXELS'], ['place', 'finder'], ['ground-truth'])
    """
    name = re.sub(r"ground_truth|GroundTruth", "ground-truth", name.strip("_"))
    name = name.replace("in_place", "in-place")
    parts = [part for part in name.split("_") if part]
    words = []
    for part in parts:
        camel = re.findall(r"[A-Z][a-z]+", part)
        words += [word.lower() for word in camel] or [part]
    return words


def id_of(path):
    return str(path.relative_to(ROOT))


def test_the_glossary_is_read():
    assert PROSE["whole number"] == "integer"
    assert NAMES["MOST"] == "`MAX`, `MIN`"
    assert {"place", "pictures", "at the door"} <= PROSE.keys()
    assert {"place", "pictures", "found"} <= NAMES.keys()
    assert "found" not in PROSE


@pytest.mark.parametrize("path", [*MODULES, *PAGES], ids=id_of)
def test_prose_uses_the_terms_of_the_field(path):
    lines = []
    for number, line in prose_of(path):
        for phrase, term in PROSE.items():
            match = re.search(rf"\b{phrase}\b", ALLOWED.sub("", line), re.IGNORECASE)
            if match and (path.name, match[0].lower()) not in EXCEPTIONS:
                lines.append(f"{path.name}:{number}: {match[0]!r} -> {term}: {line.strip()}")
    assert not lines, "\n" + "\n".join(lines)


@pytest.mark.parametrize("path", MODULES, ids=id_of)
def test_names_use_the_terms_of_the_field(path):
    lines = [
        f"{path.name}:{number}: {name} -> {NAMES[word]}"
        for number, name in names_of(path)
        for word in words_of(name)
        if word in NAMES and (path.name, name) not in EXCEPTIONS
    ]
    assert not lines, "\n" + "\n".join(lines)
