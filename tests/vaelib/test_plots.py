from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from colours import VISION, contrast, difference
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.text import Text
from scipy.stats import chi2

from vaelib import generation, plots
from vaelib.history import History
from vaelib.vae import VAE

PAGES = {"white": "#ffffff", "dark": "#121212"}


def vae(latent_dim: int = 2, shape: tuple[int, ...] = (1, 6, 5)) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE(shape, latent_dim, hidden=[8])


def pictures(n: int, channels: int = 1) -> torch.Tensor:
    return torch.linspace(0, 1, n * channels * 30).view(n, channels, 6, 5)


def history(validation: bool = True, n_dims: int = 3) -> History:
    t = torch.arange(1.0, 5.0)
    return History(
        reconstruction=-100 / t,
        kl=t.unsqueeze(-1) * torch.arange(n_dims),
        beta=torch.ones(4),
        learning_rate=torch.full((4,), 1e-3),
        validation_elbo=-120 / t if validation else torch.tensor([]),
        active_units=torch.tensor([0, 1, 2, 2]),
        convention="static binarisation",
    )


CODES = torch.linspace(-2, 2, 120).view(60, 2)
LABELS = torch.arange(60) % 10
BOUNDS = {"prior": (-5.0, 3.0), "encoder": (-2.5, 0.5), "posterior": (-2.0, 0.0)}
X = torch.linspace(-3, 3, 50)

ON_AXES: dict[str, Callable[..., Axes]] = {
    "image_grid": lambda **ax: plots.image_grid(pictures(7), 3, **ax),
    "image_rows": lambda **ax: plots.image_rows({"a": pictures(4), "b": pictures(4)}, **ax),
    "manifold": lambda **ax: plots.manifold(vae(), 4, **ax),
    "latent_scatter": lambda **ax: plots.latent_scatter(CODES, LABELS, prior=True, **ax),
    "densities": lambda **ax: plots.densities(X, {"p": torch.exp(-X), "q": torch.exp(X)}, **ax),
    "bound_bars": lambda **ax: plots.bound_bars(BOUNDS, -2.0, **ax),
    "kl_per_dimension": lambda **ax: plots.kl_per_dimension(torch.tensor([0.1, 2.0, 1.0]), **ax),
}
FIGURES: dict[str, Callable[[], Figure]] = {
    "training_curves": lambda: plots.training_curves(history()),
    **{name: lambda draw=draw: draw().figure for name, draw in ON_AXES.items()},
}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    plt.close("all")


# Colours


def dimmed(rgb: np.ndarray) -> np.ndarray:
    """As the book's theme shows pictures on its dark pages: brightness(0.8) contrast(1.2)."""
    return np.clip((0.8 * rgb - 0.5) * 1.2 + 0.5, 0, 1)


def test_contrast_is_that_of_the_standard():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("seen", [lambda rgb: rgb, dimmed], ids=["as drawn", "dimmed"])
def test_every_colour_stands_out_from_the_paper(seen):
    assert min(contrast(colour, plots.PAPER, seen) for colour in plots.PALETTE) >= 3
    assert contrast(plots.GREY, plots.PAPER, seen) >= 4.5
    assert contrast(plots.INK, plots.PAPER, seen) >= 7


def test_no_text_could_do_without_paper():
    # Contrast is monotone in luminance, so the best on both is the geometric middle.
    assert contrast(*PAGES.values()) ** 0.5 == pytest.approx(4.33, abs=0.005)


@pytest.mark.parametrize("eye", VISION)
def test_colours_differ_for_every_eye(eye):
    # Small marks need several times what is just noticed.
    pairs = itertools.combinations(plots.PALETTE, 2)
    assert min(difference(a, b, eye) for a, b in pairs) > 15


def test_lines_differ_by_more_than_colour():
    with plots.style():
        _, ax = plt.subplots()
    lines = [ax.plot([0, 1])[0] for _ in range(10)]
    assert [line.get_color() for line in lines] == list(plots.PALETTE)
    dashes = [str(line._dash_pattern) for line in lines]
    assert len(set(dashes[:5])) == 5
    assert all(a != b for a, b in itertools.pairwise(dashes))


@pytest.mark.parametrize("name", FIGURES)
def test_words_read_whatever_the_callers_style(name):
    with plt.style.context("dark_background"):
        figure = FIGURES[name]()
        figure.canvas.draw()
    assert to_rgb(figure.get_facecolor()) == to_rgb(plots.PAPER)
    for ax in figure.axes:
        assert to_rgb(ax.get_facecolor()) == to_rgb(plots.PAPER)
    for text in figure.findobj(Text):
        if not text.get_text().strip() or not text.get_visible():
            continue
        on_bar = to_rgb(text.get_color()) == to_rgb(plots.PAPER)
        large = text.get_fontsize() >= 14 and text.get_weight() == "bold"
        ground = plots.PALETTE[0] if on_bar else plots.PAPER
        assert contrast(text.get_color(), ground) >= (3 if large else 4.5), text


