"""Small neural nets trained from scratch: hand-written backprop in plain NumPy, and the same compiled by Numba.

Start with `scratchnet train` on the command line, or with `Sequential` and the loop in the README. To learn, read
layers/, reference/ and optimizers/; to go fast, kernels/. Importing compiles nothing.
"""

from scratchnet import threads  # isort: skip  (first: it sets the wait policy that thread pools read when they load)

from scratchnet import data, initializers, kernels, layers, losses, optimizers, reference, schedules
from scratchnet.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from scratchnet.gradcheck import check_gradients
from scratchnet.losses import binary_cross_entropy, gaussian_kl, l2_penalty, mse, softmax_cross_entropy
from scratchnet.network import Sequential
from scratchnet.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    clip_grad_norm,
    clip_grad_value,
)
from scratchnet.training import DivergenceError, History, Progress, evaluate, train

__version__ = "0.1.0"  # that of pyproject.toml, as a test demands
