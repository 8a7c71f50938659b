"""Makes harmless HTML of what a student wrote; run as a script, in a process to be thrown away.

What comes out is written anew, tag by tag, from a list of what is allowed: no id, no class, no
script, nothing that fetches from elsewhere. No `div` comes out either, so that nothing a student
writes can close the `div` that it is shown in.

The script reads a JSON list of items `[kind, text, attachments]` and writes a JSON string for each,
a line each, or `null` where an item cost too much. It imports little, since it starts often.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
from collections.abc import Mapping
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any

__all__ = ["clean", "code", "framed", "markdown", "plain_tex", "unframed"]

Attachments = Mapping[str, Mapping[str, str]]

ITEM_SECONDS = 0.3
ALL_SECONDS = 2.0
MEMORY = 2**30
DEPTH = 50
OUTPUT = 24 * 2**20
"""Characters of HTML that an item may become, with its pictures."""

_WORDS = """
a abbr b blockquote br caption cite code dd del details dl dt em figcaption figure h1 h2 h3 h4 h5 h6
hr i img ins kbd li mark ol p pre q s samp section small span strong sub summary sup table tbody td
tfoot th thead tr tt u ul var
"""
_TAGS = frozenset(_WORDS.split())
_VOID = {"br", "hr", "img"}
_SILENT = {"script", "style", "template", "title"}
_INSTEAD = {"article": "section", "div": "section"}

_PICTURE = re.compile(r"data:image/(png|jpeg|gif);base64,[A-Za-z0-9+/=\s]*")
# Without its two slashes, `https:logout` is an address on the page's own site.
_LINK = re.compile(r"(https?://[^\s/\\]|mailto:[^\s])\S*", re.IGNORECASE)
_NUMBERS = {
    "img": {"width": 4, "height": 4},
    "ol": {"start": 6},
    "td": {"colspan": 2, "rowspan": 2},
    "th": {"colspan": 2, "rowspan": 2},
}
_STYLE = re.compile(
    r"\s*(color|background-color|font-weight|font-style|text-align)\s*:\s*"
    r"([a-z]+|\d{3}|#[0-9a-f]{3,8}|rgba?\([\d., %]+\))\s*",
    re.IGNORECASE,
)
# TeX that makes links, ids and classes, loads more of MathJax, or changes others' formulas.
_TEX = re.compile(
    r"\\(?=(?:href|url|class|cssId|style|data|unicode|require|bbox|mmlToken|label|ref|eqref"
    r"|[gex]?def|let|futurelet|(?:re)?new(?:command|environment)|providecommand"
    r"|Newextarrow|DeclareMathOperator|begingroup|endgroup|csname)(?![a-z]))",
    re.IGNORECASE,
)


def plain_tex(text: str) -> str:
    r"""Text without the TeX commands that do more than set a formula.

    >>> print(plain_tex(r"\frac{1}{2} \href{javascript:x()}{y}"))
    \frac{1}{2} \ href{javascript:x()}{y}
    """
    return _TEX.sub(r"\\ ", text)


class _Cleaner(HTMLParser):
    """Writes HTML anew from what is allowed."""

    def __init__(self, attachments: Attachments) -> None:
        super().__init__(convert_charrefs=True)
        self._attachments = attachments
        self._out: list[str] = []
        self._size = 0
        self._text: list[str] = []
        self._open: list[str] = []
        self._silent: str | None = None

    def whole(self) -> str:
        """What was written, every tag closed."""
        self._flush()
        self._close_to(0)
        return "".join(self._out)

    def _write(self, html: str) -> None:
        self._size += len(html)
        if self._size > OUTPUT:
            raise ValueError("too long")
        self._out.append(html)

    def _flush(self) -> None:
        # Where a tag is dropped, the text around it becomes one: a command may only now be there.
        text = "".join(self._text)
        self._text.clear()
        if not {"pre", "code"} & {*self._open}:  # where MathJax looks for no formulas
            text = plain_tex(text)
        self._write(escape(text, quote=False))

    def _close_to(self, depth: int) -> None:
        while len(self._open) > depth:
            self._write(f"</{self._open.pop()}>")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._silent or tag in _SILENT:
            self._silent = self._silent or tag
            return
        tag = _INSTEAD.get(tag, tag)
        if tag not in _TAGS or len(self._open) >= DEPTH or (tag == "a" and "a" in self._open):
            return
        given = {name: value or "" for name, value in attrs}
        source = self._source(given.get("src", "")) if tag == "img" else None
        if tag == "img" and not source:
            self._text.append(f"[picture: {given.get('alt', '')}]")
            return
        self._flush()
        kept = self._attributes(tag, given)
        if source:
            kept = {"src": source, "alt": given.get("alt", ""), **kept}
        written = "".join(f' {name}="{escape(value)}"' for name, value in kept.items())
        self._write(f"<{tag}{written}>")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._silent:
            self._silent = None if tag == self._silent else self._silent
            return
        tag = _INSTEAD.get(tag, tag)
        if tag in self._open:
            self._flush()
            self._close_to(len(self._open) - 1 - self._open[::-1].index(tag))

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._text.append(data)

    def _source(self, address: str) -> str | None:
        """A picture as data: its own, or one that is attached to the cell."""
        if address.startswith("attachment:"):
            bundle = self._attachments.get(address.removeprefix("attachment:"), {})
            address = next((f"data:{mime};base64,{data}" for mime, data in bundle.items()), "")
        return address if _PICTURE.fullmatch(address) else None

    def _attributes(self, tag: str, given: Mapping[str, str]) -> dict[str, str]:
        kept = {}
        if tag == "a" and _LINK.fullmatch(given.get("href", "").strip()):
            kept = {"href": given["href"].strip(), "target": "_blank"}
            kept["rel"] = "noopener noreferrer nofollow"
        for name, digits in _NUMBERS.get(tag, {}).items():
            value = given.get(name, "")
            if value.isascii() and value.isdecimal() and len(value) <= digits:
                kept[name] = value
        style = [part.strip() for part in given.get("style", "").split(";")]
        if allowed := "; ".join(part for part in style if _STYLE.fullmatch(part)):
            kept["style"] = allowed
        return kept


def clean(html: str, attachments: Attachments | None = None) -> str:
    """HTML of which only harmless tags and attributes remain.

    >>> clean('<b id="score" onclick="steal()">mean</b><script>steal()</script>')
    '<b>mean</b>'
    """
    cleaner = _Cleaner(attachments or {})
    cleaner.feed(html)
    cleaner.close()
    return cleaner.whole()


# Frames

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_HEAD = (
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>'
    "body { margin: 0; font: 13px sans-serif; } table { border-collapse: collapse; }"
    "td, th { padding: 0.3em 0.6em; text-align: right; border-bottom: 1px solid #ddd; }</style>"
)
_FRAME = (
    f'<iframe sandbox="" title="HTML output" srcdoc="{escape(_HEAD)}',
    '" style="width: 100%; border: 0; height: ',
    'em"></iframe>',
)
_FRAMED = re.compile(
    re.escape(_FRAME[0]) + '([^"<>]*)' + re.escape(_FRAME[1]) + r"\d+" + re.escape(_FRAME[2])
)
_ROW = re.compile(r"<(?:tr|p|br|li|h[1-6]|hr|dt|dd)\b|\n(?=[^<\n]*</pre>)", re.IGNORECASE)


def framed(html: str) -> str:
    """HTML in a frame that runs, sends, opens and fetches nothing; beyond 30 em it scrolls."""
    height = min(30, 3 + 2 * len(_ROW.findall(html)) + 20 * html.count("<img"))
    return f"{_FRAME[0]}{escape(html)}{_FRAME[1]}{height}{_FRAME[2]}"


def unframed(html: str) -> str:
    """The HTML in a frame of `framed`'s; other HTML as it is."""
    match = _FRAMED.fullmatch(html)
    return unescape(match[1]) if match else html


