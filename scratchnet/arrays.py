"""The validators. Kernels have no bounds checks, so what is not checked before one can end the process.

Every message has three parts: what was expected, what came, what to do. A wrong type (dtype included) is a TypeError, a
wrong shape or value a ValueError.
"""

from __future__ import annotations

import difflib
import math
import numbers
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse

Shape = tuple[int, ...]
FLOATS = ("float32", "float64")
NATIVE_FLOATS, NATIVE_INT64 = (np.dtype(np.float32), np.dtype(np.float64)), np.dtype(np.int64)
INDICES = (np.dtype(np.int32), np.dtype(np.int64))


def check_array(name: str, array: Any, dtype: Any = None, shape: tuple[int | None, ...] | None = None) -> np.ndarray:
    """Return `array`, C-contiguous, or say what is wrong with it.

    Args:
        name: how the message calls it, e.g. "Dense.forward: x".
        array: must be a plain np.ndarray (masked arrays and lists are refused: they hide a conversion).
        dtype: the dtype it must have; None accepts float32 and float64.
        shape: the shape it must have; None in a position accepts any size there.

    Returns:
        the same array where it is C-contiguous, aligned, writable and in native byte order, else a copy that is: every
        other layout would compile another version of each kernel.

    Raises:
        TypeError: not an array, or of another dtype.
        ValueError: of another shape.
    """
    if (
        type(array) is np.ndarray
        and (array.dtype is dtype or (dtype is None and array.dtype in NATIVE_FLOATS))
        and array.flags.carray
        and _fits(array.shape, shape)
    ):
        return array  # the common case, at once: a small net's step is some ten microseconds of Python
    if not is_plain_array(array):
        raise TypeError(f"{name}: expected a NumPy array, got {type(array).__name__}; {_conversion(array)}")
    if dtype is None:
        if array.dtype.char not in "fd":
            raise TypeError(f"{name}: expected dtype float32 or float64, got {array.dtype}; convert it with .astype")
    elif array.dtype != dtype:
        wanted = np.dtype(dtype).name
        raise TypeError(f"{name}: expected dtype {wanted}, got {array.dtype}; convert it with .astype(np.{wanted})")
    if shape is not None and not _fits(array.shape, shape):
        raise ValueError(f"{name}: expected shape {show_shape(shape)}, got {show_shape(array.shape)}")
    if type(array) is np.ndarray and array.flags.carray and array.dtype.isnative:
        return array
    return np.require(array, dtype=array.dtype.newbyteorder("="), requirements=("C", "A", "W", "E"))


def _conversion(value: Any) -> str:
    """What makes a NumPy array of a value that is none."""
    if is_sparse(value):
        return "what takes sparse batches is Dense or Dropout as first layer; elsewhere convert it with .toarray()"
    if isinstance(value, np.ma.MaskedArray):
        return "fill what is masked with .filled(value)"
    if hasattr(value, "params") and hasattr(value, "grads"):
        return "of a net, pass net.params, or net.grads"
    return "convert it with np.asarray"


def _fits(got: Shape, wanted: tuple[int | None, ...] | None) -> bool:
    """Whether a shape is the wanted one, where None accepts any size, or any shape."""
    if wanted is None or got == wanted:
        return True
    for want, size in zip(wanted, got):
        if want is not None and want != size:
            return False
    return len(wanted) == len(got)


def is_plain_array(array: Any) -> bool:
    """Whether it is an array whose elements are what they seem: no masked array, matrix or other subclass."""
    return type(array) in (np.ndarray, np.memmap)


def show_kind(value: Any) -> str:
    """What came in place of an array with rows, for a message."""
    return "a single number" if getattr(value, "shape", None) == () else type(value).__name__


def check_ops(name: str, ops: Any) -> ModuleType:
    """Return the floor to run on, a module."""
    if not isinstance(ops, ModuleType) or not hasattr(ops, "dense_forward"):
        raise TypeError(f"{name}: expected the module scratchnet.kernels or scratchnet.reference, got {ops!r}")
    return ops


