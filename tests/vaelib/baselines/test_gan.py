from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vaelib.baselines import GAN, adversarial_step, discriminator_loss, fit_gan, generator_loss
from vaelib.data import Images, load_dataset

PLAYERS = ("discriminator", "generator")


def small_gan(
    device: torch.device,
    shape: tuple[int, ...] = (1, 8, 8),
    width: int = 4,
    batch_norm: bool = False,
) -> GAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GAN(shape, latent_dim=3, width=width, batch_norm=batch_norm).to(device)


def optimizers(gan: GAN, **rates: float) -> list[torch.optim.Optimizer]:
    return [torch.optim.SGD(getattr(gan, p).parameters(), lr=rates.get(p, 0.0)) for p in PLAYERS]


def values(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


def test_the_losses_are_log_likelihoods_of_real_and_made_up(device):
    real = torch.tensor([[2.0], [-1.0], [100.0]], device=device)
    made_up = torch.tensor([[0.5], [-100.0]], device=device)
    bernoulli = torch.distributions.Bernoulli
    ones, zeros = torch.ones_like(real), torch.zeros_like(made_up)
    expected = -(bernoulli(logits=real).log_prob(ones).mean()
                 + bernoulli(logits=made_up).log_prob(zeros).mean())  # fmt: skip
    torch.testing.assert_close(discriminator_loss(real, made_up), expected)
    expected = -bernoulli(logits=made_up).log_prob(1 - zeros).mean()
    torch.testing.assert_close(generator_loss(made_up), expected)


def test_the_generator_learns_where_the_discriminator_is_sure(device):
    # The saturating loss log(1 − D) has slope σ(−20) = 2e-9 here.
    logit = torch.tensor([-20.0], device=device, requires_grad=True)
    generator_loss(logit).backward()
    assert logit.grad.item() == pytest.approx(-1)


def test_each_step_changes_its_own_player(device, generator):
    gan = small_gan(device)
    x = torch.rand(6, 1, 8, 8, generator=generator, device=device)
    z = gan.noise(6, generator)
    for player in PLAYERS:
        before = {name: values(getattr(gan, name)) for name in PLAYERS}
        adversarial_step(gan, *optimizers(gan, **{player: 0.1}), x, z)
        for name, old in before.items():
            changed = (values(getattr(gan, name)) != old).any()
            assert changed == (name == player)


def test_each_step_lowers_its_own_loss(device, generator):
    x = torch.rand(64, 1, 8, 8, generator=generator, device=device)
    for player in PLAYERS:
        gan = small_gan(device)
        z = gan.noise(64, generator)
        slow = optimizers(gan, **{player: 0.05})
        losses = [adversarial_step(gan, *slow, x, z) for _ in range(5)]
        own = [loss[player == "generator"].item() for loss in losses]
        assert own == sorted(own, reverse=True)
        assert own[-1] < own[0]


def test_the_step_leaves_losses_and_gradients_of_before(device, generator):
    gan = small_gan(device)
    x, z = torch.rand(5, 1, 8, 8, generator=generator, device=device), gan.noise(7, generator)
    made_up = gan.generator(z)
    told = discriminator_loss(gan.discriminator(x), gan.discriminator(made_up))
    fooled = generator_loss(gan.discriminator(made_up))
    own = ((gan.discriminator, told), (gan.generator, fooled))
    expected = [
        torch.autograd.grad(loss, list(player.parameters()), retain_graph=True)
        for player, loss in own
    ]
    reported = adversarial_step(gan, *optimizers(gan), x, z)
    torch.testing.assert_close(reported, (told.detach(), fooled.detach()))
    assert not any(loss.requires_grad for loss in reported)
    for (player, _), gradients in zip(own, expected, strict=True):
        torch.testing.assert_close(tuple(p.grad for p in player.parameters()), gradients)


def test_history_averages_examples_of_a_ragged_epoch(device):
    images, gan = load_dataset("digits")[:5].to(device), small_gan(device)
    again = torch.Generator(device).manual_seed(3)
    total = torch.zeros(2, device=device)
    for x in images.batches(4, again):
        losses = adversarial_step(gan, *optimizers(gan), x, gan.noise(len(x), again))
        total += len(x) * torch.stack(losses)
    history = fit_gan(
        gan, images, again.manual_seed(3), epochs=1, batch_size=4, learning_rate=1e-12
    )
    assert history[0] == pytest.approx((total / 5).tolist(), rel=1e-5)


def test_training_replays_by_its_seed(device):
    images = load_dataset("digits")[:100].to(device)
    fitted = []
    for seed in (1, 1, 2):
        gan = small_gan(device)
        before = values(gan)
        history = fit_gan(gan, images, torch.Generator(device).manual_seed(seed), epochs=2)
        assert len(history) == 2
        assert all(math.isfinite(loss) for losses in history for loss in losses)
        fitted.append(values(gan))
        assert (fitted[-1] != before).float().mean() > 0.9
    assert torch.equal(fitted[0], fitted[1])
    assert not torch.equal(fitted[0], fitted[2])


def test_training_goes_on_with_optimizers_of_ones_own(device):
    images = load_dataset("digits")[:100].to(device)
    ends = []
    for epochs in ([2], [1, 1]):
        gan = small_gan(device)
        adams = [torch.optim.Adam(getattr(gan, p).parameters(), lr=1e-3) for p in PLAYERS]
        generator = torch.Generator(device).manual_seed(0)
        for n in epochs:
            fit_gan(gan, images, generator, epochs=n, optimizers=(adams[0], adams[1]))
        ends.append(values(gan))
    assert torch.equal(*ends)


def test_training_is_deterministic_on_a_gpu_and_leaves_the_settings(device):
    gan, cudnn, seen = small_gan(device), torch.backends.cudnn, []
    gan.generator.register_forward_hook(
        lambda module, *_: seen.append((cudnn.deterministic, cudnn.benchmark, module.training))
    )
    gan.eval()
    with cudnn.flags(enabled=True, benchmark=True, deterministic=False):
        fit_gan(gan, load_dataset("digits")[:9].to(device), 0, epochs=1)
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
    assert set(seen) == {(True, False, True)}
    assert not gan.generator.training


@pytest.mark.slow
def test_training_in_double_precision_is_alike(device):
    digits = load_dataset("digits", device=device)[:100]
    single, double = (
        fit_gan(small_gan(device).to(dtype), digits, 1, epochs=2)
        for dtype in (torch.float32, torch.float64)
    )
    assert single[-1] == pytest.approx(double[-1], rel=1e-3)


def test_products_of_bfloat16_train_alike(device):
    # Not with the weights of the first step, which autocast would keep: the loss changes.
    images, losses = load_dataset("digits")[:500].to(device), {}
    for precision in ("float32", "bfloat16"):
        gan = small_gan(device)
        history = fit_gan(
            gan, images, torch.Generator(device).manual_seed(0), epochs=4, precision=precision
        )
        losses[precision] = torch.tensor(history)
        assert next(gan.parameters()).dtype == torch.float32
    torch.testing.assert_close(losses["bfloat16"], losses["float32"], rtol=0.1, atol=0.1)
    assert not torch.equal(losses["bfloat16"], losses["float32"])


def test_samples_of_a_normalised_generator_do_not_depend_on_each_other(device):
    gan = small_gan(device, batch_norm=True)
    fit_gan(gan, load_dataset("digits")[:50].to(device), 0, epochs=1)
    z = gan.noise(5, 0)
    assert torch.equal(gan.sample(5, 0), gan.eval().generator(z))
    torch.testing.assert_close(gan.generator(z)[:1], gan.generator(z[:1]))


@pytest.mark.slow
def test_training_brings_samples_closer_to_the_data(device):
    # Over seeds the distance falls to between 0.35 and 0.45 of what it was.
    images = load_dataset("digits").to(device)
    gan, zeros = small_gan(device, width=16), images[images.labels == 0]

    def distance() -> Tensor:
        made_up = gan.sample(200, torch.Generator().manual_seed(1))
        return (made_up.mean(0) - zeros.floats().mean(0)).norm()

    before = distance()
    fit_gan(gan, zeros, torch.Generator(device).manual_seed(0), epochs=30)
    assert distance() < 0.7 * before


@pytest.mark.parametrize("batch_norm", [False, True])
def test_samples(device, batch_norm):
    gan = small_gan(device, (3, 9, 6), batch_norm=batch_norm)
    assert gan.discriminator(torch.rand(4, 3, 9, 6, device=device)).shape == (4, 1)
    here = gan.sample(4, torch.Generator().manual_seed(1))
    assert here.shape == (4, 3, 9, 6)
    assert ((here > 0) & (here < 1)).all()
    assert not here.requires_grad
    gan.eval()
    assert torch.equal(gan.sample(4, torch.Generator().manual_seed(1)), here)
    assert gan.double().sample(4, torch.Generator()).dtype == torch.float64


def test_names_bad_arguments(device, generator):
    gan, images = small_gan(device), load_dataset("digits")[:20].to(device)
    with pytest.raises(ValueError, match=r"^latent_dim must be an integer of at least 1, not 0"):
        GAN((1, 8, 8), latent_dim=0)
    with pytest.raises(ValueError, match=r"^shape must be \(C, H, W\)"):
        GAN((64,))
    with pytest.raises(ValueError, match=r"^n must be an integer of at least 1, not 0"):
        gan.sample(0, generator)
    with pytest.raises(ValueError, match=r"^batch_size must be an integer of at least 1, not 0"):
        fit_gan(gan, images, generator, batch_size=0)
    with pytest.raises(ValueError, match=r"^images must have .* \(1, 8, 8\), .* \(1, 8, 6\)"):
        fit_gan(gan, Images(images.pixels[..., 2:]), generator)
    with pytest.raises(FloatingPointError, match=r"in epoch \d+: lower learning_rate \(1e\+30\)"):
        fit_gan(gan, images, generator, learning_rate=1e30)


def test_progress_is_shown_where_asked(device, generator, capsys):
    fit_gan(small_gan(device), load_dataset("digits")[:9].to(device), generator, epochs=1,
            progress=True)  # fmt: skip
    shown = capsys.readouterr()
    assert "1/1" in shown.out
    assert not shown.err