# Markdown and code

# Block formulas must be found before paragraphs are, inline ones before emphasis is.
_BLOCK_MATH = (
    r"(?s:(?<!\\)[$]{2}.*?(?<!\\)[$]{2}|\\\\\[.*?\\\\\]"
    r"|\\begin\{(?P<block_env>[a-z]*\*?)\}.*?\\end\{(?P=block_env)\})"
)
_INLINE_MATH = (
    r"(?s:(?<!\\)\$\$.*?(?<!\\)\$\$|(?<![$\\])\$.+?(?<![$\\])\$|\\\\\[.*?\\\\\]|\\\\\(.*?\\\\\)"
    r"|\\begin\{(?P<inline_env>[a-z]*\*?)\}.*?\\end\{(?P=inline_env)\})"
)


def _with_math(md: Any) -> None:
    """A plugin of mistune's: formulas are left as they are, for MathJax."""

    def block(parser: Any, match: re.Match[str], state: Any) -> int:
        state.add_paragraph(match[0])
        return match.end()

    def inline(parser: Any, match: re.Match[str], state: Any) -> int:
        text = match[0]
        if text.startswith("\\\\"):
            mark = "$$" if text[2] == "[" else "$"
            text = mark + text[3:-3] + mark
        state.append_token({"type": "math", "raw": text})
        return match.end()

    md.block.register("block_math", _BLOCK_MATH, block, before=md.block.rules[0])
    md.inline.register("math", _INLINE_MATH, inline, before=md.inline.rules[0])
    md.renderer.register("math", lambda renderer, text: escape(text, quote=False))


