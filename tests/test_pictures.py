"""Pictures: the right pixels at the right place, and never half a file."""

import numpy as np
import pytest
from PIL import Image

from livestain.pictures import Panel, coloured, draw_panels, overlay, save_picture, stretched


def test_stretched_uses_the_whole_range_and_survives_constants_and_nan():
    ramp = np.linspace(100, 4000, 64 * 64).reshape(64, 64)
    eight = stretched(ramp, 0, 100)
    assert (eight.min(), eight.max()) == (0, 255)
    assert np.all(np.diff(eight.ravel().astype(int)) >= 0)
    assert stretched(np.full((4, 4), 7)).max() == 0
    assert stretched(np.full((4, 4), np.nan)).max() == 0


def test_a_colour_is_a_colour():
    grey = np.full((2, 2), 255, np.uint8)
    assert coloured(grey, "FF00FF")[0, 0].tolist() == [255, 0, 255]
    mixed = overlay(np.full((2, 2), 100, np.uint8), grey, "FF00FF")
    assert mixed[0, 0].tolist() == [255, 75, 255]


def test_panels_show_their_images_and_a_bar_of_the_right_length():
    black, white = np.zeros((256, 256), np.uint8), np.full((256, 256), 200, np.uint8)
    picture = np.asarray(
        draw_panels([[Panel("left", black), Panel("right", white)]], pixel_size_um=0.1, caption="c")
    )
    assert picture.shape[1] > 2 * 256
    assert (picture[40, 40] == 0).all()
    assert (picture[40, 400] == 200).all()
    # 256 px of 0.1 um: a quarter is 6.4 um, so the bar is 5 um = 50 px of pure white.
    rows = (picture == 255).all(axis=2).sum(axis=1)
    assert rows.max() == 50 + 1


def test_small_images_are_enlarged_by_a_whole_factor():
    picture = draw_panels([[Panel("x", np.zeros((64, 64), np.uint8))]], pixel_size_um=0.1)
    assert picture.width == 4 * 64 + 16


def test_long_titles_are_cut_to_the_panel():
    panel = Panel("a very long title " * 20, np.zeros((64, 64), np.uint8))
    assert draw_panels([[panel]], pixel_size_um=0.1).width == 4 * 64 + 16


@pytest.mark.parametrize("existing", [False, True])
def test_saving_leaves_one_whole_file(tmp_path, existing):
    path = tmp_path / "latest.png"
    if existing:
        path.write_bytes(b"old")
    save_picture(Image.new("RGB", (3, 3), (1, 2, 3)), path)
    assert Image.open(path).getpixel((1, 1)) == (1, 2, 3)
    assert list(tmp_path.iterdir()) == [path]
