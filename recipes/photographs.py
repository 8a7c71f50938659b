"""A residual VAE of small photographs, which starts as probabilistic PCA, and what it reaches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from recipes.bounds import bound
from recipes.run import SEED, Run, measurement
from vaelib import PPCA, VAE, Images, bits_per_dim, evaluate_elbo
from vaelib.pretrained import Measurement


def train_residual(
    run: Run, train: Images, test: Images, *, latent_dim: int, width: int, epochs: int
) -> None:
    """Train a VAE with a discretised logistic likelihood, measure and export it.

    Every image is seen as it is and mirrored. The linear parts are probabilistic PCA and stay so;
    the residual blocks learn what is not linear, and how sure the model is of each pixel.
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
        # In bits per dimension: 0.02 nats of ten thousand are less than what rounding may cost.
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
    """A function that measures a model on held-out images, beside PCA with as many dimensions."""
    x = test.floats()
    linear = ppca.log_prob_8bit(x)

    def measure(vae: VAE) -> list[Measurement]:
        k = vae.latent_dim
        nats = evaluate_elbo(vae, test, torch.Generator().manual_seed(0)).per_example.cpu()
        device = next(vae.parameters()).device
        with torch.no_grad():
            means = [
                vae.decoder(vae.encoder(rows).mean).mean.cpu() for rows in x.to(device).split(100)
            ]
        errors = _squared_errors(torch.cat(means), x.cpu())
        linear_errors = _squared_errors(ppca.reconstruct(x), x).mean().item()
        bits = bits_per_dim(linear.mean().item(), test.shape)
        return [
            measurement(
                "ELBO",
                nats,
                test,
                unit="nats per image of 8-bit pixels",
                beside=f"{linear.mean().item():.1f} of PPCA, K = {k}, a bound as well",
            ),
            measurement(
                "bits per dimension",
                bits_per_dim(nats, test.shape),
                test,
                unit="bits",
                beside=f"{bits:.3f} of PPCA",
            ),
            measurement(
                "squared error of reconstruction",
                errors,
                test,
                unit="per pixel in [0, 1]",
                beside=f"{linear_errors:.5f} of PPCA",
            ),
        ]

    return measure


def _squared_errors(means: Tensor, x: Tensor) -> Tensor:
    return (means - x).square().flatten(1).mean(1)
