"""What is timed: every operation of kernels/, at the sizes of nets that people train, batch 128 unless another is said.

    MLP      784-1000-1000-10 on MNIST                     CNN      28x28, 3x3 convolutions 32 and 64, dense 128
    CIFAR    32x32x3, 5x5 convolutions 64, 64, 128, 1000   IMDB     10,000 words -> 1 or 2, CSR
    VAE      784-500-50

Counted are the operations and bytes that no method can do without. Bytes: each array once, one that is read and written
twice. Operations: + - * / and comparison, square root, exp, log, tanh one each, per element as the equation in
reference/ has them; for products 2 per multiply-add, and only those with cells inside the image. (Winograd's
convolutions multiply less than that; so would one that skips what pooling gives no gradient; hashing in dropout is
integer arithmetic and not counted.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from scratchnet.kernels.gather import gather

Shape = tuple[int, ...]
Spec = Shape | Callable[[np.random.Generator], np.ndarray]  # normal float32 numbers of a shape, or how to make an array

N = 128  # examples in a batch
IMAGES = (N, 26, 26, 32)  # behind the CNN's first convolution
FLAT = (N, 1000)  # behind a dense layer of the MLP
MLP_PARAMETERS, CNN_PARAMETERS = 1_796_010, 225_034
KEY = np.uint64(0x9E3779B97F4A7C15)


class Case(NamedTuple):
    """One call: operation(*written, *read, *scalars)."""

    operation: str
    size: str
    flops: int
    written: tuple[Spec, ...]
    read: tuple[Spec, ...] = ()
    scalars: tuple[Any, ...] = ()
    in_place: bool = False  # what is written is read as well
    spared: int = 0  # bytes of the arrays that need not be touched
    functions: tuple[Callable[..., None], Callable[..., None]] | None = None  # kernel and NumPy, if not of that name
    winograd: bool = True  # False: convolve directly

    @property
    def name(self) -> str:
        """Operation and size."""
        return f"{self.operation} {self.size}"

    def arguments(self, rng: np.random.Generator) -> tuple[list[Any], int]:
        """Make the arguments; returns them, and the bytes that the call can't do without."""
        arrays = [_make(spec, rng) for spec in (*self.written, *self.read)]
        again = arrays[: len(self.written)] if self.in_place else []
        return [*arrays, *self.scalars], sum(array.nbytes for array in (*arrays, *again)) - self.spared


def all_cases() -> list[Case]:
    """Every case; each operation of kernels/ has one at least, and tests/test_bench.py sees to it."""
    return [
        *_dense(),
        *_conv(),
        *_direct(),
        *_joined(),
        *_pooling(),
        *_elementwise(),
        *_norm(),
        *_losses(),
        *_sparse(),
        *_gathering(),
        *_updates(),
    ]


def _make(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    return spec(rng) if callable(spec) else rng.standard_normal(spec, np.float32)


def _positive(shape: Shape) -> Spec:
    return lambda rng: rng.uniform(0.5, 2, shape).astype(np.float32)


def _integers(shape: Shape, count: int, dtype: Any, first: int = 0) -> Spec:
    return lambda rng: rng.integers(first, first + count, shape).astype(dtype)


def _float64(shape: Shape) -> Spec:
    return lambda rng: np.full(shape, 1 / N)


def _always(array: np.ndarray) -> Spec:
    return lambda rng: array


def _nothing(rng: np.random.Generator) -> np.ndarray:
    return np.empty(0, np.float32)


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape))


# --- products ----------------------------------------------------------------------------------------------------


def _dense() -> Iterator[Case]:
    yield Case("dense_forward", "1x784->1000", 2 * 784 * 1000, ((1, 1000),), ((1, 784), (784, 1000), (1000,)))
    for d, u in ((784, 1000), (1000, 1000), (500, 784), (1000, 10), (784, 10)):
        size, flops = f"{N}x{d}->{u}", 2 * N * d * u
        yield Case("dense_forward", size, flops, ((N, u),), ((N, d), (d, u), (u,)))
        yield Case("dense_backward_weight", size, flops, ((d, u), (u,)), ((N, d), (N, u)))
        if d != 784:  # the first layer of a net has no use for dx
            yield Case("dense_backward_input", size, flops, ((N, d),), ((N, u), (d, u)))
    yield from _dense_chain(32, 64, 64, 10)
    yield from _dense_chain(N, 784, 1000, 1000, 10)


