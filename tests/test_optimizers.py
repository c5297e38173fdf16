"""Optimizers against PyTorch's recorded trajectories, against their papers, and on what they promise beyond numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import paper_optimizers as paper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet import kernels, optimizers, reference
from scratchnet.optimizers import (
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    clip_grad_norm,
    clip_grad_value,
)
from scratchnet.schedules import constant, cosine, inverse_square_root

GOLDEN = np.load(Path(__file__).parent / "golden" / "optimizers.npz")
ABOUT = json.loads(str(GOLDEN["about"]))
CONFIGURATIONS = ABOUT["configurations"]
FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])
METHODS = pytest.mark.parametrize("method", OPTIMIZERS.values(), ids=list(OPTIMIZERS))

# One of each method, with every mode on that it has.
EVERYTHING = {
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "Adagrad": {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1},
    "Adadelta": {"weight_decay": 0.1},
    "RMSprop": {"momentum": 0.9, "centered": True, "weight_decay": 0.1},
    "Adam": {"amsgrad": True, "weight_decay": 0.1},
    "AdamW": {"amsgrad": True},
    "Adamax": {"weight_decay": 0.1},
    "NAdam": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "RAdam": {"weight_decay": 0.1},
    "Lion": {"weight_decay": 0.1},
}


# --- PyTorch -----------------------------------------------------------------------------------------------------


def error_from_golden(key, ops, spoil=1.0):
    """The largest error over 50 steps, relative to PyTorch's value; `spoil` multiplies every step."""
    name, arguments = CONFIGURATIONS[key]
    params = GOLDEN["start"].copy()
    optimizer = getattr(optimizers, name)(params, ops=ops, **arguments)
    worst = 0.0
    for noise, want in zip(GOLDEN["noise"], GOLDEN[f"trajectory/{key}"]):
        before = params.copy()
        optimizer.step(GOLDEN["curvature"] * params + noise)
        params[:] = before + spoil * (params - before)
        worst = max(worst, float(np.max(np.abs(params - want) / np.maximum(np.abs(want), 1e-3))))
    return worst


@FLOORS
@pytest.mark.parametrize("key", CONFIGURATIONS)
def test_trajectory_is_pytorchs(key, ops):
    assert error_from_golden(key, ops) <= 1e-9


@pytest.mark.parametrize("key", CONFIGURATIONS)
def test_an_update_that_is_off_by_a_thousandth_is_caught(key):
    assert not error_from_golden(key, kernels, spoil=1.001) <= 1e-9


@pytest.mark.parametrize(
    ("key", "argument", "value"),
    [
        ("sgd_dampening", "dampening", 0.3003),
        ("adagrad_everything", "eps", 1.001e-3),
        ("adagrad_lr_decay", "lr_decay", 0.05005),
        ("adadelta_everything", "eps", 1.001e-3),
        ("rmsprop_everything", "alpha", 0.9501),
        ("rmsprop_everything", "eps", 1.001e-3),
        ("adam_betas", "eps", 1.001e-3),
        ("adam_betas", "betas", (0.5, 0.9001)),
        ("adamw", "weight_decay", 0.01001),
        ("adamax_everything", "eps", 1.001e-3),
        ("nadam", "momentum_decay", 0.004004),
        ("radam_everything", "eps", 1.001e-3),
        ("radam", "betas", (0.9, 0.99901)),
    ],
)
def test_a_wrong_constant_is_caught(key, argument, value, monkeypatch):
    name, arguments = CONFIGURATIONS[key]
    monkeypatch.setitem(CONFIGURATIONS, key, (name, {**arguments, argument: value}))
    assert not error_from_golden(key, kernels) <= 1e-9


def test_every_method_but_lion_is_recorded():
    assert {name for name, _ in CONFIGURATIONS.values()} == {m.__name__ for m in OPTIMIZERS.values()} - {"Lion"}
    assert len(CONFIGURATIONS) >= 24


@pytest.mark.parametrize("name", ABOUT["signatures"])
def test_arguments_are_pytorchs(name):
    """Names, order and defaults; what only this package has follows at the end."""
    optimizer = getattr(optimizers, name)(np.zeros(2))
    ours = {"lr": optimizer.lr, **{key: getattr(optimizer, key) for key in optimizer.arguments}}
    theirs = {key: tuple(value) if isinstance(value, list) else value for key, value in ABOUT["signatures"][name]}
    extra = {"bias_correction": True} if name in ("Adam", "AdamW") else {}
    assert ours == theirs | extra
    positional = getattr(optimizers, name).__init__.__code__.co_varnames[2 : 2 + len(theirs)]
    assert list(positional) == list(theirs)


# --- the papers --------------------------------------------------------------------------------------------------


