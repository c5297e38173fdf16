"""The family of optimizers: its script runs and goes on, its members are what they are called, wrong results fail."""

from __future__ import annotations

import json
import math

import numpy as np
import optimizer_family as family
import pytest
from optimizer_family import ADAPTIVE, FAMILY, UNTUNED

from scratchnet.optimizers import Adam, AdamW


def members():
    return {curve.name: curve for curve in family.make_curves() if curve.name != UNTUNED}


def good_costs(seeds=2, epochs=10):
    """Costs that fall from 2.3 to .05, and to 1 without tuning."""
    costs = {name: np.tile(np.geomspace(2.3, 0.05, epochs), (seeds, 1)) for name in FAMILY}
    return costs | {UNTUNED: np.tile(np.geomspace(2.3, 1, epochs), (seeds, 1))}


def good_trials():
    """The lowest cost in the middle of each grid."""
    return {name: {10.0**k: 0.05 + abs(k) for k in range(-3, 4)} for name in FAMILY}


def good_walks():
    return {name: (0.1, np.tile(np.array([1.0, 1.0]), (60, 1))) for name in FAMILY}


def good_updates():
    return {name: (member.arrays, 5.0) for name, member in FAMILY.items()}


def failed(checks):
    return [check.statement for check in checks if check.hard and not check.held]


# --- the checks ----------------------------------------------------------------------------------------------------


def test_good_results_pass():
    assert failed(family.check(good_costs(), good_trials())) == []
    assert failed(family.check_always(good_trials(), good_updates(), True, good_walks())) == []


@pytest.mark.parametrize(("name", "last"), [("SGD", 1.0), ("Lion", 2.0), ("Adam", 0.11), ("Adadelta", math.nan)])
def test_one_bad_seed_fails(name, last):
    costs = good_costs()
    costs[name][1, -1] = last
    found = failed(family.check(costs, good_trials()))
    assert found
    assert all(statement.startswith(name) for statement in found)


def test_unequal_budgets_fail():
    trials = good_trials()
    del trials["Lion"][1.0]
    assert failed(family.check_always(trials, good_updates(), True, good_walks()))


def test_other_bits_missing_state_and_a_path_that_leaves_fail():
    updates = good_updates()
    lost = good_walks() | {"Adam": (1.0, np.full((60, 2), math.nan))}
    assert "same bits" in failed(family.check_always(good_trials(), updates, False, good_walks()))[0]
    assert "state" in failed(family.check_always(good_trials(), updates | {"AMSGrad": (2, 5.0)}, True, good_walks()))[0]
    assert "that of Adam" in failed(family.check_always(good_trials(), good_updates(), True, lost))[0]


def test_a_best_rate_at_the_edge_is_reported():
    trials = good_trials()
    trials["SGD"] = {rate: 1 / rate for rate in trials["SGD"]}
    edge = next(check for check in family.check(good_costs(), trials) if "edge" in check.statement)
    assert not edge.held
    assert edge.found == "SGD"


# --- the parts -----------------------------------------------------------------------------------------------------


def test_all_have_the_same_budget_around_their_customary_rate():
    for name, curve in members().items():
        rates = [settings["lr"] for settings in curve.grid]
        assert len(rates) == len(family.FACTORS)
        assert rates[3] == FAMILY[name].rate == pytest.approx(math.sqrt(rates[0] * rates[-1]), rel=0.1)


def test_state_arrays_are_counted_in_the_optimizer_itself():
    counts = {name: family.count_arrays(curve) for name, curve in members().items()}
    assert counts == {name: member.arrays for name, member in FAMILY.items()}
    assert counts["AMSGrad"] == 3
    assert len(ADAPTIVE) == 9


def step_by(curve, weight_decay=0.0):
    params = np.array([1.0, -2.0])
    optimizer = curve.make_optimizer(params, {"lr": 0.1}, weight_decay)
    for _ in range(8):
        optimizer.step(np.array([0.3, -0.1]) * params)
    return params


def test_adam_and_adamw_differ_by_the_decay_alone():
    adam, adamw = (step_by(family.Curve("", make, [])) for make in (Adam, AdamW))  # weight_decay 0
    assert np.array_equal(adam, adamw)
    assert not np.array_equal(step_by(members()["AdamW"]), adam)  # the member keeps its .01


def test_no_two_members_walk_alike():
    paths = {name: family.walk(curve, 1e-3, 40)[-1] for name, curve in members().items() if name != "AMSGrad"}
    assert len({tuple(point) for point in paths.values()}) == len(paths)


def test_the_slope_is_that_of_the_function():
    point, h = np.array([-0.7, 0.4]), 1e-6
    for k, unit in enumerate(np.eye(2)):
        up, down = family.rosenbrock(*(point + h * unit)), family.rosenbrock(*(point - h * unit))
        assert family.slope(point)[k] == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_a_walk_ends_where_it_leaves_the_frame_and_cannot_win():
    curve = members()["SGD"]
    lost = family.walk(curve, 1.0, 30)
    assert np.isnan(lost[1:]).all()
    assert family.highest_of_last(lost) == math.inf
    rate, path = family.best_walk(curve, [1.0, 1e-3, 1e-4], 30)
    assert rate == 1e-3
    assert np.isfinite(path).all()


def test_epochs_and_rates_are_counted():
    cost = np.array([[1.0, 0.3, 0.08, 0.02], [1.0, 0.1, 0.1, 0.02]])
    assert family.epochs_to(cost) == 3  # the mean of the seeds
    assert family.epochs_to(cost[:, :2]) is None
    assert family.near_best({1: 0.1, 2: 0.2, 3: 0.21, 4: math.inf}) == 2


# --- the script ----------------------------------------------------------------------------------------------------


@pytest.mark.jit_only
def test_smoke_runs_and_goes_on_where_it_stopped(tmp_path, capfd, monkeypatch):
    command = ["--smoke", "--threads", "1", "--out", str(tmp_path)]
    assert family.main(command) == 0
    assert (tmp_path / "checks.md").read_text() in capfd.readouterr().out
    for name in ("optimizer_family", "optimizer_family_rates", "optimizer_family_paths"):
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000
    table = (tmp_path / "optimizer_family.md").read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:]] == list(FAMILY)
    assert json.loads((tmp_path / "run.json").read_text())["settings"].keys() == FAMILY.keys() | {UNTUNED}
    rows, searched = ((tmp_path / name).read_text() for name in ("optimizer_family.csv", "search.csv"))
    assert len(searched.splitlines()) == 1 + 2 * len(FAMILY) + 1
    monkeypatch.setattr(family, "draw_multiples", lambda *_, **__: None)
    (tmp_path / "search.csv").write_text("\n".join(searched.splitlines()[:-1]) + "\n")  # killed before the last trial
    assert family.main(command) == 0
    assert (tmp_path / "optimizer_family.csv").read_text() == rows
    again = (tmp_path / "search.csv").read_text().splitlines()
    assert [line.rsplit(",", 2)[0] for line in again] == [line.rsplit(",", 2)[0] for line in searched.splitlines()]
