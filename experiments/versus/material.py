"""The weights and batches that every framework starts from, in one .npz: peers need not import scratchnet to read it.

w0, b0, w1, b1, ...   dense (D, U), convolution (KH, KW, C, U), bias (U,)
x, y                  (batches, N, ...) float32 and (batches, N) int64; for the vae also noise (batches, N, latent)
indptr, indices, data one CSR matrix of batches * N rows, in place of x
params, grads         (P,) and (batches, P), for Adam alone
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from versus.nets import LATENT, Net


def write_material(net: Net, path: Path, smoke: bool) -> str:
    """Write the arrays of `net` to `path`; returns where the examples came from."""
    rng = np.random.default_rng(0)
    if net.kind == "adam":
        arrays = {
            "params": rng.standard_normal(net.batch, dtype=np.float32),
            "grads": rng.standard_normal((net.batches, net.batch), dtype=np.float32),
        }
        source = "drawn"
    else:
        arrays, source = _examples(net, rng, smoke)
        arrays |= _weights(net, rng)
    np.savez(path, **arrays)
    return source


def _weights(net: Net, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """He's normal for all but the outputs, which start small; biases start off zero, so that a lost one shows."""
    arrays: dict[str, np.ndarray] = {}
    shape, count = net.input_shape, 0
    for index, (kind, *sizes) in enumerate(net.layers):
        if kind in ("conv", "dense"):
            taps = (sizes[1], sizes[1]) if kind == "conv" else ()
            if net.kind == "vae" and count == 2:
                shape = (LATENT,)  # the decoder begins
            full = (*taps, shape[-1], sizes[0])
            last = index == len(net.layers) - 1 or (net.kind == "vae" and count == 1)
            spread = math.sqrt((0.1 if last else 2) / math.prod(full[:-1]))
            arrays[f"w{count}"] = spread * rng.standard_normal(full, dtype=np.float32)
            arrays[f"b{count}"] = np.float32(0.01) * rng.standard_normal(sizes[0], dtype=np.float32)
            count += 1
        shape = output_shape(shape, kind, *sizes)
    return arrays


def output_shape(shape: tuple[int, ...], kind: str, *sizes: int) -> tuple[int, ...]:
    """The shape of one example behind a layer."""
    if kind == "dense":
        return (sizes[0],)
    if kind == "flatten":
        return (math.prod(shape),)
    if kind == "conv":
        size, padding = sizes[1:]
        return (*(side + 2 * padding - size + 1 for side in shape[:2]), sizes[0])
    if kind == "pool":
        size, stride, padding = sizes
        return (*((side + 2 * padding - size) // stride + 1 for side in shape[:2]), shape[2])
    return shape


def _examples(net: Net, rng: np.random.Generator, smoke: bool) -> tuple[dict[str, np.ndarray], str]:
    rows = net.batches * net.batch
    if net.kind == "sparse":
        return _sparse_examples(net, rng, rows, smoke)
    if smoke:
        x, y, source = rng.random((rows, *net.input_shape), dtype=np.float32), rng.integers(0, 10, rows), "drawn"
    else:
        from scratchnet.data import load, scale

        split = load(net.dataset).train
        order = rng.choice(len(split), rows, replace=rows > len(split))
        x, y, source = scale(split.x[np.sort(order)]), split.y[np.sort(order)], net.dataset
        mixed = rng.permutation(rows)
        x, y = x[mixed], y[mixed]
    arrays = {"x": x.reshape(net.batches, net.batch, *net.input_shape), "y": y.reshape(net.batches, net.batch)}
    if net.kind == "vae":
        arrays["noise"] = rng.standard_normal((net.batches, net.batch, LATENT), dtype=np.float32)
    return arrays, source


def _sparse_examples(net: Net, rng: np.random.Generator, rows: int, smoke: bool) -> tuple[dict[str, np.ndarray], str]:
    if smoke:
        words = 140  # of a review, about as many as among IMDB's
        gaps = rng.integers(1, net.input_shape[0] // words, (rows, words), dtype=np.int32)
        indices = gaps.cumsum(axis=1, dtype=np.int32)
        arrays = {
            "indptr": np.arange(0, rows * words + 1, words, dtype=np.int32),
            "indices": indices.reshape(-1),
            "data": np.ones(rows * words, np.float32),
        }
        return arrays | {"y": _targets(net, rng.integers(0, 2, rows))}, "drawn"
    from scratchnet.data import load

    split = load(net.dataset).train
    order = rng.permutation(len(split))[:rows]
    x = split.x[order]
    arrays = {"indptr": x.indptr.astype(np.int32), "indices": x.indices.astype(np.int32), "data": x.data}
    return arrays | {"y": _targets(net, split.y[order])}, net.dataset


def _targets(net: Net, labels: np.ndarray) -> np.ndarray:
    """Labels 0 and 1 as what a logit is compared with, (batches, N, 1)."""
    return labels.astype(np.float32).reshape(net.batches, net.batch, 1)


def layer_weights(material: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) of each layer that has them, in order."""
    count = sum(name[0] == "w" for name in material)
    return [(material[f"w{i}"], material[f"b{i}"]) for i in range(count)]


def csr_batches(net: Net, material: dict[str, np.ndarray]) -> list:
    """The rows of a CSR matrix as one matrix per batch."""
    import scipy.sparse

    parts = (material["data"], material["indices"], material["indptr"])
    matrix = scipy.sparse.csr_matrix(parts, shape=(net.batches * net.batch, net.input_shape[0]))
    return [matrix[i : i + net.batch] for i in range(0, matrix.shape[0], net.batch)]