def parabola_gradient(x, t):
    """Of 1.5 x^2, plus something that changes with t."""
    return 3 * x + 0.5 * math.cos(t)


def follow(optimizer, gradient, steps=3):
    """The values of a single parameter after each step."""
    path = []
    for t in range(1, steps + 1):
        optimizer.step(np.array([gradient(float(optimizer.params[0]), t)]))
        path.append(float(optimizer.params[0]))
    return path


# (made by, transcription, steps). Where PyTorch departs from the paper: eps is 0 where the transcription has none; lr
# that PyTorch multiplies into AdamW's decay is divided out; bias corrections that AMSGrad's paper lacks are off; a mean
# that NAdam's paper warms up has warmed up (momentum_decay 1e4); RAdam's threshold of 5 is given to the transcription.
g = parabola_gradient
PAPERS = {
    "momentum": (
        lambda p, o: SGD(p, 0.1, momentum=0.9, ops=o),
        lambda x: paper.momentum(x, g, 3, lr=0.1, mu=0.9),
    ),
    "nesterov": (
        lambda p, o: SGD(p, 0.1, momentum=0.9, nesterov=True, ops=o),
        lambda x: paper.nesterov(x, g, 3, lr=0.1, mu=0.9),
    ),
    "adagrad": (lambda p, o: Adagrad(p, 0.1, eps=0, ops=o), lambda x: paper.adagrad(x, g, 3, lr=0.1)),
    "adadelta": (
        lambda p, o: Adadelta(p, rho=0.95, eps=1e-6, ops=o),
        lambda x: paper.adadelta(x, g, 3, rho=0.95, eps=1e-6),
    ),
    "rmsprop": (
        lambda p, o: RMSprop(p, 0.1, alpha=0.9, eps=0, ops=o),
        lambda x: paper.rmsprop(x, g, 3, lr=0.1, decay=0.9),
    ),
    "rmsprop_graves": (
        lambda p, o: RMSprop(p, 0.1, alpha=0.95, eps=0, momentum=0.9, centered=True, ops=o),
        lambda x: paper.rmsprop_graves(x, g, 3, lr=0.1, decay=0.95, mu=0.9),
    ),
    "adam": (
        lambda p, o: Adam(p, 0.1, eps=1e-3, ops=o),
        lambda x: paper.adam(x, g, 3, alpha=0.1, b1=0.9, b2=0.999, eps=1e-3),
    ),
    "adamw": (
        lambda p, o: AdamW(p, 0.1, weight_decay=0.02 / 0.1, ops=o),
        lambda x: paper.adam(x, g, 3, alpha=0.1, b1=0.9, b2=0.999, eps=1e-8, decay=0.02),
    ),
    "amsgrad": (
        lambda p, o: Adam(p, 0.1, betas=(0.9, 0.5), eps=0, amsgrad=True, bias_correction=False, ops=o),
        lambda x: paper.amsgrad(x, g, 3, alpha=0.1, b1=0.9, b2=0.5),
    ),
    "adamax": (
        lambda p, o: Adamax(p, 0.1, betas=(0.9, 0.5), eps=0, ops=o),
        lambda x: paper.adamax(x, g, 3, alpha=0.1, b1=0.9, b2=0.5),
    ),
    "nadam": (
        lambda p, o: NAdam(p, 0.1, momentum_decay=1e4, ops=o),
        lambda x: paper.nadam(x, g, 3, alpha=0.1, b1=0.9, b2=0.999, eps=1e-8, psi=1e4, constant_mean=False),
    ),
    "nadam_warming_up": (
        lambda p, o: NAdam(p, 0.1, ops=o),
        lambda x: paper.nadam(x, g, 3, alpha=0.1, b1=0.9, b2=0.999, eps=1e-8, psi=1 / 250),
    ),
    "radam": (
        lambda p, o: RAdam(p, 0.1, eps=0, ops=o),
        lambda x: paper.radam(x, g, 8, alpha=0.1, b1=0.9, b2=0.999, threshold=5),
    ),
    "lion": (
        lambda p, o: Lion(p, 0.1, weight_decay=0.1, ops=o),
        lambda x: paper.lion(x, g, 3, lr=0.1, b1=0.9, b2=0.99, decay=0.1),
    ),
}


@FLOORS
@pytest.mark.parametrize("key", PAPERS)
def test_first_steps_are_the_papers(key, ops):
    make, transcription = PAPERS[key]
    want = transcription(2.0)
    got = follow(make(np.array([2.0]), ops), parabola_gradient, len(want))
    assert max(abs(a - b) for a, b in zip(got, want)) <= 1e-12


