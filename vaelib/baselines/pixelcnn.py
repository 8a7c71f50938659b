"""A small PixelCNN: p(x) = Π_d p(x_d|x_1, …, x_{d−1}), with pixels in reading order.

There is no latent variable and no bound. log p(x) is exact, and sampling takes one step per pixel
(van den Oord et al. 2016, "Pixel recurrent neural networks", section 3).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib._checks import (
    check_at_least,
    check_fits,
    check_floats,
    check_generator,
    check_positive,
    check_shape,
)
from vaelib._modes import gradients, training
from vaelib.baselines._products import Precision, products
from vaelib.data import Images, binarise, check_images
from vaelib.likelihood import Bernoulli

__all__ = ["MaskedConv2d", "PixelCNN", "fit_pixelcnn"]


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees no later pixel: none below, and none to the right in the same row.

    The kernel has no rows below the pixel, which saves half of the products. The end of its last
    row is masked.

    Arguments:
        n_in, n_out: channels.
        size: of the kernel, odd: it reaches (size − 1)/2 pixels up, left and right.
        mask: `"A"` hides the pixel itself too; `"B"` shows it. The first layer is A, so that no
            pixel helps to predict itself. The other layers are B.

    Raises:
        ValueError: when a number of channels is below 1, size is even or below 3, or mask is
            neither "A" nor "B".

    Example:
        >>> MaskedConv2d(1, 1, size=3, mask="A").visible
        tensor([[1., 1., 1.],
                [1., 0., 0.]])
    """

    visible: Tensor

    def __init__(self, n_in: int, n_out: int, size: int, mask: str) -> None:
        check_at_least(1, n_in=n_in, n_out=n_out)
        check_at_least(3, size=size)
        if size % 2 == 0 or mask not in ("A", "B"):
            raise ValueError(
                f'size must be odd and at least 3 and mask "A" or "B", not {size} and {mask!r}'
            )
        reach = size // 2
        super().__init__(n_in, n_out, (reach + 1, size))
        self.reach = reach
        visible = torch.ones(reach + 1, size)
        visible[-1, reach + (mask == "B") :] = 0
        self.register_buffer("visible", visible, persistent=False)

    def pad(self, x: Tensor) -> Tensor:
        """Pad x with zeros above, left and right, as far as the kernel reaches."""
        return F.pad(x, (self.reach, self.reach, self.reach, 0))

    def valid(self, padded: Tensor) -> Tensor:
        """The convolution of a padded input, without more padding."""
        return F.conv2d(padded, self.weight * self.visible, self.bias)

    def window(self, padded: Tensor, row: int, column: int) -> Tensor:
        """The part of a padded input that the output at one pixel depends on, as a view."""
        rows, columns = self.kernel_size
        return padded[:, :, row : row + rows, column : column + columns]

    def pixel_of(self, window: Tensor) -> Tensor:
        """The pixel itself in its window: (N, n_in, 1, 1), as a view."""
        return window[:, :, self.reach :, self.reach : self.reach + 1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, n_in, H, W) → (N, n_out, H, W)."""
        return self.valid(self.pad(x))


class _Residual(nn.Module):
    """h + mix(relu(conv(relu(h))))."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.conv = MaskedConv2d(channels, channels, size, "B")
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        mixed: Tensor = self.mix(F.relu(self.conv(F.relu(h))))
        return h + mixed


