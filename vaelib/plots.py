"""Figures for the book. Each function draws on the caller's axes or on new ones, and returns them.

A figure has a white background, so that it looks the same in every notebook and in print. (On a
transparent background no colour of text would do: WCAG 2.2 asks for a contrast of 4.5 : 1, and the
most that one colour reaches on both white and #121212 is 4.33 : 1.) The book's dark pages have
their own counterpart of each colour. Colour is never the only sign: line styles, hatches or words
repeat it.

`import vaelib` does not import this module, so the library works without matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from numpy.typing import NDArray
from torch import Tensor

from vaelib import generation
from vaelib._checks import check_at_least, check_floating, check_floats
from vaelib.elbo import LatentVariableModel

if TYPE_CHECKING:
    from vaelib.history import History

__all__ = [
    "DECODER",
    "ENCODER",
    "GREY",
    "INK",
    "NOISE",
    "PALETTE",
    "PAPER",
    "PRIOR",
    "bound_bars",
    "densities",
    "image_grid",
    "image_rows",
    "kl_per_dimension",
    "latent_scatter",
    "manifold",
    "style",
    "training_curves",
]

INK, GREY, PAPER = "#1f1f1f", "#5f5f5f", "#ffffff"

PALETTE = (
    "#0072b2",  # blue, vermillion, bluish green and reddish purple of Okabe & Ito (2008): ...
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#2b2b2b",  # ... the others there are too light for lines on white; these are distinct.
    "#8e5af5",
    "#6b4a00",
    "#e8154f",
    "#00227d",
    "#8e1d6c",
)
"""Ten colours, in order of use. Each has a contrast of at least 3 : 1 with the paper, and can be
told from every other, also by colour-blind readers."""

ENCODER, DECODER, PRIOR, NOISE = PALETTE[:4]
"""The colours of q(z|x), p(x|z), p(z) and ε in all figures and diagrams. The posterior is `GREY`,
and the data are `INK`."""

_LINES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))

_STYLE: Any = {
    "axes.edgecolor": GREY,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=PALETTE) + cycler(linestyle=_LINES * 2),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "font.size": 10,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "auto",
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Use the style of the book's figures for axes made inside the `with`.

    Successive `ax.plot` calls use the colours of `PALETTE`, each with its own line style.

    Example:
        >>> with style():
        ...     fig, (left, right) = plt.subplots(1, 2, figsize=(6, 2.5))
        >>> plt.close(fig)
    """
    try:
        with matplotlib.rc_context(_STYLE):
            try:
                yield
            finally:
                interactive = matplotlib.is_interactive()
    finally:
        # The first figure loads the backend, which may make matplotlib interactive. If this were
        # undone with the rest, no later figure would be shown.
        matplotlib.interactive(interactive)