def test_radam_departs_from_its_paper_at_step_5_only_through_the_threshold():
    """At the default beta2, 4 < rho_5 <= 5: the paper divides by v one step earlier."""
    ours = follow(RAdam(np.array([2.0]), 0.1, eps=0), g, 8)
    papers = paper.radam(2.0, g, 8, alpha=0.1, b1=0.9, b2=0.999, threshold=4)
    assert max(abs(a - b) for a, b in zip(ours[:4], papers)) <= 1e-12
    assert abs(ours[4] - papers[4]) >= 1e-3


# --- it optimizes ------------------------------------------------------------------------------------------------

# What each is given for 10,000 steps on Rosenbrock's function from (-1, 1); constant rates unless a schedule is named.
ROSENBROCK = {
    "sgd": lambda p, n: SGD(p, 0.002),
    "momentum": lambda p, n: SGD(p, 0.001, momentum=0.9),
    "nesterov": lambda p, n: SGD(p, 0.001, momentum=0.9, nesterov=True),
    "adagrad": lambda p, n: Adagrad(p, 1.0),
    "adadelta": lambda p, n: Adadelta(p, cosine(1.0, n)),
    "rmsprop": lambda p, n: RMSprop(p, cosine(0.01, n)),
    "adam": lambda p, n: Adam(p, cosine(0.1, n)),
    "amsgrad": lambda p, n: Adam(p, cosine(0.1, n), amsgrad=True),
    "adamw": lambda p, n: AdamW(p, cosine(0.1, n), weight_decay=1e-6),
    "adamax": lambda p, n: Adamax(p, cosine(0.1, n)),
    "nadam": lambda p, n: NAdam(p, cosine(0.03, n)),
    "radam": lambda p, n: RAdam(p, 0.01),  # its first steps are plain momentum: a larger rate leaves the valley
    "lion": lambda p, n: Lion(p, cosine(0.003, n)),
}


@pytest.mark.parametrize("key", ROSENBROCK)
def test_converges_on_rosenbrock(key):
    params, steps = np.array([-1.0, 1.0]), 10_000
    optimizer = ROSENBROCK[key](params, steps)
    for _ in range(steps):
        x, y = params
        optimizer.step(np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)]))
    x, y = params
    assert (1 - x) ** 2 + 100 * (y - x * x) ** 2 <= 1e-3


@FLOORS
@METHODS
def test_converges_on_a_parabola(method, ops):
    """0.5 (x - 3)^2 from 0, 500 steps, cosine from 0.1 (Adadelta from 10, Adagrad from 3: their steps shrink)."""
    params = np.zeros(4, np.float32)
    rate = {"Adadelta": 10.0, "Adagrad": 3.0}.get(method.__name__, 0.1)
    optimizer = method(params, cosine(rate, 500), **({"weight_decay": 0.0} if method is AdamW else {}), ops=ops)
    for _ in range(500):
        optimizer.step(params - 3)
    assert np.abs(params - 3).max() <= 1e-2


# --- properties --------------------------------------------------------------------------------------------------

GRADIENTS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def largest_step(optimizer, gradients):
    """Over a sequence of gradients of one parameter."""
    largest = 0.0
    for gradient in gradients:
        before = float(optimizer.params[0])
        optimizer.step(np.array([gradient]))
        largest = max(largest, abs(float(optimizer.params[0]) - before))
    return largest


@given(gradients=GRADIENTS)
@settings(max_examples=40, deadline=None)
def test_adam_never_steps_beyond_7_27_lr(gradients):
    assert largest_step(Adam(np.zeros(1), 0.5), gradients) <= 7.2703 * 0.5


@given(gradients=GRADIENTS)
@settings(max_examples=40, deadline=None)
def test_adamax_never_steps_beyond_1_0091_lr(gradients):
    assert largest_step(Adamax(np.zeros(1), 0.5), gradients) <= 1.0091 * 0.5


def test_adam_does_step_beyond_lr():
    """The bounds above are no formality: gradients that grow by beta2 / beta1 come near the first one."""
    growing = [1.11**t for t in range(1500)]
    assert largest_step(Adam(np.zeros(1), 1.0), growing) >= 6
    decaying = [0.999**t for t in range(200)]
    assert largest_step(Adamax(np.zeros(1), 1.0), decaying) >= 1.009


