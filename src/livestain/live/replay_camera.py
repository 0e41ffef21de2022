"""The camera that shows a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.live.camera import Scene, ShowingCamera, StageCore

if TYPE_CHECKING:
    import weakref

    from numpy.typing import DTypeLike, NDArray

    from livestain.live.replay import ReplaySource

__all__ = ["ReplayCamera"]


class ReplayCamera(ShowingCamera):
    """Shows the recorded plane of an event's t and z, and of the core's channel.

    Snaps outside a run show time point 0, plane 0. Metadata adds `Replay-t`, `Replay-z`,
    `Replay-channel` and `Replay-file`.

    Parameters
    ----------
    core
        The core to follow.
    source : ReplaySource
        The recording.
    """

    def __init__(self, core: weakref.ref[StageCore], source: ReplaySource) -> None:
        super().__init__(core, source.shape)
        self.source = source

    def _channel(self, preset: str) -> str:
        # A core set to a preset of its own configuration shows the first channel.
        return preset if preset in self.source.channels else self.source.channels[0]

    def dtype(self) -> DTypeLike:
        """Return the data type of the current channel's recording."""
        core = self._core_ref()
        preset = "" if core is None else str(core.getCurrentConfig(core.getChannelGroup()))
        return self.source.dtype(self._channel(preset))

    def show(self, scene: Scene) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the recorded plane of a scene."""
        channel = self._channel(scene.channel)
        t, z = scene.index.get("t", 0), scene.index.get("z", 0)
        image = self.source.plane(channel, t, z)
        return image, {
            "Replay-t": t,
            "Replay-z": z,
            "Replay-channel": channel,
            "Replay-file": self.source.file(channel, t).name,
        }
