"""scikit-learn in the race: MLPClassifier by partial_fit on each batch, SGDClassifier by partial_fit on an epoch."""

from __future__ import annotations

import numpy as np
import sklearn
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

from versus.material import csr_batches, layer_weights
from versus.nets import Net

VERSION = f"scikit-learn {sklearn.__version__}"


def make(name: str, net: Net, threads: int):
    """The runner of a net's kind."""
    return Epochs(net) if net.kind == "sparse" else Perceptron(net)


class Perceptron:
    """One partial_fit is one step of Adam on the batch it is given."""

    def __init__(self, net: Net) -> None:
        self.net = net

    def load(self, material: dict[str, np.ndarray]) -> None:
        """Make the batches ready."""
        self.x, self.y, self.weights = list(material["x"]), list(material["y"]), layer_weights(material)

    def build(self) -> None:
        """Make the model. Its weights exist after a first step only."""
        hidden = tuple(units for kind, *sizes in self.net.layers[:-1] if kind == "dense" for units in sizes)
        # Its epsilon stands beside the uncorrected root, where 1e-9 is about what 1e-8 is beside the corrected one in
        # the steps that are compared: sqrt(1 - 0.999^t) is 0.03 to 0.14.
        self.model = MLPClassifier(
            hidden, alpha=0, batch_size=self.net.batch, shuffle=False, epsilon=1e-9, random_state=0
        )
        self.model.partial_fit(self.x[0], self.y[0], classes=np.arange(10))
        self.reset()

    def reset(self) -> None:
        """Go back to the first weights and an optimizer without past."""
        for i, (weight, bias) in enumerate(self.weights):
            self.model.coefs_[i][...], self.model.intercepts_[i][...] = weight, bias
        vars(self.model).pop("_optimizer", None)  # partial_fit makes one where it finds none

    def step(self, i: int) -> None:
        """Do one step on batch i."""
        self.model.partial_fit(self.x[i], self.y[i])

    def loss(self) -> float:
        """The loss of the last step, before its update."""
        return float(self.model.loss_)


class Epochs:
    """Stochastic gradient descent, one example at a time: another method, so its losses are not compared."""

    def __init__(self, net: Net) -> None:
        self.net, self.steps_at_once = net, net.batches

    def load(self, material: dict[str, np.ndarray]) -> None:
        """Make the rows ready, as one matrix."""
        import scipy.sparse

        self.x, self.y = scipy.sparse.vstack(csr_batches(self.net, material), format="csr"), material["y"].reshape(-1)

    def build(self) -> None:
        """Make the model."""
        self.reset()

    def reset(self) -> None:
        """Start from zero."""
        self.model = SGDClassifier(loss="log_loss", random_state=0)

    def step(self, i: int) -> None:
        """Pass over all rows once."""
        self.model.partial_fit(self.x, self.y, classes=[0, 1])

    def loss(self) -> None:
        """Not comparable."""
        return None
