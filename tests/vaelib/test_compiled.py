"""A compiled step makes the parameters that steps without a compiler make."""

from __future__ import annotations

import contextlib
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from models import with_modes
from torch import Tensor, nn
from training_runs import check_resumption, make_vae, parameters

from vaelib.images import Images
from vaelib.parallel import Processes
from vaelib.training import fit

HEADERS = Path(sysconfig.get_path("include")) / "Python.h"


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("g++") and HEADERS.exists()), reason="torch.compile needs g++ and Python.h"
)
# PyTorch's compiler uses what PyTorch itself calls old.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
class TestCompile:
    """Runs of a shape share a graph, so tests have the same shapes wherever they can."""

    @pytest.mark.parametrize("batch_size", [80, 1000], ids=["ragged", "smaller than a batch"])
    def test_equals_a_run_without_it_to_rounding(
        self, digits: Images, device: torch.device, batch_size: int
    ) -> None:
        runs = []
        for compile in (False, True):
            vae = make_vae().double()
            history = fit(vae, digits, epochs=3, batch_size=batch_size, samples=2,
                          beta=lambda epoch: min(1.0, epoch / 2), precision="float32",
                          device=device, progress=False, compile=compile)  # fmt: skip
            runs.append((parameters(vae), history.reconstruction, history.kl))
        for without, compiled in zip(*runs, strict=True):
            torch.testing.assert_close(compiled, without, rtol=1e-9, atol=1e-9)

    def test_equals_it_whatever_the_parameters_are_like(self, digits: Images) -> None:
        class Odd(nn.Module):
            """Gradients that lie in memory otherwise than their parameters, or are none."""

            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(3, 64)
                self.permuted = nn.Parameter(torch.randn(2, 3, 32))
                self.summed = nn.Parameter(torch.randn(5, 7))
                self.unused = nn.Parameter(torch.ones(3))
                self.frozen = nn.Parameter(torch.ones(64), requires_grad=False)
                # Of some other loss: no part of any step.
                self.frozen.grad = torch.ones(64)

            def forward(self, z: Tensor) -> Tensor:
                weight = self.permuted.permute(1, 0, 2).reshape(3, 64)
                return self.linear(z) + z @ weight + self.summed.sum() / 100 + self.frozen

        runs = []
        for compile in (False, True):
            vae = make_vae()
            vae.decoder.body = Odd()
            vae.double()
            fit(vae, digits, epochs=3, batch_size=100, precision="float32", device="cpu",
                progress=False, compile=compile)  # fmt: skip
            runs.append(parameters(vae))
        torch.testing.assert_close(*runs, rtol=1e-9, atol=1e-9)

    def test_leaves_torch_as_it_was(self, digits: Images, monkeypatch: pytest.MonkeyPatch) -> None:
        # To import the compiler turns it off already.
        monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
        fit(make_vae(), digits, epochs=1, batch_size=32, device="cpu", progress=False,
            precision="float32", compile=True)  # fmt: skip
        assert not torch._dynamo.config.trace_autograd_ops
        with pytest.raises(ValueError, match="scale"):
            torch.distributions.Normal(0.0, -1.0)

    def test_reads_pixels_too(self) -> None:
        grey = torch.full((40, 1, 8, 8), 0.5)
        with pytest.raises(ValueError, match="grey pixels"):
            fit(make_vae(), grey, epochs=1, batch_size=20, device="cpu", progress=False,
                compile=True)  # fmt: skip

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_resumes_bit_for_bit(
        self, digits: Images, validation: Images, tmp_path: Path, device: torch.device,
        precision: Any,
    ) -> None:  # fmt: skip
        check_resumption(digits, validation, tmp_path, device, precision=precision, compile=True)

    def test_makes_one_graph_for_all_runs_of_a_shape(self, digits: Images) -> None:
        torch._dynamo.reset()
        counters = torch._dynamo.utils.counters
        counters.clear()
        for most in (1.0, 0.5):
            fit(make_vae(), digits, epochs=3, batch_size=90, beta=lambda t, most=most: most * t / 3,
                device="cpu", progress=False, compile=True)  # fmt: skip
        assert counters["stats"]["unique_graphs"] == 1
        assert not counters["graph_break"]

    def test_says_what_is_missing(
        self, digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch._dynamo.reset()
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
        import torch._inductor.config as settings

        none = settings.patch({"cpp.cxx": (None, "no-such-compiler")})
        with (
            none,
            pytest.raises(RuntimeError, match=r"^torch.compile failed .*C\+\+ compiler"),
        ):
            fit(make_vae(), digits, epochs=1, device="cpu", progress=False, compile=True)

    @pytest.mark.parametrize("resumed", [False, True])
    def test_takes_an_adam_of_ones_own_with_its_schedule(
        self, digits: Images, resumed: bool
    ) -> None:
        runs = []
        for compile in (False, True):
            vae = make_vae().double()
            adam = torch.optim.Adam(vae.parameters(), lr=3e-3, betas=(0.8, 0.9), eps=1e-4)
            halved = torch.optim.lr_scheduler.StepLR(adam, 1, gamma=0.5)
            for _ in range(1 + resumed):
                history = fit(vae, digits, epochs=2, batch_size=80, samples=2, optimizer=adam,
                              scheduler=halved, precision="float32", device="cpu", progress=False,
                              compile=compile)  # fmt: skip
            runs.append((parameters(vae), history.learning_rate))
        for without, compiled in zip(*runs, strict=True):
            torch.testing.assert_close(compiled, without, rtol=1e-9, atol=1e-9)

    def test_refuses_another_optimizer(self, digits: Images) -> None:
        vae = make_vae()
        adam = torch.optim.AdamW(vae.parameters())
        with pytest.raises(
            ValueError, match=r"optimizer must be a torch\.optim\.Adam .* not AdamW"
        ):
            fit(vae, digits, optimizer=adam, compile=True, progress=False)

    def test_is_refused_to_several_processes(
        self, digits: Images, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        together = contextlib.nullcontext(Processes(rank=0, count=2))
        monkeypatch.setattr("vaelib.training.processes", lambda device: together)
        with pytest.raises(ValueError, match="compile trains in one process"):
            fit(make_vae(), digits, epochs=1, device="cpu", progress=False, compile=True)

    def test_moves_batch_normalisation_as_a_run_without_it_does(self, digits: Images) -> None:
        runs = []
        for compile in (False, True):
            vae = with_modes(dropout=0.0).double()
            fit(vae, digits, epochs=2, batch_size=100, device="cpu", precision="float32",
                progress=False, compile=compile)  # fmt: skip
            runs.append(vae.state_dict())
        for name, value in runs[0].items():
            torch.testing.assert_close(runs[1][name], value, rtol=1e-9, atol=1e-9)

    def test_drops_out_what_a_run_without_it_does(self, digits: Images) -> None:
        runs = []
        for compile in (False, True):
            vae = with_modes(normalised=False).double()
            torch.manual_seed(1)
            fit(vae, digits, epochs=2, batch_size=100, device="cpu", precision="float32",
                progress=False, compile=compile)  # fmt: skip
            runs.append(parameters(vae))
        torch.testing.assert_close(*runs, rtol=1e-9, atol=1e-9)
