"""The decorator under the kernels: what is compiled, cached, refused; and that the tests' own bounds check works."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest
import twin_cases
from processes import run, run_code

from scratchnet import kernels, reference, threads
from scratchnet.kernels import jit

pytestmark = pytest.mark.jit_only

PLANTED = """
    import numpy as np
    from numba import prange
    from scratchnet.kernels.jit import kernel

    @kernel
    def reads_past_the_end(y, x):
        for i in prange(x.size):
            y[i] = x[i + 1]

    for size in (10, 100_000):
        try:
            reads_past_the_end(np.empty(size, np.float32), np.ones(size, np.float32))
        except IndexError:
            print("IndexError")
"""

USE = """
    import warnings, numpy as np
    warnings.simplefilter("error" if {strict} else "default")
    from scratchnet import kernels
    y = np.empty(3, np.float32)
    kernels.relu_forward(y, np.array([-1, 0, 2], np.float32))
    print(y.tolist(), sum(kernels.relu_forward.serial.stats.cache_hits.values()))
"""


def use(cache: Path, strict: bool = True, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run a kernel in a fresh Python with this cache folder."""
    return run("-c", textwrap.dedent(USE.format(strict=strict)), SCRATCHNET_CACHE=str(cache), **environment)


def test_a_planted_out_of_bounds_read_raises_under_boundscheck(tmp_path):
    shown = run_code(PLANTED, NUMBA_BOUNDSCHECK="1", SCRATCHNET_CACHE=str(tmp_path))
    assert shown.split() == ["IndexError", "IndexError"]


def test_second_start_loads_from_a_private_cache(tmp_path):
    assert use(tmp_path).stdout == "[0.0, 0.0, 2.0] 0\n"
    assert use(tmp_path).stdout == "[0.0, 0.0, 2.0] 1\n"
    (folder,) = tmp_path.glob("kernels-*")
    assert folder.stat().st_mode & 0o077 == 0


def test_a_cold_cache_is_known_for_one(tmp_path):
    code = """
        import numpy as np
        from scratchnet import kernels
        from scratchnet.kernels import jit
        before = jit.cache_is_cold()
        kernels.relu_forward(np.empty(3), np.ones(3))
        print(before, jit.cache_is_cold())
    """
    assert run_code(code, SCRATCHNET_CACHE=str(tmp_path)) == "True False\n"


def test_another_numba_flag_means_another_folder(tmp_path):
    use(tmp_path, NUMBA_BOUNDSCHECK=None)
    use(tmp_path, NUMBA_BOUNDSCHECK="1")
    use(tmp_path, NUMBA_BOUNDSCHECK=None, NUMBA_NUM_THREADS="1")
    assert len(list(tmp_path.glob("kernels-*"))) == 2


@pytest.mark.parametrize("damage", [b"", b"\x80\x04garbage"], ids=["emptied", "garbage"])
@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
def test_a_damaged_cache_is_compiled_again(tmp_path, pattern, damage):
    use(tmp_path)
    for file in tmp_path.glob(f"kernels-*/{pattern}"):
        file.write_bytes(damage)
    assert use(tmp_path).stdout == "[0.0, 0.0, 2.0] 0\n"
    assert use(tmp_path).stdout == "[0.0, 0.0, 2.0] 1\n"


def test_machine_code_with_a_flipped_bit_is_compiled_again(tmp_path):
    use(tmp_path)
    (file,) = tmp_path.glob("kernels-*/*.nbc")
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    assert use(tmp_path).stdout == "[0.0, 0.0, 2.0] 0\n"
    assert use(tmp_path).stdout == "[0.0, 0.0, 2.0] 1\n"


