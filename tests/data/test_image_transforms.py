"""RandomCrop, RandomHorizontalFlip and RandomAffine against definitions written out pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import errors
from framework.data import ArrayDataset, DataLoader, Dataset
from framework.data import imagetransforms as it
from framework.data.reading import Reading, read_as
from framework.data.transforms import Compose, Normalize, RandomAffine, RandomCrop, RandomHorizontalFlip

KEY = 12345


def images(shape, dtype="uint8") -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, shape)
    return values.astype(dtype)


def drawn(transform, x, draws=1):
    """The transform's result, and the uniform numbers that it drew."""
    indices = np.arange(len(x)) * 7
    reading, shadow = Reading(KEY, indices), Reading(KEY, indices)
    out = read_as(reading, transform, x)
    return out, shadow.uniform(draws)


# -- crop ------------------------------------------------------------------------------------------


def padded(image, left, top, right, bottom, mode, fill):
    """One (h, w) image with added pixels."""
    h, w = image.shape

    def source(i, n):
        if 0 <= i < n:
            return i
        if mode == "edge":
            return min(max(i, 0), n - 1)
        period = 2 * (n - 1) if mode == "reflect" else 2 * n
        i %= period
        return i if i < n else period - i - (mode == "symmetric")

    out = np.empty((h + top + bottom, w + left + right), image.dtype)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            y, x = r - top, c - left
            if mode == "constant":
                out[r, c] = image[y, x] if 0 <= y < h and 0 <= x < w else fill
            else:
                out[r, c] = image[source(y, h), source(x, w)]
    return out


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize(
    ("padding", "sides"),
    [(None, (0, 0, 0, 0)), (2, (2, 2, 2, 2)), ((1, 3), (1, 3, 1, 3)), ((0, 1, 2, 3), (0, 1, 2, 3))],
)
def test_a_crop_is_a_window_of_the_padded_image(mode, padding, sides):
    x = images((5, 6, 7))
    before = x.copy()
    out, u = drawn(RandomCrop((4, 5), padding, fill=9, padding_mode=mode), x, 2)
    assert (out.dtype, out.shape) == (np.uint8, (5, 4, 5))
    for k in range(5):
        whole = padded(x[k], *sides, mode, 9)
        top = int(u[k, 0] * (whole.shape[0] - 4 + 1))
        left = int(u[k, 1] * (whole.shape[1] - 5 + 1))
        np.testing.assert_array_equal(out[k], whole[top : top + 4, left : left + 5])
    np.testing.assert_array_equal(x, before)


def test_crops_reach_every_place():
    x = np.arange(9, dtype=np.uint8).reshape(1, 3, 3).repeat(2000, 0)
    out = RandomCrop(1)(x)
    np.testing.assert_allclose(
        np.bincount(out.ravel(), minlength=9) / 2000, 1 / 9, rtol=0, atol=5 * math.sqrt(0.1 / 2000)
    )


def test_padding_if_needed():
    out, _ = drawn(RandomCrop((5, 3), pad_if_needed=True), np.ones((4, 3, 3), np.uint8), 2)
    assert out.shape == (4, 5, 3)
    with pytest.raises(errors.ShapeError, match="3 × 3 pixels .* no window of 5 × 3"):
        RandomCrop((5, 3))(np.ones((4, 3, 3), np.uint8))


# -- flip ------------------------------------------------------------------------------------------


def test_flips():
    x = images((50, 3, 4, 5))
    out, u = drawn(RandomHorizontalFlip(0.3), x)
    flipped = u[:, 0] < 0.3
    assert 0 < flipped.sum() < 50
    for k in range(50):
        np.testing.assert_array_equal(out[k], x[k][:, :, ::-1] if flipped[k] else x[k])
    np.testing.assert_array_equal(RandomHorizontalFlip(0.0)(x), x)


# -- affine ----------------------------------------------------------------------------------------


