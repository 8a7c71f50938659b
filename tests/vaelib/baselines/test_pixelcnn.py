from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from statistical import FALSE_ALARM
from torch import Tensor

from vaelib.baselines import MaskedConv2d, PixelCNN, fit_pixelcnn
from vaelib.data import Images, binarise, load_dataset


def pixelcnn(device: torch.device, shape: tuple[int, ...] = (1, 2, 3), **options: int) -> PixelCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PixelCNN(shape, **{"channels": 5, "layers": 2, "size": 3} | options)
    with torch.no_grad():
        for parameter in model.parameters():  # far enough from ½ for pixels to matter
            parameter.mul_(1.5)
    return model.double().to(device)


def all_images(height: int, width: int, device: torch.device) -> Tensor:
    pixels = torch.tensor([0.0, 1.0], dtype=torch.float64, device=device)
    return torch.cartesian_prod(*[pixels] * (height * width)).view(-1, 1, height, width)


def digits() -> Images:
    return load_dataset("digits").binarise("static", torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width"), [(2, 3), (3, 3), (1, 4), (6, 1)])
def test_probabilities_sum_to_one(device, height, width):
    log_p = pixelcnn(device, (1, height, width)).log_prob(all_images(height, width, device))
    torch.testing.assert_close(log_p.exp().sum().item(), 1.0)
    assert log_p.exp().max() > 3 * log_p.exp().mean()  # and they are not all alike


def test_a_logit_depends_on_earlier_pixels_alone(device):
    # With kernels this wide nothing in the image is out of sight but the pixels to come.
    model = pixelcnn(device, (1, 4, 4), size=7)
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x.to(device).requires_grad_()
    logits = model(x).logits.flatten()
    for d, logit in enumerate(logits):
        (slope,) = torch.autograd.grad(logit, x, retain_graph=True)
        assert (slope.flatten()[d:] == 0).all()
        assert (slope.flatten()[:d] != 0).all()


@pytest.mark.parametrize("mask", ["A", "B"])
def test_a_masked_convolution_is_a_convolution_with_zeroed_weights(device, mask):
    conv = MaskedConv2d(3, 4, 5, mask).double().to(device)
    x = torch.rand(2, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x.to(device)
    square = torch.zeros(4, 3, 5, 5, dtype=torch.float64, device=device)
    square[:, :, :3] = conv.weight.detach()
    square[:, :, 2, 3:] = 0
    if mask == "A":
        square[:, :, 2, 2] = 0
    expected = torch.nn.functional.conv2d(x, square, conv.bias, padding=2)
    torch.testing.assert_close(conv(x), expected)


def test_samples_come_from_the_model(device, generator):
    model, n = pixelcnn(device), 50_000
    everything = all_images(2, 3, device)
    samples = model.sample(n, generator)
    binary_digits = 2 ** torch.arange(5, -1, -1, device=device)
    counts = (samples.flatten(1).long() * binary_digits).sum(1).bincount(minlength=64)
    expected = n * model.log_prob(everything).exp().detach()
    assert expected.min() > 5  # for the χ² distribution to hold
    assert chisquare(counts.cpu(), expected.cpu()).pvalue > FALSE_ALARM


def test_sampling_keeps_what_it_computed_and_nothing_else(device):
    # Larger than all that a logit sees, so that a value kept in the wrong place would show.
    model = pixelcnn(device, (1, 11, 9))
    noise = torch.Generator().manual_seed(7)
    x = torch.zeros(3, 1, 11, 9, dtype=torch.float64, device=device)
    for pixel in range(11 * 9):
        at = (slice(None), slice(None), pixel // 9, pixel % 9)
        x[at] = binarise(model(x).mean.detach()[at], noise)
    samples = model.sample(3, torch.Generator().manual_seed(7))
    assert torch.equal(samples, x)
    assert samples.dtype == torch.float64
    assert 0.1 < samples.mean() < 0.9


def test_every_parameter_gets_a_gradient(device):
    model = pixelcnn(device)
    model.log_prob(all_images(2, 3, device)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
def test_training_raises_the_likelihood_and_replays_by_its_seed(device):
    images = digits()[:300].to(device)
    x = images.floats().double()
    fitted = []
    for seed in (1, 1, 2):
        model = pixelcnn(device, (1, 8, 8))
        before = model.log_prob(x).mean()
        model.float()
        history = fit_pixelcnn(model, images, torch.Generator(device).manual_seed(seed), epochs=2)
        assert len(history) == 2
        assert history[1] > history[0]
        assert model.double().log_prob(x).mean() > before + 10
        fitted.append(model.log_prob(x))
    assert torch.equal(fitted[0], fitted[1])
    assert not torch.equal(fitted[0], fitted[2])


def test_training_goes_on_with_an_optimizer_of_ones_own(device):
    images = digits()[:100].to(device)
    x = images.floats()
    ends = []
    for epochs in ([2], [1, 1]):
        model = pixelcnn(device, (1, 8, 8)).float()
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        generator = torch.Generator(device).manual_seed(0)
        for n in epochs:
            fit_pixelcnn(model, images, generator, epochs=n, optimizer=adam)
        assert adam.param_groups[0]["lr"] == 1e-3
        ends.append(model.log_prob(x))
    assert torch.equal(*ends)


@pytest.mark.slow
def test_training_in_double_precision_is_alike(device):
    single, double = (
        fit_pixelcnn(pixelcnn(device, (1, 8, 8)).to(dtype), digits().to(device)[:50], 1, epochs=2)
        for dtype in (torch.float32, torch.float64)
    )
    assert single == pytest.approx(double, rel=1e-3)


def test_products_of_bfloat16_train_alike(device):
    images, histories, cudnn = digits()[:300].to(device), {}, torch.backends.cudnn
    for precision in ("float32", "bfloat16"):
        model = pixelcnn(device, (1, 8, 8)).float()
        seen = []
        model.register_forward_hook(lambda *_, seen=seen: seen.append(cudnn.deterministic))
        generator = torch.Generator(device).manual_seed(0)
        histories[precision] = fit_pixelcnn(model, images, generator, epochs=3, precision=precision)
        assert set(seen) == {True}
    assert histories["bfloat16"] == pytest.approx(histories["float32"], abs=0.5)
    assert histories["bfloat16"] != histories["float32"]
    assert histories["bfloat16"][2] > histories["bfloat16"][0] + 1


def test_history_averages_examples_of_a_ragged_epoch(device):
    images = digits()[:5].to(device)
    model = pixelcnn(device, (1, 8, 8)).float()
    exact = model.log_prob(images.floats()).mean().item()
    history = fit_pixelcnn(
        model, images, torch.Generator(device), epochs=1, batch_size=4, learning_rate=1e-12
    )
    assert history == pytest.approx([exact], rel=1e-5)


def test_a_saved_model_is_the_same_model(device):
    model, x = pixelcnn(device), all_images(2, 3, device)
    other = PixelCNN((1, 2, 3), channels=5, layers=2, size=3).double().to(device)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.log_prob(x), model.log_prob(x))


def test_names_bad_arguments(device, generator):
    model, grey = pixelcnn(device, (1, 8, 8)).float(), load_dataset("digits").to(device)
    with pytest.raises(ValueError, match=r"^shape must be \(1, H, W\)"):
        PixelCNN((3, 8, 8))
    with pytest.raises(ValueError, match=r"^layers must be an integer of at least 1, not 0"):
        PixelCNN((1, 8, 8), layers=0)
    with pytest.raises(ValueError, match=r"^size must be odd and at least 3"):
        PixelCNN((1, 8, 8), size=4)
    with pytest.raises(ValueError, match=r"^x must be \(N, 1, 8, 8\), but is \(2, 1, 2, 3\)"):
        model.log_prob(torch.zeros(2, 1, 2, 3, device=device))
    with pytest.raises(ValueError, match=r"^n must be an integer of at least 1, not 0"):
        model.sample(0, generator)
    with pytest.raises(ValueError, match="grey pixels"):
        fit_pixelcnn(model, grey, generator)
    with pytest.raises(ValueError, match=r"^images must have .* \(1, 8, 8\), .* \(1, 8, 6\)"):
        fit_pixelcnn(model, Images(grey.pixels[..., 2:]).binarise("static", 0), generator)
    with pytest.raises(ValueError, match=r"^epochs must be an integer of at least 1, not 0"):
        fit_pixelcnn(model, digits().to(device), generator, epochs=0)
    with pytest.raises(ValueError, match=r"^logits must be finite"):
        fit_pixelcnn(model, digits().to(device), generator, learning_rate=1e30)


def test_progress_is_shown_where_asked(device, generator, capsys):
    pixelcnn(device).sample(1, generator, progress=True)
    fit_pixelcnn(
        pixelcnn(device, (1, 8, 8)).float(), digits()[:9].to(device), generator, epochs=1,
        progress=True,
    )  # fmt: skip
    shown = capsys.readouterr()
    assert "6/6" in shown.out
    assert "1/1" in shown.out
    assert not shown.err
