"""The command line: `python -m vaelib train | evaluate | sample | datasets`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaelib.checkpoint import load_vae, read_checkpoint
from vaelib.data import Images, available_datasets, load_dataset
from vaelib.evaluation import evaluate_elbo, log_likelihood
from vaelib.generation import sample_prior
from vaelib.training import fit
from vaelib.vae import VAE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHECKPOINT = "checkpoint.pt"

EXAMPLES = """examples:
  python -m vaelib train                              a 2-d VAE of 4,000 digits, in vae-run/
  python -m vaelib train --latent-dim 20 --out run20  twenty latent dimensions instead
  python -m vaelib evaluate                           its ELBO and log p(x) on unseen digits
  python -m vaelib sample                             a picture of digits that it makes up
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 with one line that says why not."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        where = f": continue with --resume --out {options.out}" if options.run is _train else ""
        print(f"\nstopped{where}", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vaelib",
        description="Train, measure and sample variational autoencoders. All bounds and "
        "log-likelihoods are in nats an image.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: object, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        added.set_defaults(run=run)
        if run is not _datasets:
            added.add_argument("--out", type=Path, default=Path("vae-run"), help="the run's folder")
            added.add_argument("--device", help="cpu or cuda; by default CUDA where there is one")
        return added

    train = command("train", _train, "train a VAE; write its checkpoint and pictures to a folder")
    train.add_argument("--data", default="mnist5k", help="a name that `datasets` lists")
    train.add_argument(
        "--pixels",
        choices=["dynamic", "static", "grey"],
        default="dynamic",
        help="binarised anew at each reading, binarised once, or grey (then by cross-entropy, "
        "which is no log-likelihood)",
    )
    train.add_argument("--latent-dim", type=int, default=2, metavar="K", help="latent dimensions")
    train.add_argument(
        "--hidden", type=int, nargs="+", default=[512], help="fully connected layers"
    )
    train.add_argument(
        "--convolutional", type=int, metavar="WIDTH", help="convolutions of that width instead"
    )
    train.add_argument("--epochs", type=int, default=50, help="passes over the training images")
    train.add_argument("--batch-size", type=int, default=128, help="images a step")
    train.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam")
    train.add_argument("--seed", type=int, default=0, help="of the start and of all noise")
    train.add_argument("--resume", action="store_true", help="continue the run in the folder")

    evaluate = command("evaluate", _evaluate, "measure a trained VAE on images it has not seen")
    evaluate.add_argument("--split", choices=["train", "validation", "test"], default="test")
    evaluate.add_argument(
        "--samples", type=int, default=500, metavar="S", help="importance samples for each image"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of all noise")

    sample = command("sample", _sample, "draw pictures of what a trained VAE makes up")
    sample.add_argument("--n", type=int, default=100, help="how many")
    sample.add_argument(
        "--noise",
        action="store_true",
        help="draw the pixels from the decoder's distribution instead of showing its mean",
    )
    sample.add_argument("--seed", type=int, default=0, help="of all noise")

    command("datasets", _datasets, "list the data sets")
    return parser


def _train(options: argparse.Namespace) -> None:
    checkpoint = options.out / CHECKPOINT
    if checkpoint.exists() and not options.resume:
        raise ValueError(
            f"{checkpoint} holds a run already: --resume continues it, --out names another folder"
        )
    images = _load(options.data, "train", options.pixels)
    validation = _load(options.data, "validation", options.pixels)
    torch.manual_seed(options.seed)
    model = VAE(
        images.shape,
        options.latent_dim,
        [options.convolutional] if options.convolutional else options.hidden,
        network="convolutional" if options.convolutional else "fully connected",
        likelihood="grey bernoulli" if options.pixels == "grey" else "bernoulli",
    )
    options.out.mkdir(parents=True, exist_ok=True)
    # Under torchrun one process speaks for all.
    is_first = os.environ.get("RANK", "0") == "0"
    if is_first:
        print(f"training on {images}", flush=True)
    history = fit(
        model,
        images,
        validation,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
        device=options.device,
        checkpoint=checkpoint,
        resume=options.resume,
    )
    if not is_first:
        return
    print(f"after {len(history)} epochs, in nats an image ({history.convention}):")
    print(
        f"  training ELBO    {history.elbo[-1]:8.2f}  "
        f"= {history.reconstruction[-1]:.2f} reconstruction − {history.kl[-1].sum():.2f} KL"
    )
    print(f"  validation ELBO  {history.validation_elbo[-1]:8.2f}")
    print(f"  {history.active_units[-1]} of {options.latent_dim} latent dimensions active")
    # matplotlib takes longer to import than all else: only once there is something to draw.
    from vaelib import plots

    _save(plots.training_curves(history), options.out / "training.png")
    if options.latent_dim == 2:
        _save(plots.manifold(model.cpu(), n=20), options.out / "manifold.png")
    print(f"checkpoint: {checkpoint}")


def _evaluate(options: argparse.Namespace) -> None:
    path = options.out / CHECKPOINT
    model, data = load_vae(path, _device(options)), read_checkpoint(path)["settings"]["data"]
    images = _load(data[0], options.split, data[1])
    generator = torch.Generator().manual_seed(options.seed)
    bound = evaluate_elbo(model, images, generator).per_example
    print(f"{images}, ± standard error over images:")
    print(f"  ELBO      {_mean(bound)} nats", flush=True)
    result = log_likelihood(model, images, generator, samples=options.samples)
    print(
        f"  log p(x)  {_mean(result.per_example)} nats, by {result.samples} importance samples "
        f"(their own error {result.mean_standard_error():.2f}, effective sample size "
        f"{result.effective_sample_size.median():.0f} in the median)"
    )
    print(f"  pixels    {result.convention}")


def _sample(options: argparse.Namespace) -> None:
    model = load_vae(options.out / CHECKPOINT, _device(options))
    generator = torch.Generator(_device(options)).manual_seed(options.seed)
    made_up = sample_prior(model, options.n, generator)
    from vaelib import plots

    pictures = made_up.draw(generator) if options.noise else made_up.mean
    _save(plots.image_grid(pictures.cpu()), options.out / "samples.png")


def _datasets(_: argparse.Namespace) -> None:
    for info in available_datasets():
        shape = " × ".join(map(str, info.shape))
        sizes = ", ".join(f"{size:,} {split}" for split, size in info.sizes.items())
        where = "comes with vaelib" if info.offline else "downloaded on first use"
        print(f"{info.name}: {info.content}")
        print(f"    {shape} pixels; {sizes}; {where}")
        print(f"    {info.licence}")


def _load(name: str, split: str, pixels: str) -> Images:
    images = load_dataset(name, split)
    if pixels == "dynamic":
        return images.binarise("dynamic")
    if pixels == "static":
        # One draw for everybody, whatever the run's seed: results stay comparable.
        return images.binarise("static", torch.Generator().manual_seed(0))
    return images


def _device(options: argparse.Namespace) -> str:
    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _mean(values: Tensor) -> str:
    return f"{values.mean():8.2f} ± {values.std() / len(values) ** 0.5:.2f}"


def _save(drawn: Axes | Figure, path: Path) -> None:
    figure = drawn.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=150)
    print(f"picture: {path}")


if __name__ == "__main__":
    sys.exit(main())
