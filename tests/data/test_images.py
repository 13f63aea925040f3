"""Area averaging and shifting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptrlib.data.images import area_average, shift


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("height", "width", "size"), [(12, 12, 4), (12, 12, 6), (8, 16, 4), (34, 34, 2)])
def test_whole_factors_average_blocks(height: int, width: int, size: int) -> None:
    images = random_images(2, height, width, 3)
    blocks = images.reshape(2, size, height // size, size, width // size, 3).mean((2, 4))
    assert np.abs(area_average(images, size) - blocks).max() <= 0.5


def test_other_factors_weigh_pixels_by_their_area() -> None:
    images = random_images(3, 3, 3)  # one 3 x 3 picture to 2 x 2: the middle row and column count half
    expected = (images[:2, :2] * np.array([[1, 0.5], [0.5, 0.25]])[..., None]).sum((0, 1)) / 2.25
    assert np.abs(area_average(images, 2)[0, 0] - expected).max() <= 0.5


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 255))
def test_a_flat_picture_stays_flat(height: int, width: int, size: int, value: int) -> None:
    if size <= min(height, width):
        small = area_average(np.full((height, width, 3), value, np.uint8), size)
        assert small.shape == (size, size, 3) and (small == value).all()


def test_the_right_size_is_not_copied_and_enlarging_is_refused() -> None:
    images = random_images(2, 4, 4, 3)
    assert np.shares_memory(area_average(images, 4), images)
    with pytest.raises(ValueError, match=r"4 x 4 pixels cannot be shrunk to 8 x 8; set network.image_size"):
        area_average(images, 8)


@given(st.integers(-3, 3), st.integers(-3, 3))
def test_shift_repeats_the_edge(down: int, right: int) -> None:
    images = random_images(2, 6, 5, 3)
    rows = np.clip(np.arange(6) - down, 0, 5)
    columns = np.clip(np.arange(5) - right, 0, 4)
    np.testing.assert_array_equal(shift(images, down, right), images[:, rows][:, :, columns])
