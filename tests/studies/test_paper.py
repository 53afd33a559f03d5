"""The printed tables: complete, within range, consistent where they can be, and beside ours."""

import json

import pytest

import _paper
from _paper import PaperRow, PaperTable, beside_ours, paper_tables, tables_of

TABLES = paper_tables()


def test_all_tables_are_there():
    assert list(TABLES) == [str(number) for number in range(3, 11)]
    assert [len(table.rows) for table in TABLES.values()] == [7, 3, 3, 8, 3, 2, 2, 6]
    assert {table.dataset for table in TABLES.values()} == {"jhmdb", "ucf24", "ilsvrc", "ucf101"}
    assert [table.number for table in tables_of("ucf101")] == ["9", "10"]


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_row_has_a_figure_for_each_column(table):
    for row in table.rows:
        assert len(row.printed) == len(table.columns)
        assert all(0 <= figure <= 1 for figure in row.printed)


@pytest.mark.parametrize("number", ["6", "7"])
def test_the_printed_average_is_that_of_the_columns(number):
    """Up to rounding, except in one row, as its note says."""
    for row in TABLES[number].rows:
        *figures, average = row.printed
        tolerance = 0.0035 if row.name == "3DCAM layer 3" else 0.0015
        assert sum(figures) / len(figures) == pytest.approx(average, abs=tolerance), row.name


def test_what_the_notes_say():
    rows = {row.name: row.printed for row in TABLES["6"].rows}
    assert rows["3DCAM layer 4"] == rows["Sum GradCAM (layer conv and 1)"]
    fifth = {row.name: row.printed for row in TABLES["5"].rows}
    assert {row.name: row.printed for row in TABLES["8"].rows} == {
        name: printed for name, printed in fifth.items() if name != "Avg pool 3DCAM"
    }


def test_the_file_is_plain_json():
    content = json.loads(_paper.FILE.read_text(encoding="utf-8"))
    assert content.keys() == {"source", "notes", "tables"}
    assert "arXiv 2012.09542" in content["source"]


def test_ours_stand_above_what_is_printed_of_them():
    rows = (
        PaperRow("Theirs", (0.5, 0.25), {"id": "a"}),
        PaperRow("Alone", (0.1, 0.2), {"id": "b"}),
    )
    table = PaperTable("0", "data", "Net", "score", {"x": "kx", "y": "ky"}, rows, ("A note.",))
    cells = {"a": {"kx": "1", "ky": "2"}, "frame": {"kx": "3"}}
    text = beside_ours(table, cells, lambda row: row.ours["id"], "{:.2f}".format, ("frame",))
    assert text == (
        "Table 0 of the paper (Net): score. A note.\n\n"
        "| | x | y |\n"
        "|---|---|---|\n"
        "| a | 1 | 2 |\n"
        "| Theirs, printed | 0.50 | 0.25 |\n"
        "| Alone, printed | 0.10 | 0.20 |\n"
        "| frame | 3 | |"
    )
