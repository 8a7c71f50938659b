"""Training of a residual VAE of small photographs that starts as probabilistic PCA."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from recipes.bounds import bound
from recipes.run import SEED, Run, measurement
from vaelib import PPCA, VAE, Images, bits_per_dim, evaluate_elbo, load_dataset
from vaelib.pretrained import Measurement


def train_residual(
    run: Run, train: Images, test: Images, *, latent_dim: int, width: int, epochs: int
) -> None:
    """Train a VAE with a discretised logistic likelihood, measure and export it.

    Every image is used as it is and mirrored. The linear parts are fixed at probabilistic PCA. The
    residual blocks learn the nonlinear rest, and how sure the model is of each pixel.
    """
    if run.quick:
        train, test, latent_dim, width, epochs = _small(train), _small(test), 3, 2, 2
    both = replace(
        train,
        pixels=torch.cat([train.pixels, train.pixels.flip(-1)]),
        labels=None if train.labels is None else train.labels.repeat(2),
    )
    ppca = PPCA.fit(both, latent_dim)
    torch.manual_seed(SEED)
    vae = VAE(
        train.shape, latent_dim, [width], network="residual", likelihood="discretised logistic"
    )
    ppca.initialise(vae)
    for linear in (vae.encoder.body.linear, vae.decoder.body.linear):
        linear.requires_grad_(False)
    vae.to(run.device)
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(trained, lr=1e-3, betas=(0.9, 0.99), fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda epoch: 0.5 + 0.5 * math.cos(math.pi * epoch / epochs)
    )
    run.fit(vae, both, epochs=epochs, batch_size=64, optimizer=adam, scheduler=rate)
    run.export(
        vae,
        vae.arguments,
        _measure(ppca, test),
        train=train,
        convention="8-bit pixels, mirrored in half of the cases",
        # In bits per dimension, since rounding may cost more than 0.02 of ten thousand nats.
        compare=_bits(test),
        note=f"the linear parts are probabilistic PCA with {latent_dim} dimensions, not trained",
    )


def _small(images: Images) -> Images:
    few = images[:40]
    return replace(few, pixels=few.pixels[..., ::4, ::4].contiguous())


def _bits(test: Images) -> Callable[[VAE], float]:
    nats = bound(test)
    return lambda vae: float(bits_per_dim(nats(vae), test.shape))


def _measure(ppca: PPCA, test: Images) -> Callable[[VAE], list[Measurement]]:
    """A function that measures a model on held-out images, compared with PPCA.

    If the sizes agree, it also measures the patches of photographs, which come with vaelib's
    dependencies, so that everybody can reproduce the number.
    """

    def measure(vae: VAE) -> list[Measurement]:
        x = test.floats().cpu()
        linear = ppca.log_prob_8bit(x).mean().item()
        bits = bits_per_dim(linear, test.shape)
        linear_error = _squared_errors(ppca.reconstruct(x), x).mean().item()
        nats = _elbo(vae, test)
        measured = [
            measurement(
                "ELBO",
                nats,
                test,
                unit="nats per image of 8-bit pixels",
                beside=f"{linear:.1f} of PPCA, K = {vae.latent_dim}, a bound as well",
            ),
            measurement(
                "bits per dimension",
                bits_per_dim(nats, test.shape),
                test,
                unit="bits",
                beside=f"{bits:.3f} of PPCA",
            ),
            measurement(
                "squared error",
                _squared_errors(_means(vae, test), x),
                test,
                unit="per image, pixels in [0, 1]",
                beside=f"{linear_error:.3f} of PPCA",
            ),
        ]
        ships = load_dataset("patches", "test", device=test.pixels.device)
        if ships.shape == test.shape:
            nats = _elbo(vae, ships)
            measured.append(measurement("ELBO", nats, ships, unit="nats per image of 8-bit pixels"))
        return measured

    return measure


def _elbo(vae: VAE, images: Images) -> Tensor:
    return evaluate_elbo(vae, images, 0).per_example.cpu()


@torch.no_grad()
def _means(vae: VAE, images: Images) -> Tensor:
    rows = images.floats().split(100)
    return torch.cat([vae.decoder(vae.encoder(x).mean).mean.cpu() for x in rows])


def _squared_errors(means: Tensor, x: Tensor) -> Tensor:
    return (means - x).square().flatten(1).sum(1)
