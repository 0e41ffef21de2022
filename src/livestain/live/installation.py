"""What `livestain.install` leaves with a core: which channels, which models, and how runs use them."""

from __future__ import annotations

import re
import weakref
from typing import TYPE_CHECKING, Any

import useq

from livestain.bundle import find_bundle
from livestain.errors import MicroscopeError, SequenceError, SettingsError
from livestain.live.checks import check_pixels, pixel_size_of
from livestain.live.foreign import Spelling, resolve, scan, z_step_of
from livestain.live.foreign_run import plan_foreign_run
from livestain.live.predicting import FramePredictor, describe
from livestain.live.untangling import events_of
from livestain.live.virtual import LivestainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.mda import MDAEngine

    from livestain.bundle import Bundle
    from livestain.live.foreign import Predicted
    from livestain.live.foreign_run import ForeignRun
    from livestain.stain.asked import ChannelSettings

__all__ = ["Installation", "refuse_correction"]

_MB = 2**20


class Installation:
    """The virtual channels of one core.

    Parameters
    ----------
    core : CMMCorePlus
        The microscope; not kept alive.
    channels : mapping
        Settings and model by virtual channel.
    pixel_size_um : float, optional
        Of the microscope, as its camera is binned now.
    lockstep : bool
        Whether predictions are made.
    camera : int
        Which image is looked at, where the camera gives several at once.
    memory_mb : int
        What frames that wait may take.
    device : str
        Of the models.
    threads : int, optional
        Of torch.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        channels: Mapping[str, tuple[ChannelSettings, Bundle]],
        *,
        pixel_size_um: float | None,
        lockstep: bool,
        camera: int,
        memory_mb: int,
        device: str,
        threads: int | None,
    ) -> None:
        self._core = weakref.ref(core)
        self._channels = dict(channels)
        self._pixel_size_um = pixel_size_um
        self._binning = binning_of(core)
        self._lockstep = lockstep
        self._camera = camera
        self._memory_bytes = memory_mb * _MB
        self.predictor = FramePredictor(device, threads)
        self.engine: MDAEngine | None = None
        """The program's own, for the way back."""
        self.presets: list[str] = []
        """Those that were added to the channel group."""
        self.virtual_presets: list[str] = []
        """Those that were added to the group "Virtual"."""
        self.others: frozenset[tuple[str, str]] = frozenset()
        """Presets of both groups that are the microscope's own."""
        self.channel_group = core.getChannelGroup()
        self.made_group = False
        """Whether the group "Virtual" is ours."""

    @property
    def core(self) -> CMMCorePlus:
        """The microscope."""
        core = self._core()
        if core is None:
            raise MicroscopeError(
                "The microscope of these virtual channels is gone. Install again."
            )
        return core

    def spelling(self) -> Spelling:
        """Return how virtual channels are called."""
        return Spelling(tuple(self._channels), self.channel_group, self.others)

    def describe(self, channels: Mapping[str, Predicted]) -> dict[str, Any]:
        """Return what a run's summary says of its virtual channels, as JSON types."""
        dtype = f"uint{8 * self.core.getBytesPerPixel()}"
        return {
            "virtual_channels": {
                name: {**describe(channel, dtype), "lockstep": channel.lockstep}
                for name, channel in channels.items()
            }
        }

    def prepare(
        self,
        events: Iterable[useq.MDAEvent],
        group: Callable[[Iterable[useq.MDAEvent]], Iterator[useq.MDAEvent]],
    ) -> ForeignRun:
        """Check a run's virtual channels and load their models; nothing moves.

        Parameters
        ----------
        events : iterable of useq.MDAEvent
            A sequence, or a list of events.
        group : callable
            Puts events together into triggered bursts.

        Raises
        ------
        LivestainError
            What does not fit, in one sentence.
        """
        core = self.core
        check_pixels(core)
        cameras = core.getNumberOfCameraChannels()
        if self._camera >= cameras:
            raise MicroscopeError(
                f"The virtual channels look at camera {self._camera}, and the microscope has {cameras} "
                "(counted from 0). Call livestain.install(core, camera=...)."
            )
        if isinstance(events, useq.MDASequence):
            _refuse_offsets(events, self.spelling())
        settings = _settings_of(events)
        pixel = self._pixel_size(settings)
        spelling = self.spelling()
        planned = events_of(events, spelling.of_event)
        windows = scan(planned, spelling)
        channels = {}
        for name in dict.fromkeys(windows.virtual.values()):
            own, bundle = self._channel(name, settings.channels.get(name))
            lockstep = own.lag == "lockstep" if "lag" in own.model_fields_set else self._lockstep
            channels[name] = resolve(
                name,
                bundle,
                own,
                windows,
                pixel_size_um=pixel,
                lockstep=lockstep,
                most=2 ** min(core.getImageBitDepth(), 16) - 1,
            )
        shape = core.getImageHeight(), core.getImageWidth()
        run = plan_foreign_run(
            planned,
            spelling,
            windows,
            channels,
            self.predictor,
            group,
            cameras=cameras,
            cam=self._camera,
            plane_bytes=shape[0] * shape[1] * core.getBytesPerPixel(),
            memory_bytes=self._memory_bytes,
        )
        run.source = events
        self.predictor.prepare(
            {name: channel for name, channel in channels.items() if channel.lockstep},
            pixel_size_um=pixel,
            z_steps={name: z_step_of(windows, c.sources[0]) for name, c in channels.items()},
            n_z={name: windows.n_z(c.sources[0]) for name, c in channels.items()},
            shape=shape,
        )
        return run

    def close(self) -> None:
        """Give the models back."""
        self.predictor.close()

    def _channel(
        self, name: str, of_sequence: ChannelSettings | None
    ) -> tuple[ChannelSettings, Bundle]:
        settings, bundle = self._channels[name]
        if of_sequence is None:
            return settings, bundle
        own = settings.model_copy(
            update={key: getattr(of_sequence, key) for key in of_sequence.model_fields_set}
        )
        refuse_correction(name, own)
        return own, find_bundle(of_sequence.bundle) if of_sequence.bundle else bundle

    def _pixel_size(self, settings: LivestainSettings) -> float:
        given = self._pixel_size_um
        now = binning_of(self.core)
        if given is not None and now and self._binning:
            given *= now / self._binning
        return pixel_size_of(self.core, settings, given)


