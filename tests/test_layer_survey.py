"""The survey of layers: receptive fields against kernel arithmetic, known networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_3dcam import (
    GlobalLocalCAM2D,
    Layer,
    LayerInfo,
    LayerwiseGradCAM,
    suggest_layers,
    survey_layers,
)
from captum_3dcam.layer_survey import format_advice, format_table

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CONSTANT = "the score's gradient is the same at every position"
SIGNED = "the output has negative values"
UNREACHED = "the highest score does not depend on this layer. Leave it out."


def survey(model, *size, nested=False):
    inputs = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    return survey_layers(model.eval(), inputs, nested=nested, all_receptive_fields=True)


def recommended(layers):
    return [layer.name for layer in layers if layer.recommended]


def warned(layers, warning):
    return [layer.name for layer in layers if any(w.startswith(warning) for w in layer.warnings)]


class Block(nn.Module):
    """A residual block, relu(shortcut(x) + conv(relu(conv(x))))."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.conv1(x))) + self.shortcut(x))


class Residual(nn.Module):
    """A small ResNet: a stem, two stages of blocks, global average pooling, a linear head."""

    def __init__(self, classes=5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 5, 2, 2)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(4, 4), Block(4, 4))
        self.layer2 = nn.Sequential(Block(4, 8, 2), Block(8, 8))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))


def plain():
    """A small VGG: single operations in a Sequential of their own."""
    features = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Dropout()),
    )
    return nn.Sequential(features, nn.Flatten(), nn.LazyLinear(3))


# ----------------------------------------------------------------------------- receptive fields


@settings(max_examples=15)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=3),
    st.booleans(),
)
def test_receptive_fields_equal_kernel_arithmetic(rank, shapes, rectified):
    torch.manual_seed(1)
    blocks, expected, size, jump = [], [], 1, 1
    for kernel, stride in shapes:
        size += (kernel - 1) * jump
        jump *= stride
        expected.append(size)
        conv = CONV[rank](3, 3, kernel, stride)
        blocks.append(nn.Sequential(conv, nn.ReLU() if rectified else nn.Tanh()))
    layers = survey(nn.Sequential(*blocks), 3, *[24] * rank, nested=True)
    by_name = {layer.name: layer for layer in layers}
    for position, size in enumerate(expected):
        layer = by_name[str(position)]
        if rectified:  # a ReLU after only three channels may hide an edge of the field
            assert all(side <= size for side in layer.receptive_field)
        else:
            assert layer.receptive_field == (size,) * rank


def test_a_field_that_reaches_the_edge_is_clipped():
    near, far = survey(nn.Sequential(nn.Conv1d(1, 1, 5), nn.Conv1d(1, 1, 9)), 1, 14, nested=True)
    assert (near.receptive_field, near.receptive_field_clipped) == ((5,), False)
    assert (far.receptive_field, far.receptive_field_clipped) == ((13,), True)


def test_either_edge_clips_a_field():
    at_start = nn.Sequential(nn.ZeroPad1d((4, 0)), nn.Conv1d(1, 1, 5))  # inputs 0 to 4 of 9
    at_end = nn.Sequential(nn.Conv1d(1, 1, 6))  # inputs 1 to 6 of 7
    for model, length, size in ((at_start, 9, 5), (at_end, 7, 6)):
        (conv,) = survey(model, 1, length)
        assert (conv.receptive_field, conv.receptive_field_clipped) == ((size,), True)


def test_the_field_is_that_of_the_central_position_away_from_padding():
    (conv,) = survey(nn.Sequential(nn.Conv2d(1, 1, 5, padding=2)), 1, 12, 9)
    assert (conv.receptive_field, conv.receptive_field_clipped) == ((5, 5), False)


def test_channels_that_cancel_have_a_receptive_field():
    model = nn.Sequential(nn.Conv1d(1, 4, 3), Mirrored(), nn.GroupNorm(1, 8))
    conv, both, group = survey(model, 1, 20)
    assert conv.receptive_field == both.receptive_field == (3,)
    assert group.receptive_field == (20,)  # a normalisation over space sees all of it


class Mirrored(nn.Module):
    """The sum over its channels is zero, and so is the gradient of that sum."""

    def forward(self, y):
        return torch.cat([y, -y], dim=1)


# ------------------------------------------------------------------------------ recommendation


