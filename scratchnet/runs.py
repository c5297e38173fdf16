"""A run of the command line: its configuration, what is built from it, and the folder it leaves.

config.json             what was asked for, defaults filled in
history.csv             one row per epoch
checkpoint.safetensors  everything needed to go on or to evaluate; holds the configuration too
curves.png              loss and accuracy, where matplotlib is installed
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from scratchnet import kernels, reference
from scratchnet.arrays import FLOATS, check_choice, check_integer, check_number, show_shape
from scratchnet.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from scratchnet.data import Dataset, count_batches, hold_out, load
from scratchnet.data.batches import LARGEST_SEED
from scratchnet.files import locked, write_json
from scratchnet.models import MODELS
from scratchnet.network import Sequential
from scratchnet.optimizers import OPTIMIZERS
from scratchnet.schedules import SCHEDULES, make_schedule, warmup
from scratchnet.training import Progress, evaluate, train

CHECKPOINT, CONFIG, HISTORY, CURVES = "checkpoint.safetensors", "config.json", "history.csv", "curves.png"
MOST_EPOCHS = 10**9
OPS = {"kernels": kernels, "reference": reference}


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes, to the last bits on one processor with one SCRATCHNET_WINOGRAD."""

    data: str
    model: str
    optimizer: str
    lr: float
    schedule: str
    epochs: int
    batch_size: int
    dropout: float
    weight_decay: float
    seed: int
    dtype: str
    ops: str
    validation: float
    warmup: int = 0  # steps in which the rate rises to the schedule's
    clip_norm: float | None = None  # the largest norm that a gradient keeps
    vocabulary: str | None = None  # SHA-256 of a text model's words: its inputs mean nothing under others
    fingerprint: str | None = None  # of the data, the order of its rows included
    classes: list[str] | None = None  # what the outputs stand for, in this order
    input_shape: list[int] | None = None  # of an example

    def __post_init__(self) -> None:
        check_choice("--model", self.model, MODELS)
        check_choice("--optimizer", self.optimizer, OPTIMIZERS)
        check_choice("--ops", self.ops, OPS)
        check_number("--lr", self.lr, low=0, include_low=False)
        if check_integer("--epochs", self.epochs, minimum=1) > MOST_EPOCHS:
            raise ValueError(f"--epochs: expected at most {MOST_EPOCHS:,}, got more")
        check_integer("--batch-size", self.batch_size, minimum=1)
        check_choice("--schedule", self.schedule, SCHEDULES)
        check_choice("--dtype", self.dtype, FLOATS)
        check_number("--dropout", self.dropout, low=0, high=1)
        check_number("--weight-decay", self.weight_decay, low=0)
        if check_integer("--seed", self.seed, minimum=0) > LARGEST_SEED:
            raise ValueError(f"--seed: expected an integer below 2**64, got {self.seed}")
        check_number("--validation", self.validation, low=0, high=1)
        check_integer("--warmup", self.warmup, minimum=0)
        if self.clip_norm is not None:
            check_number("--clip-norm", self.clip_norm, low=0, include_low=False)
        for name, value in (("data", self.data), ("vocabulary", self.vocabulary), ("fingerprint", self.fingerprint)):
            if not (isinstance(value, str) or (value is None and name != "data")):
                raise TypeError(f"{name}: expected a text, got {value!r}")
        if self.classes is not None and not _is_list(self.classes, str):
            raise TypeError(f"classes: expected a list of texts, got {self.classes!r:.60}")
        if self.input_shape is not None and not _is_list(self.input_shape, int):
            raise TypeError(f"input_shape: expected a list of integers, got {self.input_shape!r:.60}")


def own_settings(optimizer: str) -> dict[str, float]:
    """The learning rate and weight decay that an optimizer of this name takes by itself, as PyTorch's does."""
    arguments = inspect.signature(OPTIMIZERS[optimizer]).parameters
    return {name: arguments[name].default for name in ("lr", "weight_decay")}


def vocabulary_hash(dataset: Dataset) -> str | None:
    """What RunConfig.vocabulary holds for a dataset: None for images."""
    if dataset.vocabulary is None:
        return None
    return hashlib.sha256("\n".join(dataset.vocabulary).encode()).hexdigest()


