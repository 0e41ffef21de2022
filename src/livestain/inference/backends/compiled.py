"""Networks that inductor compiled ahead of time, for frames of certain sizes.

Compiling takes a minute or more, so it is never done while a run starts: `livestain bench --tune` does it
(`livestain.inference.tuning`), and leaves packages in the cache that are loaded in some ten milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from livestain.errors import LivestainError
from livestain.inference.backends.plain import convolutions, folded_module, unsupported
from livestain.inference.cache import cache_folder, key_of
from livestain.inference.device import device_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from livestain.inference.backends.protocol import Precision, Predict
    from livestain.inference.network import Network

__all__ = ["Inductor", "package_path", "packages_folder"]


class Inductor:
    """A network compiled ahead of time; shapes that were not compiled run as `folded` runs them.

    Parameters
    ----------
    name : str
        Name in the registry.
    precision : str
        Of weights and feature maps.
    """

    def __init__(self, name: str, precision: Precision) -> None:
        self.name = name
        self.precision: Precision = precision

    def unready(self, network: Network, device: torch.device) -> str | None:
        """Return why not; see `Backend`."""
        if network.module is None:
            return "the bundle has no network for torch, only ONNX"
        why = unsupported(self.precision, device)
        if why is not None:
            return why
        folder = packages_folder(network, device, self.precision)
        if not any(folder.glob("[!.]*.pt2")):
            return "not compiled for this model and device yet: livestain bench --tune"
        return None

    def compiled(self, network: Network, device: torch.device) -> list[str]:
        """Return the shapes that were compiled, in words: with another one it is another candidate."""
        folder = packages_folder(network, device, self.precision)
        return sorted(path.stem for path in folder.glob("[!.]*.pt2"))

    def load(self, network: Network, device: torch.device) -> Predict:
        """Find the packages; each is loaded when its shape first comes."""
        folder = packages_folder(network, device, self.precision)
        if not any(folder.glob("[!.]*.pt2")):
            raise LivestainError(f"{self.unready(network, device)}.")
        return _Packages(folder, network, device, self.precision)


class _Packages:
    """A function that runs the package of its input's shape."""

    def __init__(
        self, folder: Path, network: Network, device: torch.device, precision: Precision
    ) -> None:
        self._folder = folder
        self._network = network
        self._device = device
        self._precision: Precision = precision
        self._loaded: dict[torch.Size, Predict] = {}
        self._folded: Predict | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        run = self._loaded.get(x.shape)
        if run is None:
            run = self._load(x.shape)
        return run(x)

    def _load(self, shape: torch.Size) -> Predict:
        path = package_path(self._folder, shape)
        if path.is_file():
            import torch._inductor as inductor

            package = inductor.aoti_load_package(str(path))
            layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d

            def run(x: torch.Tensor) -> torch.Tensor:
                # Its strides are compiled in: the layout must be the one that it was compiled for.
                with convolutions(self._device, tf32=False):  # what torch itself would take on GPUs
                    predicted: torch.Tensor = package(x.contiguous(memory_format=layout))
                return predicted

            self._loaded[shape] = run
            return run
        if self._folded is None:
            self._folded = folded_module(self._network, self._device, self._precision)
        return self._folded

    def close(self) -> None:
        """Give the packages back."""
        self._loaded.clear()
        self._folded = None


def packages_folder(network: Network, device: torch.device, precision: Precision) -> Path:
    """Return where the packages of a network on a device lie."""
    facts = {
        "bundle": network.identity,
        "device": device_name(str(device)),
        "torch": torch.__version__,
        "precision": precision,
    }
    return cache_folder() / "compiled" / key_of(facts)


def package_path(folder: Path, shape: Sequence[int]) -> Path:
    """Return the package of one shape of the network's input."""
    return folder / f"{'x'.join(map(str, shape))}.pt2"
