"""JAX in the race: one jitted step with optax.adam, its arguments donated.

XLA takes as many threads as the process has cores. A step may be handed to another thread, or run in the caller's: for
small ones that is faster, so both are tried.
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from versus.material import layer_weights
from versus.nets import Net

VERSION = f"jax {jax.__version__}, optax {optax.__version__}"


def make(name: str, net: Net, threads: int):
    """The runner of a net's kind."""
    if os.environ.get("JAX_CPU_ENABLE_ASYNC_DISPATCH") == "0":
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    return AdamAlone(net) if net.kind == "adam" else Chain(net)


def _apply(layers: tuple[tuple, ...], parameters: list, x: jax.Array) -> jax.Array:
    rest = iter(parameters)
    for kind, *sizes in layers:
        if kind in ("conv", "dense"):
            weight, bias = next(rest)
        if kind == "dense":
            x = x @ weight + bias
        elif kind == "conv":
            around = [(sizes[2], sizes[2])] * 2
            x = lax.conv_general_dilated(x, weight, (1, 1), around, dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        elif kind == "pool":
            size, stride, padding = sizes
            around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), around)
        elif kind == "flatten":
            x = x.reshape(x.shape[0], -1)
        else:
            x = {"relu": jax.nn.relu, "softplus": jax.nn.softplus}[kind](x)
    return x


def _classify(net: Net, parameters: list, x: jax.Array, y: jax.Array) -> jax.Array:
    logits = _apply(net.layers, parameters, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _bound(net: Net, parameters: list, x: jax.Array, noise: jax.Array) -> jax.Array:
    half = len(net.layers) // 2
    mean, log_variance = jnp.split(_apply(net.layers[:half], parameters[:2], x), 2, axis=1)
    logits = _apply(net.layers[half:], parameters[2:], mean + jnp.exp(log_variance / 2) * noise)
    likelihood = optax.sigmoid_binary_cross_entropy(logits, x).sum()
    divergence = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum()
    return (likelihood + divergence) / len(x)


class Chain:
    """Forward, loss, backward and Adam over the batches in turn, in one compiled function."""

    def __init__(self, net: Net) -> None:
        self.net, self.adam = net, optax.adam(net.lr)

    def load(self, material: dict[str, np.ndarray]) -> None:
        """Make the batches ready."""
        other = "noise" if self.net.kind == "vae" else "y"
        self.batches = [(jnp.array(x), jnp.array(z)) for x, z in zip(material["x"], material[other])]
        self.weights = layer_weights(material)

    def build(self) -> None:
        """Compile nothing yet: the first step does."""
        loss = _bound if self.net.kind == "vae" else _classify

        def update(parameters, state, *batch):
            value, grads = jax.value_and_grad(lambda p: loss(self.net, p, *batch))(parameters)
            changes, state = self.adam.update(grads, state)
            return optax.apply_updates(parameters, changes), state, value

        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.reset()

    def reset(self) -> None:
        """Go back to the first weights and an optimizer without past."""
        self.parameters = jax.tree.map(jnp.array, self.weights)
        self.state = self.adam.init(self.parameters)

    def step(self, i: int) -> None:
        """Do one step on batch i, and wait for it."""
        self.parameters, self.state, self.last = self.update(self.parameters, self.state, *self.batches[i])
        jax.block_until_ready((self.parameters, self.last))

    def loss(self) -> float:
        """The loss of the last step, before its update."""
        return float(self.last)


class AdamAlone(Chain):
    """Adam's update by gradients that are there already; how far the parameters went stands for a loss."""

    def load(self, material: dict[str, np.ndarray]) -> None:
        self.weights, self.batches = material["params"], [(jnp.array(grad),) for grad in material["grads"]]

    def build(self) -> None:
        def update(parameters, state, grads):
            changes, state = self.adam.update(grads, state)
            return optax.apply_updates(parameters, changes), state, jnp.zeros(())

        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.reset()

    def loss(self) -> float:
        return float(np.square(np.asarray(self.parameters) - self.weights, dtype=np.float64).mean())
