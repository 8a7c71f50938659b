"""Who takes part in training.py: vaelib and its peers, each at home in its own way of writing.

All train one model, 784-512-2-512-784 with ReLU, sigmoid outputs and cross-entropy to grey pixels,
by Adam (1e-3, β₁ 0.9, β₂ 0.999, ε 1e-8). `Layers` is what they exchange: so all start from the same
parameters, and one evaluator judges what all of them end with.
"""

from __future__ import annotations

import logging
import os
import tempfile
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib import VAE
from vaelib.data import Images
from vaelib.training import fit

__all__ = ["PEERS", "Contender", "Keras", "Layers", "PyTorchLoop", "Pythae", "Vaelib", "vae_of"]

HIDDEN, LATENT, LEARNING_RATE = 512, 2, 1e-3

Precision = Literal["auto", "float32", "bfloat16"]

Layers = list[tuple[Tensor, Tensor]]
"""Weight (out, in) and bias (out,) of: hidden of x, μ, log σ², hidden of z, logits."""


class Contender(Protocol):
    """One way to train the model; `train` goes on where the last call ended."""

    def __init__(
        self, start: Layers, images: Images, batch_size: int, seed: int, device: str = "cpu"
    ) -> None: ...

    def train(self, epochs: int) -> None: ...

    def layers(self) -> Layers: ...


class Vaelib:
    """`vaelib.training.fit`, as it comes; each call starts with a new Adam."""

    def __init__(
        self,
        start: Layers,
        images: Images,
        batch_size: int,
        seed: int,
        device: str = "cpu",
        precision: Precision = "auto",
        compile: bool = False,
    ) -> None:
        self.vae, self.device = vae_of(start), device
        self.images, self.batch_size, self.seed = images, batch_size, 1000 * seed
        self.precision, self.compile = precision, compile

    def train(self, epochs: int) -> None:
        self.seed += 1  # other noise and another order in each call
        fit(
            self.vae,
            self.images,
            epochs=epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            learning_rate=LEARNING_RATE,
            progress=False,
            compile=self.compile,
        )

    def layers(self) -> Layers:
        return layers_of(self.vae)


class FiveLayers(nn.Module):
    """The model as PyTorch's VAE example is built, to the sizes of this one."""

    def __init__(self, start: Layers) -> None:
        super().__init__()
        self.hidden_x, self.mu, self.logvar, self.hidden_z, self.out = map(_linear, start)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.relu(self.hidden_x(x))
        return self.mu(hidden), self.logvar(hidden)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.out(F.relu(self.hidden_z(z))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x.view(-1, 784))
        std = torch.exp(0.5 * logvar)
        return self.decode(mu + torch.randn_like(std) * std), mu, logvar

    def layers(self) -> Layers:
        linear = (self.hidden_x, self.mu, self.logvar, self.hidden_z, self.out)
        return [(layer.weight.detach(), layer.bias.detach()) for layer in linear]


class PyTorchLoop:
    """A loop in the style of PyTorch's VAE example: DataLoader, summed loss, Adam, running total.

    The images are floats in a `TensorDataset`; the example itself decodes them one by one.
    """

    def __init__(
        self, start: Layers, images: Images, batch_size: int, seed: int, device: str = "cpu"
    ) -> None:
        torch.manual_seed(seed)
        self.device = torch.device(device)
        self.model = FiveLayers(start).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        data = torch.utils.data.TensorDataset(images.floats(), images.labels)
        self.loader = torch.utils.data.DataLoader(data, batch_size=batch_size, shuffle=True)

    def train(self, epochs: int) -> None:
        self.model.train()
        for _ in range(epochs):
            total = 0.0
            for x, _ in self.loader:
                x = x.to(self.device)
                self.optimizer.zero_grad()
                probabilities, mu, logvar = self.model(x)
                cross_entropy = F.binary_cross_entropy(
                    probabilities, x.view(-1, 784), reduction="sum"
                )
                kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
                loss = cross_entropy + kl
                loss.backward()
                total += loss.item()
                self.optimizer.step()

    def layers(self) -> Layers:
        return self.model.layers()


