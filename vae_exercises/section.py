"""A section of the book, and how a student gets to it."""

from __future__ import annotations

import re
import webbrowser
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Section"]

# Where the book lies: in the students' folder, and in a clone of the course.
BOOKS = ("book", "_build/html")


@dataclass(frozen=True)
class Section:
    """A section of a chapter.

    Attributes:
        page: the chapter's file, without its ending.
        title, heading: of the chapter and of the section.
    """

    page: str
    title: str
    heading: str

    def __str__(self) -> str:
        return f"{self.title}, “{self.heading.replace('$', '')}”"

    @property
    def anchor(self) -> str:
        """The section's place in the chapter's page."""
        return re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-")

    def address(self, start: Path) -> str | None:
        """The address of the section in the book that lies nearest above a folder."""
        for folder in (start, *start.parents):
            for book in BOOKS:
                page = folder / book / "chapters" / f"{self.page}.html"
                if page.is_file():
                    return f"{page.as_uri()}#{self.anchor}"
        return None

    def open(self) -> None:
        """Open the section in a browser if the book is there, and say where it is."""
        address = self.address(Path.cwd())
        if address is None:
            print(f"{self}: the book, book/index.html in the folder vae-exercises, is not here.")
        else:
            webbrowser.open(address)
            print(f"{self}:\n{address}")
