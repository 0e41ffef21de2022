"""Measuring for real: a small model, small frames, every process that the command starts."""

from __future__ import annotations

import json
import sys

import pytest

from livestain.benching.asking import NoAnswerError, RefusedError, ask
from livestain.benching.results import BenchResult, StoreTimes
from livestain.benching.settings import Job
from livestain.inference import backend_names


@pytest.fixture(scope="module")
def measured(tiny_bundle, tmp_path_factory):
    """Run the command once, its cache in a folder of its own."""
    import os
    import subprocess

    folder = tmp_path_factory.mktemp("bench")
    command = [
        *(
            sys.executable,
            "-m",
            "livestain",
            "bench",
            str(tiny_bundle),
            "--size",
            "64",
        ),
        *("--backend", "eager", "--backend", "folded", "--backend", "cudagraph", "--device", "cpu"),
        *("--interval-ms", "1000", "--seconds", "0.05", "--threads", "1"),
        *("--out", str(folder / "out"), "--json"),
    ]
    environment = os.environ | {"LIVESTAIN_CACHE": str(folder / "cache")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "out", BenchResult.model_validate_json(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_files_hold_what_was_printed(measured, tiny_bundle):
    folder, result = measured
    assert sorted(path.name for path in folder.iterdir()) == ["bench.json", "bench.md", "bench.svg"]
    text = (folder / "bench.json").read_text(encoding="utf-8")
    assert BenchResult.model_validate_json(text) == result
    assert str(tiny_bundle.parent) not in text
    assert result.command.startswith("livestain bench tiny --size 64 --interval-ms 1000")


@pytest.mark.slow
def test_each_backend_is_measured_or_refused(measured):
    _, result = measured
    (bundle,) = result.bundles
    assert [size.size for size in bundle.sizes] == [64]
    for size in bundle.sizes:
        assert {one.backend for one in size.measured} == {"eager", "folded"}
        # What cannot run here is refused by name, not left out.
        assert "CUDA" in size.refused["cudagraph"]
        for one in size.measured:
            assert one.error < 1e-4
            assert 0 < one.cold.imports < one.cold.total
            cold = one.cold
            parts = cold.imports + cold.load + cold.parity + cold.first
            assert parts == pytest.approx(cold.total, rel=0.01)
            assert 0 < one.warm.total < cold.total
            assert set(one.stages) == {"upload", "normalise", "network", "encode"}
            stages = sum(spread.mean for spread in one.stages.values())
            assert stages == pytest.approx(one.total.mean, rel=0.02)
            assert one.total.n >= 3
            assert one.total.p50 <= one.total.p95 <= one.total.p99
            assert one.planes_per_second == pytest.approx(1e3 / one.total.mean, rel=0.01)
            assert 0 < one.share_of_roof < 3
            assert one.memory_mb >= 0
            assert one.threads == 1


@pytest.mark.slow
def test_the_choice_and_the_answer_are_told(measured):
    _, result = measured
    for size in result.bundles[0].sizes:
        assert size.auto.backend in backend_names()
        assert not size.auto.cached
        assert size.auto.cached_seconds is not None
        assert f"{size.size}²: keeps up at 1000 ms with " in size.sentences[0]
    assert result.roof.gemm_gflops["fp32"] > 0
    assert set(result.store) == {64}


def test_a_process_that_crashes_says_with_what(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch is not of this system')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        NoAnswerError, match=r"code 1\): ImportError: libtorch is not of this system"
    ):
        ask(Job(kind="roof", began=0.0))


def test_what_a_library_prints_does_not_disturb_the_answer(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os\nprint('hello from elsewhere')\n"
        "import livestain.benching.settings as room\n"
        "old = room.Job.model_validate_json\n"
        "def noisy(*a, **k):\n    os.write(1, b'noise\\n'); print('more'); return old(*a, **k)\n"
        "room.Job.model_validate_json = noisy\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = tmp_path / "disk"
    folder.mkdir()
    answer = ask(Job(kind="store", began=0.0, size=64, folder=str(folder)))
    assert StoreTimes.model_validate(answer).write.p50 > 0


def test_a_damaged_model_is_refused_in_its_words(tmp_path):
    with pytest.raises(RefusedError, match=r"rdf\.yaml"):
        ask(Job(kind="look", began=0.0, bundle=str(tmp_path)))


def test_a_process_that_takes_too_long_is_ended(tiny_bundle):
    with pytest.raises(NoAnswerError, match="not done after"):
        ask(Job(kind="look", began=0.0, bundle=str(tiny_bundle)), timeout_s=0.05)


@pytest.mark.slow
def test_what_there_is_no_time_for_is_named(tiny_bundle, tmp_path, monkeypatch):
    from livestain.benching import BenchSettings, run_bench
    from livestain.bundle import read_bundle

    monkeypatch.setenv("LIVESTAIN_CACHE", str(tmp_path))
    settings = BenchSettings(sizes=(64,), backends=("eager",), minutes=1e-4, device="cpu")
    result = run_bench([read_bundle(tiny_bundle)], settings, command="livestain bench tiny")
    (size,) = result.bundles[0].sizes
    assert not size.measured
    assert set(size.not_measured) == {"auto", "eager"}
    assert "minutes did not suffice" in size.not_measured["eager"]
    assert size.sentences == ("64²: not known, since no backend was measured.",)
    json.dumps(result.model_dump(mode="json"), allow_nan=False)
