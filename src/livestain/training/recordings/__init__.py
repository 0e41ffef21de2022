"""Recordings of all kinds, read plane by plane: our stores, OME-Zarr, TIFF, folders of images."""

from __future__ import annotations

from livestain.training.recordings.base import Place, Recording, movie_name
from livestain.training.recordings.opening import find_recordings, open_recording

__all__ = ["Place", "Recording", "find_recordings", "movie_name", "open_recording"]
