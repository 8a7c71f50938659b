"""Processes that train together reach what one process reaches alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaelib.parallel import Processes

SCRIPT = """
import sys, torch
from vaelib import VAE
from vaelib.data import load_dataset
from vaelib.training import fit

batch_size, path = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
vae = VAE(shape=(1, 8, 8), latent_dim=3, hidden=[16]).double()
digits = load_dataset("digits").binarise("dynamic")[:203]
history = fit(vae, digits, load_dataset("digits", "validation").binarise("dynamic"), epochs=3,
              batch_size=batch_size, device="cpu", precision="float32", checkpoint=path + ".run",
              progress=False)
if int(__import__("os").environ.get("RANK", "0")) == 0:
    torch.save({"model": vae.state_dict(), "elbo": history.elbo,
                "validation": history.validation_elbo}, path)
"""


def run(command: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    # 203 examples in minibatches of 50: the last one, of 3, splits into parts of 2 and 1.
    run([sys.executable, str(script), "50", str(tmp_path / "one.pt")])
    run([
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        str(script), "25", str(tmp_path / "two.pt"),
    ])  # fmt: skip
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(one["elbo"], two["elbo"], rtol=1e-10, atol=0)
    torch.testing.assert_close(one["validation"], two["validation"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_make_up_the_minibatch(count: int) -> None:
    minibatch = torch.arange(4 * 3).view(4, 3)
    for dim in (0, 1):
        parts = [Processes(rank, count).part(minibatch, dim) for rank in range(count)]
        assert torch.equal(torch.cat(parts, dim), minibatch)


def test_alone_nothing_is_wrapped_or_summed() -> None:
    model, value = torch.nn.Linear(2, 2), torch.ones(3)
    assert Processes().wrap(model) is model
    assert Processes().total(value) is value
