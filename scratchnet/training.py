"""The training loop: batches, forward, loss, backward, step, with history, progress, and a look-out for divergence."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scratchnet.arrays import check_callable, check_integer, check_labels, check_number, show_kind, show_shape
from scratchnet.data.batches import batches, count_batches
from scratchnet.files import write_whole
from scratchnet.losses import binary_cross_entropy, check_returned, mse, on_floor, softmax_cross_entropy
from scratchnet.network import Sequential
from scratchnet.optimizers import Optimizer, clip_grad_norm
from scratchnet.optimizers.base import check_moves

Loss = Callable[..., tuple[float, np.ndarray]]
OURS = (softmax_cross_entropy, binary_cross_entropy, mse)  # losses that can write the gradient where they are told


COLUMNS = ("epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "lr", "seconds")


class DivergenceError(ArithmeticError):
    """A loss or a gradient became NaN or infinite: weights and running statistics are those before that batch. Or a
    step made parameters so: then they are spoilt, and a checkpoint is where to go on from."""


@dataclass
class History:
    """One row per epoch: epoch, loss, accuracy, (validation_loss, validation_accuracy,) lr (of the last step), seconds.

    `loss` and `accuracy` are means over the epoch's examples, each as it was trained on, dropout included. Where
    targets are floats there is no accuracy.
    """

    rows: list[dict[str, float]] = field(default_factory=list)

    def write_csv(self, path: str | Path) -> None:
        """Write the rows with a header line, whole or not at all. Numbers keep all their digits."""
        text = io.StringIO()
        if self.rows:
            found = dict.fromkeys(name for row in self.rows for name in row)  # a resumed run may measure more
            names = [*(name for name in COLUMNS if name in found), *(name for name in found if name not in COLUMNS)]
            writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        write_whole(path, text.getvalue())


@dataclass
class Progress:
    """Where a run is: everything a resumed run needs beside net and optimizer. The order of the data follows from the
    seed and the epoch, dropout masks from seed and step, so no random state has to be kept."""

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done in the current epoch
    loss_sum: float = 0.0  # over the examples of this epoch so far
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0  # spent on this epoch so far
    history: History = field(default_factory=History)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Progress:
        """Bring back what to_json gave.

        Raises:
            TypeError, ValueError: it is something else.
        """
        names = [part.name for part in fields(cls)]
        if not isinstance(saved, dict) or set(saved) != set(names):
            raise ValueError(f"progress: expected a dict of {', '.join(names)}, got {saved!r:.60}")
        for name in ("epoch", "batch", "correct", "seen"):
            check_integer(f"progress: {name}", saved[name], minimum=0)
        for name in ("loss_sum", "seconds"):
            check_number(f"progress: {name}", saved[name])
        history = saved["history"]
        rows = history.get("rows") if isinstance(history, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"progress: history: expected {{'rows': [{{...}}, ...]}}, got {history!r:.60}")
        return cls(**{**saved, "history": History(rows)})

    @property
    def loss(self) -> float:
        """Mean loss of this epoch so far; NaN before its first batch."""
        return self.loss_sum / self.seen if self.seen else math.nan

    @property
    def accuracy(self) -> float:
        """Share of this epoch's examples so far that were classified right, see count_right; 0 for float targets."""
        return self.correct / self.seen if self.seen else math.nan

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.loss_sum, self.correct, self.seen, self.seconds = self.epoch + 1, 0, 0.0, 0, 0, 0.0