class PixelCNN(nn.Module):
    """Masked convolutions in residual layers, with one logit for each pixel.

    van den Oord et al. 2016, section 3. A logit sees the 3 + layers·(size − 1)/2 rows above, except
    for a wedge to the upper right, the blind spot that later PixelCNNs removed.

    Arguments:
        shape: (1, H, W).
        channels: of the hidden layers.
        layers: number of residual layers.
        size: of their kernels, odd.

    PyTorch draws the initial parameters from its global generator: call `torch.manual_seed` first.

    Raises:
        ValueError: when an argument is not as described.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = PixelCNN((1, 2, 2), channels=4, layers=1)
        >>> everything = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).view(16, 1, 2, 2)
        >>> model.log_prob(everything).exp().sum().item()  # a distribution over the 16 images
        1.0
    """

    def __init__(
        self, shape: Sequence[int], channels: int = 16, layers: int = 4, size: int = 5
    ) -> None:
        super().__init__()
        check_shape(shape)
        if len(shape) != 3 or shape[0] != 1:
            raise ValueError(f"shape must be (1, H, W), pixels of one channel, not {tuple(shape)}")
        check_at_least(1, channels=channels, layers=layers)
        self.shape = tuple(shape)
        self.first = MaskedConv2d(1, channels, 7, "A")
        self.layers = nn.ModuleList(_Residual(channels, size) for _ in range(layers))
        self.last = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, 1, 1)
        )
        # Twice as fast on a CPU, whose vector units are otherwise idle with so few channels.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Bernoulli:
        """All p(x_d|x_1, …, x_{d−1}) at once: (N, 1, H, W) → batch (N,), events (1, H, W)."""
        check_fits("x", x, self)
        check_floats("x", x, "N", *self.shape)
        h = self.first(_signed(x))
        for layer in self.layers:
            h = layer(h)
        # With bfloat16 products, sums over hundreds of pixels still need more digits.
        return Bernoulli(self.last(h).to(x.dtype), event_dims=3)

    def log_prob(self, x: Tensor) -> Tensor:
        """The exact log p(x): (N, 1, H, W) → (N,), in nats.

        Raises:
            ValueError: when x has another shape or grey pixels.
        """
        log_p: Tensor = self(x).log_prob(x)
        return log_p

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | int, *, progress: bool = False) -> Tensor:
        """Draw n images, pixel by pixel.

        Later pixels do not change a layer's output at a pixel, so each output is computed once and
        kept (Ramachandran et al. 2017). A step is then a few small products.

        Arguments:
            n: number of images, at least 1.
            generator: or an integer seed. A generator on the CPU draws the same images for every
                device.
            progress: whether to show a progress bar.

        Returns:
            (n, 1, H, W) zeros and ones, in the model's dtype and on its device.
        """
        from tqdm import trange

        check_at_least(1, n=n)
        generator = check_generator(generator)
        _, height, width = self.shape
        layers = cast(Iterable[_Residual], self.layers)
        convs = [self.first, *(layer.conv for layer in layers)]
        blank = self.first.weight.new_zeros(n, 1, height, width)
        inputs = [conv.pad(blank.repeat(1, conv.in_channels, 1, 1)) for conv in convs]
        for pixel in trange(height * width, unit="pixel", file=sys.stdout, disable=not progress):
            windows = [
                conv.window(kept, *divmod(pixel, width))
                for conv, kept in zip(convs, inputs, strict=True)
            ]
            h = self.first.valid(windows[0])
            for layer, window in zip(layers, windows[1:], strict=True):
                layer.conv.pixel_of(window).copy_(F.relu(h))
                h = h + layer.mix(F.relu(layer.conv.valid(window)))
            drawn = binarise(torch.sigmoid(self.last(h)), generator)
            self.first.pixel_of(windows[0]).copy_(_signed(drawn))
        reach = self.first.reach
        drawn = inputs[0][:, :, reach:, reach:-reach]
        return (drawn + 1) / 2


@gradients()
def fit_pixelcnn(
    model: PixelCNN,
    images: Images,
    generator: torch.Generator | int,
    *,
    epochs: int = 5,
    batch_size: int = 16,
    learning_rate: float = 0.01,
    precision: Precision = "float32",
    optimizer: torch.optim.Optimizer | None = None,
    progress: bool = False,
) -> list[float]:
    """Maximise the mean log p(x) with Adam, whose rate falls to 0 over the last quarter.

    Arguments:
        model: trained in place, on the device of the images.
        images: binary, static or dynamic.
        generator: draws the order of the minibatches and dynamic pixels; or an integer seed.
        epochs, batch_size, learning_rate: of the training.
        precision: of the products, "float32" or "bfloat16"; parameters and sums keep their own.
        optimizer: over `model.parameters()`, used instead of Adam. It keeps its state from call to
            call, and its own rate.
        progress: whether to show a progress bar.

    Returns:
        For each epoch, the mean log p(x) in nats. Each example counts with the parameters of its
        own step.

    Raises:
        ValueError: when a number is out of range, there are no images, they are grey or have
            another shape, or training diverges and the logits are no longer finite; then lower
            learning_rate.

    Example:
        >>> from vaelib.data import load_dataset
        >>> _ = torch.manual_seed(0)
        >>> digits = load_dataset("digits").binarise("dynamic")
        >>> model = PixelCNN(digits.shape, channels=4, layers=1)
        >>> history = fit_pixelcnn(model, digits, torch.Generator().manual_seed(0), epochs=2)
        >>> history[1] > history[0]
        True
    """
    from tqdm import trange

    check_at_least(1, epochs=epochs, batch_size=batch_size)
    check_positive(learning_rate=learning_rate)
    check_images(model.shape, images=images)
    generator = check_generator(generator)
    step, falls = 0, optimizer is None
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    steps = epochs * math.ceil(len(images) / batch_size)
    dtype = next(model.parameters()).dtype
    history: list[float] = []
    with products(images.pixels.device, precision), training(model):
        for _ in trange(epochs, unit="epoch", file=sys.stdout, disable=not progress):
            total = torch.zeros((), device=images.pixels.device)
            for x in images.batches(batch_size, generator):
                if falls:
                    rate = learning_rate * min(1.0, 4 * (1 - step / steps))
                    optimizer.param_groups[0]["lr"] = rate
                log_p = model.log_prob(x.to(dtype))
                optimizer.zero_grad()
                (-log_p.mean()).backward()
                optimizer.step()
                step += 1
                total += log_p.detach().sum()
            history.append(total.item() / len(images))
    return history


def _signed(x: Tensor) -> Tensor:
    # −1 and 1, so that the 0 of the padding is different from both.
    return 2 * x - 1
