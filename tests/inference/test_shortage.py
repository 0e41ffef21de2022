"""Where memory is short: smaller tiles, then the CPU, the same prediction, and a word about it."""

import logging
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from livestain.errors import LivestainError
from livestain.inference import Stainer, backends, register_backend, stainer
from livestain.inference.backends import Eager
from livestain.inference.upload import Upload


class Small:
    """A device whose memory takes so many pixels; `cuda` is as small, the CPU has room for all."""

    name = "small"
    precision = "fp32"

    def __init__(self, most, *, weights=True):
        self.most = most
        self.weights = weights
        self.seen = []

    def unready(self, network, device):
        return None

    def load(self, network, device):
        if device.type == "cuda" and not self.weights:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"
            )
        run = Eager().load(network, torch.device("cpu"))

        def predict(x):
            self.seen.append((device.type, *x.shape[-2:]))
            # The test tensors are of 64 x 64 pixels, and fit.
            if x.shape[-2] * x.shape[-1] > (self.most.get(device.type) or 1e9):
                raise torch.OutOfMemoryError(
                    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"
                )
            return run(x)

        return predict


@pytest.fixture
def small(monkeypatch):
    """Return a function that makes such a device, `cuda:0` included, where there is no GPU."""
    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))
    monkeypatch.setattr(stainer, "resolve_device", lambda device: device)
    upload = Upload.__call__
    monkeypatch.setattr(
        Upload, "__call__", lambda self, planes, device: upload(self, planes, torch.device("cpu"))
    )

    def make(most, **more):
        device = Small(most, **more)
        register_backend(device)
        return device

    return make


def counts(n=1, height=96, width=128):
    return np.random.default_rng(2).integers(0, 4000, (n, height, width), np.uint16)


def test_a_gpu_without_room_for_a_plane_goes_on_in_tiles_and_stays_there(small, bundle_of):
    gpu = small({"cuda": 80 * 80})
    told = []
    with Stainer(bundle_of(), device="cpu") as whole:
        wanted = whole.stain(counts())
    with Stainer(bundle_of(), device="cuda:0", backend="small", on_shortage=told.append) as one:
        found = one.stain(counts())
        assert (one.device, one.tile, one.tile_step) == ("cuda:0", (48, 64), 2)
        tried = len(gpu.seen)
        again = one.stain(counts())
        assert {place for place, *_ in gpu.seen} == {"cuda"}
        assert len(gpu.seen) - tried == 4, "no larger tiles are tried again"
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_array_equal(again, found)
    assert [s.tile for s in told] == [(96, 64), (48, 64)]
    assert [s.tile_step for s in told] == [1, 2]
    assert "lacks memory on cuda:0 for planes of 96 x 128 pixels (2.00 GiB more)" in told[0].why
    assert told[1].why.endswith("it goes on in tiles of 48 x 64.")


def test_then_on_the_cpu_whole_and_if_need_be_in_tiles(small, bundle_of):
    small({"cuda": 64 * 64, "cpu": 95 * 95})
    told = []
    with Stainer(bundle_of(), device="cpu") as whole:
        wanted = whole.stain(counts())
    with Stainer(bundle_of(), device="cuda:0", backend="small", on_shortage=told.append) as one:
        np.testing.assert_allclose(one.stain(counts()), wanted, atol=1e-5)
        assert (one.device, one.backend, one.tile) == ("cpu", "small", (96, 64))
    places = [(s.device, s.tile) for s in told]
    moved = places.index(("cpu", None))
    assert moved > 1
    assert {device for device, _ in places[:moved]} == {"cuda:0"}
    assert places[moved + 1 :] == [("cpu", (96, 64))]
    assert "smaller ones would be margin alone: it goes on on the CPU" in told[moved].why


