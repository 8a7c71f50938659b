"""The command line: `python -m vaelib train | evaluate | sample | datasets`."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from vaelib._checks import check_device
from vaelib._run_data import RunData, named
from vaelib.baselines import PPCA
from vaelib.checkpoint import load_vae
from vaelib.compiled import CompilationError
from vaelib.data import Images, available_datasets
from vaelib.evaluation import evaluate_elbo, log_likelihood
from vaelib.generation import sample_prior
from vaelib.likelihood import bits_per_dim
from vaelib.training import fit
from vaelib.vae import VAE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")

CHECKPOINT = "checkpoint.pt"
DATA = "data.json"  # beside the checkpoint: what the run is trained on

LIKELIHOODS = ("bernoulli", "grey-bernoulli", "gaussian", "discretised-logistic")
NETWORKS = ("fully-connected", "convolutional", "residual")

EXAMPLES = """examples:
  python -m vaelib train                              a 2-d VAE of 4,000 digits, in vae-run/
  python -m vaelib train --latent-dim 20 --out run20  twenty latent dimensions instead
  python -m vaelib evaluate                           its ELBO and log p(x) on unseen digits
  python -m vaelib sample                             a picture of digits that it generates

  python -m vaelib train --data photographs/ --size 32 --network residual --latent-dim 64
                                                      pictures of your own, as 8-bit colours
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return 0 on success, or 1 after printing one line with the reason."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("\nstopped" + _how_to_go_on(options, arguments), file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, CompilationError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        # torch reports a lack of memory as a RuntimeError; any other is a bug, and is shown whole.
        if isinstance(error, RuntimeError) and "alloc" not in str(error).lower():
            raise
        print(f"{options.command}: there is not enough memory for this", file=sys.stderr)
        return 1
    return 0


def _how_to_go_on(options: argparse.Namespace, arguments: list[str]) -> str:
    if options.run is not _train or not (options.out / CHECKPOINT).exists():
        return ""
    again = arguments if options.resume else [*arguments, "--resume"]
    return f": continue with python -m vaelib {shlex.join(again)}"


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Show the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_one = action.default is not None and action.default is not False
        return super()._get_help_string(action) if has_one else action.help


def _converter(
    what: str, kind: Callable[[str], T], fits: Callable[[T], bool]
) -> Callable[[str], T]:
    """Turn an option's text into a number, or say that it must be `what`."""

    def convert(text: str) -> T:
        with contextlib.suppress(ValueError):
            if fits(number := kind(text)):
                return number
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")

    return convert


_count = _converter("a whole number of at least 1", int, lambda number: number >= 1)
_seed = _converter("a whole number from 0 to 2⁶³ − 1", int, lambda number: 0 <= number < 2**63)
_rate = _converter("a positive number", float, lambda number: 0 < number < math.inf)
_weight = _converter("a number of at least 0", float, lambda number: 0 <= number < math.inf)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vaelib",
        description="Train, measure and sample variational autoencoders. All bounds and "
        "log-likelihoods are in nats per image.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: object, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=_Help,
        )
        added.set_defaults(run=run)
        if run is not _datasets:
            added.add_argument("--out", type=Path, default=Path("vae-run"), help="the run's folder")
            added.add_argument("--device", help="cpu or cuda; by default CUDA if available")
        return added

    train = command("train", _train, "train a VAE; write its checkpoint and pictures to a folder")
    train.add_argument(
        "--data", default="mnist5k", help="a name that `datasets` lists, or a folder of pictures"
    )
    train.add_argument(
        "--size", type=_count, help="crop the pictures of a folder to squares of this many pixels"
    )
    train.add_argument(
        "--pixels",
        choices=["dynamic", "static", "grey"],
        help="binarised anew at each reading, binarised once, or 256 grey levels; by default "
        "dynamic for grey data sets, and grey for colour images and folders",
    )
    train.add_argument(
        "--likelihood",
        choices=LIKELIHOODS,
        help="distribution of a pixel; by default Bernoulli for binary pixels and discretised "
        "logistic for 256 levels. On grey pixels a Bernoulli gives a cross-entropy, not a "
        "log-likelihood; a Gaussian gives a density",
    )
    train.add_argument(
        "--latent-dim", type=_count, default=2, metavar="K", help="latent dimensions"
    )
    train.add_argument(
        "--network",
        choices=NETWORKS,
        default=NETWORKS[0],
        help="kind of network; a residual network starts from probabilistic PCA if pixels are grey",
    )
    train.add_argument(
        "--hidden",
        type=_count,
        nargs="+",
        help="sizes of the fully connected layers, or one number: the width of a convolutional or "
        "residual network; the default depends on the network",
    )
    train.add_argument(
        "--beta", type=_weight, default=1.0, help="weight of the KL; only 1 maximises the ELBO"
    )
    train.add_argument("--epochs", type=_count, default=50, help="passes over the training images")
    train.add_argument(
        "--patience", type=_count, help="stop after this many epochs without a better bound"
    )
    train.add_argument("--batch-size", type=_count, default=128, help="images in each step")
    train.add_argument(
        "--learning-rate", type=_rate, help="of Adam; by default 0.001, or the resumed run's"
    )
    train.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="of the matrix products",
    )
    train.add_argument(
        "--compile", action="store_true", help="compile the steps first, which takes about a minute"
    )
    train.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="of the initial parameters, the order of images and all noise",
    )
    train.add_argument("--resume", action="store_true", help="continue the run in the folder")

    evaluate = command("evaluate", _evaluate, "measure a trained VAE on images it has not seen")
    evaluate.add_argument(
        "--split", choices=["train", "validation", "test"], default="test", help="which images"
    )
    evaluate.add_argument(
        "--samples", type=_count, default=500, metavar="S", help="importance samples per image"
    )
    evaluate.add_argument("--seed", type=_seed, default=0, help="of all noise")

    sample = command("sample", _sample, "draw a picture of images that a trained VAE generates")
    sample.add_argument("--n", type=_count, default=100, help="number of images")
    sample.add_argument(
        "--noise",
        action="store_true",
        help="draw the pixels from the decoder's distribution instead of showing its mean",
    )
    sample.add_argument("--seed", type=_seed, default=0, help="of all noise")

    command("datasets", _datasets, "list the data sets")
    return parser


