"""The variational autoencoder: its gradients are right, its noise can be drawn again, and it learns."""

from __future__ import annotations

import numpy as np
import pytest
from processes import run_experiment
from vae import VAE

from scratchnet import reference


def test_vae_gradients_are_the_derivatives_of_its_loss():
    model = VAE(7, hidden=6, latent=3, dtype="float64", ops=reference)
    rng = np.random.default_rng(0)
    x, eps = rng.random((5, 7)), model.noise(5, 1)
    for net in (model.encoder, model.decoder):
        net.params[...] = 0.5 * rng.standard_normal(net.params.shape)
    assert model.differentiate(x, eps) == pytest.approx(model.loss(x, eps), rel=1e-12)
    for net in (model.encoder, model.decoder):
        for i in range(net.params.size):
            kept, sides = net.params[i], []
            for h in (1e-5, -1e-5):
                net.params[i] = kept + h
                sides.append(model.loss(x, eps))
            net.params[i] = kept
            assert abs((sides[0] - sides[1]) / 2e-5 - net.grads[i]) <= 1e-8 * (1 + abs(net.grads[i]))


def test_vae_noise_depends_on_seed_and_step_alone():
    model = VAE(7, hidden=6, latent=3)
    assert np.array_equal(model.noise(4, 9), VAE(5, hidden=2, latent=3).noise(4, 9))
    assert not np.array_equal(model.noise(4, 9), model.noise(4, 10))
    assert not np.array_equal(model.noise(4, 9), VAE(7, hidden=6, latent=3, seed=1).noise(4, 9))
    assert abs(model.noise(10_000, 0).std() - 1) < 0.02


@pytest.mark.jit_only
def test_vae_learns():
    lines = run_experiment("vae", "--smoke").stdout.splitlines()
    first, last = (float(line.split("loss ")[1].split(",")[0]) for line in lines)
    assert last < first
