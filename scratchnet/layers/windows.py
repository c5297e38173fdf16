"""The geometry of windows that slide over an image, for Conv2d and the pooling layers: padding and output size.

int or pair      so many zeros on either side of that axis      OH = floor((H + 2 p - KH) / stride) + 1
"valid"          none
"same"           as many as make                                OH = ceil(H / stride); an odd one goes behind
"""

from __future__ import annotations

from typing import Any

from scratchnet.arrays import Shape, check_choice, check_pair

Pair = tuple[int, int]


def check_padding(name: str, padding: Any, kernel_size: Pair, most: Pair, why: str) -> Pair | str:
    """Return `padding` as a pair (rows, columns), or "same".

    Args:
        name: how a message calls it, e.g. "Conv2d: padding".
        padding: int, pair of ints, "same" or "valid".
        kernel_size: (KH, KW), for the message.
        most: the largest padding allowed on each axis.
        why: what a larger one would break, for the message.
    """
    if isinstance(padding, str):
        return "same" if check_choice(name, padding, ("same", "valid")) == "same" else (0, 0)
    pair = check_pair(name, padding, minimum=0)
    if pair[0] > most[0] or pair[1] > most[1]:
        raise ValueError(f"{name}: expected at most {most} with kernel {kernel_size}, got {pair}; {why}")
    return pair


def place_windows(
    name: str, input_shape: Shape, kernel_size: Pair, stride: Pair, padding: Pair | str
) -> tuple[Pair, Pair]:
    """Lay windows over an image of (H, W, ...).

    Returns:
        (OH, OW): how many windows fit.
        (top, left): the padding before the image. Behind it, windows read as many zeros as they need.

    Raises:
        ValueError: the kernel is larger than the padded image.
    """
    image = input_shape[0], input_shape[1]
    if isinstance(padding, str):  # "same"
        size = -(-image[0] // stride[0]), -(-image[1] // stride[1])
        total = [max((n - 1) * step + k - cells, 0) for n, step, k, cells in zip(size, stride, kernel_size, image)]
        return size, (total[0] // 2, total[1] // 2)
    padded = image[0] + 2 * padding[0], image[1] + 2 * padding[1]
    if kernel_size[0] > padded[0] or kernel_size[1] > padded[1]:
        what = "input" if padded == image else "padded input"
        raise ValueError(
            f"{name}: kernel {kernel_size} is larger than its {what} {padded}; add padding or remove a pooling layer."
        )
    return ((padded[0] - kernel_size[0]) // stride[0] + 1, (padded[1] - kernel_size[1]) // stride[1] + 1), padding


def show_windows(kernel_size: Pair, stride: Pair, usual_stride: Pair, padding: Pair | str) -> str:
    """The arguments of a layer's repr, leaving out what is at its default."""
    shown = f"kernel_size={kernel_size}"
    if stride != usual_stride:
        shown += f", stride={stride}"
    if padding != (0, 0):
        shown += f", padding={padding!r}"
    return shown
