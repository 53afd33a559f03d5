"""The comparison with other packages: the page has the checked statements, and they hold.

The statements about packages that are not installed are skipped; ``make compare`` checks all.
"""

import configparser
import re
from pathlib import Path

import pytest

pytest.importorskip("nibabel")

import check_comparison
from comparison_statements import STATEMENTS, Statement

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "comparison.md").read_text()


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: f"{s.package}: {s.text}")
def test_each_statement_holds(statement):
    if not check_comparison.is_installed(statement.package):
        pytest.skip(f"{statement.package} is not installed")
    assert check_comparison.holds(statement)


@pytest.mark.parametrize("package", check_comparison.DISTRIBUTIONS)
def test_the_page_has_the_statements(package):
    (section,) = (
        part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(package)
    )
    bullets = re.findall(r"^- (.*)$", section, re.MULTILINE)
    assert bullets == [s.text for s in STATEMENTS if s.package == package]


def test_the_page_names_the_pinned_versions():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    pins = dict(pin.split("==") for pin in setup["options.extras_require"]["bench"].split())
    for package, (distribution, _) in check_comparison.DISTRIBUTIONS.items():
        if distribution in pins:
            assert f"{package} {pins[distribution]} |" in PAGE


def test_a_statement_that_is_wrong_or_raises_does_not_hold(monkeypatch, capsys):
    def error():
        raise ValueError

    statements = [Statement("Captum", "No.", lambda: False), Statement("Captum", "?", error)]
    monkeypatch.setattr(check_comparison, "STATEMENTS", statements)
    assert check_comparison.main() == 1
    printed = capsys.readouterr().out
    assert printed.count("DOES NOT HOLD") == 2
    assert "2 statements, 2 of them do not hold." in printed
