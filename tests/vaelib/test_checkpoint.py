"""A checkpoint is there whole or not at all, and reading one runs no code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training_runs import parameters

from vaelib import VAE, fit
from vaelib.checkpoint import load_vae, read_checkpoint, save_vae, write_checkpoint


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(shape=(1, 2, 3), latent_dim=2, hidden=[5], likelihood="gaussian", sigma=None)


def test_saved_is_loaded(vae: VAE, tmp_path: Path) -> None:
    save_vae(vae, tmp_path / "vae.pt")
    copy = load_vae(tmp_path / "vae.pt")
    assert copy.arguments == vae.arguments
    assert copy.state_dict().keys() == vae.state_dict().keys()
    for name, value in vae.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value), name


def test_loading_leaves_the_global_generator_alone(vae: VAE, tmp_path: Path) -> None:
    save_vae(vae, tmp_path / "vae.pt")
    before = torch.get_rng_state()
    load_vae(tmp_path / "vae.pt")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    write_checkpoint(path, {"model": {"w": torch.ones(2)}})

    def full(file: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, {"model": {"w": torch.zeros(2)}})
    monkeypatch.undo()
    assert torch.equal(read_checkpoint(path)["model"]["w"], torch.ones(2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.pt"]


class Payload:
    """Unpickling this makes a folder: what a hostile file would do, harmlessly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("saver", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_refused_not_run(tmp_path: Path, saver: str) -> None:
    path, folder = tmp_path / "run.pt", tmp_path / "ran"
    state = {"model": {}, "payload": Payload(folder)}
    if saver == "torch":
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    with pytest.raises(ValueError, match=r"run\.pt is damaged, or not a checkpoint of vaelib$"):
        read_checkpoint(path)
    assert not folder.exists()


def test_every_truncation_is_refused(vae: VAE, tmp_path: Path) -> None:
    save_vae(vae, tmp_path / "vae.pt")
    whole = (tmp_path / "vae.pt").read_bytes()
    cut = tmp_path / "cut.pt"
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged, or not a checkpoint of vaelib"):
            load_vae(cut)


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.pt"):
        load_vae(tmp_path / "absent.pt")
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="holds no model"):
        load_vae(tmp_path / "other.pt")
    torch.save({"model": {}, "arguments": None}, tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="how its model was built"):
        load_vae(tmp_path / "bare.pt")


def test_a_model_of_doubles_stays_one(vae: VAE, tmp_path: Path) -> None:
    save_vae(vae.double(), tmp_path / "vae.pt")
    for name, value in load_vae(tmp_path / "vae.pt").state_dict().items():
        assert torch.equal(vae.state_dict()[name], value), name
        assert value.dtype == torch.float64


def test_parameters_of_another_model_are_refused(vae: VAE, tmp_path: Path) -> None:
    other = {"arguments": {**vae.arguments, "latent_dim": 5}, "model": vae.state_dict()}
    write_checkpoint(tmp_path / "vae.pt", other)
    with pytest.raises(ValueError, match=r"vae\.pt holds parameters that do not fit its model"):
        load_vae(tmp_path / "vae.pt")


