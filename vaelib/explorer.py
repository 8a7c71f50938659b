"""The latent explorer: walk over the latent plane, or draw a digit and see where it is encoded."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._checks import check_classes, check_finite, check_floats
from vaelib._modes import evaluating
from vaelib.autoencoder import Autoencoder
from vaelib.elbo import LatentVariableModel, evidence_lower_bound
from vaelib.networks import BernoulliDecoder, GaussianDecoder, GaussianEncoder
from vaelib.reparameterization import noise

__all__ = ["LatentExplorer"]

_ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}

# Printable ASCII without the characters that mean something in HTML, JSON or JavaScript.
_ALPHABET = "".join(c for c in map(chr, range(33, 127)) if c not in "\"&'<>\\`")
_LEVELS = 33_537  # the largest odd number whose cube is below 87⁷

_MAX_CODES = 1000
_MAX_BYTES = 1_000_000  # of each network
# In grey levels (255 is white). A canvas rounds by up to 0.5, and points between those that are
# checked may be off a little more; the sum stays below 1.
_MAX_ERROR = 0.4

_DRAWS = 32  # of z, for the reconstruction term of a drawn digit


class LatentExplorer:
    """An interactive picture of the latent plane and of what the decoder draws at a point in it.

    `html` is a fragment of a page, which notebooks and the book display. It needs neither a network
    connection nor a kernel: it holds the weights, and JavaScript computes the mean of p(x|z) where
    the point is dragged by mouse, finger or arrow keys. The whole manifold and circles of the prior
    can be switched on. The explorer opens in the middle of one label's codes, or at the code of the
    example with the highest bound.

    With `examples`, a digit can be drawn as well. The encoder's q(z|x) is shown as an ellipse and
    the two terms of the ELBO as numbers, the reconstruction averaged over 32 draws of z. With
    `autoencoder`, the plane of a plain autoencoder can be shown instead, with its holes.

    Weights are rounded to 1/33,536 of the range of their row, so that the decoder 2-512-784 takes
    less than 1 MB. The picture equals PyTorch's to 1/255; this is checked on a grid over the plane.

    The models are read once, in evaluation mode. To see them after more training, make another
    explorer.

    Arguments:
        model: with two latent dimensions, and a `BernoulliDecoder` or `GaussianDecoder` of images
            with one or three channels. The decoder's body is a sequence of `Linear`, `ReLU`, `Tanh`
            and `Sigmoid`.
        codes: (N, 2), for example `model.encoder(x).mean`. If there are more than 1,000, a random
            1,000 of them are drawn.
        labels: (N,) integers of at most ten kinds, by which codes are written and coloured.
        examples: (M, 1, H, W) images of 0 and 1 from which a drawing can begin, named by their
            number. The model then needs a `BernoulliDecoder`, and a `GaussianEncoder` of such
            layers.
        autoencoder: a plain `Autoencoder` of the same images, with two code numbers and such
            layers; and its codes (N, 2) of the same N images.

    Attributes:
        html: the fragment.

    Raises:
        ValueError: when a model is not of these kinds, a network takes 1 MB or more or cannot be
            drawn this exactly, or codes, labels or examples do not fit.

    Example:
        >>> from vaelib import VAE
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16])
        >>> LatentExplorer(vae, torch.randn(50, 2), torch.arange(50) % 3)
        LatentExplorer(decoder 2-16-64, 50 codes; .html shows it)
    """

    def __init__(
        self,
        model: LatentVariableModel,
        codes: Tensor,
        labels: Tensor,
        *,
        examples: Tensor | None = None,
        autoencoder: tuple[Autoencoder, Tensor] | None = None,
    ) -> None:
        from vaelib.plots import PALETTE

        points, kinds, indices = _read_codes(codes, labels)
        decoder, layers = _read_decoder(model)
        with evaluating(model):
            views = [_view("model", decoder, layers, points, indices)]
            drawing = {} if examples is None else _drawing(model, decoder, examples)
        if autoencoder is not None:
            views.append(_view_of_autoencoder(autoencoder, decoder.shape, indices))
        data = {
            "shape": decoder.shape,
            "kinds": kinds,
            "colours": PALETTE[: len(kinds)],
            "alphabet": _ALPHABET,
            "levels": _LEVELS,
            "views": views,
            **drawing,
        }
        self.html = _fragment(data)
        widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
        self._text = f"decoder {'-'.join(map(str, [2, *widths]))}, {len(points):,} codes"

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"LatentExplorer({self._text}; .html shows it)"


def _read_codes(codes: Tensor, labels: Tensor) -> tuple[Tensor, list[str], Tensor]:
    """The codes, the name of each kind of label, and the kind of each code."""
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
    layers = _layers("model", "decoder", decoder.body)
    return decoder, [*layers, nn.Sigmoid()] if isinstance(decoder, BernoulliDecoder) else layers


def _layers(name: str, part: str, body: nn.Module) -> list[nn.Module]:
    """The layers of a body, without those that reshape."""
    parts = [body] if not isinstance(body, nn.Sequential) else list(body)
    layers: list[nn.Module] = []
    for layer in parts:
        if isinstance(layer, nn.Sequential):
            layers += _layers(name, part, layer)
        elif type(layer) in (nn.Linear, *_ACTIVATIONS):
            layers.append(layer)
        elif not isinstance(layer, nn.Flatten if part == "encoder" else nn.Unflatten):
            raise ValueError(
                f"{name} must have a fully connected {part}, of Linear, ReLU, Tanh and Sigmoid, "
                f"but has {layer}"
            )
    return layers


def _view(
    name: str,
    decoder: Any,
    layers: list[nn.Module],
    points: Tensor,
    indices: Tensor,
) -> dict[str, Any]:
    """A plane: its codes, and the decoder of its points."""
    from vaelib.plots import moved_apart

    # N(0, I) has 99.7 % of either coordinate within 3.
    extent = math.ceil(10 * max(3.0, 1.05 * points.abs().max().item())) / 10
    axis = torch.linspace(-extent, extent, 41, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    packed, x = _pack_layers(name, layers, z)
    with torch.no_grad():
        drawn = decoder(z.to(next(decoder.parameters())))
    picture = getattr(drawn, "mean", drawn) if not isinstance(drawn, Tensor) else drawn
    difference = x.clamp(0, 1) - picture.flatten(1).cpu().to(x).clamp(0, 1)
    error = 255 * difference.abs().max().item()
    if not error <= _MAX_ERROR:
        raise ValueError(
            f"{name} has weights too large to be rounded: its picture would be off by "
            f"{error:.2g}/255, and {_MAX_ERROR}/255 is allowed; train it for fewer epochs, or "
            "with a smaller hidden layer"
        )
    # At random, since every n-th example of a data set may be of the same few kinds.
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:_MAX_CODES]
    groups = [points[indices == kind] for kind in range(int(indices.max()) + 1)]
    medians = torch.stack([group.quantile(0.5, dim=0) for group in groups])
    apart = torch.from_numpy(moved_apart(medians.numpy(), 0.12 * extent))
    return {
        "extent": extent,
        "tick": math.ceil(extent / 5),
        "start": _rounded(_amid_its_kind(points[chosen], indices[chosen])),
        "codes": _marks(indices[chosen], points[chosen]),
        "medians": _marks(torch.arange(len(groups)), apart),
        "layers": packed,
    }


def _view_of_autoencoder(
    given: tuple[Autoencoder, Tensor], shape: tuple[int, ...], indices: Tensor
) -> dict[str, Any]:
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[0], Autoencoder):
        raise ValueError(
            "autoencoder must be a pair, an Autoencoder and its codes (N, 2), "
            f"not {type(given).__name__}"
        )
    autoencoder, codes = given
    if autoencoder.code_dim != 2 or autoencoder.shape != shape:
        raise ValueError(
            f"autoencoder must have 2 code numbers and images {shape}, "
            f"not {autoencoder.code_dim} and {autoencoder.shape}"
        )
    check_floats("autoencoder's codes", codes, len(indices), 2)
    layers = _layers("autoencoder", "decoder", autoencoder.decoder)
    with evaluating(autoencoder):
        points = codes.detach().cpu().double()
        return _view("autoencoder", autoencoder.decoder, layers, points, indices)


@torch.no_grad()
def _drawing(model: Any, decoder: Any, examples: Tensor) -> dict[str, Any]:
    """The data for drawing: the encoder, images to begin with, and noise."""
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, GaussianEncoder) or not isinstance(decoder, BernoulliDecoder):
        raise ValueError(
            "model must have a GaussianEncoder and a BernoulliDecoder where examples are given, "
            f"not {type(encoder).__name__} and {type(decoder).__name__}"
        )
    check_floats("examples", examples, "M ≥ 1", 1, *decoder.shape[1:])
    if not ((examples == 0) | (examples == 1)).all():
        raise ValueError("examples must be of 0 and 1: binarise them")
    packed, _ = _pack_layers("model", _layers("model", "encoder", encoder.body))
    like = next(encoder.parameters())
    eps = noise((_DRAWS, 2), 0, torch.zeros(0))
    bound = evidence_lower_bound(
        model, examples.to(like), eps.to(like).unsqueeze(1).expand(-1, len(examples), -1)
    )
    rows = examples.flatten(1).int().tolist()
    return {
        "encoder": packed,
        "examples": [(f"example {i + 1}", "".join(map(str, row))) for i, row in enumerate(rows)],
        "example": int(bound.per_example.argmax()),  # so that it opens on a clear picture
        "noise": _rounded(eps),
    }


@torch.no_grad()
def _pack_layers(
    name: str, layers: list[nn.Module], x: Tensor | None = None
) -> tuple[list[Any], Any]:
    """The layers for JSON, and the output of the rounded layers for x."""
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
            x = None if x is None else x @ weight.T + bias
        else:
            packed.append(_ACTIVATIONS[type(layer)])
            x = None if x is None else layer(x)
    if (size := len(json.dumps(packed))) >= _MAX_BYTES:
        raise ValueError(
            f"{name} is too large for a page: {size:,} bytes, and fewer than {_MAX_BYTES:,} are "
            "allowed; a smaller hidden layer makes it fit"
        )
    return packed, x


def _pack(matrix: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Rows (R, C) as integer multiples of a scale per row, in text; and the rounded matrix.

    Three numbers in base 33,537 fit into seven digits in base 87: 2.33 bytes per weight. Base64
    would take 2.67 bytes for 16 bits, and the decoder 2-512-784 more than 1 MB.
    """
    check_finite(**{"model's weights": matrix})
    half = _LEVELS // 2
    # Five digits suffice for a scale; rounding it may take one more level.
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


