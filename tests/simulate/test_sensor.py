from __future__ import annotations

import numpy as np
import pytest

from livestain.simulate import Sensor


@pytest.mark.parametrize("electrons", [0.0, 3.0, 60.0, 5000.0])
def test_variance_is_gain_times_mean_plus_read_noise(electrons: float) -> None:
    sensor = Sensor(offset=100.0, gain=0.9, read_noise=1.6)
    frame = sensor.expose(
        np.full((400, 400), electrons, np.float32), np.random.default_rng(0)
    ).astype(float)
    signal = frame.mean() - 100.0
    assert signal == pytest.approx(0.9 * electrons, abs=0.02 + 0.002 * electrons)
    # A twelfth is the noise of rounding to whole counts.
    assert frame.var() == pytest.approx(0.9 * signal + (0.9 * 1.6) ** 2 + 1 / 12, rel=0.02)


def test_too_much_light_saturates() -> None:
    frame = Sensor().expose(np.full((8, 8), 1e6, np.float32), np.random.default_rng(0))
    assert frame.dtype == np.uint16
    assert (frame == 65535).all()
