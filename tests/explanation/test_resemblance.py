"""Whether an original is what a tensor was made of."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_3dcam import explain
from captum_3dcam.explanation._resemblance import check_resemblance, correlation_ratio
from captum_3dcam.explanation._video import make_video
from captum_3dcam.io import open_video


def picture(*size):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, *[side // 8 for side in size], generator=generator)
    return (255 * F.interpolate(coarse, size, mode="bilinear")[0]).byte()


PICTURE = picture(120, 160)


def resized(x, size=(56, 56)):
    return F.interpolate(x[None].float() / 255, size, mode="bilinear", antialias=True)[0]


LIKE = {
    "linear": lambda x: (resized(x) - 0.4) / 0.2,
    "gamma": lambda x: resized(x) ** 3,
    "inverted": lambda x: 1 - resized(x),
    "grey": lambda x: resized(x).mean(dim=0, keepdim=True),
    "small": lambda x: resized(x, (28, 28)),
    "constant": lambda x: torch.zeros(3, 56, 56),
    "flow": lambda x: torch.randn(2, 56, 56),
}
UNLIKE = {
    "cropped": lambda x: resized(x[:, 20:100, 30:130]),
    "mirrored": lambda x: resized(x).flip(-1),
    "turned": lambda x: torch.rot90(resized(x), 1, (-2, -1)),
    "another": lambda x: resized(picture(128, 168)[:, 8:, 8:]),
}


@pytest.mark.parametrize("function", LIKE.values(), ids=LIKE)
def test_what_follows_from_the_original(function):
    check_resemblance(function(PICTURE), PICTURE)


@pytest.mark.parametrize("function", UNLIKE.values(), ids=UNLIKE)
def test_what_does_not_is_warned_of(function):
    with pytest.warns(UserWarning, match=r"original: the input does not resemble it .* 0\.[0-3]\d"):
        check_resemblance(function(PICTURE), PICTURE)


def test_the_correlation_ratio_is_that_of_its_definition():
    generator = np.random.default_rng(0)
    given = generator.normal(size=400)
    values = given**2 + generator.normal(size=400)
    edges = np.quantile(given, np.arange(1, 20) / 20)
    group = np.digitize(given, edges)
    within = np.mean(
        [(v - values[group == g].mean()) ** 2 for v, g in zip(values, group, strict=True)]
    )
    assert correlation_ratio(values, given) == pytest.approx(1 - within / values.var())


def test_explain_compares_each_sample_with_its_original():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    right, wrong = resized(PICTURE), resized(PICTURE[:, 20:100, 30:130])
    pixels = PICTURE.movedim(0, -1).numpy()
    explain(model, right[None], 0, layers=["0"], original=pixels)
    with pytest.warns(UserWarning, match="does not resemble"):
        explanation = explain(
            model, torch.stack([right, wrong]), 0, layers=["0"], original=[pixels, pixels]
        )
    assert "does not resemble" in explanation.warnings[0]


def test_explain_compares_a_clip_with_its_video():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    ).eval()
    frames = torch.stack([PICTURE.roll(9 * t, -1) for t in range(6)], dim=1)
    video = open_video(make_video(frames.movedim(0, -1).numpy(), 25.0))
    clip = torch.stack([resized(frame) for frame in frames.unbind(1)], dim=1)[None]
    explain(model, clip, 0, layers=["0"], original=video)
    with pytest.warns(UserWarning, match="does not resemble"):
        explain(model, clip.flip(2), 0, layers=["0"], original=video)
