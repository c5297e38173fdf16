"""Sequential: a chain of layers over one flat array of parameters and one of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import numpy as np

from scratchnet import kernels, threads
from scratchnet.arrays import FLOATS, Shape, check_choice, check_integer, check_ops, show_kind, show_shape
from scratchnet.attributes import assigned_once
from scratchnet.layers.base import Layer
from scratchnet.layers.joined import join_layers, members

FIXED = "{owner}.{name}: expected to stay what the net was made with; make another net"
SHARED = "{owner}.{name}: expected to stay the array that all layers share; write net.{name}[...] = value"


class Sequential:
    """A net: each layer's output is the next one's input.

        x -> layers[0] -> layers[1] -> ... -> y          dy -> ... -> layers[1] -> layers[0] (-> dx)

    Shapes are inferred at construction, so a misfit is an error here and not in the first step.

    Args:
        layers: Layer objects, used in this net only.
        input_shape: shape of one example, without N: (784,), (28, 28, 1).
        seed: of the initial weights and the dropout masks. Same seed, same bits.
        dtype: "float32" or "float64", of parameters, inputs and outputs.
        ops: the floor to run on, a module: scratchnet.kernels (fast) or scratchnet.reference (readable).
        join: run Conv2d, ReLU, MaxPool2d in a row as one operation, which stores nothing in between, and so ReLU,
            MaxPool2d, and Dense, ReLU, Dense, ... The results are the same. False runs layer by layer, so that after
            net.forward each layer's own backward can be called. Layers inside Residual and a Dense without bias stay
            apart anyway.

    Attributes:
        params, grads: (P,) all parameters and all gradients. `layer.weight` and `layer.dweight` are views into them, so
            an optimizer is one loop over two arrays. `backward` overwrites `grads`.

    A net serves one thread at a time, for every call writes into its buffers: others wait. So `predict` may be called
    from many; but a backward belongs to the last forward, whichever thread that came from.

    Raises:
        TypeError, ValueError: something that is no layer, a layer used twice, shapes that do not fit.
    """

    layers: tuple[Layer, ...] = assigned_once("layers", FIXED)
    input_shape: Shape = assigned_once("input_shape", FIXED)
    output_shape: Shape = assigned_once("output_shape", FIXED)
    seed: int = assigned_once("seed", FIXED)
    dtype: np.dtype = assigned_once("dtype", FIXED)
    ops: ModuleType = assigned_once("ops", FIXED)
    params: np.ndarray = assigned_once("params", SHARED)
    grads: np.ndarray = assigned_once("grads", SHARED)
    _turn: AbstractContextManager[Any]

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Iterable[int],
        seed: int = 0,
        dtype: str = "float32",
        ops: ModuleType = kernels,
        join: bool = True,
    ) -> None:
        if not isinstance(layers, (list, tuple)):
            raise TypeError(
                f"Sequential: layers: expected a list of layer objects, got {layers!r}; write Sequential([...])"
            )
        if not isinstance(input_shape, (list, tuple)):
            raise TypeError(f"Sequential: input_shape: expected a tuple such as (784,), got {input_shape!r}")
        if not input_shape:
            raise ValueError("Sequential: input_shape: expected at least one size, such as (784,), got ()")
        self.layers = tuple(layers)
        self.input_shape = tuple(check_integer("Sequential: input_shape", size, minimum=1) for size in input_shape)
        self.seed = check_integer("Sequential: seed", seed, minimum=0)
        name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", getattr(dtype, "name", dtype))
        self.dtype = np.dtype(check_choice("Sequential: dtype", name, FLOATS))
        self.ops = check_ops("Sequential: ops", ops)
        threads.take_turns(self)
        self._lent: list[Any] = [None, None]  # buffers that a user may hold: of the last y and of the last dx
        self._check_layers()
        self.output_shape = self._build()
        self._allocate()
        self._join(join)

    def forward(self, x: np.ndarray, train: bool = False) -> np.ndarray:
        """Compute the outputs of a batch.

        Args:
            x: (N, *input_shape), N >= 1, of the net's dtype; a SciPy CSR batch where the first layer takes one. Read.
            train: keep what backward needs; dropout and batch norm behave as in training.

        Returns:
            (N, *output_shape). With `train` it is the net's own buffer, overwritten by the next forward and not to be
            written to; without, it is yours to keep.
        """
        with self._turn:
            x = self._apart(x)
            for step in self._steps:
                x = step.forward(x, train)
            if not train:
                return x.copy()
            self._lent[0] = _owner(x)
            return x

    def backward(self, dy: np.ndarray, input_gradient: bool = False) -> np.ndarray | None:
        """Overwrite `grads` with the gradient of the loss whose derivative by the last outputs is `dy`.

        Args:
            dy: (N, *output_shape), of the net's dtype. Read.
            input_gradient: also compute dLoss/dx, for a net that another one feeds.

        Returns:
            dx, (N, *input_shape), a buffer of the net, or None.

        Raises:
            RuntimeError: no forward(x, train=True) came before, its backward has been done, or a forward without
                `train` came after it.
            TypeError, ValueError: dy has another dtype or shape; see Layer.backward.
        """
        with self._turn:
            gradient: Any = self._apart(dy)
            for i in range(len(self._steps) - 1, -1, -1):
                wanted = input_gradient or i > self._first_trained
                gradient = self._steps[i].backward(gradient, wanted)
                if not wanted:
                    break
            self._lent[1] = _owner(gradient)
            return gradient

    def _apart(self, batch: Any) -> Any:
        """Copy a batch that the net itself has handed out: it would be overwritten while it is needed."""
        if type(batch) is np.ndarray:
            owner = _owner(batch)
            if owner is self._lent[0] or owner is self._lent[1]:
                return batch.copy()
        return batch

    def predict(self, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """Compute the outputs of any number of examples, `batch_size` at a time. Returns a new (N, *output_shape)."""
        check_integer("predict: batch_size", batch_size, minimum=1)
        if not getattr(x, "shape", ()):
            raise TypeError(f"predict: x: expected a NumPy array or a CSR batch, got {show_kind(x)}")
        if (kind := getattr(x, "format", "csr")) != "csr":  # of a sparse matrix
            raise TypeError(f"predict: x: expected a CSR batch, got format {kind!r}; convert it with .tocsr()")
        rows = range(0, max(1, x.shape[0]), batch_size)
        return np.concatenate([self.forward(x[i : i + batch_size]) for i in rows])

    def parameters(self) -> dict[str, np.ndarray]:
        """Views of all parameters by name: "0.weight", "0.bias", "2.1.weight" (layer 1 inside layer 2), ..."""
        return {f"{name}.{part}": getattr(layer, part) for name, layer, part in self._parts()}

    def gradients(self) -> dict[str, np.ndarray]:
        """Views of all gradients under the names of their parameters."""
        return {f"{name}.{part}": getattr(layer, f"d{part}") for name, layer, part in self._parts()}

    def state(self) -> dict[str, np.ndarray]:
        """What layers keep beside parameters (running statistics, counters), by name; write `[...] =` to restore."""
        state = {}
        for name, layer in walk(self.layers):
            for key, value in layer.state().items():
                if type(value) is not np.ndarray or not value.dtype.isnative:
                    got = getattr(value, "dtype", "no dtype")
                    raise TypeError(
                        f"Sequential: layer {name}, {layer!r}: expected state {key} as a NumPy array in native byte "
                        f"order, got {type(value).__name__} ({got}); a number goes into np.zeros(()), written in place"
                    )
                state[f"{name}.{key}"] = value
        return state

    def summary(self, batch_size: int = 128) -> str:
        """A table: layer, output shape, parameters, and the memory of a training step at `batch_size`.

        Layers that run as one (see `join`) share the memory of the last of them, and their rows say so.
        """
        check_integer("summary: batch_size", batch_size, minimum=1)
        rows = [("layer", "output", "parameters", f"memory at batch {batch_size}")]
        rows.append(("input", show_shape((None, *self.input_shape)), "", ""))
        total, memory = self._memory(batch_size)
        for i, layer in enumerate(self.layers):
            below = [inner for _, inner in walk([layer])]
            count = sum(math.prod(shape) for inner in below for shape in inner.parameter_shapes.values())
            rows.append((f"{i} {layer!r}", show_shape((None, *layer.output_shape)), f"{count:,}", memory[i]))
        rows.append(("total, with parameters and gradients", "", f"{self.params.size:,}", show_bytes(total)))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in rows
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}], input_shape={self.input_shape})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copy.deepcopy and pickle: a copied layer's weights would no longer lie in the copied flat array."""
        raise TypeError(
            "Sequential: expected to stay one object, for its layers are views into its arrays; keep weights with "
            "best = net.params.copy() and write them back with net.params[...] = best, or use save_checkpoint"
        )

    # --- construction ------------------------------------------------------------------------------------------------

    def _check_layers(self) -> None:
        if not self.layers:
            raise ValueError("Sequential: expected at least one layer, got an empty list")
        seen: set[int] = set()
        for name, layer in walk(self.layers):
            if not isinstance(layer, Layer):
                got = f"the class {layer.__name__}" if isinstance(layer, type) else repr(layer)
                remedy = "put its layers in this list" if isinstance(layer, Sequential) else "write e.g. ReLU()"
                raise TypeError(f"Sequential: expected layer objects, got {got} as layer {name}; {remedy}")
            if not hasattr(layer, "_bound"):
                kind = type(layer).__name__
                raise TypeError(f"Sequential: layer {name}: expected {kind}.__init__ to call super().__init__() first")
            if id(layer) in seen or layer._bound:
                raise ValueError(f"Sequential: layer {name}, {layer!r}, is used already; make a new one for each place")
            seen.add(id(layer))

    def _build(self) -> Shape:
        shape = self.input_shape
        for i, layer in enumerate(self.layers):
            try:
                shape = layer.build(shape)
            except ValueError as error:
                raise ValueError(f"{error} (layer {i} of Sequential)") from None
            if not isinstance(shape, tuple):
                raise TypeError(f"Sequential: layer {i}, {layer!r}: expected build to return a shape, got {shape!r}")
        return shape

    def _allocate(self) -> None:
        """Lay all parameters out in one flat array, hand each layer its views, and write the first values."""
        sizes = [math.prod(layer.parameter_shapes[part]) for _, layer, part in self._parts()]
        self.params = np.zeros(sum(sizes), self.dtype)  # (P,)
        self.grads = np.zeros(sum(sizes), self.dtype)  # (P,)
        end = 0
        for index, (_, layer) in enumerate(walk(self.layers)):
            params, grads = {}, {}
            for part, shape in layer.parameter_shapes.items():
                start, end = end, end + math.prod(shape)
                params[part] = self.params[start:end].reshape(shape)
                grads[part] = self.grads[start:end].reshape(shape)
            layer.bind(self.ops, self.dtype, params, grads)
            layer.seed_with(self.seed, index)
            layer.initialize(np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, index]))))

    def _join(self, join: bool) -> None:
        """Find the steps that the layers run in, and the first in which something is trained."""
        self._steps = join_layers(self.layers) if join else self.layers
        end, trained = 0, []
        for i, step in enumerate(self._steps):
            shapes = [shape for _, layer in walk(members(step)) for shape in layer.parameter_shapes.values()]
            start, end = end, end + sum(map(math.prod, shapes))
            if end > start:
                trained.append(i)
            if step not in self.layers:
                part = {"params": self.params[start:end]}, {"params": self.grads[start:end]}
                step.bind(self.ops, self.dtype, *part)
        self._first_trained = trained[0] if trained else 0

    def _memory(self, batch_size: int) -> tuple[int, list[str]]:
        """Bytes of the buffers of a training step, and what the summary shows of it in the row of each layer."""
        total = 2 * self.params.nbytes
        column: list[str] = []
        for i, step in enumerate(self._steps):
            held = step.memory(batch_size, input_gradient=i > self._first_trained)
            total += held
            column += [f"joined to layer {len(column) + len(members(step)) - 1}"] * (len(members(step)) - 1)
            column.append(show_bytes(held))
        return total, column

    def _parts(self) -> Iterator[tuple[str, Layer, str]]:
        for name, layer in walk(self.layers):
            for part in layer.parameter_shapes:
                yield name, layer, part


def _owner(array: Any) -> Any:
    """The array whose memory this one looks into, itself where it has its own."""
    return array if (base := getattr(array, "base", None)) is None else base


def walk(layers: Iterable[Layer], prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """All layers, those inside others after their parent: ("0", layer), ("2", layer), ("2.0", inner layer), ..."""
    for i, layer in enumerate(layers):
        yield f"{prefix}{i}", layer
        yield from walk(getattr(layer, "layers", ()), f"{prefix}{i}.")


def show_bytes(count: float) -> str:
    """4096 -> "4.0 KiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
