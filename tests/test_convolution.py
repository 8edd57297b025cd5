import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from cnn_jax import convolution as c

RNG = np.random.default_rng(0)


def image(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def windows(x, window, strides, pairs, fill):
    """Yields (row, column, the window's values) of a padded 2-D image, by a plain loop."""
    x = np.pad(x, pairs, constant_values=fill)
    rows = range(0, x.shape[0] - window[0] + 1, strides[0])
    columns = range(0, x.shape[1] - window[1] + 1, strides[1])
    for (i, top), (j, left) in itertools.product(enumerate(rows), enumerate(columns)):
        yield i, j, x[top : top + window[0], left : left + window[1]]


def by_loop(x, window, strides, pairs, fill, reduce):
    values = {(i, j): reduce(w) for i, j, w in windows(x, window, strides, pairs, fill)}
    result = np.zeros(np.add(max(values), 1))
    for position, value in values.items():
        result[position] = value
    return result


@pytest.mark.parametrize("shape", [(9, 7), (5, 12)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3), (5, 4)])
def test_agrees_with_scipy_where_nothing_is_padded(shape, kernel):
    x, k = image(*shape), image(*kernel)
    for ours, scipys in [
        (c.correlate2d, scipy.signal.correlate2d),
        (c.convolve2d, scipy.signal.convolve2d),
    ]:
        np.testing.assert_allclose(ours(x, k), scipys(x, k, "valid"), atol=1e-5)


@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 7)])
def test_same_padding_agrees_with_scipy_for_odd_kernels(kernel):
    x, k = image(9, 8), image(*kernel)
    np.testing.assert_allclose(
        c.correlate2d(x, k, padding="same"), scipy.signal.correlate2d(x, k, "same"), atol=1e-5
    )
    np.testing.assert_allclose(
        c.convolve2d(x, k, padding="same"), scipy.signal.convolve2d(x, k, "same"), atol=1e-5
    )


def test_full_padding_agrees_with_scipy():
    x, k = image(6, 5), image(3, 2)
    np.testing.assert_allclose(
        c.convolve2d(x, k, padding=((2, 2), (1, 1))), scipy.signal.convolve2d(x, k), atol=1e-5
    )


@pytest.mark.parametrize("stride", [2, (1, 3)])
@pytest.mark.parametrize("padding", [1, ((0, 1), (2, 0))])
def test_stride_and_padding_agree_with_plain_loops(stride, padding):
    x, k = image(9, 11), image(3, 2)
    strides = (stride, stride) if isinstance(stride, int) else stride
    pairs = ((padding,) * 2,) * 2 if isinstance(padding, int) else padding
    expected = by_loop(x, k.shape, strides, pairs, 0, lambda w: (w * k).sum())
    np.testing.assert_allclose(c.correlate2d(x, k, stride, padding), expected, atol=1e-5)


def test_one_kernel_filters_each_channel_and_a_layer_of_them_sums_over_channels():
    x, k, layer = image(7, 6, 3), image(3, 3), image(3, 3, 3, 4)
    apart = np.stack([scipy.signal.correlate2d(x[..., i], k, "valid") for i in range(3)], -1)
    np.testing.assert_allclose(c.correlate2d(x, k), apart, atol=1e-5)
    summed = [
        sum(scipy.signal.correlate2d(x[..., i], layer[..., i, f], "valid") for i in range(3))
        for f in range(4)
    ]
    np.testing.assert_allclose(c.correlate2d(x, layer), np.stack(summed, -1), atol=1e-4)


def test_convolution_of_an_impulse_is_the_kernel_and_correlation_the_turned_kernel():
    impulse, k = np.zeros((5, 5)), image(3, 3)
    impulse[2, 2] = 1
    np.testing.assert_allclose(c.convolve2d(impulse, k), k)
    np.testing.assert_allclose(c.correlate2d(impulse, k), k[::-1, ::-1])


def test_pixels_do_not_overflow():
    x = np.full((3, 3), 255, np.uint8)
    result = c.correlate2d(x, np.ones((3, 3)))
    assert result.dtype == jnp.float32
    assert result == 9 * 255
    assert c.correlate2d(jnp.zeros((3, 3), jnp.bfloat16), c.EDGE).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("x", "k"), [((5, 5, 3), (3, 3, 2, 4)), ((5,), (3, 3)), ((5, 5), (3, 3, 1, 4))]
)
def test_shapes_that_do_not_fit_are_refused(x, k):
    with pytest.raises(ValueError, match="does not fit"):
        c.correlate2d(np.zeros(x), np.zeros(k))


@pytest.mark.parametrize(
    ("w", "f", "s", "p", "expected"),
    [
        (32, 2, 1, 0, 31),  # the study CNN's first two convolutions and its first pool
        (31, 3, 1, 0, 29),
        (29, 2, 2, 0, 14),
        (7, 3, 1, 1, 7),
        (7, 3, 2, 0, 3),
        (6, 3, 2, 0, 2),  # floor: the last column is not reached
        (5, 5, 3, 0, 1),
        (224, 7, 2, (3, 3), 112),
        (224, 3, 2, (0, 1), 112),
        (1, 1, 5, 0, 1),
    ],
)
def test_output_size(w, f, s, p, expected):
    assert c.output_size(w, f, s, p) == expected


