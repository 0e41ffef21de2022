"""The arrays of a store: where each position's levels lie, and their open handles."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known at one time; replaced as a whole, so that old and new never mix."""

    paths: dict[int, tuple[list[str], tuple[int, int, int]]] = field(default_factory=dict)
    """By position: the arrays' folders, and the state of the file that says so."""
    files: dict[tuple[int, int], ArrayFiles] = field(default_factory=dict)
    handles: dict[tuple[int, int], Any] = field(default_factory=dict)


class Levels:
    """The arrays of one store, found by what each image's group says, and opened when they are first used.

    Which folders they are changes when a store is compacted, in one step for all levels of an image, and the
    old ones are then removed file by file. So whoever does not find something asks whether they `moved`
    before it is called missing.

    Parameters
    ----------
    images : sequence of Path
        The positions' groups.
    mode : {"r", "r+"}
    """

    def __init__(self, images: list[Path], mode: Mode) -> None:
        self._images = images
        self._mode = mode
        self._known = _Known()

    def forget(self) -> None:
        """Let go of what is known, since another process may have changed it."""
        self._known = _Known()

    def moved(self, p: int) -> bool:
        """Return whether an image has other arrays than were known; they are found anew from now on.

        A look at one file's state, so that it may be asked often.
        """
        known = self._known
        if p not in known.paths:
            return False
        paths, state = known.paths[p]
        if _state(self._images[p]) == state:
            return False
        again = self._read_paths(p)
        if again[0] == paths:  # something else in the file has changed
            known.paths[p] = again
            return False
        self.forget()
        return True

    def _read_paths(self, p: int) -> tuple[list[str], tuple[int, int, int]]:
        # Before the reading: what changes after it is seen next time.
        state = _state(self._images[p])
        return dataset_paths(read_group(self._images[p]), self._images[p]), state

    def folder(self, p: int, level: int) -> Path:
        """Return the folder of an array.

        Raises
        ------
        StoreError
            If there is no such level.
        """
        return self._folder(self._known, p, level)

    def _folder(self, known: _Known, p: int, level: int) -> Path:
        found = known.paths.get(p)
        if found is None:
            found = known.paths[p] = self._read_paths(p)
        paths, _ = found
        if not 0 <= level < len(paths):
            raise StoreError(
                f"{self._images[p]} has levels 0 to {len(paths) - 1}; asked for level {level}."
            )
        return self._images[p] / paths[level]

    def files(self, p: int, level: int) -> ArrayFiles:
        """Return the files of an array."""
        known = self._known
        found = known.files.get((p, level))
        if found is None:
            found = known.files[p, level] = ArrayFiles.read(self._folder(known, p, level))
        return found

    def handle(self, p: int, level: int) -> Any:
        """Return an array, open."""
        known = self._known
        found = known.handles.get((p, level))
        if found is None:
            # Two threads may both open it: the second handle replaces an equal one.
            folder = self._folder(known, p, level)
            found = known.handles[p, level] = open_array(folder, mode=self._mode)
        return found


def _state(image: Path) -> tuple[int, int, int]:
    """Return by what it is seen that an image's group was written anew; zeros where it is not there."""
    try:
        found = (image / "zarr.json").stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino
