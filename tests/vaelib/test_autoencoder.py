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
    balanced_subset,
    few_labels_experiment,
    fit_autoencoder,
    initialise_classifier,
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


@pytest.fixture(scope="module")
def trained(device: torch.device, digits: Images) -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = Autoencoder(digits.shape, code_dim=16, hidden=[64, 32]).to(device)
    fit_autoencoder(autoencoder, digits, torch.Generator().manual_seed(0), epochs=20)
    return autoencoder


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


# The classifier


def test_a_classifier_shares_the_encoder_and_nothing_else(device):
    autoencoder = Autoencoder((1, 8, 8), code_dim=5, hidden=[7]).to(device)
    random_state = torch.get_rng_state()
    classifier = initialise_classifier(autoencoder, 5, 3)
    assert torch.equal(torch.get_rng_state(), random_state)
    shared = {id(p) for p in autoencoder.encoder.parameters()}
    own = {id(p) for p in classifier.parameters()}
    assert shared < own
    assert sorted(p.shape for p in classifier.parameters() if id(p) not in shared) == [(3,), (3, 5)]
    assert not own & {id(p) for p in autoencoder.decoder.parameters()}


def test_classes_begin_equal_and_fine_tuning_is_joint(device):
    autoencoder = Autoencoder((1, 8, 8), code_dim=5, hidden=[7]).to(device)
    classifier = initialise_classifier(autoencoder, 5, 3)
    x, labels = torch.rand(30, 1, 8, 8, device=device), torch.arange(30, device=device) % 3
    assert torch.equal(classifier(x), torch.zeros(30, 3, device=device))
    codes = autoencoder.encode(x).detach()
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
    for _ in range(2):  # in the first step the new layer moves, from the second on all do
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier(x), labels).backward()
        optimizer.step()
    for name, parameter in classifier.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert not torch.equal(autoencoder.encode(x), codes)


def test_a_classifier_keeps_the_encoders_dtype():
    autoencoder = Autoencoder((6,), code_dim=5, hidden=[7]).double()
    logits = initialise_classifier(autoencoder, 5, 3)(torch.rand(2, 6, dtype=torch.float64))
    assert logits.dtype == torch.float64


def test_a_classifier_that_cannot_be_is_named():
    autoencoder = Autoencoder((6,), code_dim=5, hidden=[7])
    with pytest.raises(ValueError, match="code_dim must be 5, the encoder's, not 4"):
        initialise_classifier(autoencoder, 4, 3)
    with pytest.raises(ValueError, match="n_classes must be an integer of at least 2, not 1"):
        initialise_classifier(autoencoder, 5, 1)


# Few labels


@pytest.mark.parametrize("n", [1, 3, 10, 11, 14, 20])
def test_a_subset_is_balanced_as_far_as_there_are_examples(device, generator, n):
    labels = torch.tensor([0] * 9 + [1] * 2 + [2] * 9, device=device)
    chosen = balanced_subset(labels, n, generator)
    assert len(chosen.unique()) == n
    counts = labels[chosen].bincount(minlength=3)
    assert sum(counts) == n
    assert counts[1] == 2 or counts.max() - counts.min() <= 1
    assert abs(counts[0] - counts[2]) <= 1


def test_subsets_are_nested_random_and_replay(device):
    labels = torch.arange(40, device=device) % 4

    def chosen(n: int, seed: int) -> Tensor:
        return balanced_subset(labels, n, torch.Generator().manual_seed(seed))

    assert torch.equal(chosen(20, 0)[:7], chosen(7, 0))
    assert not torch.equal(chosen(20, 0), chosen(20, 1))
    # 4,000 subsets of 8 out of 40: each example comes with probability 1/5, whatever its place.
    comes = torch.stack([torch.isin(torch.arange(40), chosen(8, s).cpu()) for s in range(4_000)])
    assert_mean_equals(comes.float(), 0.2)


@pytest.mark.parametrize("n", [0, 5])
def test_a_subset_that_cannot_be_is_named(generator, device, n):
    with pytest.raises(ValueError, match=f"n must be .*not {n}"):
        balanced_subset(torch.zeros(4, dtype=torch.int64, device=device), n, generator)


