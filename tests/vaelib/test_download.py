"""Downloads resume, are checked, and leave either the right file or none."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vaelib.download import DownloadError, cache_folder, download

CONTENT = bytes(range(256)) * 4_000  # a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` under any name, with the faults that a test asks for."""

    content = CONTENT
    ranges = True  # whether it understands Range
    breaks_after: int | None = None  # bytes of the body after which it hangs up
    length = True  # whether it tells the length
    asked: list[str | None]  # the Range header of each request

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/images.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if "missing" in self.path:
            self.send_error(404)
            return
        if server.ranges and start:
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            start = 0
            self.send_response(200)
        body = server.content[start:]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks_after])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mnist" / "images.gz"


def part(path: Path) -> Path:
    return path.with_name("images.gz.part")


def test_downloads_once_and_shows_progress(
    server: Server, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(server.url, path, SHA256) == path
    assert path.read_bytes() == CONTENT
    assert not part(path).exists()
    assert "images.gz" in capsys.readouterr().err
    download(server.url, path, SHA256)
    assert server.asked == [None]


def test_resumes_where_the_connection_broke_off(server: Server, path: Path) -> None:
    server.breaks_after = 300_000
    with pytest.raises(DownloadError, match=r"\(it continues after the first 300,000 bytes"):
        download(server.url, path, SHA256)
    assert not path.exists()
    assert part(path).read_bytes() == CONTENT[:300_000]
    with pytest.raises(DownloadError, match="600,000 bytes"):
        download(server.url, path, SHA256)
    server.breaks_after = None
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_starts_again_where_the_server_ignores_the_range(server: Server, path: Path) -> None:
    server.ranges = False
    path.parent.mkdir()
    part(path).write_bytes(CONTENT[:300_000])
    download(server.url, path, SHA256)
    assert server.asked == ["bytes=300000-"]
    assert path.read_bytes() == CONTENT


def test_a_complete_part_needs_nothing_more(server: Server, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT)
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("left_over", [b"x" * 1_000, CONTENT + b"x"], ids=["other", "too long"])
def test_a_wrong_part_is_removed_and_the_next_call_succeeds(
    server: Server, path: Path, left_over: bytes
) -> None:
    path.parent.mkdir()
    part(path).write_bytes(left_over)
    with pytest.raises(DownloadError, match="removed"):
        download(server.url, path, SHA256)
    assert not path.exists()
    assert not part(path).exists()
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("length", [True, False], ids=["length told", "length not told"])
@pytest.mark.parametrize("content", [CONTENT[:-1], b"!" + CONTENT[1:]], ids=["short", "tampered"])
def test_a_wrong_checksum_leaves_no_file(
    server: Server, path: Path, content: bytes, length: bool
) -> None:
    server.content, server.length = content, length
    with pytest.raises(DownloadError, match=rf"{SHA256} was expected; it has been removed"):
        download(server.url, path, SHA256)
    assert not path.exists()
    assert not part(path).exists()


def test_a_file_that_was_altered_is_fetched_again(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1] + b"!")
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT


def test_an_altered_file_does_not_outlive_a_failed_download(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1] + b"!")
    server.breaks_after = 0
    with pytest.raises(DownloadError, match=rf"^{path} was another file, .*{SHA256} as {path}"):
        download(server.url, path, SHA256)
    assert not path.exists()


def test_no_server_and_no_such_file_say_what_to_do(server: Server, path: Path) -> None:
    with pytest.raises(
        DownloadError, match=rf"404.*Check the network.*save the file with .* as {path}"
    ):
        download(server.url.replace("images", "missing"), path, SHA256)
    server.server_close()  # no one listens any more
    with pytest.raises(DownloadError, match=rf"{server.url}.*Check the network"):
        download(server.url, path, SHA256)
    assert not path.exists()


def test_two_at_once_fetch_one_file(server: Server, path: Path) -> None:
    threads = [threading.Thread(target=download, args=(server.url, path, SHA256)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT
    assert server.asked == [None]


def test_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAELIB_CACHE", "~/chosen")
    assert cache_folder() == tmp_path / "chosen"
    monkeypatch.delenv("VAELIB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "vaelib"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "vaelib"