# What all have in common


@pytest.mark.parametrize("name", FIGURES)
def test_settings_are_left_as_they_were(name):
    before = dict(matplotlib.rcParams)
    FIGURES[name]()
    assert dict(matplotlib.rcParams) == before
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", ON_AXES)
def test_the_callers_axes_are_drawn_on(name):
    figure, (left, right) = plt.subplots(1, 2)
    assert ON_AXES[name](ax=left) is left
    assert left.has_data()
    assert not right.has_data()
    assert plt.get_fignums() == [figure.number]


def test_tensors_may_need_gradients_and_be_of_any_kind():
    kl = torch.tensor([2.0, 1.0], dtype=torch.bfloat16, requires_grad=True)
    assert [bar.get_height() for bar in plots.kl_per_dimension(kl).patches] == [2.0, 1.0]


def test_the_library_does_without_matplotlib():
    check = "import sys, vaelib; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


BAD = {
    "no images": (lambda: plots.image_grid(pictures(0)), r"images must be \(N ≥ 1, C ≥ 1, H"),
    "one image": (lambda: plots.image_grid(pictures(1)[0]), r"but is \(1, 6, 5\)"),
    "two channels": (lambda: plots.image_grid(pictures(3, 2)), r"1 channel .* are \(3, 2, 6, 5\)"),
    "nan pixels": (lambda: plots.image_grid(pictures(3) / 0), "images must be finite"),
    "bytes": (
        lambda: plots.image_grid(pictures(3).byte()),
        r"images must be floating point, .*255",
    ),
    "bytes of an array": (
        lambda: plots.image_grid(pictures(3).byte().numpy()),
        r"images must be floating point, .*255",
    ),
    "no tensor": (lambda: plots.image_grid(object()), "images must be a tensor, but is object"),
    "no columns": (lambda: plots.image_grid(pictures(3), 0), "columns must be an integer"),
    "no rows": (lambda: plots.image_rows({}), "rows must hold at least one row"),
    "flat row": (
        lambda: plots.image_rows({"a": torch.zeros(3, 4)}),
        r"rows\['a'\] must be \(N ≥ 1, C",
    ),
    "uneven rows": (
        lambda: plots.image_rows({"a": pictures(3), "b": pictures(2)}),
        r"rows\['b'\] is \(2, 1, 6, 5\) and the first \(3, 1, 6, 5\)",
    ),
    "3-d manifold": (lambda: plots.manifold(vae(3)), "2 latent dimensions .* but has 3"),
    "no pictures": (lambda: plots.manifold(vae(shape=(7,))), r"pictures must be \(N ≥ 1, C ≥ 1"),
    "3-d codes": (lambda: plots.latent_scatter(torch.zeros(4, 3)), r"codes must be \(N ≥ 1, 2\)"),
    "nan codes": (lambda: plots.latent_scatter(CODES / 0), "codes must be finite"),
    "few labels": (lambda: plots.latent_scatter(CODES, LABELS[:3]), r"labels must be \(60,\)"),
    "many kinds": (lambda: plots.latent_scatter(CODES, torch.arange(60)), "at most 10 kinds, not"),
    "short curve": (lambda: plots.densities(X, {"p": X[:3]}), r"curves\['p'\] must be \(50,\)"),
    "no q": (lambda: plots.bound_bars({}, -1.0), "at least one q"),
    "negative KL": (lambda: plots.bound_bars({"q": (-1.0, -0.5)}, -1.5), "KL of at least 0"),
    "nan ELBO": (lambda: plots.bound_bars({"q": (float("nan"), 0.5)}, -1.5), "finite ELBO"),
    "no log p(x)": (lambda: plots.bound_bars(BOUNDS, float("inf")), "log_marginal must be finite"),
    "KL an example": (lambda: plots.kl_per_dimension(torch.zeros(5, 2)), r"kl must be \(K ≥ 1,\)"),
    "nothing seen": (
        lambda: plots.training_curves(History.empty("grey")),
        "at least one epoch",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named_and_leave_no_figure(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums()


# Images


def shown(ax: Axes, x: float, y: float) -> np.ndarray:
    """The colour drawn at a place of the axes."""
    (image,) = ax.get_images()
    left, right, bottom, top = image.get_extent()
    rows, columns = image.get_array().shape[:2]
    row = int((y - top) / (bottom - top) * rows)
    column = int((x - left) / (right - left) * columns)
    *rgb, alpha = np.asarray(image.get_array())[row, column]
    return alpha * np.array(rgb) + (1 - alpha) * np.array(to_rgb(plots.PAPER))


def tile(ax: Axes, i: int, j: int) -> np.ndarray:
    """The 6 × 5 pixels around the middle of tile j in row i, whose gap is one pixel."""
    return np.array(
        [[shown(ax, j + (b - 2) / 6, i + (a - 2.5) / 7) for b in range(5)] for a in range(6)]
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_read_like_a_text(channels):
    images = pictures(5, channels)
    ax = plots.image_grid(images, columns=3)
    for k in range(5):
        expected = images[k].expand(3, 6, 5).permute(1, 2, 0)
        np.testing.assert_allclose(tile(ax, k // 3, k % 3), expected, atol=1e-6)
    assert (tile(ax, 1, 2) == 1).all()  # the place that is left over is paper
    assert not ax.axison


def test_a_grid_is_as_wide_as_high_by_default():
    (image,) = plots.image_grid(torch.zeros(9, 1, 7, 7)).get_images()
    covered = np.asarray(image.get_array())[..., 3]
    between = np.isin(np.arange(23), [7, 15])  # a pixel, where the paper is seen
    np.testing.assert_array_equal(covered, ~(between | between[:, None]))


def test_pixels_stay_square():
    ax = plots.image_grid(pictures(4), 2)
    (image,) = ax.get_images()
    ax.figure.canvas.draw()
    rows, columns = image.get_array().shape[:2]
    assert ax.bbox.height / rows == pytest.approx(ax.bbox.width / columns, rel=0.01)


def test_noise_beyond_black_and_white_is_shown_as_these(caplog):
    ax = plots.image_grid(torch.stack([pictures(1)[0] - 5, pictures(1)[0] + 5]), 2)
    assert (tile(ax, 0, 0) == 0).all()
    assert (tile(ax, 0, 1) == 1).all()
    assert not caplog.records  # matplotlib would clip too, with a warning that stops the book


def test_rows_have_their_names():
    rows = {"data": pictures(4), "reconstruction": 1 - pictures(4)}
    ax = plots.image_rows(rows)
    ticks = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    for i, (tick, label) in enumerate(ticks):
        assert tick == i
        np.testing.assert_allclose(tile(ax, i, 2)[..., 0], rows[label.get_text()][2, 0], atol=1e-6)


def test_manifold_shows_each_picture_at_its_z():
    model, n = vae(), 5
    ax = plots.manifold(model, n, tail=0.1)
    expected = generation.manifold(model, n, tail=0.1)
    (image,) = ax.get_images()
    pixels = np.asarray(image.get_array()).reshape(n, 6, n, 5, 4).swapaxes(1, 2)
    np.testing.assert_allclose(pixels[..., 0], expected[:, :, 0], atol=1e-6)
    grid = generation.latent_grid(n, tail=0.1)
    for axis, places in ((ax.xaxis, grid[0, :, 0]), (ax.yaxis, grid[:, 0, 1])):
        labels = [label.get_text().replace("−", "-") for label in axis.get_ticklabels()]
        assert labels == [f"{z:.1f}" for z in places]
    assert ax.get_ylim() == (n - 0.5, -0.5)  # the first row on top, where z₂ is largest


@pytest.mark.parametrize("n", [9, 10, 11, 15, 20, 30])
def test_a_large_manifold_keeps_ticks_apart_and_even(n):
    ax = plots.manifold(vae(), n)
    for axis in (ax.xaxis, ax.yaxis):
        shown = [bool(label.get_text()) for label in axis.get_ticklabels()]
        assert 3 <= sum(shown) <= 7
        assert shown == shown[::-1]
        assert len(np.unique(np.diff(np.flatnonzero(shown)))) == 1


# Codes


def test_codes_are_written_as_their_labels():
    labels = torch.tensor([3, 8, 3, 0]).repeat(15)
    ax = plots.latent_scatter(CODES, labels)
    assert [text.get_text() for text in ax.texts] == ["0", "3", "8"]
    for kind, marks, colour in zip((0, 3, 8), ax.collections, plots.PALETTE, strict=False):
        np.testing.assert_allclose(marks.get_offsets(), CODES[labels == kind], atol=1e-6)
        assert to_rgb(marks.get_facecolor()) == to_rgb(colour)
    outlines = {marks.get_paths()[0].vertices.tobytes() for marks in ax.collections}
    assert len(outlines) == 3
    assert ax.get_aspect() == 1


def test_large_labels_sit_at_the_medians_unless_they_would_cover_one_another():
    far = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    codes = torch.cat([far, far[:1]]).repeat(5, 1)
    ax = plots.latent_scatter(codes, torch.tensor([1, 2, 3, 4]).repeat(5))
    places = np.array([text.get_position() for text in ax.texts])
    np.testing.assert_allclose(places[[1, 2]], far[1:], atol=0.01)
    assert np.linalg.norm(places[0] - places[3]) > 0.5
    np.testing.assert_allclose(places[[0, 3]], 0, atol=0.5)


def test_circles_hold_the_mass_of_the_prior_that_they_say():
    ax = plots.latent_scatter(CODES, prior=True)
    circles = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert len(circles) == len(ax.texts) == 2
    for circle, text in zip(circles, ax.texts, strict=True):
        mass = chi2.cdf(circle.radius**2, df=2)
        assert f"{mass:.0%}" == text.get_text()
    assert not plots.latent_scatter(CODES).patches


# Curves and bars


def test_densities_are_drawn_by_name():
    curves = {"prior": torch.exp(-X.square()), "posterior": torch.exp(-((X - 1) ** 2))}
    ax = plots.densities(X, curves)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(curves)
    for line, name in zip(ax.lines, curves, strict=True):
        np.testing.assert_allclose(line.get_xdata(), X)
        np.testing.assert_allclose(line.get_ydata(), curves[name])
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()


def test_bars_add_up_to_log_p():
    ax = plots.bound_bars(BOUNDS, -2.0)
    elbo, kl = ax.patches[:3], ax.patches[3:]
    for bound, gap, (name, values) in zip(elbo, kl, BOUNDS.items(), strict=True):
        assert bound.get_x() + bound.get_width() == pytest.approx(values[0])
        assert gap.get_x() == pytest.approx(values[0])
        assert gap.get_x() + gap.get_width() == pytest.approx(sum(values)), name
        assert gap.get_hatch()
        assert not bound.get_hatch()
        assert bound.get_x() < min(b for b, _ in BOUNDS.values())
    (line,) = ax.lines
    assert set(line.get_xdata()) == {-2.0}
    words = " ".join(text.get_text() for text in ax.texts)
    for number in ("ELBO −5.000", "KL 3.000", "ELBO −2.500", "KL 0.500", "log p(x) = −2.000"):
        assert number in words
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == list(BOUNDS)


def test_bars_do_not_make_the_identity_true():
    ax = plots.bound_bars({"wrong": (-5.0, 1.0)}, -2.0)
    assert ax.patches[1].get_x() + ax.patches[1].get_width() == pytest.approx(-4.0)


def test_kl_of_each_dimension_keeps_its_number():
    kl = torch.tensor([0.5, 3.0, 0.0, 1.25])
    ax = plots.kl_per_dimension(kl)
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == sorted(kl.tolist(), reverse=True)
    for height, label in zip(heights, ax.get_xticklabels(), strict=True):
        assert kl[int(label.get_text()) - 1] == height
    assert ax.get_title(loc="left") == "4.75 nats in all"


def test_many_dimensions_go_without_numbers():
    ax = plots.kl_per_dimension(torch.ones(50))
    assert not any(label.get_text() for label in ax.get_xticklabels())


def test_training_curves_show_the_history():
    seen = history()
    figure = plots.training_curves(seen)
    elbo, reconstruction, kl = figure.axes
    curves = [
        (elbo.lines[0], seen.elbo),
        (elbo.lines[1], seen.validation_elbo),
        (reconstruction.lines[0], seen.reconstruction),
        (kl.lines[0], seen.kl.sum(1)),
        *zip(kl.lines[1:], seen.kl.T, strict=True),
    ]
    for line, values in curves:
        np.testing.assert_allclose(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_allclose(line.get_ydata(), values)
    assert "static binarisation" in elbo.get_title(loc="left")
    assert "2 of 3 active" in kl.get_title(loc="left")
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in (elbo, kl)]
    assert legends == [["training", "validation"], ["sum", "each dimension"]]


def test_training_without_validation_has_one_elbo():
    elbo, *_ = plots.training_curves(history(validation=False)).axes
    assert len(elbo.lines) == 1
    assert elbo.get_legend() is None


def test_the_style_keeps_a_backend_that_it_made_load() -> None:
    # A notebook's backend turns this on when the first figure is made, be it inside a style.
    before = matplotlib.is_interactive()
    try:
        matplotlib.interactive(False)
        with plots.style():
            matplotlib.interactive(True)
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(before)
