"""Show the library's docstrings as they are written: sections in Google style, else plain text.

Formulas in them are meant as they stand, `x*` and `|t|` too, and would be markup to Sphinx.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

STYLE = Config(napoleon_use_rtype=False, napoleon_use_ivar=True)
MEANT = re.compile(r"(`+[^`]+`+|(?<!\w)\*\w[^*]*\w\*(?!\w))")  # `code` and *emphasis*
MARKUP = re.compile(r"([*|\\]|_\b|_(?=\W|$))")


def plain(lines: list[str]) -> list[str]:
    """The lines, escaped where they would be markup but for `code`, *emphasis* and examples."""
    result, in_example = [], False
    for line in lines:
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            parts = MEANT.split(line)
            parts[::2] = (MARKUP.sub(r"\\\1", part) for part in parts[::2])
            line = re.sub(r"`+([^`]+)`+", r"``\1``", "".join(parts))
        result.append(line)
    return result


def convert(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn a docstring into reStructuredText, in place."""
    ours = str(getattr(obj, "__module__", None) or name).startswith("vaelib")
    lines[:] = GoogleDocstring(plain(lines) if ours else lines, STYLE).lines()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
