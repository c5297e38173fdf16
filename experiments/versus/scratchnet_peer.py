"""scratchnet in the race, by its public API alone."""

from __future__ import annotations

import numba
import numpy as np

import scratchnet
from scratchnet.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU
from scratchnet.optimizers import Adam
from versus.material import csr_batches, layer_weights
from versus.nets import LATENT, Net

VERSION = f"scratchnet with numba {numba.__version__} and numpy {np.__version__}"


def make(name: str, net: Net, threads: int):
    """The runner of a net's kind."""
    scratchnet.threads.set_threads(threads)
    return {"chain": Chain, "sparse": Sparse, "vae": Autoencoder, "adam": AdamAlone}[net.kind](net)


def _layer(kind: str, *sizes: int):
    if kind == "conv":
        return Conv2d(sizes[0], sizes[1], padding=sizes[2])
    if kind == "pool":
        return MaxPool2d(*sizes)
    return {"dense": Dense, "relu": ReLU, "flatten": Flatten}[kind](*sizes)


def _write(net: scratchnet.Sequential, weights: list[tuple[np.ndarray, np.ndarray]]) -> None:
    trained = [layer for layer in net.layers if layer.parameter_shapes]
    for layer, (weight, bias) in zip(trained, weights, strict=True):
        layer.weight[...], layer.bias[...] = weight, bias


class Chain:
    """Forward, softmax cross-entropy, backward and Adam over the batches in turn."""

    objective = staticmethod(scratchnet.softmax_cross_entropy)

    def __init__(self, net: Net) -> None:
        self.net = net

    def load(self, material: dict[str, np.ndarray]) -> None:
        """Make the batches ready."""
        self.x, self.y = list(material["x"]), list(material["y"])
        self.weights = layer_weights(material)

    def build(self) -> None:
        """Make the model and its optimizer."""
        self.model = scratchnet.Sequential([_layer(*layer) for layer in self.net.layers], self.net.input_shape)
        self.reset()

    def reset(self) -> None:
        """Go back to the first weights and an optimizer without past."""
        _write(self.model, self.weights)
        self.adam = Adam(self.model.params, lr=self.net.lr)

    def step(self, i: int) -> None:
        """Do one step on batch i."""
        loss, dlogits = self.objective(self.model.forward(self.x[i], train=True), self.y[i])
        self.model.backward(dlogits)
        self.adam.step(self.model.grads)
        self.last = loss

    def loss(self) -> float:
        """The loss of the last step, before its update."""
        return self.last


class Sparse(Chain):
    """Logistic regression of two classes on sparse rows."""

    objective = staticmethod(scratchnet.binary_cross_entropy)

    def load(self, material: dict[str, np.ndarray]) -> None:
        self.x, self.y = csr_batches(self.net, material), list(material["y"])
        self.weights = layer_weights(material)


class Autoencoder(Chain):
    """The variational autoencoder, with the noise given."""

    def load(self, material: dict[str, np.ndarray]) -> None:
        self.x, self.noise = list(material["x"]), list(material["noise"])
        self.weights = layer_weights(material)

    def build(self) -> None:
        from vae import VAE

        self.model = VAE(self.net.input_shape[0], self.net.layers[0][1], LATENT)
        self.reset()

    def reset(self) -> None:
        _write(self.model.encoder, self.weights[:2])
        _write(self.model.decoder, self.weights[2:])
        self.model.optimizers = [Adam(self.model.encoder.params), Adam(self.model.decoder.params)]

    def step(self, i: int) -> None:
        self.last = self.model.differentiate(self.x[i], self.noise[i])
        self.model.update()


class AdamAlone(Chain):
    """Adam's update by gradients that are there already; how far the parameters went stands for a loss."""

    def load(self, material: dict[str, np.ndarray]) -> None:
        self.first, self.grads = material["params"], list(material["grads"])

    def build(self) -> None:
        self.params = self.first.copy()
        self.reset()

    def reset(self) -> None:
        self.params[...] = self.first
        self.adam = Adam(self.params)

    def step(self, i: int) -> None:
        self.adam.step(self.grads[i])

    def loss(self) -> float:
        return float(np.square(self.params - self.first, dtype=np.float64).mean())