def _amid_its_kind(points: Tensor, indices: Tensor) -> Tensor:
    """The code that lies deepest among codes of its own kind, where a picture is readable."""
    distance = torch.cdist(points, points)
    other = indices.unsqueeze(0) != indices.unsqueeze(1)
    nearest_other = distance.masked_fill(~other, torch.inf).amin(1)
    # If there is one kind only, or codes far from all others, this is the middle of the codes.
    crowded = distance.kthvalue(min(20, len(points)), dim=1).values
    return points[(nearest_other.clamp(max=1e6) - crowded).argmax()]


def _fragment(data: dict[str, Any]) -> str:
    """The template with its style, its script and its data."""
    folder = files("vaelib")
    html = folder.joinpath("explorer.html").read_text("utf-8")
    for place, text in {
        "STYLE": folder.joinpath("explorer.css").read_text("utf-8"),
        "SCRIPT": folder.joinpath("explorer.js").read_text("utf-8"),
        "DATA": json.dumps(data, separators=(",", ":")),
    }.items():
        html = html.replace(place, text, 1)
    return html


def _rounded(points: Tensor) -> Any:
    """Points rounded to hundredths, as the page shows them."""
    return points.mul(100).round().div(100).tolist()


def _marks(kinds: Tensor, points: Tensor) -> list[tuple[int, float, float]]:
    """(kind, z₁, z₂) of each point, to hundredths."""
    return [(kind, x, y) for kind, (x, y) in zip(kinds.tolist(), _rounded(points), strict=True)]
