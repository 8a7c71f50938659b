from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from models import with_modes
from scipy.stats import norm
from statistical import assert_mean_equals
from torch import nn
from torch.distributions.transforms import AffineTransform

from vaelib.flow import TransformedGaussian
from vaelib.generation import (
    interpolate,
    interpolate_spherical,
    latent_grid,
    manifold,
    reconstruct,
    sample_prior,
)
from vaelib.latent_variable import NonlinearGaussian
from vaelib.linear_gaussian import LinearGaussian
from vaelib.reparameterization import noise
from vaelib.vae import VAE

DTYPES = [torch.float32, torch.float64]


def linear(device: torch.device, dtype: torch.dtype = torch.float64) -> LinearGaussian:
    weight = torch.tensor([[1.0, 0.5], [-2.0, 0.0], [0.3, 1.5]], dtype=dtype, device=device)
    mean = torch.tensor([1.0, -1.0, 0.5], dtype=dtype, device=device)
    return LinearGaussian(weight, mean, sigma=0.7)


def vae(device: torch.device, latent_dim: int = 2) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE((1, 4, 5), latent_dim, hidden=[6]).to(device)


# Samples from the prior


@pytest.mark.parametrize("noise", [False, True], ids=["mean", "draw"])
def test_samples_have_the_moments_of_the_model(device, generator, noise):
    model = linear(device)
    p = sample_prior(model, 50_000, generator)
    x = p.draw(generator) if noise else p.mean
    centred = x - model.mean
    covariance = model.weight @ model.weight.mT
    if noise:
        covariance = covariance + model.sigma**2 * torch.eye(3).to(covariance)
    assert_mean_equals(centred, 0.0)
    assert_mean_equals(centred.unsqueeze(-1) * centred.unsqueeze(-2), covariance)