@given(sign=st.sampled_from([-1, 1]), size=st.floats(1e-3, 1e3), steps=st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_adam_steps_by_lr_while_the_gradient_is_constant(sign, size, steps):
    optimizer = Adam(np.zeros(1), 0.5, eps=0)
    assert largest_step(optimizer, [sign * size] * steps) <= 0.5 * (1 + 1e-12)
    assert abs(abs(optimizer.params[0]) - 0.5 * steps) <= 1e-11 * steps


@pytest.mark.parametrize("method", [Adagrad, RMSprop, Adam, AdamW, Adamax, NAdam, Lion])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_diagonal_rescaling_by_powers_of_two_changes_no_bit(method, dtype):
    """With eps = 0 these do not see the scale of a coordinate (Adam paper, section 2.1)."""
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((40, 16)).astype(dtype)
    scales = np.exp2(rng.integers(-20, 20, 16)).astype(dtype)
    paths = []
    for scale in (np.ones_like(scales), scales):
        params = np.zeros(16, dtype)
        optimizer = method(params, 0.01, **({} if method is Lion else {"eps": 0}))
        for row in grads:
            optimizer.step(row * scale)
        paths.append(params)
    np.testing.assert_array_equal(*paths)


def test_without_correction_the_first_steps_are_inflated():
    """Constant gradient, betas (0.9, 0.999): 3.16 lr at first, 6.57 lr at t = 12 (Adam paper, section 6.4)."""
    optimizer = Adam(np.zeros(1), 1.0, bias_correction=False)
    steps = [largest_step(optimizer, [1.0]) for _ in range(20)]
    assert abs(steps[0] - 3.1623) <= 1e-3
    assert abs(max(steps) - 6.57) <= 0.01 and int(np.argmax(steps)) == 11


def test_adagrad_is_a_limit_of_adam():
    """beta1 = 0, beta2 -> 1, lr / sqrt(t): section 5 of the Adam paper. The error is about 2.7 (1 - beta2)."""
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((1000, 8))
    adagrad = Adagrad(np.zeros(8), 0.1, eps=0)
    adam = Adam(np.zeros(8), inverse_square_root(0.1), betas=(0.0, 1 - 1e-8), eps=0)
    for row in grads:
        adagrad.step(row)
        adam.step(row)
    assert np.max(np.abs(adagrad.params - adam.params) / np.abs(adagrad.params)) <= 1e-6


def test_amsgrad_converges_where_adam_does_not():
    """Reddi et al. 2018, section 3: 4 x every third step, else -x, on [-1, 1]; the best x is -1. Adam goes to 1."""
    ends = {}
    for amsgrad in (False, True):
        params = np.zeros(1)
        betas = (0.0, 1 / (1 + 4**2))
        adam = Adam(params, inverse_square_root(0.5), betas, eps=0, amsgrad=amsgrad, bias_correction=not amsgrad)
        for t in range(1, 6001):
            adam.step(np.array([4.0 if t % 3 == 1 else -1.0]))
            np.clip(params, -1, 1, out=params)
        ends[amsgrad] = params[0]
    assert ends[False] >= 0.99
    assert ends[True] <= -0.98


def on_both_floors(method, size, steps, **arguments):
    """Where the parameters end, in float32, on the reference floor and on the kernels."""
    ends = []
    for floor in (reference, kernels):
        params = np.linspace(-1, 1, size, dtype=np.float32)
        optimizer = method(params, **arguments, ops=floor)
        for t in range(steps):
            optimizer.step(params * np.float32(0.3) + np.float32(math.sin(t)))
        ends.append(params)
    return ends


@METHODS
def test_both_floors_take_the_same_path(method):
    """Bit for bit, in float32: see kernels/updates.py."""
    np.testing.assert_array_equal(*on_both_floors(method, 50, 10, **EVERYTHING[method.__name__]))


def test_both_floors_round_dampening_alike():
    """1 - .058 rounded once is another float32 than 1 less a rounded .058."""
    np.testing.assert_array_equal(*on_both_floors(SGD, 500, 20, lr=0.1, momentum=0.9, dampening=0.058))


@METHODS
def test_float32_stays_near_float64(method):
    """The same path, up to rounding of values and of betas: nothing is computed in the wrong precision."""
    paths = []
    for dtype in ("float64", "float32"):
        params = np.linspace(-1, 1, 50, dtype=dtype)
        optimizer = method(params, 1e-2, **EVERYTHING[method.__name__])
        for t in range(30):
            optimizer.step((np.linspace(1, 2, 50) * math.sin(t + 1)).astype(dtype))
        assert params.dtype == dtype
        assert all(array.dtype == dtype for array in optimizer.state.values())
        paths.append(params)
    assert np.abs(paths[0] - paths[1]).max() <= 2e-5


@pytest.mark.jit_only
@METHODS
def test_compiles_nothing_after_the_first_step(method):
    operation = {"AdamW": "adam"}.get(method.__name__, method.__name__.lower()) + "_update"
    kernel = getattr(kernels, operation)
    optimizer = method(np.ones(10, np.float32), cosine(0.1, 20), **EVERYTHING[method.__name__])
    optimizer.step(np.ones(10, np.float32))
    compiled = len(kernel.serial.signatures), len(kernel.parallel.signatures)
    assert compiled[0] >= 1
    for _ in range(8):  # past RAdam's switch
        optimizer.step(np.ones(10, np.float32))
    optimizer = method(np.ones(11, np.float32), 1, **EVERYTHING[method.__name__])  # another size, an integer lr
    optimizer.step(np.ones(11, np.float32))
    assert (len(kernel.serial.signatures), len(kernel.parallel.signatures)) == compiled


# --- state, saving -----------------------------------------------------------------------------------------------


def run(optimizer, first, last):
    for t in range(first, last):
        optimizer.step(np.cos(np.arange(20.0) + t).astype(optimizer.params.dtype))


@FLOORS
@METHODS
def test_save_and_load_continue_bit_for_bit(method, ops):
    def make():
        schedule = cosine(0.05, 30)
        return method(np.ones(20, np.float32), schedule, **EVERYTHING[method.__name__], ops=ops)

    whole, first, second = make(), make(), make()
    run(whole, 0, 25)
    run(first, 0, 11)
    saved = first.state_dict()
    params = first.params.copy()
    run(first, 11, 13)  # what was saved is a copy
    scalars = json.loads(json.dumps({k: saved[k] for k in ("name", "t", "scalars")}))
    second.load_state_dict(scalars | {"arrays": saved["arrays"]})
    second.params[:] = params
    run(second, 11, 25)
    np.testing.assert_array_equal(second.params, whole.params)
    assert second.t == whole.t == 25
    for name, array in whole.state.items():
        np.testing.assert_array_equal(second.state[name], array)


def test_state_names_and_sizes():
    """The memory the methods need: arrays per parameter."""
    found = {
        "SGD": [],
        "Adagrad": ["square_sum"],
        "Adadelta": ["v", "v_delta"],
        "RMSprop": ["v"],
        "Adam": ["m", "v"],
        "AdamW": ["m", "v"],
        "Adamax": ["m", "u"],
        "NAdam": ["m", "v"],
        "RAdam": ["m", "v"],
        "Lion": ["m"],
    }
    params = np.zeros(5, np.float32)
    for method in OPTIMIZERS.values():
        state = method(params).state
        assert list(state) == found[method.__name__]
        assert all(array.shape == (5,) and array.dtype == np.float32 for array in state.values())
    assert list(SGD(params, momentum=0.9).state) == ["momentum_buffer"]
    assert list(RMSprop(params, momentum=0.9, centered=True).state) == ["v", "m", "momentum_buffer"]
    assert list(Adam(params, amsgrad=True).state) == ["m", "v", "v_max"]
    assert (Adagrad(params, initial_accumulator_value=0.5).state["square_sum"] == 0.5).all()


@METHODS
def test_hyperparameters_are_the_arguments(method):
    made = method(np.zeros(3), 0.25, **EVERYTHING[method.__name__])
    values = json.loads(json.dumps(made.hyperparameters()))
    again = method(np.zeros(3), **values)
    assert again.hyperparameters() == made.hyperparameters() == values
    assert repr(made).startswith(f"{method.__name__}(lr=0.25, ")
    scheduled = method(np.zeros(3), cosine(0.1, 10))
    assert scheduled.hyperparameters()["lr"] == "cosine(0.1, steps=10, minimum=0.0)"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "SGD"}, ValueError, "expected the state of NAdam, got that of 'SGD'"),
        ({"t": -1}, ValueError, "t: expected an integer >= 0"),
        ({"t": 1.5}, TypeError, "t: expected an integer"),
        ({"scalars": {}}, ValueError, "scalars: expected the names .'mu_product'., got"),
        ({"scalars": {"mu_product": math.nan}}, ValueError, "mu_product: expected a finite number"),
        ({"scalars": None}, TypeError, "scalars: expected a dict"),
        ({"arrays": {"m": np.zeros(4)}}, ValueError, r"expected the names \['m', 'v'\], got \['m'\]"),
        ({"arrays": {"m": np.zeros(4), "v": np.zeros(5)}}, ValueError, r"v: expected shape \(4,\), got \(5,\)"),
        ({"arrays": {"m": np.zeros(4), "v": np.zeros(4, "f4")}}, TypeError, "v: expected dtype float64, got float32"),
        ({"arrays": {"m": np.zeros(4), "v": [0.0] * 4}}, TypeError, "v: expected a NumPy array, got list"),
        ({"foreign": 1}, ValueError, "expected the names"),
    ],
)
def test_loading_refuses_what_does_not_fit_and_changes_nothing(change, error, words):
    optimizer = NAdam(np.ones(4))
    optimizer.step(np.ones(4))
    before = optimizer.state_dict()
    good = NAdam(np.ones(4)).state_dict()
    with pytest.raises(error, match=words):
        optimizer.load_state_dict(good | change)
    after = optimizer.state_dict()
    assert (after["t"], after["scalars"]) == (before["t"], before["scalars"]) == (1, before["scalars"])
    for name in ("m", "v"):
        np.testing.assert_array_equal(after["arrays"][name], before["arrays"][name])