class Run:
    """A configuration brought to life: data, net, optimizer, and how far training has come."""

    def __init__(self, folder: str | Path, config: RunConfig, dataset: Dataset) -> None:
        if config.vocabulary != vocabulary_hash(dataset):
            raise ValueError(
                f"the model was trained on the words of {config.data}, and {dataset.name} has others; "
                "use it on the data it was trained on"
            )
        if config.classes is not None and config.classes != dataset.classes:
            raise ValueError(
                f"the model was trained on the classes {_some(config.classes)}, and {dataset.name} has "
                f"{_some(dataset.classes)}; use it on data with the same ones, in the same order"
            )
        if config.input_shape is not None and tuple(config.input_shape) != dataset.input_shape:
            wanted, got = show_shape(tuple(config.input_shape)), show_shape(dataset.input_shape)
            raise ValueError(
                f"the model was trained on examples of shape {wanted}, as {config.data} has, and {dataset.name} has "
                f"{got}; use it on data of the same shape"
            )
        if len(dataset.classes) < 2:
            raise ValueError(f"--data: expected at least two classes to tell apart, got {_some(dataset.classes)}")
        self.folder, self.config, self.dataset = Path(folder), config, dataset
        self.progress = Progress()
        self.training, self.validation = dataset.train, None
        if config.validation and config.fingerprint in (None, dataset.fingerprint):  # other data is only evaluated
            self.training, self.validation = hold_out(dataset.train, config.validation, seed=0)
        layers = MODELS[config.model](dataset.input_shape, len(dataset.classes), config.dropout)
        self.net = Sequential(layers, dataset.input_shape, config.seed, config.dtype, OPS[config.ops])
        steps = config.epochs * count_batches(len(self.training), config.batch_size)
        schedule = make_schedule(config.schedule, config.lr, steps)
        self.optimizer = OPTIMIZERS[config.optimizer](
            self.net.params,
            lr=warmup(schedule, config.warmup) if config.warmup else schedule,
            weight_decay=config.weight_decay,
            ops=self.net.ops,
        )

    @classmethod
    def start(cls, folder: str | Path, config: RunConfig, dataset: Dataset) -> Run:
        """Begin a run in a folder that holds none yet, and write its config.json.

        Raises:
            FileExistsError: the folder holds a run, or a file that would be overwritten; or it is a file.
        """
        run = cls(folder, config, dataset)
        if run.folder.exists() and not run.folder.is_dir():
            raise FileExistsError(f"{folder} is a file; choose another name for the folder")
        run.folder.mkdir(parents=True, exist_ok=True)
        try:
            with locked(run.folder, wait=False):
                there = [name for name in (CHECKPOINT, CONFIG, HISTORY, CURVES) if os.path.lexists(run.folder / name)]
                if not there:
                    run.save()  # from here on it can be resumed, whatever happens
                    return run
                if CHECKPOINT not in there:
                    raise FileExistsError(
                        f"{folder} holds {there[0]}, which the run would write over; choose another folder"
                    )
        except BlockingIOError:
            pass  # another process starts or trains a run there
        raise FileExistsError(
            f"{folder} holds a run already; choose another folder, or go on with --resume {quote(str(folder))}"
        )

    @classmethod
    def open(cls, folder: str | Path, data: str | None = None, data_dir: str | None = None) -> Run:
        """Bring back a saved run as it was, on its own data or on other `data` of the same shape."""
        if os.path.isfile(folder):
            raise ValueError(f"expected the folder of a run, got the file {folder}; name the folder that it is in")
        checkpoint = load_checkpoint(Path(folder) / CHECKPOINT)
        try:
            config, progress = RunConfig(**checkpoint.config), Progress.from_json(checkpoint.progress)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                checkpoint.path, f"not saved by `scratchnet train` of this version ({error})"
            ) from error
        if data is None and os.path.isabs(config.data) and not os.path.isdir(config.data):
            raise ValueError(f"the run's data, {config.data}, is not there any more; name its new place with --data")
        run = cls(folder, config, load(config.data if data is None else data, data_dir))
        restore(checkpoint, run.net, run.optimizer)
        run.progress = progress
        return run

    @property
    def same_data(self) -> bool:
        """Whether the data is, row by row, what the run began with: else it can be evaluated, not gone on with."""
        return self.dataset.fingerprint == self.config.fingerprint

    @property
    def finished(self) -> bool:
        """Whether the last epoch has been trained."""
        return self.progress.epoch >= self.config.epochs

    def train(
        self,
        show: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        report: Callable[[dict[str, float]], None] = lambda row: None,
    ) -> None:
        """Train to the last epoch, or until `should_stop()`.

        Saves after each epoch and where it stops, and hands each epoch's row of the history to `report`.

        Raises:
            BlockingIOError: another process trains this run.
            ValueError: another one has trained it further, or config.json was edited.
        """
        with locked(self.folder, wait=False):
            self._check_folder()
            self._train(show, should_stop, report)

    def _check_folder(self) -> None:
        """Refuse to save over a newer checkpoint, or beside settings that are not the run's."""
        path = self.folder / CHECKPOINT
        saved = Progress.from_json(load_checkpoint(path).progress) if path.exists() else Progress()
        if (saved.epoch, saved.batch) > (self.progress.epoch, self.progress.batch):
            raise ValueError(f"{self.folder}: another process has trained this run further; --resume it again")
        asked: dict[str, object] = {}  # where the file was removed, or cut short
        if (self.folder / CONFIG).is_file():
            with contextlib.suppress(OSError, TypeError, ValueError, RecursionError):
                asked = dict(json.loads((self.folder / CONFIG).read_text()))
        own = asdict(self.config)
        if odd := [name for name, value in asked.items() if own.get(name) != value]:
            edits = ", ".join(f"{name} {asked[name]!r} in place of {own.get(name)!r}" for name in odd)
            raise ValueError(
                f"{self.folder / CONFIG}: expected the settings that the run began with, got {edits}; "
                "they can't change: undo the edit, or remove the file and it is written anew"
            )
        self._record()  # a process that was killed between two files has left an older one

    def _train(self, show: bool, should_stop: Callable[[], bool], report: Callable[[dict[str, float]], None]) -> None:
        """Train, saving after each epoch and where it stops."""

        def after_epoch(progress: Progress) -> None:
            self.save()
            report(progress.history.rows[-1])

        train(
            self.net,
            self.optimizer,
            self.training.x,
            self.training.y,
            self.config.epochs,
            self.config.batch_size,
            self.config.seed,
            validation=None if self.validation is None else (self.validation.x, self.validation.y),
            clip_norm=self.config.clip_norm,
            progress=self.progress,
            show=show,
            should_stop=should_stop,
            after_epoch=after_epoch,
        )
        if self.progress.batch:  # stopped inside an epoch; a whole one has been saved
            self.save()

    def save(self) -> None:
        """Write the checkpoint, then history and configuration, each whole or not at all."""
        path, progress = self.folder / CHECKPOINT, self.progress.to_json()
        save_checkpoint(path, self.net, self.optimizer, progress, asdict(self.config))
        self._record()

    def _record(self) -> None:
        """Write history and configuration, which the checkpoint holds too."""
        self.progress.history.write_csv(self.folder / HISTORY)
        write_json(self.folder / CONFIG, asdict(self.config))

    def test(self) -> tuple[float, float]:
        """(mean loss, accuracy) on the test set."""
        return evaluate(self.net, self.dataset.test.x, self.dataset.test.y)

    def plot(self) -> bool:
        """Draw curves.png; False where matplotlib is not installed."""
        try:
            from scratchnet.plots import plot_history
        except ImportError:
            return False
        plot_history(self.progress.history, self.folder / CURVES, f"{self.config.model} on {self.config.data}")
        return True


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(element, kind) for element in value)


def _some(classes: list[str]) -> str:
    """The first few names of classes."""
    return ", ".join(classes[:5]) + (f", ... ({len(classes)} in all)" if len(classes) > 5 else "")
