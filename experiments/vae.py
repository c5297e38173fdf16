"""The variational autoencoder of the Adam paper's figure 4 (Kingma & Welling 2014): two nets joined by a random draw.

encoder   x -> 500 softplus -> mean, log_variance            decoder   z -> 500 softplus -> logits

python experiments/vae.py --epochs 10        trains it on MNIST; the loss is in nats per image
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from types import ModuleType

import numpy as np

from scratchnet import Sequential, binary_cross_entropy, gaussian_kl, kernels
from scratchnet.initializers import Initializer, lecun_normal
from scratchnet.layers import Dense, Softplus
from scratchnet.optimizers import Adam
from scratchnet.optimizers.base import Optimizer


class VAE:
    """Learn to encode and decode, by stochastic ascent of the variational bound.

        mean, log_variance = encoder(x)        s = exp(log_variance / 2)        z = mean + s eps,   eps ~ N(0, 1)
        loss = 1/N sum_n [ binary cross-entropy(decoder(z), x) + KL(N(mean, s^2) || N(0, 1)) ]

    z is a function of mean and s once eps is drawn (the reparameterisation): dz/dmean = 1, dz/ds = eps, and
    ds/dlog_variance = s / 2. So with dz = dloss/dz from the decoder

        dmean         = dz               + dKL/dmean
        dlog_variance = dz eps s / 2     + dKL/dlog_variance

    Args:
        input_size, hidden, latent: units of x, of the hidden layers, and of z.
        seed: of the first weights and of the noise, which depends on it and on the step's number alone.
        init: of the weights.
        optimizer: makes an optimizer for an array of parameters; called once for each net.
        dtype, ops: as for Sequential.
    """

    def __init__(
        self,
        input_size: int = 784,
        hidden: int = 500,
        latent: int = 50,
        seed: int = 0,
        init: Initializer = lecun_normal,
        optimizer: Callable[[np.ndarray], Optimizer] = Adam,
        dtype: str = "float32",
        ops: ModuleType = kernels,
    ) -> None:
        def chain(inputs: int, outputs: int, seed: int) -> Sequential:
            layers = [Dense(hidden, init=init), Softplus(), Dense(outputs, init=init)]
            return Sequential(layers, (inputs,), seed=seed, dtype=dtype, ops=ops)

        self.latent, self.seed, self.ops = latent, seed, ops
        self.encoder, self.decoder = chain(input_size, 2 * latent, 2 * seed), chain(latent, input_size, 2 * seed + 1)
        self._held: dict[str, np.ndarray] = {}  # arrays of a batch, kept from step to step
        self.optimizers = [optimizer(net.params) for net in (self.encoder, self.decoder)]

    def step(self, x: np.ndarray, number: int) -> float:
        """Train on a batch, (N, input_size) in [0, 1], with the noise of step `number`; returns its loss before."""
        loss = self.differentiate(x, self.noise(len(x), number))
        self.update()
        return loss

    def noise(self, rows: int, number: int) -> np.ndarray:
        """Draw eps, (rows, latent), from a counter: any step's can be drawn again without those before it."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        return rng.standard_normal((rows, self.latent)).astype(self.encoder.dtype)

    def loss(self, x: np.ndarray, eps: np.ndarray) -> float:
        """Compute the loss of a batch, and nothing else."""
        mean, log_variance = self._split(self.encoder.forward(x))
        logits = self.decoder.forward(mean + np.exp(log_variance / 2) * eps)
        likelihood, _ = binary_cross_entropy(logits, x, reduction="batchmean", ops=self.ops)
        return likelihood + gaussian_kl(mean, log_variance, ops=self.ops)[0]

    def differentiate(self, x: np.ndarray, eps: np.ndarray) -> float:
        """Compute the loss of a batch and write the gradients of both nets."""
        code = self.encoder.forward(x, train=True)  # (N, 2 latent)
        mean, log_variance = self._split(code)  # (N, latent) each
        s = self._room("s", mean)
        np.exp(np.divide(log_variance, 2, out=s), out=s)
        z = np.multiply(s, eps, out=self._room("z", mean))
        z += mean
        logits = self.decoder.forward(z, train=True)  # (N, input_size)
        likelihood, dlogits = binary_cross_entropy(
            logits, x, reduction="batchmean", ops=self.ops, out=self._room("dlogits", logits)
        )
        dmean, dlog_variance = self._room("dmean", mean), self._room("dlog_variance", mean)
        divergence, _ = gaussian_kl(mean, log_variance, ops=self.ops, out=(dmean, dlog_variance))
        dz = self.decoder.backward(dlogits, input_gradient=True)
        dmean += dz
        np.multiply(dz, eps, out=z)  # z has been used, and gives its place
        z *= s
        z /= 2
        dlog_variance += z
        dcode = np.concatenate([dmean, dlog_variance], axis=1, out=self._room("dcode", code))
        self.encoder.backward(dcode)
        return likelihood + divergence

    def update(self) -> None:
        """Step both nets by their gradients."""
        for net, optimizer in zip((self.encoder, self.decoder), self.optimizers):
            optimizer.step(net.grads)

    def _room(self, name: str, like: np.ndarray) -> np.ndarray:
        """Memory of the shape of `like`, the same at every step."""
        held = self._held.get(name)
        if held is None or held.shape != like.shape:
            held = self._held[name] = np.empty_like(like)
        return held

    def _copy(self, name: str, source: np.ndarray) -> np.ndarray:
        """A copy in such memory."""
        kept = self._room(name, source)
        kept[...] = source
        return kept

    def _split(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copy the two halves of what the encoder returns."""
        return self._copy("mean", code[:, : self.latent]), self._copy("log_variance", code[:, self.latent :])


def main() -> None:
    """Train on MNIST's pixels as probabilities, and print the mean loss of each epoch and of the test images."""
    from scratchnet.data import batches, load, scale

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few steps on drawn numbers")
    args = parser.parse_args()
    if args.smoke:
        pixels = (np.random.default_rng(0).random((300, 784)) < 0.2).astype(np.uint8) * 255
        train, test, labels, args.epochs = pixels[:200], pixels[200:], np.zeros(200, np.int64), 2
    else:
        data = load("mnist")
        train, test, labels = data.train.x, data.test.x, data.train.y
    vae = VAE(seed=args.seed, optimizer=lambda params: Adam(params, lr=args.lr))
    number = 0
    for epoch in range(args.epochs):
        losses = []
        for x, _ in batches(train, labels, args.batch_size, seed=args.seed, epoch=epoch):
            losses.append(vae.step(x.reshape(len(x), -1), number))
            number += 1
        held_out = scale(test[:]).reshape(len(test), -1)
        print(
            f"epoch {epoch + 1}: loss {np.mean(losses):.2f}, test {vae.loss(held_out, vae.noise(len(test), 2**63)):.2f}"
        )


if __name__ == "__main__":
    main()