def _dense_chain(rows: int, *widths: int) -> Iterator[Case]:
    """All layers of an MLP: of the one that learns digits, and of MNIST's. The first has no use for dx."""
    products = [d * u for d, u in pairwise(widths)]
    size, rectified = f"{rows}x{'->'.join(map(str, widths))}", rows * sum(widths[1:-1])
    x, params, ys = (rows, widths[0]), (sum(products) + sum(widths[1:]),), (rows * sum(widths[1:]),)
    flops = 2 * rows * sum(products) + rectified
    yield Case("dense_chain_forward", size, flops, (ys,), (x, params), (widths, False))
    flops += 2 * rows * sum(products[1:])
    arrays = ((0, 0), params, ys), ((rows, widths[-1]), ys, x, params)
    yield Case("dense_chain_backward", size, flops, *arrays, (widths, False))


def _sparse() -> Iterator[Case]:
    words, in_each = 10_000, 130
    batch = csr_batch(np.random.default_rng(0), N, words, in_each)
    absent = words - np.unique(batch[1]).size  # rows of the weights that no text asks for
    csr = tuple(map(_always, batch))
    for units in (1, 2, 100):
        size, flops = f"{N}x{words}->{units}", 2 * N * in_each * units
        read: tuple[Spec, ...] = (*csr, (words, units), (units,))
        yield Case("csr_dense_forward", size, flops, ((N, units),), read, spared=4 * absent * units)
        yield Case("csr_dense_backward_weight", size, flops, ((words, units), (units,)), (*csr, (N, units)))


def _gathering() -> Iterator[Case]:
    """A batch of images out of a dataset of bytes."""
    images, pixels = 10_000, 3072

    def plain(batch: np.ndarray, rows: np.ndarray, index: np.ndarray) -> None:
        np.divide(rows[index], np.float32(255), out=batch)

    rows = _integers((images, pixels), 256, np.uint8)
    index = _integers((N,), images, np.int64)
    spared = (images - N) * pixels
    yield Case(
        "gather", f"{N}x{pixels}", N * pixels, ((N, pixels),), (rows, index), spared=spared, functions=(gather, plain)
    )


def csr_batch(rng: np.random.Generator, rows: int, words: int, in_each: int = 130) -> tuple[np.ndarray, ...]:
    """(indptr, indices, data) of texts of so many different words, frequent ones more often (Zipf's law)."""
    share = 1 / np.arange(10, words + 10)
    indices = [np.sort(rng.choice(words, in_each, False, share / share.sum())) for _ in range(rows)]
    indptr = np.arange(rows + 1) * in_each
    return indptr.astype(np.int32), np.concatenate(indices).astype(np.int32), np.ones(rows * in_each, np.float32)


def _conv() -> Iterator[Case]:
    #    batch, H, C, U, kernel, padding; the first of a net has no use for its input's gradient
    for n, h, c, u, k, pad in (
        (N, 28, 1, 32, 3, 0),
        (N, 13, 32, 64, 3, 0),
        (N, 32, 3, 64, 5, 2),
        (N, 16, 64, 64, 5, 2),
        (N, 8, 64, 128, 5, 2),
        (32, 16, 64, 64, 5, 2),  # a batch of which threads find less to share
    ):
        out = h + 2 * pad - k + 1
        x, y, weight = (n, h, h, c), (n, out, out, u), (k, k, c, u)
        flops = 2 * n * c * u * _cells_inside(h, out, k, pad) ** 2
        size, windows = f"{'' if n == N else f'{n}x'}{h}x{h}x{c}->{u} {k}x{k}", ((1, 1), (pad, pad))
        yield Case("conv2d_forward", size, flops, (y,), (x, weight, (u,)), windows)
        yield Case("conv2d_backward_weight", size, flops, (weight, (u,)), (x, y), windows)
        if c > 3:
            yield Case("conv2d_backward_input", size, flops, (x,), (y, weight), windows)


