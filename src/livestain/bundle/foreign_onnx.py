"""A foreign ONNX network in the layout of ours: (n, channels, [z], y, x), float32 in and out."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from livestain.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livestain.bundle.foreign_format import ForeignFormat, Tensor
    from livestain.bundle.read import Bundle

__all__ = ["canonical_onnx"]


def canonical_onnx(bundle: Bundle, form: ForeignFormat) -> bytes:
    """Return a foreign model's ONNX with nodes around it that bring the axes into our order.

    Parameters
    ----------
    bundle : Bundle
        The model; the hash of each file is checked.
    form : ForeignFormat
        Its tensors.

    Returns
    -------
    bytes
        One input `network_input` and one output `network_output`, with n, y, x (and z) of any size; the
        channels of several outputs follow one another.

    Raises
    ------
    BundleError
        If the file is no ONNX, or its inputs and outputs are not those that rdf.yaml describes.
    """
    import onnx

    name = bundle.rdf["weights"]["onnx"]["source"]
    path = bundle.path / name
    try:
        model = onnx.load_model_from_string(bundle.read_file(name))
        _embed(bundle, model, PurePosixPath(name).parent)
        _wrap(model, form)
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
    except BundleError:
        raise
    except (
        Exception
    ) as error:  # of protobuf, of onnx's checker, and whatever a hostile file provokes
        raise BundleError(
            f"{path} is no ONNX network that fits {bundle.path.name}'s rdf.yaml: "
            f"{' '.join(str(error).split())[:300]}. Choose another model."
        ) from error
    data: bytes = model.SerializeToString()
    return data


def _embed(bundle: Bundle, model: Any, folder: PurePosixPath) -> None:
    """Put numbers that lie in files beside the ONNX into it; only files that rdf.yaml lists.

    Every tensor is looked at, wherever it stands: one that was left would be looked up by ONNX Runtime in
    the folder that the process happens to run in.
    """
    for tensor in _tensors(model):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        where = {entry.key: entry.value for entry in tensor.external_data}
        data = bundle.read_file((folder / where.get("location", "")).as_posix())
        start = int(where.get("offset", 0))
        length = int(where.get("length", len(data) - start))
        tensor.raw_data = data[start : start + length]
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]


def _tensors(message: Any) -> Iterator[Any]:
    """Give every tensor in an ONNX message: of graphs, their nodes' attributes, and graphs in these."""
    for field, value in message.ListFields():
        if field.message_type is None:  # a number or a name
            continue
        for one in (value,) if hasattr(value, "DESCRIPTOR") else value:
            if one.DESCRIPTOR.name == "TensorProto":
                yield one
            else:
                yield from _tensors(one)


def _wrap(model: Any, form: ForeignFormat) -> None:
    from onnx import TensorProto, helper

    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    if len(inputs) != 1 or len(graph.output) != len(form.outputs):
        raise BundleError(
            f"its ONNX has {len(inputs)} inputs and {len(graph.output)} outputs; rdf.yaml describes 1 and "
            f"{len(form.outputs)}. Choose another model."
        )
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    before, after = _Nodes(opset, "livestain_in"), _Nodes(opset, "livestain_out")
    given = inputs[0]
    into = before.from_canonical("network_input", form.input)
    into = before.cast(into, TensorProto.FLOAT, given.type.tensor_type.elem_type)
    before.add("Identity", [into], called=given.name)
    parts = []
    for value, tensor in zip(graph.output, form.outputs, strict=True):
        part = after.cast(value.name, value.type.tensor_type.elem_type, TensorProto.FLOAT)
        part = after.to_canonical(part, tensor)
        if (
            form.z == "window"
        ):  # one plane, given out at every depth, as backends expect equal sides
            part = after.add("Concat", [after.unsqueeze(part, 2)] * (form.depth or 1), axis=2)
        parts.append(part)
    whole = after.add("Concat", parts, axis=1) if len(parts) > 1 else parts[0]
    after.add("Identity", [whole], called="network_output")
    nodes = [*before.nodes, *graph.node, *after.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants, *after.constants])
    sides = ["z", "y", "x"] if form.dims == 3 else ["y", "x"]
    taken: list[Any] = ["n", form.input.channels, *sides]
    made: list[Any] = ["n", sum(t.channels for t in form.outputs), *sides]
    kept = [value for value in graph.input if value.name in held]
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend(
        [helper.make_tensor_value_info("network_input", TensorProto.FLOAT, taken), *kept]
    )
    graph.output.append(helper.make_tensor_value_info("network_output", TensorProto.FLOAT, made))


class _Nodes:
    """Nodes to put around a graph, with names of their own."""

    def __init__(self, opset: int, prefix: str) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._opset = opset
        self._prefix = prefix

    def add(self, kind: str, inputs: list[str], *, called: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        from onnx import helper

        name = f"{self._prefix}_{len(self.nodes)}"
        called = called or f"{name}_out"
        self.nodes.append(helper.make_node(kind, inputs, [called], name=name, **attributes))
        return called

    def cast(self, given: str, now: int, wanted: int) -> str:
        """Change the type of the values, where it is another."""
        return given if now == wanted else self.add("Cast", [given], to=wanted)

    def from_canonical(self, given: str, tensor: Tensor) -> str:
        """Bring (n, channels, [z], y, x) into a tensor's own order."""
        letters = _letters(tensor)
        given = self._axes(
            "Squeeze", given, [i for i, c in enumerate(letters) if c not in tensor.letters]
        )
        kept = [c for c in letters if c in tensor.letters]
        return self._permute(given, [kept.index(c) for c in tensor.letters])

    def to_canonical(self, given: str, tensor: Tensor) -> str:
        """Bring a tensor's own order to (n, channels, [z], y, x)."""
        letters = _letters(tensor)
        own = tensor.letters
        given = self._permute(given, [own.index(c) for c in letters if c in own])
        return self._axes("Unsqueeze", given, [i for i, c in enumerate(letters) if c not in own])

    def unsqueeze(self, given: str, axis: int) -> str:
        """Add an axis of length 1."""
        return self._axes("Unsqueeze", given, [axis])

    def _permute(self, given: str, order: list[int]) -> str:
        return given if order == sorted(order) else self.add("Transpose", [given], perm=order)

    def _axes(self, kind: str, given: str, axes: list[int]) -> str:
        if not axes:
            return given
        if self._opset < 13:  # the axes were no input yet
            return self.add(kind, [given], axes=axes)
        from onnx import TensorProto, helper

        name = f"{self._prefix}_axes_{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, [len(axes)], axes))
        return self.add(kind, [given, name])


def _letters(tensor: Tensor) -> str:
    return "nczyx" if "z" in tensor.letters else "ncyx"
