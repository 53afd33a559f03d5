"""Input validation that the functions share."""

import numpy as np
import pytest
import torch
from localization_reference import frame_of

from captum_3dcam import localization as loc

IMAGES, CLIPS = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 4, 4)
ON_MAPS = [loc.binarize, loc.boxes, loc.frame_boxes, loc.tubes]


@pytest.mark.parametrize("function", ON_MAPS)
@pytest.mark.parametrize(
    ("maps", "received"),
    [
        (torch.ones(4, 4), r"shape \(4, 4\)"),
        (torch.ones(1, 3, 2, 4, 4), r"shape \(1, 3, 2, 4, 4\)"),
        (torch.ones(1, 1, 2, 0, 4), r"shape \(1, 1, 2, 0, 4\)"),
    ],
)
def test_maps_of_another_shape_raise(function, maps, received):
    with pytest.raises(
        ValueError, match=rf"Expected maps \(N, 1, \*S\) .*; got {received}\. Add missing"
    ):
        function(maps)


@pytest.mark.parametrize("function", ON_MAPS)
def test_arrays_raise(function):
    with pytest.raises(TypeError, match="Expected maps as a tensor; got ndarray"):
        function(np.ones((1, 1, 4, 4)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_raise(bad):
    maps = CLIPS.clone()
    maps[0, 0, 0, 0, 0] = bad
    for function in ON_MAPS:
        with pytest.raises(ValueError, match="Expected finite maps; got NaN or Inf"):
            function(maps)
    with pytest.raises(ValueError, match="Expected finite profile"):
        loc.segments(torch.tensor([[1.0, bad]]))
    with pytest.raises(ValueError, match="Expected finite boxes"):
        loc.link([[frame_of((0, 0, 1, bad, 1.0))]])
    with pytest.raises(ValueError, match="Expected finite scores"):
        loc.link([[frame_of((0, 0, 1, 1, bad))]])


def test_complex_and_sparse_maps_raise():
    with pytest.raises(TypeError, match=r"Expected real maps; got torch\.complex64"):
        loc.binarize(torch.ones(1, 1, 4, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"Expected maps as a dense tensor; got torch\.sparse_coo"):
        loc.binarize(torch.ones(1, 1, 4).to_sparse())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loc.binarize(IMAGES, value="0.5"), "value='0.5': expected a number"),
        (lambda: loc.segments(torch.ones(1, 4), high=None), "high=None: expected a number"),
        (lambda: loc.link([], min_iou="0.5"), "min_iou='0.5': expected a number"),
        (lambda: loc.link(None), "frames=None: expected a list of samples"),
        (lambda: loc.link([None]), "a sample of frames=None: expected a list of Boxes"),
        (lambda: loc.link([[loc.Boxes(None, None)]]), "Expected boxes as a tensor; got NoneType"),
        (lambda: loc.Segment("0", 1, 1.0), "start='0': expected a number"),
        (lambda: loc.Segment(0, 1, None), "score=None: expected a number"),
        (lambda: loc.Segment(0, 1, 1.0, "25"), "fps='25': expected a number"),
        (lambda: loc.Tube(0, None, 1.0), "Expected boxes as a tensor; got NoneType"),
        (lambda: loc.Tube(0, torch.ones(1, 4), "1"), "score='1': expected a number"),
        (lambda: loc.iou([0, 0, 1, 1], torch.ones(4)), "Expected a as a tensor; got list"),
        (lambda: loc.components([[True]]), "Expected mask as a tensor; got list"),
    ],
)
def test_arguments_of_another_type_raise(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("a", "b"), [((3,), (3,)), ((), ()), ((2, 0), (2, 0)), ((3, 4), (2, 4)), ((4,), (6,))]
)
def test_boxes_that_do_not_fit_raise(a, b):
    with pytest.raises(ValueError, match=r"boxes \(\.\.\., 2R\)"):
        loc.iou(torch.ones(a), torch.ones(b))


def test_the_iou_of_unsigned_integers_does_not_wrap_around():
    box = torch.tensor([[0, 0, 2, 2], [4, 4, 6, 6]], dtype=torch.uint8)
    assert loc.iou(box[:, None], box).tolist() == [[1, 0], [0, 1]]


