"""Many windows through one Stainer: the same results as one by one, in order, whatever is on its way."""

import numpy as np
import pytest
import torch

from livestain.errors import BundleError, LivestainError
from livestain.inference import Stainer

STACK = {"network": "care3d", "z": "all", "depth": 1}


def windows(n, shape=(1, 45, 61), dtype=np.uint16, seed=0):
    """Windows that differ in brightness, which each one's own normalisation must take out."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    bright = np.linspace(0.2, 1, n)[:, None, None, None]
    return (rng.random((n, *shape)) * bright * top).astype(dtype)


@pytest.fixture(scope="module")
def stainer(bundle_of):
    with Stainer(bundle_of(), device="cpu") as stainer:
        yield stainer


def test_results_come_in_order_and_as_one_by_one(stainer):
    given = windows(5)
    with stainer.pipeline() as pipeline:
        found = list(pipeline.run(given))
    assert len(found) == 5
    for planes, made in zip(given, found, strict=True):
        np.testing.assert_array_equal(made.counts, stainer.stain_counts(planes))
    assert not np.array_equal(found[0].counts, found[1].counts)


def test_windows_are_not_read_long_before_their_turn(stainer):
    """Thousands may be owed: what reads them must not run ahead of what predicts them."""
    read = []

    def reading():
        for n, planes in enumerate(windows(6)):
            read.append(n)
            yield planes

    with stainer.pipeline(depth=2) as pipeline:
        for n, _ in enumerate(pipeline.run(reading(), batch=2)):
            assert read == list(range(n + 1)), "on a CPU, one at a time"


def test_a_ticket_keeps_its_result_when_others_follow_and_when_the_pipeline_closes(stainer):
    given = windows(6)
    with stainer.pipeline(depth=2) as pipeline:
        tickets = [pipeline.submit(given[n : n + 1]) for n in range(4)]
        tickets.append(pipeline.submit(given[4:6]))
        tickets.append(pipeline.submit(windows(1, (1, 30, 20))))
    wanted = stainer.stain_many(given)
    for n in (3, 0, 2, 1):
        (made,) = tickets[n].result()
        np.testing.assert_array_equal(made.counts, wanted[n])
        assert tickets[n].result()[0] is made
    np.testing.assert_array_equal([made.counts for made in tickets[4].result()], wanted[4:])
    assert tickets[5].result()[0].counts.shape == (1, 30, 20)


@pytest.mark.parametrize("given", [{}, {"z": 3}, STACK])
def test_many_are_predicted_as_one_by_one(bundle_of, given):
    with Stainer(bundle_of(**given), device="cpu") as stainer:
        planes = {"z": 3}.get("z", 1) if given == {"z": 3} else 5 if given else 1
        several = windows(3, (planes, 45, 61))
        found = stainer.stain_many(several)
        for window, made in zip(several, found, strict=True):
            np.testing.assert_array_equal(made, stainer.stain_counts(window))


@pytest.mark.parametrize("backend", ["eager", "folded"])
def test_windows_together_have_each_their_own_statistics(bundle_of, backend):
    """What a GPU does with several at once, on the CPU."""
    given = windows(3)
    with Stainer(bundle_of(), device="cpu", backend=backend) as stainer, torch.inference_mode():
        together = stainer.attempt(given, lambda: stainer.compute(torch.from_numpy(given)).numpy())
        alone = np.stack([stainer.stain(planes) for planes in given])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_what_it_cannot_take_is_refused(stainer):
    with pytest.raises(LivestainError, match="depth is 0; expected 1 or more"):
        stainer.pipeline(depth=0)
    with (
        stainer.pipeline() as pipeline,
        pytest.raises(BundleError, match=r"expects uint8 or uint16"),
    ):
        pipeline.submit(windows(1, (2, 16, 16)))
    with pytest.raises(LivestainError, match="This pipeline is closed"):
        pipeline.submit(windows(1))
    with pytest.raises(BundleError, match=r"uint16 \(1, 45, 61\); expected \(n, planes, y, x\)"):
        stainer.stain_many(windows(1)[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("given", [{}, STACK])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_gpu_overlaps_and_mixes_nothing_up(bundle_of, given, dtype):
    """Many more windows than slots, of large planes, so that copies and computing do meet."""
    n = 5 if given else 1
    shape = (n, 200, 264) if given else (n, 1000, 1032)
    several = windows(24, shape, dtype)
    with Stainer(bundle_of(**given), device="cpu") as reference:
        wanted = [reference.stain_counts(planes).astype(int) for planes in several]
    with Stainer(bundle_of(**given), device="cuda", backend="eager") as stainer:
        alone = [stainer.stain_counts(planes).astype(int) for planes in several]
        for depth, batch in ((1, 1), (3, 1), (3, 4), (2, 5)):
            with stainer.pipeline(depth=depth) as pipeline:
                found = list(pipeline.run(several, batch=batch))
            for made, one, right in zip(found, alone, wanted, strict=True):
                # A few counts: other algorithms may be chosen for other batches.
                assert np.abs(made.counts.astype(int) - one).max() <= 5
                assert np.abs(made.counts.astype(int) - right).max() <= 5
        # Another prediction between submissions, on the same stream, changes nothing.
        with stainer.pipeline() as pipeline:
            tickets = []
            for planes in several[:6]:
                tickets.append(pipeline.submit(planes[None]))
                stainer.stain(planes[:, :64, :64])
            for ticket, one in zip(tickets[::-1], alone[5::-1], strict=True):
                assert np.abs(ticket.result()[0].counts.astype(int) - one).max() <= 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_encodes_as_the_cpu_to_the_last_bit():
    from livestain.inference.encoding import encode_on_cpu, encode_on_device

    device = torch.device("cuda")
    values = torch.randn(2, 3, 50, 70) * 30
    encodings = ((0.001, -20.0), (0.0037, 1.0), (7.0, -100.0))
    counts = torch.empty(values.shape, dtype=torch.uint16, device=device)
    told = torch.empty((2, 3, 4), dtype=torch.float64, device=device)
    given = [torch.tensor(each, dtype=torch.float64).to(device) for each in encodings]
    encode_on_device(values.to(device), given, counts, told)
    for n, one in enumerate(values):
        wanted = encode_on_cpu(one, encodings)
        np.testing.assert_array_equal(counts[n].cpu().numpy(), wanted.counts)
        np.testing.assert_allclose(told[n].cpu().numpy(), wanted.told, rtol=1e-6, atol=1e-6)