def test_pixels_are_drawn_with_the_decoders_probabilities(device, generator):
    p = sample_prior(vae(device), 5, generator)
    draws = torch.stack([p.draw(generator) for _ in range(2_000)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert_mean_equals(draws, p.mean)


def test_samples_replay_and_go_on(device):
    model = vae(device)

    def run(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator(device).manual_seed(seed)
        return [sample_prior(model, 3, generator).mean for _ in range(2)]

    first, second = run(1)
    again = run(1)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, run(2)[0])


def test_samples_leave_the_global_generator_alone(device, generator):
    before = torch.get_rng_state()
    sample_prior(vae(device), 3, generator).draw(generator)
    assert torch.equal(before, torch.get_rng_state())


class FlowPrior(VAE):
    """z = 3ε + 1 by a flow, which torch gives no mean."""

    @property
    def prior(self) -> Any:
        return TransformedGaussian(super().prior, AffineTransform(1.0, 3.0, event_dim=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_of_a_flow_prior_are_moved_by_the_flow(device, dtype):
    model = FlowPrior((1, 4, 5), 2, hidden=[6]).to(device, dtype)
    eps = noise((4, 2), 0, like=next(model.parameters()))
    torch.testing.assert_close(sample_prior(model, 4, 0).mean, model.decoder(3 * eps + 1).mean)


@pytest.mark.gpu
def test_a_cpu_generator_gives_every_device_the_same_samples():
    pictures = [
        sample_prior(vae(torch.device(where)), 4, torch.Generator().manual_seed(0)).mean.cpu()
        for where in ("cpu", "cuda")
    ]
    torch.testing.assert_close(*pictures)


# Reconstructions


def test_reconstruction_goes_through_the_sample(device, generator):
    model = vae(device)
    x = torch.rand(3, 1, 4, 5, device=device)
    eps = torch.randn(2, 3, 2, generator=generator, device=device)
    q = model.encoder(x)
    for s in range(2):
        for i in range(3):
            z = q.mean[i] + q.stddev[i] * eps[s, i]
            expected = model.decoder(z).mean
            torch.testing.assert_close(reconstruct(model, x, eps)[s, i], expected)
    torch.testing.assert_close(reconstruct(model, x, eps[0]), reconstruct(model, x, eps)[0])


def test_reconstructions_average_to_the_posterior_expectation(device, generator):
    model = linear(device)
    x = torch.tensor([[2.0, 0.0, 1.0], [-1.0, 3.0, 0.0]], device=device).double()
    eps = torch.randn(20_000, 2, 2, generator=generator, dtype=torch.float64, device=device)
    expected = model.decoder(model.posterior(x).mean).mean
    assert_mean_equals(reconstruct(model, x, eps), expected)


# The models' modes


def test_models_are_asked_in_evaluation_mode(device):
    model = with_modes().to(device)
    model.decoder.body = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Linear(3, 64))
    plane = vae(device)
    plane.decoder.body = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 20))
    x, eps = torch.rand(1, 1, 8, 8, device=device), torch.ones(1, 3, device=device)
    model.decoder.to(device)
    plane.decoder.to(device)

    def results() -> list[torch.Tensor]:
        return [sample_prior(model, 1, 0).mean, reconstruct(model, x, eps), manifold(plane, 3)]

    model.eval()
    plane.eval()
    expected = results()
    model.train()
    plane.train()
    model.decoder.body[0].eval()
    seen = results()
    for result, value in zip(seen, expected, strict=True):
        torch.testing.assert_close(result, value, rtol=0, atol=0)
    off = [name for name, module in model.named_modules() if not module.training]
    assert off == ["decoder.body.0"]
    assert all(module.training for module in plane.modules())


def test_an_integer_is_a_seed(device):
    model, toy = vae(device), NonlinearGaussian(device)
    for function in (
        lambda seed: sample_prior(model, 3, seed).mean,
        lambda seed: linear(device).sample(3, seed),
        lambda seed: toy.sample(3, seed),
    ):
        if device.type == "cpu":
            generator = torch.Generator().manual_seed(5)
            torch.testing.assert_close(function(5), function(generator))
        with pytest.raises(ValueError, match=r"^generator must be"):
            function("5")


# The manifold


@pytest.mark.parametrize("tail", [0.05, 0.2])
@pytest.mark.parametrize("n", [2, 5, 8])
def test_grid_is_the_normal_quantiles_laid_out_like_a_plot(device, n, tail):
    grid = latent_grid(n, tail, dtype=torch.float64, device=device).cpu()
    quantiles = norm.ppf([tail + (1 - 2 * tail) * i / (n - 1) for i in range(n)])
    assert grid.shape == (n, n, 2)
    for i in range(n):
        for j in range(n):
            expected = [quantiles[j], quantiles[n - 1 - i]]
            assert grid[i, j].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_default_grid_keeps_nine_tenths_of_the_prior_on_each_axis():
    assert latent_grid(3).dtype == torch.get_default_dtype()
    assert norm.cdf(latent_grid(3).amax().item()) == pytest.approx(0.95)


@pytest.mark.parametrize("dtype", DTYPES)
def test_manifold_is_the_decoder_at_each_grid_point(device, dtype):
    model = vae(device).to(dtype)
    pictures = manifold(model, 4, tail=0.1)
    grid = latent_grid(4, tail=0.1, dtype=dtype, device=device)
    assert pictures.shape == (4, 4, 1, 4, 5)
    for i in range(4):
        for j in range(4):
            torch.testing.assert_close(pictures[i, j], model.decoder(grid[i, j]).mean)


# Walks


@pytest.mark.parametrize("dtype", DTYPES)
def test_straight_line_is_even_and_has_its_ends_exactly(device, dtype):
    z = torch.tensor([[0.1, -2.3, 5.7], [1.1, 0.7, -0.9]], dtype=dtype, device=device)
    path = interpolate(z[0], z[1], 7)
    assert path.dtype == dtype
    assert path.shape == (7, 3)
    assert torch.equal(path[0], z[0])
    assert torch.equal(path[-1], z[1])
    torch.testing.assert_close(path.diff(dim=0), ((z[1] - z[0]) / 6).expand(6, -1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.3, math.pi / 2, 3.1])
def test_arc_turns_evenly_in_the_plane_of_its_ends(device, dtype, angle):
    # The ends have the lengths 1 and 3, at an angle that is known.
    end = torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64)
    start = torch.tensor([1.0, 0.0, 0.0], dtype=dtype, device=device)
    path = interpolate_spherical(start, (3 * end).to(start), 5)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    turned = torch.stack([torch.cos(t * angle), torch.sin(t * angle), 0 * t], dim=-1)
    expected = ((1 + 2 * t).unsqueeze(-1) * turned).to(start)
    # Near π the ends say less about the plane: rounding grows by 1/sin.
    torch.testing.assert_close(path, expected, atol=100 * torch.finfo(dtype).eps, rtol=0)


