"""The course's secret, from which hidden tests draw inputs that no release has."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

__all__ = ["course_secret"]


def course_secret(root: Path) -> str:
    """The secret of the course at `root`: read from `.course-secret`, made on the first use.

    Whoever knows it can work out the hidden inputs: only the owner may read the file, and it
    belongs in `.gitignore`.
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
