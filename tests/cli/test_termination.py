"""SIGTERM: exit code 143, and no temporary file is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from explain_command import FPS

import captum_3dcam
from captum_3dcam.cli import main
from captum_3dcam.io import write_video

SLOW = """
import sys, time
from captum_3dcam.cli import main
from captum_3dcam.visualization import OverlayRenderer
render = OverlayRenderer.render
def render_slowly(*arguments):
    time.sleep(0.05)
    return render(*arguments)
OverlayRenderer.render = render_slowly
sys.exit(main(sys.argv[1:]))
"""
SLEEPING = """
import pathlib, time
class Sleeping(Net):
    def forward(self, x):
        pathlib.Path("running").touch()
        time.sleep(60)
"""
LAYERS = ["layers", "--model", "model.py:net", "--input-size", "1", "8"]


def terminate(words, begun, signals=1):
    """Send SIGTERM to a process once ``begun()`` is true; its exit code and standard error."""
    env = os.environ | {"PYTHONPATH": str(Path(captum_3dcam.__file__).parent.parent)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as process:
        until = time.monotonic() + 60
        while not begun() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        _, err = process.communicate(timeout=30)
    return process.returncode, err


@pytest.fixture
def words(folder):
    """The arguments that explain a video."""
    pytest.importorskip("av")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 20, 3), dtype=np.uint8)
    write_video(pixels, "video.mp4", FPS)
    options = ["--layers", "first", "--output", "out", "--target", "1", "--boundaries", "none"]
    return lambda name: ["explain", "video.mp4", "--model", f"model.py:{name}", *options]


@pytest.mark.parametrize("signals", [1, 3])
def test_while_the_overlay_is_written(words, folder, signals):
    writing = [sys.executable, "-c", SLOW, *words("clip")]
    code, err = terminate(writing, lambda: list(folder.glob("out/.*/.*.mp4")), signals)
    # A signal after the end of the command stops Python itself; for a shell, this is 143 too.
    assert code in ((143,) if signals == 1 else (143, -signal.SIGTERM))
    assert err == "captum-3dcam explain: terminated\n"
    assert not (folder / "out").exists()


def test_before_anything_is_written_the_new_folder_is_removed(words, folder):
    with (folder / "model.py").open("a") as file:
        file.write(SLEEPING)
    running = [sys.executable, "-m", "captum_3dcam.cli", *words("Sleeping")]
    code, err = terminate(running, (folder / "running").exists)
    assert (code, err) == (143, "captum-3dcam explain: terminated\n")
    assert not (folder / "out").exists()


def test_the_handler_of_the_calling_program_is_kept(folder):
    received = []

    def remember(number, frame):
        received.append(number)

    (folder / "model.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\nnet = 7")
    before = signal.signal(signal.SIGTERM, remember)
    try:
        assert main(LAYERS) == 2
        assert signal.getsignal(signal.SIGTERM) is remember
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_the_default_is_restored(folder):
    (folder / "model.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\nnet = 7")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert main(LAYERS) == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_signal_does_not_stop_the_clean_up(folder):
    (folder / "model.py").write_text(
        "import signal\ntry:\n    signal.raise_signal(signal.SIGTERM)\n"
        "finally:\n    signal.raise_signal(signal.SIGTERM)\n    open('cleaned', 'w').close()"
    )
    assert main(LAYERS) == 143
    assert (folder / "cleaned").exists()


def test_another_thread_runs_a_command_without_a_handler(folder):
    (folder / "model.py").write_text("net = 7")
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(LAYERS)))
    thread.start()
    thread.join()
    assert codes == [2]
