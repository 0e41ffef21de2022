from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from livestain.errors import SettingsError
from livestain.simulate.sensor import Sensor


def flat(electrons: float, side: int = 400) -> np.ndarray:
    return np.full((side, side), electrons, np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("electrons", [0.0, 3.0, 60.0, 5000.0])
@pytest.mark.parametrize(("gain", "read_noise"), [(0.9, 1.6), (9.0, 0.4)])
def test_variance_is_gain_times_mean_plus_read_noise(
    electrons: float, gain: float, read_noise: float
) -> None:
    sensor = Sensor(offset=100.0, gain=gain, read_noise=read_noise)
    frame = sensor.expose(flat(electrons), rng()).astype(float)
    signal = frame.mean() - 100.0
    assert signal == pytest.approx(gain * electrons, abs=gain * (0.02 + 0.002 * electrons))
    # A twelfth is the noise of rounding to whole counts.
    assert frame.var() == pytest.approx(gain * signal + (gain * read_noise) ** 2 + 1 / 12, rel=0.02)


@pytest.mark.parametrize("electrons", [1.0, 5.0, 40.0])
def test_noise_is_distributed_as_poisson_and_normal_together(electrons: float) -> None:
    """Against scipy's Poisson and normal distributions, drawn apart and added."""
    sensor = Sensor(offset=1000.0, gain=10.0, read_noise=1.6, read_noise_spread=0.0)
    drawn = (sensor.expose(flat(electrons), rng()).astype(float).ravel() - 1000) / 10
    other = np.random.default_rng(9)
    exact = stats.poisson(electrons).rvs(drawn.size, other)
    exact = exact + stats.norm(0, 1.6).rvs(drawn.size, other)
    assert stats.skew(drawn) == pytest.approx(stats.skew(exact), abs=0.03)
    quantiles = (0.001, 0.02, 0.25, 0.5, 0.75, 0.98, 0.999)
    np.testing.assert_allclose(
        np.quantile(drawn, quantiles), np.quantile(exact, quantiles), atol=0.3
    )


def test_photon_transfer_gives_back_the_gain() -> None:
    """As a camera is measured: the slope of variance over mean, frame by frame of the same light."""
    sensor = Sensor(gain=2.2)
    means, variances = [], []
    for level in (200.0, 1000.0, 5000.0, 20_000.0):
        a, b = (sensor.expose(flat(level), np.random.default_rng(n)).astype(float) for n in (1, 2))
        means.append((a + b).mean() / 2)
        variances.append((a - b).var() / 2)
    assert np.polyfit(means, variances, 1)[0] == pytest.approx(2.2, rel=0.02)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_too_much_light_saturates(bits: int) -> None:
    frame = Sensor(bit_depth=bits).expose(flat(1e6, 8), rng())
    assert frame.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert (frame == 2**bits - 1).all()


def test_a_full_well_saturates_before_the_bits_do() -> None:
    frame = Sensor(full_well=1000.0, gain=2.0, offset=50.0).expose(flat(1e5, 8), rng())
    assert (frame == 2050).all()


def test_another_bit_depth_keeps_the_share_of_the_range() -> None:
    sensor = Sensor()
    full = sensor.expose(flat(5000.0), rng()).mean() / 65536
    at_12 = sensor.at_bit_depth(12)
    assert at_12.expose(flat(5000.0), rng()).mean() / 4096 == pytest.approx(full, rel=0.01)
    assert at_12.at_bit_depth(16) == sensor


def test_binning_sums_squares_and_crops_the_edges() -> None:
    light = np.arange(7 * 9, dtype=np.float32).reshape(7, 9) * 100
    exact = Sensor(read_noise=0.0, gain=1.0, offset=10.0)
    binned = exact.expose(light, rng(), binning=2)
    single = exact.expose(light, rng())
    assert binned.shape == (3, 4)
    squares = single[:6, :8].reshape(3, 2, 4, 2).sum((1, 3))
    np.testing.assert_array_equal(binned, squares)
    assert exact.expose(flat(60_000.0, 8), rng(), binning=4).max() == 65535


def test_dark_current_grows_with_exposure_and_hot_pixels_stay_where_they_are() -> None:
    sensor = Sensor(dark_current=0.01, hot_pixels=0.002, hot_current=2.0, serial=4)
    dark = flat(0.0)
    assert sensor.expose(dark, rng()).mean() == pytest.approx(100, abs=0.02)
    frames = [
        sensor.expose(dark, np.random.default_rng(n), exposure_ms=400).astype(float)
        for n in range(2)
    ]
    assert np.median(frames[0]) == pytest.approx(100 + 0.9 * 4, abs=1)
    hot = [frame > 200 for frame in frames]
    assert 150 < hot[0].sum() < 350
    # Alike but for those that noise lifts over the threshold.
    assert (hot[0] & hot[1]).sum() > 0.9 * hot[0].sum()
    other = Sensor(**{**sensor.model_dump(), "serial": 5})
    elsewhere = other.expose(dark, rng(), exposure_ms=400) > 200
    assert (hot[0] & elsewhere).sum() < 0.1 * hot[0].sum()


def test_pixels_differ_in_read_noise_as_much_as_is_said() -> None:
    sensor = Sensor(gain=20.0, offset=1000.0, read_noise=2.0, read_noise_spread=0.3)
    frames = np.stack([sensor.expose(flat(0.0, 60), np.random.default_rng(n)) for n in range(200)])
    noise = frames.std(axis=0) / 20
    assert np.sqrt((noise**2).mean()) == pytest.approx(2.0, rel=0.02)
    # Estimated from 200 frames, a standard deviation is uncertain by 5 %.
    assert np.log(noise).std() == pytest.approx(np.hypot(0.3, 0.05), rel=0.05)


def test_the_light_that_was_given_is_left_as_it_was() -> None:
    light = flat(50.0, 32)
    Sensor(hot_pixels=0.5).expose(light, rng(), exposure_ms=100)
    assert (light == 50).all()


def test_a_bit_depth_that_no_camera_has_is_refused() -> None:
    with pytest.raises(SettingsError, match="bit_depth"):
        Sensor.parse({"bit_depth": 20}, where="sensor")
