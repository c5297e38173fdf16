"""The operations of reference/ under the same names and signatures, compiled by Numba: what FAST means.

jit.py says how a kernel is compiled, cached and split over threads; every other file is the twin of one in reference/,
where the equations stand. tests/test_twins.py holds the two together.
"""

from scratchnet.kernels.activations import (
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softplus_backward,
    softplus_forward,
    tanh_backward,
    tanh_forward,
)
from scratchnet.kernels.dense import dense_backward_input, dense_backward_weight, dense_forward
