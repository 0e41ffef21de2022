"""Recordings of all kinds, read plane by plane: our stores, OME-Zarr, TIFF, folders of images."""

from __future__ import annotations

from livestain.recordings.base import Place, Recording, movie_name
from livestain.recordings.opening import is_store, open_recording

__all__ = ["Place", "Recording", "is_store", "movie_name", "open_recording"]
