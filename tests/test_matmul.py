"""The product and the register tile under it: exact on integers at every edge, the same bits for any thread count."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import threading

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir
from numba import prange
from processes import run_code

from scratchnet import kernels, threads
from scratchnet.kernels import jit, tile, vectors
from scratchnet.kernels.matmul import BLOCK, FEW, matmul
from scratchnet.kernels.memory import next_task

# Around the edges of tiles (1 to 12 rows, 4 to 64 lanes), of blocks of K, and primes.
SIZES = (0, 1, 2, 3, 5, 6, 7, 12, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97, BLOCK - 1, BLOCK, BLOCK + 1)
LAYOUTS = ("CC", "CF", "FC", "FF")
DTYPES = ("float32", "float64")

sizes = st.sampled_from(SIZES)


def operands(m, k, n, layout="CC", dtype="float32", seed=0):
    """Small integers, so that sums are exact in any order: a (m, k), b (k, n), bias (n,)."""
    rng = np.random.default_rng(seed)
    a, b, bias = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((m, k), (k, n), (n,)))
    return np.asarray(a, order=layout[0]), np.asarray(b, order=layout[1]), bias


def product(c, a, b, bias=None, sums=None):
    """c = a b + bias, where what stands transposed in memory is given to matmul as it stands."""
    turn_a, turn_b = not a.flags.c_contiguous, not b.flags.c_contiguous
    matmul(c, a.T if turn_a else a, b.T if turn_b else b, bias, sums, turn_a, turn_b)


@settings(max_examples=15 if numba.config.DISABLE_JIT else 60, deadline=None)
@given(
    m=sizes, k=sizes, n=sizes, layout=st.sampled_from(LAYOUTS), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 9)
)
def test_integers_are_multiplied_exactly(m, k, n, layout, dtype, seed):
    a, b, bias = operands(m, k, n, layout, dtype, seed)
    c = np.full((m, n), np.nan, dtype)
    product(c, a, b)
    np.testing.assert_array_equal(c, a @ b)
    product(c, a, b, bias)
    np.testing.assert_array_equal(c, a @ b + bias)
    if layout[1] == "C":
        sums = np.full(n, np.nan, dtype)
        product(c, a, b, sums=sums)
        np.testing.assert_array_equal(c, a @ b)
        np.testing.assert_array_equal(sums, b.sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (128, 300, 200), (300, 128, 400), (500, 257, 10), (13, 400, 700), (513, 300, 77), (70, 300, 1024),
        (26, 1024, 1024), (30, 600, 900),
    ],
)  # fmt: skip
def test_large_products(m, k, n, layout, dtype):
    a, b, bias = operands(m, k, n, layout, dtype)
    c = np.full((m, n), np.nan, dtype)
    product(c, a, b, bias)
    np.testing.assert_array_equal(c, a @ b + bias)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_that_of_a_sum_in_this_dtype(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((70, 900)), rng.standard_normal((900, 80))
    a, b, c = a.astype(dtype), b.astype(dtype), np.empty((70, 80), dtype)
    matmul(c, a, b)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    assert np.abs(c - exact).max() <= 4 * np.finfo(dtype).eps * np.sqrt(900) * np.abs(exact).max()


def test_threads_are_chosen_by_the_time_that_a_product_takes(monkeypatch):
    """A matrix of one column takes as long as one of a whole vector, one row as long as a few."""
    asked = []
    monkeypatch.setattr("scratchnet.kernels.matmul.threads_for_product", lambda work: asked.append(work) or 1)
    lanes = tile.shapes(np.dtype(np.float32))[0].lanes
    for m, n in ((7, 1), (7, lanes), (7, lanes + 1), (1, lanes)):
        a, b, _ = operands(m, 5, n)
        matmul(np.empty((m, n), np.float32), a, b)
    assert asked == [7 * lanes * 5, 7 * lanes * 5, 7 * 2 * lanes * 5, FEW * lanes * 5]


def test_inputs_of_any_steps_are_understood():
    a, b, _ = operands(20, 30, 40)
    c = np.empty((10, 20), np.float32)
    matmul(c, a[::2], b[:, 1::2])
    np.testing.assert_array_equal(c, a[::2] @ b[:, 1::2])
    matmul(c, a[::2], b[:, 1::2], bias=b[0, ::2])
    np.testing.assert_array_equal(c, a[::2] @ b[:, 1::2] + b[0, ::2])
    a.flags.writeable = False
    matmul(c, a[:10], b[:, :20])
    np.testing.assert_array_equal(c, a[:10] @ b[:, :20])


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("m", "k", "n"), [(13, 7, 5), (30, 140, 70)])
def test_nan_and_infinity_travel_and_stay_in_their_places(m, k, n, special):
    for which in range(3):
        arrays = operands(m, k, n)
        arrays[which].reshape(-1)[arrays[which].size // 2] = special
        a, b, bias = arrays
        c = np.zeros((m, n), np.float32)
        matmul(c, a, b, bias)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(c, a @ b + bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (13, 7, 5), (128, 300, 200), (61, 0, 67), (70, BLOCK + 1, 300)])
def test_a_relu_at_the_edge_is_that_of_its_own_kernels(m, k, n, dtype):
    """Forward and backward, with NaN among what is rectified and what is masked."""
    a, b, bias = operands(m, k, n, "CC", dtype)
    bias[n // 2] = np.nan
    c, want, apart = (np.empty((m, n), dtype) for _ in range(3))
    matmul(apart, a, b, bias)
    kernels.relu_forward(want, apart)
    matmul(c, a, b, bias, rectify=True)
    np.testing.assert_array_equal(c, want)
    outputs = c.copy()
    matmul(apart, a, np.ascontiguousarray(b.T), turn_b=True)
    kernels.relu_backward(want, apart, outputs)
    matmul(c, a, np.ascontiguousarray(b.T), turn_b=True, outputs=outputs)
    np.testing.assert_array_equal(c, want)


def test_junk_in_the_workspace_reaches_no_result():
    a, b, bias = operands(7, 11, 5)
    c = np.empty((7, 5), np.float32)
    matmul(c, a, b, bias)
    jit.workspace("matmul", 1, c.dtype).fill(np.nan)
    matmul(c, a, b, bias)
    np.testing.assert_array_equal(c, a @ b + bias)


# --- threads -----------------------------------------------------------------------------------------------------

BITS = """
    import hashlib, sys
    import numpy as np
    from scratchnet import threads
    from scratchnet.kernels.matmul import matmul

    def bits():
        rng, digest = np.random.default_rng(0), hashlib.sha256()
        for m, k, n in ((130, 257, 100), (1300, 100, 10), (100, 130, 300), (61, 67, 701)):
            for layout in ("CC", "CF", "FC", "FF"):
                turn_a, turn_b = layout[0] == "F", layout[1] == "F"
                a = rng.standard_normal((k, m) if turn_a else (m, k)).astype(np.float32)
                b = rng.standard_normal((n, k) if turn_b else (k, n)).astype(np.float32)
                bias = rng.standard_normal(n).astype(np.float32)
                c, sums = np.zeros((m, n), np.float32), np.zeros(n, np.float32)
                matmul(c, a, b, bias, None, turn_a, turn_b)
                digest.update(c)
                matmul(c, a, b, None, None if turn_b else sums, turn_a, turn_b)
                digest.update(c)
                digest.update(sums)
        return digest.hexdigest()

    results = []
    for count in map(int, sys.argv[1:]):
        threads.set_threads(count)
        results.append(bits())
    print(*results)
