"""Figure 4 of the Adam paper: the checks hold for the paper's own curves and for no wrong ones; a run goes on."""

from __future__ import annotations

import math

import pytest
import vae_bias_correction as figure
from paper.table import Table
from vae_bias_correction import ALPHAS, BETAS1, BETAS2, Cell, Setting

SMALL = Setting("digits", 32, 8)


def paper(epochs: int, seeds=(0,)) -> figure.Curves:
    """The paper's own curves as if they were a run; what it does not show has diverged."""
    curves = {}
    for beta1 in BETAS1:
        for beta2 in BETAS2:
            for curve in figure.pair(beta1, beta2):
                alphas, losses = figure.printed(epochs).get(curve, ((), ()))
                shown = dict(zip(alphas, losses))
                curves[curve] = {seed: {alpha: shown.get(alpha, math.inf) for alpha in ALPHAS} for seed in seeds}
    return curves


@pytest.mark.parametrize(("epochs", "count"), [(10, 15), (100, 9)])
def test_the_papers_own_curves_pass(epochs, count):
    checks = figure.judge(paper(epochs), epochs)
    assert [check.statement for check in checks if not check.held] == []
    assert len(checks) == count
    assert sum(not check.hard for check in checks) == 1


def worse(curve, nats, alphas=ALPHAS):
    """Add nats to a curve."""
    return lambda curves: [
        points.update({alpha: points[alpha] + nats for alpha in alphas}) for points in curves[curve].values()
    ]


@pytest.mark.parametrize(
    ("epochs", "spoil", "fails"),
    [
        (10, worse((0.9, 0.99, 0), 1.5), "best uncorrected - best corrected (beta1=0.9, beta2=0.99)"),
        (10, worse((0.9, 0.9999, 0), -4), "best uncorrected - best corrected (beta1=0.9, beta2=0.9999)"),
        (100, worse((0.0, 0.9999, 1), 8), "best uncorrected - best corrected (beta1=0, beta2=0.9999)"),
        (100, worse((0.9, 0.9999, 1), 50, ALPHAS[4:]), "largest alpha with a loss < 140: corrected / uncorrected (b"),
        (100, worse((0.9, 0.999, 1), math.inf), "range over beta2 of the best corrected (beta1=0.9)"),
        (100, worse((0.0, 0.999, 1), 3), "range over beta2 of the best corrected (beta1=0)"),
        (10, worse((0.9, 0.99, 1), 4), "best corrected: beta1=0 - beta1=0.9 (beta2=0.99)"),
        (10, worse((0.9, 0.999, 1), 5), "corrected (beta1=0.9, beta2=0.999, alpha=0.001)"),
        (100, worse((0.9, 0.999, 1), -2.5), "corrected (beta1=0.9, beta2=0.999, alpha=0.001)"),
        (100, worse((0.9, 0.999, 1), math.nan), "corrected (beta1=0.9, beta2=0.999, alpha=0.001)"),
        (10, worse((0.9, 0.9999, 0), -70, [1e-3]), "uncorrected - corrected (beta1=0.9, beta2=0.9999, alpha=0.001)"),
        (10, worse((0.0, 0.999, 1), math.inf), "uncorrected - corrected (beta1=0, beta2=0.999, alpha=0.001)"),
        (10, worse((0.9, 0.99, 0), 1.2, [1e-3]), "uncorrected - corrected (beta1=0.9, beta2=0.99, alpha=0.001)"),
    ],
)
def test_a_wrong_curve_fails(epochs, spoil, fails):
    curves = paper(epochs)
    spoil(curves)
    failed = [check.statement for check in figure.judge(curves, epochs) if check.hard and not check.held]
    assert any(statement.startswith(f"{epochs} epochs: {fails}") for statement in failed), failed


def test_one_bad_seed_fails_and_seeds_without_the_decisive_cells_are_left_out():
    curves = paper(10, seeds=(0, 1))
    for points in curves.values():
        points[1] = {alpha: loss for alpha, loss in points[1].items() if alpha == 1e-3}
    few = figure.judge(curves, 10)
    assert all(check.held for check in few)
    assert [len(check.found.split(", ")) for check in few if check.hard] == [2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2]
    curves[0.9, 0.999, 1][1][1e-3] = 120.0
    assert [check.held for check in figure.judge(curves, 10) if check.hard].count(False) == 1
    assert figure.judge({}, 100) == []


