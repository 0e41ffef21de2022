"""Predictions as frames of another program: in the camera's pixel type, with what they are beside them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from livestain.inference import Stainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

    from livestain.bundle import Bundle
    from livestain.bundle.description import OutputChannel
    from livestain.inference.encoding import Counts
    from livestain.live.delivery import Key, Payload, Slot
    from livestain.live.foreign import Predicted

__all__ = ["Encoding", "FramePredictor", "describe", "encoding_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Encoding:
    """What stored counts mean: ``value = offset + scale * stored``, with 0 for "not predicted"."""

    scale: float
    offset: float
    largest: int
    """Largest stored count."""

    def narrowed(self, stored: NDArray[np.uint16], dtype: DTypeLike) -> NDArray[Any]:
        """Return stored counts in the camera's type, a new array; those above its range become its end."""
        return np.minimum(stored, self.largest).astype(dtype)


def encoding_of(spec: OutputChannel, dtype: DTypeLike) -> Encoding:
    """Return how an output is kept in the camera's pixel type.

    In 16 bits as in a store. 8 bits are too few for that: they span the output's display window, and what
    lies outside of it becomes its ends.

    Parameters
    ----------
    spec : OutputChannel
        The model's output.
    dtype : uint8 or uint16
        Of the camera's frames.
    """
    if np.dtype(dtype) != np.uint8:
        return Encoding(spec.scale, spec.offset, 65535)
    low, high = spec.display
    scale = (high - low) / 254
    return Encoding(scale, low - scale, 255)


def describe(channel: Predicted, dtype: DTypeLike) -> dict[str, Any]:
    """Return what a predicted frame says of itself, as JSON types."""
    spec = channel.bundle.description.outputs[channel.output]
    encoding = encoding_of(spec, dtype)
    return {
        "predicted": True,
        "virtual_channel": channel.name,
        "sources": list(channel.sources),
        "bundle": channel.bundle.name,
        "bundle_sha256": channel.bundle.sha256,
        "output": spec.name,
        "unit": spec.unit,
        "scale": encoding.scale,
        "offset": encoding.offset,
    }


@dataclass(frozen=True, slots=True)
class _Last:
    sources: tuple[Key, ...]
    dtype: np.dtype[Any]
    """Of the camera's frames, in whose type it is encoded."""
    predicted: Counts


class _Scale(NamedTuple):
    """A model, and the microscope's sizes that it was loaded for."""

    sha256: str
    pixel_size_um: float
    z_step_um: float | None
    """None where the model looks at one depth, and no z-step matters."""


class FramePredictor:
    """The models of the virtual channels, in this process, loaded once for all runs of one pixel size.

    A model's last prediction is kept: channels of several outputs of one model share it, and so do the
    planes of a stack that a model of whole stacks predicts at once.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    threads : int, optional
        CPU threads of torch.
    """

    def __init__(self, device: str, threads: int | None) -> None:
        self._device, self._threads = device, threads
        self._stainers: dict[_Scale, Stainer] = {}
        self._warm: set[tuple[_Scale, tuple[int, int], int]] = set()
        self._run: dict[str, tuple[Predicted, Stainer]] = {}
        self._last: dict[str, _Last] = {}

    def prepare(
        self,
        channels: Mapping[str, Predicted],
        *,
        pixel_size_um: float,
        z_steps: Mapping[str, float | None],
        n_z: Mapping[str, int],
        shape: tuple[int, int],
    ) -> None:
        """Load the models of a run and predict once, so that its first plane is as fast as its last.

        Parameters
        ----------
        channels : mapping
            The run's virtual channels that are predicted.
        pixel_size_um : float
            Of the microscope, in micrometres.
        z_steps, n_z : mapping
            By virtual channel, of its source.
        shape : tuple of int
            Height and width of the frames, in pixels.

        Raises
        ------
        LivestainError
            What `Stainer` refuses.
        """
        self._last.clear()
        self._run.clear()
        scales = {
            name: _Scale(
                channel.bundle.sha256,
                pixel_size_um,
                z_steps[name] if channel.window.needs_stack else None,
            )
            for name, channel in channels.items()
        }
        if any(
            old.sha256 == new.sha256 and old != new
            for old in self._stainers
            for new in scales.values()
        ):
            # Another objective, binning or z-step: two of one model may be too much for the device.
            self.close()
        for name, channel in channels.items():
            stainer = self._stainer(channel.bundle, scales[name])
            warm = scales[name], shape, n_z[name]
            if warm not in self._warm:
                stainer.warm_up(shape, n_z[name])
                self._warm.add(warm)
            self._run[name] = channel, stainer

    def predict(self, slot: Slot, payloads: list[Payload]) -> Payload:
        """Return a virtual channel's frame.

        Parameters
        ----------
        slot : Slot
            The virtual image.
        payloads : list of Payload
            Its sources, in the model's order.

        Raises
        ------
        LivestainError
            What the model or the encoding refuses.
        """
        channel, stainer = self._run[str(slot.name)]
        own = next(
            (
                at
                for at, key in enumerate(slot.sources)
                if key.place.at(c=slot.key.place.c) == slot.key.place
            ),
            0,
        )
        image, event, meta = payloads[own]
        outputs = channel.bundle.description.outputs
        last = self._last.get(channel.bundle.sha256)
        if last is None or (last.sources, last.dtype) != (slot.sources, image.dtype):
            self._last.pop(
                channel.bundle.sha256, None
            )  # a stack is large: never hold two of one model
            planes = np.stack([image for image, _, _ in payloads])
            kept_as = (encoding_of(spec, image.dtype) for spec in outputs)
            encodings = tuple((each.scale, each.offset) for each in kept_as)
            last = _Last(slot.sources, image.dtype, stainer.stain_measured(planes, encodings))
            self._last[channel.bundle.sha256] = last
        # Models of whole stacks predict every plane of them.
        stack = last.predicted.counts.ndim == 4
        plane = last.predicted.plane(channel.output, slot.key.place.z if stack else None)
        frame = encoding_of(outputs[channel.output], image.dtype).narrowed(
            plane.counts, image.dtype
        )
        mine = slot.event
        if "cam" in event.index:
            mine = mine.model_copy(update={"index": {**mine.index, "cam": slot.key.cam}})
        return frame, mine, _meta(meta, mine, describe(channel, image.dtype))

    def forget(self) -> None:
        """Let go of what a run left in memory; the models stay loaded."""
        self._last.clear()

    def close(self) -> None:
        """Give the models back; a second time does nothing."""
        self.forget()
        self._run.clear()
        self._warm.clear()
        while self._stainers:
            self._stainers.popitem()[1].close()

    def _stainer(self, bundle: Bundle, scale: _Scale) -> Stainer:
        if scale not in self._stainers:
            _log.info("Loading the model %s", bundle.name)
            self._stainers[scale] = Stainer(
                bundle,
                device=self._device,
                pixel_size_um=scale.pixel_size_um,
                z_step_um=scale.z_step_um,
                threads=self._threads,
            )
        return self._stainers[scale]


def _meta(source: Mapping[str, Any], event: Any, said: dict[str, Any]) -> dict[str, Any]:
    """Return a prediction's metadata: when and where of its source's, no light, and what it is."""
    kept = {
        key: value
        for key, value in source.items()
        if key not in ("camera_metadata", "hardware_triggered", "images_remaining_in_buffer")
    }
    extra = {**(source.get("extra") or {}), "livestain": said}
    return {**kept, "mda_event": event, "exposure_ms": 0.0, "property_values": (), "extra": extra}
