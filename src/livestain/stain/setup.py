"""What a worker has to know of a store's plan and of the models that fill it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.stain.protocol import ChannelModel, WorkerSetup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from livestain.bundle import Bundle
    from livestain.planes import PlaneIndex
    from livestain.store import StorePlan

__all__ = ["placed", "worker_setup"]


def worker_setup(
    plan: StorePlan,
    bundles: Mapping[int, tuple[Bundle, str]],
    *,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    excluded: Iterable[PlaneIndex] = (),
    live: bool = True,
) -> WorkerSetup:
    """Return what a worker has to know.

    Parameters
    ----------
    plan : StorePlan
        Of the store.
    bundles : mapping
        Bundle and name of its output, by virtual channel's place in the store.
    device, backend, threads
        See `WorkerSetup`.
    excluded : iterable of PlaneIndex
        Virtual planes that are not to be tried.
    live : bool
        Whether planes are still coming, so that lag policies count.
    """
    return WorkerSetup(
        shape=(plan.height, plan.width),
        pixel_size_um=plan.pixel_size_um,
        n_p=plan.n_p,
        n_z=plan.n_z,
        z_step_um=plan.z_step_um,
        models=tuple(
            ChannelModel(
                c=c,
                bundle=str(bundle.path.resolve()),
                sha256=bundle.sha256,
                output=output,
                **_correction(plan, c),
            )
            for c, (bundle, output) in bundles.items()
        ),
        device=device,
        backend=backend,
        threads=threads,
        excluded=tuple((i.p, i.t, i.c, i.z) for i in excluded),
        live=live,
    )


def placed(setup: WorkerSetup, bundle: str, *, device: str, tile_step: int) -> WorkerSetup:
    """Return the setup with another beginning of one model, whatever channels it fills.

    Parameters
    ----------
    setup : WorkerSetup
        As it was.
    bundle : str
        The model's folder.
    device, tile_step
        See `ChannelModel`.
    """
    update = {"device": device, "tile_step": tile_step}
    models = (m.model_copy(update=update) if m.bundle == bundle else m for m in setup.models)
    return setup.model_copy(update={"models": tuple(models)})


def _correction(plan: StorePlan, c: int) -> dict[str, str | None]:
    virtual = plan.channels[c].virtual
    if virtual is None or virtual.correction is None:
        return {}
    return virtual.correction.model_dump(include={"flat_field", "dark_frame"})
