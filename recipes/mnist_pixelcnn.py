"""An autoregressive model of dynamically binarised MNIST, without a latent variable.

It has six residual layers of 32 channels and is trained on 55,000 images. Adam's rate falls again
and again from 4e-3 to 0 along a cosine of 16 epochs (warm restarts, Loshchilov & Hutter 2017).
Training ends when the best validation is 16 epochs old, and the parameters of that epoch are kept.
Goal: −log p(x) of 84 nats or less on the test images (published: about 81.3, by larger models on
static pixels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from recipes.run import SEED, Best, Run, measurement
from vaelib import Images, PixelCNN, fit_pixelcnn, load_dataset
from vaelib.pretrained import Measurement

MAX_EPOCHS = 320
CYCLE = 16


def main(arguments: Sequence[str] | None = None) -> None:
    run = Run("mnist-pixelcnn", "PixelCNN of van den Oord et al. 2016, small", arguments)
    everything, test = (run.mnist(split).binarise("dynamic") for split in ("train", "test"))
    ships = load_dataset("mnist5k", "test", device=run.device).binarise("dynamic")
    held_out = len(everything) // 12
    train, validation = everything[:-held_out], everything[-held_out:][:1000]
    torch.manual_seed(SEED)
    built: dict[str, Any] = {"shape": list(train.shape), "channels": 32, "layers": 6, "size": 5}
    if run.quick:
        built |= {"channels": 4, "layers": 1, "size": 3}
    model = PixelCNN(**built).to(run.device)
    adam = torch.optim.Adam(model.parameters(), lr=4e-3, fused=True)
    epochs = 2 if run.quick else MAX_EPOCHS
    rate = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(adam, min(CYCLE, epochs))
    best = Best(model)

    def epoch(number: int, generator: torch.Generator) -> dict[str, float]:
        (log_p,) = fit_pixelcnn(
            model,
            train,
            generator,
            epochs=1,
            batch_size=50,
            precision="bfloat16",
            optimizer=adam,
        )
        rate.step()
        held_out = log_probabilities(model, validation).mean().item()
        best.see(-held_out)
        return {"log p(x)": log_p, "validation": held_out}

    def measure(model: PixelCNN) -> list[Measurement]:
        beside = "about −81.3 published (van den Oord et al. 2016, table 4: static pixels)"
        return [
            measurement(
                "log p(x)",
                log_probabilities(model, images),
                images,
                unit="nats per image",
                beside=beside if images is test else "",
            )
            for images in (test, ships)
        ]

    parts = {"model": model, "adam": adam, "rate": rate, "best": best}
    run.train(epochs, parts, epoch, enough=lambda: best.age >= CYCLE)
    best.restore()
    run.export(
        model,
        built,
        measure,
        train=train,
        convention="dynamic",
        compare=lambda model: log_probabilities(model, test[:1000]).mean().item(),
    )


@torch.no_grad()
def log_probabilities(model: PixelCNN, images: Images) -> torch.Tensor:
    """log p(x) of every image in nats, always with the same draws of the pixels: (N,)."""
    generator = torch.Generator().manual_seed(0)
    return torch.cat([model.log_prob(x) for x in images.batches(200, generator, shuffle=False)])


if __name__ == "__main__":
    main()