def _train(options: argparse.Namespace) -> None:
    checkpoint = options.out / CHECKPOINT
    if checkpoint.exists() and not options.resume:
        raise ValueError(
            f"{checkpoint} already holds a run: --resume continues it, --out names another folder"
        )
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is a file, not a folder")
    if options.device is not None:
        check_device(options.device)
    likelihood = _choose_pixels(options)
    data = RunData(options.data, options.size, options.pixels)
    images, validation = data.load("train", "validation")
    if options.resume and checkpoint.exists():
        data.check_same(options.out / DATA)
    kinds: dict[str, Any] = {
        "network": options.network.replace("-", " "),
        "likelihood": likelihood.replace("-", " "),
    }
    torch.manual_seed(options.seed)
    model = VAE(images.shape, options.latent_dim, options.hidden, **kinds)
    if options.network == "residual" and _has_linear_twin(model, images):
        _start_linear(model, None if options.resume and checkpoint.exists() else images)
    options.out.mkdir(parents=True, exist_ok=True)
    # Under torchrun only the first process prints and draws.
    is_first = os.environ.get("RANK", "0") == "0"
    if is_first:
        data.write(options.out / DATA)
        print(f"training on {images}", flush=True)
    history = fit(
        model,
        images,
        validation,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        beta=options.beta,
        patience=options.patience,
        precision=options.precision,
        compile=options.compile,
        seed=options.seed,
        device=options.device,
        checkpoint=checkpoint,
        resume=options.resume,
    )
    if not is_first:
        return
    assert history.best_epoch is not None
    best = history.best_epoch - 1
    print(f"best of {len(history)} epochs: {best + 1}, {_unit(model, history.convention)}:")
    print(
        f"  training ELBO    {history.elbo[best]:8.2f}  "
        f"= {history.reconstruction[best]:.2f} reconstruction − {history.kl[best].sum():.2f} KL"
    )
    print(f"  validation ELBO  {history.validation_elbo[best]:8.2f}", end="")
    print(_in_bits(model, history.validation_elbo[best]))
    # −1 if only one image was measured.
    if history.active_units[best] >= 0:
        print(f"  {history.active_units[best]} of {options.latent_dim} latent dimensions active")
    # Imported late, because matplotlib takes longer to import than everything else.
    from vaelib import plots

    _save(plots.training_curves(history), options.out / "training.png")
    if options.latent_dim == 2:
        # Of the best epoch, which `evaluate` and `sample` use too.
        _save(plots.manifold(load_vae(checkpoint), n=20), options.out / "manifold.png")
    print(f"checkpoint: {checkpoint}")


