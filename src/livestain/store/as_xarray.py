"""A run as an xarray.Dataset whose planes dask reads when they are computed; for the extra `xarray`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from livestain._version import __version__
from livestain.errors import MissingExtraError, StoreError
from livestain.store.channels import Channels

if TYPE_CHECKING:
    import xarray
    from numpy.typing import NDArray

    from livestain.store.channels import Channel
    from livestain.store.plane_store import PlaneStore

__all__ = ["Missing", "as_xarray"]

Missing = Literal["raise", "nan"]

_LONG_NAMES = {
    "t": "time point",
    "stage_x_um": "stage x",
    "stage_y_um": "stage y",
    "time_s": "time at which the first raw plane of the time point was written",
}


def as_xarray(store: PlaneStore, *, level: int = 0, missing: Missing = "raise") -> xarray.Dataset:
    """Return a store as a Dataset; see `Store.to_xarray`."""
    try:
        import dask.array
        import xarray
    except ImportError as error:  # dask.array has a message of its own for a package of its extra
        raise MissingExtraError(
            f"An xarray view needs the package {error.name or 'dask'}, which is not installed. "
            "Install it with: pip install 'livestain[xarray]'"
        ) from error
    if missing not in ("raise", "nan"):
        raise StoreError(f"missing is 'raise' or 'nan'; given {missing!r}.")

    channels = [channel.at_level(level) for channel in Channels(store).values()]
    coords = _coords(channels[0])
    # Under its label: arithmetic drops a variable's attributes, and an acquired "Mitochondria" may
    # stand beside the prediction "mitochondria".
    names = [channel.label for channel in channels]
    for name in names:
        if name in coords or names.count(name) > 1:
            raise StoreError(
                f"A Dataset of {store.path} cannot hold channel '{name}': a coordinate or another channel is "
                "called the same; read it by its name, as store[name]."
            )
    variables = {}
    for channel in channels:
        source = _Filled(channel) if channel.predicted or missing == "nan" else channel
        shape = channel.shape
        lazy = dask.array.from_array(
            source,
            chunks=(*(1,) * (len(shape) - 2), *shape[-2:]),
            name=False,  # what is stored may have changed when it is asked for again
            meta=np.empty((0,) * len(shape), source.dtype),
        )
        variables[channel.label] = (channel.dims, lazy, _attributes(channel))
    attributes = {"store": str(store.path), "level": level, "livestain_version": __version__}
    return xarray.Dataset(variables, coords=coords, attrs=attributes)


class _Filled:
    """A channel in floating point, where what is missing is NaN."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.shape = channel.shape
        self.ndim = channel.ndim
        self.dtype: np.dtype[np.float32] = np.dtype(np.float32)  # exact also of 16-bit counts

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        read, absent = self._channel.read_part(key, masked=True)
        values = read.astype(self.dtype, copy=False)
        values[absent] = np.nan
        return values


def _coords(channel: Channel) -> dict[str, tuple[tuple[str, ...], Any, dict[str, str]]]:
    several = "p" in channel.dims
    by_position = ("p",) if several else ()
    coords: dict[str, tuple[tuple[str, ...], Any, dict[str, str]]] = {}
    for name, values in channel.coords.items():
        attributes = {"units": unit} if (unit := channel.coord_units.get(name)) else {}
        if name in _LONG_NAMES:
            attributes["long_name"] = _LONG_NAMES[name]
        if name in ("p", "stage_x_um", "stage_y_um"):
            # The one position of a run stands beside the axes, so that runs can be joined along p.
            coords[name] = (by_position, values if several else values[0], attributes)
        elif name == "time_s":
            coords[name] = ((*by_position, "t"), values, attributes)
        else:
            coords[name] = ((name,), values, attributes)
    return coords


def _attributes(channel: Channel) -> dict[str, Any]:
    """Return what a variable says of itself; `long_name` and `units` are what plots write at the axis."""
    attributes: dict[str, Any] = {
        "long_name": channel.label,
        "units": channel.unit,
        "predicted": channel.predicted,
    }
    if channel.predicted:
        attributes |= {
            "sources": list(channel.sources),
            "bundle": channel.bundle,
            "bundle_sha256": channel.bundle_sha256,
        }
    if channel.is_truth:
        attributes["simulated_truth"] = True
    return attributes
