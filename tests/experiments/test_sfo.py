"""The Sum-of-Functions Optimizer of the paper's figure 2b, and the script that races Adam against it."""

from __future__ import annotations

import itertools

import mnist_mlp_sfo as figure
import numpy as np
import pytest
from paper.digitised import paper_curves
from paper.table import Table
from sfo import SFO, fit_hessian
from sfo_subspace import Subspace


class Quadratics:
    """f_i(x) = (x - b_i)' A_i (x - b_i) / 2, and the minimum of their sum."""

    def __init__(self, count: int, size: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        roots = rng.standard_normal((count, size, size))
        self.a = roots @ roots.transpose(0, 2, 1) / size + 0.05 * np.eye(size)
        self.b = rng.standard_normal((count, size))
        self.best = np.linalg.solve(self.a.sum(0), np.einsum("ijk,ik->j", self.a, self.b))
        self.start = 3 * rng.standard_normal(size)

    def __call__(self, x: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        slope = self.a[i] @ (x - self.b[i])
        return float((x - self.b[i]) @ slope) / 2, slope

    def excess(self, x: np.ndarray) -> float:
        """The mean over i of f_i(x) - f_i(best)."""
        return float(np.mean([self(x, i)[0] - self(self.best, i)[0] for i in range(len(self.b))]))


def run(sfo: SFO, passes: int) -> SFO:
    for _ in range(passes * sfo.count):
        sfo.step()
    return sfo


# --- the optimizer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sum_of_quadratics_is_minimised(seed):
    functions = Quadratics(30, 20, seed)
    assert functions.excess(functions.start) > 1
    sfo = run(SFO(functions.start, 30, functions, seed=seed), 20)
    assert functions.excess(sfo.x) < 1e-8
    assert sfo.passes == 20
    assert sfo.active.all()


def test_it_also_converges_in_a_subspace_that_is_cut_again_and_again():
    functions = Quadratics(10, 300)
    sfo = SFO(functions.start, 10, functions)
    collapses = []
    collapse = sfo.basis.collapse
    sfo.basis.collapse = lambda wanted: (collapses.append(len(wanted)), collapse(wanted))[1]
    run(sfo, 20)
    assert len(collapses) > 10
    assert max(collapses) <= 2 * 10 + 1
    assert abs(functions.excess(sfo.x)) < 1e-8
    vectors = sfo.basis.vectors[: sfo.basis.size]
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-10)


def test_it_uses_the_gradient():
    functions = Quadratics(5, 8)
    turned = SFO(functions.start, 5, lambda x, i: (functions(x, i)[0], -functions(x, i)[1]))
    assert functions.excess(run(turned, 10).x) > functions.excess(run(SFO(functions.start, 5, functions), 10).x) + 0.1


def test_models_are_exact_where_they_were_made():
    functions = Quadratics(6, 10)
    sfo = run(SFO(functions.start, 6, functions), 5)
    for i, point in enumerate(sfo.points):
        values, slopes = sfo._models(point)
        value, slope = functions(point, i)
        assert values[i] == pytest.approx(value)
        np.testing.assert_allclose(slopes[i], slope, atol=1e-10)


def test_a_step_that_raises_the_function_is_taken_back():
    functions = Quadratics(6, 10)
    sfo = run(SFO(functions.start, 6, functions), 8)
    scale, point, failures = sfo.step_scale, sfo.before.copy(), sfo.failures
    sfo._move = lambda hessian: None  # stay where the failure puts it
    raised = sfo.at + 50.0
    sfo.at = raised.copy()
    sfo.basis.locate(sfo.at)
    sfo.step()
    assert sfo.failures == failures + 1
    assert sfo.step_scale == scale / 2
    back_to_model = [np.array_equal(sfo.at, x) for x in sfo.points]
    assert any(back_to_model) or np.array_equal(sfo.at, point)
    assert functions.excess(sfo.at) < functions.excess(raised)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_taken_back_and_leaves_no_trace(bad):
    functions = Quadratics(3, 5)
    calls = []

    def evaluate(x: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        calls.append(i)
        value, slope = functions(x, i)
        return (bad, slope) if len(calls) == 20 else (value, slope * bad) if len(calls) == 30 else (value, slope)

    sfo = run(SFO(functions.start, 3, evaluate), 20)
    assert sfo.failures >= 2
    assert functions.excess(sfo.x) < 1e-8


def test_functions_join_one_at_a_time():
    functions = Quadratics(6, 4)
    sfo = SFO(functions.start, 6, functions)
    counts = [2]
    while counts[-1] < 6:
        sfo.step()
        counts.append(int(sfo.active.sum()))
    assert set(np.diff(counts)) == {0, 1}
    assert (sfo.seen[:5] >= 2).all()


def test_memory_is_linear_in_the_functions():
    x = np.ones(50_000)
    sizes = [SFO(x, count, lambda x, i: (0.0, x)).nbytes for count in (20, 40, 80)]
    assert sizes[0] > 50_000 * 8 * 42  # all x_i and g_i
    for small, large in itertools.pairwise(sizes):
        assert 1.9 <= large / small <= 2.1
    assert SFO(x, 20, lambda x, i: (0.0, x), "float32").nbytes < 0.55 * sizes[0]


def test_the_fitted_hessian_meets_the_newest_pair_and_is_positive():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((12, 12))
    hessian = root @ root.T + np.eye(12)
    moves = rng.standard_normal((4, 12))
    floor, rows, weights = fit_hessian(moves, moves @ hessian)
    fitted = floor * np.eye(12) + rows.T * weights @ rows
    np.testing.assert_allclose(fitted @ moves[-1], hessian @ moves[-1], rtol=1e-8)
    assert np.linalg.eigvalsh(fitted)[0] > 0
    assert fit_hessian(moves, np.zeros_like(moves)) is None
    bent = moves @ hessian
    bent[-1] *= -1  # negative curvature
    floor, rows, weights = fit_hessian(moves, bent)
    assert floor > 0
    assert (floor + weights > 0).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-3)])
