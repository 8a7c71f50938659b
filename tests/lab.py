"""JupyterLab as a student sees it: a server, and one notebook in the browser."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect


@contextmanager
def serve(
    folder: Path, environment: Mapping[str, str], log: Path, module: str = "jupyterlab"
) -> Iterator[str]:
    """A server in a folder, JupyterLab's by default; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", module, "--no-browser", "--allow-root",
             f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
             "--ServerApp.ip=127.0.0.1"],
            cwd=folder, env=environment, stdout=out, stderr=out,
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/api").close()
                break
            except OSError:
                time.sleep(0.5)
        yield url
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:  # a kernel was still being started
            server.kill()
            server.wait()


def sources_in(path: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


class Lab:
    """JupyterLab in a browser, with one notebook open."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        page.set_default_timeout(30_000)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.url}/lab/tree/{path}")
        expect(self.page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=30_000)
        expect(self.page.locator('[data-status="idle"]').first).to_be_visible(timeout=60_000)

    def cell(self, text: str) -> Locator:
        """The code cell that begins with a text."""
        cells = self.page.locator(".jp-Notebook .jp-CodeCell")
        return cells.filter(has=self.page.locator(".cm-content", has_text=re.compile(f"^{text}")))

    def write(self, cell: Locator, code: str) -> None:
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(code)

    def run(self, cell: Locator) -> Locator:
        """Run a cell, wait for its end, and return where its output is."""
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for _ in range(6):  # while formulas are set and the kernel starts, a click may be lost
            cell.locator(".cm-content").click()
            self.page.locator('[data-command="notebook:run-cell-and-select-next"]').first.click()
            self.page.wait_for_timeout(1000)
            if prompt.inner_text() != before:
                break
        expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=30_000)
        return cell.locator(".jp-OutputArea")

    def save(self, path: Path, text: str) -> None:
        """Save, and wait until a file holds a text."""
        self.page.keyboard.press("Control+S")
        for _ in range(100):
            with contextlib.suppress(nbformat.reader.NotJSONError):  # half written
                if text in sources_in(path):
                    return
            self.page.wait_for_timeout(100)
        pytest.fail(f"{path.name} was not saved")
