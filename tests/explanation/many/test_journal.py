"""What has been done of a run."""

import pytest

from captum_3dcam.explanation.many._journal import Journal, Outcome, Record


def record(key, time=0.0, status="done"):
    return Record(key, "state", time, Outcome(f"{key}.png", status, score=0.5))


def test_records_of_all_processes(tmp_path):
    one, other = Journal(tmp_path), Journal(tmp_path)
    one.append(record("a"))
    other.append(record("b"))
    assert dict(one.read()) == {"a": record("a"), "b": record("b")}
    other.append(record("c"))
    assert set(one.records) == {"a", "b"}
    assert set(one.read()) == {"a", "b", "c"}
    assert set(Journal(tmp_path).read()) == {"a", "b", "c"}


def test_the_latest_record_counts(tmp_path):
    Journal(tmp_path).append(record("a", 2.0))
    Journal(tmp_path).append(record("a", 1.0, "failed"))
    assert Journal(tmp_path).read()["a"].outcome.status == "done"


def test_a_line_that_was_cut_off_is_not_read_until_it_is_whole(tmp_path):
    journal = Journal(tmp_path)
    journal.append(record("a"))
    journal.append(record("b"))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    later = Journal(tmp_path)
    assert set(later.read()) == {"a"}
    path.write_bytes(content)
    assert set(later.read()) == {"a", "b"}


@pytest.mark.parametrize("line", ["{", "[]", '["a", "b", 1, {"no": 1}]', "3"])
def test_a_damaged_line(line, tmp_path):
    (tmp_path / "journal-x.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"journal-x\.jsonl' is damaged: .* Delete it, and resume"):
        Journal(tmp_path).read()
