"""Training ascends the bound, replays and resumes bit for bit, and stops where it must."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_runs import check_resumption, make_vae, parameters

import vaelib.training
from vaelib import VAE, DiagonalGaussian, Gaussian, evidence_lower_bound
from vaelib.checkpoint import load_vae, read_checkpoint, write_checkpoint
from vaelib.data import Images, load_dataset
from vaelib.elbo import ELBO
from vaelib.history import NonFiniteError
from vaelib.parallel import Processes
from vaelib.training import fit, training_step


class Counting(nn.Module):
    """A model that only remembers which examples it is shown: x holds their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.prior = DiagonalGaussian(torch.zeros(2), torch.zeros(2))
        self.seen: list[Tensor] = []
        self.noise: list[Tensor] = []

    def encoder(self, x: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(torch.zeros(len(x), 2), torch.zeros(len(x), 2))

    def decoder(self, z: Tensor) -> Gaussian:
        return Gaussian(z[..., :1], 1.0, event_dims=1)

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        self.seen.append(x[:, 0])
        self.noise.append(eps)
        return ELBO(-x[:, 0] + 0 * self.weight, torch.zeros(len(x), 2))


def test_a_step_follows_the_gradient_of_the_mean_elbo(
    device: torch.device, generator: torch.Generator
) -> None:
    vae = make_vae().double().to(device)
    x = torch.bernoulli(torch.full((7, 1, 8, 8), 0.5, device=device).double(), generator=generator)
    eps = torch.randn(2, 7, 3, generator=generator, device=device, dtype=torch.float64)
    (-evidence_lower_bound(vae, x, eps).mean()).backward()
    expected = [p.detach() - 0.1 * p.grad for p in vae.parameters()]
    # Gradients of some other loss lie in .grad: they must have no part in the step.
    for p in vae.parameters():
        p.grad = torch.full_like(p, 100.0)
    before = evidence_lower_bound(vae, x, eps)
    bound = training_step(vae, torch.optim.SGD(vae.parameters(), lr=0.1), x, eps)
    assert torch.equal(bound.per_example, before.per_example.detach())
    for p, value in zip(vae.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), value, rtol=0, atol=1e-12)


def test_beta_weighs_the_kl_alone() -> None:
    x, eps = torch.ones(4, 1, 8, 8), torch.randn(1, 4, 3)
    free, bound = make_vae(), make_vae()
    training_step(free, torch.optim.SGD(free.parameters(), lr=0.1), x, eps, beta=0.0)
    reconstruction = evidence_lower_bound(bound, x, eps).reconstruction.mean()
    gradients = torch.autograd.grad(-reconstruction, list(bound.parameters()))
    expected = torch.cat(
        [(p - 0.1 * g).flatten() for p, g in zip(bound.parameters(), gradients, strict=True)]
    )
    torch.testing.assert_close(parameters(free), expected.detach())


def test_every_parameter_gets_a_gradient() -> None:
    vae = make_vae(likelihood="gaussian", sigma=None)
    training_step(
        vae, torch.optim.Adam(vae.parameters()), torch.rand(9, 1, 8, 8), torch.randn(1, 9, 3)
    )
    for name, p in vae.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_every_example_is_visited_once_an_epoch_in_a_new_order() -> None:
    model, x = Counting(), torch.arange(23.0).unsqueeze(1)
    fit(model, x, epochs=2, batch_size=5, device="cpu", precision="float32", progress=False)
    assert [len(seen) for seen in model.seen] == [5, 5, 5, 5, 3] * 2
    first, second = torch.cat(model.seen[:5]), torch.cat(model.seen[5:])
    assert torch.equal(first.sort().values, x[:, 0])
    assert torch.equal(second.sort().values, x[:, 0])
    assert not torch.equal(first, x[:, 0])
    assert not torch.equal(first, second)


def test_the_mean_is_over_examples_whatever_the_last_batch_holds() -> None:
    # The mean of the batch means would be 11 only by accident: the last batch holds 3, not 5.
    history = fit(
        Counting(), torch.arange(23.0).unsqueeze(1), epochs=1, batch_size=5, device="cpu",
        precision="float32", progress=False,
    )  # fmt: skip
    assert history.reconstruction.item() == pytest.approx(-11.0, abs=1e-9)


