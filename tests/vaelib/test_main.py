"""The command line does what its help says, and says in one line why when it does not."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vaelib import VAE
from vaelib.__main__ import main
from vaelib.checkpoint import load_vae, read_checkpoint, save_vae
from vaelib.data import available_datasets

SMALL = ["--data", "digits", "--hidden", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "new" / "run"
    assert main(["train", "--out", str(folder), "--epochs", "2", *SMALL]) == 0
    return folder


def test_train_leaves_a_model_and_pictures(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "checkpoint.pt",
        "training.png",
        "manifold.png",
    }
    vae = load_vae(run / "checkpoint.pt")
    assert vae.arguments["shape"] == [1, 8, 8]
    assert (run / "manifold.png").read_bytes().startswith(b"\x89PNG")


def test_train_prints_the_bound_with_unit_and_convention(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--out", str(tmp_path), "--epochs", "1", "--pixels", "grey", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "nats an image (grey pixels: not a log-likelihood)" in out
    assert "validation ELBO" in out


def test_a_run_is_continued_but_never_overwritten(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    again = ["train", "--out", str(folder), *SMALL]
    assert main([*again, "--epochs", "1"]) == 0
    assert main([*again, "--epochs", "2"]) == 1
    assert "--resume continues it" in capsys.readouterr().err
    assert main([*again, "--epochs", "2", "--resume"]) == 0
    one, other = load_vae(folder / "checkpoint.pt"), load_vae(run / "checkpoint.pt")
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_evaluate_and_sample_use_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--out", str(run), "--samples", "20", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "digits test" in out
    assert "dynamic binarisation" in out
    for noise in ([], ["--noise"]):
        assert main(["sample", "--out", str(run), "--n", "6", "--device", "cpu", *noise]) == 0
        assert (run / "samples.png").is_file()
    (run / "samples.png").unlink()


def test_datasets_lists_every_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    out = capsys.readouterr().out
    for info in available_datasets():
        assert f"{info.name}: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "mnist5"], "did you mean 'mnist5k'"),
        (["train", "--device", "gpu"], "device must be one that PyTorch can use here"),
        (["train", "--latent-dim", "1000000000000", *SMALL], "needs more memory than there is"),
        (["evaluate"], "no checkpoint at"),
        (["sample"], "no checkpoint at"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "absent")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "0"], "--epochs: invalid whole number of at least 1 value: '0'"),
        (["train", "--convolutional", "0"], "--convolutional: invalid whole number"),
        (["train", "--hidden", "8", "0"], "--hidden: invalid whole number"),
        (["train", "--seed", "9" * 23], "--seed: invalid whole number from 0"),
        (["train", "--learning-rate", "inf"], "--learning-rate: invalid positive number"),
        (["evaluate", "--samples", "0"], "--samples: invalid whole number"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_made(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(tmp_path / "absent")])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()


def test_other_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_vae(VAE(shape=(1, 8, 8), hidden=[4]), tmp_path / "checkpoint.pt")
    assert main(["evaluate", "--out", str(tmp_path), "--device", "cpu"]) == 1
    assert "does not say what it was trained on" in capsys.readouterr().err
    (tmp_path / "checkpoint.pt").write_text("a text\n")
    for command in ("evaluate", "sample"):
        assert main([command, "--out", str(tmp_path), "--device", "cpu"]) == 1
        error = capsys.readouterr().err
        assert error.endswith("checkpoint.pt is damaged, or not a checkpoint of vaelib\n")
        assert error.count("\n") == 1
    assert main(["train", "--out", str(tmp_path / "checkpoint.pt"), *SMALL]) == 1
    assert "is a file, not a folder" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for command in ("train", "evaluate", "sample", "datasets"):
        assert f"\n    {command} " in out


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_leaves_a_run_to_resume(tmp_path: Path) -> None:
    options = ["train", "--out", str(tmp_path), *SMALL, "--epochs", "100000", "--seed", "5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vaelib", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    checkpoint = tmp_path / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    # What it says to type does go on.
    said = shlex.split(error.split("python -m vaelib ")[1])
    assert said == [*options, "--resume"]
    done = len(read_checkpoint(checkpoint)["history"]["reconstruction"])
    said[said.index("100000")] = str(done + 1)
    assert main(said) == 0
