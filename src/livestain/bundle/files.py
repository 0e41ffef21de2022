"""The files of a bundle: their names, their hashes, and whether they are what rdf.yaml lists."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from livestain.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "RDF",
    "SEAL",
    "check_inside",
    "in_shell",
    "is_foreign",
    "listed_files",
    "read_checked",
    "read_rdf",
    "seal",
    "sha256",
    "sources",
    "with_files",
]

RDF = "rdf.yaml"
SEAL = "rdf.yaml.sha256"
"""Holds the hash of rdf.yaml in the format of `sha256sum`: rdf.yaml lists every file's hash but
cannot list its own."""

_LARGEST_RDF = 4 * 1024 * 1024


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def seal(rdf: bytes) -> str:
    """Return the text of the file `SEAL` for the content of rdf.yaml."""
    return f"{sha256(rdf)}  {RDF}\n"


def _damaged(folder: Path, name: str, what: str) -> BundleError:
    return BundleError(
        f"The bundle {folder} is damaged: {name} {what}. Copy or download the bundle again."
    )


def read_rdf(folder: Path) -> tuple[dict[str, Any], str]:
    """Read a bundle's rdf.yaml and check it against its seal.

    Returns
    -------
    dict
        Its content, plain types.
    str
        Its SHA-256, which is the bundle's identity.

    Raises
    ------
    BundleError
        If it is missing, changed, or not the YAML of a bioimage.io model of format 0.5.
    """
    path = folder / RDF
    if not path.is_file():
        raise BundleError(
            f"{folder} is not a bundle: it has no {RDF}. Expected the folder of a deployed model."
        )
    if path.stat().st_size > _LARGEST_RDF:
        raise _damaged(folder, RDF, "is larger than 4 MiB")
    data = path.read_bytes()
    identity = sha256(data)
    try:
        sealed = (folder / SEAL).read_bytes()
    except OSError as error:
        # A model of another tool has no seal of ours; one of ours that lost it is damaged.
        if not is_foreign(_parsed(folder, data)):
            raise _damaged(folder, SEAL, f"cannot be read ({error.strerror or error})") from error
    else:
        if sealed != seal(data).encode():
            raise _damaged(folder, RDF, f"does not have the SHA-256 that {SEAL} gives")
    rdf = _parsed(folder, data)
    kind, version = rdf.get("type"), rdf.get("format_version")
    if kind == "model" and str(version).startswith("0.4.") and is_foreign(rdf):
        raise BundleError(
            f"{path} describes a model in bioimage.io's old format {version}. Add it, which brings it into "
            f"format 0.5: livestain models add {in_shell(folder)}"
        )
    if kind != "model" or not str(version).startswith("0.5."):
        raise BundleError(
            f"{path} describes {kind!r} in format {version!r}; "
            "expected a bioimage.io 'model' in format 0.5. Export the model again."
        )
    return rdf, identity


def _parsed(folder: Path, data: bytes) -> dict[str, Any]:
    import yaml

    try:
        rdf = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise _damaged(folder, RDF, f"is not valid YAML ({reason})") from error
    return rdf if isinstance(rdf, dict) else {}


def is_foreign(rdf: Mapping[str, Any]) -> bool:
    """Return whether a model's rdf.yaml lacks what livestain would have written."""
    config = rdf.get("config")
    return not isinstance(config, dict) or config.get("livestain") is None


def listed_files(folder: Path, rdf: dict[str, Any]) -> dict[str, str]:
    """Return the hash of every file that rdf.yaml lists, by name.

    Raises
    ------
    BundleError
        If a file has no hash, lies outside the folder, or is listed twice with different hashes.
    """
    files: dict[str, str] = {}
    foreign = is_foreign(rdf)
    for name, digest in sources(with_files(rdf)):
        check_inside(folder, name)
        if digest is None and foreign:
            raise BundleError(
                f"{folder / RDF} gives no SHA-256 for {name}. Add the model, which writes them: livestain "
                f"models add {in_shell(folder)}"
            )
        if not isinstance(digest, str) or files.get(name, digest.lower()) != digest.lower():
            raise _damaged(folder, RDF, f"gives no single sha256 for {name}")
        files[name] = digest.lower()
    return files


_WITH_FILES = ("documentation", "covers", "attachments", "inputs", "outputs", "weights", "license")
"""Keys of rdf.yaml under which a model of another tool names its files."""


def with_files(rdf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a model's rdf.yaml that names its files.

    Models of other tools, added or not, have sources elsewhere that are no files: data sets, citations.
    """
    config = rdf.get("config")
    said = config.get("livestain") if isinstance(config, dict) else None
    network = said.get("network") if isinstance(said, dict) else None
    if is_foreign(rdf) or (isinstance(network, dict) and "foreign" in network):
        return {key: rdf[key] for key in _WITH_FILES if key in rdf}
    return {key: value for key, value in rdf.items() if key != "config"}


def in_shell(path: Path | str) -> str:
    """Return a path as it is typed on a command line: Windows' shell knows no single quotes."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


def check_inside(folder: Path, name: str) -> None:
    """Refuse a file's name that leads out of the bundle.

    Raises
    ------
    BundleError
        If it does, or is none.
    """
    posix = PurePosixPath(name)
    outside = posix.is_absolute() or ".." in posix.parts or "\\" in name or ":" in name
    if outside or name in ("", ".", RDF, SEAL):
        raise BundleError(
            f"{folder / RDF} lists the file {name!r}; expected files inside the bundle. "
            "Do not use this bundle unless you know who made it."
        )


def sources(node: Any) -> Iterator[tuple[str, Any]]:
    """Give each file that a part of rdf.yaml names, and its hash, if any."""
    if isinstance(node, dict):
        if isinstance(node.get("source"), str):
            yield node["source"], node.get("sha256")
        for value in node.values():
            yield from sources(value)
    elif isinstance(node, list):
        for value in node:
            yield from sources(value)


def read_checked(folder: Path, name: str, digest: str) -> bytes:
    """Return the bytes of one file of a bundle, whose hash has been checked on these very bytes.

    Raises
    ------
    BundleError
        If the file is missing, unreadable or changed.
    """
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise _damaged(folder, name, f"cannot be read ({error.strerror or error})") from error
    if sha256(data) != digest:
        raise _damaged(folder, name, f"does not have the SHA-256 that {RDF} lists")
    return data