def test_a_collapse_keeps_what_is_wanted(dtype, tolerance):
    rng = np.random.default_rng(1)
    space = Subspace(rng.standard_normal(200).astype(dtype), smallest=8)
    assert space.most == 12
    vectors = rng.standard_normal((11, 200)).astype(dtype)
    for vector in vectors:
        space.append(space.novelty(vector))
    assert space.full
    assert space.novelty(vectors[3]) is None
    wanted = np.array([space.project(vector) for vector in vectors[2:6]])
    turned = wanted @ space.collapse(wanted, block=64)
    assert space.size == 4
    for at, vector in zip(turned, vectors[2:6]):
        space.locate(at)
        np.testing.assert_allclose(space.x, vector, atol=tolerance)


# --- the script ------------------------------------------------------------------------------------------------------


def problem(curve: str, images: int = 60) -> figure.Problem:
    rng = np.random.default_rng(0)
    setting = figure.Setting("digits", images, 8, 6, 5, 2, 1)
    x, y = rng.random((images, 12)).astype(np.float32), rng.integers(0, 10, images)
    return figure.make_problem(setting, curve, x, y, seed=0)


def test_the_objective_holds_the_l2_term_and_the_cost_does_not(monkeypatch):
    plain = problem("SFO")
    values = [plain.differentiate(i) for i in range(5)]
    monkeypatch.setattr(figure, "L2", 0.1)
    decayed = problem("SFO")
    weights = sum(float((w**2).sum()) for name, w in decayed.net.parameters().items() if name.endswith("weight"))
    np.testing.assert_allclose([decayed.differentiate(i) for i in range(5)], np.add(values, 0.05 * weights), rtol=1e-4)
    assert decayed.cost() == pytest.approx(plain.cost())
    assert plain.cost() == pytest.approx(np.mean(values), rel=1e-3)


def test_the_gradient_is_that_of_the_objective(monkeypatch):
    monkeypatch.setattr(figure, "L2", 0.1)
    one = problem("SFO")
    one.differentiate(0)
    rng = np.random.default_rng(2)
    direction = rng.standard_normal(one.net.params.size).astype(np.float32)
    slope, start, h = float(one.net.grads @ direction), one.net.params.copy(), 1e-4
    values = []
    for sign in (1, -1):
        one.net.params[:] = start + sign * h * direction
        values.append(one.differentiate(0))
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(slope, rel=2e-2)


def test_frozen_masks_stay_and_fresh_ones_do_not():
    for curve, same in ((figure.FRESH, False), (figure.FROZEN, True)):
        one = problem(curve)
        assert (one.differentiate(1) == one.differentiate(1)) == same
        assert (one.cost() == one.cost()) == same