class Pythae:
    """pythae's VAE and trainer, with this model's encoder and decoder.

    What is run is the trainer's own epoch; its progress bar, console printing, keeping of the best
    model and saving, which come around it, are left out to its advantage.
    """

    def __init__(
        self, start: Layers, images: Images, batch_size: int, seed: int, device: str = "cpu"
    ) -> None:
        logging.disable(logging.INFO)  # it announces what it does on the console
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE as PythaeVAE
        from pythae.models import VAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
        from pythae.trainers.training_callbacks import CallbackHandler

        class Encoder(BaseEncoder):
            def __init__(self, model: FiveLayers) -> None:
                super().__init__()
                self.model = model

            def forward(self, x: Tensor) -> Any:
                mu, logvar = self.model.encode(x.view(-1, 784))
                return ModelOutput(embedding=mu, log_covariance=logvar)

        class Decoder(BaseDecoder):
            def __init__(self, model: FiveLayers) -> None:
                super().__init__()
                self.model = model

            def forward(self, z: Tensor) -> Any:
                return ModelOutput(reconstruction=self.model.decode(z).view(-1, 1, 28, 28))

        self.model = FiveLayers(start)
        config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = BaseTrainer(
            PythaeVAE(config, Encoder(self.model), Decoder(self.model)),
            BaseDataset(images.floats(), images.labels),
            training_config=BaseTrainerConfig(
                output_dir=self.folder.name,
                per_device_train_batch_size=batch_size,
                learning_rate=LEARNING_RATE,
                seed=seed,
                no_cuda=device == "cpu",
            ),
        )
        self.trainer.prepare_training()
        self.trainer.callback_handler = CallbackHandler([], self.trainer.model)
        self.epoch = 0

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.epoch += 1
            self.trainer.train_step(self.epoch)

    def layers(self) -> Layers:
        return self.model.layers()


class Keras:
    """The lecture's Keras model, written for Keras 3; it runs on torch."""

    def __init__(
        self, start: Layers, images: Images, batch_size: int, seed: int, device: str = "cpu"
    ) -> None:
        os.environ["KERAS_BACKEND"] = "torch"
        import keras
        from keras import ops

        class Sampling(keras.layers.Layer):
            def __init__(self) -> None:
                super().__init__()
                self.seed_generator = keras.random.SeedGenerator(seed)

            def call(self, inputs: Any) -> Any:
                mu, logvar = inputs
                kl = 0.5 * ops.sum(ops.exp(logvar) + ops.square(mu) - 1.0 - logvar, axis=1)
                self.add_loss(ops.mean(kl))
                eps = keras.random.normal(ops.shape(mu), seed=self.seed_generator)
                return mu + ops.exp(logvar / 2) * eps

        def cross_entropy(x: Any, probabilities: Any) -> Any:
            return ops.sum(ops.binary_crossentropy(x, probabilities), axis=1)

        keras.utils.set_random_seed(seed)
        inputs = keras.Input((784,))
        hidden_x = keras.layers.Dense(HIDDEN, activation="relu", name="hidden_x")(inputs)
        mu = keras.layers.Dense(LATENT, name="mu")(hidden_x)
        logvar = keras.layers.Dense(LATENT, name="logvar")(hidden_x)
        z = Sampling()([mu, logvar])
        hidden_z = keras.layers.Dense(HIDDEN, activation="relu", name="hidden_z")(z)
        outputs = keras.layers.Dense(784, activation="sigmoid", name="out")(hidden_z)
        self.vae = keras.Model(inputs, outputs)
        optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-8)
        self.vae.compile(optimizer=optimizer, loss=cross_entropy)
        names = ("hidden_x", "mu", "logvar", "hidden_z", "out")
        self.dense = [self.vae.get_layer(name) for name in names]
        for layer, (weight, bias) in zip(self.dense, start, strict=True):
            layer.set_weights([weight.T.numpy(), bias.numpy()])
        self.x = images.floats().flatten(1).numpy()
        self.batch_size = batch_size

    def train(self, epochs: int) -> None:
        self.vae.fit(self.x, self.x, batch_size=self.batch_size, epochs=epochs, verbose=0)

    def layers(self) -> Layers:
        pairs = [layer.get_weights() for layer in self.dense]
        return [(torch.tensor(weight.T), torch.tensor(bias)) for weight, bias in pairs]


PEERS: dict[str, type[Contender] | None] = {
    "PyTorch loop": PyTorchLoop,
    "pythae": Pythae if find_spec("pythae") else None,
    "Keras on torch": Keras if find_spec("keras") else None,
}
"""By name; `None` where it is not installed."""


def vae_of(layers: Layers) -> VAE:
    """vaelib's model with copies of these parameters."""
    vae = VAE((1, 28, 28), LATENT, [HIDDEN], likelihood="grey bernoulli")
    hidden_x, mu, logvar, hidden_z, out = layers
    heads = [torch.cat([a, b]) for a, b in zip(mu, logvar, strict=True)]
    values = [*hidden_x, *heads, *hidden_z, *out]
    with torch.no_grad():
        for parameter, value in zip(vae.parameters(), values, strict=True):
            parameter.copy_(value)
    return vae


def layers_of(vae: VAE) -> Layers:
    """The other way round."""
    values = [parameter.detach().clone() for parameter in vae.parameters()]
    hidden_x, heads, hidden_z, out = zip(values[::2], values[1::2], strict=True)
    (mu, logvar) = zip(*(value.split(LATENT) for value in heads), strict=True)
    return [hidden_x, mu, logvar, hidden_z, out]


def _linear(layer: tuple[Tensor, Tensor]) -> nn.Linear:
    weight, bias = layer
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return linear
