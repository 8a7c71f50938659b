"""Errors that cross: by the names of their classes, as text, or as the very one where it began."""

from __future__ import annotations

from typing import Any

from autograder.link.errors import RemoteError, Tampered, TooLarge, Unsupported
from autograder.link.messages import Failure, shown
from autograder.link.names import ERRORS, error_name
from autograder.link.standin import RemoteType, said_of
from autograder.link.table import Table

__all__ = ["failure_of", "raised"]


def failure_of(error: BaseException, table: Table) -> tuple[Failure, type | None]:
    """What is told of an error, and its class where it is one of the sender's own."""
    home = vars(error).get("_wire_home")
    if table.guarded and len(table.frames) > 1:
        # The call that waits is the one that this error may come back through.
        kept = table.frames[-2].raised
        kept.append(error)
        home = len(kept) - 1
    cls = type(error)
    known = cls in (Unsupported, TooLarge) or error_name(cls) in ERRORS
    own = cls if not table.guarded and issubclass(cls, Exception) and not known else None
    try:
        text = str(error.args[0] if cls is KeyError and error.args else error)
    except BaseException:
        text = "(no message)"
    names = [error_name(base) for base in cls.__mro__][:100]
    return Failure(names, shown(text), home if type(home) is int else None), own


def raised(failure: Failure, own: Any, table: Table, iterating: bool) -> BaseException:
    """The error to raise here, in the place of the last frame's call (`iterating`: `__next__`)."""
    if len(failure.names) > 100 or not all(type(name) is str for name in failure.names):
        raise Tampered("an error of the wrong form")
    error = _raised(failure, own, table)
    if table.guarded and isinstance(error, StopIteration | StopAsyncIteration) and not iterating:
        # It would end a loop of the tests as if all were done.
        stopped = RuntimeError(f"the submission raised {type(error).__name__}: {error}"[:200])
        stopped.__cause__ = error
        return stopped
    return error


def _raised(failure: Failure, own: Any, table: Table) -> BaseException:
    kept, home = table.frames[-1].raised, failure.home
    if table.guarded and home is not None and 0 <= home < len(kept):
        return kept[home]
    text = shown(failure.text)
    error: BaseException
    if isinstance(own, RemoteType) and issubclass(own, Exception):
        table.doubtful = f"{said_of(own)} is only stood for outside"
        error = own.__new__(own)
        error.args = (text,)
        return error
    if table.guarded and failure.names[:1] in (["TooLarge"], ["Unsupported"]):
        table.unjudged = "a value cannot be brought outside"  # a test may expect such an error
    name = next((name for name in failure.names if name in ERRORS), None)
    if name is None:
        table.doubtful = "the submission raises an error that is not known outside"
        return RemoteError(f"{failure.names[0][:200] if failure.names else 'an error'}: {text}")
    error = ERRORS[name](text)
    if not table.guarded:
        vars(error)["_wire_home"] = failure.home
    return error
