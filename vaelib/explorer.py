"""The latent explorer: drag a point over the latent plane, and a page draws what it decodes to."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._checks import check_classes, check_finite, check_floats
from vaelib._modes import evaluating
from vaelib.elbo import LatentVariableModel
from vaelib.networks import BernoulliDecoder, GaussianDecoder

__all__ = ["LatentExplorer"]

_ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}

# Printable ASCII without what means something in HTML, JSON or JavaScript.
_ALPHABET = "".join(c for c in map(chr, range(33, 127)) if c not in "\"&'<>\\`")
_LEVELS = 33_537  # the largest odd number whose cube is below 87⁷

_MAX_CODES = 1000
_MAX_BYTES = 1_000_000
# In grey levels (255 is white). With the 0.5 by which a canvas rounds, and a margin for points
# between those that are tried, this stays below 1.
_MAX_ERROR = 0.4


class LatentExplorer:
    """An interactive picture: the latent plane, and what the decoder draws at a point in it.

    `html` is a fragment of a page, which notebooks and the book display. It needs neither network
    nor kernel: the decoder's weights are in it, and JavaScript computes the mean of p(x|z) wherever
    the point is dragged, by mouse, finger or arrow keys. Weights are rounded to 1/33,536 of the
    range of their row, so that the decoder 2-512-784 takes less than 1 MB; the picture equals
    PyTorch's to 1/255, which is checked on a grid over the plane before anything is shown.

    The model is read once, in evaluation mode: to see it after more training, make another
    explorer.

    Arguments:
        model: with two latent dimensions; its decoder a `BernoulliDecoder` or `GaussianDecoder` of
            images, of one channel or three, whose body is a sequence of `Linear`, `ReLU`, `Tanh`
            and `Sigmoid`.
        codes: (N, 2), for example `model.encoder(x).mean`; of more than 1,000, a random 1,000 are
            drawn.
        labels: (N,) integers of at most ten kinds, which codes are written and coloured by.

    Attributes:
        html: the fragment.

    Raises:
        ValueError: when the model is not of these kinds, takes 1 MB or more or cannot be drawn this
            exactly, or codes or labels do not fit.

    Example:
        >>> from vaelib import VAE
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16])
        >>> LatentExplorer(vae, torch.randn(50, 2), torch.arange(50) % 3)
        LatentExplorer(decoder 2-16-64, 50 codes; .html shows it)
    """

    def __init__(self, model: LatentVariableModel, codes: Tensor, labels: Tensor) -> None:
        points, kinds, indices = _read_codes(codes, labels)
        decoder, layers = _read_decoder(model)
        # N(0, I) has 99.7 % of either coordinate within 3.
        extent = math.ceil(10 * max(3.0, 1.05 * points.abs().max().item())) / 10
        with evaluating(model):
            packed, error = _pack_layers(decoder, layers, extent)
        if not error <= _MAX_ERROR:
            raise ValueError(
                f"model has weights too large to be rounded: its picture would be off by "
                f"{error:.2g}/255, and {_MAX_ERROR}/255 is allowed; train it for fewer epochs, or "
                "with a smaller hidden layer"
            )
        self.html = _fragment(points, kinds, indices, decoder, packed, extent)
        if (size := len(self.html.encode())) >= _MAX_BYTES:
            raise ValueError(
                f"model is too large for a page: {size:,} bytes, and fewer than {_MAX_BYTES:,} are "
                "allowed; a smaller hidden layer makes it fit"
            )
        widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
        self._text = f"decoder {'-'.join(map(str, [2, *widths]))}, {len(points):,} codes"

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"LatentExplorer({self._text}; .html shows it)"


def _read_codes(codes: Tensor, labels: Tensor) -> tuple[Tensor, list[str], Tensor]:
    """The codes, how each kind of label is written, and the kind of each code."""
    from vaelib.plots import PALETTE

    check_floats("codes", codes, "N ≥ 1", 2)
    check_classes("labels", labels, len(codes))
    kinds, indices = labels.cpu().unique(return_inverse=True)
    if len(kinds) > len(PALETTE):
        raise ValueError(f"labels must be of at most {len(PALETTE)} kinds, not {len(kinds)}")
    return codes.detach().cpu().double(), [str(kind) for kind in kinds.tolist()], indices


def _read_decoder(
    model: LatentVariableModel,
) -> tuple[BernoulliDecoder | GaussianDecoder, list[nn.Module]]:
    """The decoder, and the layers that turn z into its mean picture."""
    decoder: Any = getattr(model, "decoder", None)
    if not isinstance(decoder, BernoulliDecoder | GaussianDecoder):
        raise ValueError(
            f"model must have a BernoulliDecoder or a GaussianDecoder, not {type(decoder).__name__}"
        )
    if len(decoder.shape) != 3 or decoder.shape[0] not in (1, 3):
        raise ValueError(f"model must decode images, (1 or 3, H, W), not {decoder.shape}")
    if (event := model.prior.event_shape) != (2,):
        raise ValueError(f"model must have 2 latent dimensions, not {event.numel()}")
    body = decoder.body
    layers = list(body) if isinstance(body, nn.Sequential) else [body]
    for layer in layers:
        if type(layer) not in (nn.Linear, *_ACTIVATIONS):
            raise ValueError(
                "model must have a fully connected decoder, of Linear, ReLU, Tanh and Sigmoid, "
                f"but has {layer}"
            )
    return decoder, [*layers, nn.Sigmoid()] if isinstance(decoder, BernoulliDecoder) else layers


@torch.no_grad()
def _pack_layers(
    decoder: BernoulliDecoder | GaussianDecoder, layers: list[nn.Module], extent: float
) -> tuple[list[Any], float]:
    """The layers for JSON; and how far their picture is from PyTorch's, in grey levels."""
    axis = torch.linspace(-extent, extent, 41, dtype=torch.float64)
    x = z = torch.cartesian_prod(axis, axis)
    packed: list[Any] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.cpu().double()
            bias = (
                weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.cpu().to(weight)
            )
            packed_weight, weight = _pack(weight)
            packed_bias, bias = _pack(bias.unsqueeze(0))
            packed.append({"weight": packed_weight, "bias": packed_bias})
            x = x @ weight.T + bias
        else:
            packed.append(_ACTIVATIONS[type(layer)])
            x = layer(x)
    picture = decoder(z.to(next(decoder.body.parameters()))).mean.flatten(1).cpu().to(x)
    return packed, 255 * (x.clamp(0, 1) - picture.clamp(0, 1)).abs().max().item()


