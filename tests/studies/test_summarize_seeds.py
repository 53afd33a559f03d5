"""One table of several evaluations."""

import json

import pytest

import summarize_seeds


def report(path, **rows):
    """A file of evaluate_localization.py, with what is read here."""
    scores = {row: {"energy": {"value": value}} for row, value in rows.items()}
    path.write_text(json.dumps({"rows": scores}))
    return path


def test_networks_are_summarized_by_their_mean_lowest_and_highest(tmp_path, capsys):
    files = [
        str(report(tmp_path / f"{i}.json", ours=value, theirs=0.5, chance=0.1))
        for i, value in enumerate([0.25, 0.5, 1.0])
    ]
    summarize_seeds.main([*files, "--columns", "energy", "--rows", "our", "chance"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == ["| ours | .583 (.250-1.000) |", "| chance | .100 (.100-.100) |"]


def test_files_with_different_rows_are_refused(tmp_path):
    files = [report(tmp_path / "a.json", ours=1.0), report(tmp_path / "b.json", theirs=1.0)]
    with pytest.raises(ValueError, match=r"b\.json and .*a\.json have different rows"):
        summarize_seeds.summarize(files, ["energy"])