def test_an_edited_source_means_another_folder(monkeypatch, tmp_path):
    before = jit._state_hash()
    copy = tmp_path / "kernels"
    copy.mkdir()
    for source in Path(jit.__file__).parent.glob("*.py"):
        (copy / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(jit, "__file__", str(copy / "jit.py"))
    assert jit._state_hash() == before
    with open(copy / "dense.py", "a") as file:
        file.write("# edited\n")
    assert jit._state_hash() != before


def test_without_a_usable_cache_it_warns_once_and_works(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    run = use(blocked, strict=False)
    assert run.stdout == "[0.0, 0.0, 2.0] 0\n"
    assert run.stderr.count("Set SCRATCHNET_CACHE") == 1


def test_without_a_home_it_works(tmp_path):
    home = tmp_path / "file"
    home.write_text("not a folder")
    code = USE.format(strict=False)
    shown = run_code(code, SCRATCHNET_CACHE=None, XDG_CACHE_HOME=None, HOME=str(home))
    assert shown == "[0.0, 0.0, 2.0] 0\n"


def test_a_cache_that_fails_later_is_a_miss_and_told_once(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("no space left")

    def function(x):
        return x

    kept = jit._Cache(function, tmp_path, "serial")
    monkeypatch.setattr(jit, "_uncached", [])
    for method in ("load_overload", "save_overload", "flush"):
        monkeypatch.setattr(jit.FunctionCache, method, fail)
    with pytest.warns(RuntimeWarning, match=r"no space left.*Set SCRATCHNET_CACHE") as told:
        kept.save_overload(None, None)
        assert kept.load_overload(None, None) is None
    assert len(told) == 1


def with_floats():
    """Operations that take a Python float and give the same bits on both floors; batch norm's sums do not."""
    rng = np.random.default_rng(0)
    cases = {name: make(rng, 2, "float32", False) for name, make in twin_cases.CASES.items()}
    named = {name for name, (*_, scalars) in cases.items() if any(type(s) is float for s in scalars)}
    return sorted(name for name in named if not name.startswith("batch_norm"))


@pytest.mark.parametrize("name", with_floats())
def test_floats_take_the_dtype_of_the_arrays(name):
    """A float32 kernel that computed with a float64 would round twice, and differ from the reference in some bits."""
    written, read, scalars = twin_cases.CASES[name](np.random.default_rng(1), 3000, "float32", False)
    want, got = [a.copy() for a in written], [a.copy() for a in written]
    getattr(reference, name)(*want, *read, *scalars)
    getattr(kernels, name)(*got, *read, *scalars)
    for left, right in zip(got, want):
        np.testing.assert_array_equal(left, right)


def test_size_chooses_the_body():
    assert not jit.worth_threads(jit.PARALLEL_FROM - 1)
    assert jit.worth_threads(jit.PARALLEL_FROM) == (threads.get_threads() > 1)


FORK = """
    import os, numpy as np
    from scratchnet import kernels
    x = np.full(1 << 20, -1, np.float32)
    y = np.empty_like(x)
    kernels.relu_forward(y, x)
    child = os.fork()
    if child == 0:
        kernels.relu_forward(y, x)
        os._exit(int(y.any()))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

FORK_IN_FORWARD = """
    import os, signal, threading, numpy as np
    from scratchnet import Sequential, reference
    from scratchnet.layers import Dense, ReLU

    class Waiting(ReLU):
        def _forward(self, x, train):
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                over.wait()
            return super()._forward(x, train)

    inside, over = threading.Event(), threading.Event()
    net = Sequential([Dense(3), Waiting()], (2,), ops=reference)
    x = np.ones((4, 2), np.float32)
    other = threading.Thread(target=net.predict, args=(x,))
    other.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for a thread it does not have
        os._exit(net.predict(x).shape != (4, 3))
    over.set()
    other.join()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

PYTHON_THREADS = """
    import threading, numpy as np
    from scratchnet import kernels
    def work():
        x = np.full(1 << 17, -1, np.float32)
        y = np.ones_like(x)
        for _ in range(50):
            kernels.relu_forward(y, x)
        assert not y.any()
        done.append(1)
    done = []
    workers = [threading.Thread(target=work) for _ in range(8)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    print(len(done))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_runs_serial_kernels():
    assert run_code(FORK) == "0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_a_thread_is_inside_a_net_may_use_that_net():
    assert run_code(FORK_IN_FORWARD) == "0\n"


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_python_threads_may_share_the_kernels(layer):
    assert run_code(PYTHON_THREADS, NUMBA_THREADING_LAYER=layer) == "8\n"


def test_importing_compiles_nothing():
    code = """
        import scratchnet
        from scratchnet.kernels.jit import Kernel
        from scratchnet import kernels
        print(sum(len(k.serial.signatures) for k in vars(kernels).values() if isinstance(k, Kernel)))
    """
    assert run_code(code) == "0\n"


def test_the_user_own_wait_policy_wins():
    code = "import scratchnet, os; print(os.environ.get('OMP_WAIT_POLICY'))"
    assert run_code(code, OMP_WAIT_POLICY=None) == "PASSIVE\n"
    assert run_code(code, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE\n"
    assert run_code(code, OMP_WAIT_POLICY=None, SCRATCHNET_THREADS="off") == "None\n"
