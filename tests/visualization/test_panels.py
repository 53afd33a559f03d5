"""Panels of several maps: which map is in which row, under which name and colour scale."""

import numpy as np
import pytest
import torch
from figures import grid_positions, pixels, values
from matplotlib.figure import Figure

from captum_3dcam import CounterfactualCAM, FrameTimes, LayerwiseGlobalLocalCAM
from captum_3dcam.io import Volume
from captum_3dcam.visualization import Scan, Style, visualize_attr_panels, visualize_volume_attr

GENERATOR = torch.Generator().manual_seed(2)
MAPS = torch.rand(3, 6, 4, 5, generator=GENERATOR) * torch.tensor([1.0, 2, 4])[:, None, None, None]
AGAINST = torch.rand(1, 1, 6, 4, 5, generator=GENERATOR)
VIDEO = torch.rand(6, 8, 10, 3, generator=GENERATOR)
NAMES = ["run", "jump", "fall"]


def name_of(ax):
    """The name of a row, above its first image and that one's label."""
    return next(text.get_text().rstrip("\n") for text in ax.texts)


def heat(ax):
    return values(ax.images[-1])


def test_rows_are_maps_and_columns_are_frames():
    names = [*NAMES, "counterfactual"]
    figure, axes = visualize_attr_panels(
        [*MAPS, AGAINST], VIDEO, names, frames=[0, 3], fps=2, start=4, title="why"
    )
    assert grid_positions(axes) == [(row, column) for row in range(4) for column in range(2)]
    for row, attr in enumerate([*MAPS, AGAINST[0, 0]]):
        for column, frame in enumerate((0, 3)):
            ax = axes[2 * row + column]
            np.testing.assert_allclose(heat(ax), attr[frame])
            grey = VIDEO[frame].mean(dim=-1)
            np.testing.assert_allclose(values(ax.images[0]), grey, rtol=1e-6)
            assert ax.images[1].get_clim() == (0, pytest.approx(float(MAPS.max())))
    assert [name_of(ax) for ax in axes[::2]] == names
    assert [ax.get_title() for ax in axes[:4]] == ["2.00 s", "3.50 s", "", ""]
    assert figure.get_suptitle() == "why"
    assert len(figure.axes) == len(axes) + 1  # one bar for all
    pixels(figure)


def test_scale_row_gives_each_map_its_own_scale_and_bar():
    maps = [*MAPS, MAPS.sum(dim=0)]
    figure, axes = visualize_attr_panels(
        maps, VIDEO, ["a", "b", "c", "fused"], frames=2, style=Style(scale="row")
    )
    bars = figure.axes[8:]
    for row, attr in enumerate(maps):
        for ax in axes[2 * row : 2 * row + 2]:
            assert ax.images[1].get_clim() == (0, pytest.approx(float(attr.max())))
        assert bars[row].get_ylim()[1] == pytest.approx(float(attr.max()))
    np.testing.assert_allclose(heat(axes[-1]), maps[-1][-1])


@pytest.mark.parametrize(("factor", "own"), [(1.0, False), (4.9, False), (5.1, True)])
def test_maps_that_are_not_comparable_have_scales_of_their_own(factor, own):
    maps = [heat / heat.max() * scale for heat, scale in zip(MAPS, (1, factor, 0), strict=True)]
    figure, axes = visualize_attr_panels(maps, VIDEO, NAMES, frames=2)
    tops = [pytest.approx(top) for top in ((1, factor) if own else (factor, factor))]
    assert [ax.images[1].get_clim()[1] for ax in (axes[0], axes[2])] == tops
    labels = [bar.get_ylabel() or bar.get_xlabel() for bar in figure.axes[6:]]
    # The zero map has the space of a bar.
    assert labels == (["attribution (this map)"] * 2 + [""] if own else ["attribution"])
    assert [[text.get_text().rstrip() for text in ax.texts] for ax in axes[::2]] == [
        ["run"], ["jump"], ["the map is zero", "fall"]
    ]  # fmt: skip
    _, axes = visualize_attr_panels(maps, VIDEO, NAMES, frames=2, style=Style(scale="shared"))
    assert axes[0].images[1].get_clim() == axes[2].images[1].get_clim()
    _, axes = visualize_attr_panels(maps, VIDEO, NAMES, frames=2, style=Style(vmax=3.0))
    assert {ax.images[1].get_clim() for ax in axes} == {(0, 3)}


def test_more_frames_than_fit_continue_below_all_maps():
    _, axes = visualize_attr_panels(MAPS[:2], VIDEO, NAMES[:2], frames=6)
    first, second = grid_positions(axes[:6]), grid_positions(axes[6:])
    assert first == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]
    assert second == [(1, 0), (1, 1), (1, 2), (3, 0), (3, 1), (3, 2)]
    assert [ax.get_title() for ax in axes] == [*"012345", *[""] * 6]
    assert [name_of(axes[i]) for i in (0, 3, 6, 9)] == ["run", "run", "jump", "jump"]
    np.testing.assert_allclose(heat(axes[9]), MAPS[1, 3])


