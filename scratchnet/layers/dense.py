"""The dense layer, for dense batches and, as a first layer, for sparse ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchnet.arrays import Shape, check_callable, check_csr, check_flag, check_integer, is_sparse
from scratchnet.initializers import Initializer, he_normal
from scratchnet.layers.base import Layer


class Dense(Layer):
    """Compute y = x W + b: (N, D) -> (N, U).

    A SciPy CSR batch is accepted where this is the net's first layer, or follows a Dropout that is; it is never made
    dense.

    Args:
        units: U, the number of outputs.
        bias: False leaves b out, for a layer that batch norm follows.
        init: fills `weight`; the bias starts at 0.

    Attributes:
        weight, dweight: (D, U). bias, dbias: (U,).
    """

    weight: np.ndarray
    dweight: np.ndarray

    def __init__(self, units: int, bias: bool = True, init: Initializer = he_normal) -> None:
        super().__init__()
        self.units = check_integer("Dense: units", units, minimum=1)
        self.use_bias = check_flag("Dense: bias", bias, "the net finds the number of inputs, so write Dense(units)")
        self.init = check_callable("Dense: init", init, "initializers.he_normal")

    def __repr__(self) -> str:
        return f"Dense({self.units}{'' if self.use_bias else ', bias=False'})"

    def build(self, input_shape: Shape) -> Shape:
        self._require_rank(input_shape, 1, "(D,)", "put Flatten() before it")
        features = input_shape[0]
        self.parameter_shapes = {"weight": (features, self.units)}
        if self.use_bias:
            self.parameter_shapes["bias"] = (self.units,)
        self._declare_buffer("y", (self.units,))
        self._declare_buffer("dx", (features,))
        self.input_shape, self.output_shape = input_shape, (self.units,)
        return self.output_shape

    def initialize(self, rng: np.random.Generator) -> None:
        self._fill(self.init, self.weight, rng)
        self.bias[...] = 0

    def _check_batch(self, x: Any) -> Any:
        if is_sparse(x):
            return check_csr("Dense.forward: x", x, self.dtype, self.input_shape[0])
        return super()._check_batch(x)

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        y = self._buffer("y", x.shape[0])  # (N, U)
        if type(x) is np.ndarray:
            self.ops.dense_forward(y, x, self.weight, self.bias)
        else:
            self.ops.csr_dense_forward(y, x.indptr, x.indices, x.data, self.weight, self.bias)
        if train:
            self._kept = (x,)
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        (x,) = kept
        if type(x) is not np.ndarray:
            if input_gradient:
                raise ValueError("Dense.backward: a sparse batch has no input gradient; pass input_gradient=False")
            check_csr("Dense.backward: the batch of the last forward", x, self.dtype, self.input_shape[0], len(dy))
            self.ops.csr_dense_backward_weight(self.dweight, self.dbias, x.indptr, x.indices, x.data, dy)
            return None
        self.ops.dense_backward_weight(self.dweight, self.dbias, x, dy)
        if not input_gradient:
            return None
        dx = self._buffer("dx", x.shape[0])  # (N, D)
        self.ops.dense_backward_input(dx, dy, self.weight)
        return dx
