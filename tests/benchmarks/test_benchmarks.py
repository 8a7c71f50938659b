"""The benchmarks run, so that they can be run again; what they measure is not tested."""

from __future__ import annotations

import json
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_agreement, report
from benchmarks.contenders import layers_of, vae_of
from benchmarks.gpu_parts import Lines, OutOfTime, Setting
from benchmarks.loops import CapturedLoop, Launches, PlainLoop, PlainVAE
from benchmarks.report import Report, interleave, spread
from vaelib import VAE, load_dataset


@pytest.fixture(autouse=True)
def _files_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["training", "log_likelihood", "import_time", "grading", "load", "similar"]
)
def test_each_runs_and_keeps_nothing_of_a_quick_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_module(f"benchmarks.{name}").main(["--quick"])
    assert "## In short\n\n| measured | result | to reach |" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_contenders_exchange_their_parameters_without_loss() -> None:
    torch.manual_seed(0)
    vae = VAE((1, 28, 28), 2, [512], likelihood="grey bernoulli")
    copy = vae_of(layers_of(vae))
    x, eps = torch.rand(3, 1, 28, 28), torch.randn(1, 3, 2)
    assert torch.equal(copy(x, eps).per_example, vae(x, eps).per_example)


def test_the_pytorch_loop_trains_the_same_model() -> None:
    torch.manual_seed(0)
    vae = VAE((1, 28, 28), 2, [512], likelihood="grey bernoulli")
    loop = import_module("benchmarks.contenders").PyTorchLoop(
        layers_of(vae), load_dataset("mnist5k", "test")[:64], batch_size=64, seed=0
    )
    x = torch.rand(3, 1, 28, 28)
    mu, logvar = loop.model.encode(x.view(-1, 784))
    torch.testing.assert_close(mu, vae.encoder(x).mu)
    torch.testing.assert_close(logvar, vae.encoder(x).logvar)
    torch.testing.assert_close(loop.model.decode(mu), vae.decoder(mu).mean.flatten(1))


@pytest.mark.parametrize("network", ["fully connected", "convolutional", "residual"])
def test_the_loop_by_hand_trains_what_fit_does(network: Any) -> None:
    torch.manual_seed(0)
    hidden = [16] if network == "fully connected" else [4]
    vae = VAE((1, 28, 28), 2, hidden, network=network, likelihood="grey bernoulli")
    x, eps = torch.rand(6, 1, 28, 28), torch.randn(1, 6, 2)
    torch.testing.assert_close(PlainVAE(vae)(x, eps[0]), -vae(x, eps).mean())
    losses = []
    for make in (PlainLoop, CapturedLoop):
        torch.manual_seed(0)
        loop = make(vae, x, 3)
        loop.train(2)
        torch.manual_seed(1)
        losses.append(loop.model(x, eps[0]))
    # On a CPU the captured loop makes the same steps, one by one.
    torch.testing.assert_close(*losses)


def test_operations_that_compute_are_counted() -> None:
    x = torch.rand(4, 3, requires_grad=True)
    with Launches() as launches:
        (2 * x.t()).sum().view(1)
    assert launches.count == 2


@pytest.mark.slow
@pytest.mark.parametrize("part", gpu.PARTS)
def test_each_part_for_a_gpu_runs_on_a_cpu(part: str, tmp_path: Path) -> None:
    lines = Lines(tmp_path / "lines")
    gpu.PARTS[part][0](lines, Setting("cpu", quick=True, end=time.monotonic() + 300))
    said = [json.loads(line) for line in lines.path.read_text().splitlines()]
    assert said
    assert not [entry for entry in said if "Error" in str(entry)]


@pytest.mark.slow
def test_parts_run_in_processes_and_are_kept_as_they_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.main(["--device", "cpu", "--quick", "--parts", "baselines", "--folder", str(tmp_path)])
    assert "GAN: two runs by one seed" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_part_that_fails_or_takes_too_long_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(lines: Lines, setting: Setting) -> None:
        lines.text("before")
        raise RuntimeError("CUDA error: out of | luck")

    def lasts(lines: Lines, setting: Setting) -> None:
        assert setting.left() < 0.2
        try:
            time.sleep(60)
        except Exception:
            pytest.fail("its time can be ignored")

    path = tmp_path / "lines"
    for part in (fails, lasts):
        monkeypatch.setitem(gpu.PARTS, "tests", (part, 1))
        gpu.main(["--device", "cpu", "--part", "tests", "--lines", str(path), "--seconds", "0.2"])
    said = [json.loads(line) for line in path.read_text().splitlines()]
    assert said[0] == ["text", "before"]
    assert said[1] == [
        "in_short", "tests: broken off", "RuntimeError: CUDA error: out of / luck", "–"
    ]  # fmt: skip
    assert said[3][2].startswith(OutOfTime.__name__)


def test_what_a_captured_step_did_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with gpu_agreement.recorded() as steps:
        from vaelib.steps import CapturedStep

        static: Any = SimpleNamespace(optimizer=SimpleNamespace(param_groups=[]))
        step = CapturedStep(static, None, None)  # type: ignore[arg-type]
        step.say("it reads a value")
    assert steps == [step]
    assert gpu_agreement.told(step) == "none: it reads a value"
    step.graph, step.made = object(), 30  # type: ignore[assignment]
    assert gpu_agreement.told(step) == "all but 3 of 30"


def test_everybody_runs_in_every_round_and_the_first_does_not_count() -> None:
    calls: list[str] = []

    def run(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    seconds = interleave({name: lambda name=name: run(name) for name in "ab"}, rounds=2)
    assert "".join(calls) == "ab" + "ab" + "ba"
    assert seconds == {"a": [3.0, 6.0], "b": [4.0, 5.0]}
    assert spread([1.0, 3.0, 2.0], digits=0) == "2 (1–3)"


def test_results_are_kept_under_the_machines_name_and_shown_in_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results: written by report.py -->\n\n<!-- end of results -->\n")
    for value in ("1.2", "1.3"):
        kept = Report("speed", "what it is")
        kept.table("all", ["", "x"], [["we", "1"]])
        kept.in_short("ours ÷ theirs", value)
        kept.close(save=True)
    (file,) = (tmp_path / "results").iterdir()
    assert kept.machine in file.read_text()
    assert "| we | 1 |" in file.read_text()
    row = f"| [speed](results/{file.name}) | {kept.machine} | ours ÷ theirs | 1.3 | – |"
    assert row in readme.read_text()
    assert "1.2" not in readme.read_text()
    assert readme.read_text().startswith("before\n")
