"""Sets aside a submission that ends the process that reads it.

Submissions are read in the grader's own process, with limits of size. If the process is killed all
the same, for example for want of memory, the next run would meet the same submission. So it is
noted which one is being read. A submission with which one run has ended is read last; one with
which two have ended is first tried in a process of its own, by

    python -m autograder.suspects COURSE ASSIGNMENT STUDENT ISOLATED
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from autograder.atomic import scratch
from autograder.course import Course
from autograder.execute.store import Store, job_key
from autograder.gradebook import Recorder, Submission
from autograder.prepare.submission import prepare

__all__ = ["Suspects", "survives"]

_TWICE = 2
_MEMORY, _SECONDS = 2 * 2**30, 300  # of processor time
_PATIENCE = 20 * _SECONDS  # on a busy machine


class Suspects:
    """The submissions of an assignment that runs have ended with.

    Args:
        folder: where it is noted.
        assignment: its name.

    Attributes:
        aside: who is not to be read in this run.
    """

    def __init__(self, folder: Path, assignment: str) -> None:
        self._file = folder / "reading" / f"{assignment}.json"
        self._ended = self._read()
        self.aside: set[str] = set()

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(self._file.read_text())
        except (OSError, ValueError):  # there is none, or it was not written to its end
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, ended: dict[str, int]) -> None:
        if ended:
            self._file.parent.mkdir(exist_ok=True)
            self._file.write_text(json.dumps(ended))
        else:
            self._file.unlink(missing_ok=True)

    def last(self, students: Iterable[str], survives: Callable[[str], bool]) -> list[str]:
        """The students in the order in which they are to be read: suspects last.

        Args:
            students: whose submissions are to be graded.
            survives: whether a process that reads a student's submission comes to its end.
        """
        found = sorted(students, key=lambda student: self._ended.get(student, 0) > 0)
        twice = [student for student in found if self._ended.get(student, 0) >= _TWICE]
        self.aside = {student for student in twice if not survives(student)}
        return found

    @contextlib.contextmanager
    def reading(self, student: str, *, done: bool = False) -> Iterator[None]:
        """Notes that a submission is being read; with `done`, this is the last step of it."""
        ended = self._ended.get(student, 0)
        self._write({**self._ended, student: ended + 1})
        try:
            yield
        finally:
            if done:
                self._ended.pop(student, None)
            self._write(self._ended)


def survives(course: Course, assignment: str, student: str, isolated: bool) -> bool:
    """Whether a process that reads a submission, and its results, comes to its end."""
    command = [sys.executable, "-m", "autograder.suspects", str(course.root), assignment, student]
    command.append(str(int(isolated)))
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_PATIENCE).returncode
    except subprocess.TimeoutExpired:  # it waits for something, such as a database's lock
        return False
    finally:
        shutil.rmtree(_staging(course), ignore_errors=True)
    return ended == 0


def _staging(course: Course) -> Path:
    return course.work / "reading" / "staging"


def _read(course: Course, assignment: str, student: str, isolated: bool) -> None:
    """Do all that a run does with a submission, but keep nothing."""
    recorder = Recorder(course, assignment, scratch(_staging(course)), isolated, keep=False)
    folder = course.submissions(assignment)[student]
    made = prepare(folder, course.sources(assignment), recorder.rules)
    refused = [notebook.metadata.autograder.get("refused") for notebook in made.notebooks.values()]
    if "MemoryError" in str(refused):
        raise MemoryError
    keys = {name: job_key(job, isolated=isolated) for name, job in made.jobs.items()}
    store = Store(course.work / "results")
    if all(store.get(key) for key in keys.values()):
        recorder.record(Submission(student, made.notebooks, keys, made.files, made.about))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    root, name, whose, where = sys.argv[1:]
    try:
        _read(Course.at(Path(root)), name, whose, where == "1")
    except MemoryError:
        raise
    except Exception as error:  # of which the run will hear, too
        print(error)
