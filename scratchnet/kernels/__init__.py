"""The operations of reference/ under the same names and signatures, compiled by Numba: what FAST means.

A file of operations has the name of its twin in reference/: there stand the equations, and tests/test_twins.py holds
the two together. The others say how:

    jit, compiler                               how a kernel is compiled, cached, split over threads
    memory, vectors                             addresses and calls; LLVM's vectors
    tile -> matmul                              the register tile, and products made of it
    winograd_transform -> winograd (and _pool)  convolutions with fewer multiplications
    max_pool                                    max pooling, inside a convolution or by itself
    exponential                                 exp and its kin
    gather                                      how a batch is put together
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
from scratchnet.kernels.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
from scratchnet.kernels.conv_pool import conv2d_relu_max_pool2d_backward, conv2d_relu_max_pool2d_forward
from scratchnet.kernels.dense import dense_backward_input, dense_backward_weight, dense_forward
from scratchnet.kernels.dense_chain import dense_chain_backward, dense_chain_forward
from scratchnet.kernels.dropout import dropout_backward, dropout_forward
from scratchnet.kernels.losses import binary_cross_entropy, gaussian_kl, mse, softmax_cross_entropy
from scratchnet.kernels.norm import batch_norm_apply, batch_norm_backward, batch_norm_forward
from scratchnet.kernels.pool import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    relu_max_pool2d_backward,
    relu_max_pool2d_forward,
)
from scratchnet.kernels.residual import residual_backward, residual_forward
from scratchnet.kernels.sparse import csr_dense_backward_weight, csr_dense_forward
from scratchnet.kernels.updates import (
    adadelta_update,
    adagrad_update,
    adam_update,
    adamax_update,
    clip_gradients,
    lion_update,
    nadam_update,
    radam_update,
    rmsprop_update,
    scale_gradients,
    sgd_update,
    squared_norm,
)
