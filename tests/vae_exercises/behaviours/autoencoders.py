"""What the functions of 1-autoencoders do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tests.vae_exercises.behaviour import (
    REASONS,
    SCALES,
    Function,
    Outcome,
    attempt,
    behaviour,
    plain,
    values_and_gradients,
)
from vae_exercises.autoencoders import Autoencoder, _written_for
from vae_exercises.draw import Draw


@behaviour("autoencoders.linear_autoencoder_weights")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    yield "sets the seed", _sets_the_seed(lambda: function(draw.normal(5, 3), 1))
    for n, d, k in [(9, 5, 3), (12, 4, 1), (6, 2, 1), (20, 7, 4)]:
        x = draw.normal(n, d)
        axes = torch.linalg.svd(x - x.mean(0)).Vh
        for scale in (0.02, 1.0, 40.0):
            # Of clearly different variances, about a mean that is far off.
            sizes = torch.tensor([4.0 - i if i < k else 0.03 for i in range(d)], dtype=x.dtype)
            scaled = scale * ((x - x.mean(0)) @ axes.mT * sizes @ axes + 3 * axes[-1] + 0.4)
            for dtype in (torch.float64, torch.float32):

                def call(x: Any = scaled, k: int = k, dtype: Any = dtype) -> Any:
                    return function(x.to(dtype, copy=True), k)

                result = attempt(call)
                name = f"{n, d, k}, {scale}, {dtype}"
                if not isinstance(result, tuple) or len(result) != 2:
                    yield name, plain(result)
                    continue
                mean, w = result
                yield f"{name}, mean", plain(mean)
                yield f"{name}, W", str((getattr(w, "shape", ""), getattr(w, "dtype", "")))
                # Any basis of the span; the small differences of float32 are its own.
                if isinstance(w, torch.Tensor) and w.shape == (d, k) and w.dtype == torch.float64:
                    yield f"{name}, span", w.detach().double() @ w.detach().double().mT
                    yield f"{name}, columns", w.detach().double().mT @ w.detach().double()


@behaviour("autoencoders.reconstruction_error")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    shapes = [(6, 4), (3, 5), (1, 1), (1, 3), (4, 1), (2, 3, 4), (3, 1, 2, 5)]
    cases = {
        f"{shape}, {scale}": (scale * draw.normal(*shape), scale * draw.normal(*shape))
        for shape in shapes
        for scale in SCALES
    }
    cases["pixels"] = (draw.uniform(0, 1, 5, 6).round(), draw.uniform(0.01, 0.99, 5, 6))
    yield from values_and_gradients(function, cases)


def _sets_the_seed(call: Function) -> str:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        call()
        states.append(torch.random.get_rng_state())
    return str(torch.equal(*states))


def _fixed(module: nn.Module, draw: Draw) -> None:
    """Parameters of its own choice, whatever the module began with."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(draw.uniform(-1.5, 1.5, *parameter.shape))


