"""PyTorch in the race: eager, channels-last, compiled; on sparse input made dense, as CSR, and through EmbeddingBag."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from versus.material import csr_batches, layer_weights, output_shape
from versus.nets import LATENT, Net

VERSION = f"torch {torch.__version__}"


def make(name: str, net: Net, threads: int):
    """The runner of a net's kind, in the variant that `name` says."""
    torch.set_num_threads(threads)
    return {"chain": Chain, "sparse": Sparse, "vae": Autoencoder, "adam": AdamAlone}[net.kind](name, net)


def _layer(shape: tuple[int, ...], kind: str, *sizes: int) -> nn.Module:
    """A layer behind examples of `shape`, which is said as (H, W, C)."""
    if kind == "conv":
        return nn.Conv2d(shape[2], sizes[0], sizes[1], padding=sizes[2])
    if kind == "pool":
        return nn.MaxPool2d(sizes[0], sizes[1], padding=sizes[2])
    if kind == "dense":
        return nn.Linear(shape[0], sizes[0])
    return {"relu": nn.ReLU, "softplus": nn.Softplus, "flatten": nn.Flatten}[kind]()


def _build(layers: tuple[tuple, ...], shape: tuple[int, ...]) -> nn.Sequential:
    modules = []
    for layer in layers:
        modules.append(_layer(shape, *layer))
        shape = output_shape(shape, *layer)
    return nn.Sequential(*modules)


def _channels_first(weights: list, net: Net) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The weights in PyTorch's layouts. Behind Flatten its inputs come in the order C, H, W."""
    converted, shape, flattened, rest = [], net.input_shape, None, iter(weights)
    for layer in net.layers:
        if layer[0] == "flatten":
            flattened = shape
        if layer[0] in ("conv", "dense"):
            weight, bias = next(rest)
            if layer[0] == "conv":
                weight = weight.transpose(3, 2, 0, 1)
            elif flattened:
                weight = weight.reshape(*flattened, -1).transpose(2, 0, 1, 3).reshape(weight.shape).T
                flattened = None
            else:
                weight = weight.T
            converted.append((torch.from_numpy(np.ascontiguousarray(weight)), torch.from_numpy(bias)))
        shape = output_shape(shape, *layer)
    return converted


class Chain:
    """Forward, cross-entropy, backward and fused Adam over the batches in turn."""

    def __init__(self, name: str, net: Net) -> None:
        self.name, self.net = name, net
        self.layout = torch.channels_last if name == "torch-channels-last" else torch.contiguous_format

    def load(self, material: dict[str, np.ndarray]) -> None:
        """Make the batches ready."""
        x = [torch.from_numpy(batch) for batch in material["x"]]
        if len(self.net.input_shape) == 3:
            # no .contiguous: images of one channel are contiguous in either layout, and would stay in ours
            x = [batch.permute(0, 3, 1, 2).clone(memory_format=self.layout) for batch in x]
        self.batches = list(zip(x, map(torch.from_numpy, material["y"])))
        self.weights = _channels_first(layer_weights(material), self.net)

    def build(self) -> None:
        """Make the model and its optimizer."""
        self.model = self.make_model().to(memory_format=self.layout)
        self.objective = torch.compile(self.evaluate) if self.name == "torch-compile" else self.evaluate
        self.adam = torch.optim.Adam(self.model.parameters(), lr=self.net.lr, fused=True)
        self.reset()

    def make_model(self) -> nn.Module:
        """The net."""
        return _build(self.net.layers, self.net.input_shape)

    def evaluate(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""
        return F.cross_entropy(self.model(x), y)

    @torch.no_grad()
    def reset(self) -> None:
        """Go back to the first weights and an optimizer without past."""
        first = [part for pair in self.weights for part in pair]
        for parameter, value in zip(self.model.parameters(), first, strict=True):
            parameter.copy_(value)
        self.adam.state.clear()

    def step(self, i: int) -> None:
        """Do one step on batch i."""
        self.adam.zero_grad()
        self.last = self.objective(*self.batches[i])
        self.last.backward()
        self.adam.step()

    def loss(self) -> float:
        """The loss of the last step, before its update."""
        return self.last.item()


class Autoencoder(Chain):
    """The variational autoencoder, with the noise given."""

    def load(self, material: dict[str, np.ndarray]) -> None:
        self.batches = [(torch.from_numpy(x), torch.from_numpy(e)) for x, e in zip(material["x"], material["noise"])]
        self.weights = _channels_first(layer_weights(material), self.net)

    def make_model(self) -> nn.Module:
        half = len(self.net.layers) // 2
        encoder = _build(self.net.layers[:half], self.net.input_shape)
        return nn.Sequential(encoder, _build(self.net.layers[half:], (LATENT,)))

    def evaluate(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        encoder, decoder = self.model
        mean, log_variance = encoder(x).chunk(2, dim=1)
        logits = decoder(mean + torch.exp(log_variance / 2) * noise)
        likelihood = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (likelihood + divergence) / len(x)


class Bag(nn.Module):
    """Logistic regression on the indices of the words: EmbeddingBag sums their rows of the weight."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, units))
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, words: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return logits; `words` is (indices, indptr, data) of a CSR batch."""
        indices, offsets, data = words
        return self.bias + F.embedding_bag(
            indices, self.weight, offsets, mode="sum", per_sample_weights=data, include_last_offset=True
        )


class CsrLinear(nn.Module):
    """Logistic regression by PyTorch's product of a CSR matrix with a dense one."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, units))
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return torch.sparse.mm(x, self.weight) + self.bias


class Sparse(Chain):
    """Logistic regression of two classes on sparse rows, in one of three ways."""

    def load(self, material: dict[str, np.ndarray]) -> None:
        x = [self._ready(batch) for batch in csr_batches(self.net, material)]
        self.batches = list(zip(x, map(torch.from_numpy, material["y"])))
        ((weight, bias),) = layer_weights(material)
        weight = weight.T if self.name == "torch-dense" else weight
        self.weights = [(torch.from_numpy(np.ascontiguousarray(weight)), torch.from_numpy(bias))]

    def _ready(self, rows):
        if self.name == "torch-dense":
            return torch.from_numpy(rows.toarray())
        indptr, indices, data = map(torch.from_numpy, (rows.indptr, rows.indices, rows.data))
        if self.name == "torch-csr":
            return torch.sparse_csr_tensor(indptr, indices, data, rows.shape)
        return indices, indptr, data

    def make_model(self) -> nn.Module:
        features, units = self.net.input_shape[0], self.net.layers[0][1]
        kinds = {"torch-dense": nn.Linear, "torch-csr": CsrLinear, "torch-embedding-bag": Bag}
        return kinds[self.name](features, units)

    def evaluate(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(self.model(x), y)


class AdamAlone(Chain):
    """Fused Adam by gradients that are there already; how far the parameters went stands for a loss."""

    def load(self, material: dict[str, np.ndarray]) -> None:
        self.weights = [(torch.from_numpy(material["params"]),)]
        self.grads = [torch.from_numpy(grad) for grad in material["grads"]]

    def make_model(self) -> nn.Module:
        return nn.ParameterList([nn.Parameter(self.weights[0][0].clone())])

    def step(self, i: int) -> None:
        self.model[0].grad = self.grads[i]
        self.adam.step()

    def loss(self) -> float:
        return float((self.model[0].detach() - self.weights[0][0]).double().square().mean())