def test_each_example_has_noise_of_its_own() -> None:
    model = Counting()
    fit(model, torch.zeros(40, 1), epochs=1, batch_size=40, samples=3, device="cpu",
        precision="float32", progress=False)  # fmt: skip
    (eps,) = model.noise
    assert eps.shape == (3, 40, 2)
    assert len(eps.flatten().unique()) == eps.numel()


def test_it_learns(digits: Images, validation: Images, device: torch.device) -> None:
    history = fit(make_vae(), digits, validation, epochs=8, batch_size=32, learning_rate=3e-3,
                  device=device, progress=False)  # fmt: skip
    assert len(history) == 8
    assert history.kl.shape == (8, 3)
    assert history.elbo[-1] > history.elbo[0] + 2
    assert history.validation_elbo[-1] > history.validation_elbo[0] + 2
    assert history.convention == "dynamic binarisation"
    assert history.active_units[-1] >= 1
    torch.testing.assert_close(history.elbo, history.reconstruction - history.kl.sum(1))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_n_plus_m_epochs_equal_n_then_m(
    digits: Images, validation: Images, tmp_path: Path, device: torch.device, precision: Any
) -> None:
    check_resumption(digits, validation, tmp_path, device, precision=precision)


def test_the_seed_decides_and_the_global_generator_is_left_alone(digits: Images) -> None:
    def trained(seed: int) -> Tensor:
        vae = make_vae()
        torch.manual_seed(12345)
        before = torch.get_rng_state()
        fit(vae, digits, epochs=1, seed=seed, device="cpu", progress=False)
        assert torch.equal(torch.get_rng_state(), before)
        return parameters(vae)

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


def test_validation_changes_nothing_in_training(digits: Images, validation: Images) -> None:
    with_it, without = make_vae(), make_vae()
    fit(with_it, digits, validation, epochs=2, device="cpu", progress=False)
    fit(without, digits, epochs=2, device="cpu", progress=False)
    assert torch.equal(parameters(with_it), parameters(without))


def test_warm_up_raises_beta_from_zero(digits: Images) -> None:
    history = fit(make_vae(), digits, epochs=4, batch_size=100, device="cpu", progress=False,
                  beta=lambda epoch: 2 * min(1.0, epoch / 3))  # fmt: skip
    # 3 steps per epoch, 9 of warm-up; the last step of the first epoch has 2 steps before it.
    torch.testing.assert_close(history.beta, torch.tensor([2 / 9, 5 / 9, 8 / 9, 1.0]).double() * 2)


