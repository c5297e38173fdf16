"""The whole state of a run in one safe file, written so that no crash can lose it.

The file is a safetensors container: plain arrays, no pickle, so that opening one runs no code. Its arrays are

    0.weight, 0.bias, ...         the parameters, by layer (other tools can read them)
    state/2.running_mean, ...     what layers keep beside parameters
    optimizer/m, ...              the optimizer's arrays, flat over all parameters

and its metadata holds a JSON manifest with everything else: configuration, progress, optimizer scalars, and for each
array dtype, shape and SHA-256. safetensors checks structure but has no checksum: without the manifest a flipped bit
would load as a different weight.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from scratchnet.files import whole
from scratchnet.network import Sequential
from scratchnet.optimizers import Optimizer
from scratchnet.optimizers.base import check_moves

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint can't be written or read; the message says which file and why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"checkpoint {path}: {reason}")


@dataclass(frozen=True)
class Checkpoint:
    """What a file held: `arrays` by name, and the manifest's parts."""

    path: Path
    arrays: dict[str, np.ndarray]
    optimizer: dict[str, Any] | None
    progress: dict[str, Any]
    config: dict[str, Any]


def save_checkpoint(
    path: str | Path,
    net: Sequential,
    optimizer: Optimizer | None = None,
    progress: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    """Write net, optimizer, progress and config to `path`; the old file stays until the new one is verified.

    The bytes go to a temporary file beside `path`, are forced to disk, read back and compared; only then does a rename
    put them in place. A kill or power cut at any moment leaves the old file or the new one, never half of one.

    Args:
        path: of the file; its folder must exist.
        net: its parameters and layer state are saved.
        optimizer: its arrays, step count and scalars are saved.
        progress, config: dicts of what JSON can hold.

    Raises:
        CheckpointError: the disk is full, the folder is missing, the file read-only, ...; an older file is untouched.
        TypeError: progress or config are no dicts, or hold what JSON can't.
    """
    _check_owners("save_checkpoint", net, optimizer)
    for part, value in (("progress", progress), ("config", config)):
        if value is not None and not isinstance(value, dict):
            raise TypeError(f"save_checkpoint: {part}: expected a dict, got {type(value).__name__}")
    arrays = dict(net.parameters()) | {f"state/{name}": value for name, value in net.state().items()}
    saved = None
    if optimizer is not None:
        saved = optimizer.state_dict()
        arrays |= {f"optimizer/{name}": value for name, value in saved.pop("arrays").items()}
    # safetensors writes the memory of an array that is not C-contiguous in the wrong order, without a word
    arrays = {name: np.require(value, requirements="C") for name, value in arrays.items()}
    manifest = {
        "format": FORMAT,
        "arrays": {name: _describe(value) for name, value in arrays.items()},
        "optimizer": saved,
        "progress": progress or {},
        "config": config or {},
        "versions": {"numpy": np.__version__, "python": platform.python_version()},
    }
    try:
        text = json.dumps(manifest, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"save_checkpoint: progress, config: expected only what JSON can hold; {error}") from None
    metadata = {"scratchnet": text, "scratchnet_sha256": hashlib.sha256(text.encode()).hexdigest()}
    try:
        data = safetensors.numpy.save(arrays, metadata=metadata)
        with whole(path) as file:
            file.write(data)
            file.flush()
            if Path(file.name).read_bytes() != data:
                raise OSError("what was read back is not what was written")
    except (OSError, ValueError, safetensors.SafetensorError) as error:  # ValueError: a name that no file can have
        raise CheckpointError(path, f"could not be saved ({error}); any older file there is unharmed") from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file written by save_checkpoint and verify every byte of it.

    Raises:
        CheckpointError: there is no such file, it is no checkpoint of scratchnet, or it is damaged.
    """
    path = Path(path)
    if not os.path.isfile(path):
        folder = os.path.isdir(path)
        raise CheckpointError(path, "a folder; name the checkpoint.safetensors in it" if folder else "no such file")
    try:
        path.open("rb").close()  # for the reason why it can't be: the library says that there is no such file
    except OSError as error:
        raise CheckpointError(path, f"can't be opened ({error.strerror})") from error
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            text = metadata.get("scratchnet", "")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except Exception as error:  # the library raises its own, OSError, and what a hostile header provokes
        raise CheckpointError(path, f"not a readable safetensors file ({error})") from error
    if not text:
        raise CheckpointError(path, "a safetensors file, but not one of scratchnet: it has no manifest")
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get("scratchnet_sha256"):
        raise CheckpointError(path, "damaged: its manifest does not match its checksum")
    manifest = _read_manifest(path, text)
    _verify(path, arrays, manifest["arrays"])
    return Checkpoint(path, arrays, manifest["optimizer"], manifest["progress"], manifest["config"])


def restore(checkpoint: Checkpoint, net: Sequential, optimizer: Optimizer | None = None) -> None:
    """Put a checkpoint's state into a net (and optimizer) of the same make. Nothing is written unless everything fits.

    Raises:
        CheckpointError: the net's parameters or state have other names, shapes or dtype, or the optimizer is of another
            class. Layers without either, such as ReLU, are not in the file.
        TypeError: an argument is not what it should be.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"restore: checkpoint: expected what load_checkpoint returns, got {type(checkpoint).__name__}")
    _check_owners("restore", net, optimizer)
    targets = dict(net.parameters()) | {f"state/{name}": value for name, value in net.state().items()}
    found = {name: value for name, value in checkpoint.arrays.items() if not name.startswith("optimizer/")}
    for name in sorted(targets.keys() | found.keys()):
        if name not in found or name not in targets:
            where = "in the file, not in the net" if name in found else "in the net, not in the file"
            raise CheckpointError(checkpoint.path, f"made by another net: {name} is {where}")
        got, want = found[name], targets[name]
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            raise CheckpointError(
                checkpoint.path,
                f"made by another net: expected {name} as {want.dtype} {want.shape}, got {got.dtype} {got.shape}",
            )
    if optimizer is not None:
        if checkpoint.optimizer is None:
            raise CheckpointError(checkpoint.path, "it was saved without an optimizer; pass none to restore")
        state = {
            name.removeprefix("optimizer/"): value
            for name, value in checkpoint.arrays.items()
            if name.startswith("optimizer/")
        }
        try:
            optimizer.load_state_dict(checkpoint.optimizer | {"arrays": state})
        except (TypeError, ValueError) as error:
            raise CheckpointError(checkpoint.path, f"made by another optimizer: {error}") from error
    for name, target in targets.items():
        target[...] = found[name]


