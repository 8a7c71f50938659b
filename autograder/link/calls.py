"""What the other side asks for, checked and done; only here does the code of cells run.

The tests' side lets a submission do no more than call, and read, what was handed to it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from autograder.link.errors import Tampered, expect
from autograder.link.gradients import Bundle, product
from autograder.link.messages import Call
from autograder.link.names import is_allowed
from autograder.link.standin import SPECIAL
from autograder.link.table import Table, changes

__all__ = ["prepared"]


def prepared(
    call: Call, args: Any, table: Table, namespace: dict[str, Any] | None
) -> Callable[[], Any]:
    """What a call asks for, not yet done; the tests' side has no namespace to ask for.

    Raises:
        Tampered: there is no such call.
        AttributeError: it is not for a submission.
    """
    expect(args, tuple, "arguments")
    name = call.name or ""
    if call.op == "name":
        if namespace is None:
            raise Tampered("a request for the tests' names")
        return lambda: (namespace[name],) if name in namespace else ()
    if call.op == "shared" and not table.guarded:
        return table.shared.told
    entry = table.own.get(call.key) if call.key is not None else None
    if entry is None:
        raise Tampered("a call of what was not handed over")
    obj = entry.obj
    if isinstance(obj, Bundle) or call.op == "vjp":
        if not isinstance(obj, Bundle) or call.op != "vjp" or len(args) != 2:
            raise Tampered("a gradient of nothing")
        return product(table, obj, *args)
    if table.guarded and not is_allowed(call.op, obj, call.name):
        table.doubtful = f"the submission uses a {type(obj).__name__} of the test's"
        raise AttributeError(f"{name or call.op}: not for a submission to use")
    if call.op == "call" and len(args) == 2:
        if not all(type(key) is str for key in expect(args[1], dict, "arguments")):
            raise Tampered("arguments of the wrong form")
        return partial(_call, obj, call.name, expect(args[0], tuple, "arguments"), args[1])
    if call.op == "get":
        return lambda: getattr(obj, name)
    if call.op == "special" and name in SPECIAL:
        return lambda: getattr(type(obj), name)(obj, *args)
    if call.op == "copy":
        return lambda: copy.deepcopy(obj)
    if call.op == "set" and not table.guarded and len(args) == 1:
        return lambda: setattr(obj, name, args[0])
    raise Tampered("a request that there is not")


def _call(obj: Any, name: str | None, args: Any, kwargs: Any) -> Any:
    target = obj if name is None else getattr(obj, name)
    changed = changes(args, kwargs)
    return target(*args, **kwargs), changed()
