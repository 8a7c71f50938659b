"""The one-layer VAE of Burda et al. 2015, by their recipe with some changes.

784-200-200-50, tanh, mirrored decoder; Glorot initialisation, with the output bias from the data's
mean; all 60,000 training images, dynamically binarised; Adam with β 0.9 and 0.999 and ε 1e-4; eight
learning rates, each 10^(−1/7) times the one before. The changes: the batch is five times theirs, so
the rates are √5 times theirs. There are fewer epochs, most of them at high rates; theirs are 3^i
per rate. Goal: −log p(x) of 87.5 nats or less on the test images (published: 86.76, after 3,280
epochs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from recipes.bounds import bound, measure_bounds
from recipes.run import SEED, Run
from vaelib import VAE, Images

RATES = [5**0.5 * 1e-3 * 10 ** (-i / 7) for i in range(8)]
EPOCHS = [125, 105, 30, 30, 30, 30, 30, 30]


def main(arguments: Sequence[str] | None = None) -> None:
    run = Run("mnist-vae", "one-layer VAE of Burda et al. 2015, k = 1", arguments)
    train = run.mnist("train").binarise("dynamic")
    vae = burda(train)
    adam = torch.optim.Adam(vae.parameters(), lr=RATES[0], eps=1e-4, fused=True)
    epochs = [1] * 8 if run.quick else EPOCHS
    rate = torch.optim.lr_scheduler.LambdaLR(adam, falling(RATES, epochs))
    run.fit(vae, train, epochs=sum(epochs), batch_size=100, optimizer=adam, scheduler=rate)
    run.export(
        vae,
        vae.arguments,
        measure_bounds(run, "−86.76 published (Burda et al. 2015, table 1)"),
        train=train,
        convention="dynamic",
        compare=bound(run.mnist("test").binarise("dynamic")),
        note="batches of 100 rather than 20, rates √5 times the published ones, "
        f"{sum(EPOCHS)} epochs rather than 3,280",
    )


def burda(train: Images) -> VAE:
    """The untrained model, whose decoder starts at the mean image.

    The weights are initialised as by Glorot & Bengio 2010.
    """
    torch.manual_seed(SEED)
    vae = VAE(train.shape, latent_dim=50, hidden=[200, 200], activation="tanh")
    layers = [layer for layer in vae.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    # Clamped, since the logit of a pixel that is never on is −∞.
    mean = (train.pixels.double().mean(0) / 255).clamp(0.001, 0.999)
    with torch.no_grad():
        layers[-1].bias.copy_(mean.logit().flatten())
    return vae


def falling(rates: Sequence[float], epochs: Sequence[int]) -> Callable[[int], float]:
    """A function of the epoch that returns its rate divided by the first rate.

    >>> factor = falling([0.1, 0.05], [2, 3])
    >>> [factor(epoch) for epoch in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    """
    plan = [rate / rates[0] for rate, n in zip(rates, epochs, strict=True) for _ in range(n)]
    return lambda epoch: plan[min(epoch, len(plan) - 1)]


if __name__ == "__main__":
    main()