def test_a_residual_network_gets_the_ends_of_its_stages():
    layers = survey(Residual(), 3, 32, 40)
    assert [layer.name for layer in layers] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2.0", "layer2",
    ]  # fmt: skip
    # At layer2, before average pooling and a linear head, the gradient is constant.
    assert recommended(layers) == ["relu", "layer1", "layer2.0"]
    assert [layer.output_shape for layer in layers if layer.recommended] == [
        (4, 16, 20), (4, 8, 10), (8, 4, 5),
    ]  # fmt: skip


def test_a_wrapper_around_the_network_changes_only_the_names():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.backbone = Residual()

        def forward(self, x):
            return self.backbone(self.norm(x))

    assert recommended(survey(Wrapped(), 3, 32, 32)) == [
        "backbone.relu", "backbone.layer1", "backbone.layer2.0",
    ]  # fmt: skip


def test_of_single_operations_the_last_rectified_one_at_each_resolution():
    # At 8x8 a convolution follows the ReLU that is recommended; at 4x4 a dropout, which returns the
    # same tensor.
    assert recommended(survey(plain(), 3, 16, 16)) == ["0.1", "0.4", "0.8"]


def test_padding_neither_begins_a_stage_nor_changes_the_depth():
    def block(inputs, stride):
        return Padded(nn.Sequential(nn.ZeroPad1d(1), nn.Conv1d(inputs, 4, 3, stride), nn.ReLU()))

    class Padded(nn.Module):
        def __init__(self, inside):
            super().__init__()
            self.inside = inside

        def forward(self, x):
            return self.inside(x)

    model = nn.Sequential(block(2, 1), block(4, 2), block(4, 1), block(4, 2), nn.Flatten())
    layers = survey(model, 2, 40)
    assert [layer.name for layer in layers] == ["0", "1", "2", "3"]
    assert recommended(layers) == ["0", "2", "3"]
    outside = nn.Sequential(nn.ZeroPad1d(2), model)  # the padded input is not a layer
    first, *_ = survey(outside, 2, 40, nested=True)
    assert first.name == "1.0.inside.1"
    # Without padding, sizes shrink slightly (38, 36, 34), then by a stride.
    shrinking = nn.Sequential(*(nn.Conv1d(2, 2, 3) for _ in range(3)), nn.Conv1d(2, 2, 3, 2))
    assert recommended(survey(shrinking, 2, 40)) == ["2", "3"]


def test_without_a_relu_the_last_layer_is_recommended_with_a_warning():
    model = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Tanh(), nn.Conv1d(2, 2, 3, 2), nn.Flatten())
    layers = survey(model, 2, 20)
    assert recommended(layers) == ["1", "2"]
    assert warned(layers, SIGNED) == ["0", "1", "2"]


def test_a_block_with_negative_values_is_not_skipped_for_the_stem():
    stage = nn.Sequential(nn.Conv1d(2, 2, 3, padding=1), nn.Tanh())
    model = nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), stage, nn.AvgPool1d(2), nn.Flatten())
    assert recommended(survey(model, 2, 8)) == ["2", "3"]


def test_nested_adds_the_layers_inside_and_recommends_the_same():
    layers = survey(Residual(), 3, 32, 40, nested=True)
    names = {name for name, module in Residual().named_modules() if name}
    assert {layer.name for layer in layers} == names - {"avgpool", "fc"}
    assert recommended(layers) == ["relu", "layer1", "layer2.0"]


def test_the_last_layer_before_average_pooling_gets_a_warning():
    layers = {layer.name: layer for layer in survey(Residual(), 3, 32, 32)}
    assert layers["layer2"].gradient_is_constant
    assert not any(layers[name].gradient_is_constant for name in ("relu", "maxpool", "layer1"))
    assert recommended(layers.values()) == ["relu", "layer1", "layer2.0"]
    assert warned(layers.values(), CONSTANT) == ["layer2"]
    assert not any(layer.warnings for layer in layers.values() if layer.name in ("relu", "layer1"))
    head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    assert not any(layer.gradient_is_constant for layer in survey(head, 3, 8, 8))


def test_a_layer_that_does_not_reach_the_score_gets_a_warning():
    class SideBranch(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv1d(1, 2, 3), nn.Conv1d(2, 2, 3)

        def forward(self, x):
            y = self.used(x)
            self.unused(y)
            return y.amax(dim=2)

    used, unused = survey(SideBranch(), 1, 9)
    assert (used.reaches_score, unused.reaches_score) == (True, False)
    assert warned([used, unused], UNREACHED) == ["unused"]


def test_a_frozen_model_that_writes_into_its_input():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 3).requires_grad_(False)

        def forward(self, x):
            return self.conv(x.sub_(0.5)).amax(dim=2)

    (conv,) = survey(InPlace(), 1, 9)
    assert conv.receptive_field == (3,)