@style()
def image_grid(images: Tensor, columns: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw images in rows, in reading order.

    Arguments:
        images: (N, C, H, W), grey (C = 1) or colour (C = 3). 0 is black and 1 is white; values
            outside [0, 1] are clipped.
        columns: images per row; by default about as many as rows.
        ax: axes to draw on; new ones by default, as in all functions here.

    Raises:
        ValueError: when the images have another shape or are not finite, or columns is below 1.

    Example:
        >>> ax = image_grid(torch.eye(8).expand(10, 1, 8, 8), columns=5)
        >>> plt.close(ax.figure)
    """
    pixels = _pixels("images", images)
    columns = math.ceil(len(pixels) ** 0.5) if columns is None else columns
    check_at_least(1, columns=columns)
    ax = _draw_tiles([pixels[i : i + columns] for i in range(0, len(pixels), columns)], ax)
    ax.set_axis_off()
    return ax


@style()
def image_rows(rows: Mapping[str, Tensor], ax: Axes | None = None) -> Axes:
    """Draw named rows of images that belong together column by column.

    Use it for data above their reconstructions, means above noisy draws, or one walk above another.

    Arguments:
        rows: name → (N, C, H, W) as for `image_grid`, all of the same shape.

    Raises:
        ValueError: when a row is not a batch of images, or its shape differs from the first row's.

    Example:
        >>> x = torch.eye(8).expand(6, 1, 8, 8)
        >>> ax = image_rows({"data": x, "reconstruction": 1 - x})
        >>> plt.close(ax.figure)
    """
    if not rows:
        raise ValueError("rows must hold at least one row of images")
    tiles = [_pixels(f"rows[{name!r}]", images) for name, images in rows.items()]
    for name, tile in zip(rows, tiles, strict=True):
        if tile.shape != tiles[0].shape:
            raise ValueError(
                f"rows must have the same shape, but rows[{name!r}] is {tuple(rows[name].shape)} "
                f"and the first {tuple(next(iter(rows.values())).shape)}"
            )
    ax = _draw_tiles(tiles, ax)
    _label_tiles(ax, y=list(rows))
    return ax


@style()
def manifold(
    model: LatentVariableModel, n: int = 15, tail: float = 0.05, ax: Axes | None = None
) -> Axes:
    """Draw the pictures of `vaelib.manifold` at their places in the latent plane.

    Ticks give z at the middle of a picture. They are evenly spaced in prior mass, not in z.

    Arguments:
        model, n, tail: as for `vaelib.manifold`.

    Raises:
        ValueError: as `vaelib.manifold`; or when the model's observations are not images.

    Example:
        >>> from vaelib import VAE
        >>> ax = manifold(VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16]), n=4)
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('$z_1$', '$z_2$')
        >>> plt.close(ax.figure)
    """
    pictures = generation.manifold(model, n, tail)
    tiles = [_pixels("the model's pictures", row) for row in pictures]
    ax = _draw_tiles(tiles, ax, gap=0)
    z = [f"{value:.1f}".replace("-", "−") for value in generation.latent_grid(n, tail)[0, :, 0]]
    every = max(1, round(n / 5))
    # Counted from the middle: a picture at 0 if n is odd, otherwise between two pictures.
    every, start = (every, 0) if n % 2 else (every | 1, every | 1)
    shown = [v if abs(2 * i - n + 1) % (2 * every) == start else "" for i, v in enumerate(z)]
    _label_tiles(ax, x=shown, y=shown[::-1])
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    return ax


@style()
def latent_scatter(
    codes: Tensor, labels: Tensor | None = None, *, prior: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw codes in the latent plane as their labels, with a large label at each label's median.

    Large labels that would overlap are moved apart.

    Arguments:
        codes: (N, 2).
        labels: (N,) integers of at most ten kinds; without labels, codes are dots.
        prior: whether to draw the circles that hold 50 % and 95 % of N(0, I).

    Raises:
        ValueError: when a shape does not fit, codes are not finite, or there are more than ten
            kinds of labels.

    Example:
        >>> codes = torch.linspace(-2, 2, 120).view(60, 2)
        >>> ax = latent_scatter(codes, torch.arange(60) % 3, prior=True)
        >>> plt.close(ax.figure)
    """
    points = _array("codes", codes, "N", 2)
    classes = None if labels is None else _array("labels", labels, len(points))
    kinds = np.unique([] if classes is None else classes)
    if len(kinds) > len(PALETTE):
        raise ValueError(f"labels must be of at most {len(PALETTE)} kinds, not {len(kinds)}")
    ax = _axes(ax, 5.0, 5.0)
    if prior:
        _draw_prior(ax)
    if classes is None:
        ax.scatter(points[:, 0], points[:, 1], s=6, color=PALETTE[0], linewidths=0)
    else:
        groups = [points[classes == kind] for kind in kinds]
        size = float(np.clip(30_000 / len(points), 14, 34))
        for group, kind, colour in zip(groups, kinds, PALETTE, strict=False):
            x, y = group.T
            ax.scatter(x, y, s=size, color=colour, marker=f"${kind:g}$", linewidths=0)
        medians = np.array([np.median(group, axis=0) for group in groups])
        medians = moved_apart(medians, 0.06 * np.ptp(points, axis=0).max())
        large: Any = {"fontsize": 17, "weight": "bold", "ha": "center", "va": "center"}
        for (x, y), kind, colour in zip(medians, kinds, PALETTE, strict=False):
            _halo(ax.text(x, y, f"{kind:g}", color=colour, **large))
    ax.set_aspect("equal")
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    return ax


