"""The claims of the Adam paper: the script runs, and every check refuses a wrong update or a wrong number."""

from __future__ import annotations

import csv
import functools
import itertools

import numpy as np
import pytest
from paper.table import Table
from processes import run_experiment
from properties import cost, loops, noise, regret, rescaling, sparse, steps, training
from properties.claims import COLUMNS, KEY, Claim, Run, Task, measure, numbers_of, timed

import scratchnet as sn
from scratchnet.optimizers import SGD, Adagrad, Adam
from scratchnet.schedules import inverse_square_root

SMOKE = Run("smoke")


class EightTimes(Adam):
    """Steps eight times too long."""

    def _update(self, grads, lr):
        super()._update(grads, 8 * lr)


class HalfCorrected(Adam):
    """Corrects m alone."""

    def _update(self, grads, lr):
        super()._update(grads, lr * (1 - self._betas[1] ** self.t) ** -0.5)


def without_correction(*args, **arguments):
    return Adam(*args, **arguments | {"bias_correction": False})


def always_corrected(*args, **arguments):
    return Adam(*args, **arguments | {"bias_correction": True})


def with_eps(*args, **arguments):
    return Adam(*args, **arguments | {"eps": 1e-8})


def measured(tasks):
    """Setting -> [number], of one seed."""
    pairs = [pair for task in tasks for pair in zip(task.settings, task.measure(), strict=True)]
    return {setting: [float(number)] for setting, number in pairs}


def failed(checks):
    """Statements of the hard checks that do not hold."""
    return [check.statement for check in checks if check.hard and not check.held]


# --- the script ----------------------------------------------------------------------------------------------------


@pytest.mark.jit_only
def test_the_smoke_run_gives_every_claim_its_numbers(tmp_path):
    run_experiment("adam_properties", "--smoke", "--out", tmp_path)
    with open(tmp_path / "properties.csv", newline="") as file:
        claims = {row["claim"] for row in csv.DictReader(file)}
    assert len(claims) == 14
    assert (tmp_path / "properties.png").stat().st_size > 50_000
    assert (tmp_path / "checks.md").read_text().count("PASS") > 30


def test_measuring_goes_on_where_it_stopped_and_counts_each_number_its_time(tmp_path):
    calls = []

    def tasks(run):
        def two():
            calls.append(run.seed)
            yield from (1.0, 2.0)

        return [Task(("a", "b"), two)]

    claim = Claim("c", tasks, lambda found, mode: [])
    for runs in ([Run(seed=0)], [Run(seed=0), Run(seed=1)]):
        table = Table(tmp_path / "rows.csv", COLUMNS, KEY)
        measure(table, [claim], runs)
    assert calls == [0, 1]
    assert numbers_of(table, "c") == {"a": [1, 1], "b": [2, 2]}
    short = Claim("d", lambda run: [Task(("a", "b"), lambda: [1.0])], claim.check)
    with pytest.raises(ValueError, match="shorter"):
        measure(table, [short], [Run()])


# --- steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "check", "right", "wrong"),
    [
        (steps.bound_tasks, steps.check_bound, Adam, EightTimes),
        (steps.bound_tasks, steps.check_bound, Adam, without_correction),
        (steps.bound_tasks, steps.check_bound, Adam, HalfCorrected),
        (steps.bound_tasks, steps.check_bound, Adam, functools.partial(Adam, betas=(0.9, 0.99))),
        (steps.inflation_tasks, steps.check_inflation, Adam, always_corrected),
        (steps.relatives_tasks, steps.check_relatives, Adam, without_correction),
        (steps.relatives_tasks, steps.check_relatives, Adam, always_corrected),
        (steps.relatives_tasks, steps.check_relatives, Adam, EightTimes),
        (steps.adamax_tasks, steps.check_adamax, steps.Adamax, Adam),
    ],
    ids=lambda value: getattr(value, "__name__", "other betas"),
)
def test_step_checks_tell_the_update_from_a_wrong_one(tasks, check, right, wrong):
    assert failed(check(measured(tasks(SMOKE, right)), "smoke")) == []
    assert failed(check(measured(tasks(SMOKE, wrong)), "smoke"))


