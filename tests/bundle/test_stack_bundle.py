"""A bundle of a 3-D network: two sources, two outputs with spreads, whole stacks of any depth."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from livestain.bundle import (
    BundleDescription,
    InputSpec,
    NetworkSpec,
    NormalisationSettings,
    OutputChannel,
    WindowSpec,
    read_bundle,
    write_bundle,
)
from livestain.errors import BundleError
from livestain.inference import Stainer
from livestain.networks import build_network

KWARGS = {"in_channels": 2, "out_channels": 4, "width": 4, "depth": 1}


def stack(depth, height, width, seed=3):
    """Raw counts (2 * depth, y, x) of two sources, which differ in level."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=(2, depth, height, width)), (0, 1, 2, 2)) * 9000
    noise = rng.normal(scale=40, size=blobs.shape)
    level = np.array([9000, 30000]).reshape(2, 1, 1, 1)
    return (level + blobs + noise).astype(np.uint16).reshape(-1, height, width)


def output(name, **more):
    return OutputChannel(name=name, unit="sd", scale=0.001, display=(0, 1), **more)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return build_network("care3d", **KWARGS).eval()


@pytest.fixture(scope="module")
def description():
    return BundleDescription(
        input=InputSpec(
            kind="brightfield",
            more_kinds=("fluorescence",),
            pixel_size_um=0.1,
            pixel_size_range_um=(0.05, 0.2),
            z_step_um=0.3,
            z_step_range_um=(0.1, 0.7),
            window=WindowSpec(z="all"),
        ),
        normalisation=NormalisationSettings(scope="window"),
        outputs=(
            output("mitochondria"),
            output("nuclei"),
            output("mitochondria-spread", spread_of="mitochondria"),
            output("nuclei-spread", spread_of="nuclei"),
        ),
        network=NetworkSpec(name="care3d", kwargs=KWARGS),
    )


@pytest.fixture(scope="module")
def words():
    return {
        "name": "stacks",
        "title": "Whole stacks",
        "licence": "BSD-3-Clause",
        "card": "# Card\n",
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory, network, description, words):
    return write_bundle(
        tmp_path_factory.mktemp("models") / "stacks",
        network=network,
        description=description,
        test_input=stack(6, 16, 24),
        **words,
    )


@pytest.fixture(scope="module")
def stainer(written):
    with Stainer(written, device="cpu", backend="eager") as stainer:
        yield stainer


def by_hand(network, planes):
    """What the network predicts of a stack, padded by numpy: (outputs, planes, y, x)."""
    x = planes.reshape(2, -1, *planes.shape[1:]).astype(np.float64)
    x = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    depth, height, width = x.shape[1:]
    x = np.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), mode="reflect")
    x = np.pad(x, ((0, 0), (0, depth % 2), (0, 0), (0, 0)), mode="edge")
    with torch.inference_mode():
        y = network(torch.from_numpy(x.astype(np.float32))[None])[0].numpy()
    y = y[:, :depth, :height, :width]
    return np.concatenate((y[:2], np.exp(y[2:])))


def test_what_was_written_is_read_back_with_what_the_network_says_of_itself(written, network):
    bundle = read_bundle(written.path)
    own = bundle.description.input
    assert (own.divisor, own.divisor_z) == (2, 2)
    assert (own.halo, own.halo_z) == (network.halo, network.halo_z)
    assert own.kinds == ("brightfield", "fluorescence")
    assert bundle.description.predicts_spread
    assert bundle.description.latency[0].planes == 6
    test_input, test_output = bundle.test_tensors()
    assert (test_input.shape, test_output.shape) == ((1, 2, 6, 16, 24), (1, 4, 6, 16, 24))
    expected = by_hand(network, test_input.reshape(12, 16, 24))
    np.testing.assert_allclose(test_output[0], expected, atol=1e-4 * expected.std())


def test_bioimageio_finds_a_stack_with_an_axis_z(written):
    from bioimageio.spec import load_model_description

    model = load_model_description(written.path / "rdf.yaml", perform_io_checks=True)
    assert model.validation_summary.status == "valid-format"
    for tensor in (model.inputs[0], model.outputs[0]):
        assert [axis.id for axis in tensor.axes] == ["batch", "channel", "z", "y", "x"]
        assert tensor.axes[2].scale == pytest.approx(0.3)
        assert tensor.axes[4].scale == pytest.approx(0.1)
    assert (model.inputs[0].axes[2].size.min, model.inputs[0].axes[2].size.step) == (2, 2)
    assert "3d" in model.tags
    from livestain.bundle.architecture import stain_module

    architecture = model.weights.pytorch_state_dict.architecture
    module = stain_module(**architecture.kwargs)
    module.load_state_dict(written.load_module().state_dict())
    assert (module.sources, module.spread, module.whole_stack) == (2, True, True)


@pytest.mark.parametrize("shape", [(1, 2, 6, 16, 24), (2, 2, 10, 12, 8)])
def test_onnx_takes_stacks_of_any_depth(written, shape):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(
        written.read_file("weights.onnx"), providers=["CPUExecutionProvider"]
    )
    counts = np.random.default_rng(5).normal(9000, 700, shape).astype(np.float32)
    (found,) = session.run(None, {"counts": counts})
    with torch.inference_mode():
        wanted = written.load_module()(torch.from_numpy(counts)).numpy()
    assert found.shape == (shape[0], 4, *shape[2:])
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 1e-5 * wanted.std()


