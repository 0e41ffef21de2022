"""Whether a model fits the microscope: every refusal says given, expected and what to do."""

import pytest

from livestain.bundle import InputSpec, WindowSpec, check_fit
from livestain.errors import BundleError
from livestain.planes import PlaneIndex


def with_window(description, **window):
    spec = description.input.model_copy(update={"window": WindowSpec(**window)})
    return description.model_copy(update={"input": spec})


def test_what_fits_passes(description):
    check_fit(description)
    check_fit(description, kind="brightfield", pixel_size_um=0.08, n_z=3, z_step_um=0.54)
    check_fit(with_window(description, z=1), n_z=1, z_step_um=None)
    check_fit(with_window(description, z=1), n_z=5, z_step_um=3.0)
    check_fit(with_window(description, z="all", depth=5), n_z=5, z_step_um=0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "phase"}, "source channel is phase.*trained on brightfield.*[Cc]hoose"),
        ({"pixel_size_um": 0.0}, r"uncalibrated.*0\.08 to 0\.13 um.*--pixel-size"),
        ({"pixel_size_um": float("nan")}, "uncalibrated"),
        ({"pixel_size_um": 0.2}, r"0\.2 um.*trained at 0\.1 um.*0\.08 to 0\.13.*Choose"),
        ({"pixel_size_um": 0.07}, r"0\.07 um"),
        ({"n_z": 1}, r"no z-stack.*z-window of 3 planes.*z-plan, 0\.5 um"),
        ({"n_z": 2}, r"2 z-planes.*z-window of 3 planes"),
        ({"n_z": 3, "z_step_um": 1.0}, r"z-step is 1 um.*trained at 0\.5 um.*10%.*Set"),
    ],
)
def test_what_does_not_fit_is_refused(description, given, message):
    with pytest.raises(BundleError, match=message):
        check_fit(description, **given)


@pytest.mark.parametrize(
    ("n_z", "message"), [(1, "no z-stack.*whole stack of 5"), (4, "4 z-planes"), (6, "6 z-planes")]
)
def test_a_whole_stack_must_have_its_depth(description, n_z, message):
    with pytest.raises(BundleError, match=message):
        check_fit(with_window(description, z="all", depth=5), n_z=n_z)


@pytest.mark.parametrize(
    "given",
    [
        {"pixel_size_um": 0.1, "pixel_size_range_um": (0.2, 0.3)},
        {"pixel_size_um": 0.1, "pixel_size_range_um": (0.1, 0.1), "window": {"z": 3}},
        {"pixel_size_um": 0.1, "pixel_size_range_um": (0.1, 0.1), "window": {"z": 2}},
        {"pixel_size_um": 0.1, "pixel_size_range_um": (0.1, 0.1), "window": {"z": "all"}},
        {"pixel_size_um": 0.1, "pixel_size_range_um": (0.1, 0.1), "window": {"depth": 3}},
        {"pixel_size_um": -1, "pixel_size_range_um": (0.1, 0.1)},
    ],
)
def test_a_description_that_contradicts_itself_is_refused(given):
    with pytest.raises(ValueError, match="validation error"):
        InputSpec(**given)


def test_planes_of_a_window_are_counted():
    assert WindowSpec(z=3, past=2).n_planes == 9
    assert WindowSpec(z="all", depth=7).n_planes == 7


@pytest.mark.parametrize("past", [0, 1, 2])
@pytest.mark.parametrize("future", [0, 1])
@pytest.mark.parametrize("z", [1, 3])
def test_the_own_plane_is_where_the_window_has_the_target(z, past, future):
    target = PlaneIndex(0, 4, 1, 2)
    spec = WindowSpec(z=z, past=past, future=future)
    sources = spec.window().sources(target, 0, n_t=9, n_z=5)
    assert sources[spec.own_plane] == target.at(c=0)


def test_the_own_plane_of_a_stack_is_its_middle():
    assert WindowSpec(z="all", depth=5).own_plane == 2
