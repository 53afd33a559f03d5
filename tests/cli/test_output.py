"""Files of the command line, and the frames of its figures."""

from pathlib import Path

import pytest

from captum_3dcam.cli._output import spread_frames, write_text


def test_frames_are_spread_and_include_the_peak():
    for length in (1, 3, 8, 9, 40):
        for peak in range(length):
            shown = spread_frames(length, peak)
            assert peak in shown
            assert shown == sorted(set(shown))
            assert len(shown) == min(8, length)
            assert set(shown) <= set(range(length))


def test_ctrl_c_while_writing_keeps_the_earlier_file(folder, monkeypatch):
    report = Path("report.json")
    report.write_text("of an earlier run")
    write = Path.write_text

    def interrupted(path, text, **more):
        write(path, text[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(report, "of this run")
    assert report.read_text() == "of an earlier run"
    assert {path.name for path in folder.iterdir()} == {"model.py", "report.json"}
