"""A checkpoint holds everything, survives every failure while saving, and is refused when a single byte is off."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import scratchnet
from scratchnet import Sequential, optimizers
from scratchnet.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from scratchnet.layers import BatchNorm1d, Dense, Dropout, ReLU
from scratchnet.losses import softmax_cross_entropy


def make(seed=0, units=5, dtype="float32"):
    net = Sequential([Dense(units), BatchNorm1d(), ReLU(), Dropout(0.3), Dense(3)], (4,), seed=seed, dtype=dtype)
    return net, optimizers.Adam(net.params)


def steps(net, optimizer, count):
    rng = np.random.default_rng(7)
    x, labels = rng.standard_normal((6, 4)).astype(net.dtype), np.array([0, 1, 2, 0, 1, 2])
    for _ in range(count):
        net.backward(softmax_cross_entropy(net.forward(x, train=True), labels)[1])
        optimizer.step(net.grads)


def test_a_restored_run_goes_on_bit_for_bit(tmp_path):
    path = tmp_path / "c.safetensors"
    net, adam = make()
    steps(net, adam, 5)
    save_checkpoint(path, net, adam, {"epoch": 2, "loss_sum": 0.1 + 0.2}, {"data": "digits"})
    steps(net, adam, 5)
    other, other_adam = make()  # of the same seed: it decides the dropout masks
    other.params[...] = 0
    checkpoint = load_checkpoint(path)
    restore(checkpoint, other, other_adam)
    assert checkpoint.progress == {"epoch": 2, "loss_sum": 0.1 + 0.2} and checkpoint.config == {"data": "digits"}
    steps(other, other_adam, 5)
    np.testing.assert_array_equal(other.params, net.params)
    assert other_adam.t == adam.t == 10
    for name, value in net.state().items():
        np.testing.assert_array_equal(other.state()[name], value)


def test_other_tools_can_read_the_weights(tmp_path):
    net, adam = make()
    save_checkpoint(tmp_path / "c.safetensors", net, adam)
    arrays = safetensors.numpy.load_file(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(arrays["0.weight"], net.layers[0].weight)
    assert {"4.bias", "state/1.running_mean", "optimizer/m", "optimizer/v"} <= arrays.keys()


@pytest.mark.parametrize("failing", ["write", "fsync", "replace", "read back"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_failed_save_is_loud_and_harmless(tmp_path, monkeypatch, failing, code):
    path = tmp_path / "c.safetensors"
    net, adam = make()
    save_checkpoint(path, net, adam, {"epoch": 1})
    before = path.read_bytes()

    def fail(*args, **named):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        if failing == "write":
            patch.setattr("builtins.open", fail)
        elif failing == "read back":
            patch.setattr(Path, "read_bytes", lambda self: b"short")
        else:
            patch.setattr(os, failing, fail)
        with pytest.raises(CheckpointError, match=r"could not be saved .* older file there is unharmed"):
            save_checkpoint(path, net, adam, {"epoch": 2})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]
    assert load_checkpoint(path).progress == {"epoch": 1}


def test_what_json_can_not_hold_is_a_clear_error(tmp_path):
    with pytest.raises(TypeError, match="expected only what JSON can hold"):
        save_checkpoint(tmp_path / "c.safetensors", make()[0], progress={"a": np.float32(1)})


def test_state_of_any_layout_and_rank_comes_back(tmp_path):
    class Counting(ReLU):
        def __init__(self):
            super().__init__()
            self.table, self.count = np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(7)

        def state(self):
            return {"table": self.table, "count": self.count}

    net, other = (Sequential([Dense(2), Counting()], (3,)) for _ in range(2))
    other.layers[1].table[...], other.layers[1].count[...] = 0, 0
    save_checkpoint(tmp_path / "c.safetensors", net)
    restore(load_checkpoint(tmp_path / "c.safetensors"), other)
    for name, value in net.state().items():
        np.testing.assert_array_equal(other.state()[name], value)


@pytest.mark.parametrize("part", ["progress", "config"])
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path, part):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, make()[0], config={"good": 1})
    with pytest.raises(TypeError, match=f"save_checkpoint: {part}: expected a dict, got str"):
        save_checkpoint(path, make()[0], **{part: "a note"})
    with pytest.raises(CheckpointError, match=r"could not be saved .* any older file there is unharmed"):
        save_checkpoint(path, make()[0], **{part: {"note": "x" * 100_000_001}})
    assert load_checkpoint(path).config == {"good": 1}


def test_what_is_no_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"a folder; name the checkpoint\.safetensors in it"):
        load_checkpoint(tmp_path)
    with pytest.raises(TypeError, match="restore: checkpoint: expected what load_checkpoint returns, got str"):
        restore(str(tmp_path), make()[0])


def test_a_missing_folder_is_a_clear_error(tmp_path):
    net, _ = make()
    with pytest.raises(CheckpointError, match="could not be saved"):
        save_checkpoint(tmp_path / "absent" / "c.safetensors", net)


SAVE_FOR_EVER = """
    import sys
    import numpy as np
    from scratchnet import Sequential
    from scratchnet.checkpoint import save_checkpoint
    from scratchnet.layers import Dense
    net = Sequential([Dense(500)], (500,))
    step = 0
    while True:
        step += 1
        net.params[...] = step
        save_checkpoint(sys.argv[1], net, progress={"step": step})
        print(step, flush=True)
