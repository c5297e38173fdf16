"""Batches: every row once per epoch, in an order that only `seed` and `epoch` decide: there is nothing to save."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchnet.arrays import (
    FLOATS,
    check_array,
    check_choice,
    check_csr,
    check_finite,
    check_integer,
    is_plain_array,
    is_sparse,
    show_shape,
)
from scratchnet.kernels.gather import gather, gather_csr

LARGEST_SEED = 2**64 - 1
ROWS_AT_ONCE = 4096  # of the check for NaN: bounds the memory it takes


class Rows:
    """Some rows of an array: a view by index, which copies nothing until rows are asked for.

    It reads like an array of those rows: shape, dtype, len(), rows[i], rows[[i, j]], rows[i:j], np.asarray(rows).

    Args:
        array: (N, ...), any dtype, may be memory-mapped.
        index: (M,) integers: row i of the view is array[index[i]].
    """

    def __init__(self, array: np.ndarray, index: np.ndarray) -> None:
        if not is_plain_array(index) or index.ndim != 1 or index.dtype.kind not in "iu":
            raise TypeError(f"Rows: index: expected a 1-D array of integers, got {index!r:.60}")
        if not is_plain_array(array) or array.ndim == 0:
            raise TypeError(f"Rows: array: expected a NumPy array with rows, got {type(array).__name__}")
        self.array, self.index = array.view(), index.view()  # of shapes of their own
        self.shape, self.dtype = (len(index), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.array[self.index[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Rows: expected leave to copy, got copy=False; the rows do not stand together in memory")
        return np.asarray(self.array[self.index], dtype=dtype)


def batches(
    x: Any,
    y: np.ndarray,
    batch_size: int = 128,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    start: int = 0,
    dtype: str = "float32",
    reuse: bool = False,
) -> Iterator[tuple[Any, np.ndarray]]:
    """Cut one epoch into batches. The last one may be short; none is dropped.

    Only one batch at a time is ever converted to float. Each is a fresh copy, unless `reuse` is asked for.

    Args:
        x: (N, ...) uint8 pixels, scaled to [0, 1]; or float32 / float64, or CSR, given on in `dtype`. Read.
            Also as Rows, as `hold_out` makes them.
        y: (N,) integer labels; or (N, ...) float32 / float64 targets, as `mse` takes them, given on in `dtype`. Read.
        batch_size: rows per batch.
        seed, epoch: fix the order of the rows; two epochs of one seed have unrelated orders.
        shuffle: False keeps the rows in order, as for evaluation.
        start: the first batch to give, counted from 0: training that stopped in mid-epoch continues there.
        dtype: "float32" or "float64", that of the net.
        reuse: True writes every batch into the same memory, so that a training loop allocates nothing: a batch is gone
            when the next one is asked for.

    Returns:
        an iterator of (x_batch, y_batch): float or CSR, and int64 or float.

    Raises:
        TypeError, ValueError: an argument does not fit, said before the first batch; NaN or infinity in x or y.
    """
    dtype = check_choice("batches: dtype", dtype, FLOATS)
    batch_size = check_integer("batches: batch_size", batch_size, minimum=1)
    x = _check_rows(x, dtype)
    y = _check_targets(y, x.shape[0], dtype)
    order = shuffled(len(y), seed, epoch) if shuffle else np.arange(len(y))
    start = check_integer("batches: start", start, minimum=0)
    count = count_batches(len(y), batch_size)
    if start > count:
        raise ValueError(f"batches: start: expected at most {count}, the batches of an epoch, got {start}")
    return _cut(x, y, order, range(start * batch_size, len(y), batch_size), batch_size, _Memory(reuse, dtype))


def count_batches(rows: int, batch_size: int) -> int:
    """The number of batches in an epoch over `rows` rows, a short last one included."""
    rows = check_integer("count_batches: rows", rows, minimum=0)
    return -(-rows // check_integer("count_batches: batch_size", batch_size, minimum=1))


def scale(images: np.ndarray | Rows, dtype: str = "float32") -> np.ndarray:
    """Turn pixels into floats.

        y = x / 255          0 -> 0, 255 -> 1 exactly

    Args:
        images: uint8, any shape; or Rows of such an array. Read.
        dtype: "float32" or "float64".

    Returns:
        a new array of `dtype`, of the same shape.
    """
    if isinstance(images, Rows):
        images = np.asarray(images)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        got = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise TypeError(f"scale: images: expected a uint8 array of pixels, got {got}")
    dtype = check_choice("scale: dtype", dtype, FLOATS)
    return np.divide(images, np.dtype(dtype).type(255), dtype=dtype)


def shuffled(rows: int, seed: int, stream: int) -> np.ndarray:
    """Return 0 .. rows-1 in an order that depends on (rows, seed, stream) alone.

    Sorts the raw 64-bit output of Philox (Salmon et al. 2011) keyed by (seed, stream): that output is the same on every
    machine and with every NumPy, which `Generator.permutation` does not promise.
    """
    key = [_check_seed("seed", seed), _check_seed("epoch", stream)]
    return np.argsort(np.random.Philox(key=np.array(key, np.uint64)).random_raw(rows), kind="stable")


class _Memory:
    """Where batches are written: new arrays, or the same ones again, which grow with the largest batch."""

    def __init__(self, reuse: bool, dtype: str) -> None:
        self.reuse, self.dtype = bool(reuse), np.dtype(dtype)
        self.kept: dict[str, np.ndarray] = {}

    def array(self, name: str, rows: int, shape: tuple[int, ...] = (), dtype: Any = None) -> np.ndarray:
        """An array of (rows, *shape), holding junk; of the batches' dtype unless another is given."""
        held = self.kept.get(name)
        if held is None or held.shape[0] < rows:
            held = np.empty((rows, *shape), dtype or self.dtype)
            if self.reuse:
                self.kept[name] = held
        return held[:rows]


