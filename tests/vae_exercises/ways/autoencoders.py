"""Right solutions of the exercise on autoencoders, each written another way."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
)

from tests.vae_exercises.way import WAYS, way


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    _, vectors = torch.linalg.eigh((x - mean).mT @ (x - mean))
    return mean, vectors[:, -k:]


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    *_, v = torch.pca_lowrank(x, q=k)
    return x.mean(0), v


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows = x.numpy()
    _, _, vh = np.linalg.svd(rows - rows.mean(0))
    return torch.tensor(rows.mean(0)), torch.tensor(vh[:k].T.copy())


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = torch.einsum("nd->d", x) / len(x)
    w = torch.eye(x.shape[1], k, dtype=x.dtype)
    for _ in range(100):  # subspace iteration
        w = torch.linalg.qr((x - mean).mT @ ((x - mean) @ w)).Q
    return mean, w


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.double().mean(0)
    u = torch.linalg.svd((x.double() - mean).mT).U
    turned = u[:, :k] @ torch.linalg.qr(torch.ones(k, k) + torch.eye(k)).Q.double()
    return mean.to(x.dtype), turned.to(x.dtype)


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).pow(2).sum(dim=tuple(range(1, x.dim())))


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return F.mse_loss(x_hat, x, reduction="none").flatten(1).sum(1)


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    difference = (x_hat - x).reshape(len(x), -1)
    return torch.einsum("nd,nd->n", difference, difference)


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return torch.stack([((a - b) ** 2).sum() for a, b in zip(x, x_hat, strict=True)])


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return torch.linalg.vector_norm((x - x_hat).double().flatten(1), dim=1).square().to(x.dtype)


class Stacked(nn.Module):
    """Two networks, each a Sequential."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Linear(data_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, code_dim)
        )
        self.decode = nn.Sequential(
            nn.Linear(code_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, data_dim),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class LayerByLayer(nn.Module):
    """Four layers, the decoder's first, with first weights of one's own choice."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        self.to_hidden = nn.Linear(code_dim, hidden_dim)
        self.to_data = nn.Linear(hidden_dim, data_dim)
        self.from_data = nn.Linear(data_dim, hidden_dim)
        self.to_code = nn.Linear(hidden_dim, code_dim)
        for layer in (self.to_hidden, self.to_data, self.from_data, self.to_code):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(self, x: Tensor) -> Tensor:
        return self.to_code(F.relu(self.from_data(x)))

    def decode(self, h: Tensor) -> Tensor:
        return torch.sigmoid(self.to_data(self.to_hidden(h).clamp(min=0)))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Matrices(nn.Module):
    """Parameters without layers, columns for outputs."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        sizes = [data_dim, hidden_dim, code_dim, hidden_dim, data_dim]
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList([torch.randn(a, b) / a**0.5 for a, b in pairs])
        self.biases = nn.ParameterList([torch.zeros(b) for _, b in pairs])

    def layer(self, i: int, a: Tensor) -> Tensor:
        return torch.einsum("na,ab->nb", a, self.weights[i]) + self.biases[i]

    def encode(self, x: Tensor) -> Tensor:
        return self.layer(1, torch.maximum(self.layer(0, x), torch.zeros(())))

    def decode(self, h: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-self.layer(3, self.layer(2, h).relu_())))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Layers(nn.Module):
    """Layers by name, in a loop."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        sides = {"encoder": (data_dim, code_dim), "decoder": (code_dim, data_dim)}
        self.layers = nn.ModuleDict()
        for side, (n_in, n_out) in sides.items():
            self.layers[side] = nn.ModuleList(
                [nn.Linear(n_in, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, n_out)]
            )

    def encode(self, x: Tensor) -> Tensor:
        for layer in self.layers["encoder"]:
            x = layer(x)
        return x

    def decode(self, h: Tensor) -> Tensor:
        for layer in self.layers["decoder"]:
            h = layer(h)
        return Bernoulli(logits=h).probs

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class BiasInTheWeights(nn.Module):
    """Biases as the last column of the weights, and modules that are attributes by another name."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        sizes = [data_dim, hidden_dim, code_dim, hidden_dim, data_dim]
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            start = (2 * torch.rand(n_out, n_in + 1) - 1) / n_in**0.5
            self.register_parameter(f"w{i + 1}", nn.Parameter(start))

    @staticmethod
    def apply_to(weight: Tensor, a: Tensor) -> Tensor:
        return F.pad(a, (0, 1), value=1.0) @ weight.T

    def encode(self, x: Tensor) -> Tensor:
        return self.apply_to(self.w2, torch.relu(self.apply_to(self.w1, x)))

    def decode(self, h: Tensor) -> Tensor:
        hidden = self.apply_to(self.w3, h)
        return torch.sigmoid(self.apply_to(self.w4, hidden * (hidden > 0)))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.apply_to(self.w1, x))
        return self.decode(self.apply_to(self.w2, hidden))


