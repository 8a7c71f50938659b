"""The way to the hosts that a course allows its submissions: an HTTP proxy on this machine.

The student's process connects to a port of its own network namespace, whose listening socket the
sandbox has handed over before it ran anything of the submission. It holds no descriptor that leads
out. The proxy is a process of its own, with limits, since it reads what nobody vouches for.
"""

from __future__ import annotations

import ipaddress
import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["Proxy", "end", "listed", "main", "start"]

_AT_ONCE, _IN_ALL = 8, 200  # connections of a job
_BYTES = 64 * 2**20  # of a job, both ways
_HEAD = 2**14
_SECONDS = 30.0  # in which nothing comes
_MEMORY = 2**29
_PROCESSOR_SECONDS = 60
_READY = b"ready\n"
_PART = 1 << 16
_NOBODY = 65534
_HOP = {"connection", "keep-alive", "te", "trailer", "upgrade", "host"}  # not passed on

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST = r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)"
_TUNNEL = re.compile(rf"CONNECT {_HOST}:(\d{{1,5}}) HTTP/1\.[01]", re.IGNORECASE)
_PLAIN = re.compile(
    rf"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) http://{_HOST}(?::(\d{{1,5}}))?([/?]\S*)? "
    r"HTTP/1\.[01]",
    re.IGNORECASE,
)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\0\r\n]*)")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class _Refused(Exception):
    """What is asked for is not allowed or cannot be had: the status, and why."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(status, why)
        self.status, self.why = status, why


def listed(text: str) -> tuple[str, int]:
    """Host and port of an entry of `c.Isolated.network`.

    Raises:
        ValueError: it is not a host with a port.

    >>> listed("API.example.org:443"), listed("[::1]:80")
    (('api.example.org', 443), ('::1', 80))
    """
    found = re.fullmatch(rf"{_HOST}:(\d{{1,5}})", text.lower())
    if not found or not 0 < int(found[2]) < 65536:
        raise ValueError(
            f"c.Isolated.network: expected a host and a port, such as 'api.example.org:443', "
            f"not {text!r}"
        )
    return _canonical(found[1]), int(found[2])


def _canonical(host: str) -> str:
    """A host in lower case; an address in its usual form."""
    bare = host.lower().removeprefix("[").removesuffix("]")
    found = _address(bare)
    return str(found) if found else bare


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    """Whether everybody can reach it, and not only this machine or its network."""
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if within is not None:
            return _is_public(within)
    return address.is_global and not address.is_multicast


class Proxy:
    """Serves one job.

    Args:
        listener: of the sandbox.
        allowed: hosts with their ports, as `listed` gives them.
    """

    def __init__(self, listener: socket.socket, allowed: Iterable[tuple[str, int]]) -> None:
        self._listener, self._allowed = listener, frozenset(allowed)
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._left = _BYTES

    def serve(self) -> None:
        """Take connections until a job may have no more."""
        with self._listener:
            for _ in range(_IN_ALL):
                self._free.acquire()
                client, _ = self._listener.accept()
                threading.Thread(target=self._connection, args=(client,), daemon=True).start()
        for _ in range(_AT_ONCE):  # until the last ends
            self._free.acquire()

    def _connection(self, client: socket.socket) -> None:
        try:
            with client:
                client.settimeout(_SECONDS)
                try:
                    self._answer(client)
                except _Refused as refused:
                    client.sendall(_response(refused.status, f"{refused.why}\n"))
        except OSError:  # either side is gone, or says nothing
            pass
        finally:
            self._free.release()

    def _answer(self, client: socket.socket) -> None:
        head, rest = self._head(client)
        first, *lines = head.split("\r\n")
        if found := _TUNNEL.fullmatch(first):
            with self._server(found[1], int(found[2])) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._relay(client, server, rest, None)
        elif found := _PLAIN.fullmatch(first):
            port = int(found[3] or 80)
            kept, length = _headers(lines)
            with self._server(found[2], port) as server:
                path = found[4] or "/"
                path = path if path.startswith("/") else f"/{path}"
                site = found[2] if port == 80 else f"{found[2]}:{port}"
                said = [f"{found[1].upper()} {path} HTTP/1.1", f"Host: {site}", *kept]
                server.sendall("\r\n".join([*said, "Connection: close\r\n\r\n"]).encode("latin-1"))
                # Nothing after this request: another could name another site of the same server.
                self._relay(client, server, rest, length)
        else:
            raise _Refused("400 Bad Request", "a proxy cannot answer this request")

    def _head(self, client: socket.socket) -> tuple[str, bytes]:
        """The head of a request, and what has come after it."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = client.recv(_PART)
            if not part:
                raise ConnectionError
            self._spend(len(part))
            data += part
            if len(data.partition(b"\r\n\r\n")[0]) > _HEAD:
                raise _Refused("431 Request Header Fields Too Large", "the request is too long")
        head, _, rest = data.partition(b"\r\n\r\n")
        return head.decode("latin-1"), rest

    def _server(self, name: str, port: int) -> socket.socket:
        """A connection to a host that is allowed, at an address that is looked at first."""
        host = _canonical(name)
        if (host, port) not in self._allowed:
            raise _Refused("403 Forbidden", f"this course does not allow {host}:{port}")
        try:
            # As bytes: for text Python would import a module, which nobody may read any more.
            found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
        except OSError:
            raise _Refused("502 Bad Gateway", f"{host} is not known") from None
        if _address(host) is None:  # else it is listed by its address, whatever that is
            found = [one for one in found if _is_public(ipaddress.ip_address(str(one[4][0])))]
        if not found:
            raise _Refused("403 Forbidden", f"{host} has no public address")
        for family, _, _, _, place in found:
            if server := _connected(family, place):
                return server
        raise _Refused("502 Bad Gateway", f"{host}:{port} does not answer")

    def _relay(
        self, client: socket.socket, server: socket.socket, first: bytes, most: int | None
    ) -> None:
        """Pass on what comes, of the client's at most so many bytes, until the server ends."""
        ends = [client, server]
        part, source = first, client
        while True:
            if source is client and most is not None:
                part = part[:most]
                most -= len(part)
            if part:
                self._spend(len(part))
                (server if source is client else client).sendall(part)
            if most == 0 and client in ends:
                ends.remove(client)
            ready, _, _ = select.select(ends, [], [], _SECONDS)
            if not ready:
                return
            source = ready[0]
            part = source.recv(_PART)
            if not part and source is server:
                return
            if not part:
                ends.remove(client)
                server.shutdown(socket.SHUT_WR)

    def _spend(self, n: int) -> None:
        with self._lock:
            self._left -= n
            if self._left < 0:
                raise ConnectionError("a job has no more bytes")