def test_worst_gradients_beat_the_papers_bound_and_no_draw_beats_them():
    worst = steps.largest(Adam, steps.growing(5000, 200))
    assert steps.PAPER_BOUND * 2 < worst <= steps.BOUND
    drawn = np.random.default_rng(0).standard_normal((2000, 50)) * np.exp(np.linspace(0, 30, 2000))[:, None]
    assert np.abs(steps.relative_steps(Adam(np.zeros(50)), drawn)).max() <= steps.BOUND


# --- rescaling -----------------------------------------------------------------------------------------------------


@pytest.mark.jit_only
def test_rescaled_gradients_give_the_same_bits_and_eps_is_caught():
    assert failed(rescaling.check_rescaling(measured(rescaling.rescaling_tasks(SMOKE)), "smoke")) == []
    found = measured(rescaling.rescaling_tasks(SMOKE, with_eps))
    assert any("eps = 0" in statement for statement in failed(rescaling.check_rescaling(found, "smoke")))


def sweep(adam=(6, 6, 6), sgd=(12, 6, 0), low=0.3):
    """Costs with their minimum at the given rates."""
    return {
        rescaling.name_of(method, scale, rate): [low + 0.1 * abs(i - best)]
        for method, bests in (("Adam", adam), ("SGDNesterov", sgd))
        for scale, best in zip(rescaling.SCALES, bests)
        for i, rate in enumerate(rescaling.RATES)
    }


def test_the_sweep_over_rescaled_losses_is_judged_by_where_the_best_rate_is():
    assert failed(rescaling.check_sweep(sweep(), "full")) == []
    assert failed(rescaling.check_sweep(sweep(adam=(6, 6, 7)), "full"))
    assert failed(rescaling.check_sweep(sweep(sgd=(6, 6, 6)), "full"))
    unlike = sweep()
    unlike[rescaling.name_of("Adam", 1e3, rescaling.RATES[6])] = [0.302]
    assert failed(rescaling.check_sweep(unlike, "full"))


@pytest.mark.jit_only
def test_scaling_the_loss_hardly_changes_adams_cost_and_scales_sgds_rate():
    def trained(method, scale, rate):
        return rescaling.trained_cost(rescaling.METHODS[method], scale, rate, SMOKE)

    assert trained("Adam", 1e3, 0.01) == pytest.approx(trained("Adam", 1, 0.01), rel=1e-4)
    assert trained("SGDNesterov", 1e3, 1e-5) == pytest.approx(trained("SGDNesterov", 1, 1e-2), rel=1e-9)


# --- cost ----------------------------------------------------------------------------------------------------------


def test_memory_is_counted_to_the_byte():
    found = measured(cost.memory_tasks(SMOKE))
    assert found["Adam: bytes"] == [2 * 4 * cost.paper_mlp(32).params.size]
    assert failed(cost.check_memory(found, "smoke")) == []
    for wrong in (found["Adam: bytes"][0] + 4, found["Adam, AMSGrad: bytes"][0], float("nan")):
        assert failed(cost.check_memory(found | {"Adam: bytes": [wrong]}, "smoke"))
    assert cost.parameter_count(1000) == 1_796_010


def test_a_slow_update_is_reported():
    (fast,), (slow,) = (cost.check_time({cost.TIMED[2]: [share]}, "full") for share in (0.2, 0.5))
    assert fast.held
    assert not slow.held


# --- noise ---------------------------------------------------------------------------------------------------------


def moving(adam=(352, 330), adagrad=(57, 1612), quiet=(9.5e3, 1.6e5, 2.3e5)):
    pairs = zip(("Adam", "AdaGrad"), (adam, adagrad))
    found = {f"{name}, jump at T={t}": [n] for name, both in pairs for t, n in zip((2000, 2_000_000), both)}
    return found | {f"{name}, {noise.QUIET}": [n] for name, n in zip(("Adam", "AdaGrad", "SGD"), quiet)}


def test_a_moving_objective_is_judged_by_the_growth_of_the_time_to_follow():
    assert failed(noise.check_moving(moving(), "full")) == []
    assert failed(noise.check_moving(moving(adam=(57, 1612)), "full"))
    assert failed(noise.check_moving(moving(adagrad=(352, 330)), "full"))
    assert failed(noise.check_moving(moving(quiet=(9.5e3, 9e4, 2.3e5)), "full"))


@pytest.mark.jit_only
def test_heavy_tails_tell_adam_from_gradient_descent():
    run = Run("short")
    assert failed(noise.check_heavy(measured(noise.heavy_tasks(run)), "short")) == []
    swapped = noise.TAILS | {"Adam(.5)": (SGD, 0.5)}
    assert len(failed(noise.check_heavy(measured(noise.heavy_tasks(run, swapped)), "short"))) == 2