def check_flag(name: str, value: Any, remedy: str) -> bool:
    """Return True or False. Other values that Python takes for one are refused: they were meant for something else."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}; {remedy}")
    return bool(value)


def check_callable(name: str, function: Any, example: str) -> Any:
    """Return what can be called."""
    if not callable(function):
        raise TypeError(f"{name}: expected a function such as {example}, got {function!r}")
    return function


def check_in_place(name: str, array: Any, shape: tuple[int | None, ...] | None = None) -> np.ndarray:
    """Return `array` itself, proven fit to be written in place: float, C-contiguous, aligned and not read-only.

    Raises:
        TypeError: not an array, or not float32 or float64.
        ValueError: of another shape, or only a copy of it could be written.
    """
    check_array(name, array, None, shape)
    if not (array.flags.carray and array.dtype.isnative):
        state = "read-only" if not array.flags.writeable else "strided, unaligned or byte-swapped"
        raise ValueError(
            f"{name}: expected a writable C-contiguous array, because it is written in place, got a {state} one; "
            "make one with np.array(..., order='C')"
        )
    return array


def check_same_shape(name: str, array: np.ndarray, other_name: str, other: np.ndarray) -> None:
    """Refuse two arrays of unequal shape, naming both."""
    if array.shape != other.shape:
        lacks_one = other.shape == (*array.shape, 1)
        remedy = "add the axis with [..., None]" if lacks_one else "nothing is broadcast; reshape it"
        raise ValueError(
            f"{name}: expected the shape of {other_name}, {show_shape(other.shape)}, got {show_shape(array.shape)}; "
            f"{remedy}"
        )


def is_sparse(x: Any) -> bool:
    """Whether it is a SciPy sparse matrix or array. SciPy is not imported for the question: it takes 0.1 s."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(x))


def check_csr(name: str, matrix: Any, dtype: Any, features: int, rows: int | None = None) -> scipy.sparse.csr_matrix:
    """Return a SciPy CSR matrix or array of (N >= 1, features), after proving that its indices stay inside.

    Args:
        name, dtype: as check_array.
        features: how many columns it must have. rows: N, where that is known.

    Raises:
        TypeError: another sparse format, or another dtype.
        ValueError: another shape, no rows, or indptr and indices that do not describe a matrix.
    """
    if matrix.format != "csr":
        raise TypeError(f"{name}: expected a CSR matrix, got format {matrix.format!r}; convert it with .tocsr()")
    if matrix.dtype is not dtype and matrix.dtype != dtype:
        wanted = np.dtype(dtype).name
        raise TypeError(f"{name}: expected dtype {wanted}, got {matrix.dtype}; convert it with .astype(np.{wanted})")
    if not _fits(matrix.shape, (rows, features)) or matrix.shape[0] == 0:
        wanted = show_shape((rows, features))
        raise ValueError(f"{name}: expected shape {wanted} with N >= 1, got {show_shape(matrix.shape)}")
    _check_csr_parts(name, matrix, features)
    return matrix


def _check_csr_parts(name: str, matrix: scipy.sparse.csr_matrix, features: int) -> None:
    """Prove that its three arrays describe a matrix of its shape, whose indices stay inside."""
    indptr, indices = matrix.indptr, matrix.indices
    for part, values in (("indptr", indptr), ("indices", indices), ("data", matrix.data)):
        if not is_plain_array(values) or values.ndim != 1 or (part != "data" and values.dtype not in INDICES):
            raise TypeError(
                f"{name}: expected {part} as a 1-D array (of int32 or int64, for indices), got {values!r:.60}"
            )
    if len(indptr) != matrix.shape[0] + 1 or indptr[0] != 0 or np.count_nonzero(indptr[1:] < indptr[:-1]):
        raise ValueError(f"{name}: expected indptr to rise from 0 over {matrix.shape[0]} rows; the matrix is damaged")
    if indptr[-1] != len(indices) or len(indices) != len(matrix.data):
        raise ValueError(
            f"{name}: expected {indptr[-1]} indices and values, as indptr ends, "
            f"got {len(indices)} and {len(matrix.data)}; the matrix is damaged"
        )
    unsigned = indices.view(np.uint32 if indices.itemsize == 4 else np.uint64)  # a negative index is a large one
    if len(indices) and _largest(unsigned) >= features:
        raise ValueError(
            f"{name}: expected column indices from 0 to {features - 1}, got {indices.min()} to {indices.max()}"
        )


