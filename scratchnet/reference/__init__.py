"""Every operation in plain NumPy: what CORRECT means. One file per subject; forward stands directly above backward.

An operation is a function on arrays. The arrays it writes come first, then those it reads, then scalars, so that a call
reads as an assignment: `dense_forward(y, x, weight, bias)` is y = x W + b. The caller allocates; what is only read
stays untouched. `dname` is dLoss/dname and has the shape of `name`. Operations trust their caller: layers and losses
check.

A backward pass is the chain rule and nothing else. The loss L is one number; where y = f(x, weight),

    dx[i] = sum_j dy[j] (d y[j] / d x[i])          dweight[i] = sum_j dy[j] (d y[j] / d weight[i])

over all elements j of y. Each backward here is this sum, worked out for one f. In a dense layer weight[d, u] reaches
the loss through y[n, u] of every example n, and d y[n, u] / d weight[d, u] = x[n, d], so that

    dweight[d, u] = sum_n x[n, d] dy[n, u]

A net calls its layers from the last to the first: the dx of one is the dy of the one before it.

Shape letters: N batch, H W image, C channels, KH KW kernel, sh sw stride, OH OW places of a window (PH PW those of a
pool behind a convolution), D features in, U units out, P all parameters, K classes, J stored numbers of a sparse batch,
M rows of any kind.
"""

from scratchnet.reference.activations import (
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
from scratchnet.reference.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
from scratchnet.reference.conv_pool import conv2d_relu_max_pool2d_backward, conv2d_relu_max_pool2d_forward
from scratchnet.reference.dense import dense_backward_input, dense_backward_weight, dense_forward
from scratchnet.reference.dense_chain import dense_chain_backward, dense_chain_forward
from scratchnet.reference.dropout import dropout_backward, dropout_forward
from scratchnet.reference.losses import binary_cross_entropy, gaussian_kl, mse, softmax_cross_entropy
from scratchnet.reference.norm import batch_norm_apply, batch_norm_backward, batch_norm_forward
from scratchnet.reference.pool import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    relu_max_pool2d_backward,
    relu_max_pool2d_forward,
)
from scratchnet.reference.residual import residual_backward, residual_forward
from scratchnet.reference.sparse import csr_dense_backward_weight, csr_dense_forward
from scratchnet.reference.updates import (
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