# --- the door ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: Adam(p, 0), ValueError, r"Adam: lr: expected a finite number in \(0, inf\), got 0"),
        (lambda p: Adam(p, -1e-3), ValueError, "Adam: lr: .* got -0.001"),
        (lambda p: Adam(p, math.nan), ValueError, "Adam: lr: .* got nan"),
        (lambda p: Adam(p, math.inf), ValueError, "Adam: lr"),
        (lambda p: Adam(p, "0.1"), TypeError, "Adam: lr: expected a number, got '0.1'"),
        (lambda p: Adam(p, True), TypeError, "Adam: lr"),
        (lambda p: Adam(p, betas=(1.0, 0.9)), ValueError, r"betas\[0\]: expected .* in \[0, 1\), got 1.0"),
        (lambda p: AdamW(p, betas=(0.9, -0.1)), ValueError, r"AdamW: betas\[1\]"),
        (lambda p: Adamax(p, betas=0.9), TypeError, "Adamax: betas: expected two numbers"),
        (lambda p: Lion(p, betas=(0.9,)), TypeError, "Lion: betas"),
        (lambda p: Adam(p.astype("f4"), betas=(0.9, 1 - 1e-9)), ValueError, "1 in float32; use float64"),
        (lambda p: SGD(p.astype("f4"), momentum=1 - 1e-9), ValueError, "1 in float32; use float64"),
        (lambda p: RMSprop(p.astype("f4"), momentum=1 - 1e-9), ValueError, "1 in float32; use float64"),
        (lambda p: Adam(p, eps=-1), ValueError, "Adam: eps"),
        (lambda p: Adam(p, amsgrad="False"), TypeError, "Adam: amsgrad: expected True or False, got 'False'"),
        (lambda p: SGD(p, momentum=0.9, nesterov="no"), TypeError, "SGD: nesterov: expected True or False, got 'no'"),
        (lambda p: NAdam(p, momentum_decay=-1), ValueError, "NAdam: momentum_decay"),
        (lambda p: RAdam(p, weight_decay=-1), ValueError, "RAdam: weight_decay"),
        (lambda p: SGD(p, momentum=1), ValueError, "SGD: momentum"),
        (lambda p: SGD(p, momentum=0.9, dampening=1.5), ValueError, "SGD: dampening"),
        (lambda p: SGD(p, nesterov=True), ValueError, "nesterov: expected momentum > 0 and dampening 0"),
        (lambda p: SGD(p, momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov"),
        (lambda p: Adagrad(p, lr_decay=-1), ValueError, "Adagrad: lr_decay"),
        (lambda p: Adagrad(p, initial_accumulator_value=-1), ValueError, "initial_accumulator_value"),
        (lambda p: Adadelta(p, rho=1), ValueError, "Adadelta: rho"),
        (lambda p: RMSprop(p, alpha=1), ValueError, "RMSprop: alpha"),
        (lambda p: RMSprop(p, momentum=-0.1), ValueError, "RMSprop: momentum"),
        (lambda p: Adam([1.0, 2.0]), TypeError, "Adam: params: expected a NumPy array, got list"),
        (lambda p: Adam(p.astype(int)), TypeError, "Adam: params: expected dtype float32 or float64, got int64"),
        (lambda p: Adam(p.astype("f2")), TypeError, "got float16"),
        (lambda p: Adam(p.reshape(2, 2)), ValueError, r"Adam: params: expected shape \(N,\), got \(2, 2\)"),
        (lambda p: Adam(p[::2]), ValueError, "written in place, got a strided"),
        (lambda p: Adam(p.astype(">f8")), ValueError, "written in place, got a strided, unaligned or byte-swapped"),
        (lambda p: Adam(np.broadcast_to(1.0, 4)), ValueError, "got a read-only one"),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make(np.zeros(4))


@pytest.mark.parametrize(
    ("grads", "error", "words"),
    [
        (lambda p: [0.0] * 4, TypeError, "Adam.step: grads: expected a NumPy array, got list"),
        (lambda p: np.zeros(4, "f4"), TypeError, "Adam.step: grads: expected dtype float64, got float32"),
        (lambda p: np.zeros(5), ValueError, r"Adam.step: grads: expected shape \(4,\), got \(5,\)"),
        (lambda p: np.zeros((4, 1)), ValueError, r"got \(4, 1\)"),
        (lambda p: p, ValueError, "memory shared with params"),
        (lambda p: p[:], ValueError, "memory shared with params"),
    ],
)
def test_bad_gradients_are_refused_before_anything_moves(grads, error, words):
    params = np.ones(4)
    optimizer = Adam(params)
    with pytest.raises(error, match=words):
        optimizer.step(grads(params))
    assert optimizer.t == 0 and (params == 1).all()


@pytest.mark.parametrize("size", [0, 1])
@METHODS
def test_smallest_arrays(method, size):
    params = np.ones(size)
    optimizer = method(params, **EVERYTHING[method.__name__])
    optimizer.step(np.ones(size))
    assert optimizer.t == 1 and (params < 1).all()


@METHODS
def test_steps_stay_finite_after_ten_million(method):
    """The corrections end at 1, NAdam's product at 0, schedules at their end."""
    params = np.ones(3)
    optimizer = method(params, inverse_square_root(0.1), **EVERYTHING[method.__name__])
    optimizer.step(np.ones(3))
    saved = optimizer.state_dict() | {"t": 10**7}
    saved["scalars"] = dict.fromkeys(saved["scalars"], 5e-324)
    optimizer.load_state_dict(saved)
    before = params.copy()
    optimizer.step(np.ones(3))
    assert optimizer.t == 10**7 + 1
    assert (params < before).all() and np.isfinite(params).all()


def test_strided_and_read_only_gradients_are_read():
    params, other = np.ones(4), np.ones(4)
    Adam(params).step(np.arange(8.0)[::2])
    grads = np.arange(0.0, 8.0, 2.0)
    grads.flags.writeable = False
    Adam(other).step(grads)
    np.testing.assert_array_equal(params, other)


def test_a_schedule_is_asked_for_1_2_3():
    asked = []

    def schedule(t):
        asked.append(t)
        return 0.1 * t

    params = np.zeros(1)
    optimizer = SGD(params, schedule)
    for _ in range(3):
        optimizer.step(np.ones(1))
    assert asked == [1, 2, 3]
    assert abs(params[0] + 0.6) <= 1e-15
    assert abs(optimizer.current_lr() - 0.4) <= 1e-15


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, None, "0.1"])
def test_a_schedule_that_returns_no_rate_is_an_error(value):
    params = np.zeros(1)
    optimizer = SGD(params, lambda t: value if t == 2 else 0.1)
    optimizer.step(np.ones(1))
    with pytest.raises((ValueError, TypeError), match="SGD: lr: what the schedule returns for t = 2: expected a"):
        optimizer.step(np.ones(1))
    assert optimizer.t == 1 and params[0] == -0.1