# ------------------------------------------------------------------------------- what is returned


def test_every_layer_has_a_reason():
    reasons = {layer.name: layer.reason for layer in survey(Residual(), 3, 32, 40, nested=True)}
    assert reasons["relu"] == "last layer without negative values at its resolution"
    assert reasons["conv1"] == reasons["bn1"] == "relu has the same resolution"
    assert reasons["layer1.0"] == "not on the main path"
    tanh = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Tanh(), nn.Flatten())
    assert survey(tanh, 2, 9)[1].reason == "last layer at its resolution"


def test_the_model_is_left_as_it_was():
    model = Residual().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    survey_layers(model, torch.rand(1, 3, 16, 16))
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in model.modules()]
    assert not any(after or before for after, before in hooks)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    "model, size, error, message",
    [
        (nn.Linear(4, 3), (9, 4), ValueError,
         "No layer of this model gives a grid with 1 spatial axes and several positions, for an "
         "input of shape (1, 9, 4), or they change elsewhere than the input does. Pass layers "
         "by name, with Layer(..., layout=...) for tokens and other axes, or "
         "Layer(..., reshape=...) for other orders."),
        (nn.Linear(4, 3), (4,), ValueError,
         "inputs: expected one sample or more, (N, C, *S), with a spatial axis; received "
         "shape (2, 4)."),
        (nn.Sequential(nn.Linear(4, 3)), (9, 5), RuntimeError,
         "The model failed on an input of shape (1, 9, 5): RuntimeError: mat1 and mat2 shapes "
         "cannot be multiplied (9x5 and 4x3)"),
    ],
)  # fmt: skip
def test_errors(model, size, error, message):
    with pytest.raises(error) as caught:
        survey(model, *size)
    # PyTorch 2.15 prefixes its own message.
    assert str(caught.value).replace("addmm: ", "") == message


# ---------------------------------------------------------------------------------- suggestions


def names(layers):
    return [layer.module for layer in layers]


class Attention(nn.Module):
    """A block over tokens (N, L, C), as in a vision transformer."""

    def __init__(self, channels):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y)[0]
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Patches, a class token, blocks, normalisation, a linear head on the class token."""

    def __init__(self, rank=2, folds_frames=False):
        super().__init__()
        self.folds_frames = folds_frames
        self.patches = CONV[2 if folds_frames else rank](3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.Sequential(*(Attention(8) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        if self.folds_frames:  # (N, T, C, H, W): tokens (N, H W T, C), as in TimeSformer
            n, t = x.shape[:2]
            tokens = self.patches(x.flatten(0, 1)).flatten(2)
            tokens = tokens.unflatten(0, (n, t)).permute(0, 3, 1, 2).flatten(1, 2)
        else:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1)
        return self.head(self.norm(self.blocks(tokens))[:, 0])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_tokens_come_with_their_layout(rank):
    # The class token alone leaves the last block; the blocks themselves meet layer normalisation.
    (layer,) = suggest_layers(Transformer(rank).eval(), torch.rand(2, 3, *[16] * rank))
    assert (layer.module, layer.layout) == ("blocks.1.mlp.1", "N L C")


def test_frames_first_and_tokens_whose_time_runs_fastest():
    model, clip = Transformer(folds_frames=True).eval(), torch.rand(2, 6, 3, 16, 8)
    assert suggest_layers(model, clip) == [Layer("blocks.1.mlp.1", layout="N (H W T) C")]
    cam = LayerwiseGradCAM(model, "auto")
    assert cam.attribute(clip).shape == (2, 1, 6, 16, 8)
    assert cam.input_layout.text == "N T C H W"


class ChannelsLast(nn.Module):
    """Patches, then layers on (N, *S, C), the last of which a layer normalisation reads."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.mix = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 9), nn.ReLU())
        self.norm, self.head = nn.LayerNorm(9), nn.Linear(9, 4)

    def forward(self, x):
        y = self.mix(self.patches(x).movedim(1, -1))
        return self.head(self.norm(y * y).amax((1, 2)))