def test_arc_keeps_the_norm_that_the_straight_line_loses(device, generator):
    z = torch.randn(2, 100, generator=generator, dtype=torch.float64, device=device)
    start, end = 10 * z / z.norm(dim=-1, keepdim=True)
    arc = interpolate_spherical(start, end, 9).norm(dim=-1)
    torch.testing.assert_close(arc, torch.full_like(arc, 10.0))
    assert interpolate(start, end, 9)[4].norm() < 8


def test_walks_are_differentiable(device):
    z = torch.tensor([[1.0, 2.0, -0.5], [0.3, -1.0, 2.0]], dtype=torch.float64, device=device)
    ends = [row.requires_grad_() for row in z.unbind()]
    for walk in (interpolate, interpolate_spherical):
        assert torch.autograd.gradcheck(lambda a, b, walk=walk: walk(a, b, 3), ends)


# What they share


@pytest.mark.parametrize("dtype", DTYPES)
def test_models_are_asked_without_gradients_in_their_own_dtype(device, dtype, generator):
    model = vae(device).to(dtype)
    x = torch.rand(3, 1, 4, 5, dtype=dtype, device=device)
    p = sample_prior(model, 3, generator)
    results = [p.mean, p.draw(generator), manifold(model, 2), reconstruct(model, x, x[:, 0, 0, :2])]
    for result in results:
        assert result.dtype == dtype
        assert result.device.type == device.type
        assert not result.requires_grad


START, END = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])


BAD = {
    "no samples": (
        lambda model, g: sample_prior(model, 0, g),
        "n must be an integer .*not 0",
    ),
    "no grid": (lambda model, g: latent_grid(1), "n must be an integer of at least 2, not 1"),
    "infinite grid": (lambda model, g: latent_grid(3, tail=0.0), "tail must lie strictly"),
    "empty grid": (lambda model, g: latent_grid(3, tail=0.5), "tail must lie strictly"),
    "nan grid": (lambda model, g: latent_grid(3, tail=math.nan), "tail must lie strictly"),
    "3-d manifold": (lambda model, g: manifold(model, 3), "2 latent dimensions .* but has 3"),
    "K of eps": (
        lambda model, g: reconstruct(model, torch.zeros(4, 1, 4, 5), torch.zeros(4, 2)),
        r"eps must end in .*\(4, 3\), but is \(4, 2\)",
    ),
    "one eps for all": (
        lambda model, g: reconstruct(model, torch.zeros(4, 1, 4, 5), torch.zeros(3)),
        r"eps must end in .*\(4, 3\), but is \(3,\)",
    ),
    "one step": (
        lambda model, g: interpolate(START, END, 1),
        "steps must be an integer",
    ),
    "one step round": (lambda model, g: interpolate_spherical(START, END, 1), "steps must be an"),
    "two sizes": (lambda model, g: interpolate(START, END[:1], 3), r"have \(2,\) and \(1,\)"),
    "batches": (lambda model, g: interpolate(START[None], END[None], 3), r"z_start must be \(K,\)"),
    "integers": (lambda model, g: interpolate(START.long(), END.long(), 3), "must be floating"),
    "infinity": (lambda model, g: interpolate(START, END / 0, 3), "z_end must be finite"),
    "from zero": (lambda model, g: interpolate_spherical(0 * START, END, 3), "z_start must not be"),
    "to zero": (lambda model, g: interpolate_spherical(START, 0 * END, 3), "z_end must not be"),
    "opposite": (lambda model, g: interpolate_spherical(START, -2 * START, 3), "be opposite"),
    "opposite in 1-d": (lambda model, g: interpolate_spherical(END[:1], -END[:1], 3), "opposite"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case):
    call, message = BAD[case]
    model = vae(torch.device("cpu"), latent_dim=3)
    with pytest.raises(ValueError, match=message):
        call(model, torch.Generator().manual_seed(0))
