"""The Stainer predicts what training's own module predicts, from frames of any size and depth."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom

from livestain.bundle import Normalise
from livestain.errors import BundleError, LivestainError
from livestain.inference import Stainer, resolve_device


def relative_rms(found, wanted):
    return np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std()


@pytest.fixture(scope="module")
def stainer(bundle):
    with Stainer(bundle, device="cpu") as stainer:
        yield stainer


@pytest.mark.parametrize("backend", ["eager", "folded"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_predicts_what_the_module_predicts(bundle, reference, make_counts, backend, dtype):
    planes = make_counts(72, 104, dtype)
    with Stainer(bundle, device="cpu", backend=backend) as stainer:
        found = stainer.stain(planes)
        assert (stainer.backend, stainer.refused, stainer.device) == (backend, {}, "cpu")
        assert stainer.resampled is None
        assert stainer.difference < 1e-5
    assert found.dtype == np.float32
    assert found.shape == (2, 72, 104)
    assert relative_rms(found, reference(planes)) < 1e-5


def test_bf16_is_chosen_by_precision_and_within_tolerance(bundle, reference, make_counts):
    planes = make_counts(64, 64)
    with Stainer(bundle.path, device="cpu", precision="bf16") as stainer:
        found = stainer.stain(planes)
        assert stainer.backend == "folded-bf16"
        assert 1e-5 < stainer.difference <= bundle.description.tolerance
    assert found.dtype == np.float32
    assert relative_rms(found, reference(planes)) < 0.05


def test_a_read_only_or_strided_frame_is_taken_and_left_alone(stainer, make_counts):
    planes = make_counts(48, 80)
    wanted = stainer.stain(planes)
    planes.setflags(write=False)
    np.testing.assert_array_equal(stainer.stain(planes), wanted)
    turned = np.asfortranarray(planes)
    np.testing.assert_array_equal(stainer.stain(turned), wanted)
    bigger = np.repeat(np.repeat(planes, 2, 1), 2, 2)[:, ::2, ::2]
    np.testing.assert_array_equal(stainer.stain(bigger), wanted)


def test_each_prediction_is_an_array_of_its_own(stainer, make_counts):
    first = stainer.stain(make_counts(32, 32))
    kept = first.copy()
    second = stainer.stain(make_counts(32, 32, seed=4))
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)
    first[:] = 0  # and it may be written to
    assert first.flags.c_contiguous


def test_statistics_are_those_of_the_frame_and_not_of_its_padding(bundle, make_counts):
    """An off-grid frame with one bright edge, which reflection would count twice."""
    planes = make_counts(41, 61)
    planes[:, :, -6:] = 60000
    module = bundle.load_module()
    with torch.inference_mode():
        normalised = Normalise(bundle.description.normalisation)(
            torch.from_numpy(planes.astype(np.float32))[None]
        )
        padded = np.pad(normalised.numpy(), ((0, 0), (0, 0), (0, 7), (0, 3)), mode="reflect")
        wanted = module.network(torch.from_numpy(padded))[0, :, :41, :61].numpy()
    with Stainer(bundle, device="cpu") as stainer:
        assert relative_rms(stainer.stain(planes), wanted) < 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_any_sides_are_taken(stainer, height, width):
    rng = np.random.default_rng(height * 100 + width)
    planes = rng.integers(0, 65535, (2, height, width), endpoint=True, dtype=np.uint16)
    found = stainer.stain(planes)
    assert found.shape == (2, height, width)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("level", [0, 1, 65535])
def test_empty_and_saturated_planes_give_finite_predictions(stainer, level):
    assert np.isfinite(stainer.stain(np.full((2, 33, 50), level, np.uint16))).all()


@pytest.mark.parametrize(("pixel_size_um", "factor"), [(0.2, 2.0), (0.05, 0.5), (0.13, 1.3)])
def test_another_pixel_size_is_resampled_to_the_models_and_back(
    bundle, stainer, make_counts, pixel_size_um, factor
):
    """What matters is that the network sees its own pixel size: compare with scipy's zoom."""
    planes = make_counts(64, 96)
    with Stainer(bundle, device="cpu", pixel_size_um=pixel_size_um) as resampling:
        assert resampling.resampled == pytest.approx(factor)
        found = resampling.stain(planes)
    assert found.shape == (2, 64, 96)
    smooth = planes.astype(float)
    if factor < 1:  # as a microscope of larger pixels would have seen it: two by two averaged
        smooth = planes.reshape(2, 32, 2, 48, 2).mean((2, 4))
    else:
        smooth = zoom(smooth, (1, factor, factor), order=1, grid_mode=True, mode="nearest")
    through = stainer.stain(np.rint(smooth).astype(np.uint16))
    scale = (1, 64 / through.shape[1], 96 / through.shape[2])
    wanted = zoom(through, scale, order=1, grid_mode=True, mode="nearest")
    inner = np.s_[:, 8:-8, 8:-8]
    assert np.corrcoef(found[inner].ravel(), wanted[inner].ravel())[0, 1] > 0.95