def _settings_of(events: Iterable[useq.MDAEvent]) -> LivestainSettings:
    given = events.metadata.get("livestain") if isinstance(events, useq.MDASequence) else None
    return LivestainSettings.parse(given or {}, where="metadata.livestain of the sequence")


def _refuse_offsets(sequence: useq.MDASequence, spelling: Spelling) -> None:
    for channel in sequence.channels:
        if channel.z_offset and spelling.name_of(channel.group, channel.config) is not None:
            raise SequenceError(
                f"The virtual channel {channel.config!r} has z_offset {channel.z_offset} um; a "
                "prediction lies in its source's plane, so z_offset must be 0 or left out."
            )


def refuse_correction(name: str, settings: ChannelSettings) -> None:
    """Refuse a flat field: planes of other programs' runs are predicted from as they are.

    Raises
    ------
    SettingsError
        If there is one.
    """
    if settings.flat_field or settings.dark_frame:
        raise SettingsError(
            f"The virtual channel {name!r} of livestain.install: planes are corrected by a flat field or "
            "dark frame in runs of livestain.Session and livestain run alone. Use these, or a camera that "
            "corrects."
        )


def binning_of(core: CMMCorePlus) -> int | None:
    """Return how many pixels of the camera in a row are one of the frame's; None if it does not tell."""
    camera = core.getCameraDevice()
    if not camera or not core.hasProperty(camera, "Binning"):
        return None
    number = re.match(r"\d+", str(core.getProperty(camera, "Binning")))
    return int(number[0]) if number else None
