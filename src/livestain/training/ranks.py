"""The processes of one training: one, or as many as torchrun started."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from livestain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Ranks", "joined"]


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes
    ----------
    rank : int
        Of this process; 0 alone writes and tells.
    world : int
        Number of processes.
    local : int
        Place of this process on its machine: which GPU it takes.
    local_world : int
        Number of processes on this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """Return what torchrun says in the environment; one process where it says nothing."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Return how many samples of a batch each process takes.

        Raises
        ------
        SettingsError
            If they cannot be shared out evenly.
        """
        if batch_size % self.world:
            raise SettingsError(
                f"The recipe's batch_size of {batch_size} cannot be shared by {self.world} processes. "
                f"Expected a multiple of {self.world}."
            )
        return batch_size // self.world

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.world > 1:
            distributed.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Return this value of every process, in order of their ranks, to every process."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes, to every process; without a gradient."""
        values = values.detach().clone()
        if self.world > 1:
            distributed.all_reduce(values)
        return values


@contextmanager
def joined(where: torch.device) -> Iterator[Ranks]:
    """Join the other processes, if torchrun started any, and part from them at the end.

    Parameters
    ----------
    where : torch.device
        CPUs talk by gloo, GPUs by NCCL.
    """
    ranks = Ranks.of_environment()
    if ranks.world == 1:
        yield ranks
        return
    if where.type == "cuda":
        torch.cuda.set_device(ranks.local)
    distributed.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()
