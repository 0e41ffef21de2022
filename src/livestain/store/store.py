"""A store that is open: its planes by place and by name, its attributes, and room for more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import StoreError
from livestain.store.arrays import Mode, resize_array
from livestain.store.channels import Channel, Channels
from livestain.store.group import read_group, refuse_reserved, write_group
from livestain.store.layout import encoding_attributes, omero_channel
from livestain.store.ome_xml import write_series
from livestain.store.plan import ChannelPlan, StorePlan, blocks_of
from livestain.store.plane_store import PlaneStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import xarray
    from numpy.typing import NDArray

    from livestain.store.as_xarray import Missing

__all__ = ["Store", "open_store"]


def open_store(path: Path | str, *, mode: Mode = "r") -> Store:
    """Open a store, also while other processes write to it.

    Parameters
    ----------
    path : Path
        A store that `create_store` made.
    mode : {"r", "r+"}
        To read, or also to write.

    Raises
    ------
    StoreError
        If there is none, or it is not a livestain store.

    Examples
    --------
    >>> import livestain
    >>> store = livestain.open_store("run.ome.zarr")
    >>> list(store.channels)
    ['Brightfield', 'mitochondria']
    >>> mitochondria = store["mitochondria"]
    >>> mitochondria.predicted, mitochondria.dims, mitochondria.shape
    (True, ('t', 'z', 'y', 'x'), (4, 3, 24, 32))
    >>> plane = mitochondria[0, 1]  # float32, in mitochondria.unit; an error if it is not there
    >>> movie = mitochondria.masked[:, 1]  # what is not there is masked
    >>> seconds, x_um = mitochondria.coords["t"], mitochondria.coords["x"]
    >>> means = store.to_xarray()["mitochondria (predicted)"].mean(("y", "x"))  # extra `xarray`
    """
    return Store(path, mode=mode)


class Store(PlaneStore):
    """A run's planes, its channels by name, what it says of itself, and room for more.

    Made by `create_store` and `open_store`. Safe to use from several threads; every process opens its own.
    """

    def __repr__(self) -> str:
        """Return where it is, and its channels, above all which of them are predicted."""
        return f"<Store {str(self.path)!r}>\n{self.channels!r}"

    # -- attributes ------------------------------------------------------------------------------

    def update_attributes(self, attributes: dict[str, Any]) -> None:
        """Add to, or replace in, the attributes under `livestain`; only for the acquisition.

        Parameters
        ----------
        attributes : dict
            JSON types; the store's own names (plan, version, ...) are refused.

        Raises
        ------
        StoreError
            If the store is open for reading only, or the attributes cannot be written.
        """
        refuse_reserved(attributes, self.path)
        self._must_write()
        with self._lock:
            group = read_group(self.path)
            group["attributes"]["livestain"].update(attributes)
            write_group(self.path, group)
            self._attributes = group["attributes"]["livestain"]

    def set_display(self, c: int, start: float, end: float) -> None:
        """Set the window, in stored counts, in which viewers show a channel. For one process.

        Raises
        ------
        StoreError
            If the store is open for reading only, or the window is empty.
        """
        self._must_write()
        if not start < end:
            raise StoreError(
                f"The display window of channel {c} goes from a smaller to a larger count; "
                f"given {start} to {end}."
            )
        with self._lock:
            for position in self.plan.positions:
                image = self.path / position.path
                group = read_group(image)
                channels = group["attributes"]["ome"]["omero"]["channels"]
                window = channels[c - self.plan.first_c]["window"]
                window.update(start=float(start), end=float(end))
                write_group(image, group)

    # -- time without an end ---------------------------------------------------------------------

    def grow(self, n_t: int) -> None:
        """Make room for at least `n_t` time points, where the plan's end is open; only for the acquisition.

        Room is doubled, so that a long run grows a few times and not at each time point. What is being
        written or read meanwhile is not disturbed.

        Raises
        ------
        StoreError
            If the plan has an end, the store is open for reading only, or the disk refuses.
        """
        if n_t <= self.plan.n_t:
            return
        if not self.plan.open_end:
            raise StoreError(
                f"{self.path} was planned with {self.plan.n_t} time points; there is no room for {n_t}."
            )
        self._resize(self.plan.model_copy(update={"n_t": max(n_t, 2 * self.plan.n_t)}))

    def settle(self, planned: Mapping[int, NDArray[np.bool_]]) -> None:
        """Give an open end its end: what was asked for is the plan from now on.

        Parameters
        ----------
        planned : mapping of int to array of bool, (n_p, n_t, n_z)
            By channel, the planes that were asked for. Time points after the last of them are cut off.

        Raises
        ------
        StoreError
            As `grow`.
        """
        if not self.plan.open_end:
            raise StoreError(f"{self.path} was planned with its end; there is nothing to settle.")
        times = np.any([grid.any(axis=(0, 2)) for grid in planned.values()], axis=0)
        n_t = int(np.flatnonzero(times)[-1]) + 1 if times.any() else 1
        channels = tuple(
            ChannelPlan(**{**dict(channel), "planned": blocks_of(planned[c][:, :n_t])})
            for c, channel in enumerate(self.plan.channels)
        )
        self._resize(
            self.plan.model_copy(update={"n_t": n_t, "open_end": False, "channels": channels})
        )
        write_series(self.path, self.plan)

    def reopen(self, plan: StorePlan) -> None:
        """Take back the end that was settled: more time points will come.

        Parameters
        ----------
        plan : StorePlan
            As the run was begun with: with an open end, and what a time point may have.

        Raises
        ------
        StoreError
            If the store is open for reading only, or the disk refuses.
        """
        self._resize(plan.model_copy(update={"n_t": max(plan.n_t, self.plan.n_t)}))

    def _resize(self, plan: StorePlan) -> None:
        self._must_write()
        with self._lock:
            # The arrays first: whoever reads the plan finds the room that it speaks of, and a crash in
            # between leaves an open end, which is settled later. Also where the number stays: a crash may
            # have left arrays that grew, and a plan that did not.
            self._resize_arrays(n_t=plan.n_t)
            self._replace_plan(plan)

    def _resize_arrays(self, *, n_t: int | None = None, n_c: int | None = None) -> None:
        for p in range(self.plan.n_p):
            for level in range(self._n_levels):
                resize_array(self._levels.folder(p, level), n_t=n_t, n_c=n_c)

    def _name_channels(self, group: dict[str, Any], channels: Sequence[ChannelPlan]) -> None:
        """Put the names of new channels after those of the plan, in an image's attributes."""
        known = len(self.plan.channels) - self.plan.first_c
        omero = group["attributes"]["ome"]["omero"]
        omero["channels"] = [*omero["channels"][:known], *map(omero_channel, channels)]

    def _replace_plan(
        self,
        plan: StorePlan,
        attributes: dict[str, Any] | None = None,
        channels: Sequence[ChannelPlan] = (),
    ) -> None:
        group = read_group(self.path)
        own = group["attributes"]["livestain"]
        own.update(plan=plan.as_json(), encoding=encoding_attributes(plan), **(attributes or {}))
        if channels and not plan.positions[0].path:
            self._name_channels(group, channels)
        write_group(self.path, group)
        self._attributes = own
        self._levels.forget()
        self.plan = plan

    # -- channels that come later ----------------------------------------------------------------

    def add_channels(
        self, channels: Sequence[ChannelPlan], attributes: dict[str, Any] | None = None
    ) -> None:
        """Make room for further virtual channels; no file of a plane is touched. For one process.

        Parameters
        ----------
        channels : sequence of ChannelPlan
            They come after those that are there.
        attributes : dict, optional
            As `update_attributes` takes them, written together with the plan: who predicts them.

        Raises
        ------
        SettingsError
            If a channel does not fit the plan: a name that is there, a source that is not.
        StoreError
            If the store is open for reading only, its end is open, or the disk refuses.
        """
        refuse_reserved(attributes or {}, self.path)
        self._must_write()
        if self.plan.open_end:
            raise StoreError(
                f"The run of {self.path} has no end yet, so no channel can be added. Wait for its end."
            )
        plan = StorePlan.parse(
            {**dict(self.plan), "channels": (*self.plan.channels, *channels)},
            where=f"the plan of {self.path} with the channels {[ch.name for ch in channels]}",
        )
        with self._lock:
            # First room, of which nobody knows, then the names that viewers show, position by position, the
            # plan last; of a run of one position names and plan are one file. What a crash leaves of it is
            # written anew by whoever adds channels next.
            self._resize_arrays(n_c=len(plan.channels) - plan.first_c)
            for position in self.plan.positions:
                if position.path:
                    image = self.path / position.path
                    group = read_group(image)
                    self._name_channels(group, channels)
                    write_group(image, group)
            self._replace_plan(plan, attributes, channels)
        write_series(self.path, self.plan)

    # -- by name ---------------------------------------------------------------------------------

    @property
    def channels(self) -> Channels:
        """The channels by name, each a lazy array; a mapping."""
        return Channels(self)

    def __getitem__(self, name: str) -> Channel:
        """Return a channel as a lazy array: of counts, or of a prediction in its unit.

        Parameters
        ----------
        name : str
            As in the sequence; of a virtual channel also as viewers show it, "mitochondria (predicted)".

        Raises
        ------
        UnknownChannelError
            If there is none of this name; it is a StoreError, and a KeyError too.
        """
        return self.channels[name]

    def __contains__(self, name: object) -> bool:
        """Return whether there is a channel of this name."""
        return name in self.channels

    def __iter__(self) -> Iterator[str]:
        """Go through the channels' names."""
        return iter(self.channels)

    def to_xarray(self, *, level: int = 0, missing: Missing = "raise") -> xarray.Dataset:
        """Return the run with its physical coordinates, read by dask plane by plane when it is computed.

        Parameters
        ----------
        level : int
            Pyramid level.
        missing : {"raise", "nan"}
            What a missing plane of a raw channel does when it is computed: raise MissingPlaneError, or be
            NaN, for which counts become float32. In predictions it is always NaN.

        Returns
        -------
        xarray.Dataset
            One variable a channel, under the label that viewers show: "mitochondria (predicted)". Axes and
            coordinates are those of `Channel.dims` and `Channel.coords`; attributes say the unit, whether it
            is predicted, and by which bundle.

        Raises
        ------
        MissingExtraError
            If xarray or dask is not installed.
        StoreError
            If there is no such level, or a channel has the name of a coordinate or of another's label. A
            plane that is damaged raises it when it is computed.
        """
        from livestain.store.as_xarray import as_xarray

        return as_xarray(self, level=level, missing=missing)
