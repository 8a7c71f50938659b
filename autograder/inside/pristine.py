"""What judges an answer, as it was before any of a submission's code ran, to be put back.

It is put back in a fork of the student's process, for a test cell that is judged there. That
undoes what a submission has patched on purpose or by accident; it does not hold off code that
patches again while the test calls it.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import importlib
import os
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

__all__ = ["Pristine", "functions_of"]

_JUDGES = (
    "ast", "asyncio", "builtins", "cmath", "collections", "copy", "dataclasses", "datetime",
    "decimal", "difflib", "doctest", "enum", "fractions", "functools", "inspect", "io", "itertools",
    "json", "json.decoder", "json.encoder", "linecache", "math", "operator", "os", "posixpath",
    "pprint", "re", "socket", "statistics", "struct", "subprocess", "sys", "threading",
    "traceback", "types", "typing", "unittest", "unittest.case", "unittest.mock", "warnings",
    "weakref", "numpy", "numpy._core.fromnumeric", "numpy._core.numeric", "numpy.linalg",
    "numpy.testing", "numpy.testing._private.utils",
    "torch", "torch.linalg", "torch.testing", "torch.testing._comparison",
    "pandas", "pandas.testing", "pandas._testing", "pandas._testing.asserters",
    "pytest", "_pytest.approx", "_pytest.python_api", "_pytest.raises",
    "IPython.core.interactiveshell", "IPython.core.inputtransformer2", "IPython.core.magic",
    "IPython.core.magics.execution", "IPython.core.magics.osm", "IPython.core.magics.script",
    "IPython.lib.pretty", "IPython.utils.capture", "IPython.utils.process",
)  # fmt: skip


class Pristine:
    """Functions and classes of the modules that tests judge by.

    Only those are put back, and the shell's own magics: data of a module may rightly change. A
    function is put back with its code, its defaults, and the functions that it has closed over.

    Args:
        shell: that the student's cells run in.
    """

    def __init__(self, shell: Any) -> None:
        for name in ("doctest", "statistics", "unittest.mock", "numpy.testing"):
            importlib.import_module(name)
        with contextlib.suppress(ImportError):
            importlib.import_module("pytest")
        self._modules: dict[str, tuple[types.ModuleType, dict[str, Any]]] = {}
        self._classes: dict[type, dict[str, Any]] = {}
        self._insides: dict[types.FunctionType, _Inside] = {}
        own = [name for name in sys.modules if name.startswith("autograder.")]
        for name in (*_JUDGES, *own):
            if name in sys.modules:
                self.add(sys.modules[name])
        self._keep_class(type(shell))
        self._shell = shell
        self._magics = {kind: dict(found) for kind, found in shell.magics_manager.magics.items()}
        self._finders = list(sys.meta_path), list(sys.path_hooks)
        self._path = os.environ.get("PATH", os.defpath)
        self._hooks = _fork_hooks()

    def add(self, module: types.ModuleType) -> None:
        """Keep a module as it is now; one that is kept already stays as it was."""
        name = module.__name__
        if name in self._modules:
            return
        self._modules[name] = (
            module,
            {key: value for key, value in vars(module).items() if callable(value)},
        )
        top = name.partition(".")[0]
        for value in vars(module).values():
            if not isinstance(value, type):
                self.keep(value)
            elif value.__module__.partition(".")[0] == top:
                self._keep_class(value)

    def _keep_class(self, cls: type) -> None:
        self._classes.setdefault(cls, dict(vars(cls)))
        self.keep(cls)

    def keep(self, value: Any) -> None:
        """Keep the insides of a function, or of a class's methods, as they are now."""
        for function in functions_of(value):
            if function not in self._insides:
                self._insides[function] = _Inside(function)

    @contextlib.contextmanager
    def forking(self) -> Iterator[None]:
        """Keeps a fork from running code of the submission's, on either side."""
        now = [list(hooks) for hooks, _ in self._hooks]
        for hooks, kept in self._hooks:
            hooks[:] = kept
        try:
            yield
        finally:
            for (hooks, _), others in zip(self._hooks, now, strict=True):
                hooks[:] = others

    def put_back(self) -> None:
        """Undo what was changed of them, and what runs beside every line of code."""
        sys.settrace(None)
        sys.setprofile(None)
        threading.settrace(None)
        threading.setprofile(None)
        gc.callbacks.clear()
        sys.meta_path[:], sys.path_hooks[:] = self._finders
        os.environ["PATH"] = self._path
        os.environ.pop("LD_PRELOAD", None)
        self._put_back_modules()
        self._put_back_classes()
        for function, inside in self._insides.items():
            inside.put_back(function)
        for key in [key for key in vars(self._shell) if key in dir(type(self._shell))]:
            if callable(vars(self._shell)[key]):
                del vars(self._shell)[key]
        for kind, found in self._magics.items():
            self._shell.magics_manager.magics[kind].update(found)

    def _put_back_modules(self) -> None:
        for name, (module, kept) in self._modules.items():
            sys.modules[name] = module
            now = vars(module)
            for key, value in kept.items():
                if now.get(key) is not value:
                    now[key] = value
            if module is not builtins:
                for key in now.keys() & vars(builtins).keys() - kept.keys():
                    if callable(now[key]):
                        del now[key]  # in the place of Python's own

    def _put_back_classes(self) -> None:
        for cls, attributes in self._classes.items():
            now = dict(vars(cls))
            above = {key for base in cls.__mro__[1:] for key in vars(base)}
            for key in attributes.keys() | (now.keys() & above):
                kept = attributes.get(key)
                if now.get(key) is kept or not _acts(kept or now.get(key)):
                    continue
                with contextlib.suppress(AttributeError, TypeError):
                    delattr(cls, key) if kept is None else setattr(cls, key, kept)


