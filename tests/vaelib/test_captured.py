"""A step on static tensors is the step that is made without them; only its replay needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from models import Conditional, Counting, MixturePrior, TwoLayers, with_modes
from torch import Tensor
from training_runs import check_resumption, make_vae, parameters

from vaelib import fit, importance_weighted_elbo
from vaelib.captured import CapturedStep, CaptureError, StaticStep, changed_state, python_state
from vaelib.images import Images
from vaelib.minibatches import InMemory
from vaelib.objective import Objective, noise_dim
from vaelib.training import training_step

BATCH = 40


def static_run(
    model: Any, data: InMemory, *, epochs: int, samples: int = 1, objective: Any = None
) -> None:
    """What `fit` does on a GPU, but for the capture."""
    maximised = Objective(model, objective)
    adam = torch.optim.Adam(model.parameters(), fused=True)
    like = next(model.parameters())
    static = StaticStep(
        maximised, adam, data, torch.Generator().manual_seed(0),
        noise_shape=(samples, BATCH, noise_dim(model)), like=like,
    )  # fmt: skip

    def plain(x: Tensor, eps: Tensor, y: Tensor | None, beta: float, size: float) -> Tensor:
        bound = training_step(maximised, adam, x, eps, y, beta=beta, size=size)
        return torch.cat([bound.reconstruction.unsqueeze(1), bound.kl], 1).sum(0).double()

    step = CapturedStep(static, plain, say=pytest.fail)
    step.WARM_UP = 10**9  # never captured
    for _ in range(epochs):
        list(step.epoch([1.0] * data.steps(BATCH)))


@pytest.mark.parametrize("kind", [make_vae, Conditional, MixturePrior, TwoLayers, with_modes])
def test_static_steps_equal_plain_ones_bit_for_bit(digits: Images, kind: Callable[[], Any]) -> None:
    runs = []
    for static in (False, True):
        torch.manual_seed(0)
        model = kind().train()
        torch.manual_seed(1)  # of dropout
        if static:
            static_run(model, InMemory("train", digits, digits.labels), epochs=2)
        else:
            fit(model, digits, epochs=2, batch_size=BATCH, device="cpu", precision="float32",
                progress=False)  # fmt: skip
        runs.append(model.state_dict())
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, rtol=0, atol=1e-6)


def test_static_steps_take_samples_and_an_objective(digits: Images) -> None:
    runs = []
    for static in (False, True):
        vae = make_vae().double()
        chosen: dict[str, Any] = {"samples": 3, "objective": importance_weighted_elbo}
        if static:
            static_run(vae, InMemory("train", digits), epochs=2, **chosen)
        else:
            fit(vae, digits, epochs=2, batch_size=BATCH, device="cpu", precision="float32",
                progress=False, **chosen)  # fmt: skip
        runs.append(parameters(vae))
    torch.testing.assert_close(*runs, rtol=1e-12, atol=1e-12)


def test_the_weight_of_each_step_is_its_own() -> None:
    vae, x = make_vae(), torch.ones(6, 1, 8, 8)
    static = StaticStep(
        Objective(vae), torch.optim.SGD(vae.parameters(), lr=0.0), InMemory("train", x),
        torch.Generator().manual_seed(0), noise_shape=(1, 3, 3), like=x,
    )  # fmt: skip
    static.begin_epoch(torch.arange(6), [0.25, 4.0])
    gradients = []
    for _ in range(2):
        static()
        gradients.append(vae.encoder.body[1][2].bias.grad.clone())
    # The last layer's gradient for the log variances: reconstruction and weighted KL.
    assert static.position.item() == 2
    assert static.sums.shape == (2, 4)
    assert not torch.allclose(gradients[0], gradients[1], rtol=0.1)


def test_a_model_that_counts_its_steps_is_found_out(digits: Images) -> None:
    model = Counting()
    before = python_state(model)
    x = digits[:5].floats(0)
    model(x, torch.zeros(1, 5, 3))
    assert changed_state(before, python_state(model)) == "Counting.steps"
    vae = make_vae()
    before = python_state(vae)
    vae(x, torch.zeros(1, 5, 3))
    assert not changed_state(before, python_state(vae))


def test_what_cannot_be_captured_goes_on_and_says_why_once(
    digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: StaticStep) -> None:
        raise CaptureError("the model reads a value")

    monkeypatch.setattr("vaelib.captured.capture", refused)
    said: list[str] = []
    vae = make_vae()
    static = StaticStep(
        Objective(vae), torch.optim.Adam(vae.parameters()), InMemory("train", digits),
        torch.Generator().manual_seed(0), noise_shape=(1, BATCH, 3),
        like=next(vae.parameters()),
    )  # fmt: skip
    step = CapturedStep(static, lambda *_: torch.zeros(4), said.append)
    rows = list(step.epoch([1.0] * 8))
    assert len(rows) == 8
    assert said == [
        "steps are not replayed as a CUDA graph, and are slower for it: the model reads a value"
    ]
    assert step.made == 7


@pytest.mark.gpu
class TestOnAGpu:
    @pytest.mark.parametrize("kind", [make_vae, MixturePrior, TwoLayers])
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_replayed_run_equals_one_without_graphs(
        self, digits: Images, kind: Callable[[], Any], precision: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        runs = []
        for captured in (True, False):
            if not captured:
                monkeypatch.setattr(CapturedStep, "WARM_UP", 10**9)
            torch.manual_seed(0)
            model = kind()
            history = fit(model, digits, digits, epochs=3, batch_size=BATCH, device="cuda",
                          precision=precision, progress=False)  # fmt: skip
            runs.append((parameters(model), history.elbo))
        for replayed, made in zip(*runs, strict=True):
            torch.testing.assert_close(replayed, made, rtol=1e-6, atol=1e-6)

    def test_steps_are_replayed(self, digits: Images, monkeypatch: pytest.MonkeyPatch) -> None:
        replays = 0

        def counted(graph: torch.cuda.CUDAGraph) -> None:
            nonlocal replays
            replays += 1
            replay(graph)

        replay = torch.cuda.CUDAGraph.replay
        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
        fit(make_vae(), digits, epochs=2, batch_size=BATCH, device="cuda", precision="float32",
            progress=False)  # fmt: skip
        assert replays == 2 * (len(digits) // BATCH) - CapturedStep.WARM_UP

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_run_is_resumed_bit_for_bit(
        self, digits: Images, validation: Images, tmp_path: Any, precision: Any
    ) -> None:
        check_resumption(digits, validation, tmp_path, torch.device("cuda"), precision=precision)

    def test_a_model_that_cannot_be_captured_says_so(
        self, digits: Images, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fit(Counting(), digits, epochs=1, batch_size=BATCH, device="cuda", progress=True)
        assert "each step changes Counting.steps" in capsys.readouterr().out

    def test_dropout_and_batch_normalisation_are_captured(self, digits: Images) -> None:
        vae = with_modes()
        history = fit(vae, digits, digits, epochs=10, batch_size=BATCH, device="cuda",
                      progress=False)  # fmt: skip
        assert history.elbo[-1] > history.elbo[0]
        assert vae.encoder.body[2].num_batches_tracked == 10 * 8