def test_tubes_start_at_a_frame():
    with pytest.raises(ValueError, match="start=0.5: expected an integer"):
        loc.Tube(0.5, torch.ones(1, 4), 1.0)
    assert loc.Tube(-1, torch.ones(2, 4), 1.0).end == 1


@pytest.mark.parametrize("function", [loc.boxes, loc.tubes, loc.frame_boxes])
def test_masks_are_validated(function):
    with pytest.raises(
        TypeError, match=r"Expected a bool mask; got torch\.float32\. .* binarize\(maps\)"
    ):
        function(CLIPS, CLIPS)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 2, 4, 4\); got shape \(1, 1, 1, 4, 4\)"):
        function(CLIPS, CLIPS[:, :, :1] > 0)
    with pytest.raises(
        ValueError, match=r"Expected mask \(N, 1, \*S\) .*; got shape \(2, 4, 4\)\. Add"
    ):
        function(CLIPS, CLIPS[0, 0] > 0)


def test_components_validates_its_mask():
    with pytest.raises(TypeError, match=r"Expected a bool mask; got torch\.float32"):
        loc.components(CLIPS)
    with pytest.raises(ValueError, match=r"Expected mask \(N, 1, \*S\) .*; got shape \(4, 4\)"):
        loc.components(CLIPS[0, 0, 0] > 0)


@pytest.mark.parametrize(
    ("connectivity", "limit"),
    [
        (0, "an integer, 1 or more"),
        (-1, "an integer, 1 or more"),
        (8, "at most 2, the number of axes .* 2 means 8"),
    ],
)
def test_connectivity_counts_axes_not_neighbours(connectivity, limit):
    expected = rf"connectivity={connectivity}: expected {limit}"
    for call in (
        lambda: loc.components(torch.ones(1, 1, 4, 4) > 0, connectivity),
        lambda: loc.boxes(torch.ones(1, 1, 4, 4), connectivity=connectivity),
        lambda: loc.frame_boxes(CLIPS, connectivity=connectivity),
    ):
        with pytest.raises(ValueError, match=expected):
            call()
    with pytest.raises(ValueError, match=expected.replace("at most 2", "at most 3")):
        loc.tubes(CLIPS, connectivity=connectivity)


def test_errors_for_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="method='max' is not known. Choose one of 'relative', 'q"):
        loc.binarize(torch.ones(1, 1, 4, 4), "max")
    with pytest.raises(ValueError, match="select='best' is not known. Choose one of 'largest', 'a"):
        loc.boxes(torch.ones(1, 1, 4, 4), select="best")


@pytest.mark.parametrize("function", [loc.frame_boxes, loc.tubes])
def test_clips_have_a_time_axis_and_a_spatial_axis(function):
    expected = r"Expected maps \(N, 1, T, \*S\).*; got shape \(1, 1, 5\)\. .* use segments\(\)"
    with pytest.raises(ValueError, match=expected):
        function(torch.ones(1, 1, 5))


@pytest.mark.parametrize("fps", [0, -25.0, float("nan"), float("inf")])
def test_frame_rates_that_are_not_positive_raise(fps):
    for call in (
        lambda: loc.segments(torch.ones(1, 4), fps=fps),
        lambda: loc.tubes(torch.zeros(1, 1, 2, 2, 2), fps=fps),
        lambda: loc.link([], fps=fps),
        lambda: loc.Segment(0, 1, 1.0, fps),
        lambda: loc.Tube(0, torch.ones(1, 4), 1.0, fps),
    ):
        with pytest.raises(ValueError, match=f"fps={fps}: expected a finite number above 0"):
            call()


def test_seconds_need_a_frame_rate():
    for span in (loc.Segment(3, 5, 1.0), loc.Tube(3, torch.ones(2, 4), 1.0)):
        with pytest.raises(ValueError, match=r"frames \[3, 5\) have no time in seconds.*Pass fps"):
            _ = span.seconds


def test_lengths_and_gaps_are_integers():
    functions = [lambda **o: loc.link([], **o), lambda **o: loc.segments(torch.ones(1, 4), **o)]
    for function in functions:
        with pytest.raises(ValueError, match="min_length=0: expected an integer, 1 or more"):
            function(min_length=0)
        with pytest.raises(ValueError, match="max_gap=-1: expected an integer, 0 or more"):
            function(max_gap=-1)
        with pytest.raises(ValueError, match=r"max_gap=1\.5: expected an integer, 0 or more"):
            function(max_gap=1.5)