def _check_owners(name: str, net: Any, optimizer: Any) -> None:
    if not isinstance(net, Sequential):
        raise TypeError(f"{name}: net: expected a Sequential as second argument, got {type(net).__name__}")
    if optimizer is not None:
        check_moves(name, optimizer, net.params, part=True)


def _describe(array: np.ndarray) -> dict[str, Any]:
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
    }


def _read_manifest(path: Path, text: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f"its manifest is no JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise CheckpointError(path, f"expected its manifest to be a JSON object, got {type(manifest).__name__}")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            path, f"expected format {FORMAT}, got {manifest.get('format')}; update scratchnet to read it"
        )
    for part in ("arrays", "optimizer", "progress", "config"):
        if part not in manifest:
            raise CheckpointError(path, f"incomplete: its manifest lacks {part}")
        if not isinstance(manifest[part], dict) and (part, manifest[part]) != ("optimizer", None):
            got = type(manifest[part]).__name__
            raise CheckpointError(path, f"expected {part} in its manifest to be a JSON object, got {got}")
    return manifest


def _verify(path: Path, arrays: dict[str, np.ndarray], described: dict[str, dict[str, Any]]) -> None:
    if arrays.keys() != described.keys():
        odd = sorted(arrays.keys() ^ described.keys())
        raise CheckpointError(path, f"damaged: arrays and manifest disagree about {', '.join(odd)}")
    for name, array in arrays.items():
        if _describe(array) != described[name]:
            raise CheckpointError(path, f"damaged: {name} does not match its checksum")