# --- training ------------------------------------------------------------------------------------------------------


def test_temporal_average_is_corrected_for_its_start():
    params = np.array([2.0, -3.0])
    average = training.TemporalAverage(params)
    for _ in range(50):
        average.update()
        assert average.value == pytest.approx(params, rel=1e-12)
    params[...] = [4.0, 0.0]
    for _ in range(50):
        average.update()
    weights = 0.999 ** np.arange(100)[::-1]
    assert average.value[0] == pytest.approx((2 * weights[:50].sum() + 4 * weights[50:].sum()) / weights.sum())
    assert np.abs(average.average - average.value).max() > 1  # what the correction is for


def averaged(theta, average):
    found = {training.QUADRATIC[2]: [50.0], training.START: [0.9]}
    for epoch, numbers in enumerate(zip(theta, average, np.full(len(theta), 0.2)), 1):
        found |= {f"{what}, epoch {epoch}": [number] for what, number in zip(training.SERIES, numbers)}
    return found


def test_averaging_must_lower_the_cost_and_steady_it():
    wiggle = 0.01 * np.cos(np.arange(12))
    good = averaged(0.25 + wiggle, 0.23 + 0.1 * wiggle)
    assert failed(training.check_averaging(good, "full")) == []
    assert failed(training.check_averaging(averaged(0.25 + wiggle, 0.245 + 0.1 * wiggle), "full"))
    assert failed(training.check_averaging(averaged(0.25 + wiggle, 0.23 + wiggle), "full"))
    assert failed(training.check_averaging(good | {training.QUADRATIC[2]: [1.0]}, "full"))
    assert failed(training.check_averaging(good | {training.START: [0.5]}, "full"))


def test_signal_to_noise_is_one_at_first_and_leaves_dead_coordinates_out():
    adam = Adam(np.zeros(3), betas=(0.5, 0.9))
    adam.step(np.array([1.0, -5.0, 0.0]))
    assert training.signal_to_noise(adam) == pytest.approx(1)
    adam.step(np.array([-1.0, 5.0, 0.0]))
    expected = abs(0.5 * 0.5 - 0.5) / (1 - 0.5**2) / 1  # v^ = 1
    assert training.signal_to_noise(adam) == pytest.approx(expected)


def tuned(adam_best=4, adam_slope=0.02, sgd_slope=0.1):
    sides = (("Adam", adam_best, adam_slope), ("SGDNesterov", 9, sgd_slope))
    return {
        f"{method}, alpha={rate:.4g}": [0.25 + slope * abs(i - best)]
        for method, best, slope in sides
        for i, rate in enumerate(training.RATES)
    }


def test_tuning_is_judged_by_the_default_and_by_the_range():
    assert failed(training.check_tuning(tuned(), "full")) == []
    assert failed(training.check_tuning(tuned(adam_best=10), "full"))
    assert failed(training.check_tuning(tuned(adam_slope=0.06), "full"))


# --- sparse --------------------------------------------------------------------------------------------------------


def test_bags_follow_zipfs_law():
    x, y = sparse.bags(300, 2000, seed=1)
    assert np.array_equal(x.toarray(), sparse.bags(300, 2000, seed=1)[0].toarray())
    assert np.diff(x.indptr).tolist() == [80] * 300
    assert set(y) == {0, 1}
    share = x.mean(axis=0)
    assert share[0] > 0.95
    assert 8 < share[100:110].mean() / share[1000:1100].mean() < 14
    assert set(x.data) == {1.0}


def test_the_ranking_on_bags_of_words_is_checked():
    good = {"Adam": 0.36, "AdaGrad": 0.363, "RMSProp": 0.37, "SGDNesterov": 0.39, sparse.EXTRA: 0.5}

    def judge(**changed):
        return failed(sparse.check_sparse({f"{name}: cost": [n] for name, n in (good | changed).items()}, "full"))

    assert judge() == []
    assert judge(Adam=0.37)
    assert judge(SGDNesterov=0.364)


# --- convergence ---------------------------------------------------------------------------------------------------


@pytest.mark.jit_only
def test_the_counter_examples_tell_adam_from_amsgrad():
    assert failed(regret.check_regret(measured(regret.regret_tasks(SMOKE)), "smoke")) == []
    swapped = loops.METHODS | {"Adam": loops.AMSGRAD, "AMSGrad": loops.ADAM}
    assert len(failed(regret.check_regret(measured(regret.regret_tasks(SMOKE, swapped)), "smoke"))) >= 3


