"""Optimizers: what turns gradients into a step. Names, arguments, defaults and arithmetic are PyTorch's; Lion, which
PyTorch has not, follows its paper.

An optimizer works on one flat array of parameters and one of gradients, so it is a loop over numbers; the loops, with
their equations, stand in reference/updates.py. Here is what surrounds them: arguments, state, the count of steps, and
the scalars of a step (bias corrections, the learning rate of a schedule), in float64.

    adam = Adam(net.params, lr=1e-3)
    adam.step(net.grads)

Decay rates are rounded to the dtype of the parameters before anything is computed from them, so that a moment and its
bias correction agree: in float32, beta2 = 0.999 is 0.99900001.
"""

from collections.abc import Callable

from scratchnet.optimizers.base import LearningRate, Optimizer
from scratchnet.optimizers.clipping import clip_grad_norm, clip_grad_value
from scratchnet.optimizers.descent import SGD, Adadelta, Adagrad, Lion, RMSprop
from scratchnet.optimizers.moments import Adam, Adamax, AdamW, NAdam, RAdam

# What the command line knows, by lower-case name.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    method.__name__.lower(): method
    for method in (SGD, Adagrad, Adadelta, RMSprop, Adam, AdamW, Adamax, NAdam, RAdam, Lion)
}
