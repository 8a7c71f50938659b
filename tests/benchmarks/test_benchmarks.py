"""The benchmarks run, so that they can be run again; what they measure is not tested."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks import report, reproduction
from benchmarks.contenders import layers_of, vae_of
from benchmarks.report import Report, interleave, spread
from vaelib import VAE, load_dataset


@pytest.fixture(autouse=True)
def _files_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["training", "log_likelihood", "import_time", "reproduction", "grading"]
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


def test_a_reproduction_cut_in_pieces_is_the_same_run(tmp_path: Path) -> None:
    train = load_dataset("mnist5k")[:60].binarise("dynamic")
    held_out = load_dataset("mnist5k", "test")[:10].binarise("dynamic")
    plan = [(1e-3, 1), (1e-4, 2)]
    whole = reproduction.Run(train, plan, checkpoint=None)
    whole.advance(train, held_out, held_out, minutes=1)
    for _ in range(3):
        piece = reproduction.Run(train, plan, tmp_path / "run.pt")
        piece.advance(train, held_out, held_out, minutes=0)
    assert len(whole.curve) == 3
    assert torch.equal(piece.curve, whole.curve)
    reproduction.draw(piece.curve, -200.0, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


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