def markdown(text: str, attachments: Attachments | None = None) -> str:
    """Markdown as harmless HTML.

    >>> markdown("*mean* <b class='score'>of</b> $x_1 < x_2$").strip()
    '<p><em>mean</em> <b>of</b> $x_1 &lt; x_2$</p>'
    """
    import mistune

    # Which addresses are harmful is for `clean` to say; mistune takes attachments for such.
    renderer = mistune.HTMLRenderer(escape=False, allow_harmful_protocols=True)
    plugins: list[Any] = ["strikethrough", "table", "url", _with_math]
    convert = mistune.create_markdown(renderer=renderer, plugins=plugins)
    return clean(str(convert(text)), attachments)


def code(text: str, attachments: Attachments | None = None) -> str:
    """Python's source in colours; the classes are Pygments' own."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    coloured: str = highlight(text or " ", PythonLexer(stripnl=False), HtmlFormatter())
    return coloured


_CONVERT = {"markdown": markdown, "html": clean, "code": code}


def _too_long(signum: int, frame: object) -> None:
    raise TimeoutError


def main() -> None:
    """Converts what stands on stdin."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(ALL_SECONDS) + 2, int(ALL_SECONDS) + 2))
    signal.signal(signal.SIGPROF, _too_long)
    import mistune  # noqa: F401
    import pygments.formatters
    import pygments.lexers  # noqa: F401

    used, left = resource.getrusage(resource.RUSAGE_SELF).ru_utime, OUTPUT
    for kind, text, attachments in json.load(sys.stdin):
        made = None
        if resource.getrusage(resource.RUSAGE_SELF).ru_utime - used < ALL_SECONDS:
            try:
                signal.setitimer(signal.ITIMER_PROF, ITEM_SECONDS)
                made = _CONVERT[kind](text, attachments)
                signal.setitimer(signal.ITIMER_PROF, 0)
            except Exception:  # whatever a converter stumbles on, and what took too long
                made = None
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        made = made if made is not None and len(made) <= left else None
        left -= len(made or "")
        print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