def test_beta_is_asked_only_for_epochs_of_the_run(digits: Images, tmp_path: Path) -> None:
    def run(betas: list[float]) -> None:
        fit(make_vae(), digits, epochs=len(betas), beta=lambda epoch: betas[int(epoch)],
            batch_size=100, checkpoint=tmp_path / "run.pt", resume=True, device="cpu",
            progress=False)  # fmt: skip

    run([0.0, 0.5])
    run([0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match=r"a run with beta\(1\) = 0\.5, not 0\.75: "):
        run([0.0, 0.75, 1.0, 1.0])


def test_early_stopping_waits_and_leaves_the_best_epoch(
    digits: Images, validation: Images, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    vae = make_vae(hidden=[64])
    history = fit(vae, digits[:40], validation, epochs=500, batch_size=20, learning_rate=0.02,
                  patience=3, device="cpu", checkpoint=path, progress=False)  # fmt: skip
    best = history.best_epoch
    assert best is not None
    assert len(history) == best + 3 < 500
    assert history.validation_elbo.argmax() == best - 1
    again = make_vae(hidden=[64])
    fit(again, digits[:40], validation, epochs=best, batch_size=20, learning_rate=0.02,
        device="cpu", progress=False)  # fmt: skip
    assert torch.equal(parameters(vae), parameters(again))
    assert torch.equal(parameters(load_vae(path)), parameters(again))
    # The checkpoint keeps the last model beside its own optimizer, not the best one.
    state = read_checkpoint(path)
    assert not torch.equal(state["model"]["encoder.body.1.0.weight"],
                           state["best_model"]["encoder.body.1.0.weight"])  # fmt: skip


def test_nan_stops_with_step_term_and_safe_checkpoint(digits: Images, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"

    class Breaking(VAE):
        calls = 0

        def forward(self, x: Tensor, eps: Tensor) -> ELBO:
            Breaking.calls += self.training
            bound = super().forward(x, eps)
            if Breaking.calls == 5:
                return ELBO(bound.reconstruction, bound.kl * torch.inf)
            return bound

    arguments = make_vae().arguments
    torch.manual_seed(0)
    broken = Breaking(**arguments)
    with pytest.raises(
        NonFiniteError, match=r"^KL became .* in step 5 \(epoch 2\); .*run\.pt"
    ) as caught:
        fit(broken, digits, epochs=3, batch_size=100, device="cpu", checkpoint=path,
            progress=False)  # fmt: skip
    assert len(caught.value.history) == 1
    good = make_vae()
    fit(good, digits, epochs=1, batch_size=100, device="cpu", progress=False)
    assert torch.equal(parameters(broken), parameters(good))
    loaded = load_vae(path, into=Breaking(**arguments))
    assert torch.equal(parameters(loaded), parameters(good))


@pytest.mark.parametrize("validated", [False, True])
def test_an_epochs_last_step_that_diverges_is_told(
    digits: Images, validated: bool, tmp_path: Path
) -> None:
    """It is seen first by the checks of values after the epoch, whose errors blame the data."""
    validation = digits[:50] if validated else None
    path = tmp_path / "run.pt"
    with pytest.raises(
        NonFiniteError, match=r"KL became .* in step 1 \(epoch 1\); .*run\.pt"
    ) as caught:
        fit(make_vae(), digits[:100], validation, epochs=2, batch_size=100, learning_rate=1e30,
            device="cpu", checkpoint=path, progress=False)  # fmt: skip
    history = caught.value.history
    assert len(history) == len(history.active_units) == len(history.validation_elbo) == 0
    assert all(value.isfinite().all() for value in read_checkpoint(path)["model"].values())


def test_divergence_is_told_without_another_step_of_all_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that see no fault would not take part, and this one would wait for them."""
    steps = 0

    class Together(Processes):
        def wrap(self, model: nn.Module) -> nn.Module:
            class Synchronised(nn.Module):
                def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> ELBO:
                    nonlocal steps
                    steps += 1
                    bound: ELBO = model(x, eps)
                    return bound

            return Synchronised()

    monkeypatch.setattr("vaelib.training.processes", lambda _: contextlib.nullcontext(Together()))
    vae = VAE(shape=(2,), likelihood="gaussian")
    with pytest.raises(NonFiniteError, match="step 1"):
        fit(vae, 1e30 * torch.ones(2, 2), device="cpu", progress=False)
    assert steps == 1


def test_ctrl_c_leaves_a_run_to_resume(
    digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    settings: dict[str, Any] = {"batch_size": 100, "device": "cpu", "progress": False}
    whole = make_vae()
    fit(whole, digits, epochs=3, **settings)

    steps = 0

    def interrupted(*args: Any, **kwargs: Any) -> ELBO:
        nonlocal steps
        steps += 1
        if steps == 5:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return ascend(*args, **kwargs)

    ascend = vaelib.training._ascend
    monkeypatch.setattr("vaelib.training._ascend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(make_vae(), digits, epochs=3, checkpoint=path, **settings)
    monkeypatch.undo()
    resumed = make_vae()
    fit(resumed, digits, epochs=3, checkpoint=path, resume=True, **settings)
    assert torch.equal(parameters(resumed), parameters(whole))


def test_ctrl_c_in_the_first_epoch_too(
    digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> ELBO:
        raise KeyboardInterrupt

    vae = make_vae()
    start = parameters(vae)
    monkeypatch.setattr("vaelib.training._ascend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(vae, digits, epochs=1, device="cpu", checkpoint=tmp_path / "run.pt", progress=False)
    assert torch.equal(parameters(load_vae(tmp_path / "run.pt")), start)


def test_a_run_is_not_overwritten_nor_mixed_with_another(digits: Images, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    settings: dict[str, Any] = {"device": "cpu", "checkpoint": path, "progress": False}
    fit(make_vae(), digits, epochs=1, **settings)
    with pytest.raises(FileExistsError, match="resume=True"):
        fit(make_vae(), digits, epochs=2, **settings)
    with pytest.raises(ValueError, match="batch_size = 128, not 64"):
        fit(make_vae(), digits, epochs=2, batch_size=64, resume=True, **settings)
    with pytest.raises(ValueError, match="a run with latent_dim = 3, not 4: "):
        fit(make_vae(latent_dim=4), digits, epochs=2, resume=True, **settings)


@pytest.mark.parametrize("resume", [False, True])
def test_a_checkpoint_is_no_folder(digits: Images, tmp_path: Path, resume: bool) -> None:
    with pytest.raises(ValueError, match=r"checkpoint must be a file, but .* is a folder"):
        fit(make_vae(), digits, checkpoint=tmp_path, resume=resume, device="cpu", progress=False)


def test_a_run_goes_on_in_its_own_precision(digits: Images, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"device": "cpu", "checkpoint": tmp_path / "run.pt",
                                "progress": False}  # fmt: skip
    for precision in ("float32", "bfloat16"):
        (tmp_path / "run.pt").unlink(missing_ok=True)
        fit(make_vae(), digits, epochs=1, precision=precision, **settings)
        fit(make_vae(), digits, epochs=2, resume=True, **settings)
        assert read_checkpoint(tmp_path / "run.pt")["settings"]["precision"] == precision
        other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
        with pytest.raises(ValueError, match=f"precision = {precision}, not {other}"):
            fit(make_vae(), digits, epochs=3, precision=other, resume=True, **settings)


def test_a_run_goes_on_with_what_it_began_with(
    digits: Images, validation: Images, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"device": "cpu", "progress": False, "resume": True, "epochs": 2,
                                "checkpoint": tmp_path / "run.pt"}  # fmt: skip
    fit(make_vae(), digits, **settings)
    settings["epochs"] = 3
    with pytest.raises(ValueError, match="a run with validation = None, not "):
        fit(make_vae(), digits, validation, **settings)
    with pytest.raises(ValueError, match=r"parameters = torch\.float32, not torch\.float64"):
        fit(make_vae().double(), digits, **settings)
    vae = make_vae()
    with pytest.raises(ValueError, match="a run with optimizer = Adam, not SGD"):
        fit(vae, digits, optimizer=torch.optim.SGD(vae.parameters()), **settings)


def test_other_data_are_not_a_continuation(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"device": "cpu", "progress": False, "resume": True,
                                "checkpoint": tmp_path / "run.pt"}  # fmt: skip
    fit(make_vae(), torch.ones(40, 1, 8, 8), epochs=1, **settings)
    with pytest.raises(ValueError, match=r"run\.pt holds a run of another training set"):
        fit(make_vae(), torch.zeros(40, 1, 8, 8), epochs=2, **settings)


def test_stale_gradients_are_those_of_what_the_optimizer_holds() -> None:
    x, eps = torch.ones(5, 1, 8, 8), torch.zeros(1, 5, 3)
    results = []
    for frozen in (False, True):
        vae = make_vae()
        vae.encoder.requires_grad_(not frozen)
        sgd = torch.optim.SGD(vae.decoder.parameters(), lr=0.1)
        for _ in range(5):
            training_step(vae, sgd, x, eps)
        results.append(parameters(vae))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be a positive number"),
        ({"beta": float("nan")}, "beta must be a number of at least 0, not nan"),
        ({"precision": "float16"}, 'precision must be "float32" or "bfloat16"'),
    ],
)
def test_a_step_names_a_bad_setting(change: dict[str, Any], message: str) -> None:
    vae = make_vae()
    with pytest.raises(ValueError, match=message):
        training_step(vae, torch.optim.SGD(vae.parameters()), torch.ones(2, 1, 8, 8),
                      torch.zeros(1, 2, 3), **change)  # fmt: skip


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), ()])
def test_a_step_needs_an_example(shape: tuple[int, ...]) -> None:
    vae = make_vae()
    with pytest.raises(ValueError, match=r"^x must hold at least one example"):
        training_step(vae, torch.optim.SGD(vae.parameters()), torch.zeros(shape),
                      torch.zeros(1, 0, 3))  # fmt: skip


@pytest.mark.parametrize("lost", ["settings", "history", "generator", "optimizer"])
def test_a_run_that_is_not_whole_is_not_resumed(digits: Images, tmp_path: Path, lost: str) -> None:
    path = tmp_path / "run.pt"
    settings: dict[str, Any] = {"device": "cpu", "checkpoint": path, "progress": False}
    fit(make_vae(), digits, epochs=1, **settings)
    state = read_checkpoint(path)
    state[lost] = torch.zeros(16, dtype=torch.uint8)
    for broken in (state, {name: part for name, part in state.items() if name != lost}):
        write_checkpoint(path, broken)
        with pytest.raises(ValueError, match=r"run\.pt holds no complete run to resume"):
            fit(make_vae(), digits, epochs=2, resume=True, **settings)


def test_an_optimizer_of_ones_own_keeps_its_state_from_call_to_call(digits: Images) -> None:
    vae = make_vae()
    adam = torch.optim.Adam(vae.parameters(), lr=1e-3)
    fit(vae, digits, epochs=1, batch_size=100, optimizer=adam, device="cpu", progress=False)
    fit(vae, digits, epochs=2, batch_size=100, optimizer=adam, device="cpu", progress=False)
    assert {int(state["step"]) for state in adam.state.values()} == {9}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, not 0"),
        ({"epochs": 1.5}, "epochs must be an integer of at least 1, not 1.5"),
        ({"batch_size": -1}, "batch_size must be an integer of at least 1"),
        ({"samples": 0}, "samples must be an integer of at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number, not nan"),
        ({"beta": -1.0}, "beta must be a number of at least 0, not -1"),
        ({"device": "gpu"}, "device must be one that PyTorch can use here, .* not 'gpu'"),
        ({"patience": 2}, "patience needs a validation set"),
        ({"precision": "float16"}, 'precision must be "auto", "float32" or "bfloat16"'),
        ({"resume": True}, "resume needs a checkpoint"),
    ],
)
def test_bad_settings_are_named(digits: Images, change: dict[str, Any], message: str) -> None:
    vae = make_vae()
    before = copy.deepcopy(vae.state_dict())
    with pytest.raises(ValueError, match=message):
        fit(vae, digits, progress=False, **{"epochs": 1, "device": "cpu", **change})
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_grey_pixels_are_refused_by_a_likelihood_of_binary_ones() -> None:
    grey = load_dataset("digits")
    with pytest.raises(ValueError, match="x holds grey pixels"):
        fit(make_vae(), grey, epochs=1, device="cpu", progress=False)
    history = fit(
        make_vae(likelihood="grey bernoulli"), grey, epochs=1, device="cpu", progress=False
    )
    assert history.convention == "grey pixels: not a log-likelihood"


def test_values_are_checked_again_after_training(digits: Images) -> None:
    fit(make_vae(), digits, epochs=1, device="cpu", progress=False)
    with pytest.raises(ValueError, match="grey pixels"):
        make_vae()(torch.full((2, 1, 8, 8), 0.5), torch.zeros(1, 2, 3))


@pytest.mark.gpu
def test_cpu_and_cuda_take_the_same_step(generator: torch.Generator) -> None:
    noise = torch.Generator().manual_seed(0)
    x = torch.bernoulli(torch.full((50, 1, 8, 8), 0.5), generator=noise).double()
    eps = torch.randn(1, 50, 3, generator=noise, dtype=torch.float64)
    results = []
    for where in ("cpu", "cuda"):
        vae = make_vae().double().to(where)
        optimizer = torch.optim.Adam(vae.parameters(), fused=True)
        for _ in range(3):
            training_step(vae, optimizer, x.to(where), eps.to(where))
        results.append(parameters(vae))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-10)