def test_output_size_counts_the_positions_of_the_window():
    for w, f, s, p in itertools.product(range(1, 9), range(1, 5), range(1, 4), range(3)):
        starts = [i for i in range(-p, w + p, s) if i + f <= w + p]
        if starts:
            assert c.output_size(w, f, s, p) == len(starts)
        else:
            with pytest.raises(ValueError, match="does not fit"):
                c.output_size(w, f, s, p)


@pytest.mark.parametrize(
    "arguments", [(0, 1), (3, 0), (3, 3, 0), (3, 3, 1, -1), (3, 3, 1, (0, -1))]
)
def test_output_size_refuses_illegal_values(arguments):
    with pytest.raises(ValueError, match="at least"):
        c.output_size(*arguments)


def test_same_padding_is_xlas():
    for w, f, s in itertools.product(range(1, 10), range(1, 6), range(1, 4)):
        pair = c.same_padding(w, f, s)
        assert [pair] == jax.lax.padtype_to_pads((w,), (f,), (s,), "SAME")
        assert c.output_size(w, f, s, pair) == -(-w // s)


def test_padding_is_one_of_the_legal_forms():
    assert c.padding_pairs("SAME", (5, 6), (3, 2), (1, 2)) == ((1, 1), (0, 0))
    assert c.padding_pairs(2, (5, 6), (3, 2), (1, 2)) == ((2, 2), (2, 2))
    with pytest.raises(ValueError, match="padding"):
        c.correlate2d(image(4, 4), image(2, 2), padding="full")


def test_a_window_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        c.correlate2d(image(4, 4), image(5, 3))
    with pytest.raises(ValueError, match="does not fit"):
        c.max_pool2d(image(4, 4), 5)


def test_pooling_padding_alone_is_refused():
    with pytest.raises(ValueError, match="whole pooling window"):
        c.average_pool2d(image(4, 4), 2, padding=2)


@pytest.mark.parametrize("shape", [(9, 7), (5, 8, 3)])
@pytest.mark.parametrize("window", [2, (2, 3)])
@pytest.mark.parametrize("stride", [None, 1])
@pytest.mark.parametrize("padding", ["valid", "same", 1])
def test_pooling_agrees_with_plain_loops(shape, window, stride, padding):
    x = image(*shape) - 5  # all negative: a zero from the padding would be the largest
    pair = (window, window) if isinstance(window, int) else window
    strides = pair if stride is None else (stride, stride)
    pairs = c.padding_pairs(padding, shape[:2], pair, strides)
    for ours, reduce in [(c.max_pool2d, np.nanmax), (c.average_pool2d, np.nanmean)]:
        expected = np.stack(
            [
                by_loop(channel, pair, strides, pairs, np.nan, reduce)
                for channel in np.moveaxis(x.reshape(*shape[:2], -1), -1, 0)
            ],
            -1,
        )
        result = np.asarray(ours(x, window, stride, padding))
        np.testing.assert_allclose(result.reshape(expected.shape), expected, rtol=1e-5)


def test_sobel_agrees_with_scipy_away_from_the_border():
    x = image(9, 11)
    gx, gy = scipy.ndimage.sobel(x, axis=1), scipy.ndimage.sobel(x, axis=0)
    inner = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(c.correlate2d(x, c.SOBEL_X), gx[inner], atol=1e-5)
    np.testing.assert_allclose(c.correlate2d(x, c.SOBEL_Y), gy[inner], atol=1e-5)
    np.testing.assert_allclose(c.sobel_magnitude(x), np.hypot(gx, gy)[inner], atol=1e-5)
    assert c.sobel_magnitude(image(9, 11, 3), padding="same").shape == (9, 11, 3)


def test_kernels_agree_with_scipys_filters():
    x = image(12, 11)
    for kernel, reference in [
        (c.LAPLACIAN, scipy.ndimage.laplace(x)),
        (c.EDGE, 9 * x - 9 * scipy.ndimage.uniform_filter(x, 3)),
        (c.SHARPEN, x - scipy.ndimage.laplace(x)),
        (c.IDENTITY, x),
        (c.averaging_kernel(5), scipy.ndimage.uniform_filter(x, 5)),
        (c.gaussian_kernel(7, 1.3), scipy.ndimage.gaussian_filter(x, 1.3, radius=3)),
    ]:
        margin = len(kernel) // 2
        inner = reference[margin:-margin, margin:-margin]
        np.testing.assert_allclose(c.correlate2d(x, kernel), inner, atol=1e-4)


def test_blurs_keep_the_mean_and_edges_ignore_even_ground():
    for kernel in [c.averaging_kernel(4), c.gaussian_kernel(5, 0.8), c.SHARPEN, c.IDENTITY]:
        assert kernel.sum() == pytest.approx(1, abs=1e-6)
    for kernel in [c.EDGE, c.LAPLACIAN, c.SOBEL_X, c.SOBEL_Y]:
        assert kernel.sum() == 0


def test_shared_kernels_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        c.EDGE[0, 0] = 5


def test_flatten_has_channels_innermost():
    x = image(2, 3, 4)
    assert c.flatten(x)[(1 * 3 + 2) * 4 + 3] == x[1, 2, 3]


def test_dense():
    x, w, b = image(5), image(5, 3), image(3)
    expected = [sum(x[i] * w[i, j] for i in range(5)) + b[j] for j in range(3)]
    np.testing.assert_allclose(c.dense(x, w, b), expected, rtol=1e-5)
