"""Show the library's docstrings as they were written: sections in Google style, the rest plain text.

Formulas in them are meant as they stand, `x*` and `|t|` too, and would be markup to Sphinx.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

STYLE = Config(napoleon_use_rtype=False, napoleon_use_ivar=True)
CODE = re.compile(r"(`+[^`]+`+)")
MARKUP = re.compile(r"([*|\\]|_\b|_(?=\W|$))")


def plain(lines: list[str]) -> list[str]:
    """The lines with what would be markup escaped; `code` and examples stay as they are."""
    result, in_example = [], False
    for line in lines:
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            parts = CODE.split(line)
            parts[::2] = (MARKUP.sub(r"\\\1", part) for part in parts[::2])
            parts[1::2] = (f"``{part.strip('`')}``" for part in parts[1::2])
            line = "".join(parts)
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