@pytest.mark.parametrize(
    ("method", "make"),
    [
        ("Adam", lambda x: Adam(x, inverse_square_root(0.1))),
        ("AMSGrad", lambda x: Adam(x, inverse_square_root(0.1), amsgrad=True, bias_correction=False)),
        ("AdaGrad", lambda x: Adagrad(x, inverse_square_root(0.1), eps=1e-8)),
        ("SGD", lambda x: SGD(x, inverse_square_root(0.1))),
    ],
)
def test_compiled_loops_take_scratchnets_steps_bit_for_bit(method, make):
    """1000 steps of the loop's step and of the optimizer's."""
    gradients = np.random.default_rng(0).standard_normal((1000, 3))
    ours, state, x = np.ones(3), np.zeros((3, 3)), np.ones(3)
    optimizer = make(x)
    for t, gradient in enumerate(gradients, 1):
        lr = 0.1 / t**0.5
        loops.take_step(loops.METHODS[method], ours, state, gradient, t, lr, 0.9, 0.999, 1e-8)
        optimizer.step(gradient)
        assert np.array_equal(ours, x), t


def late_regret():
    """What the examples give after so many rounds as a full run has, by their equations."""
    found = {}
    last = regret.ALPHA / regret.GAMES["full"][0] ** 0.5
    for c in regret.SLOPES:
        ends = {"Adam": (0.99967, 2 * (c - 2) / 3), "AMSGrad": (-0.9995, 1e-3), "AdaGrad": (-0.9999, 1e-3)}
        ends["SGD"] = (-1 + last, 2 * (2 * c - 1) * last / 3)
        for method, (x, average) in ends.items():
            found |= {f"(i) C={c}, {method}: x": [x], f"(i) C={c}, {method}: regret": [average]}
    for case, adam, amsgrad in (("(ii)", 1.0, -0.9973), ("(iii)", 0.998, -0.994)):
        found |= {f"{case}, Adam: x": [adam], f"{case}, Adam: regret": [0.228]}
        found |= {f"{case}, AMSGrad: x": [amsgrad], f"{case}, AMSGrad: regret": [0.035]}
    return found


@pytest.mark.parametrize("name", [name for name in late_regret() if not name.startswith("(iii)") or name.endswith("x")])
def test_each_number_of_the_long_games_is_looked_at(name):
    found = late_regret()
    assert failed(regret.check_regret(found, "full")) == []
    factor = 0.0 if name.endswith("x") else 0.5 if "Adam:" in name else 10
    for wrong in (factor * found[name][0], float("nan")):
        assert failed(regret.check_regret(found | {name: [wrong]}, "full")), (name, wrong)


def test_each_number_has_the_seconds_since_the_one_before(monkeypatch):
    """The clock goes on by a second whenever it is looked at."""
    monkeypatch.setattr("properties.claims.time.perf_counter", itertools.count().__next__)
    assert [row["seconds"] for row in timed(lambda: iter((1.0, 2.0, 3.0)))] == [1, 1, 1]


def test_a_task_that_was_cut_off_is_measured_anew(tmp_path):
    table = Table(tmp_path / "rows.csv", COLUMNS, KEY)
    table.add({"claim": "c", "setting": "a", "seed": 0, "number": 1.0, "seconds": 0, "cpu_seconds": 0})
    measure(table, [Claim("c", lambda run: [Task(("a", "b"), lambda: (1.0, 2.0))], None)], [Run()])
    table.add({"claim": "d", "setting": "a", "seed": 0, "number": 9.0, "seconds": 0, "cpu_seconds": 0})
    assert numbers_of(table, "c") == {"a": [1], "b": [2]}


def test_a_game_ends_where_its_path_does():
    path = np.empty(4)
    last, _ = loops.play(path, regret.cyclic(3, 1, 3, 20), loops.ADAGRAD, 0.5, 0.0, 0.1)
    assert path[-1] == last and (np.abs(path) <= 1).all()