@style()
def densities(x: Tensor, curves: Mapping[str, Tensor], ax: Axes | None = None) -> Axes:
    """Draw named curves over the same x, lightly filled down to 0.

    Arguments:
        x: (T,) ascending points at which the curves were computed.
        curves: name → (T,) densities, or other functions to compare with them.

    Raises:
        ValueError: when a shape does not fit or a value is not finite.

    Example:
        >>> x = torch.linspace(-3, 3, 101)
        >>> ax = densities(x, {"prior": torch.exp(-x**2 / 2) / (2 * torch.pi) ** 0.5})
        >>> plt.close(ax.figure)
    """
    at = _array("x", x, "T")
    values = {name: _array(f"curves[{name!r}]", y, len(at)) for name, y in curves.items()}
    ax = _axes(ax, 5.5, 2.8)
    for name, y in values.items():
        (line,) = ax.plot(at, y, label=name)
        ax.fill_between(at, y, color=line.get_color(), alpha=0.12, linewidth=0)
    ax.legend()
    return ax


@style()
def bound_bars(
    bounds: Mapping[str, tuple[float, float]], log_marginal: float, ax: Axes | None = None
) -> Axes:
    """Draw log p(x) = ELBO + KL(q ‖ posterior), as a bar of two parts for each q.

    The three numbers are drawn as given, so the bars end at the line of log p(x) only if the
    identity holds.

    Arguments:
        bounds: name of q → its ELBO and its KL(q ‖ posterior), in nats.
        log_marginal: log p(x), in nats.

    Raises:
        ValueError: when there is no q, a number is not finite or a KL is negative.

    Example:
        >>> ax = bound_bars({"prior": (-5.0, 3.0), "encoder": (-2.5, 0.5)}, log_marginal=-2.0)
        >>> plt.close(ax.figure)
    """
    if not bounds:
        raise ValueError("bounds must hold the ELBO and the KL of at least one q")
    for name, (elbo, kl) in bounds.items():
        if not (math.isfinite(elbo) and math.isfinite(kl) and kl >= -1e-6):
            raise ValueError(
                f"bounds[{name!r}] must be a finite ELBO and a KL of at least 0, not {(elbo, kl)}"
            )
    if not math.isfinite(log_marginal):
        raise ValueError(f"log_marginal must be finite, not {log_marginal}")
    elbo, kl = np.array(list(bounds.values()), dtype=float).T
    rows = range(len(bounds))
    ax = _axes(ax, 6.0, 0.7 + 0.5 * len(bounds))
    # Log-densities have no natural zero, so bars start at the left edge of the axes.
    span = max(log_marginal - elbo.min(), 1e-3 * abs(log_marginal), 1e-3)
    left = elbo.min() - 0.6 * span
    ax.barh(rows, elbo - left, left=left, height=0.62, color=PALETTE[0])
    ax.barh(rows, kl, left=elbo, height=0.62, color=PAPER, edgecolor=GREY, hatch="////")
    ax.axvline(log_marginal, color=INK, linewidth=1.2, linestyle="--")
    for row in rows:
        ax.text(elbo[row], row, f"ELBO {_number(elbo[row])} ", color=PAPER, ha="right", va="center")
        ax.text(elbo[row] + kl[row], row, f"  KL {_number(kl[row])}", va="center")
    ax.text(log_marginal, -0.6, f"log p(x) = {_number(log_marginal)}", ha="center", va="bottom")
    ax.set_yticks(rows, list(bounds))
    ax.set(xlim=(left, log_marginal + 0.3 * span), ylim=(len(bounds) - 0.5, -0.5), xlabel="nats")
    ax.spines["left"].set_visible(False)
    ax.tick_params("y", length=0)
    return ax


