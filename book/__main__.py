"""Build the book into `_build/html`; a warning fails the build, now and when it is tried again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Build, and return the exit code."""
    build = ROOT / "_build"
    complete = build / "complete"
    # Sphinx reads again only what has changed, and so would pass in silence over a page it warned
    # of the last time. Without its notes it reads all pages; what was executed stays in the cache.
    if not complete.exists():
        shutil.rmtree(build / ".doctrees", ignore_errors=True)
    complete.unlink(missing_ok=True)
    command = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    arguments = ["build", "-W", "--keep-going", str(ROOT)]
    code = subprocess.run([sys.executable, "-c", command, *arguments], cwd=ROOT).returncode
    if code == 0:
        complete.touch()
    return code


if __name__ == "__main__":
    sys.exit(main())
