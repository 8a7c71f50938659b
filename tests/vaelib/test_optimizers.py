"""An optimizer leaves a run as it came, whichever device its steps were made on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import make_vae, parameters

from vaelib import fit
from vaelib._optimizers import capturable, load_optimizer, optimizer_state, plain
from vaelib.checkpoint import read_checkpoint, write_checkpoint
from vaelib.images import Images


@pytest.mark.parametrize("rate", [1e-3, 0.0005, 1.0, 1e-30])
def test_a_rate_is_a_tensor_inside_and_the_same_number_afterwards(rate: float) -> None:
    adam = torch.optim.Adam(make_vae().parameters(), lr=rate, foreach=False)
    with capturable(adam, torch.device("cpu")):
        (group,) = adam.param_groups
        assert isinstance(group["lr"], torch.Tensor)
        assert group["capturable"]
    assert (group["lr"], group["capturable"]) == (rate, False)


def test_a_number_from_a_tensor_gives_that_tensor_again() -> None:
    for i in range(8):
        rate = torch.tensor(5**0.5 * 1e-3 * 10 ** (-i / 7))
        assert torch.equal(torch.tensor(plain(rate)), rate)


def test_numbers_in_tensors_are_saved_as_numbers() -> None:
    adam = torch.optim.Adam(make_vae().parameters(), lr=torch.tensor(0.1), foreach=False)
    assert optimizer_state(adam)["param_groups"][0]["lr"] == 0.1
    assert plain({"_last_lr": [torch.tensor(0.3)], "n": 2}) == {"_last_lr": [0.3], "n": 2}


def test_a_run_of_a_gpu_goes_on_on_a_cpu(digits: Images, tmp_path: Path) -> None:
    path, runs = tmp_path / "run.pt", []
    for from_gpu in (False, True):
        vae = make_vae()
        adam = torch.optim.Adam(vae.parameters())
        fit(vae, digits, epochs=1, optimizer=adam, device="cpu", checkpoint=path, progress=False)
        if from_gpu:
            state = read_checkpoint(path)
            state["optimizer"]["param_groups"][0].update(capturable=True, fused=True)
            write_checkpoint(path, state)
        vae = make_vae()
        adam = torch.optim.Adam(vae.parameters())
        fit(vae, digits, epochs=2, optimizer=adam, device="cpu", checkpoint=path, resume=True,
            progress=False)  # fmt: skip
        assert not adam.param_groups[0]["capturable"]
        runs.append(parameters(vae))
        path.unlink()
    assert torch.equal(*runs)


def test_a_state_is_loaded_with_the_settings_of_ones_own_device() -> None:
    vae = make_vae()
    there, here = (torch.optim.Adam(vae.parameters(), lr=lr) for lr in (0.1, 0.2))
    there.param_groups[0].update(capturable=True, foreach=True)
    load_optimizer(here, there.state_dict())
    (group,) = here.param_groups
    assert (group["lr"], group["capturable"], group["foreach"]) == (0.1, False, None)


def test_a_rate_that_is_a_tensor_stays_one(digits: Images, tmp_path: Path) -> None:
    def run(epochs: int, **where: Any) -> torch.Tensor:
        vae = make_vae()
        adam = torch.optim.Adam(vae.parameters(), lr=torch.tensor(0.01))
        fit(vae, digits, epochs=epochs, optimizer=adam, device="cpu", precision="float32",
            progress=False, **where)  # fmt: skip
        assert isinstance(adam.param_groups[0]["lr"], torch.Tensor)
        return parameters(vae)

    run(2, checkpoint=tmp_path / "run.pt")
    assert torch.equal(run(4, checkpoint=tmp_path / "run.pt", resume=True), run(4))


@pytest.mark.parametrize("parts", [("encoder", "decoder"), ("encoder",)])
def test_other_parameter_groups_are_named_and_change_nothing(
    digits: Images, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    settings: dict[str, Any] = {"device": "cpu", "checkpoint": tmp_path / "run.pt",
                                "progress": False}  # fmt: skip
    vae = make_vae()
    adam = torch.optim.Adam(vae.parameters())
    fit(vae, digits, epochs=1, optimizer=adam, **settings)
    vae = make_vae()
    before = parameters(vae)
    adam = torch.optim.Adam([{"params": getattr(vae, part).parameters()} for part in parts])
    with pytest.raises(ValueError, match=r"run\.pt holds a run whose optimizer has other param"):
        fit(vae, digits, epochs=2, optimizer=adam, resume=True, **settings)
    assert torch.equal(parameters(vae), before)
