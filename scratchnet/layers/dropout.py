"""Dropout, for dense batches and, as a first layer, for the values of sparse ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchnet.arrays import Shape, check_csr, check_number, is_sparse
from scratchnet.attributes import assigned_once
from scratchnet.layers.base import STATE, Layer


class Dropout(Layer):
    """Set numbers to 0 with probability p while training, multiply the others by 1 / (1 - p) (Srivastava et al. 2014).

    Outside training x itself is returned. A mask is a function of the net's seed, this layer's place in it and the
    number of training batches seen: nothing but that number has to be saved, and no thread count changes a mask.
    A SciPy CSR batch is accepted where this is the net's first layer: its stored values are dropped, the zeros stay.

    Args:
        p: probability of DROPPING, 0 <= p < 1.
    """

    step: np.ndarray = assigned_once("step", STATE)

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p
        self.step = np.zeros(1, np.int64)  # training batches seen

    @property
    def p(self) -> float:
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        self._p = check_number("Dropout: p", p, low=0, high=1)

    def __repr__(self) -> str:
        return f"Dropout({self.p:g})"

    def build(self, input_shape: Shape) -> Shape:
        self._declare_buffer("y", input_shape)
        self._declare_buffer("dx", input_shape)
        self.input_shape = self.output_shape = input_shape
        return self.output_shape

    def seed_with(self, seed: int, index: int) -> None:
        self.seed, self.index = seed, index

    def state(self) -> dict[str, np.ndarray]:
        return {"step": self.step}

    def _check_batch(self, x: Any) -> Any:
        if is_sparse(x) and len(self.input_shape) == 1:
            return check_csr("Dropout.forward: x", x, self.dtype, self.input_shape[0])
        return super()._check_batch(x)

    def _forward(self, x: Any, train: bool) -> Any:
        if not train:
            return x
        self.step += 1
        key = dropout_key(self.seed, self.index, int(self.step[0]))
        if is_sparse(x):
            data = self._sparse_data(x.nnz)  # (J,)
            self.ops.dropout_forward(data, x.data, key, self.p)
            y = type(x)((data, x.indices, x.indptr), shape=x.shape)
        else:
            y = self._buffer("y", x.shape[0])  # (N, ...)
            self.ops.dropout_forward(y, x, key, self.p)
        self._kept = (y, key, self.p)
        return y

    def _sparse_data(self, count: int) -> np.ndarray:
        """Room for the numbers of a sparse output, kept for the next batch as the buffers are."""
        held = self._buffers.get("data")
        if held is None or held.size < count:
            held = self._buffers["data"] = np.empty(count + count // 4, self.dtype)  # batches differ in size
        return held[:count]

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        y, key, p = kept
        if not input_gradient:
            return None
        if is_sparse(y):
            raise ValueError("Dropout.backward: a sparse batch has no input gradient; pass input_gradient=False")
        dx = self._buffer("dx", dy.shape[0])  # (N, ...)
        self.ops.dropout_backward(dx, dy, key, p)
        return dx


def dropout_key(seed: int, layer: int, step: int) -> np.uint64:
    """Hash three integers into the key of one mask: another one for every seed, layer and step.

        key <- mix((key ^ number) + 0x9e3779b97f4a7c15)  for each number; mix as in reference/dropout.py

    Python's integers do not wrap around, hence `& mask`. Each round is one-to-one, so no two steps of a layer share a
    key.
    """
    mask = 2**64 - 1
    key = 0
    for number in (seed, layer, step):
        key = ((key ^ (number & mask)) + 0x9E3779B97F4A7C15) & mask
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & mask
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & mask
        key ^= key >> 31
    return np.uint64(key)