@pytest.mark.parametrize("shape", [(4, 16, 24), (5, 17, 23), (1, 9, 9)])
def test_every_plane_of_a_stack_of_any_size_is_predicted(stainer, network, shape):
    planes = stack(*shape, seed=4)
    found = stainer.stain(planes)
    expected = by_hand(network, planes)
    assert found.shape == (4, *shape)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


def test_other_backends_are_held_to_the_test_stack(written):
    with Stainer(written, device="cpu") as folded:
        assert (folded.backend, folded.refused) == ("folded", {})
        assert folded.difference < 1e-5
    with Stainer(written, device="cpu", precision="bf16") as narrow:
        # These random weights predict planes that hardly vary, which bf16 is too coarse for.
        assert narrow.backend == "eager"
        assert "differs from the test output" in narrow.refused["folded-bf16"]


def test_a_stack_of_half_the_z_step_is_averaged_to_the_models_and_back(written, stainer):
    planes = stack(8, 16, 16).reshape(2, 8, 16, 16)
    with Stainer(written, device="cpu", backend="eager", z_step_um=0.15) as fine:
        assert (fine.resampled, fine.resampled_z) == (None, pytest.approx(0.5))
        found = fine.stain(planes.reshape(-1, 16, 16))
    # Each coarse plane holds the light of two fine ones; smooth stacks tell them hardly apart.
    coarse = np.rint(planes.reshape(2, 4, 2, 16, 16).mean(2)).astype(np.uint16)
    expected = np.repeat(stainer.stain(coarse.reshape(-1, 16, 16)), 2, axis=1)
    assert found.shape == expected.shape
    inner = np.s_[0, 2:-2]
    assert np.corrcoef(found[inner].ravel(), expected[inner].ravel())[0, 1] > 0.9
    with pytest.raises(BundleError, match=r"z-step is 0\.9 um.*takes 0\.1 to 0\.7 um"):
        Stainer(written, device="cpu", z_step_um=0.9)


def test_stacks_that_do_not_fit_are_refused(
    stainer, written, network, description, words, tmp_path
):
    with pytest.raises(BundleError, match=r"\(5, 8, 8\); .*\(2 \* planes, y, x\)"):
        stainer.stain(np.zeros((5, 8, 8), np.uint16))
    with pytest.raises(BundleError, match="planes multiples of 2, y and x multiples of 2"):
        write_bundle(
            tmp_path / "b",
            network=network,
            description=description,
            test_input=stack(5, 16, 16),
            onnx=False,
            **words,
        )


def test_a_window_with_an_own_plane_comes_out_as_one_plane(network, description, words, tmp_path):
    """Time as the third dimension: three time points of one source, for a network of pairs."""
    torch.manual_seed(6)
    kwargs = {"width": 4, "depth": 1}
    network = build_network("care3d", **kwargs).eval()
    narrow = BundleDescription(
        input=InputSpec(
            pixel_size_um=0.1, pixel_size_range_um=(0.1, 0.1), window=WindowSpec(past=2)
        ),
        outputs=(output("mitochondria"),),
        network=NetworkSpec(name="care3d", kwargs=kwargs),
    )
    planes = stack(2, 16, 24)[:3]
    bundle = write_bundle(
        tmp_path / "b",
        network=network,
        description=narrow,
        test_input=planes,
        onnx=False,
        **words,
    )
    x = planes.astype(np.float64)
    x = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    x = np.concatenate((x, x[-1:]))[None, None].astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x))[0, :, 2].numpy()
    with Stainer(bundle, device="cpu", backend="eager") as stainer:
        found = stainer.stain(planes)
    assert found.shape == (1, 16, 24)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": NetworkSpec(name="unet2d")}, "is for 3-D networks"),
        ({"outputs": (output("a"), output("b", spread_of="c"))}, "spreads follow"),
        ({"outputs": (output("a", spread_of="b"), output("b"))}, "spreads follow"),
        (
            {"outputs": (output("a"), OutputChannel(name="b", display=(0, 1), spread_of="a"))},
            "unit of its output",
        ),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(description, change, message):
    fields = {name: getattr(description, name) for name in type(description).model_fields}
    with pytest.raises(ValidationError, match=message):
        BundleDescription(**{**fields, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": WindowSpec(z=3)}, "for whole stacks"),
        ({"z_step_range_um": (0.4, 0.7)}, "outside z_step_range_um"),
    ],
)
def test_an_input_that_contradicts_itself_is_refused(description, change, message):
    with pytest.raises(ValidationError, match=message):
        InputSpec(**{**description.input.model_dump(), **change})


def test_a_third_dimension_is_depth_or_time():
    spec = InputSpec(
        pixel_size_um=0.1,
        pixel_size_range_um=(0.1, 0.1),
        z_step_um=0.5,
        window=WindowSpec(z=3, past=1),
    )
    with pytest.raises(ValidationError, match="not both"):
        BundleDescription(input=spec, outputs=(output("a"),), network=NetworkSpec(name="care3d"))
    with pytest.raises(ValidationError, match="no past and future"):
        WindowSpec(z="all", future=1)