class SmallAtFirst(Stacked):
    """Weights that begin near 0, and biases that do not."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__(data_dim, hidden_dim, code_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)


class DrawnByNumPy(Stacked):
    """Weights that begin as random numbers of NumPy's."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__(data_dim, hidden_dim, code_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                drawn = np.random.randn(*module.weight.shape)  # noqa: NPY002
                module.weight.data = torch.from_numpy(drawn).float()


class NormalisedWeights(Stacked):
    """Weights as lengths and directions: the same functions, by more numbers."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__(data_dim, hidden_dim, code_dim)
        for module in [*self.modules()]:
            if isinstance(module, nn.Linear):
                nn.utils.parametrizations.weight_norm(module)


class Convolutions(nn.Module):
    """Linear layers as convolutions over a single place."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        sizes = [data_dim, hidden_dim, code_dim, hidden_dim, data_dim]
        self.layers = nn.ModuleList([nn.Conv1d(a, b, 1) for a, b in pairwise(sizes)])

    def half(self, a: Tensor, first: int) -> Tensor:
        return self.layers[first + 1](self.layers[first](a[:, :, None]).relu())[:, :, 0]

    def encode(self, x: Tensor) -> Tensor:
        return self.half(x, 0)

    def decode(self, h: Tensor) -> Tensor:
        return self.half(h, 2).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


WAYS["autoencoders.Autoencoder"] = [
    Stacked,
    LayerByLayer,
    Matrices,
    Layers,
    BiasInTheWeights,
    SmallAtFirst,
    DrawnByNumPy,
    NormalisedWeights,
    Convolutions,
]


# The annotation of the first argument says which class a function is written for.


@way("autoencoders.initialise_classifier")
def _(autoencoder: Stacked, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encode, nn.Linear(code_dim, n_classes))


@way("autoencoders.initialise_classifier")
def _(autoencoder: LayerByLayer, code_dim: int, n_classes: int) -> nn.Module:
    layer = nn.Linear(code_dim, n_classes)
    nn.init.zeros_(layer.weight)
    return nn.Sequential(autoencoder.from_data, nn.ReLU(), autoencoder.to_code, layer)


@way("autoencoders.initialise_classifier")
def _(autoencoder: Matrices, code_dim: int, n_classes: int) -> nn.Module:
    class Added(Matrices):
        """The parameters of an autoencoder and two of its own."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.weights, self.biases = autoencoder.weights, autoencoder.biases
            self.weight = nn.Parameter(torch.randn(n_classes, code_dim) / code_dim**0.5)
            self.bias = nn.Parameter(torch.zeros(n_classes))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.encode(x), self.weight, self.bias)

    return Added()


@way("autoencoders.initialise_classifier")
def _(autoencoder: Stacked, code_dim: int, n_classes: int) -> nn.Module:
    """A copy whose parameters are replaced by the autoencoder's own."""
    copied = copy.deepcopy(autoencoder.encode)
    for mine, theirs in zip(copied, autoencoder.encode, strict=True):
        for name, parameter in theirs.named_parameters():
            setattr(mine, name, parameter)
    return nn.Sequential(copied, nn.Linear(code_dim, n_classes))


@way("autoencoders.initialise_classifier")
def _(autoencoder: Layers, code_dim: int, n_classes: int) -> nn.Module:
    autoencoder.head = nn.Linear(code_dim, n_classes)

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = autoencoder

        def forward(self, x: Tensor) -> Tensor:
            return self.whole.head(self.whole.encode(x))

    return Classifier()


@way("autoencoders.initialise_classifier")
def _(autoencoder: nn.Module, code_dim: int, n_classes: int) -> nn.Module:
    class Classifier(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            first, last = self
            return last(first.encode(x))

    return Classifier(autoencoder, nn.Linear(code_dim, n_classes))