def _called(call: Function, *inputs: torch.Tensor, module: Any) -> Iterator[Outcome]:
    """The result, its gradients, and the module's state afterwards."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    result = attempt(lambda: call(*leaves))
    yield "result", plain(result)
    yield "draws", torch.rand(1)
    if isinstance(result, torch.Tensor):
        yield "dtype", str(result.dtype)
        if result.requires_grad:
            total = (result * torch.linspace(1, 2, result.numel()).reshape(result.shape)).sum()
            wanted = [*leaves, *(p for p in module.parameters() if p.requires_grad)]
            for i, g in enumerate(torch.autograd.grad(total, wanted, allow_unused=True)):
                yield f"gradient {i}", "none" if g is None else g
    yield "modes", str([torch.is_grad_enabled(), *(m.training for m in module.modules())])
    yield "asking", str([p.requires_grad for p in module.parameters()])
    torch.set_grad_enabled(True)


@behaviour("autoencoders.Autoencoder")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    yield "sets the seed", _sets_the_seed(lambda: function(2, 3, 4))
    for sizes in [(6, 9, 4), (5, 3, 2), (3, 1, 1), (1, 1, 1), (2, 4, 7)]:
        torch.manual_seed(1)
        model = function(*sizes)
        yield "kind", str(isinstance(model, nn.Module))
        x = draw.normal(5, sizes[0]).float()
        if sizes[1] > 3:
            h = draw.normal(5, sizes[2]).float()
            start = [model.encode(x).detach(), model.decode(h).detach()]
            yield f"{sizes}, start", str([bool((y.std(0) > 1e-5).all()) for y in start])
        for training in (True, False):
            model.train(training)
            for n, scale in [(1, 1.0), (4, 1.0), (7, 0.05), (4, 30.0)]:
                _fixed(model, draw)
                x, h = scale * draw.normal(n, sizes[0]), scale * draw.normal(n, sizes[2])
                x, h = x.float(), h.float()
                calls = {"encode": (model.encode, x), "decode": (model.decode, h)}
                for name, (call, value) in {**calls, "forward": (model, x)}.items():
                    torch.manual_seed(3)
                    for what, outcome in _called(call, value, module=model):
                        yield f"{sizes}, {training}, {n, scale}, {name}, {what}", outcome


@behaviour("autoencoders.initialise_classifier")
def _(function: Any, draw: Draw) -> Iterator[Outcome]:
    own = _written_for(function.function) or Autoencoder._reference
    for *sizes, n_classes in [(6, 9, 4, 3), (5, 3, 2, 7), (3, 4, 1, 2)]:
        torch.manual_seed(1)
        model = own(*sizes)
        _fixed(model, draw)
        kept = {name: value.clone() for name, value in model.state_dict().items()}

        def call(model: Any = model, k: int = sizes[2], n_classes: int = n_classes) -> Any:
            return function.function(model, k, n_classes)

        yield f"{sizes}, sets the seed", _sets_the_seed(call)
        classifier = call()
        yield f"{sizes}, kind", str(isinstance(classifier, nn.Module))
        same = [torch.equal(model.state_dict()[name], value) for name, value in kept.items()]
        yield f"{sizes}, weights", str(same)
        own_modes = [m.training for name, m in model.named_modules() if name in ("", "encoder")]
        yield f"{sizes}, modes", str([torch.is_grad_enabled(), *own_modes])
        yield f"{sizes}, asking", str([p.requires_grad for p in own_parameters(model, kept)])
        x = draw.normal(6, sizes[0]).float()
        reconstruction = attempt(lambda model=model, x=x: model(x))
        yield f"{sizes}, reconstruction", plain(reconstruction)
        listed = list(classifier.parameters())
        shared = [any(p is q for q in listed) for p in own_parameters(model, kept)]
        yield f"{sizes}, shared", str(shared)
        new = [p for p in listed if not any(p is q for q in own_parameters(model, kept))]
        for training in (True, False):
            classifier.train(training)
            for n, scale in [(1, 1.0), (4, 1.0), (7, 0.05), (4, 30.0)]:
                _fixed(model, draw)
                with torch.no_grad():
                    for p in new:
                        p.copy_(draw.uniform(-1.5, 1.5, *p.shape))
                value = (scale * draw.normal(n, sizes[0])).float()
                torch.manual_seed(3)
                for what, outcome in _called(classifier, value, module=classifier):
                    yield f"{sizes}, {training}, {n, scale}, {what}", outcome


def own_parameters(model: nn.Module, kept: dict[str, torch.Tensor]) -> list[nn.Parameter]:
    """Those that a model had before a new layer was kept in it."""
    return [p for name, p in model.named_parameters() if name in kept]


ABSORBED = {
    r"→ (-|2 \* )|\+ 1 \[": "the same networks: signs, factors and shifts are learnt",
    r"torch\.rand|nn\.init|from_numpy\(drawn\)": "how a network begins is up to its author",
}
REASONS["autoencoders.Autoencoder"] = {
    **ABSORBED,
    r"biases\[i\] → .*clamp\(min=0\)": "a bias that is kept from below 0 is not looked for",
}
REASONS["autoencoders.initialise_classifier"] = {
    **ABSORBED,
    r"x → x\.detach\(\)": "nobody asks for a gradient in the pictures",
}
REASONS["autoencoders.linear_autoencoder_weights"] = {
    r"way 4: w → w": "the iteration still ends within what is allowed to randomised algorithms",
}