def affine_by_hand(image, angle, move, scale, shear, center, interpolation, fill):
    """Pixel by pixel, with the forward matrix inverted numerically."""
    h, w = image.shape
    rotation, sx, sy = (math.radians(v) for v in (angle, *shear))
    rotate = np.array([[math.cos(rotation), -math.sin(rotation)], [math.sin(rotation), math.cos(rotation)]])
    shear_y = np.array([[1, 0], [math.tan(sy), 1]])
    shear_x = np.array([[1, -math.tan(sx)], [0, 1]])
    # R(angle) · shear, in the decomposition R(a) · Shear_y(-sy) · Shear_x(sx), times the scale
    forward = scale * rotate @ np.linalg.inv(shear_y) @ shear_x
    backward = np.linalg.inv(forward)
    out = np.empty((h, w))
    for r in range(h):
        for c in range(w):
            x, y = backward @ (np.array([c, r]) - center - move) + center
            if interpolation == "nearest":
                i, j = round(y), round(x)
                out[r, c] = image[i, j] if 0 <= i < h and 0 <= j < w else fill
                continue
            value = 0.0
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    pixel = float(image[i, j]) if 0 <= i < h and 0 <= j < w else fill
                    value += pixel * (1 - abs(y - i)) * (1 - abs(x - j))
            out[r, c] = value
    return out


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("center", [None, (2.0, 3.5)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_affine_maps_are_what_their_angles_say(interpolation, center, dtype):
    x = images((6, 7, 6), dtype)
    transform = RandomAffine((-40, 70), (0.2, 0.3), (0.7, 1.6), (-20, 15, -10, 25), interpolation, 3, center)
    out, u = drawn(transform, x, 6)
    assert (out.dtype, out.shape) == (x.dtype, x.shape)
    middle = np.array([(6 - 1) / 2, (7 - 1) / 2] if center is None else [center[0] - 0.5, center[1] - 0.5])
    for k in range(6):
        angle, scale = -40 + 110 * u[k, 0], 0.7 + 0.9 * u[k, 3]
        move = np.rint((2 * u[k, 1:3] - 1) * [0.2 * 6, 0.3 * 7])
        shear = -20 + 35 * u[k, 4], -10 + 35 * u[k, 5]
        expected = affine_by_hand(x[k], angle, move, scale, shear, middle, interpolation, 3)
        if dtype == "uint8":
            np.testing.assert_array_less(np.abs(out[k] - expected), 0.5 + 1e-9 if interpolation == "bilinear" else 1e-9)
        else:
            np.testing.assert_allclose(out[k], expected, rtol=1e-6, atol=1e-4)


def test_known_maps():
    x = images((1, 5, 5))

    def warped(angle=0.0, move=(0, 0), scale=1.0, shear=(0, 0), how="nearest"):
        matrices = it.inverse_affine(*(np.array([v], float) for v in (angle, move, scale, shear)), (2.0, 2.0))
        return it.warp(x[:, None], matrices, how, 0)[0, 0]

    for how in ("nearest", "bilinear"):
        np.testing.assert_array_equal(warped(how=how), x[0])
        np.testing.assert_array_equal(warped(90, how=how), np.rot90(x[0], -1))  # clockwise
        np.testing.assert_array_equal(warped(180, how=how), x[0, ::-1, ::-1])
        moved = np.zeros((5, 5), np.uint8)
        moved[2:, 1:] = x[0, :-2, :-1]
        np.testing.assert_array_equal(warped(move=(1, 2), how=how), moved)
    assert warped(scale=5.0).tolist() == np.full((5, 5), x[0, 2, 2]).tolist()


# -- all -------------------------------------------------------------------------------------------

ALL = [RandomCrop(4, padding=1), RandomHorizontalFlip(), RandomAffine(20, (0.1, 0.1), (0.8, 1.2), 10)]


@pytest.mark.parametrize(
    "kind",
    [
        lambda **o: RandomCrop(4, padding=1, **o),
        lambda **o: RandomHorizontalFlip(**o),
        lambda **o: RandomAffine(20, **o),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int16", "bool"])
def test_layouts_agree(kind, dtype):
    x = images((4, 3, 6, 5), dtype)
    first, _ = drawn(kind(), x)
    last, _ = drawn(kind(channels_last=True), np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    plain, _ = drawn(kind(), x[:, 1])
    assert first.dtype == last.dtype == plain.dtype == x.dtype
    assert all(a.flags.c_contiguous and a.flags.writeable and not np.shares_memory(a, x) for a in (first, last, plain))
    np.testing.assert_array_equal(first, last.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(first[:, 1], plain)
    for transform in (kind(), kind(channels_last=True)):
        with pytest.raises(errors.ShapeError, match="a batch of images has shape"):
            transform(x[0, 0])


@given(st.permutations(range(12)), st.integers(1, 12))
def test_a_sample_is_transformed_alike_in_any_batch(order, size):
    x = images((12, 6, 6))
    data = ArrayDataset(x, np.arange(12), transform=Compose([*ALL, Normalize(0.5, 0.5)]))
    ((whole, _),) = DataLoader(data, -1, seed=4)
    for batch, labels in DataLoader(data, size, sampler=order, seed=4):
        np.testing.assert_array_equal(batch, whole[labels])


def test_transforms_of_single_samples_equal_those_of_batches():
    class Single(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            return Compose(ALL)(x[index : index + 1])[0]

    x = images((12, 6, 6))
    (single,) = DataLoader(Single(), -1, seed=4)
    ((batch,),) = DataLoader(ArrayDataset(x, transform=Compose(ALL)), -1, seed=4)
    np.testing.assert_array_equal(single, batch)


def test_epochs_differ_and_can_be_asked_for_again():
    loader = DataLoader(ArrayDataset(images((12, 6, 6)), transform=Compose(ALL)), -1, seed=4)
    ((first,),), ((second,),) = loader, loader
    assert not np.array_equal(first, second)
    loader.set_epoch(0)
    ((again,),) = loader
    np.testing.assert_array_equal(first, again)


def test_equal_transforms_in_a_row_draw_differently():
    flips = Compose([RandomHorizontalFlip(), RandomHorizontalFlip()])
    x = np.arange(3, dtype=np.uint8).reshape(1, 1, 3).repeat(100, 0)
    ((out,),) = DataLoader(ArrayDataset(x, transform=flips), -1, seed=0)
    assert 20 < sum(row.tolist() == [2, 1, 0] for row in out[:, 0]) < 80


def test_outside_a_loader_the_process_decides():
    import framework as fw

    x = images((8, 6, 6))
    fw.seed_everything(3)
    first, second = (RandomAffine(30)(x) for _ in range(2))
    assert not np.array_equal(first, second)
    fw.seed_everything(3)
    np.testing.assert_array_equal(RandomAffine(30)(x), first)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RandomCrop(0), "size must be a number of pixels"),
        (lambda: RandomCrop((1, 2, 3)), "size"),
        (lambda: RandomCrop(2.0), "size"),
        (lambda: RandomCrop(2, padding=-1), "padding"),
        (lambda: RandomCrop(2, padding_mode="wrap"), "padding_mode is one of"),
        (lambda: RandomCrop(2, padding=1, fill=300)(images((1, 3, 3))), "fill=300 is no value of uint8"),
        (lambda: RandomHorizontalFlip(1.5), "probability"),
        (lambda: RandomAffine(-5), "degrees"),
        (lambda: RandomAffine((5, -5)), "degrees"),
        (lambda: RandomAffine("ten"), "degrees"),
        (lambda: RandomAffine(5, translate=(2, 0)), "translate"),
        (lambda: RandomAffine(5, translate=0.5), "translate"),
        (lambda: RandomAffine(5, scale=(0, 1)), "scale"),
        (lambda: RandomAffine(5, scale=(2, 1)), "scale"),
        (lambda: RandomAffine(5, shear=(1, 2, 3)), "shear"),
        (lambda: RandomAffine(5, interpolation="cubic"), "'nearest' or 'bilinear', got 'cubic'"),
        (lambda: RandomAffine(5, center=3), "center"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(errors.ConfigError, match=text):
        make()
