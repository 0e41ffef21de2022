"""The choice among backends: the fastest that is right, remembered, within its time and memory."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from livestain.errors import LivestainError
from livestain.inference import Stainer, backends, register_backend
from livestain.inference.backends import Eager
from livestain.inference.backends.plain import Folded
from livestain.inference.cache import forget
from livestain.inference.choosing import choose_backend
from livestain.inference.proving import Proof, RefusedError
from livestain.inference.upload import Upload
from livestain.stain import models
from livestain.stain.protocol import WorkerSetup


class Paced:
    """A backend that takes some times as long as it must; wrong, unready or out of memory if told so."""

    def __init__(
        self,
        name,
        runs=1,
        *,
        precision="fp32",
        factor=1.0,
        why=None,
        most=None,
        error=None,
    ):
        self.error = error or MemoryError("no more")
        self.name = name
        self.precision = precision
        self.runs, self.factor, self.why, self.most = runs, factor, why, most
        self.loads = 0

    def unready(self, network, device):
        return self.why

    def load(self, network, device):
        self.loads += 1
        run = Eager().load(network, device)

        def predict(x):
            if self.most is not None and x.shape[-2] * x.shape[-1] > self.most:
                raise self.error
            for _ in range(self.runs):
                y = run(x)
            return y * self.factor

        return predict


@pytest.fixture
def known(monkeypatch, cache):
    """Return a function that makes backends the only ones beside eager."""
    monkeypatch.setattr(backends, "_BACKENDS", {"eager": Eager()})

    def register(*all_of_them):
        for each in all_of_them:
            register_backend(each)

    return register


def open_auto(bundle, shape=(128, 96), **more):
    return Stainer(bundle, device="cpu", backend="auto", shape_yx=shape, **more)


def test_the_fastest_that_is_right_is_taken_and_remembered(bundle, reference, make_counts, known):
    known(
        Paced("often", runs=25),
        Paced("wrong", factor=1.1),
        Paced("once"),
        Paced("missing", why="not installed: pip install it"),
    )
    planes = make_counts(40, 40)
    with open_auto(bundle) as stainer:
        choice = stainer.choice
        assert (stainer.backend, choice.chosen, choice.cached) == ("once", "once", False)
        assert set(choice.milliseconds) == {"often", "once"}
        assert choice.milliseconds["once"] < choice.milliseconds["often"]
        assert choice.refused["missing"] == "not installed: pip install it"
        assert "the limit for fp32 is 0.0001" in choice.refused["wrong"]
        assert list(stainer.refused) == ["wrong"], "what was not tried is no fault"
        np.testing.assert_allclose(stainer.stain(planes), reference(planes), atol=1e-5)
    often = backends.get_backend("often")
    before = often.loads
    with open_auto(bundle) as stainer:
        assert stainer.choice.cached
        assert stainer.choice.milliseconds == choice.milliseconds
        assert (stainer.backend, often.loads) == ("once", before)


def test_another_frame_or_a_new_candidate_is_measured_anew(bundle, known):
    known(Paced("often", runs=25), Paced("twice", runs=10))
    with open_auto(bundle) as stainer:
        assert stainer.backend == "twice"
    with open_auto(bundle, shape=(64, 64)) as stainer:
        assert not stainer.choice.cached
    known(Paced("once"))  # installed since
    with open_auto(bundle) as stainer:
        assert (stainer.backend, stainer.choice.cached) == ("once", False)


@pytest.mark.parametrize("damage", ["", "[]", '{"facts": 1}', "half of a {"])
def test_a_damaged_cache_is_measured_anew(bundle, known, cache, damage):
    known(Paced("once"))
    for expected in (False, False, True):
        with open_auto(bundle) as stainer:
            assert stainer.choice.cached is expected
        (file,) = (cache / "choices").iterdir()
        if not expected and damage is not None:
            file.write_text(damage, "utf-8")
            damage = None


def test_a_cache_that_cannot_be_written_changes_nothing(bundle, known, cache):
    cache.write_text("a file where the folder should be", "utf-8")
    known(Paced("once"))
    with open_auto(bundle) as stainer:
        assert stainer.backend == "once"


def test_a_remembered_backend_that_became_wrong_is_not_used(bundle, known):
    known(Paced("once"), Paced("often", runs=25))
    with open_auto(bundle) as stainer:
        assert stainer.backend == "once"
    known(Paced("once", factor=1.1))  # another version, say
    with open_auto(bundle) as stainer:
        assert (stainer.backend, stainer.choice.cached) == ("often", False)
        assert list(stainer.refused) == ["once"]


def test_without_time_the_first_that_is_right_is_taken_and_the_rest_named(bundle, known):
    known(Paced("wrong", factor=1.1), Paced("first", runs=5), Paced("second"))
    chosen = choose_backend(
        bundle,
        bundle.load_module(),
        "auto",
        torch.device("cpu"),
        Upload(),
        frame=(1, 512, 512),
        budget_s=0,
    )
    assert chosen.name == "first"
    assert chosen.choice.milliseconds == {}
    assert chosen.choice.refused["first"].startswith("not measured: two frames of about")
    assert chosen.choice.refused["second"].startswith("not measured: the time for choosing")


def test_frames_that_take_too_long_are_timed_smaller(bundle, known):
    known(Paced("often", runs=10), Paced("once"))
    chosen = choose_backend(
        bundle,
        bundle.load_module(),
        "auto",
        torch.device("cpu"),
        Upload(),
        frame=(1, 4096, 4096),
        budget_s=10,
    )
    choice = chosen.choice
    assert (choice.chosen, set(choice.milliseconds)) == ("once", {"often", "once"})
    assert choice.timed_yx is not None
    assert all(side < 4096 and side % 8 == 0 for side in choice.timed_yx)


def test_a_precision_admits_what_is_at_least_as_fine(bundle, known):
    known(Paced("fine", runs=25), Paced("coarse", precision="bf16"))
    with open_auto(bundle) as stainer:
        assert stainer.backend == "coarse"
    with open_auto(bundle, precision="fp32") as stainer:
        assert stainer.backend == "fine"
    with pytest.raises(LivestainError, match="The precision is 'fp8'; expected auto, bf16"):
        open_auto(bundle, precision="fp8")


def test_of_two_that_are_equally_fast_the_finer_is_taken():
    from livestain.inference.measuring import _best

    assert _best({"openvino-bf16": 100.0, "openvino": 102.0, "folded": 110.0}) == "openvino"
    assert _best({"openvino": 100.0, "folded": 101.0, "onnxruntime": 100.5}) == "folded"
    assert _best({"openvino-bf16": 90.0, "openvino": 102.0}) == "openvino-bf16"


def test_a_candidate_without_memory_for_a_frame_is_left_out(bundle, known):
    known(Paced("greedy", most=64 * 64), Paced("modest", runs=25))
    with open_auto(bundle) as stainer:
        assert stainer.backend == "modest"
        assert "finds no memory for a whole frame" in stainer.choice.refused["greedy"]


def test_where_no_candidate_has_memory_for_a_frame_it_goes_on_in_tiles(bundle_of, known):
    known(Paced("small", most=80 * 80))
    told = []
    planes = np.random.default_rng(2).integers(0, 4000, (1, 96, 128), np.uint16)
    with Stainer(bundle_of(), device="cpu", backend="eager") as whole:
        wanted = whole.stain(planes)
    with open_auto(bundle_of(), shape=(96, 128), on_shortage=told.append) as stainer:
        assert (stainer.backend, stainer.choice.milliseconds) == ("small", {})
        np.testing.assert_allclose(stainer.stain(planes), wanted, atol=1e-5)
        assert stainer.tile is not None
    assert told
    # A worker that is started again begins with tiles, and times candidates with one.
    with open_auto(bundle_of(), shape=(96, 128), tile_step=stainer.tile_step) as stainer:
        assert list(stainer.choice.milliseconds) == ["small"]


def test_the_environment_names_the_backend_where_nobody_else_did(monkeypatch):
    setup = WorkerSetup(shape=(64, 64), pixel_size_um=0.1)
    monkeypatch.setenv("LIVESTAIN_BACKEND", "eager")
    assert models.wanted_backend(setup) == "eager"
    assert models.wanted_backend(setup.model_copy(update={"backend": "openvino"})) == "openvino"
    monkeypatch.delenv("LIVESTAIN_BACKEND")
    assert models.wanted_backend(setup) == "auto"


def test_a_candidate_that_fails_on_a_frame_is_refused_by_name(bundle, known):
    known(Paced("fixed", most=64 * 64, error=RuntimeError("cannot reshape")), Paced("any", runs=25))
    with open_auto(bundle) as stainer:
        assert stainer.backend == "any"
        assert (
            "fails on a frame of the run's size (RuntimeError: cannot reshape)"
            in (stainer.choice.refused["fixed"])
        )
    known(Paced("any", why="not here"))  # of the others none is left
    with open_auto(bundle) as stainer:
        assert (stainer.backend, set(stainer.refused)) == ("eager", {"fixed"})


def test_a_winner_that_cannot_be_loaded_again_gives_way_to_the_next(bundle, known):
    once, often = Paced("once"), Paced("often", runs=25)
    load = once.load

    def only_once(network, device):
        if once.loads:
            raise OSError("its file is gone")
        return load(network, device)

    once.load = only_once
    known(once, often)
    with open_auto(bundle) as stainer:
        assert (stainer.backend, list(stainer.refused)) == ("often", ["once"])


def test_a_remembered_backend_without_memory_gives_way_this_time(bundle, known):
    known(Paced("once"), Paced("often", runs=25))
    with open_auto(bundle) as stainer:
        assert stainer.backend == "once"
    known(Paced("once", most=1))
    with open_auto(bundle) as stainer:
        assert (stainer.backend, stainer.choice.cached) == ("often", False)
        assert stainer.refused == {"once": "finds no memory this time"}
    known(Paced("once"))
    with open_auto(bundle) as stainer:
        assert (stainer.backend, stainer.choice.cached) == ("once", True)


def test_a_slow_first_load_takes_nothing_from_the_time_for_measuring(bundle, known, monkeypatch):
    """As of a cold disk, on a clock that it sets forward."""
    from types import SimpleNamespace

    from livestain.inference import measuring

    late = 0.0
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + late)
    monkeypatch.setattr(measuring, "time", clock)
    slow = Paced("slow")
    load = slow.load

    def from_a_cold_disk(network, device):
        nonlocal late
        late += 8.0 if not slow.loads else 0.0
        return load(network, device)

    slow.load = from_a_cold_disk
    known(slow, *(Paced(f"other{n}", runs=3) for n in range(6)))
    with open_auto(bundle) as stainer:
        assert len(stainer.choice.milliseconds) == 7
        assert stainer.choice.timed_yx == (128, 96)


def test_nothing_is_timed_so_small_that_the_call_itself_counts():
    from livestain.inference.measuring import _affordable

    assert _affordable((1, 1, 2048, 2048), 16, (256, 256), 1.0, -3.0) == (1, 1, 256, 256)
    assert _affordable((1, 1, 2048, 2048), 16, (256, 256), 1.0, 0.75) == (1, 1, 1024, 1024)


def test_what_there_was_no_time_for_is_timed_at_the_next_start(bundle, known, monkeypatch):
    from livestain.inference import measuring

    known(Paced("often", runs=25), Paced("once"))
    monkeypatch.setattr(measuring, "_LOADING_S", 100.0)  # so that none but the first is begun
    with open_auto(bundle) as stainer:
        assert (stainer.backend, list(stainer.choice.milliseconds)) == ("often", ["often"])
        assert "the time for choosing was over" in stainer.choice.refused["once"]
    with open_auto(bundle) as stainer:
        assert (stainer.backend, stainer.choice.cached) == ("once", True)
        assert "once" not in stainer.choice.refused
    with open_auto(bundle) as stainer:
        assert set(stainer.choice.milliseconds) == {"often", "once"}


def test_choices_of_one_bundle_are_forgotten(bundle, known, cache):
    known(Paced("once"))
    for forgotten, cached in (("another", True), (bundle.sha256, False)):
        open_auto(bundle).close()
        forget(forgotten)
        with open_auto(bundle) as stainer:
            assert stainer.choice.cached is cached


def test_a_test_output_of_another_processor_is_compared_with_the_reference_once(bundle, known):
    """A backend that agrees with eager here passes; never are two of them loaded."""
    proof = Proof(bundle, bundle.load_module(), torch.device("cpu"), Upload())
    proof._expected = proof._expected * 1.01  # within the bundle's tolerance, beyond fp32's
    known(Paced("same"), Paced("other", factor=1.02))
    with torch.inference_mode():
        assert proof.prove("same").name == "same"
        with pytest.raises(RefusedError, match="the limit for fp32"):
            proof.prove("other")


KILLED = """
import os, sys
from livestain.inference import Stainer, backends, register_backend
from livestain.inference.backends import Eager

