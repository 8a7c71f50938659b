"""A download that can resume, and leaves a file with the right checksum or no file."""

from __future__ import annotations

import hashlib
import os
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

__all__ = ["DownloadError", "cache_folder", "download", "sha256_of"]

_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18


class DownloadError(OSError):
    """The file could not be downloaded, or is the wrong one; the message says what to do."""


def cache_folder() -> Path:
    """The folder that keeps downloads: `VAELIB_CACHE`, else `vaelib` in the user's cache folder."""
    if named := os.environ.get("VAELIB_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vaelib"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: Path, sha256: str) -> Path:
    """Make sure that `path` holds the file at `url`, and return `path`.

    An existing file is checked and kept. Otherwise the bytes go to `path` + `.part`, with a
    progress bar. An interrupted download continues from there (HTTP Range), or from the start if
    the server does not support that. Only a file with the right checksum gets the name `path`.
    Processes that need the same file wait for the one that downloads it.

    Arguments:
        url: of the file.
        path: the file to write; missing folders are made.
        sha256: SHA-256 of the file, in hexadecimal digits.

    Raises:
        DownloadError: when there is no connection, it breaks off (the next call resumes), or the
            file has another checksum (it is removed).
    """
    if _is_file(path, sha256):  # before the lock: a cache may be read-only
        return path
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with FileLock(path.with_name(path.name + ".lock")):
        if _is_file(path, sha256):
            return path
        removed = ""
        if path.is_file():
            removed = f"{path} was another file, with SHA-256 {sha256_of(path)}, and was removed; "
            path.unlink()
        try:
            _fetch(url, part)
        except (OSError, HTTPException) as error:
            kept = part.stat().st_size if part.exists() else 0
            raise DownloadError(
                f"{removed}could not download {url}: {error}. Check the network and call again"
                + (f" (it continues after the first {kept:,} bytes)" if kept else "")
                + f", or save the file with SHA-256 {sha256} as {path} yourself"
            ) from error
        if (found := sha256_of(part)) != sha256:
            part.unlink()
            raise DownloadError(
                f"{url} gave a file with SHA-256 {found} where {sha256} was expected; it has been "
                f"removed. Call again; if this happens again, the server's file has changed: save "
                f"the right one as {path} yourself"
            )
        part.replace(path)
    return path


def _is_file(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _fetch(url: str, part: Path) -> None:
    """Bring `part` to the length of the file at `url`."""
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # no bytes after `have`: the checksum decides
            return
        raise
    with response:
        if response.status != 206:  # the whole file: the server ignored the range
            have = 0
        length = response.headers["Content-Length"]
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(
                desc=part.stem, initial=have, total=total, unit="B", unit_scale=True, leave=False
            ) as progress,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"the connection broke off before byte {total:,}")