def curves_of(adam: np.ndarray, sfo: np.ndarray, fresh: np.ndarray, frozen: np.ndarray) -> figure.Curves:
    """The table of a run in which a pass of SFO took 7 times as long, and was mostly overhead."""

    def columns(cost: np.ndarray, seconds: float, state: int) -> dict[str, np.ndarray]:
        ones = np.ones(len(cost))
        return {
            "pass": np.arange(26),
            "cost": cost,
            "seconds": seconds * ones,
            "gradient_seconds": 0.8 * ones,
            "cpu_seconds": seconds * ones,
            "state_bytes": state * ones,
        }

    shown = {"Adam": (adam, 1.0, 10), "SFO": (sfo, 7.0, 90), figure.FRESH: (fresh, 7.0, 90)}
    shown[figure.FROZEN] = (frozen, 7.0, 90)
    return {curve: [columns(*values)] for curve, values in shown.items()}


def paper_cost(curve: str) -> np.ndarray:
    x, y = paper_curves("2b")[curve]
    return np.exp(np.interp(np.arange(26), x, np.log(y)))


GOOD = {
    "adam": paper_cost("Adam"),
    "sfo": paper_cost("SFO"),
    "fresh": np.full(26, 2.0),
    "frozen": np.linspace(2, 0.1, 26),
}


def test_the_papers_curves_pass_every_check():
    assert all(check.held for check in figure.check(curves_of(**GOOD), 1.96))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"adam": GOOD["sfo"]}, {"SFO / Adam", "Adam's cost"}),
        ({"sfo": GOOD["adam"]}, {"cost at pass 10, SFO / Adam"}),
        ({"sfo": np.full(26, 0.7)}, {"SFO's cost at pass 25"}),
        ({"sfo": np.full(26, np.nan)}, {"SFO's cost at pass 25", "cost at pass 10, SFO / Adam"}),
        ({"fresh": GOOD["frozen"]}, {"fresh"}),
        ({"frozen": GOOD["fresh"]}, {"frozen"}),
    ],
)
def test_a_wrong_curve_fails_its_check(wrong, words):
    failed = [check.statement for check in figure.check(curves_of(**(GOOD | wrong)), 1.96) if not check.held]
    for word in words:
        assert any(word in statement for statement in failed), failed


@pytest.mark.parametrize("ratio", [1.0, 1.8, 4.0])
def test_memory_that_is_not_linear_fails_hard(ratio):
    failed = [check for check in figure.check(curves_of(**GOOD), ratio) if not check.held]
    assert [check.hard for check in failed] == [True]


@pytest.mark.jit_only
def test_the_script_runs_and_goes_on_where_it_was_stopped(tmp_path):
    arguments = ["--smoke", "--out", str(tmp_path), "--threads", "1"]
    assert figure.main(arguments) == 0
    path = tmp_path / "mnist_mlp_sfo.csv"
    whole = path.read_text()
    assert (tmp_path / "mnist_mlp_sfo.png").stat().st_size > 10_000
    assert (tmp_path / "checks.md").exists()
    assert figure.main(arguments) == 0
    assert path.read_text() == whole
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:-7]))
    assert figure.main(arguments) == 0
    assert path.read_text().startswith("".join(lines[:-7]))
    before = {(row["curve"], row["pass"]): row["cost"] for row in csv_rows(whole, tmp_path)}
    after = {(row["curve"], row["pass"]): row["cost"] for row in csv_rows(path.read_text(), tmp_path)}
    assert after == pytest.approx(before, rel=1e-6)


def csv_rows(text: str, folder) -> list[dict]:
    path = folder / "read.csv"
    path.write_text(text)
    return Table(path, figure.COLUMNS, ("curve", "seed", "pass")).rows


def nothing(x: np.ndarray, i: int) -> tuple[float, np.ndarray]:
    return 0.0, x


def test_a_step_is_neither_nothing_nor_longer_than_ten_average_ones():
    functions = Quadratics(3, 5)
    sfo = run(SFO(functions.start, 3, functions), 3)
    for curvature, length in ((1e-9, 10 * 1e-3), (1e20, 1e-8)):
        sfo.mean_length = 1e-3
        sfo._move(curvature * np.eye(5))
        assert np.linalg.norm(sfo.at - sfo.before) == pytest.approx(length)


