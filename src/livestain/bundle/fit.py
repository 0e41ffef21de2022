"""Whether a model fits what it is asked to stain; asked before any hardware moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.bundle.description import BundleDescription, ForeignSpec
from livestain.errors import BundleError

if TYPE_CHECKING:
    from livestain.bundle.description import InputSpec

__all__ = ["check_fit", "check_pixel_size", "check_z_step"]


def check_pixel_size(description: BundleDescription, pixel_size_um: float) -> None:
    """Refuse a pixel size that cannot be resampled to the model's.

    Raises
    ------
    BundleError
        If it is not positive, or outside the model's range.
    """
    expected = description.input.pixel_size_um
    low, high = description.input.pixel_size_range_um
    if not pixel_size_um > 0:
        raise BundleError(
            f"The pixel size is {pixel_size_um:g} um, which means uncalibrated; expected "
            f"{low:g} to {high:g} um. Calibrate the microscope, or give the size of a pixel "
            "in the sample (--pixel-size)."
        )
    # A hair of tolerance, since pixel sizes are typed by people and divided by magnifications.
    if not low * (1 - 1e-6) <= pixel_size_um <= high * (1 + 1e-6):
        raise BundleError(
            f"The pixel size is {pixel_size_um:g} um, but the model was trained at {expected:g} um "
            f"and takes {low:g} to {high:g} um. Choose another objective, binning or model."
        )


def check_fit(
    description: BundleDescription,
    *,
    kind: str | None = None,
    pixel_size_um: float | None = None,
    n_z: int | None = None,
    z_step_um: float | None = None,
    most: int | None = None,
) -> None:
    """Refuse what the model was not trained for; what is None is not checked.

    Parameters
    ----------
    description : BundleDescription
        The model.
    kind : str, optional
        Contrast of the source channel, such as "brightfield".
    pixel_size_um : float, optional
        Of the microscope, in micrometres.
    n_z : int, optional
        Planned z-planes of the source channel; 1 for a sequence without z.
    z_step_um : float, optional
        Their distance, in micrometres.
    most : int, optional
        Largest count that the camera can give.

    Raises
    ------
    BundleError
        Saying what was given, what the model takes, and what to do.
    """
    wanted = description.input
    if kind is not None and kind != wanted.kind:
        raise BundleError(
            f"The source channel is {kind}, but the model was trained on {wanted.kind}. "
            "Choose another source channel or another model."
        )
    if pixel_size_um is not None:
        check_pixel_size(description, pixel_size_um)
    if n_z is not None:
        _check_depth(wanted, n_z)
        _check_least_depth(description, n_z)
    if z_step_um is not None:
        check_z_step(description, z_step_um)
    if most is not None:
        _check_counts(description, most)


def _check_counts(description: BundleDescription, most: int) -> None:
    network = description.network
    if not isinstance(network, ForeignSpec) or network.takes is None or network.input_range:
        return
    low, high = network.takes
    if most > high:
        raise BundleError(
            f"The camera gives counts up to {most}, but the model takes values of {low:g} to {high:g}: all "
            "above would look alike to it. Add the model again and say which counts stand for these values: "
            f"livestain models add --input-range LOW HIGH (0 {most}, for all that the camera can give), with "
            "--overwrite."
        )


def _check_least_depth(description: BundleDescription, n_z: int) -> None:
    """Refuse stacks below another tool's smallest, at the distance that its planes were trained at."""
    network, window = description.network, description.input.window
    if isinstance(network, ForeignSpec) and window.whole_stack and n_z < network.least_z:
        raise BundleError(
            f"The sequence's stack has {n_z} z-planes, but the model takes {network.least_z} and more. "
            "Give the sequence's z-plan more planes, or choose another model."
        )


def _check_depth(wanted: InputSpec, n_z: int) -> None:
    window = wanted.window
    if not window.window().needs_stack:
        return
    what = (
        f"a z-window of {window.n_z} planes"
        if not window.whole_stack
        else "a whole stack"
        if window.depth is None
        else f"a whole stack of {window.depth} z-planes"
    )
    cure = f"Give the sequence a z-plan, {wanted.z_step_um:g} um apart, or choose a 2-D model."
    if n_z <= 1 and window.depth != 1:
        raise BundleError(f"The sequence has no z-stack, but the model needs {what}. {cure}")
    if n_z < window.n_z or window.depth not in (None, n_z):
        raise BundleError(
            f"The sequence's stack has {n_z} z-planes, but the model needs {what}. {cure}"
        )


def check_z_step(description: BundleDescription, z_step_um: float) -> None:
    """Refuse a distance of planes that the model does not take; of single planes any will do.

    Raises
    ------
    BundleError
        If it is outside the model's tolerance and, for whole stacks, its resampling range.
    """
    wanted = description.input
    if wanted.z_step_um is None or not wanted.window.window().needs_stack:
        return
    deviation = abs(z_step_um / wanted.z_step_um - 1)
    if deviation <= wanted.z_step_tolerance + 1e-9:
        return
    if wanted.z_step_range_um is None:
        takes = f"{wanted.z_step_tolerance:.0%} either way"
    else:
        low, high = wanted.z_step_range_um
        if low * (1 - 1e-6) <= z_step_um <= high * (1 + 1e-6):
            return
        takes = f"{low:g} to {high:g} um"
    raise BundleError(
        f"The z-step is {z_step_um:g} um, but the model was trained at "
        f"{wanted.z_step_um:g} um and takes {takes}. "
        f"Set the z-plan's step to {wanted.z_step_um:g} um, or choose another model."
    )
