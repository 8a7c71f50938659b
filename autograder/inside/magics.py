"""Magics in a test cell: those that run Python do so; where a real shell is needed, it is said."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from autograder.inside.plain import run_plain

__all__ = ["Magics", "NeedsShell"]

#: Line magics that set up the notebook or show help; in a test they do nothing.
_SETTINGS = {
    "autoreload", "autosave", "colors", "config", "gui", "load_ext", "matplotlib", "pdb", "pinfo",
    "pinfo2", "pprint", "precision", "psearch", "pylab", "reload_ext", "xmode",
}  # fmt: skip
_TIMERS = ("time", "timeit", "prun")
_OPTIONS = {
    "time": r"--no-raise-error\s+",
    "timeit": r"(-[nrp]\s*\d+|-[tcqov])\s+",
    "prun": r"(-[sl]\s*\w+|-[DT]\s*\S+|-[rq])\s+",
}


class NeedsShell(RuntimeError):
    """What a test cell does needs a real IPython shell, in the student's process."""


class Magics:
    """What `get_ipython()` gives in a test cell.

    `%time`, `%timeit`, `%prun` and the same of a whole cell, and `%%capture` run what they are
    given as plain Python, once.

    Args:
        space: the names that the cells run in.
        shell: what all else is left to, if there is one.

    Attributes:
        strict: whether all else is an error where there is no shell; else it does nothing, so that
            what follows in a set-up cell still runs.
        file: the name of the cell's file in tracebacks.
        change: see `run_plain`.
        needs: the first thing in this cell that needed a shell.
        hides: whether what is printed is hidden now, and read by nobody.
    """

    def __init__(self, space: dict[str, Any], shell: Any = None) -> None:
        self._space, self._shell = space, shell
        self.strict = True
        self.change: Any = None
        self.file = "<cell>"
        self.needs: str | None = None
        self.hides = False

    def new_cell(self, file: str, strict: bool = True) -> None:
        """Begin another cell."""
        self.file, self.strict, self.needs, self.hides = file, strict, None, False

    def run_line_magic(self, name: str, line: str, *rest: Any, **more: Any) -> Any:
        """What `%name line` stands for."""
        if name in _TIMERS:
            return self._time(name, _without_options(name, line), sys._getframe(1).f_locals)
        if name == "rerun" and self._shell is not None:
            return self._rerun(line)
        if self._shell is not None:
            return self._shell.run_line_magic(name, line, *rest, **more)
        if name == "run" and not self.strict:
            return self._run_file(line)
        return None if name in _SETTINGS else self._refuse(f"%{name}")

    def run_cell_magic(self, name: str, line: str, cell: str) -> Any:
        """What a cell that begins with `%%name line` stands for."""
        if name in _TIMERS:
            self._run(_without_options(name, line))
            return self._time(name, cell, self._space)
        if name == "capture":
            return self._capture(line.split(), cell)
        if self._shell is not None and name in ("bash", "sh") and not line.strip():
            return _script(name, cell)
        if self._shell is not None:
            return self._shell.run_cell_magic(name, line, cell)
        return self._refuse(f"%%{name}")

    def _run(self, source: str, local: Any = None) -> Any:
        awaiting = self._shell is not None
        return run_plain(
            source, self.file, self._space, local, awaiting=awaiting, change=self.change
        )

    def _run_file(self, line: str) -> None:
        """Run a file of the course's, as a set-up cell does for the names that it binds."""
        words = (word for word in line.split() if not word.startswith("-"))
        path = Path(next(words, ""))
        path = path if path.suffix else path.with_suffix(".py")
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_bytes())["cells"]
            sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        else:
            sources = [path.read_text()]
        for source in sources:
            self._run(source)

    def _rerun(self, line: str) -> None:
        """Run the cell before once more; the shell has no history that it would find others in."""
        if line.strip():
            raise NeedsShell(f"%rerun {line} needs the history of a session")
        self._shell.run_cell(self._space["_i"], store_history=False)

    def _time(self, name: str, source: str, local: Any) -> Any:
        value = self._run(source, None if local is self._space else dict(local))
        return value if name == "time" else None

    def _capture(self, words: list[str], cell: str) -> None:
        from IPython.utils.capture import capture_output

        out, err, rich = (f"--no-{what}" not in words for what in ("stdout", "stderr", "display"))
        names = [word for word in words if word.isidentifier()][:1]
        self.hides = not names
        with capture_output(out, err, rich) as captured:
            self._run(cell)
        for name in names:
            self._space[name] = captured

    def __getattr__(self, name: str) -> Any:
        if self._shell is not None:
            return getattr(self._shell, name)
        if name.startswith("__"):
            raise AttributeError(name)
        what = "!" if name in ("system", "getoutput") else f"get_ipython().{name}"
        return lambda *_, **__: self._refuse(what)

    def _refuse(self, what: str) -> None:
        if self.strict:
            said = f"{what} needs a real IPython shell, which a test's own process does not have"
            self.needs = self.needs or said
            raise NeedsShell(said)


def _script(program: str, source: str) -> None:
    """Without IPython's thread for it, which does not survive a fork."""
    done = subprocess.run([program], input=source, capture_output=True, text=True)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    done.check_returncode()


def _without_options(name: str, line: str) -> str:
    """The code of `%timeit -n 1 -r1 code`."""
    found = re.match(rf"\s*({_OPTIONS[name]})*", f"{line} ")
    return f"{line} "[found.end() if found else 0 :].strip()