def train(
    net: Sequential,
    optimizer: Optimizer,
    x: Any,
    y: np.ndarray,
    epochs: int = 1,
    batch_size: int = 128,
    seed: int = 0,
    loss: Loss = softmax_cross_entropy,
    validation: tuple[Any, np.ndarray] | None = None,
    clip_norm: float | None = None,
    progress: Progress | None = None,
    show: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    after_epoch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train a net on labels, or on float targets. The heart of it is

        for xb, yb in batches(x, y, batch_size, seed, epoch):
            value, dlogits = loss(net.forward(xb, train=True), yb)
            net.backward(dlogits)
            optimizer.step(net.grads)

    Anything special is a copy of these lines in your own script.

    Args:
        net, optimizer: `optimizer` was made over `net.params`.
        x: (N, ...) images (uint8 are scaled by 1/255), rows of numbers, or CSR.
        y: (N,) integer labels; or (N, *output_shape) float targets, for a loss such as `mse`.
        epochs: the epoch to reach; with a `progress` of 3 and `epochs=5`, two more are trained.
        batch_size: the last batch of an epoch may be shorter; nothing is dropped.
        seed: of the order of the data.
        loss: `(outputs, y) -> (mean loss, gradient by outputs)`, one of scratchnet.losses or your own. One that takes
            `ops` as well is given net.ops.
        validation: (x, y) measured after each epoch; never trained on.
        clip_norm: scale gradients whose norm is larger down to it.
        progress: where to go on, from a checkpoint; None starts a run.
        show: a progress bar on stderr.
        should_stop: asked after each batch, and after `after_epoch`; True ends training there, with a progress that can
            be resumed.
        after_epoch: called after each epoch, to save.

    Returns:
        the Progress, with `history`; `progress.epoch < epochs` means it was stopped.

    Raises:
        TypeError, ValueError: an argument is not what it should be, or `optimizer` moves other parameters.
        DivergenceError: loss, gradient or batch norm's statistics are NaN or infinite; the optimizer has not stepped on
            that batch. Or parameters are, after an epoch; `after_epoch` has not been called.
    """
    check_moves("train", optimizer, net.params)
    _check_data(net, x, y, validation, loss)
    check_callable("train: loss", loss, "softmax_cross_entropy")
    check_callable("train: should_stop", should_stop, "lambda: False")
    check_callable("train: after_epoch", after_epoch, "lambda progress: None")
    check_integer("train: epochs", epochs, minimum=0)
    check_integer("train: batch_size", batch_size, minimum=1)
    if clip_norm is not None:
        check_number("train: clip_norm", clip_norm, low=0, include_low=False)
    progress = Progress() if progress is None else progress
    _check_progress(progress, batch_size, y.shape[0])
    statistics, stop = net.state(), False
    batch_loss = _reusing_memory(loss, net, min(batch_size, y.shape[0]))
    while progress.epoch < epochs:
        began = time.perf_counter()
        with _bar(progress, epochs, x, show) as bar:
            for xb, yb in batches(
                x, y, batch_size, seed, progress.epoch, start=progress.batch, dtype=net.dtype.name, reuse=True
            ):
                with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as divergence
                    value, correct = _step(net, optimizer, xb, yb, batch_loss, clip_norm, progress, statistics)
                progress.batch += 1
                progress.loss_sum += value * len(yb)
                progress.correct += correct
                progress.seen += len(yb)
                progress.seconds, began = progress.seconds + time.perf_counter() - began, time.perf_counter()
                bar.update(len(yb))
                bar.set_postfix_str(_describe(progress, yb), refresh=False)
                stop = should_stop()
                if stop and progress.batch < count_batches(y.shape[0], batch_size):
                    _check_params(net, progress)
                    return progress
            row = _row(net, progress, optimizer.lr_of(max(1, optimizer.t)), loss, y, validation)
            measured = [f", {name.replace('_', ' ')} {row[name]:.4f}" for name in row if name.startswith("validation")]
            bar.set_postfix_str(_describe(progress, y) + "".join(measured))
        _check_params(net, progress)
        progress.history.rows.append(row)
        progress.next_epoch()
        after_epoch(progress)
        if stop or should_stop():
            break
    return progress


def evaluate(
    net: Sequential, x: Any, y: np.ndarray, batch_size: int = 256, loss: Loss = softmax_cross_entropy
) -> tuple[float, float]:
    """Measure (mean loss, accuracy) without training: dropout off, batch norm on its running statistics.

    Arguments as `train`. Where y are float targets the accuracy is NaN.
    """
    if not isinstance(net, Sequential):
        raise TypeError(f"evaluate: net: expected a Sequential, got {type(net).__name__}")
    check_callable("evaluate: loss", loss, "softmax_cross_entropy")
    rows = batches(x, y, batch_size, shuffle=False, dtype=net.dtype.name, reuse=True)
    _check_classes("evaluate: y", y, net, loss)
    loss, loss_sum, correct = on_floor(loss, net.ops), 0.0, 0.0
    for xb, yb in rows:
        outputs = net.forward(xb)
        loss_sum += check_returned("evaluate: loss", loss(outputs, yb))[0] * len(yb)
        correct += count_right(outputs, yb) if _are_labels(yb) else math.nan
    return loss_sum / y.shape[0], correct / y.shape[0]


def count_right(outputs: np.ndarray, labels: np.ndarray) -> int:
    """How many rows have their largest output at the label; a single output is the logit of class 1."""
    classes = outputs[:, 0] > 0 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
    return int(np.count_nonzero(classes == labels))


def _are_labels(y: np.ndarray) -> bool:
    """Whether targets name classes, so that an output can be right or wrong."""
    return y.dtype.kind in "iu"


def _check_data(net: Sequential, x: Any, y: Any, validation: Any, loss: Loss) -> None:
    """Refuse what has no rows to speak of; what the rows must be, `batches` says."""
    for name, array in (("x", x), ("y", y)):
        if not getattr(array, "shape", ()) or not hasattr(array, "dtype"):
            wanted = "a NumPy array or CSR" if name == "x" else "a NumPy array"
            raise TypeError(f"train: {name}: expected {wanted}, got {show_kind(array)}; convert it with np.asarray")
    _check_classes("train: y", y, net, loss)
    if validation is None:
        return
    if not (isinstance(validation, (tuple, list)) and len(validation) == 2):
        remedy = "; write (validation.x, validation.y)" if hasattr(validation, "x") else ""
        raise TypeError(f"train: validation: expected a pair (x, y), got {type(validation).__name__}{remedy}")
    try:
        batches(validation[0], validation[1], shuffle=False, dtype=net.dtype.name)
    except (TypeError, ValueError) as error:
        raise type(error)(f"train: validation: {error}") from None
    shape = validation[0].shape
    if shape[1:] != net.input_shape:
        wanted = show_shape((None, *net.input_shape))
        raise ValueError(f"train: validation: x: expected shape {wanted}, got {show_shape(shape)}")
    targets = validation[1]
    if _are_labels(targets) != _are_labels(y) or targets.shape[1:] != y.shape[1:]:
        wanted, got = (f"{t.dtype} of shape {show_shape((None, *t.shape[1:]))}" for t in (y, targets))
        raise ValueError(f"train: validation: y: expected what y is, {wanted}, got {got}")
    _check_classes("train: validation: y", targets, net, loss)


def _check_classes(name: str, y: np.ndarray, net: Sequential, loss: Loss) -> None:
    """Refuse labels that are no class of the net: the loss would name a place in a batch, which may be shuffled."""
    if loss is softmax_cross_entropy and _are_labels(y):
        check_labels(name, y, y.shape[0], net.output_shape[-1])


def _check_progress(progress: Any, batch_size: int, rows: int) -> None:
    """Refuse a progress that can't go on here."""
    if not isinstance(progress, Progress):
        raise TypeError(
            f"train: progress: expected a Progress, got {type(progress).__name__}; "
            "make one of what a checkpoint holds with Progress.from_json"
        )
    if min(progress.batch * batch_size, rows) != progress.seen:
        raise ValueError(
            f"train: batch_size: expected the one of `progress`, which stopped after {progress.seen} examples in "
            f"{progress.batch} batches, got {batch_size}"
        )


def _check_params(net: Sequential, progress: Progress) -> None:
    """Refuse to go on, and so to save, with parameters that the last step has spoilt; no later batch may notice."""
    if (name := _first_not_finite(net.parameters().items())) is not None:
        raise DivergenceError(
            f"training diverged in epoch {progress.epoch + 1}: after batch {progress.batch} parameter {name} "
            "is not finite; go on from an earlier checkpoint, with a lower learning rate"
        )


def _reusing_memory(loss: Loss, net: Sequential, rows: int) -> Loss:
    """The loss, writing the gradient of every batch, of so many rows at most, to the same array, if it is ours."""
    if loss not in OURS:
        return on_floor(loss, net.ops)
    gradient = np.empty((rows, *net.output_shape), net.dtype)
    return lambda outputs, y: loss(outputs, y, ops=net.ops, out=gradient[: len(outputs)])


def _step(
    net: Sequential,
    optimizer: Optimizer,
    xb: Any,
    yb: np.ndarray,
    loss: Loss,
    clip_norm: float | None,
    progress: Progress,
    statistics: dict[str, np.ndarray],
) -> tuple[float, int]:
    """One batch: forward, loss, backward, step. Returns (mean loss, number classified right)."""
    before = [array.copy() for array in statistics.values()]
    outputs = net.forward(xb, train=True)
    value, doutputs = check_returned("train: loss", loss(outputs, yb))
    correct = count_right(outputs, yb) if _are_labels(yb) else 0
    net.backward(doutputs)
    norm = clip_grad_norm(net.grads, math.inf if clip_norm is None else clip_norm, ops=net.ops)
    spoilt = _first_not_finite(statistics.items())
    if not (math.isfinite(value) and math.isfinite(norm) and spoilt is None):
        for array, held in zip(statistics.values(), before):
            array[...] = held
        raise DivergenceError(
            f"training diverged in epoch {progress.epoch + 1}, batch {progress.batch + 1}: loss {value}, "
            f"gradient norm {norm}; {_blame(net, xb, spoilt)}. The weights are those before this batch; "
            "lower the learning rate, clip the gradient (clip_norm), or look for numbers in x that are far too large"
        )
    optimizer.step(net.grads)
    return value, correct


def _blame(net: Sequential, xb: Any, spoilt: str | None) -> str:
    """Name the first place where something is not finite: a parameter, a layer's output, a gradient, or a statistic."""
    if (name := _first_not_finite(net.parameters().items())) is not None:
        return f"parameter {name} was not finite before it"
    for i, layer in enumerate(net.layers):
        xb = layer.forward(xb)
        if isinstance(xb, np.ndarray) and not np.isfinite(xb).all():
            return f"first at the output of layer {i}, {layer!r}"
    if (name := _first_not_finite(reversed(net.gradients().items()))) is not None:
        return f"first in the gradient of {name}"
    if spoilt is not None:
        return f"first in {spoilt}, which the numbers of this batch made too large for {net.dtype}"
    return "all parameters, outputs and gradients taken one by one are finite"


def _first_not_finite(arrays: Iterable[tuple[str, np.ndarray]]) -> str | None:
    """The name of the first array that holds NaN or infinity."""
    return next((name for name, values in arrays if not np.isfinite(values).all()), None)


def _row(
    net: Sequential, progress: Progress, lr: float, loss: Loss, y: np.ndarray, validation: tuple[Any, Any] | None
) -> dict[str, float]:
    """What the history keeps of an epoch over targets y."""
    row = {"epoch": progress.epoch + 1, "loss": progress.loss}
    if _are_labels(y):
        row["accuracy"] = progress.accuracy
    if validation is not None:
        row["validation_loss"], accuracy = evaluate(net, *validation, loss=loss)
        if _are_labels(validation[1]):
            row["validation_accuracy"] = accuracy
    return row | {"lr": lr, "seconds": round(progress.seconds, 3)}


def _describe(progress: Progress, y: np.ndarray) -> str:
    """What the bar shows of an epoch over targets y."""
    return f"loss {progress.loss:.4f}" + (f", accuracy {progress.accuracy:.4f}" if _are_labels(y) else "")


def _bar(progress: Progress, epochs: int, x: Any, show: bool) -> tqdm:
    return tqdm(
        desc=f"epoch {progress.epoch + 1}/{epochs}",
        total=x.shape[0],
        initial=progress.seen,
        unit=" images" if x.dtype == np.uint8 else " rows",
        unit_scale=True,
        disable=not show,
        dynamic_ncols=True,
        leave=True,
    )
