"""The arrays of a store: where each position's levels lie, and their open handles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.errors import StoreError
from livestain.store.arrays import open_array
from livestain.store.chunks import ArrayFiles
from livestain.store.group import read_group

if TYPE_CHECKING:
    from pathlib import Path

    from livestain.store.arrays import Mode

__all__ = ["Levels", "dataset_paths"]


def dataset_paths(group: dict[str, Any], image: Path) -> list[str]:
    """Return where an image's group says that its levels lie, relative to it, level 0 first.

    Raises
    ------
    StoreError
        If it does not say so.
    """
    try:
        datasets = group["attributes"]["ome"]["multiscales"][0]["datasets"]
        return [str(dataset["path"]) for dataset in datasets]
    except (KeyError, IndexError, TypeError) as error:
        raise StoreError(
            f"{image / 'zarr.json'} does not say where the image's arrays lie. Expected the group of an "
            "OME-Zarr image that livestain has written; restore it from a copy."
        ) from error


class Levels:
    """The arrays of one store, found by what each image's group says, and opened when they are first used.

    Which folders they are changes when a store is compacted, in one step for all levels of an image; whoever
    finds a folder gone asks again after `forget`.

    Parameters
    ----------
    images : sequence of Path
        The positions' groups.
    mode : {"r", "r+"}
    """

    def __init__(self, images: list[Path], mode: Mode) -> None:
        self._images = images
        self._mode = mode
        self._files: dict[tuple[int, int], ArrayFiles] = {}
        self._handles: dict[tuple[int, int], Any] = {}
        self._paths: dict[int, list[str]] = {}

    def forget(self) -> None:
        """Let go of what is known, since another process may have changed it."""
        # New ones, so that what is found before is not kept after it.
        self._files, self._handles, self._paths = {}, {}, {}

    def folder(self, p: int, level: int) -> Path:
        """Return the folder of an array.

        Raises
        ------
        StoreError
            If there is no such level.
        """
        paths = self._paths
        if p not in paths:
            paths[p] = dataset_paths(read_group(self._images[p]), self._images[p])
        if not 0 <= level < len(paths[p]):
            raise StoreError(
                f"{self._images[p]} has levels 0 to {len(paths[p]) - 1}; asked for level {level}."
            )
        return self._images[p] / paths[p][level]

    def files(self, p: int, level: int) -> ArrayFiles:
        """Return the files of an array."""
        files = self._files
        found = files.get((p, level))
        if found is None:
            found = files[p, level] = ArrayFiles.read(self.folder(p, level))
        return found

    def handle(self, p: int, level: int) -> Any:
        """Return an array, open."""
        handles = self._handles
        found = handles.get((p, level))
        if found is None:
            # Two threads may both open it: the second handle replaces an equal one.
            found = handles[p, level] = open_array(self.folder(p, level), mode=self._mode)
        return found
