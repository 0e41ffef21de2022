"""Models as other tools write them, and what bioimageio.core predicts with them."""

import shutil
import warnings

import numpy as np
import yaml

PIXEL = 0.125
"""Pixel size in micrometres; exact in every float, as the format's sizes like it."""


def picture(shape, dtype=np.uint16, seed=3):
    """Something with structure and noise."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=shape), (0,) * (len(shape) - 2) + (2, 2))
    top = 255 if dtype == np.uint8 else 4000
    made = top * (0.35 + 0.8 * blobs) + rng.normal(scale=top / 200, size=shape)
    return np.clip(made, 0, top).astype(dtype)


def convolution(channels, outputs, *, dims=2, seed=0):
    """Weights of one convolution of reach 1."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(outputs, channels, *(3,) * dims)) / 3).astype(np.float32)


def onnx_file(path, axes_in, axes_out, weights, *, elem="FLOAT", opset=17, sides=()):
    """Write transpose, cast, convolve, tanh, transpose; of the axes that the letters say."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    dims = weights.ndim - 2
    inner = "bczyx" if dims == 3 else "bcyx"
    kind = getattr(TensorProto, elem)
    nodes, constants = [], [numpy_helper.from_array(weights, "w")]
    now = "raw"

    def add(op, *more, **attributes):
        nonlocal now
        made = f"{op}{len(nodes)}"
        nodes.append(helper.make_node(op, [now, *more], [made], **attributes))
        now = made

    def reshape(op, axes):
        if opset < 13:
            add(op, axes=axes)
        else:
            constants.append(numpy_helper.from_array(np.array(axes, np.int64), op))
            add(op, op)

    if kind != TensorProto.FLOAT:
        add("Cast", to=TensorProto.FLOAT)
    kept = [a for a in inner if a in axes_in]
    add("Transpose", perm=[axes_in.index(a) for a in kept])
    if missing := [i for i, a in enumerate(inner) if a not in axes_in]:
        reshape("Unsqueeze", missing)
    add("Conv", "w", pads=[1] * (2 * dims))
    add("Tanh")
    if dims == 3 and "z" not in axes_out:
        add("ReduceMean", axes=[2], keepdims=0)
        inner = "bcyx"
    if gone := [i for i, a in enumerate(inner) if a not in axes_out]:
        reshape("Squeeze", gone)
    kept = [a for a in inner if a in axes_out]
    add("Transpose", perm=[kept.index(a) for a in axes_out])
    names = list(sides) or [f"{a}_size" for a in axes_in]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("raw", kind, names)],
        [helper.make_tensor_value_info(now, TensorProto.FLOAT, [None] * len(axes_out))],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)


def torchscript_file(path, axes_in, axes_out, weights):
    """The same as TorchScript."""
    import torch

    dims = weights.ndim - 2
    inner = "bczyx" if dims == 3 else "bcyx"

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.from_numpy(weights))

        def forward(self, x):
            kept = [a for a in inner if a in axes_in]
            x = x.permute([axes_in.index(a) for a in kept])
            for i, a in enumerate(inner):
                if a not in axes_in:
                    x = x.unsqueeze(i)
            function = torch.nn.functional.conv3d if dims == 3 else torch.nn.functional.conv2d
            y = torch.tanh(function(x, self.w, padding=1))
            left = inner
            if dims == 3 and "z" not in axes_out:
                y, left = y.mean(2), "bcyx"
            for i in reversed(range(len(left))):
                if left[i] not in axes_out:
                    y = y.squeeze(i)
            kept = [a for a in left if a in axes_out]
            return y.permute([kept.index(a) for a in axes_out])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(
            [weights.shape[1] if a == "c" else 8 if a != "b" else 1 for a in axes_in]
        )
        torch.jit.trace(Net(), example).save(str(path))


def axes_of(
    letters, *, names=None, output=False, step=4, depth=None, unit="micrometer", halo=0, scale=PIXEL
):
    """The axes that some letters say, as the format has them."""
    axes = []
    for letter in letters:
        if letter == "b":
            axes.append({"type": "batch"})
        elif letter == "c":
            axes.append({"type": "channel", "channel_names": list(names)})
        else:
            size = {"min": step, "step": step}
            if letter == "z":
                size = depth or {"min": 1, "step": 1}
            if output and not (letter == "z" and depth):
                size = {"tensor_id": "raw", "axis_id": letter}
            axis = {"type": "space", "id": letter, "size": size}
            if unit:
                axis |= {"unit": unit, "scale": 0.5 if letter == "z" else scale}
            if output and halo and letter != "z":
                axis["halo"] = halo
            axes.append(axis)
    return axes


def own_axes(planes, letters):
    """Bring (channels, y, x) or (channels, z, y, x) into the order of a model's axes."""
    inner = "cyx" if planes.ndim == 3 else "czyx"
    for i, axis in reversed(list(enumerate(inner))):
        if axis not in letters:
            planes, inner = planes.squeeze(i), inner.replace(axis, "")
    if "b" in letters:
        planes, inner = planes[None], "b" + inner
    return planes.transpose([inner.index(axis) for axis in letters])


