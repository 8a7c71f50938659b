"""`fit` and the evaluations are right for every kind of model, in the modes that it has."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models import (
    Conditional,
    FullPosterior,
    LearntPrior,
    MixturePrior,
    TwoLayers,
    sampled_bound,
    with_modes,
)
from statistical import assert_mean_equals
from torch import Tensor, nn
from training_runs import make_vae, parameters

from vaelib import (
    ELBO,
    VAE,
    DiagonalGaussian,
    evaluate_elbo,
    fit,
    importance_weighted_elbo,
    kl_terms,
    noise,
)
from vaelib.checkpoint import read_checkpoint
from vaelib.elbo import evidence_lower_bound
from vaelib.history import Interrupted, NonFiniteError
from vaelib.images import Images

RUN: dict[str, Any] = {
    "epochs": 2, "batch_size": 50, "device": "cpu", "precision": "float32", "progress": False,
}  # fmt: skip

KINDS = [LearntPrior, MixturePrior, FullPosterior, TwoLayers]


class OfPositiveNumbers(VAE):
    """Its likelihood gives nothing but positive numbers a probability."""

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        p = torch.distributions.LogNormal(self.decoder(self.encoder(x).reparameterize(eps)).mean, 1)
        return ELBO(p.log_prob(x).sum(-1).mean(0), super().forward(x, eps).kl)


class Noisy(VAE):
    """Draws from the global generator, in evaluation mode too."""

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        return super().forward(x + torch.randn_like(x), eps)


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


class TestModes:
    """Dropout and batch normalisation do in training and in validation what they are meant to."""

    def test_validation_does_not_touch_what_is_trained(
        self, digits: Images, validation: Images
    ) -> None:
        runs = []
        for validated in (None, validation):
            vae = with_modes()
            torch.manual_seed(1)
            fit(vae, digits, validated, **RUN)
            runs.append(vae.state_dict())
        for name, value in runs[0].items():
            assert torch.equal(runs[1][name], value), name

    def test_validation_is_what_eval_mode_gives(self, digits: Images, validation: Images) -> None:
        vae = with_modes()
        history = fit(vae, digits, validation, **RUN)
        vae.eval()
        again = torch.Generator().manual_seed(0)
        expected = evaluate_elbo(vae, validation, again).mean()
        torch.testing.assert_close(history.validation_elbo[-1].float(), expected)

    def test_it_trains_in_training_mode_wherever_it_starts(self, digits: Images) -> None:
        runs = []
        for mode in (True, False):
            vae = with_modes().train(mode)
            torch.manual_seed(1)
            fit(vae, digits, **RUN)
            runs.append(parameters(vae))
        assert torch.equal(*runs)

    def test_it_trains_in_training_mode_whatever_on_epoch_does(self, digits: Images) -> None:
        runs = []
        for look in (None, lambda _, model: model.eval()):
            vae = with_modes()
            torch.manual_seed(1)
            fit(vae, digits, on_epoch=look, **RUN)
            runs.append(parameters(vae))
        assert torch.equal(*runs)

    def test_every_module_is_put_back_as_it_was_found(self, digits: Images) -> None:
        vae = with_modes()
        vae.encoder.eval()
        vae.encoder.body[4].train()
        before = modes(vae)
        assert len(set(before)) == 2
        fit(vae, digits, digits, **RUN)
        assert modes(vae) == before
        evaluate_elbo(vae, digits, 0)
        assert modes(vae) == before

    def test_even_where_training_fails(self) -> None:
        vae = with_modes().eval()
        with pytest.raises(ValueError, match="grey pixels"):
            fit(vae, torch.full((40, 1, 8, 8), 0.5), **RUN)
        assert not any(modes(vae))

    @pytest.mark.parametrize("n", [1, 51, 1001])
    def test_batch_normalisation_bears_any_number_of_validation_images(
        self, digits: Images, n: int
    ) -> None:
        many = digits[[i % len(digits) for i in range(n)]]
        history = fit(with_modes(), digits, many, **{**RUN, "epochs": 1})
        assert history.validation_elbo.isfinite().all()


class TestKinds:
    @pytest.mark.parametrize("kind", KINDS)
    def test_trains_with_validation_by_its_own_bound(
        self, digits: Images, validation: Images, kind: type[nn.Module]
    ) -> None:
        torch.manual_seed(0)
        model = kind()
        history = fit(model, digits, validation, **{**RUN, "epochs": 5, "learning_rate": 3e-3})
        assert history.elbo[-1] > history.elbo[0]
        x = validation.floats(torch.Generator().manual_seed(0))
        again = torch.Generator().manual_seed(0)
        validation.floats(again)
        eps = noise((1, len(x), model.prior.event_shape[0]), again, like=x)
        expected = model(x, eps).per_example.mean()
        torch.testing.assert_close(history.validation_elbo[-1].float(), expected)
        torch.testing.assert_close(evaluate_elbo(model, validation, 0).mean(), expected)

    @pytest.mark.parametrize("kind", [MixturePrior, FullPosterior])
    def test_the_bound_agrees_with_the_mean_log_weight(
        self, digits: Images, kind: type[nn.Module], generator: torch.Generator
    ) -> None:
        torch.manual_seed(0)
        model = kind().double()
        x = digits[:2].floats(generator).double()
        eps = noise((20_000, 2, 3), generator, like=x)
        with torch.no_grad():
            bound = evidence_lower_bound(model, x, eps).per_example
            z = model.encoder(x).reparameterize(eps)
            log_w = (
                model.decoder(z).log_prob(x) + model.prior.log_prob(z)
                - model.encoder(x).log_prob_at(eps)
            )  # fmt: skip
        for n in range(2):
            assert_mean_equals(log_w[:, n] - bound[n], 0.0)
        assert sampled_bound(model, x, eps[:1]).shape == (2,)

    def test_the_learnt_prior_moves(self, digits: Images) -> None:
        model = LearntPrior()
        fit(model, digits, **RUN)
        assert (model.prior_mu != 0).all()

    def test_labels_reach_a_model_that_takes_them(self, digits: Images) -> None:
        model = Conditional()
        y = digits.labels
        assert y is not None
        fit(model, digits, digits, **RUN)
        shown = torch.cat(model.seen[:6])  # of the first epoch
        assert torch.equal(shown.sort().values, y.sort().values)
        with pytest.raises(ValueError, match="train must have labels, because the model takes"):
            fit(model, torch.zeros(40, 64), **RUN)
        with pytest.raises(ValueError, match="validation must have labels"):
            fit(model, digits, torch.zeros(40, 64), **RUN)

    def test_a_run_is_not_resumed_with_other_labels(self, digits: Images, tmp_path: Path) -> None:
        settings = {**RUN, "checkpoint": tmp_path / "run.pt"}
        fit(Conditional(), digits, **settings)
        assert digits.labels is not None
        other = replace(digits, labels=digits.labels.flip(0))
        with pytest.raises(ValueError, match="a run of another training set"):
            fit(Conditional(), other, resume=True, **{**settings, "epochs": 3})

    def test_importance_weighted_training_maximises_that_bound(
        self, digits: Images, validation: Images
    ) -> None:
        vae = make_vae()
        history = fit(vae, digits, validation, samples=5, objective=importance_weighted_elbo, **RUN)
        again = torch.Generator().manual_seed(0)
        x = validation.floats(again)
        eps = noise((5, len(x), 3), again, like=x)
        with torch.no_grad():
            expected = importance_weighted_elbo(vae, x, eps).per_example.mean()
            elbo = evidence_lower_bound(vae, x, eps).per_example.mean()
        torch.testing.assert_close(history.validation_elbo[-1].float(), expected)
        assert expected > elbo

    def test_a_model_of_half_precision_is_told_what_to_do(self, digits: Images) -> None:
        with pytest.raises(
            ValueError,
            match=r"parameters in float32 or float64, but has torch.bfloat16: .*precision=",
        ):
            fit(make_vae().bfloat16(), digits, **RUN)

    def test_a_single_example_can_be_overfitted(self, digits: Images) -> None:
        history = fit(make_vae(), digits[:1],
                      **{**RUN, "epochs": 30, "learning_rate": 0.01})  # fmt: skip
        assert history.elbo[-1] > history.elbo[0] + 5

    def test_batch_normalisation_bears_any_number_of_training_images(self, digits: Images) -> None:
        encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4))
        history = fit(VAE((1, 8, 8), 2, [8], encoder=encoder), digits[:51], **RUN)
        assert history.elbo.isfinite().all()

    def test_an_encoder_is_called_as_the_model_calls_it(self, digits: Images) -> None:
        class OfRows(VAE):
            def __init__(self) -> None:
                super().__init__((1, 8, 8), 2, [8])
                self.encoder: nn.Module = nn.Linear(64, 4)  # type: ignore[assignment]

            def forward(self, x: Tensor, eps: Tensor) -> ELBO:
                q = DiagonalGaussian(*self.encoder(x.flatten(1)).chunk(2, -1))
                z = q.reparameterize(eps)
                return ELBO(self.decoder(z).log_prob(x).mean(0), kl_terms(q, self.prior))

        history = fit(OfRows(), digits, digits, **RUN)
        assert history.active_units.tolist() == [-1, -1]

    @pytest.mark.parametrize("reads_labels", [False, True])
    def test_active_units_are_counted_whether_or_not_the_encoder_reads_labels(
        self, digits: Images, reads_labels: bool
    ) -> None:
        class Encoder(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.means = nn.Linear(64, 2)

            def forward(self, x: Tensor, *labels: Tensor) -> DiagonalGaussian:
                if len(labels) != reads_labels:
                    raise TypeError("labels")
                mu = 10 * self.means(x.flatten(1))
                return DiagonalGaussian(mu, torch.zeros_like(mu))

        class Labelled(VAE):
            def __init__(self) -> None:
                super().__init__((1, 8, 8), 2, [8])
                self.encoder: nn.Module = Encoder()  # type: ignore[assignment]

            def forward(self, x: Tensor, eps: Tensor, y: Tensor) -> ELBO:
                q = self.encoder(x, y) if reads_labels else self.encoder(x)
                return evidence_lower_bound(self, x, eps, q)

        history = fit(Labelled(), digits, digits, **RUN)
        assert history.active_units.tolist() == [2, 2]

    def test_labels_may_be_optional(self, digits: Images) -> None:
        class Optional(Conditional):
            def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> ELBO:
                return super().forward(x, eps, torch.zeros(len(x)).long() if y is None else y)

        without = digits.floats(0)
        for data in (digits, without):
            model = Optional()
            fit(model, data, data, **RUN)
            assert bool(torch.cat(model.seen).any()) == (data is digits)
            assert evaluate_elbo(model, data, 0).mean().isfinite()

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_it_trains_where_the_caller_records_no_gradients(
        self, digits: Images, mode: Any
    ) -> None:
        vae, inside = make_vae(), make_vae()
        history = fit(vae, digits, digits, **RUN)
        with mode():
            assert torch.equal(fit(inside, digits, digits, **RUN).elbo, history.elbo)
        assert torch.equal(parameters(inside), parameters(vae))


class TestWhatCannotBeTrained:
    """A model that cannot be trained is refused before the first step, and told why."""

    def test_a_model_without_trainable_parameters(self, digits: Images) -> None:
        with pytest.raises(ValueError, match="parameters to train, but none requires a gradient"):
            fit(make_vae().requires_grad_(False), digits, **RUN)

    def test_an_encoder_may_be_frozen(self, digits: Images) -> None:
        vae = make_vae()
        vae.encoder.requires_grad_(False)
        before = parameters(vae.encoder)
        fit(vae, digits, **RUN)
        assert torch.equal(parameters(vae.encoder), before)

    def test_lazy_layers(self, digits: Images) -> None:
        encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
        vae = VAE((1, 8, 8), 2, [8], encoder=encoder)
        with pytest.raises(ValueError, match="model must be initialised, but has lazy layers"):
            fit(vae, digits, **RUN)
        vae(digits.floats(0), torch.zeros(1, len(digits), 2))
        assert len(fit(vae, digits, **RUN)) == 2

    def test_a_model_made_in_inference_mode(self, digits: Images) -> None:
        with torch.inference_mode():
            vae = make_vae()
        with pytest.raises(ValueError, match="model must be built outside"):
            fit(vae, digits, **RUN)

    def test_an_optimizer_that_needs_a_closure(self, digits: Images) -> None:
        vae = make_vae()
        with pytest.raises(ValueError, match="but LBFGS needs a closure"):
            fit(vae, digits, optimizer=torch.optim.LBFGS(vae.parameters()), **RUN)

    @pytest.mark.parametrize(
        ("returned", "message"),
        [
            (lambda b: b.per_example, "must return an ELBO, but returns Tensor"),
            (lambda b: (b.reconstruction, b.kl), "must return an ELBO, but returns tuple"),
            (lambda b: ELBO(b.reconstruction, b.kl.sum(-1)), r"but they are \(50,\) and \(50,\)"),
            (lambda b: ELBO(b.reconstruction.mean(), b.kl), r"but they are \(\) and \(50, "),
            (lambda b: ELBO(b.reconstruction, b.kl.mean(0, True)), r"\(50,\) and \(1, "),
        ],
    )
    def test_what_is_not_one_bound_per_example(
        self, digits: Images, returned: Any, message: str
    ) -> None:
        class Wrong(VAE):
            def forward(self, x: Tensor, eps: Tensor) -> ELBO:
                wrong: ELBO = returned(super().forward(x, eps))
                return wrong

        def objective(model: VAE, x: Tensor, eps: Tensor) -> ELBO:
            wrong: ELBO = returned(model(x, eps))
            return wrong

        with pytest.raises(ValueError, match=f"model .*{message}"):
            fit(Wrong(digits.shape, 2, [8]), digits, **RUN)
        with pytest.raises(ValueError, match=f"objective .*{message}"):
            fit(make_vae(), digits, objective=objective, **RUN)

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ({"on_epoch": 3}, "on_epoch must be a function, not 3"),
            ({"objective": "elbo"}, "objective must be a function, not 'elbo'"),
            ({"optimizer": "adam"}, r"optimizer must be a torch\.optim\.Optimizer .* not 'adam'"),
            ({"optimizer": torch.optim.Adam}, r"optimizer must be a torch\.optim\.Optimizer"),
            ({"beta": lambda epoch: -epoch}, r"beta\(0\.1\d*\) must be a number of at least 0"),
            ({"beta": lambda epoch: float("nan")}, r"beta\(0\) must be a number of at least 0"),
            ({"seed": 2**63}, "seed must be an integer from 0 to 2⁶³ − 1"),
            ({"device": "meta"}, "device must be one that PyTorch can use here"),
            ({"device": 1.5}, "device must be one that PyTorch can use here"),
        ],
    )
    def test_another_argument(self, digits: Images, argument: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            fit(make_vae(), digits, **{**RUN, **argument})


class TestNothingIsIgnored:
    def test_an_optimizer_of_another_model(self, digits: Images) -> None:
        other = torch.optim.Adam(make_vae().parameters())
        with pytest.raises(ValueError, match="optimizer holds no parameter of the model"):
            fit(make_vae(), digits, optimizer=other, **RUN)

    def test_a_learning_rate_beside_an_optimizer(self, digits: Images) -> None:
        vae = make_vae()
        adam = torch.optim.Adam(vae.parameters())
        with pytest.raises(ValueError, match=r"learning_rate is for fit's own Adam"):
            fit(vae, digits, optimizer=adam, learning_rate=0.1, **RUN)

    def test_a_scheduler_of_another_optimizer(self, digits: Images) -> None:
        vae = make_vae()
        adam, other = (torch.optim.Adam(vae.parameters()) for _ in range(2))
        scheduler = torch.optim.lr_scheduler.ConstantLR(other)
        with pytest.raises(ValueError, match="scheduler must change the learning rate of opt"):
            fit(vae, digits, optimizer=adam, scheduler=scheduler, **RUN)
        with pytest.raises(ValueError, match="scheduler needs the optimizer"):
            fit(vae, digits, scheduler=scheduler, **RUN)


class TestEveryMinibatchIsChecked:
    @pytest.mark.parametrize("wrong", [0.5, 2.0, float("nan")])
    def test_wherever_the_wrong_example_is(self, wrong: float) -> None:
        x = torch.ones(100, 1, 8, 8)
        x[37, 0, 3, 3] = wrong
        with pytest.raises(ValueError, match=r"^train: x "):
            fit(make_vae(), x, **RUN)
        with pytest.raises(ValueError, match=r"^validation: x "):
            fit(make_vae(), torch.ones(100, 1, 8, 8), x, **RUN)

    def test_and_told_apart_from_those_of_the_other_argument(self) -> None:
        good, other = torch.ones(9, 1, 8, 8), torch.ones(9, 64)
        message = r": x must be \(N, 1, 8, 8\), but is \(9, 64\)"
        with pytest.raises(ValueError, match="^train" + message):
            fit(make_vae(), other, good, **RUN)
        with pytest.raises(ValueError, match="^validation" + message):
            fit(make_vae(), good, other, **RUN)
        with pytest.raises(ValueError, match="^images" + message):
            evaluate_elbo(make_vae(), other, 0)

    def test_by_every_thread_for_itself(self) -> None:
        """One thread's training must not switch off the checks of others, nor its own for good."""
        errors: list[Exception] = []

        def run(seed: int) -> None:
            try:
                vae = make_vae()
                fit(vae, torch.ones(60, 1, 8, 8), seed=seed, **RUN)
                vae(torch.full((2, 1, 8, 8), 0.5), torch.zeros(1, 2, 3))
            except ValueError as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 3
        with pytest.raises(ValueError, match="grey pixels"):
            make_vae()(torch.full((2, 1, 8, 8), 0.5), torch.zeros(1, 2, 3))


