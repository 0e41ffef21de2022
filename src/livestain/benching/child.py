"""A process that measures one thing: ``python -P -m livestain.benching.child``.

A `Job` comes as a line of JSON on its standard input. One line of JSON goes to its standard output:
``{"result": …}``, or ``{"refused": "why"}``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from livestain.benching.settings import Job
from livestain.errors import LivestainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from livestain.settings import Settings

__all__ = ["main"]


def _look(job: Job) -> Settings:
    import torch

    from livestain.benching.measuring import seen_depth
    from livestain.benching.results import Look
    from livestain.benching.work import count_parameters, count_work
    from livestain.bundle import read_bundle
    from livestain.inference import backend_names, resolve_device
    from livestain.inference.backends import get_backend
    from livestain.inference.network import network_of

    device = resolve_device(job.device)
    bundle = read_bundle(job.bundle)
    module = bundle.load_module()
    network = network_of(bundle, module)
    precisions: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in backend_names():
        backend = get_backend(name)
        precisions[name] = backend.precision
        why = backend.unready(network, torch.device(device))
        if why is not None:
            refused[name] = why
    on_gpu = device != "cpu"
    facts = {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": job.threads or torch.get_num_threads(),
        "cuda": torch.version.cuda if on_gpu else None,
    }
    depth = seen_depth(bundle, job)
    works = {size: count_work(module, (depth, size, size)) for size in job.sizes}
    return Look(
        device=device,
        device_name=torch.cuda.get_device_name(device) if on_gpu else "CPU",
        precisions=precisions,
        refused=refused,
        parameters=count_parameters(module),
        work={size: work for size, work in works.items() if work is not None},
        facts=facts,
        # Of a window, the worker keeps the planes that the next one has too (livestain.stain.recent).
        reads=len(bundle.description.input.kinds),
        writes=len(bundle.description.outputs),
    )


def _roof(job: Job) -> Settings:
    import torch

    from livestain.benching.roof import measure_roof
    from livestain.inference import resolve_device

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    return measure_roof(torch.device(resolve_device(job.device)), job.precisions)


def _store(job: Job) -> Settings:
    from livestain.benching.storing import measure_store

    return measure_store(job)


def _auto(job: Job) -> Settings:
    from livestain.benching.results import AutoChoice
    from livestain.bundle import read_bundle
    from livestain.inference import Stainer

    bundle = read_bundle(job.bundle)
    choices, seconds = [], []
    for _ in range(2):
        began = time.perf_counter()
        with Stainer(
            bundle,
            device=job.device,
            threads=job.threads,
            backend="auto",
            shape_yx=(job.size, job.size),
            n_z=job.planes,
        ) as stainer:
            seconds.append(round(time.perf_counter() - began, 3))
            choices.append((stainer.backend, stainer.choice))
    backend, choice = choices[0]
    return AutoChoice(
        backend=backend,
        cached=choice.cached,
        seconds=seconds[0],
        cached_seconds=seconds[1],
        milliseconds=choice.milliseconds,
        refused=choice.refused,
    )


def _measure(job: Job) -> Settings:
    from livestain.benching.measuring import measure

    return measure(job)


_KINDS: dict[str, Callable[[Job], Settings]] = {
    "look": _look,
    "roof": _roof,
    "store": _store,
    "auto": _auto,
    "measure": _measure,
}


def main() -> None:
    """Do what standard input asks for, and leave."""
    # Libraries print where they like; what they print must not come between the lines of JSON.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = Job.model_validate_json(sys.stdin.readline())
    try:
        said: dict[str, object] = {"result": _KINDS[job.kind](job).model_dump(mode="json")}
    except LivestainError as error:
        said = {"refused": str(error)}
    answers.write(json.dumps(said) + "\n")
    answers.flush()
    sys.stderr.flush()
    # At once, as the worker leaves: tearing torch down can take seconds.
    os._exit(0)


if __name__ == "__main__":
    main()
