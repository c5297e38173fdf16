"""The mirror's MNIST, CIFAR-10 and IMDB: what they hold, and how fast a second load is."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from scratchnet.data import batches, known, load

pytestmark = [pytest.mark.real_data, pytest.mark.jit_only]  # no kernel reads a file: once is enough
NAMES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "imdb": (10_000,)}


@pytest.fixture(scope="module")
def real_cache(tmp_path_factory):
    """Decode each set once for this module, away from the user's cache."""
    before = os.environ.get("SCRATCHNET_CACHE")
    os.environ["SCRATCHNET_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield os.environ["SCRATCHNET_CACHE"]
    if before is None:
        del os.environ["SCRATCHNET_CACHE"]
    else:
        os.environ["SCRATCHNET_CACHE"] = before


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_real_one(name, real_cache):
    data = load(name)  # a mismatch of counts raises, of digests warns, and warnings are errors here
    expected = known.KNOWN[data.name]
    for split, content in (("train", data.train), ("test", data.test)):
        assert np.bincount(content.y).tolist() == expected.counts[split]
        assert expected.digests.get(split, data.digests[split]) == data.digests[split]
    assert data.input_shape == NAMES[name]


def test_published_figures_of_the_pixels(real_cache):
    mnist = load("mnist").train.x
    assert abs(mnist.mean() / 255 - 0.1307) <= 5e-5
    cifar = load("cifar10").train.x
    mean = cifar.mean(axis=(0, 1, 2)) / 255
    assert np.abs(mean - [0.49139968, 0.48215841, 0.44653091]).max() <= 1e-8


def test_the_bag_of_words_is_binary_and_scikit_learns(real_cache):
    data = load("imdb")
    for split in (data.train, data.test):
        assert split.x.format == "csr" and split.x.dtype == np.float32 and split.x.has_sorted_indices
        assert (split.x.data == 1).all() and split.x.has_canonical_format
        assert 100 <= split.x.nnz / len(split) <= 200
    assert len(data.vocabulary) == 10_000 and data.vocabulary == sorted(data.vocabulary)
    in_reviews = np.bincount(data.train.x.indices, minlength=10_000)
    assert data.vocabulary[int(in_reviews.argmax())] == "the"
    assert in_reviews.min() >= 25


@pytest.mark.parametrize("name", NAMES)
def test_the_second_load_takes_less_than_a_second(name, real_cache):
    load(name)
    code = (
        "import sys, time, scratchnet.data as d; t = time.perf_counter(); "
        f"d.load({name!r}); print(time.perf_counter() - t, 'datasets' in sys.modules, 'sklearn' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert float(out[0]) <= 1.0
    assert out[1:] == ["False", "False"]


def test_an_epoch_of_cifar10_in_batches(real_cache):
    train = load("cifar10").train
    seen = np.zeros(10, int)
    total = 0.0
    for x, y in batches(train.x, train.y, batch_size=512):
        seen += np.bincount(y, minlength=10)
        total += float(x.sum(dtype=np.float64))
    assert seen.tolist() == [5000] * 10
    assert abs(total / train.x.size - train.x.mean() / 255) <= 1e-7
