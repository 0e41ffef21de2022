"""The network inside a bundle's ONNX file: marked when it is exported, cut out when it is run alone.

weights.onnx maps counts to stain, normalisation included, so that every consumer computes the same. The
live path normalises on its own (before padding, and once for all backends) and wants the network alone.
One file serves both: the tensors that enter and leave the network bear names of their own in it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from livestain.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livestain.bundle.read import Bundle

__all__ = ["INPUT", "OUTPUT", "cut_network", "mark_network", "marks_network", "network_onnx"]

INPUT = "network_input"
"""Name of the tensor that enters the network: normalised float32, on its grid."""

OUTPUT = "network_output"
"""Name of the tensor that leaves it; the graph's own output where nothing comes after the network."""

_SCOPES = (
    "pkg.torch.onnx.name_scopes"  # where torch's exporter notes the modules around an operator
)


def mark_network(model: Any, rank: int, attribute: str = "network") -> bool:
    """Name the tensors that enter and leave a submodule, in place.

    Parameters
    ----------
    model : onnx.ModelProto
        As torch's exporter wrote it, with the modules' names in the nodes' metadata.
    rank : int
        Axes of the network's input.
    attribute : str
        Name of the submodule.

    Returns
    -------
    bool
        False, and nothing is changed, if not exactly one tensor enters and one leaves.
    """
    graph = model.graph
    scopes = [_scope(node) for node in graph.node]
    inside = [i for i, scope in enumerate(scopes) if scope == attribute]
    if not inside:
        return False
    first, last = inside[0], inside[-1]
    made_by = {name: i for i, node in enumerate(graph.node) for name in node.output}
    floats = _floats(graph)
    # The exporter notes no module for some operators that it splits in two (a split of channels): one that
    # stands right before the network and feeds it belongs to it.
    while True:
        entering = _entering(graph, range(first, last + 1), made_by, floats)
        before = {made_by[name] for name in entering if name in made_by}
        if len(entering) == 1 or not before or max(before) != first - 1 or scopes[first - 1]:
            break
        first -= 1
    within = range(first, last + 1)
    leaving = {
        name
        for i, node in enumerate(graph.node)
        if i not in within
        for name in node.input
        if name in floats and made_by.get(name, -1) in within
    } | {each.name for each in graph.output if made_by.get(each.name, -1) in within}
    if len(entering) != 1 or len(leaving) != 1:
        return False
    entered = _arranged(graph, entering.pop(), rank)
    if entered is None:
        return False
    names = {entered: INPUT}
    out = leaving.pop()
    if out not in {each.name for each in graph.output}:
        names[out] = OUTPUT
    _rename(graph, names)
    return True


def marks_network(model: Any) -> bool:
    """Return whether an ONNX model names the tensors of its network."""
    return any(INPUT in node.input for node in model.graph.node)


def cut_network(model: Any) -> Any:
    """Return the marked network alone, as a model of one input and one output.

    Parameters
    ----------
    model : onnx.ModelProto
        With the marks; not changed.

    Returns
    -------
    onnx.ModelProto
        `network_input` float32 (n, channels, [z], y, x) to `network_output` with the same sides, all but
        the channels (and a depth that is fixed) free.

    Raises
    ------
    ValueError
        If there are no marks, or the network needs more of the graph than its one input.
    """
    import onnx

    graph = model.graph
    shapes = {each.name: each for each in [*graph.value_info, *graph.input, *graph.output]}
    out = OUTPUT if OUTPUT in shapes else graph.output[0].name
    if INPUT not in shapes or not marks_network(model):
        raise ValueError("it does not mark its network")
    counts = graph.input[0].name
    constant = {each.name: each for each in graph.initializer}
    made_by = {name: i for i, node in enumerate(graph.node) for name in node.output}
    wanted, needed = [out], set()
    while wanted:
        name = wanted.pop()
        if name in ("", INPUT, counts) or name in constant or made_by[name] in needed:
            continue
        needed.add(made_by[name])
        wanted.extend(graph.node[made_by[name]].input)
    rank = [len(shapes[name].type.tensor_type.shape.dim) for name in (counts, INPUT)]
    nodes = []
    for i in sorted(needed):
        node = onnx.NodeProto()
        node.CopyFrom(graph.node[i])
        del node.metadata_props[:]  # stack traces of whoever exported it: a third of a small file
        if counts in node.input:
            if node.op_type != "Shape":
                raise ValueError(f"its network needs {counts} itself")
            _shape_of_input(node, *rank)
        node.output[:] = [OUTPUT if name == out else name for name in node.output]
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    alone = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "network",
            [_free_sides(shapes[INPUT], INPUT)],
            [_free_sides(shapes[out], OUTPUT)],
            [each for name, each in constant.items() if name in used],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=model.functions,
    )
    onnx.checker.check_model(alone)
    return alone


