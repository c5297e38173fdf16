"""What is raced: the nets, said once for all frameworks, and which of them can train each.

A net is a tuple of layers:   ("conv", channels, kernel, padding)   ("pool", kernel, stride, padding)
                              ("dense", units)   ("relu",)   ("softplus",)   ("flatten",)
Nothing is imported here, so that a worker's import time is its framework's alone.
"""

from __future__ import annotations

from dataclasses import dataclass

OURS = "scratchnet"
TORCH = ("torch", "torch-compile")


@dataclass(frozen=True)
class Net:
    """One race.

    Attributes:
        title: what a table calls it.
        kind: "chain" (softmax cross-entropy over `layers`), "vae", "sparse" (one logit of a CSR row, for two classes:
            what scikit-learn's SGDClassifier is too) or "adam" alone.
        batch: examples of a step; for "adam" the number of parameters.
        input_shape: of one example, images as (H, W, C).
        dataset: a name that scratchnet.data.load knows, or "" for numbers drawn here.
        target, stretch: what scratchnet's median over the best peer's shall be at most.
        peers: the frameworks that can do it. JAX is not among those of sparse input: its own is experimental, and made
            dense it has as much to multiply as torch-dense.
        batches: how many different ones are cycled through.
        lr: Adam's rate. At 1e-3 the CIFAR net's losses in the other frameworks left ours by 0.7 to 1.7 % in 20 steps,
            each by another figure, as growing rounding would; at 1e-5 all agree to 1e-5.
    """

    name: str
    title: str
    kind: str
    batch: int
    input_shape: tuple[int, ...]
    layers: tuple[tuple, ...]
    dataset: str
    target: float
    stretch: float
    peers: tuple[str, ...]
    batches: int = 20
    lr: float = 1e-3


def _dense(*units: int, activation: str = "relu") -> tuple[tuple, ...]:
    hidden = [layer for count in units[:-1] for layer in (("dense", count), (activation,))]
    return (*hidden, ("dense", units[-1]))


def _convs(*blocks: tuple[int, int, int], pool: tuple[int, int, int]) -> tuple[tuple, ...]:
    return tuple(layer for block in blocks for layer in (("conv", *block), ("relu",), ("pool", *pool)))


LENET = (*_convs((32, 3, 0), (64, 3, 0), pool=(2, 2, 0)), ("flatten",), *_dense(128, 10))
CIFAR = (*_convs((64, 5, 2), (64, 5, 2), (128, 5, 2), pool=(3, 2, 1)), ("flatten",), *_dense(1000, 10))
VAE = (*_dense(500, 100, activation="softplus"), *_dense(500, 784, activation="softplus"))

DENSE_PEERS = (*TORCH, "jax", "sklearn")
IMAGE_PEERS = (*TORCH, "torch-channels-last", "jax")
SPARSE_PEERS = ("torch-dense", "torch-csr", "torch-embedding-bag", "sklearn-sgd")

NETS = {
    net.name: net
    for net in (
        Net(
            "digits_mlp",
            "digits MLP 64-64-10, batch 32",
            "chain",
            32,
            (64,),
            _dense(64, 10),
            "digits",
            0.35,
            0.20,
            DENSE_PEERS,
        ),
        Net(
            "mnist_logistic",
            "MNIST logistic regression 784-10",
            "chain",
            128,
            (784,),
            _dense(10),
            "mnist",
            0.45,
            0.25,
            (*TORCH, "jax"),
        ),
        Net(
            "mnist_mlp",
            "MNIST MLP 784-1000-1000-10",
            "chain",
            128,
            (784,),
            _dense(1000, 1000, 10),
            "mnist",
            0.90,
            0.70,
            DENSE_PEERS,
        ),
        Net(
            "lenet",
            "LeNet-like, 3x3 convolutions 32-64, dense 128",
            "chain",
            128,
            (28, 28, 1),
            LENET,
            "mnist",
            0.42,
            0.25,
            IMAGE_PEERS,
        ),
        Net(
            "cifar",
            "the Adam paper's CIFAR net, 5x5 convolutions 64-64-128, dense 1000",
            "chain",
            128,
            (32, 32, 3),
            CIFAR,
            "cifar10",
            0.42,
            0.33,
            IMAGE_PEERS,
            lr=1e-5,
        ),
        Net(
            "vae",
            "variational autoencoder 784-500-50, batch 100",
            "vae",
            100,
            (784,),
            VAE,
            "mnist",
            0.75,
            0.50,
            (*TORCH, "jax"),
        ),
        Net(
            "imdb_logistic",
            "IMDB logistic regression, CSR, 10,000 words",
            "sparse",
            128,
            (10_000,),
            _dense(1),
            "imdb",
            0.50,
            0.25,
            SPARSE_PEERS,
            batches=195,
        ),
        Net(
            "adam_1e4", "Adam alone, 10^4 parameters", "adam", 10**4, (), (), "", 0.6, 0.4, ("torch", "jax"), batches=2
        ),
        Net(
            "adam_1e6", "Adam alone, 10^6 parameters", "adam", 10**6, (), (), "", 0.8, 0.6, ("torch", "jax"), batches=2
        ),
        Net(
            "adam_1e7", "Adam alone, 10^7 parameters", "adam", 10**7, (), (), "", 1.0, 0.9, ("torch", "jax"), batches=2
        ),
    )
}
LATENT = 50  # of the vae

# frameworks by name: the module of this package that runs it, and what it needs installed
MODULES = {
    OURS: ("scratchnet_peer", ("scratchnet",)),
    "torch": ("torch_peer", ("torch",)),
    "torch-channels-last": ("torch_peer", ("torch",)),
    "torch-compile": ("torch_peer", ("torch",)),
    "torch-dense": ("torch_peer", ("torch",)),
    "torch-csr": ("torch_peer", ("torch",)),
    "torch-embedding-bag": ("torch_peer", ("torch",)),
    "jax": ("jax_peer", ("jax", "optax")),
    "sklearn": ("sklearn_peer", ("sklearn",)),
    "sklearn-sgd": ("sklearn_peer", ("sklearn",)),
}
