"""Reading a bundle: nothing that its files say is executed, and no damaged file is used."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain.bundle.description import BundleDescription, ForeignSpec
from livestain.bundle.files import RDF, is_foreign, listed_files, read_checked, read_rdf
from livestain.errors import BundleError, LivestainError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from livestain.bundle.foreign_module import ForeignModule
    from livestain.bundle.module import StainModule

__all__ = ["Bundle", "read_bundle", "read_description", "verify_bundle"]

_LIBRARY_FAULT = "package_file_descr_serializer`: TypeError"
"""In what bioimageio.spec before 0.5.14 finds wrong with every model, together with pydantic 2.14."""


@dataclass(frozen=True)
class Bundle:
    """A deployed model in its folder, whose files were what rdf.yaml lists when it was read."""

    path: Path
    """The folder."""

    name: str
    """Short name, such as `demo-mitochondria`."""

    title: str
    """Human-readable name."""

    sha256: str
    """SHA-256 of rdf.yaml, which lists the hashes of all other files: the bundle's identity."""

    licence: str
    """SPDX identifier."""

    description: BundleDescription
    """What live staining needs to know."""

    files: Mapping[str, str] = field(repr=False)
    """SHA-256 of every file, by name."""

    rdf: Mapping[str, Any] = field(repr=False)
    """The whole rdf.yaml, plain types."""

    def read_file(self, name: str) -> bytes:
        """Return the bytes of one of `files`, checked against its hash.

        Raises
        ------
        BundleError
            If the bundle has no such file, or it is missing or changed.
        """
        if name not in self.files:
            raise BundleError(
                f"The bundle {self.path} has no file {name!r}; it has {[*self.files]}."
            )
        return read_checked(self.path, name, self.files[name])

    def test_tensors(self) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return the test input (1, planes, y, x) uint16 and output (1, outputs, y, x) float32.

        Of whole stacks (1, sources, z, y, x) and (1, outputs, z, y, x). Inputs of models that other tools
        wrote may be uint8 or float32 too.

        Raises
        ------
        BundleError
            If they are not such arrays.
        """
        import numpy as np

        if isinstance(self.description.network, ForeignSpec):
            from livestain.bundle.foreign_format import read_format
            from livestain.bundle.foreign_tensors import foreign_test_tensors

            form = read_format(self.rdf, f"The model {self.name}")
            spec = self.description.network
            return foreign_test_tensors(form, self.read_file, self.path, spec)
        arrays = []
        axes = "z, y, x" if self.description.input.window.whole_stack else "y, x"
        ndim = 2 + len(axes.split(", "))
        for side, dtype in (("inputs", np.uint16), ("outputs", np.float32)):
            name = self._listed(side, 0, "test_tensor", "source")
            try:
                array = np.load(io.BytesIO(self.read_file(name)), allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise BundleError(
                    f"{self.path / name} is not a plain numpy array: {error}"
                ) from error
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim:
                shape = getattr(array, "shape", None)
                raise BundleError(
                    f"{self.path / name} holds {getattr(array, 'dtype', type(array))} {shape}; "
                    f"expected {np.dtype(dtype)} (1, channels, {axes}). Export the model again."
                )
            arrays.append(array)
        return arrays[0], arrays[1]

    def load_module(self) -> StainModule | ForeignModule:
        """Build the network by its name in `livestain.networks` and load its weights; in eval mode.

        Nothing that rdf.yaml names is imported, and the weights may hold tensors only. Models of other
        tools are loaded as TorchScript, or left as ONNX for the backend that runs it.

        Raises
        ------
        BundleError
            If the network is unknown, or the weights are not a state dict that fits it.
        """
        import torch

        from livestain.bundle.module import StainModule
        from livestain.networks import build_network

        spec = self.description.network
        if isinstance(spec, ForeignSpec):
            from livestain.bundle.foreign_module import load_foreign

            return load_foreign(self, spec)
        try:
            network = build_network(spec.name, **spec.kwargs)
        except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
            reason = error.args[0] if error.args else repr(error)
            raise BundleError(
                f"The bundle {self.path} asks for the network {spec.name!r} with {spec.kwargs}: "
                f"{reason} Update livestain, or choose another bundle."
            ) from error
        module = StainModule.described(network, self.description)
        name = self._listed("weights", "pytorch_state_dict", "source")
        data = self.read_file(name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of unusual pickles, which are refused below
                state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # a hostile file can make the unpickler raise anything
            raise BundleError(
                f"{self.path / name} is refused: it holds something other than tensors, or is no "
                "file of torch.save. Do not use this bundle unless you know who made it."
            ) from error
        try:
            module.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise BundleError(
                f"{self.path / name} does not fit the network {spec.name!r} with {spec.kwargs}: "
                f"{reason}"
            ) from error
        return module.eval()

    def _listed(self, *keys: str | int) -> str:
        node: Any = self.rdf
        try:
            for key in keys:
                node = node[key]
        except (KeyError, IndexError, TypeError):
            node = None
        if not isinstance(node, str):
            where = ".".join(str(key) for key in keys)
            raise BundleError(f"{self.path / RDF} lacks {where}. Export the model again.")
        return node


def read_description(folder: Path | str) -> Bundle:
    """Read a bundle's rdf.yaml alone: cheap, for choosing among bundles.

    Raises
    ------
    BundleError
        As `read_bundle`, but the other files are not looked at (of a model that another tool wrote, the
        test output is); or, of such a model, if its format does not say enough: the message says what is
        missing, and how to give it.
    """
    folder = Path(folder)
    rdf, identity = read_rdf(folder)
    files = listed_files(folder, rdf)
    if is_foreign(rdf):
        from livestain.bundle.foreign import describe_foreign

        def read(name: str) -> bytes:
            return read_checked(folder, name, files[name])

        description = describe_foreign(rdf, folder, read)
    else:
        try:
            description = BundleDescription.parse(
                rdf["config"]["livestain"], where=f"{folder / RDF}, config.livestain"
            )
        except SettingsError as error:
            raise BundleError(f"{error} Export the model again.") from error
    name, title, licence = (rdf.get(key) for key in ("id", "name", "license"))
    if isinstance(description.network, ForeignSpec):
        # The format does not ask for them.
        name = name if isinstance(name, str) else folder.name
        if isinstance(licence, dict):
            licence = f"see {licence.get('source')}"
        licence = licence if isinstance(licence, str) else "unknown"
    if not (isinstance(name, str) and isinstance(title, str) and isinstance(licence, str)):
        raise BundleError(f"{folder / RDF} lacks id, name or license. Export the model again.")
    return Bundle(
        path=folder,
        name=name,
        title=title,
        sha256=identity,
        licence=licence,
        description=description,
        files=files,
        rdf=rdf,
    )


def read_bundle(folder: Path | str) -> Bundle:
    """Read a deployed model and check the hash of every file.

    rdf.yaml was validated against the bioimage.io schema when it was written, and its own hash says
    that it is still the same, so that slow validation is left to `verify_bundle`.

    Parameters
    ----------
    folder : Path or str
        The bundle's folder.

    Raises
    ------
    BundleError
        If the folder is no bundle, a file is missing or changed, or the description does not fit
        this version of livestain; one sentence that names the file.
    """
    bundle = read_description(folder)
    for name in bundle.files:
        bundle.read_file(name)
    return bundle


def verify_bundle(folder: Path | str) -> Bundle:
    """Read a bundle and validate it as a bioimage.io model too, with all its files; offline.

    Raises
    ------
    BundleError
        As `read_bundle`, or if bioimageio.spec finds an error.
    LivestainError
        If the installed bioimageio.spec does not work with the installed pydantic.
    """
    bundle = read_bundle(folder)
    # Takes a second to import, and is needed by nobody who only stains.
    from bioimageio.spec import InvalidDescr, ValidationContext, load_description

    # Our rdf.yaml names no address, only files of the folder, so these checks stay offline. Other tools' name
    # addresses, of papers and data sets, and bioimageio.spec would ask each whether it is there; that every
    # file is there, `read_bundle` has found, and the test output is checked when the model is loaded.
    files = not isinstance(bundle.description.network, ForeignSpec)
    with ValidationContext(log_warnings=False, progressbar=False, perform_io_checks=files):
        description = load_description(bundle.path.resolve() / RDF, perform_io_checks=files)
    if isinstance(description, InvalidDescr):
        found = [
            f"{'.'.join(str(part) for part in error.loc)}: {error.msg}"
            for detail in description.validation_summary.details
            for error in detail.errors
        ]
        said = "; ".join(found)[:1000]
        if _LIBRARY_FAULT in said:
            raise LivestainError(
                "bioimageio.spec cannot check models here: it is too old for the installed pydantic. Install "
                'a newer one: pip install "bioimageio.spec>=0.5.14"'
            )
        raise BundleError(f"{bundle.path / RDF} is not a valid bioimage.io model: {said}")
    return bundle