def network_onnx(bundle: Bundle) -> bytes:
    """Return the network of a bundle of ours alone, as ONNX.

    Raises
    ------
    BundleError
        If the bundle has no ONNX, or it does not mark its network.
    """
    import onnx

    entry = bundle.rdf.get("weights", {}).get("onnx", {})
    name = entry.get("source") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise BundleError(f"The bundle {bundle.path} has no ONNX weights. Export the model again.")
    try:
        alone = cut_network(onnx.load_from_string(bundle.read_file(name)))
    except (ValueError, KeyError, onnx.checker.ValidationError) as error:
        raise BundleError(
            f"{bundle.path / name} cannot be run without its normalisation: "
            f"{' '.join(str(error).split())[:200]}. Export the model again."
        ) from error
    data: bytes = alone.SerializeToString()
    return data


def _scope(node: Any) -> str | None:
    """Return which attribute of the whole module an operator is of; None where nothing says it."""
    for each in node.metadata_props:
        if each.key == _SCOPES:
            names = ast.literal_eval(each.value)
            # Sizes of the input are noted under a name of the exporter's own.
            return names[1] if len(names) > 1 and names[0] == "" else None
    return None


def _floats(graph: Any) -> set[str]:
    """Return the names of the graph's float tensors: sizes, which are integers, enter a network too."""
    import onnx

    described = [*graph.value_info, *graph.input, *graph.output]
    wanted = onnx.TensorProto.FLOAT
    return {each.name for each in described if each.type.tensor_type.elem_type == wanted}


def _entering(
    graph: Any, within: Iterable[int], made_by: dict[str, int], floats: set[str]
) -> set[str]:
    """Return the float tensors that nodes take from before them, apart from constants."""
    constant = {each.name for each in graph.initializer}
    return {
        name
        for i in within
        for name in graph.node[i].input
        if name in floats and name not in constant and made_by.get(name, -1) not in within
    }


def _arranged(graph: Any, name: str, rank: int) -> str | None:
    """Return what the network is given where the exporter has put the arranging of its input into it.

    Of two reshapes in a row, the last of ours and the first of a 3-D convolution's own, it leaves one.
    """
    described = [*graph.value_info, *graph.input, *graph.output]
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in described}
    while ranks.get(name) != rank:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type != "Reshape":
            return None
        name = users[0].output[0]
    return name


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for each in graph.value_info:
        each.name = names.get(each.name, each.name)


def _shape_of_input(node: Any, before: int, after: int) -> None:
    """Let a node that reads a side of the counts read it of the network's input, which has it too."""
    span = {each.name: each.i for each in node.attribute}
    start = span.get("start", 0) % before
    end = span.get("end", before)
    axis = start + after - before if start > 0 and before != after else start
    if end - start != 1 or (start == 1 and before != after):
        raise ValueError("its network needs more than one side of the counts at once")
    del node.attribute[:]
    import onnx

    node.attribute.extend(
        onnx.helper.make_attribute(key, value)
        for key, value in (("start", axis), ("end", axis + 1))
    )
    node.input[0] = INPUT


def _free_sides(described: Any, name: str) -> Any:
    """Return a tensor's description with another name, and free batch, y and x."""
    import onnx

    sides = described.type.tensor_type.shape.dim
    names = {0: "n", len(sides) - 2: "y", len(sides) - 1: "x"}
    shape: list[str | int] = []
    for axis, side in enumerate(sides):
        fixed = side.HasField("dim_value") and axis not in names
        shape.append(side.dim_value if fixed else names.get(axis, "z"))
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
