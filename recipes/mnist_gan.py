"""A generative adversarial network for MNIST's grey digits, judged by `mnist-classifier`.

Both networks have two convolutions and batch normalisation (Radford et al. 2016). Adam has β₁ = ½
and the rate 5e-4. The model is a running average of the parameters. After each epoch, 10,000 of its
samples are compared with the test images by the Fréchet distance in the classifier's features.
Training ends when the distance has not fallen for four epochs, and the model is that of the epoch
in which it was smallest. Goal: legible digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recipes.run import SEED, Best, Run, measurement
from vaelib import GAN, fit_gan
from vaelib.baselines import Classifier, frechet_distance
from vaelib.pretrained import Measurement, pretrained

MAX_EPOCHS = 200
PATIENCE = 4


def main(arguments: Sequence[str] | None = None) -> None:
    run = Run("mnist-gan", "adversarial network for grey digits", arguments)
    train, test = run.mnist("train"), run.mnist("test")
    judge: Classifier = pretrained("mnist-classifier", run.device)
    torch.manual_seed(SEED)
    width = 4 if run.quick else 32
    built: dict[str, Any] = {"shape": list(train.shape), "width": width, "batch_norm": True}
    gan = GAN(**built).to(run.device)
    average = AveragedModel(gan, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    players = gan.discriminator, gan.generator
    adams = [
        torch.optim.Adam(player.parameters(), lr=5e-4, betas=(0.5, 0.999), fused=True)
        for player in players
    ]
    adams[1].register_step_post_hook(lambda *_: average.update_parameters(gan))
    averaged: Any = average.module
    best = Best(averaged)
    real = features(judge, test.floats())

    def distance(model: GAN, seed: int = 1) -> float:
        samples = model.sample(len(test), torch.Generator().manual_seed(seed))
        return frechet_distance(features(judge, samples), real)

    def epoch(number: int, generator: torch.Generator) -> dict[str, float]:
        ((told, fooled),) = fit_gan(
            gan,
            train,
            generator,
            epochs=1,
            batch_size=64,
            precision="bfloat16",
            optimizers=(adams[0], adams[1]),
        )
        reached = distance(averaged)
        best.see(reached)
        return {"discriminator": told, "generator": fooled, "Fréchet distance": reached}

    def measure(model: GAN) -> list[Measurement]:
        # The distance between two halves of the real images says how small it can become.
        halves = frechet_distance(real[::2], real[1::2])
        # With other draws than those by which the epoch was chosen.
        distances = torch.tensor([distance(model, seed) for seed in (2, 3, 4)])
        samples = model.sample(len(test), torch.Generator().manual_seed(2))
        sure = judge(samples).softmax(1).amax(1)
        return [
            Measurement(
                "Fréchet distance",
                round(distances.mean().item(), 2),
                round(distances.std().item() / len(distances) ** 0.5, 2),
                "squared units of mnist-classifier's features",
                "mnist test",
                "grey",
                len(test),
                beside=f"{halves:.4f} between two halves of the test images",
            ),
            measurement("probability of the likeliest digit", sure, test, unit="as a fraction"),
        ]

    parts = {"model": gan, "average": average, "best": best}
    parts |= {"adam 0": adams[0], "adam 1": adams[1]}
    epochs = 2 if run.quick else MAX_EPOCHS
    run.train(epochs, parts, epoch, enough=lambda: best.age >= PATIENCE)
    best.restore()
    run.export(
        averaged,
        built,
        measure,
        train=train,
        convention="grey",
        compare=distance,
        note="the epoch was chosen by the distance to the same test images; its standard error is "
        "over draws of samples",
    )


@torch.no_grad()
def features(judge: Classifier, images: Tensor) -> Tensor:
    """The judge's features of many images: (N, F)."""
    return torch.cat([judge.features(x) for x in images.split(1000)])


if __name__ == "__main__":
    main()