def test_a_schedule_may_end_at_zero():
    params = np.zeros(1)
    SGD(params, lambda t: 0).step(np.ones(1))
    assert params[0] == 0


def test_lr_can_be_changed_between_steps_and_is_checked():
    params = np.zeros(1)
    optimizer = SGD(params, constant(0.1))
    optimizer.lr = 0.5
    optimizer.step(np.ones(1))
    assert params[0] == -0.5
    with pytest.raises(ValueError, match="SGD: lr"):
        optimizer.lr = -1


def test_dampening_leaves_the_first_step_alone():
    params = np.zeros(1)
    optimizer = SGD(params, 1.0, momentum=0.5, dampening=0.5)
    optimizer.step(np.ones(1))
    assert params[0] == -1
    optimizer.step(np.ones(1))
    assert params[0] == -2  # buffer 0.5 * 1 + 0.5 * 1


def test_the_command_line_finds_all_by_name():
    names = "sgd adagrad adadelta rmsprop adam adamw adamax nadam radam lion"
    assert list(OPTIMIZERS) == names.split()


# --- clipping ----------------------------------------------------------------------------------------------------


@FLOORS
def test_clip_grad_norm_is_pytorchs(ops):
    """max_norm / (norm + 1e-6), and nothing below max_norm."""
    grads = np.array([3.0, -4.0])
    assert clip_grad_norm(grads, 1.0, ops=ops) == 5.0
    np.testing.assert_array_equal(grads, np.array([3.0, -4.0]) * (1 / (5 + 1e-6)))
    grads = np.array([3.0, -4.0], np.float32)
    assert clip_grad_norm(grads, 5.1, ops=ops) == 5.0
    np.testing.assert_array_equal(grads, [3, -4])
    assert clip_grad_norm(grads, math.inf, ops=ops) == 5.0


