"""Honest timing: what each step from loops to NumPy to compiled to parallel to the register tile buys on this machine.

timing.py says how a time is taken, limits.py what the machine can do at most, cases.py what is timed. operations.py,
ladder.py and steps.py measure, report.py writes tables. `scratchnet bench` prints them.
"""