class Deadly:
    name, precision = "deadly", "int8"
    def unready(self, network, device):
        return None
    def load(self, network, device):
        os._exit(9)

backends._BACKENDS.clear()
for each in (Eager(), Deadly()):
    register_backend(each)
with Stainer(sys.argv[1], device="cpu", backend="auto", shape_yx=(64, 64)) as stainer:
    print(stainer.backend, stainer.choice.refused["deadly"])
"""


def test_a_candidate_that_ended_the_process_is_not_tried_again(bundle, cache):
    words = [sys.executable, "-c", KILLED, str(bundle.path)]
    first, second = (
        subprocess.run(words, capture_output=True, text=True, check=False) for _ in range(2)
    )
    assert first.returncode == 9
    assert second.stdout.startswith("eager ended the process when it was last tried"), second.stderr
    (note,) = (cache / "trials").iterdir()  # of the first; the second has ended well
    os.utime(note, (0, 0))
    assert subprocess.run(words, capture_output=True, check=False).returncode == 9, "after a day"


def test_a_process_that_goes_on_leaves_no_note(bundle, known, cache, make_counts):
    known(Paced("once"))
    stainer = open_auto(bundle)
    assert list((cache / "trials").iterdir()), "no frame was predicted yet"
    stainer.stain(make_counts(64, 48))
    assert not list((cache / "trials").iterdir())
    stainer.close()


class Half:
    """A backend that overflows above a level, as half precision does."""

    name, precision = "half", "fp16"

    def unready(self, network, device):
        return None

    def load(self, network, device):
        run = Eager().load(network, device)

        def predict(x):
            return run(x) + torch.where(x.max() > 8, torch.inf, 0.0)

        return predict


def test_what_overflows_is_predicted_in_fp32_which_stays_the_second_time(
    bundle, known, make_counts
):
    known(Half(), Folded("folded", "fp32"))
    usual, bright = make_counts(64, 48), make_counts(64, 48) // 16
    bright[:, 20, 20] = 65535  # a speck of dust, many standard deviations bright
    told = []
    with Stainer(bundle, device="cpu", backend="folded") as fine:
        wanted = fine.stain_counts(bright)
    with Stainer(bundle, device="cpu", backend="half", on_shortage=told.append) as stainer:
        stainer.stain_counts(usual)
        assert not told
        np.testing.assert_array_equal(stainer.stain_counts(bright), wanted)
        assert (stainer.backend, stainer.precision) == ("half", "fp16")
        assert "not finite with half; fp32 gave this plane" in told[0].why
        np.testing.assert_array_equal(stainer.stain_counts(bright), wanted)
        assert (stainer.backend, stainer.precision) == ("folded", "fp32")
        assert (told[1].backend, told[1].precision) == ("folded", "fp32")
        stainer.stain_counts(bright)
    assert len(told) == 2
    with pytest.raises(LivestainError, match="This Stainer is closed"):
        stainer.stain_counts(usual)