@FLOORS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clip_grad_norm_leaves_a_failure_in_place(bad, ops):
    grads = np.array([1.0, bad, 2.0], np.float32)
    norm = clip_grad_norm(grads, 0.5, ops=ops)
    assert not math.isfinite(norm)
    np.testing.assert_array_equal(grads, np.array([1.0, bad, 2.0], np.float32))


@FLOORS
def test_clip_grad_norm_of_nothing_is_0(ops):
    assert clip_grad_norm(np.empty(0), 1.0, ops=ops) == 0


@FLOORS
def test_clip_grad_value(ops):
    grads = np.array([-3, -0.5, 0.5, 3, np.nan, np.inf], np.float32)
    clip_grad_value(grads, 1, ops=ops)
    np.testing.assert_array_equal(grads, [-1, -0.5, 0.5, 1, np.nan, 1])


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
@pytest.mark.parametrize(
    ("grads", "limit", "error"),
    [
        (np.ones(3), 0, ValueError),
        (np.ones(3), -1, ValueError),
        (np.ones(3), math.nan, ValueError),
        (np.ones(3), "1", TypeError),
        ([1.0], 1, TypeError),
        (np.ones(3, int), 1, TypeError),
        (np.ones((3, 1)), 1, ValueError),
        (np.ones(6)[::2], 1, ValueError),
        (np.broadcast_to(1.0, 3), 1, ValueError),
    ],
)
def test_clipping_refuses_bad_input(clip, grads, limit, error):
    with pytest.raises(error, match=clip.__name__):
        clip(grads, limit)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_arguments_stay_what_they_were_made_with(name):
    optimizer = OPTIMIZERS[name](np.zeros(3), lr=0.1)
    for argument in optimizer.arguments:
        with pytest.raises(
            AttributeError, match=rf"{type(optimizer).__name__}\.{argument}: expected to stay .*state_dict"
        ):
            setattr(optimizer, argument, 0.5)
    optimizer.lr = 0.2  # this one is asked for at every step


