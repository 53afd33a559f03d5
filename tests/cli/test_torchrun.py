"""``captum-3dcam evaluate`` and ``explain`` under torchrun."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
from many_inputs import contents, environment, write_images

MODEL = """
import torch
torch.set_num_threads(1)
from torch import nn
from many_inputs import network
from captum_3dcam.models import Preprocessing

def clips():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveMaxPool3d(2),
                          nn.Flatten(), nn.Linear(32, 8)).eval()
    model.PREPROCESSING = Preprocessing()
    return model
"""

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed")


def run(folder, *words, processes=0):
    (folder / "model.py").write_text(MODEL)
    env = environment(OMP_NUM_THREADS="1")
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start = [*torchrun, "-m"] if processes else ["-m"]
    command = [sys.executable, *start, "captum_3dcam.cli", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_evaluate_shares_the_samples(tmp_path):
    words = ["evaluate", "actions", "--limit", "4", "--model", "model.py:clips", "--quiet",
             "--layers", "0", "--json", "--faithfulness", "deletion", "adcc"]  # fmt: skip
    alone = run(tmp_path, *words)
    shared = run(tmp_path, *words, "--resume", "checkpoint", processes=2)
    assert shared == alone
    counts = [len(path.read_text().splitlines()) for path in Path(tmp_path).glob("*/*.jsonl")]
    assert counts == [2, 2]


def test_explain_shares_the_inputs(tmp_path):
    write_images(tmp_path / "in", 8)
    (tmp_path / "in/damaged.png").unlink()
    words = ["explain", "in", "--model", "model.py:network", "--quiet", "--layers", "0", "2",
             "--batch-size", "1"]  # fmt: skip
    run(tmp_path, *words, "--output-root", "alone")
    output = run(tmp_path, *words, "--output-root", "shared", processes=2)
    assert len(re.findall("9 of 9 inputs explained", output)) == 2
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert len(list(tmp_path.glob("shared/.captum_3dcam/journal-*"))) == 2
