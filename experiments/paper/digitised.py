"""The curves of Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2015), as numbers.

figures.csv holds some points of each, read from the vector graphics of figures 1 to 4 of arXiv:1412.6980v9:

    figure        x                 y
    1a, 1b, 3     epoch             training cost (1b: with dropout; 1a: AdaGrad's first epochs lie above the frame)
    2a            epoch             training cost, mean of the five epochs around x
    2b            passes            training cost; in the panel over wall time a pass of SFO takes as long as 5 of Adam
    4-10, 4-100   alpha             loss after 10 and after 100 epochs; what is missing lies above the frame

They are rounded to three digits or so: the figures are not drawn more finely.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("figures.csv")

Line = tuple[np.ndarray, np.ndarray]


def paper_curves(figure: str) -> dict[str, Line]:
    """Return curve -> (x, y) of a figure: "1a", "1b", "2a", "2b", "3", "4-10" or "4-100"."""
    points: dict[str, list[tuple[float, float]]] = {}
    known = set()
    with open(TABLE, newline="") as file:
        for row in csv.DictReader(file):
            known.add(row["figure"])
            if row["figure"] == figure:
                points.setdefault(row["curve"], []).append((float(row["x"]), float(row["y"])))
    if not points:
        raise ValueError(f"paper_curves: figure: expected one of {', '.join(sorted(known))}, got {figure!r}")
    return {curve: (np.array(xy)[:, 0], np.array(xy)[:, 1]) for curve, xy in points.items()}
