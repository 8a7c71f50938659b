"""A step on static tensors is the step that is made without them; only its replay needs a GPU."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from models import Conditional, Counting, MixturePrior, TwoLayers, with_modes
from torch import Tensor, nn
from training_runs import check_resumption, make_vae, parameters

from vaelib import ELBO, VAE, fit, importance_weighted_elbo
from vaelib.captured import CapturedStep, StaticStep, python_state
from vaelib.cuda_graph import CaptureError
from vaelib.elbo import noise_dim
from vaelib.images import Images
from vaelib.minibatches import InMemory
from vaelib.objective import Objective
from vaelib.training import training_step

BATCH = 40


def plain_step(objective: Objective, adam: torch.optim.Optimizer) -> Callable[..., Tensor]:
    def plain(x: Tensor, eps: Tensor, y: Tensor | None, beta: float, size: float) -> Tensor:
        bound = training_step(objective, adam, x, eps, y, beta=beta, size=size)
        return torch.cat([bound.reconstruction.unsqueeze(1), bound.kl], 1).sum(0).double()

    return plain


def static_run(
    model: Any, data: InMemory, *, epochs: int, samples: int = 1, objective: Any = None,
    beta: float = 1.0,
) -> None:  # fmt: skip
    """What `fit` does on a GPU, but for the capture."""
    maximised = Objective(model, objective)
    adam = torch.optim.Adam(model.parameters(), fused=True)
    like = next(model.parameters())
    static = StaticStep(
        maximised, adam, data, torch.Generator().manual_seed(0),
        noise_shape=(samples, BATCH, noise_dim(model)), like=like,
    )  # fmt: skip

    step = CapturedStep(static, plain_step(maximised, adam), say=pytest.fail)
    step.WARM_UP = 10**9  # never captured
    for _ in range(epochs):
        step.epoch([beta] * data.steps(BATCH), lambda: None)


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


@pytest.mark.parametrize("n", [BATCH, BATCH + 1, 2 * BATCH + 1, 2 * BATCH + 2])
def test_static_steps_have_the_minibatches_of_plain_ones(digits: Images, n: int) -> None:
    runs = [make_vae(), make_vae()]
    static_run(runs[0], InMemory("train", digits[:n]), epochs=2)
    fit(runs[1], digits[:n], epochs=2, batch_size=BATCH, device="cpu", precision="float32",
        progress=False)  # fmt: skip
    torch.testing.assert_close(*map(parameters, runs), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "chosen", [{"samples": 3, "objective": importance_weighted_elbo}, {"beta": 0.3}]
)
def test_static_steps_take_what_fit_takes(digits: Images, chosen: dict[str, Any]) -> None:
    """In float64, in which a number that was rounded to float32 would show."""
    runs = []
    for static in (False, True):
        vae = make_vae().double()
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


def changes(model: nn.Module, step: Callable[[], object]) -> set[str]:
    before = python_state(model)
    step()
    after = python_state(model)
    return {name for name in after if before[name] != after[name]}


class Averaging(VAE):
    """Binds a buffer and a plain tensor anew in each step, and draws from Python's generator."""

    def __init__(self) -> None:
        super().__init__((1, 8, 8), 3, [16])
        self.register_buffer("mean", torch.zeros(()))
        self._calls = 0

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        self._calls += 1
        self.mean = 0.9 * self.mean + x.mean()
        random.random()
        return super().forward(x, eps)


def test_what_a_replayed_step_would_leave_as_it_is_is_found_out(digits: Images) -> None:
    x, eps = digits[:5].floats(0), torch.zeros(1, 5, 3)
    model = Averaging()
    assert changes(model, lambda: model(x, eps)) == {
        "Averaging._calls", "Averaging.mean", "Python's random numbers",
    }  # fmt: skip
    counting = Counting()
    assert changes(counting, lambda: counting(x, eps)) == {"Counting.steps"}


def test_what_a_replayed_step_does_change_is_not_held_against_it(digits: Images) -> None:
    x, eps = digits[:5].floats(0), torch.zeros(1, 5, 3)
    for model in (make_vae(), with_modes(dropout=0.0), MixturePrior()):
        assert not changes(model, lambda model=model: model(x, eps))  # type: ignore[misc]