def check_labels(name: str, labels: Any, count: int, classes: int) -> np.ndarray:
    """Return `labels` as (count,) int64, each in [0, classes); a bad one is named by index and value."""
    if (
        type(labels) is np.ndarray
        and labels.dtype is NATIVE_INT64
        and labels.shape == (count,)
        and labels.flags.carray
        and (not count or _largest(labels.view(np.uint64)) < classes)  # seen as unsigned, -1 is large
    ):
        return labels  # the common case, at once
    if not is_plain_array(labels):
        raise TypeError(f"{name}: expected a NumPy array of integers, got {type(labels).__name__}")
    if labels.shape == (count, classes) and classes > 1:
        raise ValueError(
            f"{name}: expected one label per row, shape ({count},), got {show_shape(labels.shape)}, a column for each "
            "class; of one-hot rows, take labels.argmax(axis=1)"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: expected integer labels, got dtype {labels.dtype}; convert them with .astype(np.int64)"
        )
    if labels.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), got {show_shape(labels.shape)}; one label per row")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        bad = np.flatnonzero(wrong)
        raise ValueError(
            f"{name}: expected labels from 0 to {classes - 1} ({classes} classes), "
            f"got {labels[bad[0]]} at index {bad[0]} ({bad.size} bad in all)"
        )
    return np.require(labels, dtype=np.int64, requirements=("C", "A", "W", "E"))


def _largest(array: np.ndarray) -> Any:
    """The largest of at least one: by its index, which NumPy finds in half the time that `max` takes for a batch."""
    return array.item(array.argmax())


def check_finite(name: str, array: np.ndarray) -> None:
    """Refuse NaN and infinity, naming the first place."""
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name}: expected finite numbers, got {array[place]} at index {place} "
            f"({int((~finite).sum())} in all); remove or impute these rows first"
        )


def check_interval(name: str, array: np.ndarray, low: float, high: float) -> None:
    """Refuse numbers outside [low, high], and NaN, naming the first place."""
    if array.size and low <= array.item(array.argmin()) and _largest(array) <= high:  # false where there is a NaN
        return
    inside = (low <= array) & (array <= high)
    if not inside.all():
        place = tuple(int(i) for i in np.argwhere(~inside)[0])
        raise ValueError(
            f"{name}: expected numbers from {low:g} to {high:g}, got {array[place]} at index {place} "
            f"({int((~inside).sum())} in all)"
        )


def check_integer(name: str, value: Any, minimum: int) -> int:
    """Return `value` as int, at least `minimum`. Booleans are refused."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, got {value!r} ({type(value).__name__})")
    if value < minimum:
        raise ValueError(f"{name}: expected an integer >= {minimum}, got {value}")
    return int(value)


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    include_low: bool = True,
    include_high: bool = False,
) -> float:
    """Return `value` as float, finite and inside the interval from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {value!r} ({type(value).__name__})")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number that a float can hold, got a larger one") from None
    above = low < number or (include_low and number == low)
    below = number < high or (include_high and number == high)
    if not (above and below and math.isfinite(number)):
        left = f"{'[' if include_low and math.isfinite(low) else '('}{low:g}"
        right = f"{high:g}{']' if include_high and math.isfinite(high) else ')'}"
        raise ValueError(f"{name}: expected a finite number in {left}, {right}, got {value}")
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` when it is one of `choices`; else suggest the nearest."""
    names = sorted(choices)
    if isinstance(value, str) and value in names:
        return value
    near = difflib.get_close_matches(str(value).lower(), [n.lower() for n in names], n=1)
    hint = f"; did you mean {next(n for n in names if n.lower() == near[0])!r}?" if near else ""
    raise ValueError(f"{name}: expected one of {', '.join(names)}, got {value!r}{hint}")


def check_pair(name: str, value: Any, minimum: int) -> tuple[int, int]:
    """Return (height, width) from an int or a pair of ints, each at least `minimum`."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name}: expected an integer or a pair (height, width), got {value!r}")
        return check_integer(f"{name}[0]", value[0], minimum), check_integer(f"{name}[1]", value[1], minimum)
    size = check_integer(name, value, minimum)
    return size, size


def show_shape(shape: tuple[int | None, ...]) -> str:
    """(None, 28, 28, 1) -> "(N, 28, 28, 1)": a free size is written N, further ones *."""
    sizes = [str(size) if size is not None else "*" if None in shape[:i] else "N" for i, size in enumerate(shape)]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