"""


@pytest.mark.jit_only
def test_any_number_of_threads_writes_the_same_bits():
    results = run_code(BITS, "1", "2", "3", "4", "7", NUMBA_NUM_THREADS="7").split()
    assert len(results) == 5 and len(set(results)) == 1
    results += run_code(BITS, "1", NUMBA_NUM_THREADS="1").split()
    assert len(set(results)) == 1


def test_one_and_two_threads_write_the_same_bits_in_this_process():
    before, digests = threads.get_threads(), set()
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((200, 130), (130, 300)))
    try:
        for count in (1, min(2, threads.available_threads())):
            threads.set_threads(count)
            c = np.empty((200, 300), np.float32)
            product(c, a, b)
            digests.add(hashlib.sha256(c).hexdigest())
            product(c, np.asfortranarray(a), b)
            digests.add(hashlib.sha256(c).hexdigest())
    finally:
        threads.set_threads(before)
    assert len(digests) == 1


@jit.kernel
def take_all(counter, taken):
    for i in prange(taken.size):
        taken[i] = next_task(counter.ctypes.data)


def test_no_number_is_taken_twice():
    """By as many threads as there are, which all ask at once."""
    counter, taken = np.array([5]), np.empty(100_000, np.int64)
    take_all.launch(True, counter, taken)
    np.testing.assert_array_equal(np.sort(taken), np.arange(5, 100_005))
    assert counter[0] == 100_005


def test_threads_are_worth_it_from_a_size_on_and_never_in_a_forked_child(monkeypatch):
    assert jit.threads_for_product(jit.PARALLEL_PRODUCT_FROM - 1) == 1
    assert jit.threads_for_product(jit.PARALLEL_PRODUCT_FROM) == threads.get_threads()
    monkeypatch.setattr(threads, "_forked", True)
    assert jit.threads_for_product(jit.PARALLEL_PRODUCT_FROM) == 1


def test_python_threads_may_multiply_at_once():
    """Products below the parallel size take no lock: each Python thread must have a workspace of its own."""
    wrong = []

    def work(seed):
        a, b, bias = operands(30, 140, 70, LAYOUTS[seed % 4], seed=seed)
        want, c = a @ b + bias, np.empty((30, 70), np.float32)
        for _ in range(20 if numba.config.DISABLE_JIT else 300):
            matmul(c, a, b, bias)
            wrong.extend([seed] * (not np.array_equal(c, want)))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


# --- the tile ----------------------------------------------------------------------------------------------------


def call(function, *arguments):
    """Call what tile.functions() gives, from Python."""
    if not callable(function):
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * (1 + len(arguments)))(function)
        arguments = (0, *arguments)
    function(*arguments)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES), groups=st.integers(0, 3), k=st.integers(0, 5))
def test_a_tile_is_its_equation_and_touches_nothing_else(data, dtype, groups, k):
    shape = data.draw(st.sampled_from(tile.shapes(np.dtype(dtype))))
    width, size = shape.vectors * shape.lanes, np.dtype(dtype).itemsize
    rows, lanes = data.draw(st.integers(1, shape.rows)), data.draw(st.integers(1, width))
    a_row, a_group, a_k, d_row = (data.draw(st.integers(0, 9)) for _ in range(4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a, b = rng.integers(-3, 4, 200).astype(dtype), rng.integers(-3, 4, (groups * k + 1, width)).astype(dtype)
    c, d = np.full((rows + 1, width + 3), 99, dtype), rng.integers(-3, 4, 200 + width).astype(dtype)
    want = c.copy()
    for p in range(rows):
        want[p, :lanes] = d[p * d_row : p * d_row + lanes]
        for g in range(groups):
            for i in range(k):
                want[p, :lanes] += a[p * a_row + g * a_group + i * a_k] * b[g * k + i, :lanes]
    at = [array.ctypes.data for array in (c, d, a, b)]
    call(
        tile.functions(np.dtype(dtype)).multiply, rows, shape.vectors, at[0], c.shape[1], at[1], d_row,
        at[2], a_row, a_group, a_k, at[3], width, lanes, groups, k,
    )  # fmt: skip
    np.testing.assert_array_equal(c, want)
    assert c.itemsize == size


def test_the_vector_unit_is_read_off_the_assembly():
    assert vectors._read_assembly("vfmadd213ps %zmm2, %zmm1, %zmm0")[1:] == (64, 32, True)
    assert vectors._read_assembly("vfmadd213ps %ymm2, %ymm1, %ymm0") == ("AVX2", 32, 16, True)
    assert vectors._read_assembly("vmovups %ymm5, (%rsp)\n callq fmaf") == ("AVX", 32, 16, False)
    assert vectors._read_assembly("movaps %xmm7, (%rsp)\n callq fmaf") == ("SSE2", 16, 16, False)
    assert vectors._read_assembly("fmla v4.4s, v0.4s, v1.4s")[1:] == (16, 32, True)


def test_the_tile_is_described_in_words():
    unit, wide = vectors.vector_unit(), tile.shapes(np.dtype(np.float32))[-1]
    words = tile.describe_tile()
    assert words.startswith(f"{unit.name}, {unit.bytes // 4} float32 lanes, ")
    assert f"{wide.rows} x {wide.vectors} vectors" in words


def test_without_fused_instructions_a_product_is_added_apart(monkeypatch):
    monkeypatch.setattr(vectors, "vector_unit", lambda: vectors.VectorUnit("SSE2", 16, 16, False))
    kind = ir.VectorType(ir.FloatType(), 4)
    function = ir.Function(ir.Module(), ir.FunctionType(kind, [kind] * 3), "apart")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(vectors.Vectors(builder, ir.FloatType()).multiply_add(*function.args))
    assert "fmul" in str(function) and "fadd" in str(function) and "llvm.fma" not in str(function)


PROCESSOR = """
    import numpy as np
    from scratchnet.kernels import jit, tile
    from scratchnet.kernels.matmul import matmul

    for m, k, n in ((1, 1, 1), (13, 130, 33), (7, 0, 5), (40, 17, 70)):
        for layout in ("CC", "CF", "FC", "FF"):
            rng = np.random.default_rng(0)
            a = np.asarray(rng.integers(-3, 4, (m, k)), "float32", order=layout[0])
            b = np.asarray(rng.integers(-3, 4, (k, n)), "float32", order=layout[1])
            bias, c = rng.integers(-3, 4, n).astype("float32"), np.empty((m, n), "float32")
            matmul(c, a, b, bias)
            assert np.array_equal(c, a @ b + bias), (m, k, n, layout)
    print(sum(compiled.cache_hits for compiled in jit._natives), tile.describe_tile())
"""
FEATURES = llvm.get_host_cpu_features()


@pytest.mark.jit_only
@pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="compares this host's processor with others")
def test_other_processors_have_their_own_tiles_and_cache(tmp_path):
    """The name alone would keep this host's features: numba asks for both."""
    runs = [({}, tile.describe_tile()), ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, None)]
    if FEATURES.get("avx2") and FEATURES.get("fma"):
        name = "AVX2, 8 float32 lanes, 6 x 2 vectors"
        runs.append(({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}, name))
    if platform.machine() in ("x86_64", "AMD64"):
        runs[1] = (runs[1][0], "SSE2, 4 float32 lanes, 6 x 2 vectors, multiply and add apart")
    for hits in (0, 2):  # the second time, multiply and pack come from the cache
        for flags, name in runs:
            got = run_code(PROCESSOR, SCRATCHNET_CACHE=str(tmp_path), **flags)
            assert got.split()[0] == str(hits)
            assert name is None or got.strip().endswith(name)
    assert len(list(tmp_path.glob("kernels-*"))) == len(runs)