def _connected(family: int, place: Any) -> socket.socket | None:
    """A connection, or `None` where nobody answers."""
    server = socket.socket(family)
    server.settimeout(_SECONDS / 3)
    try:
        server.connect(place)
    except OSError:
        server.close()
        return None
    server.settimeout(_SECONDS)
    return server


def _headers(lines: Iterable[str]) -> tuple[list[str], int]:
    """The headers that are passed on, and the length of what follows them."""
    kept, length = [], None
    for line in lines:
        found = _HEADER.fullmatch(line)
        name = found[1].lower() if found else ""
        text = found[2].strip() if found else ""
        if name == "content-length" and length is None and re.fullmatch(r"[0-9]{1,12}", text):
            length = int(text)
        elif not found or name in ("content-length", "transfer-encoding"):
            raise _Refused("400 Bad Request", f"a header that is not passed on: {line[:80]!r}")
        if name not in _HOP and not name.startswith("proxy-"):
            kept.append(line)
    return kept, length or 0


def _response(status: str, text: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
    return f"{head}Connection: close\r\n\r\n{text}".encode("latin-1", "replace")


def main(fd: int, allowed: tuple[str, ...]) -> None:
    """Be the proxy of one job, until the host closes the standard input."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS))
    proxy = Proxy(socket.socket(fileno=fd), map(listed, allowed))
    threading.Thread(target=proxy.serve, daemon=True).start()
    os.write(1, _READY)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.read(0, 1)  # also when the host is killed
    os._exit(0)


def start(listener: socket.socket, allowed: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """A proxy for one job, to which the listener belongs from now on; `end` it with the job.

    Raises:
        OSError: it cannot be started, and why.
    """
    root, fd = str(Path(__file__).parents[2]), listener.fileno()
    code = (
        f"import sys; sys.path.insert(0, {root!r}); "
        f"from autograder.execute.proxy import main; main({fd}, {allowed!r})"
    )
    with listener:
        proxy = subprocess.Popen(
            [sys.executable, "-s", "-P", "-c", code],
            pass_fds=[fd],
            cwd="/",
            env={"MALLOC_ARENA_MAX": "2"},  # each reserves 64 MiB, for which there is a limit
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    said = b"it ended without a word"
    for line in proxy.stdout or ():
        if line == _READY:
            return proxy
        said = line
    end(proxy)
    raise OSError(said.decode(errors="replace").strip())


def end(proxy: subprocess.Popen[bytes]) -> None:
    """End it, with all its connections."""
    proxy.kill()
    proxy.communicate()
