"""The library's reference: docstrings as plain text, and links by either name.

Sections of a docstring are in Google style, and the rest is plain text. Formulas such as `x*` and
`|t|` stand for themselves, although Sphinx would read them as markup. A chapter may refer to
`vaelib.training.fit` as `vaelib.fit`.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring

STYLE = Config(napoleon_use_rtype=False, napoleon_use_ivar=True)
MEANT = re.compile(r"(`+[^`]+`+|(?<!\w)\*\w[^*]*\w\*(?!\w))")  # `code` and *emphasis*
MARKUP = re.compile(r"([*|\\]|_\b|_(?=\W|$))")


def plain(lines: list[str]) -> list[str]:
    """The lines with all markup escaped, except `code`, *emphasis* and examples."""
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


def skip(app: Sphinx, what: str, name: str, obj: Any, leave: bool, options: Any) -> bool | None:
    """Leave out the fields of a named tuple, of which autodoc says only that they are numbered."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def canonical(name: str) -> str:
    """The full name of a public name: `vaelib.kl_terms` is `vaelib.kl.kl_terms`.

    A name that comes from another library stays as it is.

    Raises:
        ImportError, AttributeError: when there is no such name.
    """
    module, _, attribute = name.rpartition(".")
    defined = getattr(importlib.import_module(module), attribute)
    if not defined.__module__.startswith("vaelib"):
        return name
    # A value, such as `vaelib.pretrained`, does not know its name.
    return f"{defined.__module__}.{getattr(defined, '__qualname__', attribute)}"


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a reference to a public name."""
    target = node["reftarget"]
    if node.get("refdomain") != "py" or not target.startswith("vaelib."):
        return None
    try:
        name = canonical(target)
    except (ImportError, AttributeError):
        return None
    domain, page, kind = env.domains["py"], node["refdoc"], node["reftype"]
    return domain.resolve_xref(env, page, app.builder, kind, name, node, content)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", convert)
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
