"""The video transformer: its tokens' grid, the frozen stages, the training."""

import pytest
import torch

from captum_3dcam import GlobalLocalCAM3D, Layer, tokens_to_grid
from captum_3dcam.datasets import SyntheticActions
from trained_networks import video_transformer
from trained_networks.action_net import HELD_OUT_SEED, load_action_net
from trained_networks.video_transformer import GRID, VideoTransformer

pytestmark = pytest.mark.usefixtures("one_thread")

RESHAPE = tokens_to_grid(GRID, prefix_tokens=1)


@pytest.fixture(scope="module")
def network():
    return video_transformer.train(16, 1)


@pytest.fixture(scope="module")
def sample():
    return SyntheticActions(2, seed=HELD_OUT_SEED)[1]


def test_the_first_stages_are_the_recognisers_also_after_training(network, sample):
    recogniser = load_action_net()
    for stage, name in zip(network.stages, ("stem", "layer1", "layer2"), strict=True):
        expected = recogniser.get_submodule(name).state_dict()
        assert all(torch.equal(v, expected[key]) for key, v in stage.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.stages.parameters())
    assert not network.train().stages.training
    assert network.blocks.training
    network.eval()
    with torch.no_grad():
        features = network.features(sample.clip[None])
        expected = recogniser.stem(sample.clip[None] - 0.5)
        expected = recogniser.layer2(recogniser.layer1(expected))
    assert features.shape == (1, 32, 8, 16, 16)
    torch.testing.assert_close(features, expected)


def test_the_reshape_puts_each_token_at_its_patchs_position(network, sample):
    with torch.no_grad():
        patches = network.patch(network.features(sample.clip[None]))
    inputs = []
    hook = network.blocks[0].register_forward_pre_hook(lambda module, x: inputs.append(x[0]))
    with torch.no_grad():
        network(sample.clip[None])
    hook.remove()
    tokens = inputs[0] - network.position
    torch.testing.assert_close(RESHAPE(tokens), patches)
    torch.testing.assert_close(tokens[:, 0], network.class_token[:, 0])


def test_no_score_depends_on_the_patch_tokens_of_the_last_block(network, sample):
    """So LAYERS leaves it out; the block before matters."""
    gradients = []
    for name in ("blocks.1.mlp.1", "blocks.2.mlp.1"):
        outputs = []
        hook = network.get_submodule(name).register_forward_hook(
            lambda module, x, y, outputs=outputs: outputs.append(y.requires_grad_())
        )
        score = network(sample.clip[None])[0, 0]
        hook.remove()
        gradients.append(torch.autograd.grad(score, outputs)[0][:, 1:].abs().max())
    assert gradients[0] > 0
    assert gradients[1] == 0
    assert video_transformer.LAYERS == ["blocks.0.mlp.1", "blocks.1.mlp.1"]


def test_before_a_layer_normalisation_the_gradient_cancels(network, sample):
    cam = GlobalLocalCAM3D(network, Layer("blocks.0", RESHAPE))
    with pytest.warns(UserWarning, match="cancels, so its map is zero"):
        cam.attribute(sample.clip[None])


def test_an_untrained_network_gives_eight_logits(sample):
    with torch.no_grad():
        assert VideoTransformer().eval()(sample.clip[None]).shape == (1, 8)


# ----------------------------------------------------------------------------------- training


def test_it_learns_its_training_clips():
    network = video_transformer.train(16, 30)
    assert video_transformer.accuracy(network, 16, seed=0) >= 0.9


def test_training_is_determined_by_the_seed_and_preserves_torchs_generator(network, monkeypatch):
    before = torch.get_rng_state()
    again = video_transformer.train(16, 1)
    seeds = []

    def same_clips(length, seed):
        seeds.append(seed)
        return SyntheticActions(length, 0)

    monkeypatch.setattr(video_transformer, "SyntheticActions", same_clips)
    other = video_transformer.train(16, 1, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert seeds == [1]
    expected = network.state_dict()
    assert all(torch.equal(v, expected[key]) for key, v in again.state_dict().items())
    assert not torch.equal(other.head.weight, again.head.weight)


def test_saved_weights_are_loaded(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    loaded = video_transformer.load_video_transformer(tmp_path / "weights.pt")
    assert not any(module.training for module in loaded.modules())
    expected = network.state_dict()
    assert all(torch.equal(v, expected[key]) for key, v in loaded.state_dict().items())


def test_accuracy_counts_the_clips(monkeypatch):
    class Fixed(torch.nn.Module):
        def forward(self, clip):
            return torch.eye(8)[[1]]

    left, right = SyntheticActions(2, seed=HELD_OUT_SEED)
    clips = [left, right, right, right]
    monkeypatch.setattr(video_transformer, "SyntheticActions", lambda length, seed: clips)
    assert video_transformer.accuracy(Fixed(), 4) == 0.75
