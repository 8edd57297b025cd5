"""Walks the study guides' calculations, each by a function of `cnn_jax.convolution`.

python examples/convolution.py
"""

import numpy as np

from cnn_jax import convolution as c

image = np.array(
    [[1, 2, 3, 0, 1], [0, 1, 2, 3, 0], [1, 0, 1, 2, 1], [2, 1, 0, 1, 2], [1, 2, 1, 0, 1]]
)
edge = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])  # turned by 180 degrees, it is the same
small, corner = np.arange(1, 10).reshape(3, 3), np.array([[0, 1], [1, 0]])

print("a 3 x 3 window has", c.output_size(5, 3), "places on 5 pixels: (5 - 3 + 2 * 0) / 1 + 1")
print("28 pixels stay", c.output_size(28, 3, stride=1, padding=1), "with one pixel of padding")
print("with stride 2 there are", c.output_size(28, 3, 2, 1), "places: half a place is none")
print("products at the first place:", image[:3, :3] * edge, "sum:", (image[:3, :3] * edge).sum())
print("edges of the 5 x 5 image:", c.convolve2d(image, edge))
print("3 x 3 with a 2 x 2 kernel:", c.convolve2d(small, corner))
print("Sobel, as a network computes it:", c.correlate2d(image, c.SOBEL_X))
print("Sobel, as mathematics does, with the kernel turned:", c.convolve2d(image, c.SOBEL_X))
print("28 x 28 with padding 1:", c.correlate2d(np.ones((28, 28)), edge, padding=1).shape)
print("max-pooling of [[1, 1], [5, 6]]:", c.max_pool2d([[1.0, 1], [5, 6]]))
print("flattened, row by row:", c.flatten(edge))
print("parameters of 32 kernels of 3 x 3 over 3 channels:", (3 * 3 * 3 + 1) * 32)
