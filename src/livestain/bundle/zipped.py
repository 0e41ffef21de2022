"""Unpacking a model's zip file, as bioimage.io gives it out: bounded, and nowhere but into one folder."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from livestain.errors import BundleError

if TYPE_CHECKING:
    from zipfile import ZipInfo

__all__ = ["LARGEST", "unzip"]

LARGEST = 8 * 1024**3
"""Bytes that a model may unpack to."""

_MOST_FILES = 1000
_PIECE = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def unzip(path: Path, folder: Path, *, largest: int = LARGEST) -> None:
    """Unpack a zip file into an empty folder.

    Parameters
    ----------
    path : Path
        The zip file.
    folder : Path
        Is made where it is not there.
    largest : int
        Bytes that all files together may have; counted as they are unpacked, whatever the zip says.

    Raises
    ------
    BundleError
        If it is no zip file, is damaged or encrypted, unpacks to more, or holds a link or a name that leads
        out of the folder.
    """
    left = largest
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > _MOST_FILES:
                raise _refused(
                    path, f"holds {len(entries)} files; a model has {_MOST_FILES} at most"
                )
            for entry in entries:
                target = folder / _inside(path, entry)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, target.open("xb") as file:
                    while piece := _read(path, packed):
                        left -= len(piece)
                        if left < 0:
                            raise _refused(path, f"unpacks to more than {largest / 1e9:.3g} GB")
                        file.write(piece)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    except FileExistsError as error:
        raise _refused(path, "holds a file twice") from error


def _read(path: Path, packed: IO[bytes]) -> bytes:
    """Read a piece; bz2 tells damage as an OSError, as a full disk does where the piece is written."""
    try:
        return packed.read(_PIECE)
    except OSError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> BundleError:
    return _refused(path, f"cannot be unpacked ({' '.join(str(error).split())})")


def _inside(path: Path, entry: ZipInfo) -> Path:
    name = entry.filename
    parts = PurePosixPath(name)
    outside = parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name
    if outside or stat.S_ISLNK(entry.external_attr >> 16):
        raise _refused(path, f"holds {name!r}, a link or a name that leads out of the folder")
    return Path(*parts.parts)


def _refused(path: Path, why: str) -> BundleError:
    return BundleError(
        f"{path} {why}; expected the zip file of a bioimage.io model. Download it again."
    )