def test_channels_last_are_recognised():
    assert suggest_layers(ChannelsLast().eval(), torch.rand(1, 3, 32, 24)) == [
        Layer("mix", layout="N H W C")
    ]


def test_layers_whose_sums_cancel_are_left_out():
    rows = {layer.name: layer for layer in survey(Transformer(), 3, 16, 16, nested=True)}
    assert rows["blocks.0"].sums_cancel
    assert rows["norm"].sums_cancel
    assert not rows["blocks.1.mlp.1"].sums_cancel
    assert not rows["blocks.2.mlp.1"].reaches_score
    assert rows["blocks.1.mlp.1"].recommended


def test_the_scores_of_a_segmentation_are_left_out():
    class Segmentation(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
            self.classes = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU())

        def forward(self, x):
            return nn.functional.interpolate(self.classes(self.features(x)), scale_factor=2)

    assert names(suggest_layers(Segmentation(), torch.rand(1, 3, 16, 16))) == ["features"]


def test_factorised_convolutions_are_not_entered():
    class Factorised(nn.Sequential):
        def __init__(self, channels):
            over_space = nn.Conv3d(channels, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.ReLU()
            over_time = nn.Conv3d(4, 4, (3, 1, 1), (2, 1, 1), (1, 0, 0)), nn.ReLU()
            super().__init__(nn.Sequential(*over_space), nn.Sequential(*over_time))

    model = nn.Sequential(Factorised(3), Factorised(4), nn.Flatten(), nn.LazyLinear(3))
    clip = torch.rand(1, 3, 16, 16, 16)
    model(clip)
    assert names(suggest_layers(model, clip)) == ["0", "1"]


def test_folded_frames_and_frames_in_a_loop():
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
            self.head = nn.LazyLinear(3)

        def forward(self, x):
            y = self.net(x.transpose(1, 2).flatten(0, 1))
            return self.head(y.unflatten(0, (len(x), -1)).flatten(1))

    class Loop(Folded):
        def forward(self, x):
            y = torch.stack([self.net(frame) for frame in x.unbind(2)], dim=1)
            return self.head(y.flatten(1))

    clip = torch.rand(2, 3, 4, 8, 8)
    folded, loop = Folded(), Loop()
    loop(clip)
    loop.load_state_dict((folded(clip), folded)[1].state_dict())
    assert suggest_layers(folded, clip) == [Layer("net", layout="(N T) C H W")]
    assert suggest_layers(loop, clip) == [Layer("net", calls="stack")]
    maps = [LayerwiseGradCAM(model, "auto").attribute(clip) for model in (folded, loop)]
    torch.testing.assert_close(*maps)
    named = LayerwiseGradCAM(folded, Layer("net", layout="(N T) C H W")).attribute(clip)
    assert torch.equal(maps[0], named)


def test_pathways_in_a_list():
    class Pathways(nn.Module):
        """As SlowFast: two streams at two frame rates, in a list."""

        def __init__(self):
            super().__init__()
            stages = [
                [nn.Sequential(nn.Conv3d(i, 4, 3, (1, 2, 2), 1), nn.ReLU()) for _ in "ab"]
                for i in (3, 4)
            ]
            self.stages = nn.ModuleList(Both(stage) for stage in stages)
            self.head = nn.LazyLinear(3)

        def forward(self, x):
            for stage in self.stages:
                x = stage(x)
            return self.head(torch.cat([y.flatten(1) for y in x], dim=1))

    class Both(nn.Module):
        def __init__(self, paths):
            super().__init__()
            self.paths = nn.ModuleList(paths)

        def forward(self, x):
            for i, path in enumerate(self.paths):
                x[i] = path(x[i])  # into the caller's list, as pytorchvideo does
            return x

    model, clips = Pathways(), [torch.rand(1, 3, t, 16, 16) for t in (2, 8)]
    model(list(clips))
    assert suggest_layers(model, clips) == [
        Layer(f"stages.{stage}", index=path) for stage in (0, 1) for path in (0, 1)
    ]
    assert LayerwiseGradCAM(model, "auto").attribute(clips).shape == (1, 1, 8, 16, 16)
    assert [clip.shape[1] for clip in clips] == [3, 3]


def test_the_layers_of_the_model_itself_come_first():
    model = Residual()
    model.LAYERS = {"first": "relu", "last": Layer("layer2", calls="last")}
    x = torch.rand(1, 3, 32, 32)
    assert suggest_layers(model, x) == [Layer("relu"), Layer("layer2", calls="last")]
    assert recommended(survey(model, 3, 32, 32)) == ["relu", "layer2"]


def test_a_head_of_zeros_tells_no_layer_from_another():
    model = Residual()
    nn.init.zeros_(model.fc.weight)
    assert names(suggest_layers(model, torch.rand(1, 3, 32, 32))) == ["relu", "layer1", "layer2"]


def test_auto_is_resolved_at_the_first_call_and_kept():
    model, x = Residual().eval(), torch.rand(2, 3, 32, 32)
    cam = GlobalLocalCAM2D(model, "auto")
    assert (cam.layers, "layers='auto'" in repr(cam)) == ((), True)
    attribution = cam.attribute(x)
    assert [layer.name for layer in cam.layers] == ["relu", "layer1", "layer2.0"]
    assert "layers=['relu', 'layer1', 'layer2.0']" in repr(cam)
    assert torch.equal(attribution, GlobalLocalCAM2D(model, suggest_layers(model, x)).attribute(x))
    cam.attribute(torch.rand(1, 3, 8, 8))  # at which layer2 has few positions
    assert len(cam.layers) == 3
    wrapped = GlobalLocalCAM2D(lambda x: model(x), "auto")
    assert torch.equal(wrapped.attribute(x), attribution)
    assert torch.equal(GlobalLocalCAM2D(nn.DataParallel(model), "auto").attribute(x), attribution)


def test_a_suggestion_leaves_the_model_as_it_was_also_in_train_mode():
    model, x = Residual().train(), torch.rand(2, 3, 16, 16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    kept = x.clone()
    with torch.no_grad():
        suggest_layers(model, x)
        assert not torch.is_grad_enabled()
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_a_suggestion_takes_six_forward_passes():
    model = Residual().eval()
    runs = []
    model.register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    suggest_layers(model, torch.rand(1, 3, 16, 16))
    assert len(runs) == 6


def test_layers_inside_of_fused_transformer_layers_are_seen():
    """PyTorch fuses them while gradients are off, as in a trial run, and runs no modules inside."""

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 5)
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, x):
            return self.head(self.encoder(self.patch(x).flatten(2).transpose(1, 2)).mean(1))

    names = [info.name for info in survey_layers(Transformer().eval(), IMAGE, nested=True)]
    assert "encoder.layers.0.linear1" in names