def experiment(trained: Autoencoder, digits: Images, **arguments):
    test = load_dataset("digits", "test", device=digits.pixels.device)
    defaults = {"n_labels": [10, 40], "seeds": [0, 1], "steps": [1, 4]}
    return few_labels_experiment(trained, digits, test, **{**defaults, **arguments})


@pytest.mark.slow
def test_pretraining_helps_with_few_labels(trained, digits):
    result = experiment(trained, digits, n_labels=[10, 20], seeds=range(20), steps=[10, 50])
    gain = (result.random - result.pretrained)[:, :, -1].double()
    # Paired differences over seeds, at least three standard errors above zero.
    assert bool((gain.mean(1) > 3 * gain.std(1) / 20**0.5).all()), gain
    # Both learn, and both learn more from more labels.
    for errors in (result.random, result.pretrained):
        means = errors.mean(1)
        assert bool((means[:, 1] < means[:, 0]).all())
        assert means[1, 1] < means[0, 1] < 0.6


def test_results_replay_and_leave_everything_as_it_was(trained, digits):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    random_state = torch.get_rng_state()
    result, again = experiment(trained, digits), experiment(trained, digits)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert (result.n_labels, result.steps) == ((10, 40), (1, 4))
    for errors, errors_again in (
        (result.random, again.random),
        (result.pretrained, again.pretrained),
    ):
        assert errors.shape == (2, 2, 2)
        assert torch.equal(errors, errors_again)
        assert bool(((errors >= 0) & (errors <= 1)).all())
        assert not torch.equal(errors[:, 0], errors[:, 1]), "seeds make no difference"


def test_measuring_more_often_changes_no_result(trained, digits):
    often, once = experiment(trained, digits, steps=[1, 2, 4]), experiment(trained, digits)
    assert torch.equal(often.random[:, :, [0, 2]], once.random)
    assert torch.equal(often.pretrained[:, :, [0, 2]], once.pretrained)


def test_each_cell_depends_on_its_own_seed_and_labels_alone(trained, digits):
    table = experiment(trained, digits)
    cell = experiment(trained, digits, n_labels=[40], seeds=[1])
    assert torch.equal(cell.random[0, 0], table.random[1, 1])
    assert torch.equal(cell.pretrained[0, 0], table.pretrained[1, 1])


def test_the_random_arm_knows_nothing_of_the_training(trained, digits):
    torch.manual_seed(5)
    untrained = Autoencoder(digits.shape, code_dim=16, hidden=[64, 32]).to(digits.pixels.device)
    assert torch.equal(experiment(trained, digits).random, experiment(untrained, digits).random)


def test_an_error_is_the_share_of_wrong_answers(trained, digits):
    # Without learning, the pre-trained arm's equal logits all answer class 0.
    result = experiment(trained, digits, learning_rate=1e-300)  # 0 to a float32
    test = load_dataset("digits", "test", device=digits.pixels.device)
    share = (test.labels != 0).float().mean().cpu()
    torch.testing.assert_close(result.pretrained, share.expand(2, 2, 2))


@pytest.mark.parametrize("steps", [[], [5, 5], [5, 2]])
def test_steps_that_do_not_increase_are_named(trained, digits, steps):
    with pytest.raises(ValueError, match="steps must be one or more and increase"):
        experiment(trained, digits, steps=steps)


def test_more_labels_than_there_are_is_named(trained, digits):
    with pytest.raises(ValueError, match=rf"n_labels must be at most {len(digits)}, .*not 2000"):
        experiment(trained, digits, n_labels=[2000])


def test_training_and_measuring_set_the_mode_and_put_it_back():
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
    errors = [
        few_labels_experiment(start, images, images[:1], n_labels=[4], seeds=[0], steps=[2])
        for start in (first, second)
    ]
    assert torch.equal(errors[0].pretrained, errors[1].pretrained)


def test_an_integer_is_a_seed():
    codes, labels = torch.randn(6, 2), torch.arange(6) % 2
    for function in (
        lambda seed: random_codes(codes, 3, seed),
        lambda seed: balanced_subset(labels, 4, seed),
    ):
        assert torch.equal(function(7), function(torch.Generator().manual_seed(7)))
        with pytest.raises(ValueError, match=r"^generator must be"):
            function(-7)