def _direct() -> Iterator[Case]:
    """What Winograd's transforms serve, without them."""
    for case in _conv():
        if case.size in ("13x13x32->64 3x3", "16x16x64->64 5x5"):
            yield case._replace(size=f"{case.size} direct", winograd=False)


def _joined() -> Iterator[Case]:
    """The CNN's blocks, and the second of the CIFAR net: convolution, ReLU and max pooling as one."""
    #    H, C, U, kernel, padding; pool, its stride and padding; H of the pooled images
    for h, c, u, k, pad, pool, step, edge, pooled in (
        (28, 1, 32, 3, 0, 2, 2, 0, 13),
        (13, 32, 64, 3, 0, 2, 2, 0, 5),
        (16, 64, 64, 5, 2, 3, 2, 1, 8),
    ):
        out = h + 2 * pad - k + 1
        x, y, weight = (N, h, h, c), (N, pooled, pooled, u), (k, k, c, u)
        read = min(out, (pooled - 1) * step + pool - edge)  # rows of the convolution that windows of the pool reach
        flops = 2 * N * c * u * _cells_inside(h, read, k, pad) ** 2
        compared = 2 * N * u * read**2  # by ReLU and by the pool
        index = _integers(y, pool * pool, np.uint8) if edge == 0 else _integers(y, 1, np.uint8, pool + 1)
        windows = (out, out), (1, 1), (pad, pad), (pool, pool), (step, step), (edge, edge)
        size, dx = f"{h}x{h}x{c}->{u} {k}x{k}", x if c > 1 else _nothing
        passes = 2 if c > 1 else 1
        yield Case("conv2d_relu_max_pool2d_forward", size, flops + compared, (y, index), (x, weight, (u,)), windows)
        yield Case(
            "conv2d_relu_max_pool2d_backward",
            size,
            passes * flops,
            (dx, weight, (u,)),
            (y, y, index, x, weight),
            windows,
        )


def _cells_inside(length: int, windows: int, cells: int, before: int) -> int:
    """Along one axis: how many cells of all windows lie in the image."""
    return sum(0 <= o + i - before < length for o in range(windows) for i in range(cells))


def _pooling() -> Iterator[Case]:
    for h, c, out in ((26, 32, 13), (32, 64, 16)):
        x, y = (N, h, h, c), (N, out, out, c)
        windows, index, count = ((2, 2), (2, 2), (0, 0)), _integers(y, 4, np.uint8), N * h * h * c
        yield Case("max_pool2d_forward", f"{h}x{h}x{c} 2x2", count, (y, index), (x,), windows)
        yield Case("max_pool2d_backward", f"{h}x{h}x{c} 2x2", count, (x,), (y, index), windows)
    yield Case("relu_max_pool2d_forward", f"{h}x{h}x{c} 2x2", 2 * count, (y, index), (x,), windows)
    yield Case("relu_max_pool2d_backward", f"{h}x{h}x{c} 2x2", 2 * count, (x,), (y, y, index), windows)
    yield Case("avg_pool2d_forward", f"{h}x{h}x{c} 2x2", count, (y,), (x,), windows)
    yield Case("avg_pool2d_backward", f"{h}x{h}x{c} 2x2", count, (x,), (y,), windows)
    x, count = (N, 8, 8, 128), N * 8 * 8 * 128
    yield Case("global_avg_pool2d_forward", "8x8x128", count, ((N, 128),), (x,))
    yield Case("global_avg_pool2d_backward", "8x8x128", count, (x,), ((N, 128),))


# --- one pass over arrays ----------------------------------------------------------------------------------------


