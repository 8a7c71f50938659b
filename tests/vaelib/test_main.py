"""The command line does what its help says, and says in one line why when it does not."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch._dynamo.exc import BackendCompilerFailed

from vaelib import VAE
from vaelib.__main__ import main
from vaelib._run_data import RunData
from vaelib.baselines import PPCA
from vaelib.checkpoint import load_vae, read_checkpoint, save_vae
from vaelib.compiled import compiler
from vaelib.data import Images, available_datasets
from vaelib.evaluation import evaluate_elbo
from vaelib.likelihood import bits_per_dim

SMALL = ["--data", "digits", "--hidden", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "new" / "run"
    assert main(["train", "--out", str(folder), "--epochs", "2", *SMALL]) == 0
    return folder


def test_train_leaves_a_model_and_pictures(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "checkpoint.pt",
        "data.json",
        "training.png",
        "manifold.png",
    }
    vae = load_vae(run / "checkpoint.pt")
    assert vae.arguments["shape"] == [1, 8, 8]
    assert (run / "manifold.png").read_bytes().startswith(b"\x89PNG")


def test_train_prints_the_bound_with_unit_and_convention(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = ["--pixels", "grey", "--likelihood", "grey-bernoulli"]
    assert main(["train", "--out", str(tmp_path), "--epochs", "1", *grey, *SMALL]) == 0
    out = capsys.readouterr().out
    assert "in nats per image (grey pixels: not a log-likelihood)" in out
    assert "validation ELBO" in out
    assert "bits/dim" not in out


def test_an_epoch_is_a_line_where_nobody_watches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--out", str(tmp_path), "--epochs", "2", *SMALL]) == 0
    out, err = capsys.readouterr()
    assert "\nepoch 1 of 2: ELBO " in out
    assert "\nepoch 2 of 2: ELBO " in out
    assert err == ""


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


# Pictures of one's own


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty colour pictures of 12 × 10 pixels, in two folders."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for i in range(40):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        smooth = random.integers(0, 256, (3, 3, 3)).astype(np.uint8)
        picture = Image.fromarray(smooth).resize((12, 10), Image.Resampling.BILINEAR)
        picture.save(folder / "ab"[i % 2] / f"{i}.png")
    return folder


SMALL_RUN = ["--hidden", "8", "--epochs", "1", "--device", "cpu", "--size", "8"]


def test_a_folder_is_trained_on_measured_and_sampled(
    photographs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Colours are not binarised; 8-bit pixels have probabilities, and so bits per dimension.
    monkeypatch.chdir(photographs.parent)
    out = ["--out", str(tmp_path)]
    assert main(["train", *out, "--data", photographs.name, *SMALL_RUN]) == 0
    told = capsys.readouterr().out
    assert f"training on Images({photographs.name} train: 32 × (3, 8, 8), grey, cpu)" in told
    assert "in nats per image (grey pixels; log-probabilities of 8-bit pixels)" in told
    assert " bits/dim\n" in told
    assert load_vae(tmp_path / "checkpoint.pt").arguments["likelihood"] == "discretised logistic"
    # From anywhere: the folder is known by its whole path.
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *out, "--samples", "5", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert f"Images({photographs.name} test: 4 × (3, 8, 8), grey, cpu)" in told
    assert told.count(" bits/dim") == 3
    train, _, test = Images.from_folder(photographs, size=8).random_split(0)
    nats = PPCA.fit(train, 2).log_prob_8bit(test.floats()).mean()
    assert f"PPCA      {nats:8.2f} ± " in told
    assert f" = {bits_per_dim(nats, (3, 8, 8)):.3f} bits/dim: the best linear model" in told
    for noise in ([], ["--noise"]):
        assert main(["sample", *out, "--n", "4", "--device", "cpu", *noise]) == 0


@pytest.mark.parametrize(
    ("options", "likelihood", "convention"),
    [
        (["--data", "digits"], "bernoulli", "dynamic"),
        (["--data", "digits", "--pixels", "static"], "bernoulli", "static"),
        (["--data", "digits", "--pixels", "grey"], "discretised logistic", "grey"),
        (["--data", "digits", "--likelihood", "gaussian"], "gaussian", "grey"),
        (["--data", "digits", "--likelihood", "grey-bernoulli"], "grey bernoulli", "grey"),
        (["--data", "patches"], "discretised logistic", "grey"),
        (["--data", "patches", "--likelihood", "gaussian"], "gaussian", "grey"),
        (["--data", "patches", "--likelihood", "bernoulli"], "bernoulli", "dynamic"),
        (["--data", "patches", "--pixels", "dynamic"], "bernoulli", "dynamic"),
    ],
)
def test_pixels_and_likelihood_go_together(
    options: list[str],
    likelihood: str,
    convention: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = {}

    def fit(model: VAE, images: Images, validation: Images, **_: object) -> None:
        seen.update(model=model, images=images, validation=validation)
        raise ValueError("enough")

    monkeypatch.setattr("vaelib.__main__.fit", fit)
    assert main(["train", "--out", str(tmp_path), "--hidden", "4", *options]) == 1
    assert seen["model"].arguments["likelihood"] == likelihood
    assert seen["images"].convention == seen["validation"].convention == convention


@pytest.mark.parametrize("network", ["fully-connected", "convolutional", "residual"])
def test_every_option_reaches_the_model_or_the_training(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def fit(model: VAE, *_: object, **arguments: object) -> None:
        seen.update(arguments, model=model)
        raise ValueError("enough")

    monkeypatch.setattr("vaelib.__main__.fit", fit)
    training = {
        "epochs": 7,
        "batch_size": 9,
        "learning_rate": 0.5,
        "beta": 0.0,
        "patience": 3,
        "precision": "float32",
        "seed": 5,
        "device": "cpu",
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in training.items()]
    model = ["--data", "digits", "--network", network, "--hidden", "6", "--latent-dim", "4"]
    assert main(["train", "--out", str(tmp_path), *model, *options, "--compile"]) == 1
    for name, value in {**training, "compile": True}.items():
        assert seen[name] == value
    built = {"network": network.replace("-", " "), "hidden": [6], "latent_dim": 4}
    assert built.items() <= seen["model"].arguments.items()


@pytest.mark.parametrize("likelihood", ["gaussian", "discretised-logistic"])
def test_a_residual_network_starts_where_the_linear_model_ends(
    likelihood: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def not_fit(model: VAE, images: Images, *_: object, **__: object) -> None:
        seen.update(model=model, images=images)
        raise ValueError("enough")

    residual = ["--network", "residual", "--likelihood", likelihood, *SMALL_RUN]
    command = ["train", "--out", str(tmp_path), "--data", str(photographs), *residual]
    with monkeypatch.context() as patched:
        patched.setattr("vaelib.__main__.fit", not_fit)
        assert main(command) == 1
    model, images = seen["model"], seen["images"]
    bound = evaluate_elbo(model, images, 0, samples=100).mean()
    ppca = PPCA.fit(images, 2)
    if likelihood == "gaussian":
        exact = ppca.log_prob(images.floats()).mean()
        torch.testing.assert_close(bound, exact, atol=0.5, rtol=0)
    start = model.decoder.body.linear.weight.clone()
    assert main(command) == 0
    assert main([*command, "--resume", "--epochs", "2"]) == 0
    trained = load_vae(tmp_path / "checkpoint.pt")
    assert torch.equal(trained.decoder.body.linear.weight, start)
    assert (
        evaluate_elbo(trained, images, 0, samples=100).mean() > bound - 1
    )  # from scratch hundreds less


def test_a_run_knows_its_data(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(photographs, mine)
    out = ["--out", str(tmp_path / "run")]
    gaussian = ["--likelihood", "gaussian", *SMALL_RUN]
    assert main(["train", *out, "--data", str(mine), *gaussian]) == 0
    assert "log-densities of pixels in [0, 1]" in capsys.readouterr().out
    other = ["train", *out, "--data", "digits", "--resume", "--hidden", "8"]
    assert main(other) == 1
    assert f"holds a run with data {mine}, not digits" in capsys.readouterr().err
    assert main(["train", *out, "--data", str(mine), *gaussian, "--resume", "--epochs", "2"]) == 0
    # A picture more, and they would be split in another way.
    shutil.copy(mine / "a" / "0.png", mine / "a" / "1.png")
    for command in (["evaluate"], ["train", "--data", str(mine), *gaussian, "--resume"]):
        assert main([*command, *out]) == 1
        assert f"the pictures in {mine} have changed since" in capsys.readouterr().err
    shutil.rmtree(mine)
    assert main(["evaluate", *out]) == 1
    assert f"the folder {mine} does not exist any more" in capsys.readouterr().err


def test_one_image_has_neither_active_units_nor_a_standard_error(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for i in range(12):
        shutil.copy(photographs / "ab"[i % 2] / f"{i}.png", few)
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", *out, "--data", str(few), *SMALL_RUN]) == 0
    assert main(["evaluate", *out, "--samples", "5", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "few test: 1 × " in told
    assert "active" not in told
    assert "±" not in told
    assert "nan" not in told


def test_what_is_measured_on_was_not_trained_on(photographs: Path) -> None:
    parts = RunData(str(photographs), 8, "grey").load("train", "validation", "test")
    assert [len(part) for part in parts] == [32, 4, 4]
    rows = torch.cat([part.pixels.flatten(1) for part in parts])
    assert len(rows.unique(dim=0)) == 40
    again = RunData(str(photographs), 8, "grey").load("test")[0]
    assert torch.equal(again.pixels, parts[2].pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "digits", "--size", "8"], "--size is for a folder of pictures"),
        (["--data", "{photographs}/a/0.png"], "path must be a folder or a zip file"),
        (["--data", "{photographs}/a/few"], "holds too few pictures (1)"),
        (["--data", "{photographs}", "--hidden", "4", "4", "--network", "residual"], "hidden must"),
        (["--likelihood", "bernoulli", "--pixels", "grey"], "bernoulli needs binary pixels"),
    ],
)
def test_what_would_be_ignored_is_refused(
    options: list[str],
    message: str,
    photographs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photographs / "a" / "few").mkdir(exist_ok=True)
    shutil.copy(photographs / "a" / "0.png", photographs / "a" / "few")
    options = [option.format(photographs=photographs) for option in options]
    assert main(["train", "--out", str(tmp_path / "absent"), *options]) == 1
    shutil.rmtree(photographs / "a" / "few")
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "absent").exists()


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
        (["train", "--latent-dim", "1000000000000", *SMALL], "there is not enough memory for this"),
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
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "0"], "--epochs: must be a whole number of at least 1, not '0'"),
        (["train", "--beta", "-1"], "--beta: must be a number of at least 0, not '-1'"),
        (["train", "--patience", "0"], "--patience: must be a whole number"),
        (["train", "--network", "deep"], "--network: invalid choice: 'deep'"),
        (["train", "--hidden", "8", "0"], "--hidden: must be a whole number"),
        (["train", "--seed", "9" * 23], "--seed: must be a whole number from 0 to 2⁶³ − 1"),
        (
            ["train", "--learning-rate", "inf"],
            "--learning-rate: must be a positive number, not 'inf'",
        ),
        (["train", "--learning-rate", "nan"], "must be a positive number, not 'nan'"),
        (["evaluate", "--samples", "0"], "--samples: must be a whole number"),
        (["sample", "--n", "many"], "--n: must be a whole number of at least 1, not 'many'"),
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


def test_pictures_of_several_sizes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for size in (10, 12):
        Image.new("L", (9, size)).save(tmp_path / f"{size}.png")
    assert main(["train", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.endswith("12.png has 12 × 9: give a size, to which all are cropped and resized\n")
    assert error.count("\n") == 1


def test_a_missing_compiler_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_nothing(*_: object, **__: object) -> None:
        with compiler():
            raise BackendCompilerFailed(None, FileNotFoundError("no g++"), None)

    monkeypatch.setattr("vaelib.__main__.fit", compile_nothing)
    assert main(["train", "--out", str(tmp_path), "--compile", *SMALL]) == 1
    error = capsys.readouterr().err
    assert error.startswith("train: torch.compile failed (")
    assert "it needs a C++ compiler such as g++" in error
    assert error.count("\n") == 1


def test_other_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_vae(VAE(shape=(1, 8, 8), hidden=[4]), tmp_path / "checkpoint.pt")
    assert main(["evaluate", "--out", str(tmp_path), "--device", "cpu"]) == 1
    assert "data.json does not say what the run was trained on" in capsys.readouterr().err
    for wrong in ("", "[]", json.dumps({"data": "digits"}), json.dumps({"data": 1, "extra": 2})):
        (tmp_path / "data.json").write_text(wrong)
        assert main(["evaluate", "--out", str(tmp_path), "--device", "cpu"]) == 1
        assert "does not say what the run was trained on" in capsys.readouterr().err
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
