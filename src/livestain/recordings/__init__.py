"""Recordings of all kinds, read plane by plane: our stores, OME-Zarr, TIFF, folders of images."""

from __future__ import annotations

from livestain.recordings.base import Place, Recording, movie_name
from livestain.recordings.opening import open_recording

__all__ = ["Place", "Recording", "movie_name", "open_recording"]