def test_raw_panels_are_the_first_row():
    _, axes = visualize_attr_panels(MAPS, VIDEO, NAMES, frames=2, style=Style(raw=True))
    assert [name_of(ax) for ax in axes[::2]] == ["input", *NAMES]
    assert [len(ax.images) for ax in axes] == [1] * 2 + [2] * 6
    np.testing.assert_allclose(values(axes[1].images[0]), VIDEO[5], rtol=1e-6)
    maps = [torch.rand(4, 5)] * 3
    _, axes = visualize_attr_panels(maps, VIDEO[0], NAMES, style=Style(raw=True))
    assert [ax.get_title() for ax in axes] == ["input", *NAMES]
    assert {row for row, _ in grid_positions(axes)} == {0}
    scan = Scan(np.random.default_rng(0).random((6, 8, 10)))
    _, axes = visualize_attr_panels(MAPS, scan, NAMES, frames=2, style=Style(raw=True))
    assert [len(ax.images) for ax in axes] == [1] * 2 + [2] * 6


def test_scale_each_divides_each_image_by_its_maximum():
    figure, axes = visualize_attr_panels(
        MAPS, VIDEO, NAMES, frames=[1, 2], style=Style(scale="each")
    )
    for i, ax in enumerate(axes):
        attr = MAPS[i // 2, 1 + i % 2]
        np.testing.assert_allclose(heat(ax), attr / attr.max(), rtol=1e-6)
        assert ax.images[1].get_clim() == (0, 1)
    assert figure.axes[-1].get_xlabel() == "attribution / image's maximum"


def test_one_negative_value_makes_every_scale_diverging():
    signed = MAPS.clone()
    signed[1, 0, 0, 0] = -9.0
    _, axes = visualize_attr_panels(signed, VIDEO, NAMES, frames=1, style=Style(scale="shared"))
    assert [ax.images[1].get_clim() for ax in axes] == [(-9, 9)] * 3
    _, axes = visualize_attr_panels(signed, VIDEO, NAMES, frames=1, style=Style(scale="row"))
    assert [ax.images[1].get_clim()[0] < 0 for ax in axes] == [True] * 3


def test_maps_of_an_image_are_side_by_side_whatever_their_sizes():
    maps = [torch.rand(1, 1, 8, 8), torch.rand(1, 1, 2, 2), 10 * torch.rand(8, 8)]
    for image in (torch.rand(8, 10, 3), torch.rand(8, 10), torch.rand(8, 10, 1)):
        figure, axes = visualize_attr_panels(
            maps, image, ["stem", "deep", "fused"], style=Style(scale="row")
        )
        assert [ax.get_title() for ax in axes] == ["stem", "deep", "fused"]
        assert {row for row, _ in grid_positions(axes)} == {0}
        assert all(ax.images[1].get_extent() == [-0.5, 9.5, 7.5, -0.5] for ax in axes)
    pixels(figure)
    # Each bar has ticks for its own scale.
    for bar, attr in zip(figure.axes[3:], maps, strict=True):
        assert 2 <= np.sum(bar.get_xticks() <= float(attr.max())) <= 4


def test_a_volume_is_cut_into_slices_with_its_spacing_and_letters():
    volume = np.arange(6 * 8 * 10.0).reshape(6, 8, 10)
    attr = torch.rand(1, 2, 3, 4, 5)
    scan = Scan(volume, spacing=(4, 1, 2), orientation="SPL")
    figure, axes = visualize_attr_panels(attr, scan, ["a", "b"], frames=[0, 5])
    assert [ax.get_title() for ax in axes[:2]] == ["D = 0 (0 mm)", "D = 5 (20 mm)"]
    np.testing.assert_allclose(heat(axes[1]), attr[0, 0, 2])  # the last of three covers 4 and 5
    assert axes[0].images[1].get_extent() == [-1, 19, 7.5, -0.5]
    assert {text.get_text() for text in axes[1].texts} == set("RLAP")
    np.testing.assert_allclose(values(axes[1].images[0]), values(axes[3].images[0]))
    pixels(figure)


def test_a_volume_of_io_is_drawn_with_its_affine():
    volume = Volume(np.random.default_rng(0).random((6, 8, 10)), np.diag([2.0, 1.0, 1.0, 1.0]))
    _, axes = visualize_attr_panels(torch.rand(1, 6, 8, 10), volume, ["a"], frames=[0, 5])
    assert [ax.get_title() for ax in axes] == ["D = 0, R (0 mm)", "D = 5, R (10 mm)"]
    assert {text.get_text() for text in axes[1].texts} == set("APSI")  # RAS: D is sagittal


def test_the_slices_of_an_oblique_volume_are_labelled_as_where_the_map_alone_is_cut():
    affine = np.array([[0, 0.3, 2.0, 0], [0.2, 2.0, 0, 0], [2.0, 0, 0.3, 0], [0, 0, 0, 1]])
    volume = Volume(np.random.default_rng(0).random((6, 8, 10)), affine)
    heat = torch.zeros(1, 6, 8, 10)
    heat[0, 4, 1, 9] = 1
    _, axes = visualize_attr_panels(heat, volume, ["a"], frames=[4])
    _, alone = visualize_volume_attr(heat[0], volume)
    assert axes[0].get_title() == alone[0].get_title().replace("axial", "a")
    assert f"{volume.to_mm((4, 1, 9))[2]:g} mm" in axes[0].get_title()


def test_the_panels_of_a_volume_share_the_patients_axes():
    volume = Volume(np.random.default_rng(0).random((6, 8, 10)), np.diag([2.0, 1.0, 1.0, 1.0]))
    _, axes = visualize_attr_panels(torch.rand(2, 6, 8, 10), volume, ["a", "b"], frames=2)
    assert [ax.get_ylabel() for ax in axes] == ["S (mm)", "", "S (mm)", ""]
    assert [ax.get_xlabel() for ax in axes] == ["", "", "A (mm)", "A (mm)"]
    assert [bool(len(ax.get_xticks())) for ax in axes] == [False, False, True, True]


def test_extreme_voxels_make_panels_of_usual_size():
    volume = Volume(np.random.default_rng(0).random((6, 8, 10)), np.diag([1.0, 1.0, 2000.0, 1.0]))
    for codes in ((1, 2), (2, 1)):
        scan = Volume(volume.data.transpose(0, *codes), volume.affine[:, [0, *codes, 3]])
        maps = torch.rand(2, *scan.shape)
        figure, _ = visualize_attr_panels(maps, scan, ["a", "b"], frames=3)
        assert max(figure.get_size_inches()) < 40


def test_a_single_frame_is_titled_with_the_name_and_the_frame():
    _, axes = visualize_attr_panels(MAPS, VIDEO, NAMES, frames=[4])
    assert [ax.get_title() for ax in axes] == ["run, 4", "jump, 4", "fall, 4"]


def test_results_of_the_attribution_classes_are_drawn_unchanged():
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
    names = [*(str(int(c)) for c in classes[0]), "counterfactual"]
    _, axes = visualize_attr_panels([*maps[0], against], VIDEO, names, frames=2)
    np.testing.assert_allclose(heat(axes[3]), maps[0, 1, 5])
    _, axes = visualize_attr_panels(maps, VIDEO, names[:2], frames=2)
    np.testing.assert_allclose(heat(axes[3]), maps[0, 1, 5])
    layers = cam.attribute(clip, per_layer=True)
    _, axes = visualize_attr_panels(layers, VIDEO, ["1", "3"], frames=2)
    np.testing.assert_allclose(heat(axes[0]), layers[0][0, 0, 0])


def test_the_figure_and_axes_given_are_drawn_on():
    figure = Figure()
    given = list(figure.subplots(3, 2).flat)
    style = Style(plt_fig_axis=(figure, given), show_colorbar=False)
    own, axes = visualize_attr_panels(MAPS, VIDEO, NAMES, frames=2, style=style)
    assert (own, axes, figure.axes) == (figure, given, given)
    with pytest.raises(ValueError, match="needs 9 axes; plt_fig_axis has 6"):
        visualize_attr_panels(MAPS, VIDEO, NAMES, frames=3, style=style)


@pytest.mark.parametrize(
    ("attr", "original", "given", "message"),
    [
        (MAPS[:2], VIDEO, {}, "There are 2 maps and 3 names. Choose one sample: attr"),
        ([], VIDEO, {}, "attr holds no map"),
        (np.array(1.0), VIDEO, {}, r"one map \(T, H, W\) .*; got shape \(\)"),
        (MAPS[:, :5], VIDEO, {}, "The map has 5 frames and the video 6"),
        (MAPS[:, 0], VIDEO, {}, r"one map \(T, H, W\) or \(D, H, W\)"),
        (MAPS, VIDEO, {"fps": -1}, "fps=-1: expected a finite number above 0"),
        (MAPS, VIDEO, {"frames": [6]}, "frames from 0 to 5"),
        (MAPS, Scan(VIDEO[..., 0]), {"fps": 2}, "fps and start are of a video"),
        (MAPS, Scan(VIDEO[..., 0]), {"start": 2}, "fps and start are of a video"),
    ],
)
def test_invalid_maps_and_names_raise(attr, original, given, message):
    with pytest.raises(ValueError, match=message):
        visualize_attr_panels(attr, original, NAMES, **given)


def test_frames_are_labelled_by_their_own_times():
    times = FrameTimes([0.0, 0.1, 0.5, 0.6, 3.0, 3.1, 3.2])
    _, axes = visualize_attr_panels(MAPS, VIDEO, NAMES, frames=[0, 2, 4], fps=times)
    assert [ax.get_title() for ax in axes[:3]] == ["0.00 s", "0.50 s", "3.00 s"]
    with pytest.raises(ValueError, match="fps holds the times of 5 frames"):
        visualize_attr_panels(MAPS, VIDEO, NAMES, fps=times.take(range(5)))
