"""What is executed again, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from book.execution import EXECUTED_WITH, fingerprint

USED = [
    "vaelib/kl.py",
    "vaelib/baselines/gan.py",
    "vaelib/explorer.js",
    "vaelib/weights/mnist-vae.safetensors",
    "book/claims.py",
    "book/execution.py",
    "requirements.txt",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in [*USED, "README.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_the_fingerprint_is_that_of_the_content(root: Path) -> None:
    before = fingerprint(root, EXECUTED_WITH)
    (root / "vaelib/kl.py").touch()
    (root / "README.md").write_text("changed")
    assert fingerprint(root, EXECUTED_WITH) == before


@pytest.mark.parametrize("name", USED)
def test_it_changes_with_what_a_cell_may_use(root: Path, name: str) -> None:
    before = fingerprint(root, EXECUTED_WITH)
    (root / name).write_text("changed")
    changed = fingerprint(root, EXECUTED_WITH)
    (root / name).unlink()
    assert len({before, changed, fingerprint(root, EXECUTED_WITH)}) == 3


def test_it_changes_with_a_name(root: Path) -> None:
    before = fingerprint(root, EXECUTED_WITH)
    (root / "vaelib/kl.py").rename(root / "vaelib/k.py")
    assert fingerprint(root, EXECUTED_WITH) != before