def _cut(
    x: Any, y: np.ndarray, order: np.ndarray, starts: range, batch_size: int, memory: _Memory
) -> Iterator[tuple[Any, np.ndarray]]:
    rows, places = (x.array, x.index[order]) if isinstance(x, Rows) else (x, order)
    take = _take_csr if is_sparse(x) else _take
    plain = _is_plain(rows, places)
    for first in starts:
        chosen, index = order[first : first + batch_size], places[first : first + batch_size]
        targets = memory.array("targets", len(chosen), y.shape[1:], y.dtype)
        np.take(y, chosen, axis=0, out=targets, mode="clip")  # the other modes write to a copy first
        if plain:
            yield take(rows, index, memory), targets
        else:
            found = rows[index]
            found = scale(found, memory.dtype.name) if found.dtype == np.uint8 else found
            yield found.astype(memory.dtype, copy=False), targets


def _is_plain(rows: Any, index: np.ndarray) -> bool:
    """Whether the kernels can gather: every other layout would compile another version, for one pass over memory."""
    if is_sparse(rows):
        return rows.indices.dtype == rows.indptr.dtype == np.int32
    laid_out = rows.flags.c_contiguous and rows.flags.aligned and rows.dtype.isnative and index.dtype == np.int64
    return laid_out and index.min() >= 0 and index.max() < len(rows)


def _take(rows: np.ndarray, index: np.ndarray, memory: _Memory) -> np.ndarray:
    batch = memory.array("x", len(index), rows.shape[1:])
    gather(batch, rows.view(np.ndarray), index)
    return batch


def _take_csr(x: Any, index: np.ndarray, memory: _Memory) -> Any:
    starts, ends = x.indptr[index], x.indptr[index + 1]
    if starts.min() < 0 or (ends < starts).any() or ends.max() > min(len(x.indices), len(x.data)):
        raise ValueError("batches: x: expected a CSR matrix that stays as it is while batches are cut; it has changed")
    indptr = memory.array("indptr", len(index) + 1, dtype=np.int32)
    indptr[0] = 0
    np.cumsum(ends - starts, out=indptr[1:])
    data, indices = memory.array("data", indptr[-1]), memory.array("indices", indptr[-1], dtype=np.int32)
    gather_csr(data, indices, indptr, x.data, x.indices, x.indptr, index)
    return type(x)((data, indices, indptr), shape=(len(index), x.shape[1]))


def _check_seed(name: str, seed: int) -> int:
    seed = check_integer(name, seed, minimum=0)
    if seed > LARGEST_SEED:
        raise ValueError(f"{name}: expected an integer below 2**64, got {seed}")
    return seed


def _check_rows(x: Any, dtype: str) -> Any:
    """Return x as rows that can be gathered, after proving that there are some and that their numbers fit `dtype`."""
    if is_sparse(x):
        x = check_csr("batches: x", x, x.dtype.name if x.dtype.name in FLOATS else dtype, x.shape[-1])
        _check_finite("batches: x", x.data, dtype)
        return x
    array = x.array if isinstance(x, Rows) else x
    if isinstance(x, Rows) and len(x) and not -len(array) <= x.index.min() <= x.index.max() < len(array):
        got = f"{x.index.min()} to {x.index.max()}"
        raise ValueError(f"batches: x: expected Rows of an array of {len(array)}, got indices from {got}")
    if not (is_plain_array(array) and array.dtype == np.uint8):
        check_array("batches: x", array[:1] if is_plain_array(array) and array.ndim else array)  # it may copy it
        _check_finite("batches: x", x, dtype)
    if len(x.shape) < 2 or 0 in x.shape:
        raise ValueError(f"batches: x: expected (N, ...) with at least one row of numbers, got {show_shape(x.shape)}")
    return x if isinstance(x, Rows) else array.view(np.ndarray)  # a memory map is gathered as a plain array


def _check_finite(name: str, numbers: np.ndarray | Rows, dtype: str) -> None:
    for first in range(0, len(numbers), ROWS_AT_ONCE):
        block = numbers[first : first + ROWS_AT_ONCE]
        if not np.isfinite(block).all():
            check_finite(name, np.asarray(numbers))
        if block.dtype.name != dtype and (np.abs(block) > np.finfo(dtype).max).any():
            raise ValueError(f"{name}: expected numbers that fit {dtype}, got {np.abs(block).max():g}; scale them")


def _check_targets(y: Any, rows: int, dtype: str) -> np.ndarray:
    """Return y as int64 labels, or as float targets of `dtype`, of so many rows."""
    if not is_plain_array(y):
        raise TypeError(f"batches: y: expected a NumPy array of labels or targets, got {type(y).__name__}")
    if y.dtype.kind in "iu":
        if y.shape != (rows,):
            raise ValueError(f"batches: y: expected shape ({rows},), got {show_shape(y.shape)}; one label per row of x")
        return y.astype(np.int64, copy=False)
    if y.dtype.name not in FLOATS:
        raise TypeError(
            f"batches: y: expected integer labels or float targets, got dtype {y.dtype}; convert them with .astype"
        )
    if y.shape[:1] != (rows,):
        raise ValueError(f"batches: y: expected shape ({rows}, ...), got {show_shape(y.shape)}; one target per row")
    _check_finite("batches: y", y, dtype)
    return y.astype(dtype, copy=False)
