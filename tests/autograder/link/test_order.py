"""`autograder.link`: its rooms import one way."""

from __future__ import annotations

import ast
from pathlib import Path

import autograder.link

ORDER = [
    "optional", "errors", "pipes", "frames", "shared", "tensors", "values", "names", "randomness",
    "messages", "table", "standin", "gradients", "failures", "outgoing", "changes", "incoming",
    "calls", "peer", "namespace",
]  # fmt: skip


def test_rooms_import_only_those_before_them() -> None:
    folder = Path(autograder.link.__path__[0])
    assert {path.stem for path in folder.glob("*.py")} == {*ORDER, "__init__"}
    for number, name in enumerate(ORDER):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and module.startswith("autograder"):
                parts = module.split(".")[2:] or [alias.name for alias in node.names]
                assert module.startswith("autograder.link"), (name, module)
                assert all(part in ORDER[:number] for part in parts), (name, module)