def _evaluate(options: argparse.Namespace) -> None:
    path = options.out / CHECKPOINT
    model = load_vae(path, _device(options))
    data = RunData.read(options.out / DATA)
    (images,) = data.load(options.split)
    data.check_same(options.out / DATA)
    generator = torch.Generator().manual_seed(options.seed)
    bound = evaluate_elbo(model, images, generator).per_example
    print(f"{images}{', ± standard error over images' if len(images) > 1 else ''}:")
    print(f"  ELBO      {_mean(bound)} nats{_in_bits(model, bound.mean())}", flush=True)
    result = log_likelihood(model, images, generator, samples=options.samples)
    print(
        f"  log p(x)  {_mean(result.per_example)} nats{_in_bits(model, result.mean())}, by "
        f"{result.samples} importance samples (their own error "
        f"{result.mean_standard_error():.2f}, effective sample size "
        f"{result.effective_sample_size.median():.0f} in the median)"
    )
    print(f"  {_unit(model, result.convention)}", flush=True)
    _print_baseline(model, data, images)


def _print_baseline(model: VAE, data: RunData, images: Images) -> None:
    """Print what the best linear model reaches, where it can be compared."""
    (train,) = data.load("train")
    if not _has_linear_twin(model, train):
        return
    ppca = PPCA.fit(train, model.latent_dim)
    is_density = model.arguments["likelihood"] == "gaussian"
    nats = (ppca.log_prob if is_density else ppca.log_prob_8bit)(images.floats())
    print(
        f"  PPCA      {_mean(nats)} nats{_in_bits(model, nats.mean())}: the best linear model "
        f"with {model.latent_dim} latent dimensions"
    )


def _has_linear_twin(model: VAE, train: Images) -> bool:
    """Whether probabilistic PCA can model the same pixels with as many latent dimensions."""
    return (
        train.convention == "grey"
        and model.arguments["likelihood"] in ("gaussian", "discretised logistic")
        and model.latent_dim < min(len(train) - 1, math.prod(train.shape))
    )


def _start_linear(model: VAE, images: Images | None) -> None:
    """Fix the linear parts at probabilistic PCA, so that the residual blocks learn the rest.

    From scratch, such a network needs several epochs to become as good as PCA. Without images the
    linear parts are only frozen, since a resumed run brings its own parameters.
    """
    if images is not None:
        PPCA.fit(images, model.latent_dim).initialise(model)
    for part in (model.encoder.body, model.decoder.body):
        part.get_submodule("linear").requires_grad_(False)


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


def _choose_pixels(options: argparse.Namespace) -> str:
    """Set `options.pixels` if it is not given, and return the likelihood of a pixel."""
    info = named(options.data)
    if options.pixels is None and options.likelihood is not None:
        options.pixels = "dynamic" if options.likelihood == "bernoulli" else "grey"
    elif options.pixels is None:
        is_grey = info is not None and info.shape[0] == 1
        options.pixels = "dynamic" if is_grey else "grey"
    if options.likelihood == "bernoulli" and options.pixels == "grey":
        raise ValueError(
            "--likelihood bernoulli needs binary pixels: --pixels dynamic (or static), or for "
            f"grey pixels one of {', '.join(LIKELIHOODS[1:])}"
        )
    default = "discretised-logistic" if options.pixels == "grey" else "bernoulli"
    return str(options.likelihood or default)


def _unit(model: VAE, convention: str) -> str:
    """The unit of a bound or log-likelihood, and what it describes."""
    what = {
        "gaussian": "log-densities of pixels in [0, 1], comparable only with other such densities",
        "discretised logistic": "log-probabilities of 8-bit pixels",
    }.get(model.arguments["likelihood"])
    return f"in nats per image ({convention}{'; ' + what if what else ''})"


def _in_bits(model: VAE, nats: Tensor) -> str:
    if model.arguments["likelihood"] != "discretised logistic":
        return ""
    return f" = {bits_per_dim(nats, model.arguments['shape']):.3f} bits/dim"


def _device(options: argparse.Namespace) -> str:
    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _mean(values: Tensor) -> str:
    mean = f"{values.mean():8.2f}"
    return f"{mean} ± {values.std() / len(values) ** 0.5:.2f}" if len(values) > 1 else mean


def _save(drawn: Axes | Figure, path: Path) -> None:
    from matplotlib import pyplot

    figure = drawn.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    print(f"picture: {path}")


if __name__ == "__main__":
    sys.exit(main())
