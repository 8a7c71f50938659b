"""Gives hidden tests a secret to draw their inputs from that neither repository nor release has."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import ClearHiddenTests, NbGraderPreprocessor

from autograder.prepare import hidden_lines

__all__ = ["CourseSecret", "course_secret"]

_PLACEHOLDER = re.compile(r"""(["'])course secret\1""")


def course_secret(root: Path) -> str:
    """The secret of the course at `root`: read from `.course-secret`, made on the first use.

    Whoever knows it can work out the hidden inputs: only the owner may read the file, and it
    belongs into `.gitignore`.
    """
    path = root / ".course-secret"
    beside = root / f".course-secret-{os.getpid()}"
    if not path.exists():
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(16) + "\n")
        try:
            # A link, unlike a rename, leaves a secret that somebody else made meanwhile.
            os.link(beside, path)
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    secret = path.read_text().strip()
    if not re.fullmatch(r"[0-9a-f]{32}", secret):
        raise ValueError(f"{path} should hold 32 hexadecimal digits; remove it to have it made")
    return secret


class CourseSecret(NbGraderPreprocessor):  # type: ignore[misc]
    """Puts the course's secret in the place of the string `"course secret"` in hidden tests.

    It belongs into `GenerateAssignment.preprocessors` before the cells are saved, so that the
    gradebook has the secret. The hidden tests do not reach the release, and so neither does it.
    Where nothing is replaced the string itself serves as a seed.
    """

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], cell_index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Replaces it in the hidden regions of one cell."""
        if cell.cell_type == "code" and _PLACEHOLDER.search(cell.source):
            marks = ClearHiddenTests(parent=self)
            root = Path(self.parent.parent.coursedir.root)  # preprocessor, exporter, converter
            quoted = f'"{course_secret(root)}"'
            cell.source = "\n".join(
                _PLACEHOLDER.sub(quoted, line) if hidden else line
                for line, hidden in hidden_lines(
                    cell.source, marks.begin_test_delimeter, marks.end_test_delimeter
                )
            )
        return cell, resources
