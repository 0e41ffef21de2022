"""Who predicted what: what a store keeps of its models and of the programs, so that it can be repeated."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain._version import __version__
from livestain.bundle.find import known_bundles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from livestain.bundle import Bundle
    from livestain.store import StorePlan, VirtualPlan

__all__ = ["bundle_place", "model_facts", "versions_of"]

_RECIPE = "recipe.yaml"


def model_facts(
    plan: StorePlan, bundles: Mapping[int, tuple[Bundle, str]]
) -> dict[str, dict[str, Any]]:
    """Return what a store keeps of the model of each virtual channel, by the channel's name.

    Parameters
    ----------
    plan : StorePlan
    bundles : mapping
        Bundle and name of its output, by virtual channel's place.
    """
    return {
        plan.channels[c].name: {
            "bundle": bundle.name,
            "title": bundle.title,
            "version": str(bundle.rdf.get("version") or ""),
            "sha256": bundle.sha256,
            "licence": bundle.licence,
            "folder": str(bundle.path.resolve()),
            "output": output,
            # Whole, since it is short, and the bundle may be gone when somebody asks.
            "recipe": bundle.read_file(_RECIPE).decode("utf-8", "replace")
            if _RECIPE in bundle.files
            else "",
        }
        for c, (bundle, output) in bundles.items()
    }


def bundle_place(virtual: VirtualPlan, facts: Mapping[str, Any]) -> str:
    """Return the name or folder by which a channel's model is most likely found now.

    Its name, if the search path has it there unchanged; else the folder that it was in, if that is there.

    Parameters
    ----------
    virtual : VirtualPlan
        Of the channel.
    facts : mapping
        What `model_facts` said of it; may be empty.
    """
    named = known_bundles().get(virtual.bundle)
    if named is not None and _sha256(named) == virtual.bundle_sha256:
        return virtual.bundle
    folder = str(facts.get("folder") or "")
    return folder if folder and Path(folder).is_dir() else virtual.bundle


def _sha256(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / "rdf.yaml").read_bytes()).hexdigest()
    except OSError:
        return ""


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of livestain, Python and the packages that are installed."""
    found = {"livestain": __version__, "python": sys.version.split()[0]}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