class Replayed:
    """Stands for a graph: it holds for good what the step read when it was captured."""

    def __init__(self, step: StaticStep) -> None:
        self.step, self.rates = step, [g["lr"] for g in step.optimizer.param_groups]
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        for group, rate in zip(self.step.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate
        self.step()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Replayed]:
    """Captures without a GPU: the graphs that were made."""
    made: list[Replayed] = []

    def captured(step: StaticStep, generators: object) -> Replayed:
        made.append(Replayed(step))
        return made[-1]

    monkeypatch.setattr("vaelib.captured.capture", captured)
    monkeypatch.setattr("vaelib.captured.reading_of_a_value", lambda work: work())
    return made


def captured_step(
    model: VAE, data: InMemory, say: Callable[[str], None] = pytest.fail
) -> CapturedStep:
    rate = torch.tensor(1e-3)
    adam = torch.optim.Adam(model.parameters(), lr=rate, capturable=False, foreach=False)
    objective = Objective(model)
    static = StaticStep(
        objective, adam, data, torch.Generator().manual_seed(0), noise_shape=(1, BATCH, 3),
        like=next(model.parameters()),
    )  # fmt: skip
    return CapturedStep(static, plain_step(objective, adam), say)


def run_epochs(step: CapturedStep, epochs: int) -> Tensor:
    n = len(step.step.data) // BATCH
    return torch.stack([step.epoch([1.0] * (n + 1), lambda: None) for _ in range(epochs)])


def test_replays_begin_after_the_warm_up(digits: Images, graphs: list[Replayed]) -> None:
    vae, without = make_vae(), make_vae()
    data = InMemory("train", digits)
    step = captured_step(vae, data)
    seen = run_epochs(step, 2)
    (graph,) = graphs
    assert graph.replays == 2 * (len(digits) // BATCH) - CapturedStep.WARM_UP
    never = captured_step(without, data)
    never.WARM_UP = 10**9
    assert torch.equal(run_epochs(never, 2), seen)
    assert torch.equal(parameters(vae), parameters(without))


def test_a_rate_put_in_place_of_the_graphs_tensor_arrives(
    digits: Images, graphs: list[Replayed]
) -> None:
    vae = make_vae()
    step = captured_step(vae, InMemory("train", digits))
    run_epochs(step, 1)
    before = parameters(vae)
    step.step.optimizer.param_groups[0]["lr"] = 0.0  # as ReduceLROnPlateau does
    run_epochs(step, 1)
    assert len(graphs) == 1
    assert torch.equal(parameters(vae), before)


@pytest.mark.parametrize(
    "change",
    [
        lambda vae, adam: vae.encoder.requires_grad_(False),
        lambda vae, adam: vae.encoder.eval(),
        lambda vae, adam: setattr(vae, "temperature", 2.0),
        lambda vae, adam: adam.param_groups[0].update(betas=(0.5, 0.9)),
        lambda vae, adam: setattr(vae.decoder.body[0], "weight",
                                  nn.Parameter(vae.decoder.body[0].weight.detach().clone())),
    ],
    ids=["frozen", "mode", "attribute", "betas", "parameter"],
)  # fmt: skip
def test_a_changed_setting_is_captured_anew(
    digits: Images, graphs: list[Replayed], change: Callable[..., Any]
) -> None:
    vae = make_vae().train()
    step = captured_step(vae, InMemory("train", digits))
    run_epochs(step, 2)
    assert len(graphs) == 1
    change(vae, step.step.optimizer)
    run_epochs(step, 2)
    assert len(graphs) == 2


def test_what_cannot_be_captured_goes_on_and_says_why_once(
    digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise CaptureError("model.py, line 7: no")

    monkeypatch.setattr("vaelib.captured.capture", refused)
    monkeypatch.setattr("vaelib.captured.reading_of_a_value", lambda work: work())
    said: list[str] = []
    vae, without = make_vae(), make_vae()
    data = InMemory("train", digits)
    seen = run_epochs(captured_step(vae, data, said.append), 2)
    assert said == [
        "steps are not replayed as a CUDA graph, which makes them slower: model.py, line 7: no"
    ]
    never = captured_step(without, data)
    never.WARM_UP = 10**9
    assert torch.equal(run_epochs(never, 2), seen)
    assert torch.equal(parameters(vae), parameters(without))


def test_a_model_that_counts_is_told_and_never_captured(
    digits: Images, graphs: list[Replayed]
) -> None:
    said: list[str] = []
    run_epochs(captured_step(Counting(), InMemory("train", digits), said.append), 2)
    assert not graphs
    assert "each step changes Counting.steps, which a replayed step would not" in said[0]
    assert len(said) == 1


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