@style()
def kl_per_dimension(kl: Tensor, ax: Axes | None = None) -> Axes:
    """Draw the KL to the prior of each latent dimension, the largest first.

    Arguments:
        kl: (K,) in nats, for example `bound.kl.mean(0)`.

    Raises:
        ValueError: when kl is not (K,) or not finite.

    Example:
        >>> ax = kl_per_dimension(torch.tensor([0.01, 2.5, 1.5]))
        >>> ax.get_title(loc="left")
        '4.01 nats in all'
        >>> plt.close(ax.figure)
    """
    nats = _array("kl", kl, "K")
    order = np.argsort(-nats, kind="stable")
    ax = _axes(ax, 5.5, 2.8)
    ax.bar(range(len(nats)), nats[order], color=PALETTE[0], width=0.8)
    ax.set(xlabel="latent dimension", ylabel="KL to the prior (nats)")
    ax.set_title(f"{nats.sum():.2f} nats in all", loc="left")
    # With more than thirty dimensions, numbers under the bars would overlap.
    names = [str(k + 1) if len(nats) <= 30 else "" for k in order]
    ax.set_xticks(range(len(nats)), names)
    ax.tick_params("x", length=0)
    return ax


@style()
def training_curves(history: History) -> Figure:
    """Draw the history of `fit`: the ELBO and its two terms, epoch by epoch.

    The KL is drawn as a sum and, in thin lines, for each latent dimension. A line at 0 is a
    dimension that the model does not use.

    Arguments:
        history: as returned by `vaelib.fit`.

    Raises:
        ValueError: when the history holds no epoch.

    Example:
        >>> from vaelib.history import History
        >>> history = History(
        ...     reconstruction=torch.tensor([-200.0, -150.0]),
        ...     kl=torch.tensor([[1.0, 0.5], [3.0, 2.5]]),
        ...     beta=torch.ones(2),
        ...     learning_rate=torch.full((2,), 1e-3),
        ...     validation_elbo=torch.tensor([-180.0, -160.0]),
        ...     active_units=torch.tensor([1, 2]),
        ...     convention="dynamic binarisation",
        ... )
        >>> figure = training_curves(history)
        >>> [ax.get_title(loc="left") for ax in figure.axes]
        ['ELBO (dynamic binarisation)', 'Reconstruction', 'KL to the prior (2 of 2 active)']
        >>> plt.close(figure)
    """
    if not len(history.epochs):
        raise ValueError("history must hold at least one epoch")
    epochs = _array("history.epochs", history.epochs, "E")
    kl = _array("history.kl", history.kl, len(epochs), "K")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(8.5, 2.6), sharex=True)
    left.plot(epochs, _array("history.elbo", history.elbo, len(epochs)), label="training")
    if len(history.validation_elbo):
        validation = _array("history.validation_elbo", history.validation_elbo, len(epochs))
        left.plot(epochs, validation, label="validation")
        left.legend()
    middle.plot(epochs, _array("history.reconstruction", history.reconstruction, len(epochs)))
    right.plot(epochs, kl.sum(1), label="sum")
    each, *_ = right.plot(epochs, kl, color=GREY, linestyle="-", linewidth=0.8)
    each.set_label("each dimension")
    right.legend()
    active = int(history.active_units[-1])
    known = f" ({active} of {kl.shape[1]} active)" if active >= 0 else ""
    titles = f"ELBO ({history.convention})", "Reconstruction", f"KL to the prior{known}"
    for ax, title in zip((left, middle, right), titles, strict=True):
        ax.set(xlabel="epoch", ylabel="nats")
        ax.set_title(title, loc="left")
        ax.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _array(name: str, value: Tensor, *shape: str | int) -> NDArray[np.float64]:
    """Convert `value` for matplotlib and check its shape; a letter stands for any size but 0."""
    try:
        value = torch.as_tensor(value).detach().cpu().double()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a tensor, but is {type(value).__name__}") from error
    check_floats(name, value, *[size if isinstance(size, int) else f"{size} ≥ 1" for size in shape])
    array: NDArray[np.float64] = value.numpy()
    return array


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The caller's axes, or those of a new figure of that size in inches."""
    return plt.figure(figsize=(width, height)).add_subplot() if ax is None else ax