def test_after_a_failure_steps_grow_back_in_some_passes():
    functions = Quadratics(6, 10)
    sfo = run(SFO(functions.start, 6, functions), 8)
    sfo.step_scale, failures = 0.5, sfo.failures
    sfo.step()
    assert sfo.failures == failures
    assert sfo.step_scale == pytest.approx(0.5 + 0.5 / 6)


def test_a_function_seen_once_is_assumed_as_bent_as_the_others():
    sfo = SFO(np.zeros(4), 3, nothing)
    sfo.active[:], sfo.seen[:2], sfo.floors[:2] = True, 2, (3, 5)
    assert sfo._typical_curvature(2) == pytest.approx(4)


def test_a_new_function_fails_above_three_deviations():
    sfo = SFO(np.zeros(4), 5, nothing)
    sfo.active[:], sfo.seen[:4], sfo.values[:4] = True, 2, (0, 1, 2, 3)
    assert [bool(sfo._failed(4, 1.5 + k * 1.25**0.5)) for k in (2.99, 3.01)] == [False, True]


@pytest.mark.parametrize(
    ("apart", "since", "failed", "grows"),
    [(1.7, 0, False, False), (1.8, 0, False, True), (0, 2, False, False), (0, 3, False, True), (0, 0, True, True)],
)
def test_a_function_joins_when_the_mean_gradient_is_noise_or_a_pass_is_over(apart, since, failed, grows):
    """Gradients (1, 0) and (1, +-apart): the squared error of their mean is apart^2 / 3."""
    sfo = SFO(np.zeros(2), 4, nothing)
    sfo.active[:3], sfo.seen[:3], sfo.since_growth = True, 2, since
    sfo.slopes[:3] = [(1, apart), (1, -apart), (1, 0)]
    sfo._grow(failed, np.eye(2))
    assert (sfo.active[3], sfo.since_growth) == (grows, 0 if grows else since)


def test_ten_pairs_of_each_function_are_kept_and_are_its_curvature():
    functions = Quadratics(2, 4)
    sfo = run(SFO(functions.start, 2, functions), 30)
    assert sfo.pairs.tolist() == [10, 10] and sfo.moves.any(axis=2).all()
    for i in range(2):
        np.testing.assert_allclose(sfo.moves[i] @ functions.a[i], sfo.changes[i], atol=1e-9)
    sfo.weights[0] = 7
    sfo._remember(0, np.ones(4), functions.a[0] @ np.ones(4))
    _, rows, weights = fit_hessian(sfo.moves[0], sfo.changes[0])
    np.testing.assert_array_equal(sfo.weights[0], np.append(weights, np.zeros(20 - len(rows))))


def test_a_collapse_turns_every_vector_that_is_kept():
    functions = Quadratics(10, 300)
    sfo = run(SFO(functions.start, 10, functions), 3)
    names, basis = ("at", "before", "points", "slopes", "moves", "changes", "rows"), sfo.basis
    whole = {name: getattr(sfo, name)[..., : basis.size] @ basis.vectors[: basis.size] for name in names}
    sfo._rotate(basis.collapse(np.vstack([sfo.slopes, sfo.points, sfo.at])))
    for name in names:
        want = whole[name] @ basis.vectors[: basis.size].T
        np.testing.assert_allclose(getattr(sfo, name)[..., : basis.size], want, atol=1e-9)


def test_a_pair_of_negative_curvature_is_left_out_and_no_hessian_is_worse_than_1e8():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((12, 12))
    hessian, moves = root @ root.T + np.eye(12), rng.standard_normal((4, 12))
    bent = moves @ hessian
    bent[-1] *= -1
    floor, rows, weights = fit_hessian(moves, bent)
    np.testing.assert_allclose((floor * np.eye(12) + rows.T * weights @ rows) @ moves[-2], bent[-2], rtol=1e-6)
    floor, _, weights = fit_hessian(np.eye(2), np.diag([1.0, 1e10]))
    assert (floor + weights).max() <= 1e8 * (floor + weights).min()


def test_a_coin_decides_between_two_distances():
    functions = Quadratics(6, 10)
    sfo = run(SFO(functions.start, 6, functions), 8)
    tosses, own = [], sfo._times_own
    sfo._times_own = lambda vectors: (tosses.append(0), own(vectors))[1]
    for _ in range(100):
        sfo._choose()
    assert 30 < len(tosses) < 70
