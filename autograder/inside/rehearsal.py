"""What the tests of all submissions need alike: a course's own modules work it out once.

A module that the tests' warm parent has imported may have two functions: `__rehearse__(source)`,
which is given the text of a notebook's test cells and returns what can be pickled, and
`__remember__(found)`, which takes that over. The parent has met no submission, and what they are
given is the course's own, so nothing here depends on one; and no student's code ever runs where
it is remembered.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["rehearse"]


def rehearse(source: str) -> None:
    """Have each module work it out, and remember it; where that fails, each test has to."""
    for module in list(sys.modules.values()):
        names = vars(module) if isinstance(module, ModuleType) else {}
        if "__rehearse__" in names and "__remember__" in names:
            with contextlib.suppress(Exception):
                names["__remember__"](pickle.loads(_worked_out(names["__rehearse__"], source)))
    gc.collect()
    gc.freeze()


def _worked_out(function: Callable[[str], Any], source: str) -> bytes:
    """The pickle of a result of a function, called in a fork, which may start threads."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            result = pickle.dumps(function(source))
            with os.fdopen(write, "wb") as pipe:
                pipe.write(result)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read()
