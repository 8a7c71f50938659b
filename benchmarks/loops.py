"""Training loops as a good engineer writes them by hand, in plain PyTorch: what `fit` has to match.

The data stay on the device, Adam is fused, nothing is read before the epoch's end. The networks are
copies of a `vaelib.VAE`'s; all else is written here, and nothing is checked. Grey pixels with
cross-entropy.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vaelib import VAE

__all__ = ["CapturedLoop", "Launches", "PlainLoop", "Products", "is_quick_in_bfloat16"]

LEARNING_RATE = 1e-3


class PlainVAE(nn.Module):
    """The networks of a VAE, and its loss in four lines."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(vae.encoder.body)
        self.decoder = copy.deepcopy(vae.decoder.body)

    def forward(self, x: Tensor, eps: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).float().chunk(2, 1)
        logits = self.decoder(mu + torch.exp(0.5 * logvar) * eps).float().flatten(1)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu.square() - logvar.exp())
        return (cross_entropy + kl) / len(x)


class PlainLoop:
    """An order per epoch, a minibatch by index, forward, backward, Adam.

    Arguments:
        vae: whose networks are copied.
        x: (N, C, H, W) grey pixels, on the device.
        batch_size: of a minibatch.
        bfloat16: whether products are in bfloat16, by autocast.
        channels_last: the layout of convolutions, where that is the faster one.
    """

    def __init__(
        self,
        vae: VAE,
        x: Tensor,
        batch_size: int,
        *,
        bfloat16: bool = False,
        channels_last: bool = False,
    ) -> None:
        self.x, self.batch_size, self.bfloat16 = x, batch_size, bfloat16
        self.latent_dim = vae.latent_dim
        self.model = PlainVAE(vae).to(x.device).train()
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.adam = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, fused=True)

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            total = torch.zeros((), device=self.x.device)
            order = torch.randperm(len(self.x), device=self.x.device)
            for index in order.split(self.batch_size):
                total += self.step(self.x[index])
            total.item()

    def step(self, x: Tensor) -> Tensor:
        """A step of Adam; the loss before it."""
        eps = torch.randn(len(x), self.latent_dim, device=x.device)
        with self.precision():
            loss: Tensor = self.model(x, eps)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.detach()

    def precision(self) -> contextlib.AbstractContextManager[object]:
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.x.device.type, torch.bfloat16, cache_enabled=False)


class CapturedLoop(PlainLoop):
    """The same with the whole step as one CUDA graph; on a CPU the step as it would be captured.

    It leaves out an epoch's last, smaller minibatch.
    """

    def __init__(self, vae: VAE, x: Tensor, batch_size: int, *, bfloat16: bool = False) -> None:
        super().__init__(vae, x, batch_size, bfloat16=bfloat16)
        device, is_cuda = x.device, x.device.type == "cuda"
        self.adam = torch.optim.Adam(
            self.model.parameters(), lr=LEARNING_RATE, fused=True, capturable=is_cuda
        )
        self.order = torch.arange(len(x) // batch_size * batch_size, device=device)
        self.order = self.order.view(-1, batch_size)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.total = torch.zeros((), device=device)
        self.replay: Callable[[], object] = self.static_step
        if is_cuda:
            self.replay = captured(self.static_step, self._begin)

    def static_step(self) -> None:
        """A step on tensors that stay where they are."""
        index = self.order.index_select(0, self.position).view(-1)
        self.total.add_(self.step(self.x.index_select(0, index)))
        self.position.add_(1)

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            order = torch.randperm(len(self.x), device=self.x.device)
            self.order.copy_(order[: self.order.numel()].view_as(self.order))
            self.position.zero_()
            self.total.zero_()
            for _ in range(len(self.order)):
                self.replay()
            self.total.item()

    def _begin(self) -> None:
        self.position.zero_()
        self.adam.zero_grad()  # so that gradients live in the graph's own memory


class Products:
    """The matrix products of an MLP's steps, and nothing else.

    x Wᵀ forward, dyᵀ x and (but for pixels) dy W back; on a GPU the products of a step are a graph.
    """

    def __init__(
        self,
        vae: VAE,
        steps: int,
        batch_size: int,
        device: torch.device,
        *,
        bfloat16: bool = False,
    ) -> None:
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        matrices = [p.detach() for p in vae.parameters() if p.dim() == 2]
        self.weights = [matrix.to(device, dtype) for matrix in matrices]
        self.inputs = [torch.rand(batch_size, w.shape[1]).to(device, dtype) for w in self.weights]
        self.slopes = [torch.rand(batch_size, w.shape[0]).to(device, dtype) for w in self.weights]
        self.steps, self.multiply = steps, self.step
        if device.type == "cuda":
            self.multiply = captured(self.step)

    def step(self) -> None:
        for x, weight in zip(self.inputs, self.weights, strict=True):
            F.linear(x, weight)
        layers = zip(self.inputs, self.slopes, self.weights, strict=True)
        for layer, (x, dy, weight) in enumerate(layers):
            dy.T @ x
            if layer:
                dy @ weight

    def train(self, epochs: int) -> None:
        for _ in range(epochs * self.steps):
            self.multiply()


def captured(
    work: Callable[[], object], before: Callable[[], object] = lambda: None
) -> Callable[[], object]:
    """The replay of `work` as a CUDA graph, after three times that are not part of it.

    `before` is called before each of them, and before the capture.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            before()
            work()
        before()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        work()
    return graph.replay


class Launches(TorchDispatchMode):
    """Counts the operations that compute something: about as many kernels as a GPU launches.

    Views are not counted, nor memory that is only taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        returned = func._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returned)
        skipped = ("aten::empty", "aten::detach", "profiler::")
        if not is_view and not func.name().startswith(skipped):
            self.count += 1
        return func(*args, **(kwargs or {}))


def is_quick_in_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16; without them it is slower."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
