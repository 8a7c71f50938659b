"""A small convolutional classifier of MNIST digits, which judges samples and gives features.

Epochs of grey and of dynamically binarised pixels alternate, so that it can judge samples of both
kinds. Images are shifted by up to two pixels. Goal: 99 % of the test images correct.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from recipes.run import SEED, Run, measurement
from vaelib import load_dataset
from vaelib.baselines import Classifier, fit_classifier
from vaelib.pretrained import Measurement

EPOCHS = 16


def main(arguments: Sequence[str] | None = None) -> None:
    run = Run("mnist-classifier", "classifier of digits, grey or binarised", arguments)
    train, test = run.mnist("train"), run.mnist("test")
    ships = load_dataset("mnist5k", "test", device=run.device)
    epochs = 2 if run.quick else EPOCHS
    torch.manual_seed(SEED)
    built: dict[str, Any] = {"shape": list(train.shape), "width": 24}
    classifier = Classifier(**built).to(run.device)
    adam = torch.optim.Adam(classifier.parameters(), lr=2e-3, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)

    def epoch(number: int, generator: torch.Generator) -> dict[str, float]:
        images = train.binarise("dynamic") if number % 2 else train
        (loss,) = fit_classifier(
            classifier, images, generator, epochs=1, precision="bfloat16", optimizer=adam
        )
        rate.step()
        return {"loss": loss, "accuracy": classifier.accuracy(test).double().mean().item()}

    def measure(model: Classifier) -> list[Measurement]:
        return [
            measurement("accuracy", model.accuracy(images), images, unit="as a fraction")
            for grey in (test, ships)
            for images in (grey, grey.binarise("dynamic"))
        ]

    run.train(epochs, {"model": classifier, "adam": adam, "rate": rate}, epoch)
    run.export(
        classifier,
        built,
        measure,
        train=train,
        convention="grey and dynamic in turn",
        compare=lambda model: 100 * model.accuracy(test).double().mean().item(),
    )


if __name__ == "__main__":
    main()