class TestWhatIsKept:
    def test_on_epoch_sees_every_epoch(self, digits: Images) -> None:
        seen: list[tuple[int, float]] = []
        vae = make_vae()

        def note(history: Any, model: nn.Module) -> None:
            assert model is vae
            seen.append((len(history), history.elbo[-1].item()))

        history = fit(vae, digits, on_epoch=note, **RUN)
        assert seen == [(1, history.elbo[0].item()), (2, history.elbo[1].item())]

    def test_ctrl_c_brings_the_history_along(self, digits: Images) -> None:
        def stop(history: Any, _: nn.Module) -> None:
            if len(history) == 3:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted, match="stopped after 3 of 9 epochs") as caught:
            fit(make_vae(), digits, on_epoch=stop, **{**RUN, "epochs": 9})
        assert isinstance(caught.value, KeyboardInterrupt)
        assert len(caught.value.history) == 3

    def test_after_nan_the_model_is_that_of_the_last_epoch(self, digits: Images) -> None:
        vae = make_vae()
        sgd = torch.optim.SGD(vae.parameters(), lr=1e-3)
        good: dict[str, Tensor] = {}

        def explode(history: Any, model: nn.Module) -> None:
            good.update({name: value.clone() for name, value in model.state_dict().items()})
            sgd.param_groups[0]["lr"] = 1e20

        with pytest.raises(NonFiniteError) as caught:
            fit(vae, digits, optimizer=sgd, on_epoch=explode, **{**RUN, "epochs": 9})
        assert len(caught.value.history) >= 1
        for name, value in vae.state_dict().items():
            assert torch.equal(value, good[name]), name

    def test_a_bound_that_is_infinite_from_the_start_is_not_blamed_on_the_rate(self) -> None:
        with pytest.raises(NonFiniteError, match="initial ones: scale the data") as caught:
            fit(VAE((2,), likelihood="gaussian"), torch.full((4, 2), 1e30), **RUN)
        assert "learning rate" not in str(caught.value)

    def test_after_one_step_the_parameters_are_not_the_initial_ones(self) -> None:
        vae, x = VAE((2,), likelihood="gaussian"), torch.zeros(4, 2)
        with pytest.raises(NonFiniteError, match=r"in step 1 .* A lower learning rate"):
            fit(vae, x, torch.full((4, 2), 1e30), **RUN)

    def test_after_nan_a_lower_rate_goes_on_from_the_checkpoint(
        self, digits: Images, tmp_path: Path
    ) -> None:
        path = tmp_path / "run.pt"
        settings = {**RUN, "checkpoint": path}
        fit(make_vae(), digits, learning_rate=1e-3, **settings)
        with pytest.raises(NonFiniteError, match=r"A lower learning rate .* resume=True"):
            fit(make_vae(), digits, learning_rate=1e20, resume=True, **{**settings, "epochs": 4})
        history = fit(make_vae(), digits, learning_rate=1e-4, resume=True,
                      **{**settings, "epochs": 4})  # fmt: skip
        assert history.learning_rate.tolist() == [1e-3, 1e-3, 1e-4, 1e-4]

    def test_so_does_a_lower_rate_of_ones_own_optimizer(
        self, digits: Images, tmp_path: Path
    ) -> None:
        for epochs, rate in ((1, 1e-3), (2, 1e-4)):
            vae = make_vae()
            adam = torch.optim.Adam(vae.parameters(), lr=rate)
            history = fit(vae, digits, optimizer=adam, checkpoint=tmp_path / "run.pt", resume=True,
                          **{**RUN, "epochs": epochs})  # fmt: skip
        assert history.learning_rate.tolist() == [1e-3, 1e-4]

    def test_after_nan_the_checkpoint_is_as_last_written(
        self, digits: Images, tmp_path: Path
    ) -> None:
        vae, path = make_vae(), tmp_path / "run.pt"
        sgd = torch.optim.SGD(vae.parameters(), lr=1e-3)

        def explode(history: Any, _: nn.Module) -> None:
            sgd.param_groups[0]["lr"] = 1e20 if len(history) == 2 else 1e-3

        with pytest.raises(
            NonFiniteError,
            match=r"\(epoch 3\); the model is as before that epoch, and the run in .*run\.pt as",
        ):
            fit(vae, digits, optimizer=sgd, on_epoch=explode, checkpoint=path, checkpoint_every=9,
                **{**RUN, "epochs": 9})  # fmt: skip
        assert len(read_checkpoint(path)["history"]["beta"]) == 0

    def test_a_line_per_epoch_where_there_is_no_terminal(
        self, digits: Images, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fit(make_vae(), digits, digits, **{**RUN, "progress": True})
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
        assert all("validation -" in line for line in lines)

    def test_a_schedule_is_kept_in_the_checkpoint(self, digits: Images, tmp_path: Path) -> None:
        def run(epochs: int, **where: Any) -> VAE:
            vae = make_vae()
            adam = torch.optim.Adam(vae.parameters(), lr=0.01)
            halved = torch.optim.lr_scheduler.StepLR(adam, 1, gamma=0.5)
            fit(vae, digits, optimizer=adam, scheduler=halved, **{**RUN, "epochs": epochs, **where})
            return vae

        path = tmp_path / "run.pt"
        whole = run(4)
        run(2, checkpoint=path)
        resumed = run(4, checkpoint=path, resume=True)
        assert torch.equal(parameters(whole), parameters(resumed))
        assert read_checkpoint(path)["optimizer"]["param_groups"][0]["lr"] == 0.01 / 16

    def test_a_schedule_goes_on_as_it_began(self, digits: Images, tmp_path: Path) -> None:
        def run(epochs: int, kind: Any, **settings: Any) -> None:
            vae = make_vae()
            adam = torch.optim.Adam(vae.parameters())
            scheduler = kind and kind(adam, **settings)
            fit(vae, digits, optimizer=adam, scheduler=scheduler, checkpoint=tmp_path / "run.pt",
                resume=True, **{**RUN, "epochs": epochs})  # fmt: skip

        exponential, step = torch.optim.lr_scheduler.ExponentialLR, torch.optim.lr_scheduler.StepLR
        run(1, step, step_size=1)
        with pytest.raises(ValueError, match="a run with scheduler = StepLR, not ExponentialLR: "):
            run(2, exponential, gamma=0.9)
        with pytest.raises(ValueError, match="a run with scheduler = StepLR, not None: "):
            run(2, None)
        (tmp_path / "run.pt").unlink()
        run(1, None)
        with pytest.raises(ValueError, match="a run with scheduler = None, not StepLR: "):
            run(2, step, step_size=1)

    def test_the_checkpoint_is_written_as_often_as_asked(
        self, digits: Images, tmp_path: Path
    ) -> None:
        path, epochs = tmp_path / "run.pt", []

        def look(*_: Any) -> None:
            epochs.append(len(read_checkpoint(path)["history"]["beta"]))

        fit(make_vae(), digits, checkpoint=path, checkpoint_every=2, on_epoch=look,
            **{**RUN, "epochs": 5})  # fmt: skip
        assert epochs == [0, 2, 2, 4, 4]
        look()
        assert epochs[-1] == 5

    def test_a_model_that_computes_something_else_is_not_resumed(
        self, digits: Images, tmp_path: Path
    ) -> None:
        class Scaled(VAE):
            scale = 1.0

            def forward(self, x: Tensor, eps: Tensor) -> ELBO:
                bound = super().forward(x, eps)
                return ELBO(bound.reconstruction, self.scale * bound.kl)

        path = tmp_path / "run.pt"
        fit(Scaled((1, 8, 8), 3, [16]), digits, checkpoint=path, **RUN)
        Scaled.scale = 2.0
        with pytest.raises(ValueError, match=r"run\.pt holds a run of another model"):
            fit(Scaled((1, 8, 8), 3, [16]), digits, checkpoint=path, resume=True, **RUN)
        with pytest.raises(ValueError, match=r"run\.pt holds a run of another model"):
            fit(make_vae(), digits, checkpoint=path, resume=True, **RUN)

    @pytest.mark.parametrize("kind", [OfPositiveNumbers, Noisy])
    def test_a_model_of_any_kind_is_resumed(self, tmp_path: Path, kind: type[VAE]) -> None:
        settings = {**RUN, "checkpoint": tmp_path / "run.pt", "resume": True}
        x = torch.rand(7, 4, generator=torch.Generator().manual_seed(0)) + 0.1
        for epochs in (1, 2):
            model = kind((4,), 2, [3], likelihood="gaussian")
            before = torch.get_rng_state()
            assert len(fit(model, x, **{**settings, "epochs": epochs})) == epochs
            assert kind is Noisy or torch.equal(torch.get_rng_state(), before)

    def test_other_examples_are_not_resumed(
        self, digits: Images, validation: Images, tmp_path: Path
    ) -> None:
        path = tmp_path / "run.pt"
        fit(make_vae(), digits[:100], validation, checkpoint=path, **RUN)
        with pytest.raises(ValueError, match="a run of another training set"):
            fit(make_vae(), digits[100:200], validation, checkpoint=path, resume=True, **RUN)
        with pytest.raises(ValueError, match="a run of another validation set"):
            fit(make_vae(), digits[:100], digits[: len(validation)], checkpoint=path, resume=True,
                **RUN)  # fmt: skip
