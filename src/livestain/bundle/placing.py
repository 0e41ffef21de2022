"""Moving a finished bundle to where it belongs, in the place of an older one or not at all."""

from __future__ import annotations

import gc
import shutil
import tempfile
from pathlib import Path

from livestain.errors import BundleError

__all__ = ["put_in_place"]


def put_in_place(new: Path, place: Path) -> None:
    """Move a folder to its place, of the same disk; what is there is replaced.

    The older bundle waits in a hidden folder beside its place, not in one that is cleaned up, until the new
    one is there.

    Raises
    ------
    OSError
        If it cannot be moved, as on Windows while another program has a file of it open; what was there is
        there again.
    BundleError
        If not even that is possible; it says where the older bundle lies.
    """
    # bioimageio.spec leaves open files to the garbage collector, and Windows moves no folder with one.
    gc.collect()
    if not place.exists():
        new.replace(place)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.old-", dir=place.parent))
    old = aside / place.name
    try:
        place.replace(old)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    try:
        new.replace(place)
    except OSError as error:
        try:
            old.replace(place)
        except OSError:
            raise BundleError(
                f"{place} could not be replaced ({error.strerror or error}), and the older one could not be "
                f"moved back; it is whole, in {old}. Move it back by hand."
            ) from error
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)
