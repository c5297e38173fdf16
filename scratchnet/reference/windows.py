"""Windows that slide over an image, for convolution and pooling: padding, and the strided slice that is one tap."""

from __future__ import annotations

import numpy as np

Pair = tuple[int, int]


def pad(x: np.ndarray, kernel_size: Pair, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Copy x, (N, H, W, C), with `padding` = (top, left) zeros before it, and behind it enough for `size` windows."""
    before_after = [(0, 0)]
    for cells, kernel, windows, step, before in zip(x.shape[1:3], kernel_size, size, stride, padding):
        reach = (windows - 1) * step + kernel  # the last window ends here
        before_after.append((before, max(reach - before - cells, 0)))
    return np.pad(x, [*before_after, (0, 0)])


def crop(x: np.ndarray, padded: np.ndarray, padding: Pair) -> None:
    """Undo `pad`: x = the part of `padded` that is the image."""
    (top, left), (height, width) = padding, x.shape[1:3]
    x[...] = padded[:, top : top + height, left : left + width]


def tap(padded: np.ndarray, i: int, j: int, size: Pair, stride: Pair) -> np.ndarray:
    """View cell (i, j) of every window: (N, OH, OW, C), window (oh, ow) at (oh sh + i, ow sw + j) of `padded`."""
    (height, width), (step_h, step_w) = size, stride
    return padded[:, i : i + step_h * height : step_h, j : j + step_w * width : step_w]
