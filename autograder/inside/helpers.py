"""The course's own modules, as the course has them, beside code that may have changed them."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tempfile
import types
from pathlib import Path

__all__ = ["course_modules"]


def course_modules(files: dict[str, str]) -> set[str]:
    """Have modules imported from what the course has, whatever is in the current folder.

    A module that is there already stays the one that it is, since the notebook's objects may be of
    its classes; functions of it that are not the course's are put back.

    Args:
        files: their text, by relative path.

    Returns:
        The modules' names.
    """
    if not files:
        return set()
    folder = Path(tempfile.mkdtemp())
    names = {}
    for file, text in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        names[file[: -len(".py")].removesuffix("/__init__").replace("/", ".")] = path
    sys.path.insert(0, str(folder))
    for name, path in names.items():
        there = sys.modules.get(name)
        if isinstance(there, types.ModuleType):
            with contextlib.suppress(Exception):
                _put_back(there, name, path)
        else:
            sys.modules.pop(name, None)
    return set(names)


def _put_back(there: types.ModuleType, name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    for key, function in vars(fresh).items():
        if isinstance(function, types.FunctionType):
            found = vars(there).get(key)
            same = isinstance(found, types.FunctionType) and found.__code__ == function.__code__
            if not same:
                vars(there)[key] = function