def _pixels(name: str, images: Tensor) -> NDArray[np.float64]:
    """Images as (N, H, W, 3) between 0 and 1."""
    if str(getattr(images, "dtype", "")).endswith("uint8"):  # of torch, or of NumPy
        check_floating(**{name: torch.as_tensor(images)})  # refused, since white is not 1 there
    array = _array(name, images, "N", "C", "H", "W")
    if array.shape[1] not in (1, 3):
        raise ValueError(
            f"{name} must have 1 channel (grey) or 3 (colour), but are {tuple(images.shape)}"
        )
    array = np.broadcast_to(array.transpose(0, 2, 3, 1), (*array.shape[:1], *array.shape[2:], 3))
    return array.clip(0, 1)


def _draw_tiles(tiles: list[NDArray[np.float64]], ax: Axes | None, gap: int | None = None) -> Axes:
    """One picture of rows of tiles; the middle of tile j in row i is at (j, i)."""
    rows, columns = len(tiles), max(map(len, tiles))
    height, width = tiles[0].shape[1:3]
    gap = max(1, round(width / 14)) if gap is None else gap
    pitch_y, pitch_x = height + gap, width + gap
    canvas = np.ones((rows * pitch_y - gap, columns * pitch_x - gap, 4))
    canvas[..., 3] = 0  # the paper is seen between the tiles
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            y, x = i * pitch_y, j * pitch_x
            canvas[y : y + height, x : x + width, :3] = tile
            canvas[y : y + height, x : x + width, 3] = 1
    inches = min(6.0, 0.9 * columns)
    ax = _axes(ax, inches, inches * canvas.shape[0] / canvas.shape[1])
    right, bottom = columns - 1 + width / pitch_x / 2, rows - 1 + height / pitch_y / 2
    extent = (columns - 1 - right, right, bottom, rows - 1 - bottom)
    ax.imshow(canvas, extent=extent, aspect=pitch_y / pitch_x)
    ax.spines[:].set_visible(False)
    return ax


def _label_tiles(ax: Axes, x: list[str] | None = None, y: list[str] | None = None) -> None:
    ax.set_xticks(range(len(x or ())), x or ())
    ax.set_yticks(range(len(y or ())), y or ())
    ax.tick_params(length=0)


def _draw_prior(ax: Axes) -> None:
    for mass, line in ((0.50, "-"), (0.95, "--")):
        radius = math.sqrt(-2 * math.log(1 - mass))  # P(‖z‖ < r) = 1 − exp(−r²/2) in the plane
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GREY, linestyle=line, zorder=3))
        _halo(ax.text(0, -radius, f"{mass:.0%}", ha="center", va="center", fontsize=9))


def moved_apart(points: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Points (N, 2) pushed apart until no two are nearer to each other than about `distance`."""
    # First moved to an invisibly small circle, so that equal points have a direction to move in.
    turn = np.arange(len(points))
    points = points + 1e-3 * distance * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    for _ in range(50):
        gaps = points[:, None] - points
        lengths = np.linalg.norm(gaps, axis=-1, keepdims=True)
        push = np.where(lengths > 0, (distance - lengths).clip(0) / (2 * lengths + 1e-12), 0)
        points = points + (push * gaps).sum(1)
    return points


def _halo(text: Text) -> None:
    """Draw a white outline around letters, so that they can be read on any background."""
    text.set_path_effects([withStroke(linewidth=3, foreground=PAPER)])


def _number(value: float) -> str:
    """A number with a true minus sign."""
    return f"{value:.3f}".replace("-", "−")
