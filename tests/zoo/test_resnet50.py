"""The package's ResNet-50 beside torchvision's and timm's: the same names, logits and maps."""

import pytest
import torch

from captum_3dcam import LayerwiseHiResCAM
from captum_3dcam.models import load_checkpoint, resnet50


def build(library):
    if library == "timm":
        return pytest.importorskip("timm").create_model("resnet50", pretrained=False)
    return pytest.importorskip("torchvision.models").resnet50(weights=None)


@pytest.fixture(scope="module")
def own():
    torch.manual_seed(0)
    model = resnet50().eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.filterwarnings("ignore")
def test_the_logits_and_maps_are_those_of(library, own, tmp_path):
    theirs = build(library)
    theirs.load_state_dict(own.state_dict(), strict=True)
    theirs.eval()
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(own(images), theirs(images), rtol=1e-4, atol=1e-4)
    for layer in ("layer1", "layer3"):
        cams = [LayerwiseHiResCAM(each, layer) for each in (own, theirs)]
        maps = [cam.attribute(images, target=7) for cam in cams]
        assert maps[0].any()
        torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-4)
    # The other way: what the library saves is what the package loads.
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    loaded = load_checkpoint(tmp_path / "resnet50.pth", resnet50())
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), own.parameters(), strict=True)
    )
