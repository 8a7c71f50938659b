"""Every recipe runs, can be stopped and continued, and exports what `pretrained` reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

import recipes
from recipes.run import Best, Run
from vaelib.pretrained import Pretrained

NAMES = sorted(
    path.stem
    for path in Path(recipes.__file__).parent.glob("*.py")
    if "def main(" in path.read_text("utf-8")
)


def run(name: str, folder: Path, *options: str) -> dict[str, torch.Tensor]:
    """The parameters that a quick run of the recipe exports."""
    folder.mkdir(exist_ok=True)
    given = ["--quick", "--export", str(folder), "--checkpoint", str(folder / "run.pt"), *options]
    import_module(f"recipes.{name}").main([*given, "--device", "cpu"])
    (record,) = Pretrained(folder).available().values()
    parameters: dict[str, torch.Tensor] = Pretrained(folder)(record.name).state_dict()
    return parameters


@contextlib.contextmanager
def stopped_after_an_epoch() -> Iterator[None]:
    """Ctrl-C, as soon as the first epoch is over."""
    tick = Run.tick

    def stop(self: Run, epochs: int, **values: float) -> None:
        tick(self, epochs, **values)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "tick", stop)
        with pytest.raises(SystemExit, match=r"Stopped after 1 epochs, which are kept in .*run.pt"):
            yield


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_run_goes_on_to_the_same_model(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(name, tmp_path / "whole")
    said = capsys.readouterr().out
    (commit,) = Run("x", "x", ["--quick"]).commits
    assert f"(commit {commit}, seed 0)" in said
    assert "epoch 1," in said
    with stopped_after_an_epoch():
        run(name, tmp_path / "pieces")
    capsys.readouterr()
    pieces = run(name, tmp_path / "pieces")
    assert "epoch 1," not in capsys.readouterr().out
    assert pieces.keys() == whole.keys()
    for parameter, value in whole.items():
        assert torch.equal(pieces[parameter], value), parameter


def test_a_run_is_exported_as_it_is(tmp_path: Path) -> None:
    with stopped_after_an_epoch():
        run("mnist_autoencoder", tmp_path)
    run("mnist_autoencoder", tmp_path, "--as-it-is")
    record = Pretrained(tmp_path).available()["mnist-autoencoder"]
    assert record.epochs == 1
    assert record.hours > 0


@pytest.mark.parametrize("name", ["mnist_autoencoder", "mnist_plane"])
def test_a_run_that_was_never_started_is_not_exported(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(name, tmp_path, "--as-it-is")
    assert f"there is no run in {tmp_path / 'run.pt'} to export" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_that_dies_between_its_two_files_repeats_no_epoch(tmp_path: Path) -> None:
    epochs: list[int] = []

    def epoch(number: int, generator: torch.Generator) -> dict[str, float]:
        epochs.append(number)
        return {}

    def train() -> None:
        run = Run("x", "x", ["--quick", "--checkpoint", str(tmp_path / "run.pt")])
        run.train(3, {"model": torch.nn.Linear(1, 1)}, epoch)

    def die(self: Run, epochs: int, **values: float) -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "tick", die)
        with pytest.raises(MemoryError):
            train()
    train()
    assert epochs == [0, 1, 2]


def test_a_clock_is_written_completely_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Run("x", "x", ["--quick"])
    clocked.tick(1)
    write = Path.write_text

    def write_half(path: Path, text: str) -> None:
        write(path, text[: len(text) // 2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="full"):
        clocked.tick(2)
    assert json.loads(clocked.clock.read_text())["epochs"] == 1


def test_a_run_that_is_continued_elsewhere_names_all_its_commits_and_devices(
    tmp_path: Path,
) -> None:
    with stopped_after_an_epoch():
        run("mnist_autoencoder", tmp_path)
    (clock,) = tmp_path.glob("*.clock")
    kept = json.loads(clock.read_text())
    here = kept["devices"][0]
    kept |= {"commits": ["0123456789", *kept["commits"]], "devices": ["another device", here]}
    clock.write_text(json.dumps(kept))
    run("mnist_autoencoder", tmp_path)
    record = Pretrained(tmp_path).available()["mnist-autoencoder"]
    assert record.commit == ", ".join(kept["commits"])
    assert record.device == f"another device; {here}"


def test_a_quick_run_leaves_the_models_of_the_library_alone() -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("vaelib/weights").glob("*")}
    import_module("recipes.mnist_autoencoder").main(["--quick", "--device", "cpu"])
    assert {path: path.stat().st_mtime_ns for path in Path("vaelib/weights").glob("*")} == before


def test_best_keeps_the_parameters_of_the_lowest_number() -> None:
    model = torch.nn.Linear(1, 1)
    best = Best(model)
    for value, weight in ((3.0, 1.0), (2.0, 5.0), (4.0, 7.0)):
        torch.nn.init.constant_(model.weight, weight)
        best.see(value)
    again = Best(model)
    again.load_state_dict(best.state_dict())
    again.restore()
    assert (again.value, again.age, model.weight.item()) == (2.0, 1, 5.0)
