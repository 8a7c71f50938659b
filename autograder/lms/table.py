"""A CSV file in which single fields are replaced, and not one byte besides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autograder.course import CourseError

__all__ = ["Field", "Table"]

BYTES = 64 * 2**20


@dataclass(frozen=True)
class Field:
    """A field: what it says, and where in the text it stands, quotes included."""

    value: str
    start: int
    end: int


class Table:
    """A CSV file: rows of fields, with all that is needed to write it as it was.

    Attributes:
        path: of the file.
        rows: the fields; rows can differ in length.
        delimiter: a comma, a semicolon or a tab.

    Raises:
        CourseError: there is no such file, or it cannot be read as CSV.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                data = file.read(BYTES + 1)
        except FileNotFoundError:
            raise CourseError(f"there is no CSV file {path}") from None
        except OSError as error:
            raise CourseError(f"{path} cannot be read: {error.strerror}") from None
        if len(data) > BYTES:
            raise CourseError(f"{path} is larger than {BYTES / 2**20:.0f} MiB")
        if b"\0" in data:
            raise CourseError(f"{path} is not a CSV file in UTF-8; save it as such")
        try:
            self._encoding, self._text = "utf-8", data.decode()
        except UnicodeDecodeError:  # Excel's, on Windows
            self._encoding, self._text = "latin-1", data.decode("latin-1")
        tried = {delimiter: self._read(delimiter, first_row=True) for delimiter in ",;\t"}
        self.delimiter = max(tried, key=lambda delimiter: len(tried[delimiter][0]))
        self.rows = self._read(self.delimiter)

    def _read(self, delimiter: str, first_row: bool = False) -> list[list[Field]]:
        quoted = re.compile(rf'"((?:[^"]|"")*+)"([^{delimiter}\r\n]*)')
        plain = re.compile(rf"[^{delimiter}\r\n]*")
        line_end = re.compile(r"\r\n|\r|\n")
        text, rows = self._text, [[]]  # type: tuple[str, list[list[Field]]]
        position = 1 if text.startswith("\ufeff") else 0
        while True:
            start = position
            if match := quoted.match(text, position):
                value = match[1].replace('""', '"') + match[2]
            elif text[position : position + 1] == '"' and not first_row:
                line = len(line_end.findall(text, 0, position)) + 1
                raise CourseError(f"{self.path}, line {line}: a quote is opened and never closed")
            else:
                match = plain.match(text, position)
                assert match is not None  # it may be empty
                value = match[0]
            position = match.end()
            rows[-1].append(Field(value, start, position))
            if text[position : position + 1] == delimiter:
                position += 1
            elif (match := line_end.match(text, position)) and not first_row:
                position = match.end()
                if position == len(text):
                    return rows
                rows.append([])
            else:
                return rows

    def value(self, row: int, column: int | None) -> str:
        """What a field says, without blanks around; nothing where there is none."""
        if column is None or column >= len(self.rows[row]):
            return ""
        return self.rows[row][column].value.strip()

    def columns(self) -> dict[str, int]:
        """The places of the first row's names, in lower case; of equal ones the first."""
        names = [field.value.strip().casefold() for field in self.rows[0]]
        return {name: names.index(name) for name in names if name}

    def replaced(self, values: Mapping[tuple[int, int], str]) -> bytes:
        """The file with other values in some fields, by row and column."""
        parts, done = [], 0
        for row, column in sorted(values):
            field, value = self.rows[row][column], values[row, column]
            was_quoted = self._text[field.start : field.start + 1] == '"'
            if was_quoted or re.search(rf'[{self.delimiter}"\r\n]', value):
                value = '"' + value.replace('"', '""') + '"'
            parts += [self._text[done : field.start], value]
            done = field.end
        return "".join([*parts, self._text[done:]]).encode(self._encoding)
