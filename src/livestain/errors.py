"""What can go wrong in a way the user can mend: each message says given, expected, and what to do."""

from __future__ import annotations

__all__ = [
    "BundleError",
    "DataError",
    "FullDiskError",
    "LivestainError",
    "MicroscopeError",
    "MissingExtraError",
    "MissingPlaneError",
    "SequenceError",
    "SettingsError",
    "StoreError",
    "UnknownChannelError",
    "ViewError",
    "WorkerError",
]


class LivestainError(Exception):
    """The parent of every error that livestain raises on purpose.

    The command line prints its message alone, without a traceback, and exits with code 2.
    """


class SettingsError(LivestainError):
    """A settings file or value is not what its schema asks for."""


class SequenceError(LivestainError):
    """A sequence cannot be run as it stands: a missing source channel, a window without its axis."""


class MicroscopeError(LivestainError):
    """The microscope does not fit: configuration, camera format, pixel size."""


class BundleError(LivestainError):
    """A deployed model is unknown, ambiguous, damaged, or does not fit what it is asked to stain."""


class StoreError(LivestainError):
    """A store cannot be created, opened, read or written."""


class FullDiskError(StoreError):
    """A disk is full; what was written stays, and what was not can be done when there is space."""


class MissingPlaneError(StoreError):
    """A plane was read that is not (yet) in the store; it is never read as zeros."""


class UnknownChannelError(StoreError, KeyError):
    """A store was asked for a channel that it does not have; the message names those there are."""

    __str__ = Exception.__str__  # that of KeyError puts the message in quotes


class DataError(LivestainError):
    """Training or evaluation data cannot be used: no pairs, unequal shapes, a missing folder."""


class MissingExtraError(LivestainError):
    """An optional dependency is not installed; the message says how to install it."""


class WorkerError(LivestainError):
    """The staining worker could not be started, or gave up for good."""


class ViewError(LivestainError):
    """No window can be opened here: no display, or no graphics to draw with."""
