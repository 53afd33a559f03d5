"""Running ``captum-3dcam explain`` in tests: the models it explains, and what it writes."""

import json
import sys
from pathlib import Path
from shutil import rmtree

import torch

from captum_3dcam.cli import main
from captum_3dcam.io import load_map

SEED, FPS = 3, 25
MODEL = """
import torch
from torch import nn
from captum_3dcam import Layer
from captum_3dcam.models import Preprocessing, VolumePreprocessing

RECEIVED = []

class Net(nn.Module):
    def __init__(self, rank=3, channels=3, classes=4):
        super().__init__()
        torch.manual_seed(3)
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[rank]
        pool = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[rank]
        self.first = nn.Sequential(conv(channels, 6, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(conv(6, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Sequential(pool(2), nn.Flatten(), nn.Linear(6 * 2**rank, classes))
    def forward(self, x):
        RECEIVED.append(x.detach().clone())
        return 20 * self.head(self.second(self.first(x)))

class Prepared(Net):
    PREPROCESSING = Preprocessing(0.5, 0.5, (12, 16))
    LAYERS = {"early": "first", "late": Layer("second")}

def image(): return Net(2)
def prepared(): return Prepared(2)
def clip(): return Net(3)
def prepared_clip(): return Prepared(3)
class One(Net):
    def forward(self, x): return super().forward(x)[:, 0]
def single(): return One(3, classes=1)

class Brightness(nn.Module):
    # dark: the first class; grey: the second; white: the third, with a score beyond all others;
    # what is on the right counts more
    def __init__(self):
        super().__init__()
        self.grey = nn.Conv3d(3, 1, 1, bias=False)
        self.grey.weight.data.fill_(1 / 3)
        self.active = nn.ReLU()
    def forward(self, x):
        weights = torch.linspace(0.5, 1.5, x.shape[-1])
        mean = (weights * self.active(self.grey(x))).flatten(2).mean(2)
        return torch.cat([mean * 0, 20 * mean - 6, 2000 * (mean - 0.9).relu()], 1)
def scan(): return Net(3, channels=1)

class Probabilities(Net):
    def forward(self, x): return super().forward(x).softmax(1)
def likely(): return Probabilities(3)

class Halves(Net):
    PREPROCESSING = staticmethod(lambda x: x.float()[..., ::2, ::2] / 255)
def halves(): return Halves(2)

class Skipping(Net):
    PREPROCESSING = staticmethod(lambda x: x.float()[:, ::2] / 255)
def skipping(): return Skipping(3)

class ScanPrepared(Net):
    PREPROCESSING = staticmethod(lambda x: x / 100)
def scan_prepared(): return ScanPrepared(3, channels=1)
class ScanWindow(Net):
    PREPROCESSING = VolumePreprocessing((-1.0, 1.0), "unit")
def scan_window(): return ScanWindow(3, channels=1)
def channels(): return Net(3, channels=4)
class ScanCut(Net):
    PREPROCESSING = staticmethod(lambda x: x[:, 1:])
def scan_cut(): return ScanCut(3, channels=1)

class Segmentation(nn.Module):
    # a segmentation: (N, 2, H, W)
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(4, 2, 3, padding=1)
    def forward(self, x): return self.last(self.first(x))

class Lesion(nn.Module):
    # what is bright, averaged over 3x3x3 voxels, weighed by the class
    def __init__(self):
        super().__init__()
        self.mean = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        self.mean.weight.data.fill_(1 / 27)
        self.bright = nn.ReLU()
    def forward(self, x):
        y = self.bright(self.mean(x) - 0.5)
        total = y.flatten(1).pow(2).sum(1)
        return torch.stack([-total, total], 1)
"""


def run(capsys, path, name, *more):
    """The report of a successful run into a new folder, which prints nothing else.

    The method is 3DCAM, unless ``more`` has another.
    """
    rmtree("out", ignore_errors=True)
    words = ["explain", str(path), "--model", f"model.py:{name}", "--output", "out", "--json"]
    words += ["--method", "GlobalLocal"]
    code = main([*words, *map(str, more)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert json.loads((Path("out") / "report.json").read_text()) == report
    written = {path.name for path in Path("out").iterdir()}
    assert written == {*report["files"].values(), "report.json"}
    return report


def fails(capsys, path, name, *more):
    """The error message of a failing run, and its exit code."""
    code = main(["explain", str(path), "--model", f"model.py:{name}", *map(str, more)])
    out, err = capsys.readouterr()
    assert out == ""
    return err.removeprefix("captum-3dcam explain: error: ").rstrip("\n"), code


def network(name):
    """The network in the file, and the inputs that it has received in the command."""
    module = sys.modules["_captum_3dcam_model_model"]
    return getattr(module, name)().eval(), module.RECEIVED


def maps():
    return torch.from_numpy(load_map("out/map.npz").data)