def _elementwise() -> Iterator[Case]:
    #    operation, operations per element, arrays read, scalars
    rows: tuple[tuple[str, int, int, tuple[Any, ...]], ...] = (
        ("relu_forward", 1, 1, ()),
        ("relu_backward", 1, 2, ()),
        ("leaky_relu_forward", 2, 1, (0.01,)),
        ("leaky_relu_backward", 2, 2, (0.01,)),
        ("sigmoid_forward", 4, 1, ()),
        ("sigmoid_backward", 3, 2, ()),
        ("tanh_forward", 1, 1, ()),
        ("tanh_backward", 3, 2, ()),
        ("softplus_forward", 5, 1, ()),
        ("softplus_backward", 5, 2, ()),
        ("dropout_forward", 1, 1, (KEY, 0.2)),
        ("dropout_backward", 1, 1, (KEY, 0.2)),
        ("residual_forward", 1, 2, ()),
        ("residual_backward", 1, 2, ()),
    )
    for name, flops, reads, scalars in rows:
        for shape in (FLAT, IMAGES):
            yield Case(name, _size(shape), flops * int(np.prod(shape)), (shape,), (shape,) * reads, scalars)


def _norm() -> Iterator[Case]:
    for rows, c in ((N * 28 * 28, 32), (N, 1000)):
        x, channel, positive = (rows, c), (c,), _positive((c,))
        size, count = _size(x), rows * c
        yield Case("batch_norm_forward", size, 7 * count, (x, channel, channel), (x, channel, channel), (1e-5,))
        yield Case("batch_norm_apply", size, 3 * count, (x,), (x, channel, positive, channel, channel), (1e-5,))
        read = (x, x, channel, positive, channel)
        yield Case("batch_norm_backward", size, 10 * count, (x, channel, channel), read, (1e-5,))


def _losses() -> Iterator[Case]:
    weight = _float64((N,))
    labels, classes = _integers((N,), 10, np.int64), (N, 10)
    yield Case("softmax_cross_entropy", _size(classes), 5 * N * 10, (weight, classes), (classes, labels, weight))
    image, latent, pixels = (N, 784), (N, 50), N * 784
    targets = _integers(image, 2, np.float32)
    yield Case("binary_cross_entropy", _size(image), 12 * pixels, (weight, image), (image, targets, weight))
    yield Case("mse", _size(image), 4 * pixels, (weight, image), (image, image, weight))
    yield Case("gaussian_kl", _size(latent), 7 * N * 50, (weight, latent, latent), (latent, latent, weight))


def _updates() -> Iterator[Case]:
    #    operation, operations per parameter, state arrays, scalars; rates so small that no number of steps gets far
    rows: tuple[tuple[str, int, str, tuple[Any, ...]], ...] = (
        ("sgd_update", 7, "m", (1e-6, 0.9, 0.0, 1e-4, False)),
        ("adagrad_update", 9, "v", (1e-6, 1e-10, 0.0)),
        ("adadelta_update", 18, "vv", (1e-6, 0.9, 1e-6, 0.0)),
        ("rmsprop_update", 11, "v00", (1e-6, 0.99, 1e-8, 0.0, 0.0)),
        ("adam_update", 17, "mv0", (1e-6, 1.0, 0.9, 0.999, 1e-8, 0.0, 0.0)),
        ("adamax_update", 12, "mv", (1e-6, 0.9, 0.999, 1e-8, 0.0)),
        ("nadam_update", 19, "mv", (1e-6, 1e-6, 1.0, 0.9, 0.999, 1e-8, 0.0, 0.0)),
        ("radam_update", 16, "mv", (1e-6, 0.9, 0.999, 1e-8, 0.0, 0.0, True)),
        ("lion_update", 11, "m", (1e-6, 0.9, 0.99, 0.0)),
    )
    for name, flops, states, scalars in rows:
        for p in (CNN_PARAMETERS, MLP_PARAMETERS) if name == "adam_update" else (MLP_PARAMETERS,):
            made: dict[str, Spec] = {"m": (p,), "v": _positive((p,)), "0": _nothing}
            written = ((p,), *(made[state] for state in states))
            yield Case(name, f"{p:,}", flops * p, written, ((p,),), scalars, in_place=True)
    p = MLP_PARAMETERS
    yield Case("squared_norm", f"{p:,}", 2 * p, (_float64((1,)),), ((p,),))
    yield Case("scale_gradients", f"{p:,}", p, ((p,),), (), (1.0,), in_place=True)
    yield Case("clip_gradients", f"{p:,}", 2 * p, ((p,),), (), (1.5,), in_place=True)
