"""What a pair is: what a recipe, or a bundle, asks of the data, and what is found and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from livestain.bundle.description import WindowSpec
    from livestain.training.recipe import Recipe

__all__ = ["ChannelSpec", "Pair", "PairData", "PairSpec"]


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A channel that is looked at or predicted.

    Attributes
    ----------
    channel : str
        A folder of images, or a channel of a store or file by label or by number; capitals do not matter.
    required : bool
        Whether a place without it is left out.
    flat_field, dark_frame : str, optional
        Images that correct it: paths, or such relative to the data folder.
    """

    channel: str
    required: bool = True
    flat_field: str | None = None
    dark_frame: str | None = None


@dataclass(frozen=True, slots=True)
class PairSpec:
    """Which planes make a pair.

    Attributes
    ----------
    asker : str
        Who asks, for messages: "the recipe demo".
    sources, targets : tuple of ChannelSpec
        What is looked at, and what is predicted.
    window : WindowSpec
        Source planes of one prediction.
    pixel_size_um : float
        That the data must have, or is resampled to, in micrometres.
    z_step_um : float, optional
        Distance of z-planes likewise, in micrometres, where the window has several.
    z_step_tolerance : float
        Largest relative deviation from it.
    dims : {2, 3}
        Axes of the network.
    depth_axis : {"z", "t", "both"}
        For 3-D networks: what their depth is.
    pairing : {"paired", "noise2noise", "unpaired"}
        See `livestain.training.Recipe`.
    resample : bool
        Whether data of another pixel size (and z-step, for stacks) is resampled.
    time_series : bool
        Whether recordings without several time points are refused.
    """

    asker: str
    sources: tuple[ChannelSpec, ...]
    targets: tuple[ChannelSpec, ...]
    window: WindowSpec
    pixel_size_um: float
    z_step_um: float | None = None
    z_step_tolerance: float = 0.005
    dims: Literal[2, 3] = 2
    depth_axis: Literal["z", "t", "both"] = "z"
    pairing: Literal["paired", "noise2noise", "unpaired"] = "paired"
    resample: bool = False
    time_series: bool = False

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> PairSpec:
        """Return what a recipe asks for."""
        return cls(
            asker=f"the recipe {recipe.name}",
            sources=tuple(
                ChannelSpec(item.channel, True, item.flat_field, item.dark_frame)
                for item in recipe.sources
            ),
            targets=tuple(
                ChannelSpec(item.channel, item.required, item.flat_field, item.dark_frame)
                for item in recipe.targets
            ),
            window=recipe.window,
            pixel_size_um=recipe.pixel_size_um,
            z_step_um=recipe.z_step_um,
            dims=3 if recipe.dims == 3 else 2,
            depth_axis=recipe.depth_axis,
            pairing=recipe.pairing,
            resample=recipe.resample,
            time_series=recipe.normalisation.kind == "running",
        )

    @property
    def slots(self) -> tuple[ChannelSpec, ...]:
        """Sources, then targets; one channel may be both."""
        return (*self.sources, *self.targets)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of all channels, each once."""
        return tuple(dict.fromkeys(slot.channel for slot in self.slots))

    @property
    def folders(self) -> str:
        """The folders of images, for messages."""
        return " and ".join(f"movie-NAME/{channel}" for channel in self.channels)

    @property
    def same_channel(self) -> bool:
        """Whether source and target are two takes of one channel: consecutive time points."""
        return self.pairing == "noise2noise" and (
            self.sources[0].channel.lower() == self.targets[0].channel.lower()
        )

    @property
    def stacks(self) -> bool:
        """Whether planes of several z make one input, so that their distance matters."""
        if self.dims == 3:
            return self.depth_axis != "t"
        return self.window.window().needs_stack


@dataclass(frozen=True, slots=True)
class Pair:
    """Source and target planes that belong together, not yet read.

    Attributes
    ----------
    movie : str
        The movie's name.
    name : str
        Its own name within the movie.
    frame : str
        Pairs with the same frame are not independent of each other.
    position : str or None
        The position of the stage; None where the data does not say.
    place : int
        Number of the field of view (or file) in the recording.
    t, z : int
        Time point and z-plane of the target; of series along them, the first.
    axis : {"", "z", "t"}
        What the depth is of; empty for 2-D networks.
    length : int
        Planes along the axis, as they were recorded.
    depth : int
        Planes along the axis, as they are read: resampled, for stacks. 1 for 2-D networks.
    lag : int
        Time points that the target is later than the source: 1 for two takes of one channel.
    has_source, has_target : bool
        Both, but for unpaired data.
    """

    movie: str
    name: str
    frame: str
    position: str | None
    place: int
    t: int
    z: int
    axis: Literal["", "z", "t"] = ""
    length: int = 1
    depth: int = 1
    lag: int = 0
    has_source: bool = True
    has_target: bool = True


@dataclass(frozen=True, slots=True)
class PairData:
    """The pixels of a pair, or of a part of it; not to be written to.

    Attributes
    ----------
    source : array of uint8, uint16 or float32, (sources, planes, y, x)
        Counts, corrected by flat field and dark frame. For 2-D networks the planes of the window, for
        3-D networks those of the depth.
    target : array of uint8, uint16 or float32, (targets, depth, y, x)
        Zeros where there is none.
    present : array of bool, (targets, depth)
        Where there is one.

    A half that an unpaired pair lacks, or that was not asked for, has the length 0 along its first axis.
    """

    source: NDArray[Any]
    target: NDArray[Any]
    present: NDArray[np.bool_]
