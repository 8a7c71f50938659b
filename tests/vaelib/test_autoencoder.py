"""Autoencoders: the linear one is PCA, training is honest, the experiment is fair."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from laws import assert_well_behaved
from statistical import assert_mean_equals
from torch import Tensor, nn

from vaelib.autoencoder import (
    Autoencoder,
    fit_autoencoder,
    linear_autoencoder_weights,
    random_codes,
    reconstruction_error,
)
from vaelib.data import Images, load_dataset

NETWORKS = ["linear", "sigmoid", "deep", "convolutional"]
every_network = pytest.mark.parametrize("network", NETWORKS)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Parameters are drawn from the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def digits(device: torch.device) -> Images:
    return load_dataset("digits", device=device)


def pixels_near_a_plane(device: torch.device, n: int = 200) -> Images:
    """Pixels (N, 1, 3, 4) that vary most along 2 of 12 directions."""
    g = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(12, 12, generator=g))[0]
    scales = torch.tensor([60.0, 45.0, 15.0, *[5.0] * 9])
    x = 128 + torch.randn(n, 12, generator=g) * scales @ directions.mT
    pixels = x.round().clamp(0, 255).to(torch.uint8).view(n, 1, 3, 4)
    return Images(pixels.to(device), torch.zeros(n, dtype=torch.int64).to(device), "plane", "train")


def mean_error(autoencoder: Autoencoder, images: Images) -> float:
    with torch.no_grad():
        x = images.floats()
        return reconstruction_error(x, autoencoder(x)).mean().item()


# Reconstruction error


def test_error_is_the_squared_distance_of_each_row(device, generator):
    x = torch.randn(5, 2, 3, 4, generator=generator, device=device, dtype=torch.float64)
    y = torch.randn(5, 2, 3, 4, generator=generator, device=device, dtype=torch.float64)
    distances = torch.stack([torch.linalg.vector_norm(a - b) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(reconstruction_error(x, y), distances.square())
    torch.testing.assert_close(reconstruction_error(x[:, 0, 0, 0], y[:, 0, 0, 0]).shape, (5,))
    assert_well_behaved(reconstruction_error, x, y)


def test_error_refuses_what_it_would_broadcast_or_round():
    with pytest.raises(ValueError, match=r"x_hat must have the same shape.*\(5, 1\).*\(5, 4\)"):
        reconstruction_error(torch.zeros(5, 1), torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"x must be floating point.*uint8"):
        reconstruction_error(torch.zeros(5, 4, dtype=torch.uint8), torch.zeros(5, 4))


# PCA


def correlated(device: torch.device, n: int = 50, d: int = 7) -> Tensor:
    g = torch.Generator().manual_seed(2)
    x = torch.randn(n, d, generator=g, dtype=torch.float64) @ torch.randn(
        d, d, generator=g, dtype=torch.float64
    )
    return (x + torch.arange(1, d + 1)).to(device)


def linear_error(x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
    centred = x - mean
    return reconstruction_error(centred, centred @ weights @ weights.mT).sum()


@pytest.mark.parametrize("k", [1, 3, 7])
def test_weights_span_the_leading_eigenvectors_of_the_covariance(device, k):
    x = correlated(device)
    mean, w = linear_autoencoder_weights(x, k)
    assert w.shape == (7, k)
    eigenvalues, eigenvectors = torch.linalg.eigh(x.mT.cov(correction=0))
    leading = eigenvectors[:, -k:]
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(w.mT @ w, torch.eye(k).to(w))
    torch.testing.assert_close(w @ w.mT, leading @ leading.mT)
    # Largest variance first.
    torch.testing.assert_close(((x - mean) @ w).var(0, correction=0), eigenvalues.flip(0)[:k])
    torch.testing.assert_close(linear_error(x, mean, w), len(x) * eigenvalues[:-k].sum())


def test_no_other_subspace_or_offset_does_better(device, generator):
    x = correlated(device)
    mean, w = linear_autoencoder_weights(x, 3)
    least = linear_error(x, mean, w)
    for size in (1e-3, 1e-1, 10.0):
        for _ in range(20):
            noise = torch.randn(8, 7, generator=generator, device=device, dtype=x.dtype) * size
            turned = torch.linalg.qr(w + noise[:3].mT)[0]
            assert linear_error(x, mean, turned) > least
            assert linear_error(x, mean + noise[7], w) > least


def test_more_directions_than_examples_still_give_orthonormal_columns(device):
    x = correlated(device, n=4)
    _, w = linear_autoencoder_weights(x, 4)  # the centred rows span 3 dimensions
    torch.testing.assert_close(w.mT @ w, torch.eye(4).to(w))


def test_pca_keeps_dtype_and_inputs(device):
    x = correlated(device)
    assert_well_behaved(lambda x: linear_autoencoder_weights(x, 2)[0], x)
    assert_well_behaved(lambda x: (w := linear_autoencoder_weights(x, 2)[1]) @ w.mT, x)


@pytest.mark.parametrize(
    ("x", "k", "message"),
    [
        (torch.zeros(5, 1, 2, 3), 1, r"x must be \(N, D\), but is \(5, 1, 2, 3\).*flatten"),
        (torch.zeros(5, 4, dtype=torch.int64), 1, "x must be floating point"),
        (torch.full((5, 4), math.nan), 1, "x must be finite"),
        (torch.zeros(5, 4), 0, "k must be an integer of at least 1, not 0"),
        (torch.zeros(3, 4), 4, "k must be from 1 to 3.*not 4"),
    ],
)
def test_pca_names_what_is_wrong(x, k, message):
    with pytest.raises(ValueError, match=message):
        linear_autoencoder_weights(x, k)


# The networks


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        *((network, shape) for network in NETWORKS for shape in [(1, 8, 8), (3, 7, 10)]),
        *((network, (12,)) for network in NETWORKS if network != "convolutional"),
    ],
)
def test_codes_and_reconstructions_have_their_shapes(device, network, shape):
    autoencoder = Autoencoder(shape, code_dim=5, network=network).to(device)
    x = torch.rand(4, *shape, device=device)
    h = autoencoder.encode(x)
    assert h.shape == (4, 5)
    assert autoencoder.decode(h).shape == x.shape
    torch.testing.assert_close(autoencoder(x), autoencoder.decode(h))
    torch.testing.assert_close(autoencoder(x[1:2]), autoencoder(x)[1:2])


@every_network
def test_every_parameter_learns(device, network):
    autoencoder = Autoencoder((1, 8, 8), code_dim=5, network=network).to(device)
    x = torch.rand(20, 1, 8, 8, device=device)
    reconstruction_error(x, autoencoder(x)).mean().backward()
    for name, parameter in autoencoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@every_network
def test_codes_and_pixels_keep_to_their_range(device, network):
    # In float64, where a sigmoid of these inputs is not yet rounded to 0 or 1.
    autoencoder = Autoencoder((1, 8, 8), code_dim=5, network=network).to(device).double()
    x = torch.rand(50, 1, 8, 8, device=device, dtype=torch.float64) * 40 - 20
    h = autoencoder.encode(x)
    x_hat = autoencoder.decode(h)
    assert bool(((h > 0) & (h < 1)).all()) == (network == "sigmoid")
    assert bool(((x_hat > 0) & (x_hat < 1)).all()) == (network != "linear")


@every_network
def test_only_the_linear_one_is_affine(device, network):
    autoencoder = Autoencoder((1, 8, 8), code_dim=5, network=network).to(device).double()
    x, y = torch.randn(2, 6, 1, 8, 8, device=device, dtype=torch.float64)
    between = autoencoder(0.3 * x + 0.7 * y)
    chord = 0.3 * autoencoder(x) + 0.7 * autoencoder(y)
    assert torch.allclose(between, chord, rtol=1e-9, atol=1e-12) == (network == "linear")


def test_hidden_sizes_are_as_asked():
    deep = Autoencoder((12,), code_dim=3, hidden=[7, 5])
    widths = [m.out_features for m in deep.modules() if isinstance(m, nn.Linear)]
    assert widths == [7, 5, 3, 5, 7, 12]
    convolutional = Autoencoder((1, 8, 8), code_dim=3, hidden=[4], network="convolutional")
    channels = [m.out_channels for m in convolutional.encoder if isinstance(m, nn.Conv2d)]
    assert channels == [4, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "fully connected"}, "network must be one of linear, .*'fully connected'"),
        ({"code_dim": 0}, "code_dim must be an integer of at least 1, not 0"),
        ({"network": "linear", "hidden": [5]}, "hidden must hold 0 numbers for a linear"),
        ({"network": "sigmoid", "hidden": [5]}, "hidden must hold 0 numbers for a sigmoid"),
        ({"network": "convolutional", "hidden": []}, "hidden must hold 1 numbers"),
        ({"network": "convolutional", "shape": (12,)}, r"shape must be \(C, H, W\)"),
    ],
)
def test_a_network_that_cannot_be_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(**{"shape": (1, 8, 8), **arguments})


def test_inputs_of_another_shape_are_named():
    autoencoder = Autoencoder((1, 8, 8), code_dim=3)
    with pytest.raises(ValueError, match=r"x must be \(N, 1, 8, 8\), but is \(2, 64\)"):
        autoencoder(torch.zeros(2, 64))  # flattening it would have gone unnoticed
    with pytest.raises(ValueError, match=r"h must be \(N, 3\), but is \(2, 4\)"):
        autoencoder.decode(torch.zeros(2, 4))


# Training


@pytest.mark.slow
def test_a_trained_linear_autoencoder_is_pca(device):
    images = pixels_near_a_plane(device)
    x = images.floats().flatten(1)
    mean, w = linear_autoencoder_weights(x, 2)
    optimum = linear_error(x, mean, w).item() / len(x)

    autoencoder = Autoencoder(images.shape, code_dim=2, network="linear").to(device)
    assert mean_error(autoencoder, images) > 5 * optimum
    order = torch.Generator().manual_seed(0)
    for epochs, learning_rate in ((200, 1e-1), (200, 1e-2), (50, 1e-3)):
        fit_autoencoder(
            autoencoder, images, order, epochs=epochs, batch_size=50, learning_rate=learning_rate
        )
    # Within 0.2 % of the optimum, and below it by rounding alone.
    assert optimum * (1 - 1e-5) <= mean_error(autoencoder, images) <= optimum * 1.002

    directions = torch.linalg.qr(autoencoder.decoder[0].weight.detach())[0]
    smallest_cosine = torch.linalg.svdvals(directions.mT @ w).min()
    assert smallest_cosine > math.cos(math.radians(1))


@pytest.mark.slow
@every_network
def test_training_lowers_the_error_on_other_images(device, digits, network):
    autoencoder = Autoencoder(digits.shape, code_dim=16, network=network).to(device)
    held_out = load_dataset("digits", "test", device=device)
    before = mean_error(autoencoder, held_out)
    fit_autoencoder(autoencoder, digits, torch.Generator().manual_seed(0), epochs=4)
    assert mean_error(autoencoder, held_out) < 0.8 * before


def test_the_loss_is_a_mean_over_examples(device, digits):
    autoencoder = Autoencoder(digits.shape, code_dim=4).to(device)
    losses = fit_autoencoder(
        autoencoder,
        digits[:101],
        torch.Generator().manual_seed(0),
        epochs=2,
        batch_size=50,  # the last batch holds one image
        learning_rate=1e-300,  # 0 to a float32
    )
    assert losses == pytest.approx([mean_error(autoencoder, digits[:101])] * 2, rel=1e-5)


def test_training_replays_and_looks_at_no_label(device, digits):
    unlabelled = Images(digits.pixels, torch.zeros_like(digits.labels), digits.name, digits.split)
    runs = []
    for images in (digits, digits, unlabelled):
        torch.manual_seed(0)
        autoencoder = Autoencoder(digits.shape, code_dim=4, hidden=[8]).to(device)
        random_state = torch.get_rng_state()
        losses = fit_autoencoder(autoencoder, images, torch.Generator().manual_seed(3), epochs=1)
        assert torch.equal(torch.get_rng_state(), random_state)
        runs.append((losses, autoencoder.state_dict()))
    for losses, parameters in runs[1:]:
        assert losses == runs[0][0]
        assert all(torch.equal(value, runs[0][1][name]) for name, value in parameters.items())


def test_training_in_double_precision_is_alike(device, digits):
    losses = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        autoencoder = Autoencoder(digits.shape, code_dim=4, hidden=[8]).to(device, dtype)
        losses.append(fit_autoencoder(autoencoder, digits[:100], 3, epochs=2))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_images_of_another_shape_are_named(device, digits):
    autoencoder = Autoencoder((1, 8, 6), code_dim=4).to(device)
    with pytest.raises(ValueError, match=r"^images must have .* \(1, 8, 6\), .* \(1, 8, 8\)"):
        fit_autoencoder(autoencoder, digits, 0)


def test_a_training_that_diverges_stops(device, digits):
    autoencoder = Autoencoder(digits.shape, code_dim=4, network="linear").to(device)
    with pytest.raises(FloatingPointError, match=r"epoch \d: lower learning_rate \(1e\+30\)"):
        fit_autoencoder(
            autoencoder, digits, torch.Generator().manual_seed(0), learning_rate=1e30, epochs=9
        )


@pytest.mark.parametrize("progress", [False, True])
def test_the_bar_is_shown_when_asked_for(device, digits, capsys, progress):
    autoencoder = Autoencoder(digits.shape, code_dim=4, hidden=[8]).to(device)
    fit_autoencoder(
        autoencoder, digits[:50], torch.Generator().manual_seed(0), epochs=3, progress=progress
    )
    printed = capsys.readouterr()
    assert ("3/3" in printed.err) == progress
    assert not printed.out


# Random codes


def test_random_codes_fill_the_box_evenly(device, generator):
    corners = [[-1.0, 10.0, 5.0], [3.0, -20.0, 5.0], [0.0, 0.0, 5.0]]
    codes = torch.tensor(corners, device=device, dtype=torch.float64)
    drawn = random_codes(codes, 20_000, generator)
    low, high = codes.amin(0), codes.amax(0)
    assert drawn.shape == (20_000, 3)
    assert bool(((drawn >= low) & (drawn <= high)).all())
    unit = (drawn - low)[:, :2] / (high - low)[:2]
    assert_mean_equals(unit, 1 / 2)
    assert_mean_equals(unit.square(), 1 / 3)
    assert_mean_equals(unit[:, 0] * unit[:, 1], 1 / 4)
    assert_well_behaved(
        lambda codes: random_codes(codes, 4, torch.Generator().manual_seed(0)), codes
    )


def test_training_sets_the_mode_and_puts_it_back():
    images = load_dataset("digits", "test")[:40]

    def trained(mode: bool) -> Autoencoder:
        torch.manual_seed(0)
        autoencoder = Autoencoder(images.shape, code_dim=3, hidden=[8])
        autoencoder.encoder.append(nn.BatchNorm1d(3))
        autoencoder.train(mode)
        fit_autoencoder(autoencoder, images, 0, epochs=1, batch_size=10)
        assert autoencoder.training == autoencoder.encoder[-1].training == mode
        return autoencoder

    first, second = trained(True), trained(False)
    for value, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(value, other)
    assert second.encoder[-1].num_batches_tracked == 4


def test_an_integer_is_a_seed():
    codes = torch.randn(6, 2)
    drawn = random_codes(codes, 3, torch.Generator().manual_seed(7))
    assert torch.equal(random_codes(codes, 3, 7), drawn)
    with pytest.raises(ValueError, match=r"^generator must be"):
        random_codes(codes, 3, -7)
