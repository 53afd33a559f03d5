"""Panels of several maps: which map stands in which row, under which name and scale."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captum_3dcam import CounterfactualCAM, LayerwiseGlobalLocalCAM
from captum_3dcam.visualization import visualize_classes_attr, visualize_layers_attr

GENERATOR = torch.Generator().manual_seed(2)
CLIPS = torch.rand(3, 6, 4, 5, generator=GENERATOR) * torch.tensor([1.0, 2, 4])[:, None, None, None]
AGAINST = torch.rand(1, 1, 6, 4, 5, generator=GENERATOR)
VIDEO = torch.rand(6, 8, 10, 3, generator=GENERATOR)
NAMES = ["run", "jump", "fall"]


def heat(ax):
    return np.asarray(ax.images[-1].get_array())


def test_rows_are_classes_and_the_counterfactual_columns_are_frames():
    figure, axes = visualize_classes_attr(
        CLIPS, VIDEO, NAMES, [0.7, 0.2, 0.1], AGAINST, frames=[0, 3], fps=2, start=4, title="why"
    )
    assert len(axes) == 4 * 2
    for row, attr in enumerate([*CLIPS, AGAINST[0, 0]]):
        for column, frame in enumerate((0, 3)):
            ax = axes[2 * row + column]
            np.testing.assert_allclose(heat(ax), attr[frame])
            grey = VIDEO[frame].mean(dim=-1)
            np.testing.assert_allclose(np.asarray(ax.images[0].get_array()), grey, rtol=1e-6)
            assert ax.images[1].get_clim() == (0, pytest.approx(float(CLIPS.max())))
            place = ax.get_subplotspec()
            assert (place.rowspan.start, place.colspan.start) == (row, column)
    names = [ax.get_ylabel() for ax in axes[::2]]
    assert names == ["run (0.70)", "jump (0.20)", "fall (0.10)", "counterfactual"]
    assert [ax.get_title() for ax in axes[:4]] == ["2.00 s", "3.50 s", "", ""]
    assert figure.get_suptitle() == "why"
    assert len(figure.axes) == len(axes) + 1  # one bar for all
    FigureCanvasAgg(figure).draw()


def test_layers_have_their_own_scales_and_the_fused_map_comes_last():
    fused = CLIPS.sum(dim=0)
    figure, axes = visualize_layers_attr(list(CLIPS), VIDEO, ["a", "b", "c"], fused, frames=2)
    assert [ax.get_ylabel() for ax in axes[::2]] == ["a", "b", "c", "fused"]
    bars = figure.axes[8:]
    for row, attr in enumerate([*CLIPS, fused]):
        for ax in axes[2 * row : 2 * row + 2]:
            assert ax.images[1].get_clim() == (0, pytest.approx(float(attr.max())))
        assert bars[row].get_ylim()[1] == pytest.approx(float(attr.max()))
    np.testing.assert_allclose(heat(axes[-1]), fused[-1])


def test_each_picture_by_its_own_maximum_when_asked():
    figure, axes = visualize_layers_attr(CLIPS, VIDEO, NAMES, frames=[1, 2], scale="each")
    for i, ax in enumerate(axes):
        attr = CLIPS[i // 2, 1 + i % 2]
        np.testing.assert_allclose(heat(ax), attr / attr.max(), rtol=1e-6)
        assert ax.images[1].get_clim() == (0, 1)
    assert figure.axes[-1].get_ylabel() == "attribution / picture's maximum"


def test_one_negative_value_makes_every_row_diverge():
    signed = CLIPS.clone()
    signed[1, 0, 0, 0] = -9.0
    _, axes = visualize_classes_attr(signed, VIDEO, NAMES, frames=1)
    assert [ax.images[1].get_clim() for ax in axes] == [(-9, 9)] * 3


def test_the_maps_of_an_image_stand_side_by_side_whatever_their_sizes():
    maps = [torch.rand(1, 1, 8, 8), torch.rand(1, 1, 2, 2)]
    for image in (torch.rand(8, 10, 3), torch.rand(8, 10), torch.rand(8, 10, 1)):
        figure, axes = visualize_layers_attr(maps, image, ["stem", "deep"], torch.rand(8, 8))
        assert [ax.get_title() for ax in axes] == ["stem", "deep", "fused"]
        assert {ax.get_subplotspec().rowspan.start for ax in axes} == {0}
        assert all(ax.images[1].get_extent() == [-0.5, 9.5, 7.5, -0.5] for ax in axes)
    assert len(figure.axes) == 6
    FigureCanvasAgg(figure).draw()


def test_a_volume_is_cut_into_slices_with_its_spacing_and_letters():
    volume = np.arange(6 * 8 * 10.0).reshape(6, 8, 10)
    attr = torch.rand(1, 2, 3, 4, 5)
    figure, axes = visualize_classes_attr(
        attr, volume, ["a", "b"], frames=[0, 5], spacing=(4, 1, 2), orientation="SPL"
    )
    assert [ax.get_title() for ax in axes[:2]] == ["D = 0 (0 mm)", "D = 5 (20 mm)"]
    np.testing.assert_allclose(heat(axes[1]), attr[0, 0, 2])  # the last of three covers 4 and 5
    assert axes[0].images[1].get_extent() == [-1, 19, 7.5, -0.5]
    assert {text.get_text() for text in axes[0].texts} == set("RLAP")
    np.testing.assert_allclose(
        np.asarray(axes[1].images[0].get_array()), np.asarray(axes[3].images[0].get_array())
    )
    FigureCanvasAgg(figure).draw()


def test_one_frame_of_each_names_both_the_map_and_the_frame():
    _, axes = visualize_classes_attr(CLIPS, VIDEO, NAMES, frames=[4])
    assert [ax.get_title() for ax in axes] == ["run, 4", "jump, 4", "fall, 4"]


def test_what_the_attribution_classes_return_is_drawn_as_it_comes():
    model = torch.nn.Sequential(
        torch.nn.Conv3d(3, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv3d(4, 4, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 5),
    )
    clip = VIDEO.movedim(-1, 0)[None]
    cam = LayerwiseGlobalLocalCAM(model, ["1", "3"])
    maps, classes = cam.attribute_top_k(clip, 2)
    against = CounterfactualCAM(model, ["1", "3"]).attribute(clip)
    names = [str(int(c)) for c in classes[0]]
    _, axes = visualize_classes_attr(maps, VIDEO, names, counterfactual=against, frames=2)
    np.testing.assert_allclose(heat(axes[3]), maps[0, 1, 5])
    layers = cam.attribute(clip, per_layer=True)
    _, axes = visualize_layers_attr(layers, VIDEO, ["1", "3"], cam.attribute(clip), frames=2)
    np.testing.assert_allclose(heat(axes[0]), layers[0][0, 0, 0])


def test_on_axes_that_one_has():
    figure = Figure()
    given = list(figure.subplots(3, 2).flat)
    found, axes = visualize_classes_attr(
        CLIPS, VIDEO, NAMES, frames=2, plt_fig_axis=(figure, given), show_colorbar=False
    )
    assert (found, axes, figure.axes) == (figure, given, given)
    with pytest.raises(ValueError, match="needs 9 axes; plt_fig_axis has 6"):
        visualize_classes_attr(CLIPS, VIDEO, NAMES, frames=3, plt_fig_axis=(figure, given))


@pytest.mark.parametrize(
    ("attr", "names", "given", "message"),
    [
        (CLIPS, NAMES[:2], {}, "There are 3 maps and 2 class_names. Choose one sample: attr"),
        (CLIPS, NAMES, {"class_scores": [1.0]}, "3 class_names and 1 class_scores"),
        ([], [], {}, "attr holds no map"),
        (CLIPS[:, :5], NAMES, {}, "The map has 5 frames and the video 6"),
        (CLIPS[:, 0], NAMES, {}, r"one map \(T, H, W\) or \(D, H, W\)"),
        (CLIPS, NAMES, {"scale": "column"}, "scale='column' is not known"),
        (CLIPS, NAMES, {"scale": "row", "vmax": 1.0}, "vmax=1.0 is one scale for all"),
        (CLIPS, NAMES, {"fps": -1}, "fps must be positive"),
        (CLIPS, NAMES, {"frames": [6]}, "frames from 0 to 5"),
        (CLIPS, NAMES, {"orientation": "SPL"}, "orientation is that of a volume: give its spacing"),
        (CLIPS, NAMES, {"spacing": (1, 1, 1)}, "one grey volume"),
        (CLIPS, NAMES, {"spacing": (1, 1, 1), "fps": 2}, "fps and start are of a video"),
    ],
)
def test_maps_and_names_that_do_not_fit_are_named(attr, names, given, message):
    with pytest.raises(ValueError, match=message):
        visualize_classes_attr(attr, VIDEO, names, **given)


def test_a_layer_without_a_name_is_named():
    with pytest.raises(ValueError, match="There are 3 maps and 1 layer_names"):
        visualize_layers_attr(CLIPS, VIDEO, ["stem"])