"""


@pytest.mark.jit_only
def test_killed_while_saving_the_last_good_file_stays(tmp_path):
    path = tmp_path / "c.safetensors"
    environment = dict(os.environ, PYTHONPATH=str(Path(scratchnet.__file__).parents[1]))
    code = textwrap.dedent(SAVE_FOR_EVER)
    for delay in np.random.default_rng(0).uniform(0.0, 0.05, 8):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            reported = [int(line) for line in process.stdout.read().split()] or [1]
        checkpoint = load_checkpoint(path)
        step = checkpoint.progress["step"]
        assert step >= reported[-1]
        assert (checkpoint.arrays["0.weight"] == step).all()


def test_every_flipped_byte_is_noticed(tmp_path):
    """Damage anywhere, header, manifest or data, is one clean error; none loads as other numbers."""
    path = tmp_path / "c.safetensors"
    net, adam = make()
    steps(net, adam, 2)
    save_checkpoint(path, net, adam, {"epoch": 3})
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(0, 64), *rng.integers(0, len(good), 300)]
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, -1, -100])
def test_a_truncated_file_is_a_clean_error(tmp_path, length):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, make()[0])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        load_checkpoint(path)


def rewritten(path, change):
    """Save the file again with a changed manifest and a matching checksum, as a newer or foreign version might."""
    with safetensors.safe_open(path, framework="numpy") as file:
        manifest = json.loads(file.metadata()["scratchnet"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(manifest, arrays)
    text = json.dumps(manifest)
    metadata = {"scratchnet": text, "scratchnet_sha256": hashlib.sha256(text.encode()).hexdigest()}
    safetensors.numpy.save_file(arrays, path, metadata=metadata)


FOREIGN = [
    (lambda manifest, arrays: manifest.update(format=2), "expected format 1, got 2; update scratchnet"),
    (lambda manifest, arrays: arrays.pop("0.weight"), "arrays and manifest disagree about 0.weight"),
    (lambda manifest, arrays: manifest.pop("arrays"), "its manifest lacks arrays"),
    (
        lambda manifest, arrays: manifest.update(arrays=[]),
        "expected arrays in its manifest to be a JSON object, got list",
    ),
    (lambda manifest, arrays: manifest.update(progress=None), "expected progress in its manifest to be a JSON object"),
    (lambda manifest, arrays: arrays["0.bias"].__iadd__(1), "0.bias does not match its checksum"),
]


@pytest.mark.parametrize(("change", "message"), FOREIGN)
def test_a_foreign_manifest_is_a_clean_error(tmp_path, change, message):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, make()[0])
    rewritten(path, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "its manifest is no JSON"),
        ("[" * 100_000, "its manifest is no JSON"),
        ("[1]", "JSON object, got list"),
    ],
    ids=["nonsense", "deep", "list"],
)
def test_a_manifest_that_is_none_is_a_clean_error(tmp_path, text, message):
    path = tmp_path / "c.safetensors"
    metadata = {"scratchnet": text, "scratchnet_sha256": hashlib.sha256(text.encode()).hexdigest()}
    safetensors.numpy.save_file({"w": np.zeros(3)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_names_that_no_file_can_have(tmp_path):
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(CheckpointError, match="could not be saved"):
            save_checkpoint(tmp_path / name, make()[0])
        with pytest.raises(CheckpointError, match="no such file"):
            load_checkpoint(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_the_mode_of_a_file_stays_and_a_read_only_one_is_kept(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, make()[0])
    path.chmod(0o600)
    save_checkpoint(path, make()[0])
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o444)
    with pytest.raises(CheckpointError, match="the file there is read-only"):
        save_checkpoint(path, make()[0])


def test_foreign_files(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(path)
    safetensors.numpy.save_file({"w": np.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not one of scratchnet"):
        load_checkpoint(path)
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 6}, r"made by another net: expected 0\.bias as float32 \(6,\), got float32 \(5,\)"),
        ({"dtype": "float64"}, r"expected 0\.bias as float64 \(5,\), got float32"),
    ],
)
def test_another_net_is_refused_and_left_alone(tmp_path, options, message):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, *make())
    other, adam = make(**options)
    before = other.params.copy()
    with pytest.raises(CheckpointError, match=message):
        restore(load_checkpoint(path), other, adam)
    np.testing.assert_array_equal(other.params, before)


def test_what_is_no_net_or_optimizer_is_refused(tmp_path):
    path, (net, optimizer) = tmp_path / "c.safetensors", make()[:2]
    with pytest.raises(
        TypeError, match=r"save_checkpoint: optimizer: expected one such as Adam\(net.params\), got Seq"
    ):
        save_checkpoint(path, net, net)
    save_checkpoint(path, net, optimizer)
    with pytest.raises(TypeError, match="restore: net: expected a Sequential as second argument, got Adam"):
        restore(load_checkpoint(path), optimizer)
    with pytest.raises(TypeError, match="restore: optimizer: expected one such as Adam"):
        restore(load_checkpoint(path), net, net)


def test_other_layers_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, make()[0])
    with pytest.raises(CheckpointError, match="in the file, not in the net"):
        restore(load_checkpoint(path), Sequential([Dense(5)], (4,)))


def test_another_optimizer_is_refused_and_the_net_left_alone(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, *make())
    other, _ = make(seed=4)
    before = other.params.copy()
    with pytest.raises(CheckpointError, match="made by another optimizer"):
        restore(load_checkpoint(path), other, optimizers.SGD(other.params, lr=0.1))
    save_checkpoint(path, make()[0])
    with pytest.raises(CheckpointError, match="saved without an optimizer"):
        restore(load_checkpoint(path), other, optimizers.Adam(other.params))
    np.testing.assert_array_equal(other.params, before)


def test_an_optimizer_of_another_net_is_refused(tmp_path):
    path, (net, optimizer), (other, _) = tmp_path / "c.safetensors", make(), make()
    with pytest.raises(ValueError, match="save_checkpoint: optimizer: expected one over this net's params"):
        save_checkpoint(path, other, optimizer)
    save_checkpoint(path, net, optimizer)
    with pytest.raises(ValueError, match="restore: optimizer: expected one over this net's params"):
        restore(load_checkpoint(path), other, optimizer)
    save_checkpoint(path, net, optimizers.Adam(net.params[3:]))  # one of some of them has its uses


def test_a_link_stays_a_link(tmp_path):
    net = Sequential([Dense(2)], (3,))
    (tmp_path / "link").symlink_to(tmp_path / "file")
    save_checkpoint(tmp_path / "link", net)
    assert (tmp_path / "link").is_symlink()
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "file").arrays["0.weight"], net.layers[0].weight)


def test_a_byte_that_the_disk_returns_otherwise_fails_the_save(tmp_path, monkeypatch):
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self)[:-1] + bytes([read(self)[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="what was read back is not what was written"):
        save_checkpoint(tmp_path / "c.safetensors", make()[0])


def test_an_array_that_the_manifest_does_not_know_is_a_clean_error(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, make()[0])
    rewritten(path, lambda manifest, arrays: arrays.update(extra=np.zeros(1)))
    with pytest.raises(CheckpointError, match="arrays and manifest disagree about extra"):
        load_checkpoint(path)