def test_nearly_the_same_pixel_size_is_not_resampled(bundle, stainer, make_counts):
    planes = make_counts(40, 40)
    with Stainer(bundle, device="cpu", pixel_size_um=0.1002) as same:
        assert same.resampled is None
        np.testing.assert_array_equal(same.stain(planes), stainer.stain(planes))


@pytest.mark.parametrize("pixel_size_um", [0.0, 0.04, 0.3])
def test_a_pixel_size_that_cannot_be_resampled_is_refused(bundle, pixel_size_um):
    with pytest.raises(BundleError, match=r"pixel size is .*0\.05 to 0\.2 um"):
        Stainer(bundle, device="cpu", pixel_size_um=pixel_size_um)


@pytest.mark.parametrize(
    "planes",
    [
        np.zeros((1, 16, 16), np.uint16),
        np.zeros((16, 16), np.uint16),
        np.zeros((2, 16, 16), np.float32),
        np.zeros((2, 16, 16), np.int32),
        np.zeros((2, 16, 0), np.uint16),
    ],
)
def test_other_planes_are_refused(stainer, planes):
    with pytest.raises(BundleError, match=r"tiny expects uint8 or uint16 \(2, y, x\)"):
        stainer.stain(planes)


def test_warm_up_takes_the_frames_shape(bundle):
    with Stainer(bundle, device="cpu") as stainer:
        stainer.warm_up((37, 50))


def test_a_closed_stainer_says_so_and_gives_the_threads_back(bundle, make_counts):
    before = torch.get_num_threads()
    stainer = Stainer(bundle, device="cpu", threads=1)
    assert torch.get_num_threads() == 1
    stainer.close()
    stainer.close()
    assert torch.get_num_threads() == before
    with pytest.raises(LivestainError, match="closed"):
        stainer.stain(make_counts(16, 16))


def test_another_thread_than_the_one_that_opened_it_may_stain(stainer, make_counts):
    planes = make_counts(32, 32)
    wanted = stainer.stain(planes)
    found = []
    thread = threading.Thread(target=lambda: found.append(stainer.stain(planes)))
    thread.start()
    thread.join(60)
    np.testing.assert_array_equal(found[0], wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu'; expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "'cuda:99' was asked for, but this machine has: cpu"),
        ({"precision": "fp8"}, "precision is 'fp8'; expected auto, bf16, fp16, fp32"),
        ({"backend": "tpu"}, "backend is 'tpu'; expected one of eager, folded"),
        ({"threads": 0}, "threads is 0; expected 1 or more"),
    ],
)
def test_what_this_machine_cannot_do_is_refused(bundle, given, message):
    before = torch.get_num_threads()
    with pytest.raises(LivestainError, match=message):
        Stainer(bundle, **({"device": "cpu"} | given))
    assert torch.get_num_threads() == before


def test_auto_means_what_there_is():
    wanted = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto") == wanted
    assert resolve_device() == wanted


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cuda_predicts_what_the_cpu_predicts(bundle, reference, make_counts, dtype):
    limits = {"eager": 1e-4, "folded": 5e-3, "folded-bf16": 5e-2}
    for backend, limit in limits.items():
        with Stainer(bundle, device="cuda", backend=backend) as stainer:
            assert (stainer.device, stainer.backend, stainer.refused) == ("cuda:0", backend, {})
            for seed in range(3):  # the pinned buffer is used again
                planes = make_counts(72, 104, dtype, seed)
                assert relative_rms(stainer.stain(planes), reference(planes)) < limit
            assert np.isfinite(stainer.stain(make_counts(33, 41, dtype))).all()