def test_decisive_cells_are_enough_for_every_check():
    for epochs in figure.EPOCHS:
        curves = paper(epochs)
        whole = [check.statement for check in figure.judge(curves, epochs) if check.hard]
        kept = {(*cell[1:3], cell.corrected, cell.alpha) for cell in figure.choose([epochs], [0], "decisive")}
        for curve, seeds in curves.items():
            seeds[0] = {alpha: loss for alpha, loss in seeds[0].items() if (*curve, alpha) in kept}
        judged = [check.statement for check in figure.judge(curves, epochs) if check.hard]
        row = ("(beta1=0)", "(beta1=0,")  # of panels, left to whole runs after 100 epochs
        assert judged == [text for text in whole if epochs == 10 or not any(name in text for name in row)]


def test_choose_lists_the_whole_figure_once():
    cells = figure.choose([10], [3, 4], "all")
    assert len(cells) == len(set(cells)) == 72 + 35
    assert [cell.seed for cell in cells].count(3) == 72
    assert len(figure.choose([100], [0, 1, 2], "decisive")) == 3 * 18
    assert figure.choose([10, 100], [0], "none") == []


def test_rows_come_back_from_the_table_as_they_went(tmp_path):
    columns = dict.fromkeys(figure.COLUMNS, 0)
    rows = [
        columns | Cell(10, 0.0, 0.99, 3e-5, 1, 0)._asdict() | {"loss": 120.5, "losses": "120.50"},
        columns | Cell(10, 0.9, 0.9999, 1e-2, 0, 0)._asdict() | {"loss": math.nan, "losses": "nan"},
    ]
    table = Table(tmp_path / "cells.csv", figure.COLUMNS, Cell._fields)
    for row in rows:
        table.add(row)
    again = Table(tmp_path / "cells.csv", figure.COLUMNS, Cell._fields)
    assert all(Cell(*(row[name] for name in Cell._fields))._asdict() in again for row in rows)
    expected = {(0.0, 0.99, 1): {0: {3e-5: 120.5}}, (0.9, 0.9999, 0): {0: {1e-2: math.inf}}}
    assert figure.collect(again, 10) == expected
    assert figure.collect(again, 100) == {}


@pytest.mark.jit_only
def test_a_cell_learns_repeats_itself_and_ends_where_it_diverges():
    cell = Cell(2, 0.9, 0.999, 0.01, 1, 0)
    row, again = (figure.train_cell(cell, SMALL, None) for _ in range(2))
    assert row["losses"] == again["losses"]
    first, last = map(float, row["losses"].split())
    assert 20 < last < first < 45
    assert row["loss"] == pytest.approx(last, abs=0.01)
    longer = figure.train_cell(cell._replace(epochs=3), SMALL, None)
    assert longer["losses"].startswith(row["losses"])
    other = figure.train_cell(cell._replace(seed=1), SMALL, None)
    assert other["losses"] != row["losses"]
    lost = figure.train_cell(Cell(10, 0.9, 0.9999, 0.1, 0, 0), SMALL, None)
    assert not math.isfinite(lost["loss"])
    assert lost["last_epoch"] == len(lost["losses"].split()) < 10


@pytest.mark.jit_only
def test_smoke_runs_and_goes_on_where_it_stopped(tmp_path, capfd):
    command = ["--smoke", "--threads", "1", "--out", str(tmp_path)]
    assert figure.main(command) == 0
    table = (tmp_path / "cells.csv").read_text().splitlines()
    assert len(table) == 5
    assert (tmp_path / "vae_bias_correction_10.png").stat().st_size > 20_000
    shown = capfd.readouterr().out
    assert (tmp_path / "checks.md").read_text() in shown
    (tmp_path / "cells.csv").write_text("\n".join(table[:3]) + "\n" + table[3][:20])  # killed in a row
    assert figure.main(command) == 0
    rows = (tmp_path / "cells.csv").read_text().splitlines()
    assert rows[:3] == table[:3]
    assert [row.split(",")[:9] for row in rows] == [row.split(",")[:9] for row in table]
