"""The checked table that leads from each item of the lecture to section, functions and exercise.

A chapter's front matter says what it teaches, with one entry per item of `lecture-items.yml`::

    lecture:
      L26: {section: kl-definition, functions: [vaelib.kl_divergence], exercise: 3-kl}
    slides: [E5]

`section` is the label of a section of that chapter, `functions` are names that can be imported, and
`slides` are the errors that it corrects. The directive `lecture-trace` renders the tables. Chapters
in the table of contents must be complete; others are shown as missing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from book.api import canonical

logger = logging.getLogger(__name__)


class Chapter:
    """A page of the book: its text, and its front matter."""

    def __init__(self, docname: str, path: Path) -> None:
        self.docname = docname
        self.text = path.read_text("utf-8")
        front = re.match(r"---\n(.*?)\n---\n", self.text, re.DOTALL)
        matter = yaml.safe_load(front[1]) if front else {}
        self.lecture: dict[str, dict[str, Any]] = matter.get("lecture", {})
        self.slides: list[str] = matter.get("slides", [])

    def warn(self, message: str, *arguments: object) -> None:
        """Warn of something in the front matter."""
        logger.warning(message, *arguments, location=self.docname)

    def has(self, section: str) -> bool:
        """Whether a section of this page has the label."""
        return f"\n({section})=\n" in self.text


def where_tested(root: Path, name: str) -> Path:
    """The file that tests a name, given the name with its module."""
    *packages, module, _ = name.split(".")
    return root.joinpath("tests", *packages, f"test_{module}.py")


class LectureTrace(SphinxDirective):
    """`{lecture-trace}`: the tables."""

    def run(self) -> list[nodes.Node]:
        """Write the tables in Markdown, so that Sphinx checks their links."""
        self.env.note_reread()  # they depend on every chapter
        items_file = Path(__file__).with_name("lecture-items.yml")
        self.course = yaml.safe_load(items_file.read_text("utf-8"))
        self.root = Path(self.env.srcdir)
        self.chapters = {
            name: Chapter(f"chapters/{name}", self.root / "chapters" / f"{name}.md")
            for name in self.course["chapters"]
            if f"chapters/{name}" in self.env.found_docs
        }
        lines = [
            "| item | section, *exercise* | functions, their tests |",
            "| --- | --- | --- |",
            *(self.row(item, name) for item in self.course["items"] for name in self.where(item)),
            "",
            "| on the slides | put right in |",
            "| --- | --- |",
            *(self.error(error) for error in self.course["errors"]),
        ]
        for chapter in self.chapters.values():
            for unknown in chapter.lecture.keys() - self.course["items"].keys():
                chapter.warn("the lecture has no item %s", unknown)
            for unknown in set(chapter.slides) - self.course["errors"].keys():
                chapter.warn("no error of the slides is called %s", unknown)
        node = nodes.container(classes=["lecture-trace"])
        self.state.nested_parse(StringList(lines, source="lecture-trace"), 0, node)
        return [node]

    def where(self, item: str) -> list[str]:
        """The chapters that have to teach an item, then others that say they do."""
        also = [name for name, chapter in self.chapters.items() if item in chapter.lecture]
        return list(dict.fromkeys([*self.course["items"][item]["chapters"], *also]))

    def row(self, item: str, name: str) -> str:
        """The row for one item in one chapter."""
        says = self.course["items"][item]["says"].replace("|", r"\|")
        if name not in self.chapters:
            return f"| **{item}** {says} | {name}: not written yet | |"
        chapter = self.chapters[name]
        if item not in chapter.lecture:
            chapter.warn("lecture item %s has no section here", item)
            return f"| **{item}** {says} | | |"
        entry = chapter.lecture[item]
        section, exercise = entry.get("section", ""), entry.get("exercise")
        if not chapter.has(section):
            chapter.warn("%s: no section here is labelled %r", item, section)
        if exercise and exercise not in self.course["chapters"].values():
            chapter.warn("%s: there is no exercise %r", item, exercise)
        functions = list(filter(None, (self.defined(chapter, f) for f in entry["functions"])))
        where = [f"{{ref}}`{section}`"]
        if exercise:
            page = f"chapters/exercises/{exercise}"
            found = page in self.env.found_docs
            where.append(f"{{doc}}`{exercise} </{page}>`" if found else f"*{exercise}*")
        computed = [f"{{py:obj}}`{f.rpartition('.')[2]} <{f}>`" for f in functions]
        tested = [f"`{file}`" for file in dict.fromkeys(self.tests(chapter, f) for f in functions)]
        return f"| **{item}** {says} | {'<br>'.join(where)} | {'<br>'.join(computed + tested)} |"

    def defined(self, chapter: Chapter, function: str) -> str | None:
        """The full name of a function, or None with a warning if it does not exist."""
        try:
            return canonical(function)
        except (ImportError, AttributeError) as error:
            chapter.warn("%s cannot be imported: %s", function, error)
            return None

    def tests(self, chapter: Chapter, function: str) -> str:
        """The file that tests a function, with a warning if it does not name it."""
        file = where_tested(self.root, function)
        name = function.rpartition(".")[2]
        if not file.exists() or name not in file.read_text("utf-8"):
            chapter.warn("%s is not tested in %s", function, file.relative_to(self.root))
        return file.relative_to(self.root / "tests").as_posix()

    def error(self, error: str) -> str:
        """The row for one error of the slides."""
        where = [chapter for chapter in self.chapters.values() if error in chapter.slides]
        if not where and self.chapters.keys() == self.course["chapters"].keys():
            logger.warning("no chapter puts %s right", error, location=self.env.docname)
        links = ", ".join(f"{{doc}}`/{chapter.docname}`" for chapter in where)
        says = self.course["errors"][error].replace("|", r"\|")
        return f"| **{error}** {says} | {links} |"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("lecture-trace", LectureTrace)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
