"""What stands for the notebook's module, `__main__`, where tests are judged outside."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

__all__ = ["Notebook"]


class Notebook(types.ModuleType):
    """Has the tests' names, and the submission's behind them.

    It cannot list the latter, nor set them where the submission sees it; whoever tries, as
    `unittest.main`, `doctest.testmod` and `mock.patch` do, is noted.

    Args:
        space: the names that the tests' cells run in.
        note: is told what was tried.
    """

    def __init__(self, space: dict[str, Any], note: Callable[[str], None]) -> None:
        super().__init__("__main__")
        super().__setattr__("_space", space)
        super().__setattr__("_note", note)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._space[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._note("it sets a name of __main__")
        self._space[name] = value

    def __delattr__(self, name: str) -> None:
        self._note("it deletes a name of __main__")
        try:
            del self._space[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self) -> list[str]:
        self._note("it lists the names of __main__")
        return list(self._space)

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            object.__getattribute__(self, "_note")("it lists the names of __main__")
            return object.__getattribute__(self, "_space")
        return object.__getattribute__(self, name)