def plain_axes(array, letters):
    """The way back: (channels, y, x) or (channels, z, y, x)."""
    inner = "bczyx" if "z" in letters else "bcyx"
    array = array.transpose([letters.index(axis) for axis in inner if axis in letters])
    for i, axis in enumerate(inner):
        if axis not in letters:
            array = np.expand_dims(array, i)
    return array[0]


def core_predict(rdf_path, planes, weights=None):
    """Return what bioimageio.core predicts from an input in the model's own axes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library that has several
        return _core_predict(rdf_path, planes, weights)


def _core_predict(rdf_path, planes, weights):
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model
    from bioimageio.spec import ValidationContext, load_model_description

    with ValidationContext(log_warnings=False):
        model = load_model_description(rdf_path, format_version="latest")
        sample = create_sample_for_model(model, inputs=planes)
        with create_prediction_pipeline(model, weight_format=weights) as pipeline:
            out = pipeline.predict_sample_without_blocking(
                sample, skip_input_padding=True, skip_output_cropping=True
            )
    return [np.asarray(out.members[t.id].data) for t in model.outputs]


def write_foreign(
    folder,
    *,
    axes_in="bcyx",
    axes_out=None,
    channels=("brightfield",),
    outputs=("nuclei",),
    pre=(),
    post=(),
    dtype="uint16",
    out_dtype="float32",
    form="onnx",
    side=32,
    depth=None,
    elem="FLOAT",
    opset=17,
    test_dtype=None,
    predict=True,
    axis_options=None,
    config=None,
    **more,
):
    """Write a model into a folder as other tools do, and return the folder.

    Its test output is what bioimageio.core gives from its test input.
    """
    import hashlib

    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    axes_out = axes_out or axes_in
    dims = 3 if "z" in axes_in else 2
    weights = convolution(len(channels), len(outputs), dims=dims)
    file = folder / ("weights.onnx" if form == "onnx" else "weights.pt")
    if form == "onnx":
        onnx_file(file, axes_in, axes_out, weights, elem=elem, opset=opset)
    else:
        torchscript_file(file, axes_in, axes_out, weights)
    sizes = {"b": 1, "c": len(channels), "z": depth or 6, "y": side, "x": side + 16}
    letters = "czyx" if "z" in axes_in else "cyx"
    planes = own_axes(picture([sizes[a] for a in letters], np.dtype(test_dtype or dtype)), axes_in)
    np.save(folder / "test_input.npy", np.ascontiguousarray(planes))
    out_sizes = sizes | {"c": len(outputs)}
    np.save(
        folder / "test_output.npy",
        picture([out_sizes[a] for a in axes_out], np.dtype(np.uint8)).astype(out_dtype),
    )
    (folder / "README.md").write_text("# Foreign\n\nMade by the tests.\n")
    options = dict(axis_options or {})
    halo = options.pop("halo", 0)

    def hashed(name):
        return {"source": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}

    entry = {"opset_version": opset} if form == "onnx" else {"pytorch_version": "2.11"}

    def write():
        rdf = {
            "format_version": "0.5.4",
            "type": "model",
            "name": "A foreign model",
            "description": "Of the tests",
            "authors": [{"name": "somebody"}],
            "cite": [{"text": "nobody", "doi": "10.1234/abc"}],
            "license": "MIT",
            "documentation": hashed("README.md"),
            "tags": ["image-reconstruction"],
            "inputs": [
                {
                    "id": "raw",
                    "axes": axes_of(axes_in, names=channels, depth=depth, **options),
                    "data": {"type": dtype},
                    "test_tensor": hashed("test_input.npy"),
                    "preprocessing": [dict(step) for step in pre],
                }
            ],
            "outputs": [
                {
                    "id": "predicted",
                    "axes": axes_of(
                        axes_out, names=outputs, output=True, depth=depth, halo=halo, **options
                    ),
                    "data": {"type": out_dtype},
                    "test_tensor": hashed("test_output.npy"),
                    "postprocessing": [dict(step) for step in post],
                }
            ],
            "weights": {form: {**hashed(file.name), **entry}},
            **({"config": config} if config else {}),
            **more,
        }
        (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf, sort_keys=False), newline="\n")

    write()
    if predict:
        np.save(
            folder / "test_output.npy",
            np.ascontiguousarray(core_predict(folder / "rdf.yaml", planes)[0]),
        )
        write()
    return folder


def copy_changed(model, folder, how):
    """Copy a model, let `how` change its rdf.yaml's content, and return the copy's folder."""
    shutil.copytree(model, folder)
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    how(rdf)
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    return folder