class _Inside:
    """What a function does and works with, beside the names of its module."""

    def __init__(self, function: types.FunctionType) -> None:
        self._code, self._defaults = function.__code__, function.__defaults__
        self._by_name = function.__kwdefaults__ and dict(function.__kwdefaults__)
        self._closed = [(cell, found) for cell, found in _closed(function) if callable(found)]

    def put_back(self, function: types.FunctionType) -> None:
        if function.__code__ is not self._code:
            function.__code__ = self._code
        if function.__defaults__ is not self._defaults:
            function.__defaults__ = self._defaults
        if self._by_name or function.__kwdefaults__:
            function.__kwdefaults__ = self._by_name and dict(self._by_name)
        for cell, found in self._closed:
            cell.cell_contents = found


def functions_of(value: Any) -> Iterator[types.FunctionType]:
    """The functions written in Python that a function, a method or a class consists of.

    >>> class A:
    ...     half = property(lambda self: 0.5)
    ...     @staticmethod
    ...     def one(): return 1
    >>> [function.__name__ for function in functions_of(A)]
    ['<lambda>', 'one']
    """
    left, seen = [value], set()
    while left:
        one = left.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, types.FunctionType):
            yield one
            left += [found for _, found in _closed(one)]
        elif isinstance(one, staticmethod | classmethod | types.MethodType):
            left.append(one.__func__)
        elif isinstance(one, property):
            left += [one.fget, one.fset, one.fdel]
        elif isinstance(one, functools.partial):
            left.append(one.func)
        elif type(one).__name__ in ("_ArrayFunctionDispatcher", "_lru_cache_wrapper"):
            left += [getattr(one, "_implementation", None), vars(one).get("__wrapped__")]
        elif one is value and isinstance(one, type):
            left += vars(one).values()


def _closed(function: types.FunctionType) -> Iterator[tuple[types.CellType, Any]]:
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is empty
            yield cell, cell.cell_contents


def _fork_hooks() -> list[tuple[list[Any], list[Any]]]:
    """The interpreter's lists of what it calls around a fork, each as it is now."""

    def mark() -> None:
        pass

    os.register_at_fork(before=mark, after_in_parent=mark, after_in_child=mark)
    lists = [found for found in gc.get_objects() if type(found) is list]
    return [(found, list(found)) for found in lists if any(one is mark for one in found)]


def _acts(value: Any) -> bool:
    """Whether an attribute of a class does something, and is not mere data."""
    return callable(value) or isinstance(value, classmethod | staticmethod | property)
