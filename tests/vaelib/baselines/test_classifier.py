from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vaelib.baselines import Classifier, fit_classifier, frechet_distance
from vaelib.baselines.classifier import shifted
from vaelib.data import Images, load_dataset


def small_classifier(device: torch.device) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier((1, 8, 8), width=4, features=16).to(device)


def values(classifier: Classifier) -> Tensor:
    return torch.cat([p.detach().flatten() for p in classifier.parameters()]).clone()


def gaussian(n: int, mean: Tensor, root: Tensor, seed: int) -> Tensor:
    """n points whose mean and covariance are *exactly* these, root·rootᵀ."""
    x = torch.randn(
        n, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    x -= x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T)).T)
    return white @ root.T + mean


def test_the_distance_of_gaussians_that_share_their_axes_is_that_of_their_deviations(device):
    # |μ_a − μ_b|² + Σ (σ_a − σ_b)², in any orthonormal coordinates.
    mean_a, mean_b = torch.tensor([[1.0, 2.0, 3.0], [0.0, 2.0, 5.0]], dtype=torch.float64)
    sigma_a, sigma_b = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 0.5]], dtype=torch.float64)
    turn, _ = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double()
    )
    a = gaussian(100, mean_a, turn * sigma_a, seed=2).to(device)
    b = gaussian(150, mean_b, turn * sigma_b, seed=3).to(device)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 4 + 1)


def test_the_distance_is_that_of_scipys_matrix_root(device):
    from scipy.linalg import sqrtm

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(50, 4, generator=generator).double() for _ in range(2))
    b = b @ torch.randn(4, 4, generator=generator).double() + 1
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root = torch.from_numpy(sqrtm((cov_a @ cov_b).numpy()).real)
    expected = (a.mean(0) - b.mean(0)).square().sum() + (cov_a + cov_b - 2 * root).trace()
    assert frechet_distance(a.to(device), b.to(device)) == pytest.approx(expected.item())


def test_the_distance_is_symmetric_and_zero_for_the_same(device, generator):
    a, b = (torch.randn(20, 5, generator=generator, device=device) for _ in range(2))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-6)
    # A feature that is always off has no variance.
    dead = torch.cat([a, torch.zeros_like(a)], dim=1)
    assert math.isfinite(frechet_distance(dead, dead + 1))


@pytest.mark.slow
def test_training_classifies_digits_and_replays_by_its_seed(device):
    images, held_out = (load_dataset("digits", s).to(device) for s in ("train", "validation"))
    fitted = []
    for seed in (1, 1, 2):
        classifier = small_classifier(device)
        noise = torch.Generator(device).manual_seed(seed)
        losses = fit_classifier(classifier, images, noise, epochs=6, learning_rate=0.01, shift=1)
        assert losses == sorted(losses, reverse=True)
        fitted.append(values(classifier))
    assert classifier.accuracy(held_out).double().mean() > 0.6  # 0.1 by chance
    assert torch.equal(fitted[0], fitted[1])
    assert not torch.equal(fitted[0], fitted[2])


def test_training_goes_on_with_an_optimizer_of_ones_own(device):
    images = load_dataset("digits")[:200].to(device)
    whole, pieces = small_classifier(device), small_classifier(device)
    ends = []
    for classifier, epochs in ((whole, [2]), (pieces, [1, 1])):
        adam = torch.optim.Adam(classifier.parameters(), lr=2e-3)
        generator = torch.Generator(device).manual_seed(0)
        for n in epochs:
            fit_classifier(classifier, images, generator, epochs=n, optimizer=adam)
        ends.append(values(classifier))
    assert torch.equal(*ends)


def test_double_precision_trains_and_measures_alike(device):
    digits = load_dataset("digits", device=device)[:100]
    losses, right = [], []
    for dtype in (torch.float32, torch.float64):
        classifier = small_classifier(device).to(dtype)
        losses.append(fit_classifier(classifier, digits, 1, epochs=2))
        right.append(classifier.accuracy(digits).double().mean().item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert right[0] == pytest.approx(right[1], abs=0.02)


def test_a_shift_moves_each_image_by_itself_and_no_pixel_changes_its_value(device, generator):
    x = torch.zeros(200, 1, 7, 9, device=device)
    x[:, 0, 3, 4] = torch.arange(1, 201, device=device)
    moved = shifted(x, 2, generator)
    assert moved.shape == x.shape
    assert torch.equal(moved.sum((1, 2, 3)), x.sum((1, 2, 3)))
    places = {tuple(place) for place in moved.nonzero()[:, 2:].tolist()}
    assert places == {(row, column) for row in range(1, 6) for column in range(2, 7)}
    assert shifted(x, 0, generator) is x


def test_accuracy_is_measured_in_evaluation_mode_and_leaves_the_mode(device):
    images, classifier = load_dataset("digits", "test").to(device), small_classifier(device)
    seen = []
    classifier.register_forward_hook(lambda module, *_: seen.append(module.training))
    right = classifier.accuracy(images)
    assert right.shape == (len(images),)
    assert right.dtype == torch.bool
    assert seen == [False]
    assert classifier.training
    classifier.eval()
    fit_classifier(classifier, images, 0, epochs=1)
    assert True in seen
    assert not classifier.training


def test_names_bad_arguments(device, generator):
    classifier, images = small_classifier(device), load_dataset("digits")[:20].to(device)
    with pytest.raises(ValueError, match=r"^classes must be an integer of at least 2, not 1"):
        Classifier((1, 8, 8), classes=1)
    with pytest.raises(ValueError, match=r"^x must be \(N, 1, 8, 8\), but is \(2, 1, 3, 3\)"):
        classifier(torch.zeros(2, 1, 3, 3, device=device))
    with pytest.raises(ValueError, match=r"^shift must be an integer of at least 0, not -1"):
        fit_classifier(classifier, images, generator, shift=-1)
    with pytest.raises(ValueError, match=r"^precision must be .float32. or .bfloat16., not 'half'"):
        fit_classifier(classifier, images, generator, precision="half")
    small = Images(images.pixels[..., 2:], images.labels)
    for function in (fit_classifier, Classifier.accuracy):
        with pytest.raises(ValueError, match=r"^images must have .* \(1, 8, 8\), .* \(1, 8, 6\)"):
            function(classifier, small, generator)
    for labels, message in ((images.labels + 1, "1 to 10"), (images.labels - 1, "-1 to 8")):
        relabelled = Images(images.pixels, labels)
        with pytest.raises(ValueError, match=rf"^images must have labels from 0 to 9, .*{message}"):
            fit_classifier(classifier, relabelled, generator)
    with pytest.raises(FloatingPointError, match=r"in epoch \d+: lower learning_rate \(1e\+30\)"):
        fit_classifier(classifier, images, generator, learning_rate=1e30, epochs=3)
    a = torch.zeros(5, 3)
    with pytest.raises(ValueError, match=r"^b must be \(N, F\) with N ≥ 2, but is \(1, 3\)"):
        frechet_distance(a, a[:1])
    with pytest.raises(ValueError, match=r"^a and b must have the same F, not 3 and 2"):
        frechet_distance(a, a[:, :2])
    with pytest.raises(ValueError, match=r"^a must be finite"):
        frechet_distance(a / 0, a)