def test_a_folder_that_is_not_there_is_named(vae: VAE, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent to write vae\.pt to"):
        save_vae(vae, tmp_path / "absent" / "vae.pt")


def test_others_may_read_what_the_umask_lets_them(vae: VAE, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_vae(vae, tmp_path / "vae.pt")
    finally:
        os.umask(before)
    assert (tmp_path / "vae.pt").stat().st_mode & 0o777 == 0o644


class Own(nn.Sequential):
    """An encoder of one's own, for eight numbers."""

    def __init__(self, width: int = 7) -> None:
        super().__init__(nn.Flatten(), nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 4))


class Renamed(Own):
    pass


def with_own_encoder(encoder: nn.Module) -> VAE:
    return VAE(shape=(1, 2, 3), latent_dim=2, hidden=[5], encoder=encoder)


def test_a_model_of_ones_own_is_loaded_into_one_built_again(tmp_path: Path) -> None:
    saved, built = with_own_encoder(Own()), with_own_encoder(Own())
    save_vae(saved, tmp_path / "vae.pt")
    loaded = load_vae(tmp_path / "vae.pt", into=built)
    assert loaded is built
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_only_classes_of_the_same_name_are_loaded_into(tmp_path: Path) -> None:
    path = tmp_path / "vae.pt"
    save_vae(with_own_encoder(Own()), path)
    with pytest.raises(ValueError, match=r"Own.*build it again .*into=model"):
        load_vae(path)
    with pytest.raises(ValueError, match=r"holds a model with encoder = .*Own, but .*Renamed"):
        load_vae(path, into=with_own_encoder(Renamed()))
    with pytest.raises(ValueError, match=r"holds a vaelib\.vae\.VAE, but into is a .*Own"):
        load_vae(path, into=Own())
    with pytest.raises(ValueError, match=r"vae\.pt holds parameters that do not fit its model"):
        load_vae(path, into=with_own_encoder(Own(width=8)))


def test_any_module_is_saved_under_the_name_of_its_class(tmp_path: Path) -> None:
    path, model = tmp_path / "own.pt", Own()
    save_vae(model, path)
    assert read_checkpoint(path)["class"].endswith("test_checkpoint.Own")
    with pytest.raises(ValueError, match=r"own\.pt holds a .*Own: build it as it was"):
        load_vae(path)
    loaded = load_vae(path, into=Own())
    assert torch.equal(loaded[1].weight, model[1].weight)


class Counted(VAE):
    """A model with a counter before its parameters, and with a state that is not a tensor."""

    def __init__(self) -> None:
        super().__init__(shape=(4,), latent_dim=1, hidden=[3])
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.names = ["first"]

    def get_extra_state(self) -> dict[str, list[str]]:
        return {"names": self.names}

    def set_extra_state(self, state: dict[str, list[str]]) -> None:
        self.names = state["names"]


def test_counters_and_other_states_are_kept(tmp_path: Path) -> None:
    model, copy, resumed = Counted(), Counted(), Counted()
    model.names = ["second"]
    save_vae(model, tmp_path / "model.pt")
    assert load_vae(tmp_path / "model.pt", into=copy).names == ["second"]
    x = torch.zeros(5, 4)
    fit(model, x, epochs=1, checkpoint=tmp_path / "run.pt", device="cpu", progress=False)
    fit(resumed, x, epochs=1, checkpoint=tmp_path / "run.pt", resume=True, device="cpu",
        progress=False)  # fmt: skip
    assert resumed.names == ["second"]


def test_numbers_of_numpy_can_be_read_again(tmp_path: Path) -> None:
    save_vae(VAE((4,), 1, [3], likelihood="gaussian", sigma=np.float64(0.1)), tmp_path / "vae.pt")
    assert load_vae(tmp_path / "vae.pt").arguments["sigma"] == 0.1


def _scheduled(**numbers: Any) -> Callable[[nn.Module], dict[str, Any]]:
    def settings(model: nn.Module) -> dict[str, Any]:
        adam = torch.optim.Adam(model.parameters(), **numbers)
        wave = torch.optim.lr_scheduler.LambdaLR(adam, lambda epoch: np.cos(epoch / 10))
        return {"optimizer": adam, "scheduler": wave}

    return settings


@pytest.mark.parametrize(
    "settings",
    [
        lambda _: {"learning_rate": np.float64(1e-3)},
        lambda _: {"samples": np.int64(1)},
        lambda _: {"beta": lambda epoch: np.clip(epoch / 10, 0, 1)},
        _scheduled(),
        _scheduled(lr=np.float64(0.1), betas=(np.float64(0.9), np.float64(0.99))),
    ],
    ids=["learning rate", "samples", "beta", "scheduler", "optimizer"],
)
def test_a_run_with_numbers_of_numpy_is_resumed(
    settings: Callable[[nn.Module], dict[str, Any]], tmp_path: Path
) -> None:
    for epochs in (1, 2):
        model = VAE((4,), 1, [3], likelihood="gaussian")
        fit(model, torch.zeros(5, 4), epochs=epochs, checkpoint=tmp_path / "run.pt", resume=True,
            device="cpu", progress=False, **settings(model))  # fmt: skip
    assert torch.equal(parameters(load_vae(tmp_path / "run.pt")), parameters(model))
