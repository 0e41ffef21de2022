"""rdf.yaml: a bundle in the words of bioimage.io's model format 0.5."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from livestain.bundle.description import INT8_FILE, NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from livestain.bundle.description import BundleDescription, InputSpec

__all__ = ["FORMAT_VERSION", "build_rdf"]

FORMAT_VERSION = "0.5.4"
"""The oldest format that has all we say, so that tools with an older library can read it."""

_TAGS = ("livestain", "virtual-staining", "label-free", "image-reconstruction", "pytorch")


def build_rdf(
    *,
    description: BundleDescription,
    name: str,
    title: str,
    licence: str,
    authors: Sequence[str],
    summary: str,
    tags: Sequence[str],
    timestamp: str,
    hashes: Mapping[str, str],
    opset: int | None,
    torch_version: str,
    test_output: NDArray[np.float32],
) -> dict[str, Any]:
    """Return the content of rdf.yaml.

    Parameters
    ----------
    hashes : mapping
        SHA-256 of every file of the bundle, by name.
    opset : int or None
        Of weights.onnx; None where there is none.
    test_output : array
        To choose the tolerances that other tools test with.
    """

    def file(source: str) -> dict[str, Any]:
        return {"source": source, "sha256": hashes[source]}

    axes = _space_axes(description.input)
    network = description.network
    assert isinstance(network, NetworkSpec)  # noqa: S101 - those of other tools are never exported
    weights: dict[str, Any] = {
        "pytorch_state_dict": {
            **file("weights.pt"),
            "architecture": {
                "import_from": "livestain.bundle.architecture",
                "callable": "stain_module",
                "kwargs": {
                    "network": network.name,
                    "network_kwargs": network.kwargs,
                    "normalisation": description.normalisation.model_dump(mode="json"),
                    **description.module_options(),
                },
            },
            "pytorch_version": torch_version,
        }
    }
    if opset is not None:
        weights["onnx"] = {
            **file("weights.onnx"),
            "opset_version": opset,
            "parent": "pytorch_state_dict",
        }
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "id": name,
        "name": title,
        "description": summary,
        "authors": [{"name": author} for author in authors],
        "license": licence,
        "tags": list(dict.fromkeys((*_TAGS, f"{len(axes)}d", *tags))),
        "timestamp": timestamp,
        "documentation": file("README.md"),
        "covers": [file("cover.png")],
        "attachments": [file(name) for name in ("recipe.yaml", INT8_FILE) if name in hashes],
        "inputs": [
            {
                "id": "counts",
                "description": f"Raw camera counts, {', '.join(description.input.kinds)}.",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": plane_names(description.input)},
                    *axes,
                ],
                "data": {"type": "float32", "range": [0, 65535]},
                "test_tensor": file("test_input.npy"),
            }
        ],
        "outputs": [
            {
                "id": "stain",
                "description": "Predicted fluorescence, in the units of config.livestain.outputs.",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": [o.name for o in description.outputs]},
                    *(
                        {**axis, "size": {"tensor_id": "counts", "axis_id": axis["id"]}}
                        for axis in axes
                    ),
                ],
                "data": {"type": "float32"},
                "test_tensor": file("test_output.npy"),
            }
        ],
        "weights": weights,
        "config": {
            "bioimageio": {"reproducibility_tolerance": _tolerances(description, test_output)},
            "livestain": description.model_dump(mode="json"),
        },
    }


def _space_axes(spec: InputSpec) -> list[dict[str, Any]]:
    """Return the axes z (of whole stacks), y and x as rdf.yaml has them."""
    axes: list[tuple[str, int, float, int | None]] = [
        (name, spec.divisor, spec.pixel_size_um, None) for name in "yx"
    ]
    if spec.window.whole_stack and spec.z_step_um is not None:
        axes.insert(0, ("z", spec.divisor_z, spec.z_step_um, spec.window.depth))
    return [
        {
            "type": "space",
            "id": name,
            "size": {"min": step, "step": step} if fixed is None else fixed,
            "unit": "micrometer",
            # bioimageio.spec asks that size * scale / scale be the size, exactly, which in double
            # precision 48 * 0.1 / 0.1 is not. With the 24 bits of a single it is.
            "scale": struct.unpack("f", struct.pack("f", micrometres))[0],
        }
        for name, step, micrometres, fixed in axes
    ]


def plane_names(spec: InputSpec) -> list[str]:
    """Return a name for each channel of the input.

    The planes of the window, source by source, time-major then z as `Window.sources` has them; of whole
    stacks the sources alone.
    """
    window = spec.window
    kinds = [
        kind if spec.kinds.count(kind) == 1 else f"{kind}{number}"
        for number, kind in enumerate(spec.kinds)
    ]
    if window.whole_stack or window.n_planes == 1:
        return kinds
    return [
        f"{kind}_t{t:+d}_z{z - window.n_z // 2:+d}"
        for kind in kinds
        for t in range(-window.past, window.future + 1)
        for z in range(window.n_z)
    ]


def _tolerances(
    description: BundleDescription, test_output: NDArray[np.float32]
) -> list[dict[str, Any]]:
    # The format allows at most a hundredth of the largest value as absolute tolerance.
    absolute = min(
        description.tolerance * float(test_output.std()), 0.009 * float(test_output.max())
    )
    if absolute <= 0:
        return []
    return [{"relative_tolerance": 1e-3, "absolute_tolerance": absolute}]