def test_a_network_that_sees_the_whole_plane_goes_straight_to_the_cpu(small, bundle_of):
    gpu = small({"cuda": 64 * 64})
    told = []
    bundle = bundle_of(network="gvtnet2d")
    with Stainer(bundle, device="cuda:0", backend="small", on_shortage=told.append) as one:
        one.stain(counts())
        assert (one.device, one.tile) == ("cpu", None)
    (shortage,) = told
    assert (
        "it sees the whole plane and cannot be cut into tiles: it goes on on the CPU"
        in shortage.why
    )
    assert gpu.seen.count(("cuda", 96, 128)) == 1


def test_a_gpu_without_room_for_the_weights_is_left_at_once(small, bundle_of):
    small({}, weights=False)
    told = []
    with Stainer(bundle_of(), device="cuda:0", backend="small", on_shortage=told.append) as one:
        assert one.device == "cpu"
        assert np.isfinite(one.stain(counts())).all()
    assert "finds no room on cuda:0 (20.00 MiB more): it goes on on the CPU" in told[0].why


def test_what_fits_nowhere_is_an_error_and_later_planes_are_tried(small, bundle_of, caplog):
    memory = {"cpu": 64 * 64}
    small(memory)
    with Stainer(bundle_of(), device="cpu", backend="small") as one:
        with (
            caplog.at_level(logging.WARNING, "livestain"),
            pytest.raises(LivestainError, match=r"lacks memory on cpu for tiles of .* Close other"),
        ):
            one.stain(counts())
        assert "it goes on in tiles of" in caplog.text, "without a listener it is logged"
        memory["cpu"] = 1e9
        assert one.stain(counts()).shape == (1, 96, 128)


def test_other_errors_change_nothing(small, bundle_of):
    device = small({})
    with Stainer(bundle_of(), device="cpu", backend="small") as one:
        device.most = None  # raises AttributeError
        with pytest.raises(AttributeError):
            one.stain(counts())
        assert one.tile_step == 0


LIMITED = """
    import resource, sys
    import numpy as np
    import torch
    from livestain.inference import Stainer

    bundle, planes, out, backend = sys.argv[1:]
    torch.set_num_threads(1)
    told = []
    with Stainer(bundle, device="cpu", backend=backend, on_shortage=told.append) as stainer:
        assert stainer.backend == backend, stainer.refused
        stainer.stain(np.zeros((1, 64, 64), np.uint16))
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        most = now + 120 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        np.save(out, stainer.stain(np.load(planes)))
        assert stainer.tile == told[-1].tile
    print(*(shortage.why for shortage in told), sep="\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
@pytest.mark.parametrize("backend", ["folded", "onnxruntime"])
def test_a_process_that_gets_no_more_memory_predicts_the_same_in_tiles(
    bundle_of, tmp_path, backend
):
    """A real limit: whole planes need some 180 MB for feature maps, and 120 are left."""
    bundle = bundle_of(width=16, onnx=True)
    planes = counts(height=480, width=512)
    np.save(tmp_path / "planes.npy", planes)
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c", textwrap.dedent(LIMITED)),
            *(bundle, tmp_path / "planes.npy", tmp_path / "found.npy", backend),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "lacks memory on cpu for planes of 480 x 512 pixels" in done.stdout
    assert "it goes on in tiles of" in done.stdout
    with Stainer(bundle, device="cpu") as whole:
        wanted = whole.stain(planes)
    found = np.load(tmp_path / "found.npy")
    assert np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std() < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_that_gives_no_more_memory(bundle_of):
    bundle = bundle_of(width=16)
    planes = counts(height=480, width=512)
    with Stainer(bundle, device="cpu") as whole:
        wanted = whole.stain(planes)
    total = torch.cuda.mem_get_info()[1]
    told = []
    try:
        with Stainer(bundle, device="cuda:0", on_shortage=told.append) as one:
            most = torch.cuda.memory_reserved() + 60 * 2**20
            torch.cuda.set_per_process_memory_fraction(most / total)
            found = one.stain(planes)
            assert one.tile is not None
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert told
    assert np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std() < 0.02
