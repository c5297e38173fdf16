"""Batch normalisation of features (N, D) and of images (N, H, W, C): one mean and variance per feature or channel."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from scratchnet.arrays import Shape, check_number
from scratchnet.attributes import assigned_once
from scratchnet.layers.base import STATE, Layer


class _BatchNorm(Layer):
    """Everything but the rank of the input. Inside, a batch is (M, C): M = N rows, or N H W pixels."""

    weight: np.ndarray
    dweight: np.ndarray
    dbias: np.ndarray
    running_mean: np.ndarray = assigned_once("running_mean", STATE)
    running_var: np.ndarray = assigned_once("running_var", STATE)

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = check_number(f"{self._name()}: momentum", momentum, low=0, high=1, include_high=True)
        self.eps = check_number(f"{self._name()}: eps", eps, low=0, include_low=False)

    def _build(self, input_shape: Shape) -> Shape:
        channels = input_shape[-1]
        self.parameter_shapes = {"weight": (channels,), "bias": (channels,)}
        self._declare_buffer("y", input_shape)
        self._declare_buffer("dx", input_shape)
        self.input_shape = self.output_shape = input_shape
        return self.output_shape

    def bind(
        self, ops: ModuleType, dtype: np.dtype, params: dict[str, np.ndarray], grads: dict[str, np.ndarray]
    ) -> None:
        super().bind(ops, dtype, params, grads)
        channels = self.input_shape[-1]
        self.running_mean, self.running_var = np.zeros(channels, dtype), np.ones(channels, dtype)  # (C,)
        self._mean, self._variance = np.zeros(channels, dtype), np.zeros(channels, dtype)  # (C,), of the last batch

    def initialize(self, rng: np.random.Generator) -> None:
        self.weight[...] = 1
        self.bias[...] = 0

    def state(self) -> dict[str, np.ndarray]:
        return {"running_mean": self.running_mean, "running_var": self.running_var}

    def memory(self, batch_size: int, input_gradient: bool = True) -> int:
        return super().memory(batch_size)  # dx is written in any case

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        y = self._buffer("y", x.shape[0])  # (N, ..., C)
        y2, x2 = y.reshape(-1, x.shape[-1]), x.reshape(-1, x.shape[-1])  # (M, C)
        if train:
            self.ops.batch_norm_forward(y2, self._mean, self._variance, x2, self.weight, self.bias, self.eps)
            self._average(len(x2))
            self._kept = (x,)
        else:
            self.ops.batch_norm_apply(y2, x2, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        return y

    def _average(self, rows: int) -> None:
        """Move the running statistics towards this batch's, whose variance is made unbiased first (as PyTorch)."""
        unbiased = self._variance * (rows / max(rows - 1, 1))
        self.running_mean += self.momentum * (self._mean - self.running_mean)
        self.running_var += self.momentum * (unbiased - self.running_var)

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        (x,) = kept
        dx = self._buffer("dx", x.shape[0])  # (N, ..., C): written in any case, it falls out of the same pass
        dx2, dy2, x2 = (a.reshape(-1, x.shape[-1]) for a in (dx, dy, x))  # (M, C)
        self.ops.batch_norm_backward(
            dx2, self.dweight, self.dbias, dy2, x2, self._mean, self._variance, self.weight, self.eps
        )
        return dx if input_gradient else None


class BatchNorm1d(_BatchNorm):
    """Normalise each feature of (N, D) over the batch, then scale and shift it (Ioffe & Szegedy 2015).

        y = weight (x - mean) / sqrt(variance + eps) + bias

    In training mean and variance are the batch's, and the running ones follow: running += momentum (batch - running),
    with the variance unbiased there. Otherwise the running ones are used. A training batch of one row gives y = bias.

    Args:
        momentum: weight of the newest batch, in [0, 1].
        eps: > 0.

    Attributes:
        weight, dweight, bias, dbias: (D,), starting at 1 and 0.
        running_mean, running_var: (D,), starting at 0 and 1.
    """

    def build(self, input_shape: Shape) -> Shape:
        self._require_rank(input_shape, 1, "(D,)", "use BatchNorm2d() for images, or put Flatten() before it")
        return self._build(input_shape)


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of (N, H, W, C) over the batch and all its pixels; otherwise as BatchNorm1d.

    Args:
        momentum: weight of the newest batch, in [0, 1].
        eps: > 0.

    Attributes:
        weight, dweight, bias, dbias: (C,), starting at 1 and 0.
        running_mean, running_var: (C,), starting at 0 and 1.
    """

    def build(self, input_shape: Shape) -> Shape:
        self._require_rank(input_shape, 3, "(H, W, C)", "use BatchNorm1d() for features")
        return self._build(input_shape)
