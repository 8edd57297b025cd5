"""Lays pairs of small grey pictures over each other, and says how alike they are then.

A second copy of a photograph is often cut, stretched or brightened a little. `register` finds the
stretch and the shift of each axis by Gauss and Newton's method, with the template's gradients (the
inverse compositional algorithm, Baker and Matthews 2004); `alike` is the correlation of what is
left of the two when the brightness and the contrast around each pixel are taken away, so that two
different things before one sky are not alike.
"""

import numpy as np

# Of every pair: stretch and shift down, stretch and shift across. A shift of 2 is a whole picture.
IDENTITY = (1.0, 0.0, 1.0, 0.0)
_STRETCH = (0.6, 1.6)  # the most that a picture is stretched, and shifted
_SHIFT = 0.5
_STEP = np.array([0.1, 0.1, 0.1, 0.1], np.float32)
_RIM = 3 / 32  # of a side, which frames and padding often cover
_FLOOR = 20.0  # squared grey levels (of 255): where the picture is flatter, it is noise


def _centres(side: int) -> np.ndarray:
    """Returns where the pixels of a picture from -1 to 1 are, float32 [side]."""
    return ((2 * np.arange(side) + 1) / side - 1).astype(np.float32)


def _sampling(stretch: np.ndarray, shift: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (float32 [n, side, side] whose rows interpolate, bool [n, side]: is it inside)."""
    place = stretch[:, None] * _centres(side) + shift[:, None]
    index = ((place + 1) * side - 1) / 2
    within = np.clip(index, 0, side - 1)  # the edge goes on, where the dark would be an edge
    weights = np.maximum(0, 1 - np.abs(within[:, :, None] - np.arange(side, dtype=np.float32)))
    return weights, (index >= 0) & (index <= side - 1)


def warp(pictures: np.ndarray, warps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pictures as they lie over their templates, and 1 where they do, else 0.

    Args:
        pictures: float32 [n, side, side].
        warps: float32 [n, 4], see IDENTITY.
    """
    side = pictures.shape[1]
    down, is_row = _sampling(warps[:, 0], warps[:, 1], side)
    across, is_column = _sampling(warps[:, 2], warps[:, 3], side)
    inside = is_row[:, :, None] & is_column[:, None, :]
    return down @ pictures @ across.transpose(0, 2, 1), inside.astype(np.float32)


def _centred(pictures: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the pictures less their weighted means, 0 where the weight is 0."""
    total = np.maximum(weights.sum(axis=(1, 2), keepdims=True), 1)
    mean = (pictures * weights).sum(axis=(1, 2), keepdims=True) / total
    return (pictures - mean) * weights


def register(
    templates: np.ndarray, pictures: np.ndarray, warps: np.ndarray, steps: int
) -> np.ndarray:
    """Returns the warps, float32 [n, 4], that bring pictures nearest to their templates.

    Args:
        templates: float32 [n, side, side], slightly blurred.
        pictures: likewise.
        warps: float32 [n, 4] to start from.
        steps: how many steps of Gauss and Newton's method.
    """
    count, side = templates.shape[:2]
    at = _centres(side)
    scale = side / 2  # gradients are by pixel, and warps by half a picture
    down = np.gradient(templates, axis=1) * scale
    across = np.gradient(templates, axis=2) * scale
    maps = np.stack([down * at[:, None], down, across * at, across], axis=1)
    for _ in range(steps):
        warped, inside = warp(pictures, warps)
        template, warped = _centred(templates, inside), _centred(warped, inside)
        gain = (template * warped).sum(axis=(1, 2), keepdims=True)
        gain /= np.maximum((warped * warped).sum(axis=(1, 2), keepdims=True), 1)
        residual = (gain * warped - template).reshape(count, -1, 1)
        slopes = (maps * inside[:, None]).reshape(count, 4, -1)
        squares = slopes @ slopes.transpose(0, 2, 1)
        trace = np.trace(squares, axis1=1, axis2=2)[:, None, None]
        squares += (1e-3 * trace + 1) * np.eye(4, dtype=np.float32)
        step = np.clip(np.linalg.solve(squares, slopes @ residual)[..., 0], -_STEP, _STEP)
        stretch = warps[:, ::2] / (1 + step[:, ::2])
        shift = warps[:, 1::2] - stretch * step[:, 1::2]
        warps = np.empty_like(warps)
        warps[:, ::2] = np.clip(stretch, *_STRETCH)
        warps[:, 1::2] = np.clip(shift, -_SHIFT, _SHIFT)
    return warps


def blur(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures [n, side, side] under the binomial filter 1 4 6 4 1, edges repeated."""
    matrix = _blur_matrix(pictures.shape[1])
    return matrix @ pictures @ matrix.T


def _blur_matrix(side: int) -> np.ndarray:
    matrix = np.zeros((side, side), np.float32)
    for offset, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
        index = np.clip(np.arange(side) + offset, 0, side - 1)
        np.add.at(matrix, (np.arange(side), index), weight / 16)
    return matrix


def _local(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures less the brightness around each pixel, divided by the contrast there."""
    matrix = _blur_matrix(pictures.shape[1])
    matrix = matrix @ matrix
    detail = pictures - matrix @ pictures @ matrix.T
    return detail / np.sqrt(matrix @ (detail * detail) @ matrix.T + _FLOOR)


def alike(templates: np.ndarray, pictures: np.ndarray, warps: np.ndarray) -> np.ndarray:
    """Returns the correlation of local contrasts, float32 [n], -1..1, where the two overlap.

    Args:
        templates: float32 [n, side, side], grey levels 0..255.
        pictures: likewise.
        warps: float32 [n, 4], which lay the pictures over their templates.
    """
    warped, inside = warp(pictures, warps)
    rim = round(templates.shape[1] * _RIM)
    inside[:, :rim] = inside[:, -rim:] = 0
    inside[:, :, :rim] = inside[:, :, -rim:] = 0
    one, other = _centred(_local(templates), inside), _centred(_local(warped), inside)
    norm = np.sqrt((one * one).sum(axis=(1, 2)) * (other * other).sum(axis=(1, 2)))
    return (one * other).sum(axis=(1, 2)) / np.maximum(norm, 1e-3)