def test_an_empty_feature_is_passed_over():
    """Encoders of segmentation networks return one for a resolution that they lack."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=2)

        def forward(self, x):
            return [x.new_empty(len(x), 0, 16, 16), self.conv(x).relu()]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = Encoder(), nn.Linear(4, 5)

        def forward(self, x):
            return self.head(self.encoder(x)[1].amax((2, 3)))

    assert suggest_layers(Network().eval(), IMAGE)


# ---------------------------------------------------------------------------------------- in words

LISTED = [
    LayerInfo("stem", "Conv2d", (8, 16, 16), False, (3, 3), recommended=True, reason="first"),
    LayerInfo("body.mix", "Block", (16, 4, 4), True, (9, 9), True, reason="second"),
    LayerInfo("head", "Linear", (5,), True, reason="third"),
]


def test_a_table_of_layers():
    assert format_table(LISTED) == [
        "   layer     type    output   receptive field  why",
        "*  stem      Conv2d  8x16x16  3x3              first",
        "   body.mix  Block   16x4x4   >= 9x9           second",
        "   head      Linear  5        -                third",
    ]


def test_advice_on_layers():
    first, warning = format_advice(LISTED)
    assert first == "--layers stem"
    assert warning.startswith(f"stem: {SIGNED}")
    several = [LayerInfo(name, "Conv2d", (8, 4, 4), False, recommended=True) for name in "ab"]
    assert format_advice(several)[1].startswith(f"a, b: {SIGNED}")


def test_layers_that_need_more_than_a_name_are_shown_in_python():
    tokens = LayerInfo("mix", "Block", (8, 4, 4), True, recommended=True, layout="N L C")
    twice = LayerInfo("head", "Conv2d", (8, 4, 4), True, recommended=True, calls="sum", index=1)
    plain = LayerInfo("stem", "Conv2d", (8, 4, 4), True, recommended=True)
    assert format_advice([tokens, twice, plain]) == [
        "--layers auto",
        "layers=[Layer('mix', layout='N L C'), Layer('head', index=1, calls='sum'), 'stem']",
    ]
