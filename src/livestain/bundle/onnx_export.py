"""The ONNX export: the whole `StainModule`, so that every consumer normalises alike."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

from livestain.bundle.onnx_network import mark_network
from livestain.errors import BundleError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from livestain.bundle.module import StainModule

__all__ = ["export_onnx"]

OPSET = 18


def export_onnx(
    module: StainModule, example: torch.Tensor, path: Path, *, any_depth: bool = True
) -> int:
    """Write the module as ONNX with dynamic batch, y and x, and z of whole stacks; one file.

    Parameters
    ----------
    module : StainModule
        In eval mode, on the CPU.
    example : torch.Tensor, (1, planes, y, x) or (1, sources, z, y, x) float32
        Raw counts with sides that the network takes, better twice its divisors than once: torch.export
        takes an axis that shrinks to 1 for a constant.
    path : Path
        The file to write.
    any_depth : bool
        Whether z, where there is one, is dynamic too.

    Returns
    -------
    int
        The opset version.

    Raises
    ------
    MissingExtraError
        If onnx or onnxscript is not installed.
    BundleError
        If the network cannot be exported.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it, and says so less clearly
    except ImportError as error:
        raise MissingExtraError(
            'The ONNX export needs packages that are not installed: pip install "livestain[train]", '
            "or export without ONNX."
        ) from error
    import torch

    axes = [0, *range(2 if any_depth or example.ndim == 4 else 3, example.ndim)]
    dynamic = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    # Two of everything: torch.export takes a side or batch of 1 for a constant.
    example = torch.cat((example, example))
    chatter = io.StringIO()  # standard output belongs to the command's own last line
    # The exporter warns that torchvision, which we do not use, is missing.
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(chatter):
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                (example,),
                path,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                external_data=False,
                input_names=["counts"],
                output_names=["stain"],
                dynamic_shapes=(dynamic,),
            )
        except torch.onnx.OnnxExporterError as error:
            raise BundleError(
                f"The network cannot be exported to ONNX: {str(error)[:500]} "
                "Export without ONNX, or change the network."
            ) from error
        finally:
            registry.setLevel(level)
        model = onnx.load(path)
        # Backends run the network alone, which is cut out of this file.
        mark_network(model, rank=module.dims + 2)
        _forget_origin(model)
        onnx.save(model, path)
        onnx.checker.check_model(model)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    if frozen := [axis for axis in axes if sides[axis].HasField("dim_value")]:
        names = ("batch", "channel", *("z", "y", "x")[2 - len(sides) :])
        raise BundleError(
            f"The ONNX export froze the axes {', '.join(names[axis] for axis in frozen)} of the network. "
            "Export without ONNX, or change the network."
        )
    return OPSET


def _forget_origin(model: Any) -> None:
    """Take out the exporter's notes: stack traces with the paths of whoever exported it."""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        graph.doc_string = ""
        for each in (*graph.node, *graph.value_info):
            del each.metadata_props[:]
            each.doc_string = ""
    for each in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del each.metadata_props[:]