@pytest.mark.parametrize("method", [Adam, AdamW, Adamax, RAdam])
def test_a_first_step_is_corrected_by_the_rates_that_the_moments_had(method):
    """In float32, .999 is .99900001: corrected by another one, the step would be 6e-6 off."""
    params = np.zeros(1, np.float32)
    method(params, lr=1.0, eps=0.0, weight_decay=0.0).step(np.full(1, 0.125, np.float32))
    expected = -0.125 if method is RAdam else -1  # its first steps are not divided by v
    assert abs(params[0] - expected) <= 2 * np.finfo(np.float32).eps


def test_arrays_stay_where_they_are():
    """A kernel has no bounds checks: a shorter one would end the process."""
    optimizer = Adam(np.zeros(3))
    with pytest.raises(AttributeError, match=r"Adam\.params: expected to stay the array that it was made over"):
        optimizer.params = np.zeros(4)
    with pytest.raises(TypeError, match=r"expected 'm' to stay the array it is; write \['m'\]\[\.\.\.\] = value"):
        optimizer.state["m"] = np.zeros(1)
    with pytest.raises(AttributeError, match=r"write state\[name\]\[\.\.\.\] = value"):
        optimizer.state = {}
    optimizer.params += 1
    optimizer.state["m"][...] = 1
    optimizer.state["m"] *= 2
    assert (optimizer.state["m"] == 2).all()
    optimizer.params.flags.writeable = False
    with pytest.raises(ValueError, match="got them read-only"):
        optimizer.step(np.ones(3))
    assert optimizer.t == 0


def test_adamw_stays_adamw():
    optimizer = AdamW(np.zeros(3))
    with pytest.raises(AttributeError, match=r"AdamW\.decoupled_weight_decay: expected to stay True, got False"):
        optimizer.decoupled_weight_decay = False


def test_a_rate_that_the_parameters_can_not_hold_is_refused():
    with pytest.raises(ValueError, match=r"SGD: lr: expected a number that float32 can hold, got 1e\+39"):
        SGD(np.zeros(3, np.float32), lr=1e39)
    with pytest.raises(ValueError, match=r"SGD: lr: expected a number that float32 can hold, got 1e-46"):
        SGD(np.zeros(3, np.float32), lr=1e-46)
    assert SGD(np.zeros(3), lr=1e39).lr == 1e39


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (Lion, {"betas": (0.9, 1 - 1e-9)}),
        (Lion, {"betas": (1 - 1e-9, 0.9)}),
        (Adadelta, {"rho": 1 - 1e-9}),
        (RMSprop, {"alpha": 1 - 1e-9}),
        (Adamax, {"betas": (1 - 1e-9, 0.9)}),
    ],
)
def test_a_rate_that_would_be_1_in_float32_is_refused(method, arguments):
    with pytest.raises(ValueError, match="1 in float32; use float64"):
        method(np.zeros(3, np.float32), **arguments)
