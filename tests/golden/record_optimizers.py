"""Record what PyTorch's optimizers do, for tests/test_optimizers.py: 50 float64 steps of each method and mode.

    python tests/golden/record_optimizers.py          needs torch; the file on record was made with 2.13.0+cpu, seed 0

The problem is an ill-conditioned quadratic with noise that is recorded too, so that the tests can redo it exactly:

    gradient of step k at params = curvature * params + noise[k]        (curvature and params elementwise)

Wider than the noise, some coordinates see no gradient at all for a while (a dead unit), and one a huge one (a spike).
The signatures are kept as JSON, so that names, order and defaults of the arguments are checked as well.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import torch

STEPS, SIZE, SEED = 50, 12, 0

CONFIGURATIONS: dict[str, tuple[str, dict]] = {
    "sgd": ("SGD", {"lr": 0.01}),
    "sgd_weight_decay": ("SGD", {"lr": 0.01, "weight_decay": 0.1}),
    "sgd_momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "sgd_dampening": ("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3}),
    "sgd_nesterov": ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "sgd_everything": ("SGD", {"lr": 0.005, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    "adagrad": ("Adagrad", {}),
    "adagrad_lr_decay": ("Adagrad", {"lr": 0.1, "lr_decay": 0.05}),
    "adagrad_everything": (
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-3},
    ),
    "adadelta": ("Adadelta", {}),
    "adadelta_everything": ("Adadelta", {"lr": 0.5, "rho": 0.95, "eps": 1e-3, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop_momentum": ("RMSprop", {"lr": 0.003, "momentum": 0.9}),
    "rmsprop_centered": ("RMSprop", {"lr": 0.003, "alpha": 0.9, "centered": True}),
    "rmsprop_everything": (
        "RMSprop",
        {"lr": 0.002, "alpha": 0.95, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.5, "centered": True},
    ),
    "adam": ("Adam", {}),
    "adam_betas": ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
    "adam_no_momentum": ("Adam", {"lr": 0.01, "betas": (0.0, 0.99)}),
    "adam_weight_decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    "adam_amsgrad": ("Adam", {"lr": 0.01, "betas": (0.9, 0.9), "amsgrad": True}),
    "adam_decoupled": ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw_amsgrad": ("AdamW", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.2, "amsgrad": True}),
    "adamax": ("Adamax", {}),
    "adamax_everything": ("Adamax", {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "nadam": ("NAdam", {}),
    "nadam_everything": ("NAdam", {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.1}),
    "nadam_decoupled": ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "radam": ("RAdam", {"lr": 0.01}),
    "radam_everything": ("RAdam", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "radam_decoupled": ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "radam_never_rectified": ("RAdam", {"lr": 0.01, "betas": (0.9, 0.6)}),
}
LEFT_OUT = {"self", "params", "maximize", "foreach", "capturable", "differentiable", "fused"}


def problem() -> dict[str, np.ndarray]:
    """First parameters, curvature and noise, (STEPS, SIZE)."""
    rng = np.random.default_rng(SEED)
    noise = rng.standard_normal((STEPS, SIZE)) * 0.3
    noise[:, 10] = 0  # curvature 0 as well: never a gradient
    noise[20:, 11] = 0  # ... or none from step 20 on
    noise[30, 9] = 1e4
    curvature = np.concatenate([np.logspace(-2, 2, SIZE - 2), [0, 0]])
    return {"start": rng.standard_normal(SIZE), "curvature": curvature, "noise": noise}


def trajectory(name: str, arguments: dict, given: dict[str, np.ndarray]) -> np.ndarray:
    """(STEPS, SIZE): the parameters after each step."""
    params = torch.tensor(given["start"], requires_grad=True)
    optimizer = getattr(torch.optim, name)([params], foreach=False, **arguments)
    rows = []
    for noise in given["noise"]:
        params.grad = torch.tensor(given["curvature"] * params.detach().numpy() + noise)
        optimizer.step()
        rows.append(params.detach().numpy().copy())
    return np.array(rows)


def signatures() -> dict[str, list[tuple[str, object]]]:
    """Method -> [(argument, default)] in PyTorch's order, without what only PyTorch needs."""
    names = sorted({name for name, _ in CONFIGURATIONS.values()})
    return {
        name: [
            (argument.name, argument.default)
            for argument in inspect.signature(getattr(torch.optim, name)).parameters.values()
            if argument.name not in LEFT_OUT
        ]
        for name in names
    }


def main() -> None:
    torch.set_default_dtype(torch.float64)  # NAdam keeps its product of mu in the default dtype
    given = problem()
    found = {f"trajectory/{key}": trajectory(*value, given) for key, value in CONFIGURATIONS.items()}
    about = {
        "torch": torch.__version__,
        "seed": SEED,
        "configurations": CONFIGURATIONS,
        "signatures": signatures(),
    }
    path = Path(__file__).with_name("optimizers.npz")
    np.savez(path, about=np.array(json.dumps(about)), **given, **found)
    print(f"{path}: {len(found)} trajectories, torch {torch.__version__}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
