"""Each metric by hand or against another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torchmetrics.functional import pearson_corrcoef, r2_score
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from torchmetrics.functional.regression import normalized_root_mean_squared_error

from livestain.errors import SettingsError
from livestain.training.evaluation.picture import Picture
from livestain.training.evaluation.scores import (
    METRICS,
    choose_metrics,
    columns_of,
    foreground_pearson,
    ms_ssim,
    normalised_mse,
    nrmse,
    psnr,
    score,
    ssim,
)


def two_planes(shape=(96, 80), seed=0, noise=0.2):
    rng = np.random.default_rng(seed)
    target = np.clip(ndimage.gaussian_filter(rng.random(shape), 1.5) * 3 - 1, 0, 1)
    return np.clip(target + noise * rng.standard_normal(shape), 0, 1), target


def tensors(*planes):
    return [torch.from_numpy(plane.astype(np.float64))[None, None] for plane in planes]


def test_psnr_of_8_bit_noise_does_not_wrap():
    a, b = np.random.default_rng(0).integers(0, 256, (2, 256, 256), np.uint8)
    # The difference of two such noises has the variance (256² - 1) / 6.
    expected = 10 * np.log10(255**2 * 6 / (256**2 - 1))
    assert psnr(a, b, 255) == pytest.approx(expected, abs=0.05)
    assert psnr(a, b, 255) == pytest.approx(7.7, abs=0.1)
    wrapped = 10 * np.log10(255**2 / np.mean((a - b) ** 2))  # uint8 throughout, as it was once done
    assert wrapped == pytest.approx(27.9, abs=0.1)
    assert psnr(a, b, 255) == pytest.approx(
        peak_signal_noise_ratio(*tensors(a, b), data_range=255.0).item()
    )
    assert psnr(a, a, 255) == np.inf


@pytest.mark.parametrize("shape", [(96, 80), (33, 64)])
def test_ssim_is_that_of_torchmetrics(shape):
    a, b = two_planes(shape)
    # Theirs also averages the margins, where the picture is mirrored; Wang 2004 leaves them out.
    _, whole = structural_similarity_index_measure(
        *tensors(a, b), data_range=1.0, return_full_image=True
    )
    assert ssim(a, b, 1.0) == pytest.approx(whole[..., 5:-5, 5:-5].mean().item(), abs=1e-6)
    assert 0.05 < ssim(a, b, 1.0) < 0.95
    assert ssim(b, b, 1.0) == pytest.approx(1)
    assert np.isnan(ssim(a[:10], b[:10], 1.0))


def test_ms_ssim_is_that_of_its_paper_over_scipys_filters():
    """The contrast-structure of the first four scales times the similarity of the last."""
    a, b = two_planes((192, 176), noise=0.4)
    expected, x, y = 1.0, a, b
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mx, my, xx, yy, xy = (
            ndimage.gaussian_filter(plane, 1.5, truncate=3.5, mode="mirror")
            for plane in (x, y, x * x, y * y, x * y)
        )
        structure = (2 * (xy - mx * my) + 0.03**2) / (xx - mx**2 + yy - my**2 + 0.03**2)
        luminance = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
        # torchmetrics averages the last scale over its margins too.
        last = scale == 4
        value = (luminance * structure).mean() if last else structure[5:-5, 5:-5].mean()
        expected *= value**weight
        x, y = (
            plane[: plane.shape[0] // 2 * 2, : plane.shape[1] // 2 * 2]
            .reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2)
            .mean((1, 3))
            for plane in (x, y)
        )
    assert ms_ssim(a, b, 1.0) == pytest.approx(expected, abs=1e-4)
    assert 0.3 < expected < 0.95
    assert ms_ssim(b, b, 1.0) == pytest.approx(1)
    assert np.isnan(ms_ssim(a[:175], b[:175], 1.0))


def test_nrmse_is_that_of_torchmetrics():
    a, b = two_planes()
    theirs = normalized_root_mean_squared_error(
        torch.from_numpy(a.ravel()), torch.from_numpy(b.ravel()), normalization="l2"
    )
    # Theirs divides by the norm, a sum over pixels, and not by the root mean square.
    assert nrmse(a, b) == pytest.approx(theirs.item() * np.sqrt(b.size))
    assert nrmse(np.array([[3.0, 4.0]]), np.array([[3.0, 0.0]])) == pytest.approx(4 / 3)
    assert np.isnan(nrmse(a, np.zeros_like(a)))


def test_a_blank_picture_has_the_normalised_error_1():
    a, b = two_planes()
    assert normalised_mse(np.full_like(b, b.mean()), b) == pytest.approx(1)
    assert normalised_mse(b, b) == 0
    # What the prediction leaves unexplained, which is how statistics knows it.
    theirs = 1 - r2_score(torch.from_numpy(a.ravel()), torch.from_numpy(b.ravel())).item()
    assert normalised_mse(a, b) == pytest.approx(theirs)
    counts = (100 * b).astype(np.uint8)
    assert normalised_mse(np.zeros_like(counts), counts) > 1  # unsigned, and does not wrap
    assert np.isnan(normalised_mse(a, np.ones_like(b)))


def test_foreground_pearson_is_that_of_the_bright_pixels():
    rng = np.random.default_rng(3)
    target = rng.normal(10, 1, (40, 40))
    target[10:20, 10:30] += 100
    prediction = rng.normal(0, 1, (40, 40))
    prediction[10:20, 10:30] += 0.5 * target[10:20, 10:30]
    bright = np.zeros((40, 40), bool)
    bright[10:20, 10:30] = True
    t = Picture(target, 0.1)
    np.testing.assert_array_equal(t.foreground, bright)
    found = score(Picture(prediction, 0.1), t, ["foreground_pearson"])["foreground_pearson"]
    assert found == pytest.approx(stats.pearsonr(prediction[bright], target[bright]).statistic)
    assert found < 0.7 < stats.pearsonr(prediction.ravel(), target.ravel()).statistic
    assert np.isnan(foreground_pearson(prediction, target, np.zeros_like(bright)))


def test_every_metric_on_one_pair_and_what_does_not_change_with_scale():
    a, b = two_planes((180, 180))
    prediction, target = Picture(a, 0.1), Picture((b * 3000 + 100).astype(np.uint16), 0.1)
    found = score(prediction, target, METRICS)
    assert list(found) == [column.name for column in columns_of(METRICS)]
    assert np.isfinite(list(found.values())).all()
    theirs = pearson_corrcoef(
        torch.from_numpy(a.ravel()), torch.from_numpy(target.values.astype(np.float64).ravel())
    )
    assert found["pearson"] == pytest.approx(theirs.item())
    again = score(Picture(a * 7 - 3, 0.1), Picture(target.values * 2, 0.1), METRICS)
    assert again.pop("nmse") != pytest.approx(found.pop("nmse"))
    assert again == pytest.approx(found, abs=1e-5)


def test_the_data_range_is_the_targets():
    _, b = two_planes()
    target = Picture(b, 0.1)
    ours = target.in_range_of(target)
    low, high = np.percentile(b, (0.1, 99.9))
    np.testing.assert_allclose(ours, np.clip((b - low) / (high - low), 0, 1), atol=1e-9)
    # A prediction of half the contrast is brought to the target's.
    np.testing.assert_allclose(Picture(b / 2 + 5, 0.1).in_range_of(target), ours, atol=1e-9)


def test_constant_predictions_are_scored_and_not_refused():
    _, b = two_planes((180, 180))
    found = score(Picture(np.zeros_like(b), 0.1), Picture(b, 0.1), METRICS)
    assert found["pearson"] == 0
    assert found["dice"] == 0
    assert found["count"] == found["length_um"] == 0
    assert np.isnan(found["frc_um"])
    assert np.isfinite(found["ssim"])


def test_metrics_are_chosen_by_name():
    assert choose_metrics(["PSNR", " ms-ssim"]) == ("pearson", "ms_ssim", "psnr")
    assert choose_metrics(None) == (*METRICS, "flicker")
    with pytest.raises(SettingsError, match=r"no metric 'snr'.*pearson.*flicker"):
        choose_metrics(["snr"])
