"""Many predictions through one Stainer: on a GPU the next planes come in while the last results go out.

Three streams of a GPU, and what one waits for of another::

    inward   |copy in 1|copy in 2|copy in 3|
    compute             |predict 1 |predict 2 |predict 3 |      (the stream that the caller is on)
    outward                         |copy out 1|copy out 2|copy out 3|

Each window that is on its way has a slot: pinned memory of the computer and memory of the GPU, both ways,
and an event at the end of each of the three. A slot is given to another window only after its result has
been taken out, for which the last of its three events, and with it the first two, must have come.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from livestain.errors import LivestainError
from livestain.inference.encoding import Counts, encode_on_cpu, encode_on_device
from livestain.inference.memory import is_out_of_memory
from livestain.inference.upload import counts_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Protocol

    from numpy.typing import NDArray

    from livestain.inference.encoding import Encodings

    class Computes(Protocol):
        """What a pipeline needs of a Stainer."""

        @property
        def device(self) -> str:
            """Where it computes now."""

        def upload(self, window: NDArray[Any]) -> torch.Tensor:
            """Return counts (planes, y, x) as (1, planes, y, x) on the device."""

        def compute(self, counts: torch.Tensor) -> torch.Tensor:
            """Return float32 (n, outputs, [z], y, x) from counts (n, planes, y, x), both on the device."""

        def attempt(self, planes: NDArray[Any], work: Callable[[], Any]) -> Any:
            """Do work; again, by other means, where memory is short."""

        def predicted_shape(self, planes: NDArray[Any]) -> tuple[int, ...]:
            """Return (n, outputs, [z], y, x) for counts (n, planes, y, x)."""


__all__ = ["Pipeline", "Ticket"]


class Ticket:
    """One prediction that is made or on its way."""

    def __init__(self, made: list[Counts] | None = None, slot: _Slot | None = None) -> None:
        self._made = made
        self._slot = slot

    def result(self) -> list[Counts]:
        """Wait for the predictions of the windows that were submitted together, and return them.

        Raises
        ------
        RuntimeError
            If the GPU failed.
        """
        if self._made is None:
            assert self._slot is not None  # noqa: S101 - it has one or the other
            self._made = self._slot.take_out()
            self._slot = None
        return self._made


class _Slot:
    """Memory for windows on their way to a GPU and back.

    Nothing here is freed while a copy may be reading or writing it: the ring keeps its slots until all
    their results were taken out.
    """

    def __init__(
        self,
        given: tuple[int, ...],
        dtype: torch.dtype,
        made: tuple[int, ...],
        device: torch.device,
    ) -> None:
        told = (*made[:-2], 4)
        self.host_in = torch.empty(given, dtype=dtype, pin_memory=True)
        self.device_in = torch.empty(given, dtype=dtype, device=device)
        self.device_out = torch.empty(made, dtype=torch.uint16, device=device)
        self.host_out = torch.empty(made, dtype=torch.uint16, pin_memory=True)
        self.device_told = torch.empty(told, dtype=torch.float64, device=device)
        self.host_told = torch.empty(told, dtype=torch.float64, pin_memory=True)
        self.copied_in = torch.cuda.Event()
        self.computed = torch.cuda.Event()
        self.copied_out = torch.cuda.Event()
        self.ticket: Ticket | None = None
        """Of the windows that are in it; None where it is free."""
        self.n = 0
        """How many these are."""

    def take_out(self) -> list[Counts]:
        """Wait until the results are here, and copy them out; the slot is free then."""
        self.ticket = None
        self.copied_out.synchronize()
        counts, told = self.host_out[: self.n].numpy(), self.host_told[: self.n].numpy()
        return [Counts(*one) for one in zip(counts.copy(), told.copy(), strict=True)]


class _Ring:
    """Slots of one shape, in turn, and the two streams of the copies."""

    def __init__(
        self,
        depth: int,
        given: tuple[int, ...],
        dtype: torch.dtype,
        made: tuple[int, ...],
        device: torch.device,
        encodings: Encodings,
    ) -> None:
        self.n = given[0]
        self.inward = torch.cuda.Stream(device)
        self.outward = torch.cuda.Stream(device)
        self.encodings = [torch.tensor(each, dtype=torch.float64).to(device) for each in encodings]
        self._slots = deque(_Slot(given, dtype, made, device) for _ in range(depth))
        # The memory may have been freed by work that the compute stream has yet to do, and the copies'
        # streams know nothing of that.
        torch.cuda.current_stream(device).synchronize()

    def next(self) -> _Slot:
        """Return the slot that was used longest ago, free."""
        slot = self._slots[0]
        self._slots.rotate(-1)
        if slot.ticket is not None:
            slot.ticket.result()
        return slot

    def drain(self) -> None:
        """Wait for all results that are on their way; their tickets keep them."""
        for slot in self._slots:
            if slot.ticket is not None:
                slot.ticket.result()


class Pipeline:
    """Windows in, counts out, several on their way at once; made by `Stainer.pipeline`.

    Not for several threads at once. On a CPU nothing overlaps, and each window is predicted when it is
    submitted.

    Parameters
    ----------
    stainer : Computes
        Predicts; must not be closed before.
    encodings : tuple of tuple of float
        Scale and offset of each output.
    depth : int
        Most submissions on their way at once, on a GPU.
    """

    def __init__(self, stainer: Computes, encodings: Encodings, depth: int = 3) -> None:
        if depth < 1:
            raise LivestainError(f"depth is {depth}; expected 1 or more submissions at once.")
        self._stainer = stainer
        self._encodings = encodings
        self._depth = depth
        self._ring: _Ring | None = None
        self._of: tuple[Any, ...] | None = None
        """What the ring is for."""
        self._together = True
        """Whether there is memory for several windows at once."""
        self._closed = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Wait for what is on its way, whose tickets keep their results, and give the memory back."""
        self._closed = True
        self._forget_ring()

    @torch.inference_mode()
    def submit(self, planes: NDArray[Any]) -> Ticket:
        """Begin to predict; where `depth` submissions are on their way, first wait for the oldest.

        Parameters
        ----------
        planes : array of uint8 or uint16, (n, planes, y, x)
            One or more windows of one shape, copied before this returns.

        Raises
        ------
        LivestainError
            If the pipeline is closed; and as `Stainer.stain`.
        """
        if self._closed:
            raise LivestainError("This pipeline is closed. Ask the Stainer for another one.")
        ticket: Ticket = self._stainer.attempt(planes, lambda: self._begin(planes))
        return ticket

    def run(self, windows: Iterable[NDArray[Any]], *, batch: int = 1) -> Iterator[Counts]:
        """Predict windows, (planes, y, x) each, and give their results in order, as they come.

        Parameters
        ----------
        windows : iterable of array of uint8 or uint16, (planes, y, x)
            Taken one after another, a little ahead of their results.
        batch : int
            Most windows of one shape that a GPU predicts together.
        """
        waiting: deque[Ticket] = deque()
        for planes in _batches(windows, batch if self._stainer.device != "cpu" else 1):
            waiting.append(self.submit(planes))
            # On a CPU a result is there at once, and is not kept waiting for others.
            while len(waiting) > (self._depth - 1 if self._stainer.device != "cpu" else 0):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()

    def _begin(self, planes: NDArray[Any]) -> Ticket:
        if self._stainer.device != "cpu" and (self._together or len(planes) == 1):
            try:
                return self._begin_on_gpu(planes, torch.device(self._stainer.device))
            except Exception as error:
                if len(planes) == 1 or not is_out_of_memory(error):
                    raise
                # Fewer windows together come before smaller tiles.
                self._together = False
        if self._stainer.device == "cpu":  # where it may have moved
            self._forget_ring()
        # On a CPU, several together would only need more memory.
        return Ticket([made for window in planes for made in self._one(window)])

    def _one(self, window: NDArray[Any]) -> list[Counts]:
        if self._stainer.device != "cpu":
            return self._begin_on_gpu(window[None], torch.device(self._stainer.device)).result()
        predicted = self._stainer.compute(self._stainer.upload(window))
        return [encode_on_cpu(predicted[0], self._encodings)]

    def _begin_on_gpu(self, planes: NDArray[Any], device: torch.device) -> Ticket:
        n = len(planes)
        with torch.cuda.device(device):
            ring = self._ring_for(planes, device)
            slot = ring.next()
            compute = torch.cuda.current_stream(device)
            np.copyto(slot.host_in[:n].numpy(), planes)
            try:
                with torch.cuda.stream(ring.inward):
                    slot.device_in[:n].copy_(slot.host_in[:n], non_blocking=True)
                    slot.copied_in.record(ring.inward)
                compute.wait_event(slot.copied_in)
                predicted = self._stainer.compute(slot.device_in[:n])
                encode_on_device(
                    predicted, ring.encodings, slot.device_out[:n], slot.device_told[:n]
                )
                slot.computed.record(compute)
                with torch.cuda.stream(ring.outward):
                    ring.outward.wait_event(slot.computed)
                    slot.host_out[:n].copy_(slot.device_out[:n], non_blocking=True)
                    slot.host_told[:n].copy_(slot.device_told[:n], non_blocking=True)
                    slot.copied_out.record(ring.outward)
            except BaseException:
                # Half of it may be on its way; the next attempt begins with a slot that is at rest.
                torch.cuda.synchronize(device)
                raise
            slot.n = n
            slot.ticket = Ticket(slot=slot)
            return slot.ticket

    def _ring_for(self, planes: NDArray[Any], device: torch.device) -> _Ring:
        of = (planes.shape[1:], planes.dtype, device)
        if self._ring is None or self._of != of or self._ring.n < len(planes):
            self._forget_ring()  # never two at once
            self._ring = _Ring(
                self._depth,
                planes.shape,
                counts_dtype(planes),
                self._stainer.predicted_shape(planes),
                device,
                self._encodings,
            )
            self._of = of
        return self._ring

    def _forget_ring(self) -> None:
        if self._ring is not None:
            self._ring.drain()
        self._ring = self._of = None


def _batches(windows: Iterable[NDArray[Any]], most: int) -> Iterator[NDArray[Any]]:
    """Give windows in order, up to `most` of one shape and type together: (n, planes, y, x)."""
    together: list[NDArray[Any]] = []
    for window in windows:
        last = together[-1] if together else window
        if len(together) == most or (window.shape, window.dtype) != (last.shape, last.dtype):
            yield np.stack(together)
            together.clear()
        together.append(window)
        if most == 1:  # not a window later than it came, and no copy
            yield together.pop()[None]
    if together:
        yield np.stack(together)
