"""The three nets behind `--model`, for any image size, and the settings each is trained with unless told otherwise.

The settings were chosen on a part of the training set that was held out; the test sets were not looked at for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from scratchnet.arrays import Shape, check_choice
from scratchnet.initializers import lecun_normal, zeros
from scratchnet.layers import BatchNorm2d, Conv2d, Dense, Dropout, Flatten, MaxPool2d, ReLU
from scratchnet.layers.base import Layer


def logistic(input_shape: Shape, classes: int, dropout: float) -> list[Layer]:
    """One dense layer: softmax regression. Dropout acts on the input; on a bag of words it drops words."""
    return [*_flatten(input_shape), *_dropout(dropout), Dense(classes, init=zeros)]


def mlp(input_shape: Shape, classes: int, dropout: float) -> list[Layer]:
    """Two hidden layers of 512 ReLU units with dropout behind each."""
    hidden: list[Layer] = []
    for _ in range(2):
        hidden += [Dense(512), ReLU(), *_dropout(dropout)]
    return [*_flatten(input_shape), *hidden, Dense(classes, init=lecun_normal)]


def cnn(input_shape: Shape, classes: int, dropout: float) -> list[Layer]:
    """Blocks of 3x3 convolution, batch norm, ReLU and 2x2 max-pooling, 32, 64, 128 channels, then two dense layers.

    A block halves the image; there are as many as it takes to bring the shorter side to 4 pixels or less, three at
    most.
    """
    if len(input_shape) != 3:
        raise ValueError(
            f"model cnn: expected images (H, W, C), got examples of shape {input_shape}; use mlp or logistic"
        )
    if min(input_shape[:2]) < 5:
        raise ValueError(f"model cnn: expected images of at least 5 x 5, got {input_shape}; use mlp or logistic")
    layers: list[Layer] = []
    side, channels = min(input_shape[:2]), 32
    while side > 4 and channels <= 128:
        layers += [Conv2d(channels, 3, padding="same", bias=False), BatchNorm2d(), ReLU(), MaxPool2d(2)]
        side, channels = side // 2, channels * 2
    return [*layers, Flatten(), Dense(128), ReLU(), *_dropout(dropout), Dense(classes, init=lecun_normal)]


MODELS: dict[str, Callable[[Shape, int, float], list[Layer]]] = {"logistic": logistic, "mlp": mlp, "cnn": cnn}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained unless the command line says otherwise."""

    optimizer: str = "adam"
    lr: float = 1e-3
    schedule: str = "cosine"
    epochs: int = 10
    batch_size: int = 128
    dropout: float = 0.0
    weight_decay: float = 0.0


def default_recipe(model: str, kind: str, rows: int) -> Recipe:
    """The recipe for a model on data of a kind ("image" or "text"); below 10,000 rows, more and smaller batches."""
    check_choice("model", model, MODELS)
    if kind == "text":
        return Recipe(dropout=0.5)
    recipe = {
        "logistic": Recipe(lr=3e-3),
        "mlp": Recipe(dropout=0.2),
        "cnn": Recipe(lr=2e-3, dropout=0.1),
    }[model]
    return replace(recipe, epochs=20, batch_size=32) if rows < 10_000 else recipe


def _flatten(input_shape: Shape) -> list[Layer]:
    return [Flatten()] if len(input_shape) > 1 else []


def _dropout(p: float) -> list[Layer]:
    return [Dropout(p)] if p > 0 else []
