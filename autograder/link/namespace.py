"""The names of the tests' cells, with the submission's names behind them."""

from __future__ import annotations

import builtins
import types
from collections.abc import Callable, Iterable
from typing import Any

from autograder.link.peer import Peer
from autograder.link.table import handle_of

__all__ = ["Namespace"]


class _Builtins(dict[str, Any]):
    """Python's builtins, and behind them the submission's names.

    Python asks here last, wherever code stands: in functions, in the bodies of classes too, where
    it does not ask a namespace's own `__missing__`.
    """

    def __init__(self, fetch: Callable[[str], Any]) -> None:
        super().__init__(vars(builtins))
        self._fetch = fetch

    def __missing__(self, name: str) -> Any:
        try:
            return self._fetch(name)
        except KeyError:
            if name in vars(builtins):  # the submission has deleted its own
                return vars(builtins)[name]
            raise


class Namespace(dict[str, Any]):
    """The globals of the tests' cells, with the submission's names behind them.

    A name is looked up among the tests' own, then in Python's builtins without those that the
    submission has bound, then at the submission (the value is kept until `forget`). A name that a
    test binds is the test's own from then on.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__(__name__="__main__", __builtins__=_Builtins(self._fetch))
        self._peer = peer
        self._fetched: set[str] = set()
        self._kept: set[str] = set()

    def _fetch(self, name: str) -> Any:
        if name.startswith("__") or name in self._kept:
            raise KeyError(name)
        value = self._peer.fetch(name)
        handle = handle_of(value)
        if handle is not None and isinstance(value, type) and name[:1].isupper():
            handle.named = True
        super().__setitem__(name, value)
        self._fetched.add(name)
        return value

    def __missing__(self, name: str) -> Any:
        if type(name) is not str or dict.__contains__(self["__builtins__"], name):
            raise KeyError(name)
        return self._fetch(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._fetched.discard(name)
        super().__setitem__(name, value)

    def keep(self, names: Iterable[str]) -> None:
        """Never ask the submission for these names: what they stand for judges it."""
        self._kept |= set(names)

    def forget(self, rebound: Iterable[str] = (), own: Iterable[str] = ()) -> None:
        """Ask again for names of the submission, as they are now.

        Args:
            rebound: names that the submission's cells have bound since. Where the tests have
                plain data under such a name, the submission's takes its place; functions, classes
                and modules of the tests stay, so that no submission replaces what judges it.
            own: names of Python's builtins that are the submission's from now on.
        """
        for name in self._fetched:
            self.pop(name, None)
        self._fetched.clear()
        for name in rebound:
            if name in self and not name.startswith("__") and not _judges(self[name]):
                del self[name]
        for name in own:
            self["__builtins__"].pop(name, None)


def _judges(value: Any) -> bool:
    return callable(value) or isinstance(value, types.ModuleType)