def test_a_method_is_given_the_jump_after_the_steps_before_it():
    """Gradient descent, once more by hand with the same noise."""
    x, rng = np.zeros(10), np.random.default_rng(0)
    for t in itertools.count(1):
        x -= 0.1 * (x - (5 if t > 20 else 0) + rng.standard_normal(10))
        if t > 20 and np.abs(x - 5).mean() < 0.5:
            break
    assert loops.settle(np.random.default_rng(0), loops.SGD, 0.1, 20, 1.0, 1000) == t - 20


def test_the_first_step_of_adam_under_heavy_tails_is_alpha():
    _, most = noise.heavy(Adam, 0.5, 1, seed=0)
    assert most == pytest.approx(1)


def test_each_seed_has_noise_of_its_own():
    tails = {"SGD": (SGD, 0.1)}
    tasks = [task for seed in (0, 1) for task in noise.heavy_tasks(Run("smoke", seed), tails)]
    assert len({tuple(task.measure()) for task in tasks}) == 6


def test_the_rare_slope_comes_once_in_a_hundred():
    slopes = regret.drawn(200_000, seed=0)
    assert set(slopes) == {1010, -10}
    assert np.mean(slopes > 0) == pytest.approx(0.01, rel=0.1)


def test_features_are_scaled_from_e_to_the_minus_3_to_e_cubed():
    x, _ = rescaling.regression(20_000, 7)
    assert x.std(axis=0) == pytest.approx(np.exp(np.linspace(-3, 3, 7)), rel=0.05)


def test_each_seed_has_its_best_rate():
    found = {rescaling.name_of("Adam", 1, rate): [abs(i - 3), abs(i - 8)] for i, rate in enumerate(rescaling.RATES)}
    assert [rescaling.best_rate(found, "Adam", 1, seed) for seed in (0, 1)] == [3, 8]


def test_of_half_decades_the_best_is_named(monkeypatch):
    assert sparse.half_decades(-2, 4) == (0.1, 0.31622777, 1.0, 3.16227766)
    monkeypatch.setattr(sparse, "dropout_cost", lambda make, rate, run: abs(rate - 0.9))
    (task,) = sparse.sparse_tasks(Run("full"), {"Adam": (Adam, float, sparse.half_decades(-2, 4))})
    assert list(task.measure()) == [pytest.approx(0.1), 1.0]


def test_paths_start_at_1_and_their_largest_difference_counts():
    assert steps.path(SGD(np.zeros(2), lr=1e-30), 1, seed=0).tolist() == [[1, 1]]
    assert steps.distance(np.array([0.0, 0, 1]), np.array([0.0, 4, 1])) == 1


def test_the_gradient_is_timed_apart_from_the_step(monkeypatch):
    """The clock goes on by a second in the gradient and by three in the step."""
    times = itertools.accumulate(itertools.cycle((0, 1, 3)))
    monkeypatch.setattr("properties.cost.time.perf_counter", times.__next__)
    assert list(cost.time_step(SMOKE)) == [1000, 3000, 3]


def test_averaging_is_measured_beside_training_and_leaves_it_alone():
    """Once more by hand, without the average."""
    x, y, batch_size = training.data_of(SMOKE)
    net = training.model(x, 0)
    adam, ratios, costs = Adam(net.params, 1e-2), [], []
    for epoch in range(training.epochs_of(SMOKE)):
        for xb, yb in sn.data.batches(x, y, batch_size, 0, epoch):
            net.backward(sn.softmax_cross_entropy(net.forward(xb, train=True), yb)[1])
            adam.step(net.grads)
            ratios.append(training.signal_to_noise(adam))
        costs.append(sn.evaluate(net, x, y)[0])
    start, *found = training.follow(SMOKE)
    assert start == pytest.approx(np.mean(ratios[:10]))
    assert found[::3] == costs
    assert found[2::3] == pytest.approx(np.mean(np.reshape(ratios, (len(costs), -1)), axis=1))
    assert found[1] != costs[0]


def test_the_cost_of_a_rate_is_that_of_the_last_epoch():
    x, y, batch_size = training.data_of(SMOKE)
    net = training.model(x, 0)
    rows = sn.train(net, Adam(net.params, 0.01), x, y, 3, batch_size, 0).history.rows
    assert training.final_cost(Adam, 0.01, SMOKE) == rows[-1]["loss"]


def test_errors_of_the_noisy_quadratic_are_those_after_4000_steps():
    """Of theta as they then stay; of the average long after it has left the start."""
    plain, averaged, _ = training.noisy_quadratic(SMOKE)
    assert 0.02 < plain < 0.06 and averaged < 1e-3
