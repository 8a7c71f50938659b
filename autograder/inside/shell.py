"""The IPython shell that runs a student's cells."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from autograder.inside.output import Messages, Stream, plain

__all__ = ["make_shell"]


def make_shell() -> Any:
    """An IPython shell that keeps no history, reads no start-up files, and sends its outputs."""
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Type
    from traitlets.config import Config

    class Hook(DisplayHook):
        def write_output_prompt(self) -> None:
            pass

        def write_format_data(
            self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None
        ) -> None:
            shell: Any = self.shell
            shell.emit({"result": plain(format_dict)})

    class Publisher(DisplayPublisher):
        def publish(self, data: dict[str, Any], *_: Any, **more: Any) -> None:
            shown = (more.get("transient") or {}).get("display_id")
            self.shell.emit(
                {"display": plain(data), "id": shown, "update": bool(more.get("update"))}
            )

        def clear_output(self, wait: bool = False) -> None:
            self.shell.emit({"clear": True})

    class Shell(InteractiveShell):
        displayhook_class = Type(Hook)
        display_pub_class = Type(Publisher)
        messages: Messages | None = None
        streams: Sequence[Stream] = ()
        error: BaseException | None = None  # the last that was shown

        def emit(self, message: dict[str, Any]) -> None:
            for stream in self.streams:
                stream.flush()
            if self.messages is not None:
                self.messages.output(message)
                self.messages.checkpoint()

        def showtraceback(self, *args: Any, **kwargs: Any) -> None:
            error = sys.exc_info()[1]
            if isinstance(error, MemoryError):  # IPython's way to show it would need memory
                self._showtraceback(type(error), error, ["MemoryError"])
            else:
                super().showtraceback(*args, **kwargs)

        def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
            for stream in self.streams:
                stream.flush()
            self.error = evalue
            if self.messages is not None:
                self.messages.error(evalue, "\n".join(stb).split("\n"))

        def enable_gui(self, gui: str | None = None) -> None:
            pass  # the inline backend needs no event loop

        def ask_exit(self) -> None:
            print("A graded notebook cannot leave its kernel.")

    settings = Config()
    settings.HistoryManager.enabled = False
    # Not by way of an application, which would look for start-up files and profiles.
    return Shell.instance(config=settings)
