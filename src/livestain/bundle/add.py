"""Adding a model to a folder of models: checked, hashed, with what live staining needs written into it."""

from __future__ import annotations

import copy
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain._version import __version__
from livestain.bundle.files import (
    RDF,
    SEAL,
    check_inside,
    is_foreign,
    read_checked,
    seal,
    sha256,
    sources,
    with_files,
)
from livestain.bundle.foreign import Given, describe_foreign
from livestain.bundle.foreign_tensors import foreign_test_tensors
from livestain.bundle.picture import write_cover
from livestain.bundle.placing import put_in_place
from livestain.bundle.read import Bundle, read_description, verify_bundle
from livestain.bundle.zipped import unzip
from livestain.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from livestain.bundle.description import BundleDescription

__all__ = ["add_model"]

_RDFS = (RDF, "bioimageio.yaml", "model.yaml")
_LARGEST_RDF = 4 * 1024 * 1024


def add_model(
    source: Path | str,
    *,
    into: Path,
    name: str | None = None,
    given: Given | None = None,
    overwrite: bool = False,
    check: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Copy a bundle, or a model of another tool, into a folder of models.

    A bundle of livestain's is copied as it is. Into the rdf.yaml of another tool's model the hash of each
    file and the facts of live staining are written, as `config.livestain`; its files stay as they are.

    Parameters
    ----------
    source : Path or str
        A folder with rdf.yaml, or a zip file of one; format 0.5, or 0.4, which is converted.
    into : Path
        Where to; the model gets a folder of its own in it.
    name : str, optional
        Of that folder, by which the model is then found; by default the model's id or name.
    given : Given, optional
        What is known of a model of another tool beyond its format.
    overwrite : bool
        Whether to replace a model of that name.
    check : callable, optional
        Called with the bundle before it is moved into place; what it raises leaves everything as it was.

    Returns
    -------
    Bundle
        As read back.

    Raises
    ------
    BundleError
        If it is no model, damaged, none that can stain, or one of that name is there.
    """
    source, given = Path(source).expanduser(), given or Given()
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=into) as scratch:
            return _add(source, Path(scratch), into, name, given, overwrite=overwrite, check=check)
    except OSError as error:
        raise BundleError(
            f"Cannot add {source} to {into}: {error.strerror or error}. Expected a folder that can be "
            "written to, on a disk with space."
        ) from error


def _add(
    source: Path,
    scratch: Path,
    into: Path,
    name: str | None,
    given: Given,
    *,
    overwrite: bool,
    check: Callable[[Bundle], None] | None,
) -> Bundle:
    root, rdf = _opened(source, scratch)
    name = name or _slug(rdf.get("id")) or _slug(rdf.get("name")) or _slug(source.stem)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise BundleError(
            f"The name {name!r} is no name of a model; expected letters, digits, `_`, `-` and `.`. "
            "Give another --name."
        )
    place = into / name
    if place.exists() and not (overwrite and (place / RDF).is_file()):
        raise BundleError(
            f"{place} exists"
            + (" and is no model. " if overwrite else ". ")
            + f"Give another --name{'' if overwrite else ', or --overwrite'}."
        )
    new = scratch / name
    new.mkdir()
    if is_foreign(rdf):
        _write_foreign(root, rdf, new, source, given)
    else:
        if given != Given():
            raise BundleError(
                f"{source} is a bundle of livestain's, which says itself what goes in and comes out. Leave "
                "out what describes the model (--kind, --pixel-size, --output and so on)."
            )
        _write_own(root, rdf, new)
    written = verify_bundle(new)
    if check is not None:
        check(written)
    put_in_place(new, place)
    return Bundle(**{**vars(written), "path": place})


def _opened(source: Path, scratch: Path) -> tuple[Path, dict[str, Any]]:
    """Return a model's folder and its rdf.yaml in format 0.5."""
    folder = source
    if source.is_file() and source.name in _RDFS:
        folder = source.parent
    elif source.is_file():
        folder = scratch / ".unzipped"
        unzip(source, folder)
    elif not source.is_dir():
        raise BundleError(f"There is no {source}; expected the folder or zip file of a model.")
    root = _root(folder, source)
    file, rdf = _parsed(root, source)
    version = str(rdf.get("format_version"))
    if rdf.get("type") == "model" and version.startswith("0.4."):
        root = _converted(file, scratch / ".converted", source)
        file, rdf = _parsed(root, source)
        version = str(rdf.get("format_version"))
    if rdf.get("type") != "model" or not version.startswith("0.5."):
        raise BundleError(
            f"{source} describes {rdf.get('type')!r} in format {version}; expected a bioimage.io 'model' in "
            "format 0.5 or 0.4. Choose another model, or update livestain."
        )
    return root, rdf


def _root(folder: Path, source: Path) -> Path:
    """Return the folder with rdf.yaml: this one, or the one in it."""
    below = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    roots: list[Path] = [folder, *below] if len(below) == 1 else [folder]
    for root in roots:
        if any((root / name).is_file() for name in _RDFS):
            return root
    raise BundleError(f"{source} holds no {RDF}; expected the folder or zip file of a model.")


def _parsed(root: Path, source: Path) -> tuple[Path, dict[str, Any]]:
    import yaml

    file = next(root / name for name in _RDFS if (root / name).is_file())
    if file.stat().st_size > _LARGEST_RDF:
        raise BundleError(
            f"{file.name} of {source} is larger than 4 MiB. Download the model again."
        )
    try:
        rdf = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise BundleError(
            f"{file.name} of {source} is not valid YAML ({said}). Download the model again."
        ) from error
    if not isinstance(rdf, dict):
        raise BundleError(f"{file.name} of {source} describes nothing. Download the model again.")
    return file, rdf


def _converted(file: Path, folder: Path, source: Path) -> Path:
    """Bring a model of format 0.4 into format 0.5, as bioimageio.spec does it; without the network."""
    from bioimageio.spec import (
        InvalidDescr,
        ValidationContext,
        load_description,
        save_bioimageio_package_as_folder,
    )

    with (
        warnings.catch_warnings(),
        ValidationContext(log_warnings=False, progressbar=False, perform_io_checks=False),
    ):
        warnings.simplefilter("ignore")  # what the conversion guesses, the test output checks
        model = load_description(file.resolve(), format_version="latest", perform_io_checks=False)
        if isinstance(model, InvalidDescr):
            why = " ".join(str(model.get_reason()).split())[:400]
            raise BundleError(
                f"{source} is in bioimage.io's old format 0.4 and cannot be brought into format 0.5: {why}. "
                "Choose a newer version of the model."
            )
        save_bioimageio_package_as_folder(model, output_path=folder, local_files_only=True)
    return folder


def _slug(name: object) -> str:
    return re.sub(r"[^a-z0-9_.]+", "-", str(name or "").lower()).strip("-.")[:60]


def _write_own(root: Path, rdf: dict[str, Any], new: Path) -> None:
    """Copy a bundle of ours; a seal that a repackaging lost is made again."""
    if (root / SEAL).is_file():
        bundle = read_description(root)
        digests = dict(bundle.files)
    else:
        digests = {name: str(digest or "") for name, digest in sources(with_files(rdf))}
    for name, digest in digests.items():
        check_inside(root, name)
        _copy(read_checked(root, name, digest.lower()), new / name)
    file = next(root / name for name in _RDFS if (root / name).is_file())
    _copy(file.read_bytes(), new / RDF)
    _copy(seal((new / RDF).read_bytes()).encode(), new / SEAL)


def _write_foreign(root: Path, rdf: dict[str, Any], new: Path, source: Path, given: Given) -> None:
    import yaml

    rdf = copy.deepcopy(rdf)
    for key in ("documentation", "license"):
        if isinstance(rdf.get(key), str) and (root / rdf[key]).is_file():
            rdf[key] = {"source": rdf[key]}
    covers = rdf.get("covers")
    if isinstance(covers, list):
        rdf["covers"] = [{"source": c} if isinstance(c, str) else c for c in covers]
    hashes: dict[str, str] = {}
    for node in _with_source(with_files(rdf)):
        name = node["source"]
        if name not in hashes:
            hashes[name] = _take(root, name, node.get("sha256"), new, source)
        node["sha256"] = hashes[name]
    description = describe_foreign(
        rdf, new, lambda name: (new / name).read_bytes(), given, str(source)
    )
    description = description.model_copy(update={"made_with": {"livestain": __version__}})
    if not isinstance(rdf.get("config"), dict):
        rdf["config"] = {}
    rdf["config"]["livestain"] = description.model_dump(mode="json")
    if not isinstance(rdf.get("id"), str):
        rdf["id"] = new.name.lower()
    if not rdf.get("covers"):
        _draw(new, rdf, description)
    text = yaml.safe_dump(rdf, sort_keys=False, allow_unicode=True, width=100)
    (new / RDF).write_text(text, encoding="utf-8", newline="\n")
    _copy(seal((new / RDF).read_bytes()).encode(), new / SEAL)


def _with_source(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        own = [node] if isinstance(node.get("source"), str) else []
        return own + [found for value in node.values() for found in _with_source(value)]
    return (
        [found for value in node for found in _with_source(value)] if isinstance(node, list) else []
    )


def _take(root: Path, name: str, digest: Any, new: Path, source: Path) -> str:
    """Copy one of a foreign model's files and return its hash."""
    if name.startswith(("http:", "https:")):
        raise BundleError(
            f"The model {source} lists {name}, which is not in it; expected the packaged model with all its "
            "files. Download that (a .zip)."
        )
    check_inside(source, name)
    if (root / name).is_symlink() or not (root / name).is_file():
        raise BundleError(f"The model {source} lacks its file {name}. Download it again.")
    data = (root / name).read_bytes()
    found = sha256(data)
    if isinstance(digest, str) and digest.lower() != found:
        raise BundleError(
            f"The model {source} is damaged: {name} does not have the SHA-256 that {RDF} lists. "
            "Download it again."
        )
    _copy(data, new / name)
    return found


def _copy(data: bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _draw(new: Path, rdf: dict[str, Any], description: BundleDescription) -> None:
    """Give a model without a cover one, of its test tensors."""
    from livestain.bundle.foreign_format import read_format

    form = read_format(rdf, str(new))
    counts, expected = foreign_test_tensors(form, lambda n: (new / n).read_bytes(), new)
    middle = counts.shape[2] // 2
    if description.input.window.whole_stack:
        planes = counts[0, 0, middle], expected[0, 0, middle]
    else:
        planes = counts[0, description.input.window.own_plane], expected[0, 0]
    side = min(planes[0].shape)
    counts_plane, stain = (np.asarray(plane)[:side, :side] for plane in planes)
    cover = "cover.livestain.png"
    write_cover(new / cover, counts_plane, stain, description.outputs[0])
    rdf["covers"] = [{"source": cover, "sha256": sha256((new / cover).read_bytes())}]
