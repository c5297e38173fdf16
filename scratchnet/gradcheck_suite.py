"""The nets that `scratchnet gradcheck` checks: every layer, every loss, and some whole nets, small and in float64."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from scratchnet import losses
from scratchnet.gradcheck import Report, check_gradients
from scratchnet.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sigmoid,
    Softplus,
    Tanh,
)
from scratchnet.layers.base import Layer
from scratchnet.network import Sequential

IMAGE, ROW = (7, 6, 2), (6,)


def layer_nets() -> Iterator[tuple[str, list[Layer], tuple[int, ...]]]:
    """(name, layers, input shape): each layer with another after it, so that its dy is not the loss's own."""
    yield "Dense", [Dense(5), Tanh(), Dense(3)], ROW
    yield "Dense without bias", [Dense(5, bias=False), Tanh(), Dense(3)], ROW
    for padding in ("valid", "same", 1):
        yield f"Conv2d 3x3, padding {padding}", [Conv2d(3, 3, padding=padding), Tanh(), Flatten(), Dense(3)], IMAGE
    yield (
        "Conv2d 3x2, stride (2, 3), padding (1, 0)",
        [Conv2d(3, (3, 2), stride=(2, 3), padding=(1, 0)), Flatten(), Dense(3)],
        IMAGE,
    )
    yield "Conv2d 1x1 without bias", [Conv2d(4, 1, bias=False), Tanh(), Flatten(), Dense(3)], IMAGE
    for pool in (MaxPool2d, AvgPool2d):
        yield f"{pool.__name__} 2", [Conv2d(2, 3), pool(2), Flatten(), Dense(3)], IMAGE
        yield f"{pool.__name__} 3, stride 2, padding 1", [Conv2d(2, 3), pool(3, 2, 1), Flatten(), Dense(3)], IMAGE
    yield "GlobalAvgPool2d", [Conv2d(4, 3), GlobalAvgPool2d(), Dense(3)], IMAGE
    for activation in (ReLU(), LeakyReLU(0.1), Sigmoid(), Tanh(), Softplus()):
        yield repr(activation), [Dense(8), activation, Dense(3)], ROW
    yield "Dropout", [Dense(8), Dropout(0.4), Dense(3)], ROW
    yield "BatchNorm1d", [Dense(5), BatchNorm1d(), Tanh(), Dense(3)], ROW
    yield "BatchNorm2d", [Conv2d(3, 3), BatchNorm2d(), Tanh(), Flatten(), Dense(3)], IMAGE
    yield "Residual", [Residual([Dense(6), Tanh(), Dense(6)]), Tanh(), Dense(3)], ROW


def whole_nets() -> Iterator[tuple[str, list[Layer], tuple[int, ...]]]:
    """(name, layers, input shape) of nets as people train them, small."""
    yield "net: multilayer perceptron", [Dense(16), ReLU(), Dropout(0.2), Dense(16), ReLU(), Dense(4)], ROW
    yield (
        "net: convolutional, as scratchnet train's",
        [
            *(Conv2d(4, 3, padding="same", bias=False), BatchNorm2d(), ReLU(), MaxPool2d(2)),
            *(Conv2d(8, 3, padding="same", bias=False), BatchNorm2d(), ReLU(), MaxPool2d(2)),
            *(Flatten(), Dense(8), ReLU(), Dropout(0.3), Dense(4)),
        ],
        (8, 8, 3),
    )
    first = [Conv2d(3, 3, padding="same"), ReLU(), MaxPool2d(2)]
    yield "net: convolution, ReLU and pooling in one", [*first, Flatten(), Dense(8), ReLU(), Dense(4)], IMAGE
    block = [Conv2d(4, 3, padding="same"), BatchNorm2d(), ReLU(), Conv2d(4, 3, padding="same"), BatchNorm2d()]
    yield "net: residual", [Conv2d(4, 3), Residual(block), LeakyReLU(), GlobalAvgPool2d(), Dense(4)], (8, 8, 2)


def check_everything(ops: ModuleType, seed: int = 0) -> Iterator[tuple[str, int, Report]]:
    """Yield (what, parameters, report) for every layer, loss and net, on one floor."""
    for name, layers, shape in (*layer_nets(), *whole_nets()):
        rng = np.random.default_rng(seed)
        net = Sequential(layers, shape, seed, "float64", ops)
        x = rng.standard_normal((5, *shape))
        labels = rng.integers(0, net.output_shape[0], 5)
        yield name, net.params.size, check_gradients(net, _on(losses.softmax_cross_entropy, ops), x, labels)
    yield _sparse(ops, seed)
    for name, loss, outputs, target in loss_cases(seed):
        net = Sequential([Dense(outputs)], ROW, seed, "float64", ops)
        x = np.random.default_rng(seed).standard_normal((5, *ROW))
        yield f"loss: {name}", net.params.size, check_gradients(net, _on(loss, ops), x, target)


def loss_cases(seed: int) -> Iterator[tuple[str, Any, int, Any]]:
    """(name, loss, number of outputs, target) for each loss."""
    rng = np.random.default_rng(seed)
    yield "softmax_cross_entropy", losses.softmax_cross_entropy, 4, rng.integers(0, 4, 5)
    yield "binary_cross_entropy", losses.binary_cross_entropy, 4, rng.uniform(0, 1, (5, 4))
    yield "mse", losses.mse, 4, rng.standard_normal((5, 4))
    yield "gaussian_kl", _kl_of_halves, 6, None


def _kl_of_halves(outputs: np.ndarray, target: None, ops: ModuleType) -> tuple[float, np.ndarray]:
    """gaussian_kl with the first half of the outputs as means and the second as log-variances."""
    mean, log_variance = (np.ascontiguousarray(half) for half in np.split(outputs, 2, axis=1))
    value, gradients = losses.gaussian_kl(mean, log_variance, ops=ops)
    return value, np.concatenate(gradients, axis=1)


def _sparse(ops: ModuleType, seed: int) -> tuple[str, int, Report]:
    x = scipy.sparse.random_array((5, 30), density=0.2, format="csr", rng=np.random.default_rng(seed))
    net = Sequential([Dropout(0.3), Dense(8), Tanh(), Dense(3)], (30,), seed, "float64", ops)
    labels = np.array([0, 1, 2, 0, 1])
    return (
        "Dropout and Dense on a CSR batch",
        net.params.size,
        check_gradients(net, _on(losses.softmax_cross_entropy, ops), x, labels),
    )


def _on(loss: Any, ops: ModuleType) -> Any:
    """The loss, computed on a floor."""
    return lambda outputs, target: loss(outputs, target, ops=ops)