def _pack(matrix: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Rows (R, C) as integer multiples of a scale per row, in text; and the matrix as rounded.

    Three numbers in base 33,537 are one in base 87, of seven characters: 2.33 bytes per weight.
    Base64 would take 2.67 for 16 bits, and the decoder 2-512-784 more than 1 MB.
    """
    check_finite(**{"model's weights": matrix})
    half = _LEVELS // 2
    # Five digits suffice for a scale; their rounding may take one more level.
    scale = [float(f"{peak / (half - 1):.5g}") or 1.0 for peak in matrix.abs().amax(1).tolist()]
    steps = matrix.new_tensor(scale).unsqueeze(1)
    multiples = (matrix / steps).round()
    numbers = multiples.flatten().long() + half
    triples = nn.functional.pad(numbers, (0, -len(numbers) % 3)).view(-1, 3)
    whole = (triples * _LEVELS ** torch.arange(3)).sum(1, keepdim=True)
    digits = whole // len(_ALPHABET) ** torch.arange(6, -1, -1) % len(_ALPHABET)
    characters = torch.tensor(list(_ALPHABET.encode()), dtype=torch.uint8)[digits]
    text = characters.numpy().tobytes().decode()
    return {"columns": matrix.shape[1], "scale": scale, "text": text}, multiples * steps


def _fragment(
    points: Tensor,
    kinds: list[str],
    indices: Tensor,
    decoder: BernoulliDecoder | GaussianDecoder,
    layers: list[Any],
    extent: float,
) -> str:
    """The template with its data."""
    from vaelib.plots import PALETTE, moved_apart

    # At random, since every fourth example of a data set may be of the same few kinds.
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:_MAX_CODES]
    groups = [points[indices == kind] for kind in range(len(kinds))]
    medians = torch.stack([group.quantile(0.5, dim=0) for group in groups])
    apart = torch.from_numpy(moved_apart(medians.numpy(), 0.12 * extent))
    data = {
        "shape": decoder.shape,
        "extent": extent,
        "tick": math.ceil(extent / 5),
        "kinds": kinds,
        "colours": PALETTE[: len(kinds)],
        "codes": _marks(indices[chosen], points[chosen]),
        "medians": _marks(torch.arange(len(kinds)), apart),
        "alphabet": _ALPHABET,
        "levels": _LEVELS,
        "layers": layers,
    }
    template = files("vaelib").joinpath("explorer.html").read_text("utf-8")
    return template.replace("DATA", json.dumps(data, separators=(",", ":")))


def _marks(kinds: Tensor, points: Tensor) -> list[tuple[int, float, float]]:
    """(kind, z₁, z₂) of each, to hundredths."""
    places = points.mul(100).round().div(100).tolist()
    return [(kind, x, y) for kind, (x, y) in zip(kinds.tolist(), places, strict=True)]
