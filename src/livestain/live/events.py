"""What an event of useq asks for, and where its image goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from useq import AcquireImage

from livestain.planes import PlaneIndex

if TYPE_CHECKING:
    from useq import MDAEvent, MDASequence

__all__ = ["fresh", "index_of", "is_image"]


def is_image(event: MDAEvent) -> bool:
    """Return whether an event asks for an image, and not for autofocus or an action."""
    return isinstance(event.action, AcquireImage | None)


def index_of(event: MDAEvent) -> PlaneIndex:
    """Return the place of an event's image in a store."""
    index = event.index
    return PlaneIndex(index.get("p", 0), index.get("t", 0), index.get("c", 0), index.get("z", 0))


def fresh(sequence: MDASequence) -> MDASequence:
    """Return a copy that nobody has gone through.

    useq (0.9) remembers in the plan of the autofocus where the last going through a sequence has ended, so
    that the next one may leave out its first autofocus; and planning the run was one.
    """
    return type(sequence).model_validate(sequence.model_dump())
