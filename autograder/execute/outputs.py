"""The outputs of a cell, from messages that nobody vouches for."""

from __future__ import annotations

import sys
from typing import Any

from autograder.job import Limits

__all__ = ["Outputs", "ran_out_of_memory"]

_ITEM = 200  # characters that an output counts beside what it holds
_ERRORS = 5  # in a cell
_MESSAGES = 2_000_000  # in a cell; more are a flood
_FLOOD = 64  # times the limit on output: what is read and thrown away before the cell is stopped
_RESULT = 20_000  # characters of a cell's value that are kept above the limit on output
_TOLD = 100_000  # characters of a cell's errors, if its notebook has room for them
_SAID = 1_000  # characters of what an error says that are kept without room


class Outputs:
    """The outputs of one cell in nbformat's form, cut at a number of bytes."""

    def __init__(self, limits: Limits, room: int | None = None) -> None:
        self.items: list[dict[str, Any]] = []
        self.flooded = False
        self._thrown = 0
        self._limit = limits.output
        self._left = self._room = limits.output if room is None else room
        self._errors = 0
        self._shown: dict[str, dict[str, Any]] = {}
        self._clear = False
        self._is_cut = False
        self._messages = 0
        self._has_result = False

    @property
    def size(self) -> int:
        """What they take of the notebook's room; one letter may make a text four times as big."""
        memory = sum(sys.getsizeof(text) for item in self.items for text in _texts(item))
        return max(memory, self._room - max(0, self._left) + self._errors)

    def add(self, message: dict[str, Any]) -> None:
        """Take a message of `autograder.inside.control`; one that is not valid is left out."""
        self._messages += 1
        if self._messages > _MESSAGES or message.get("flood"):
            self.flooded = True
        elif message.get("clear"):
            self._clear = True
        elif message.get("full"):
            self._cut("stdout")
        elif message.get("stream") in ("stdout", "stderr"):
            self._stream(message["stream"], _text(message.get("text")))
        elif "error" in message:
            self._error(message["error"])
        elif "display" in message or "result" in message:
            self._data(message)

    def _append(self, item: dict[str, Any], size: int, always: bool = False) -> bool:
        if self._clear:
            self.items.clear()
            self._clear = False
        self._left -= size + _ITEM
        if self._left < 0 and not always:
            self._cut("stdout")
            return False
        self.items.append(item)
        return True

    def _stream(self, name: str, text: str) -> None:
        if self._left <= 0:
            self._cut(name)
            self._thrown += len(text)
            self.flooded = self.flooded or self._thrown > _FLOOD * self._limit
            return
        rest, text = len(text) - self._left, text[: self._left]
        last = self.items[-1] if self.items else {}
        if not self._clear and last.get("name") == name:
            last["text"] += text
            self._left -= len(text)
        else:
            self._append({"output_type": "stream", "name": name, "text": text}, len(text))
        if rest > 0:
            self._cut(name)

    def _cut(self, name: str) -> None:
        self._left = 0
        if not self._is_cut:
            self._is_cut = True
            text = f"\n... output of more than {self._limit} bytes is cut here ...\n"
            self.items.append({"output_type": "stream", "name": name, "text": text})

    def _error(self, error: Any) -> None:
        if not (isinstance(error, list) and len(error) == 3 and isinstance(error[2], list)):
            return
        lines = [_text(line)[:2000] for line in error[2][:200]]
        self.error(_text(error[0])[:200], _text(error[1])[:10000], lines)

    def error(self, name: str, value: str, traceback: list[str] | None = None) -> None:
        """Add an error; the first few are always kept, of their text as much as there is room."""
        if sum(item["output_type"] == "error" for item in self.items) >= _ERRORS:
            return
        left = max(0, min(self._room, _TOLD) - self._errors)
        first, *lines = traceback or [f"{name}: {value}"]
        value = value[: max(_SAID, left)]
        left -= len(value)
        traceback = [first]
        for line in reversed(lines):  # the last ones tell most
            left -= len(line)
            if left < 0:
                break
            traceback.insert(1, line)
        self._errors += len(value) + sum(map(len, traceback))
        self.items.append(
            {"output_type": "error", "ename": name, "evalue": value, "traceback": traceback}
        )

    def _data(self, message: dict[str, Any]) -> None:
        kind = "result" if "result" in message else "display"
        bundle = message[kind]
        if not isinstance(bundle, dict):
            return
        data = {_text(k)[:100]: _text(v) for k, v in bundle.items() if isinstance(v, str)}
        size = sum(map(len, data.values()))
        shown = message.get("id")
        if message.get("update"):
            if isinstance(shown, str) and shown in self._shown and self._left >= size:
                self._shown[shown]["data"] = data
                self._left -= size
            return
        item: dict[str, Any] = {"output_type": "display_data", "data": data, "metadata": {}}
        if kind == "result":
            item |= {"output_type": "execute_result", "execution_count": None}
        # The value of a test cell is partial credit, whatever else the cell has printed.
        always = kind == "result" and size <= _RESULT and not self._has_result
        self._has_result = self._has_result or always
        if self._append(item, size, always) and isinstance(shown, str):
            self._shown[shown] = item


def _texts(item: dict[str, Any]) -> list[str]:
    lines = item.get("traceback", ())
    return [item.get("text", ""), item.get("evalue", ""), *item.get("data", {}).values(), *lines]


def _text(value: Any) -> str:
    """A string that every file can hold: no lone surrogates."""
    return str(value).encode(errors="replace").decode() if isinstance(value, str) else ""


def ran_out_of_memory(outputs: list[dict[str, Any]]) -> bool:
    """Whether an error among the outputs says so."""
    return any(
        item["output_type"] == "error"
        and (item["ename"] == "MemoryError" or "can't allocate memory" in item["evalue"])
        for item in outputs
    )
