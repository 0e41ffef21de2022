"""Finding deployed models by name, or by what they stain."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from livestain.bundle.files import RDF
from livestain.bundle.fit import check_fit
from livestain.bundle.read import Bundle, read_bundle, read_description
from livestain.errors import BundleError

if TYPE_CHECKING:
    from livestain.bundle.description import BundleDescription

__all__ = [
    "bundles_for",
    "find_bundle",
    "findable_name",
    "known_bundles",
    "search_path",
    "user_models",
]

_log = logging.getLogger(__name__)


def user_models() -> Path:
    """Return the user's own folder of models: `livestain/models` among the user's data."""
    from platformdirs import user_data_path

    return user_data_path("livestain", appauthor=False) / "models"


def search_path() -> list[Path]:
    """Return the folders whose sub-folders are bundles, first come first.

    Those of the environment variable LIVESTAIN_MODELS (separated as PATH is), the user's own
    (`livestain/models` among the user's data), and the shipped ones.
    """
    given = os.environ.get("LIVESTAIN_MODELS", "")
    folders = [Path(folder).expanduser() for folder in given.split(os.pathsep) if folder.strip()]
    folders.append(user_models())
    package = Path(__file__).resolve().parents[1]
    folders.append(package / "models")
    # Running from a checkout: the models beside src/, which the wheel holds inside the package.
    checkout = package.parent.parent
    if (checkout / "pyproject.toml").is_file() and package.parent.name == "src":
        folders.append(checkout / "models")
    return folders


def known_bundles() -> dict[str, Path]:
    """Return the folder of every bundle on the search path by its folder's name; the first wins."""
    known: dict[str, Path] = {}
    for folder in search_path():
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if (path / RDF).is_file():
                    known.setdefault(path.name, path)
    return known


def find_bundle(name_or_folder: str | Path) -> Bundle:
    """Read a bundle by the name of its folder on the search path, or by its folder.

    Parameters
    ----------
    name_or_folder : str or Path
        A bare name is looked up on the search path first, then as a folder here. A folder that is not here
        may also lie within one of the search path: ``starts/h9c2-60x-unet``.

    Raises
    ------
    BundleError
        If there is no such bundle (the message lists the known names and the folders searched), or
        it is damaged.
    """
    folder = Path(name_or_folder).expanduser()
    known = known_bundles()
    if len(folder.parts) == 1 and folder.name in known:
        return read_bundle(known[folder.name])
    if folder.is_dir():
        return read_bundle(folder)
    if not folder.is_absolute() and ".." not in folder.parts:
        # What is in a sub-folder, such as starts/, is found by asking for it alone: no run chooses it.
        for place in search_path():
            if (place / folder / RDF).is_file():
                return read_bundle(place / folder)
    names = ", ".join(sorted(known)) or "none"
    searched = ", ".join(str(path) for path in search_path())
    raise BundleError(
        f"No model is called {str(name_or_folder)!r}, and it is no folder. Known: {names}. "
        f"Searched: {searched}. Give a name, a bundle's folder, or set LIVESTAIN_MODELS."
    )


def findable_name(bundle: Bundle) -> str:
    """Return the name by which a bundle is found, its folder's; of one elsewhere its own name."""
    there = known_bundles().get(bundle.path.name)
    here = there is not None and there.resolve() == bundle.path.resolve()
    return bundle.path.name if here else bundle.name


def bundles_for(
    output: str, kind: str | None = None, pixel_size_um: float | None = None
) -> list[Bundle]:
    """Return the bundles that predict an output from such a channel; None leaves a filter out.

    A damaged bundle on the search path is left out with a warning in the log: it must not stand in
    the way of the others.

    Parameters
    ----------
    output : str
        Name of an output, such as "mitochondria".
    kind : str, optional
        Contrast of the source channel.
    pixel_size_um : float, optional
        Of the microscope, in micrometres.
    """
    found = []
    for path in known_bundles().values():
        try:
            if _fits(read_description(path).description, output, kind, pixel_size_um):
                found.append(read_bundle(path))
        except BundleError as error:
            _log.warning("Left out: %s", error)
    return found


def _fits(
    description: BundleDescription, output: str, kind: str | None, pixel_size_um: float | None
) -> bool:
    if output not in [channel.name for channel in description.outputs]:
        return False
    try:
        check_fit(description, kind=kind, pixel_size_um=pixel_size_um)
    except BundleError:
        return False
    return True
