"""Small neural nets trained from scratch: hand-written backprop in plain NumPy, and the same compiled by Numba.

Start with `scratchnet train` on the command line, or with `Sequential` and the loop in the README. To learn, read
layers/, reference/ and optimizers.py; to go fast, kernels/. Importing compiles nothing.
"""

from scratchnet import threads  # isort: skip  (first: it sets the wait policy that thread pools read when they load)

from scratchnet.network import Sequential
