"""A submission reaches the hosts that its course lists, and nothing else, whatever it tries."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from autograder.execute import proxy
from autograder.execute.fork import Fork
from autograder.execute.run import execute
from autograder.execute.sandbox import SandboxError
from autograder.inside.seccomp import seccomp_program
from autograder.job import Cell, Job, Limits, Result

from .test_sandbox import decision, in_sandbox

IMPORTS = ("numpy", "requests")
LIMITS = Limits(cell_seconds=30, total_seconds=60, memory=2**30)
ALLOW, NO, NO_FAMILY = 0x7FFF0000, 0x50001, 0x50061


class Site(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; `/to/…` leads elsewhere, `/endless` never ends."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length", 0))
        sent = self.rfile.read(length).decode()
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", f"http://{self.path[4:]}/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(2**16))
        else:
            said = json.dumps([self.command, self.path, self.headers["host"], sent]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def site() -> Iterator[tuple[str, list[str]]]:
    """A site on this machine, by its address, and who has asked it."""
    asked: list[str] = []

    class Noting(Site):
        def parse_request(self) -> bool:
            asked.append(self.raw_requestline.decode().strip())
            return super().parse_request()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Noting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture
def listed() -> Iterator[str]:
    with site() as (address, _):
        yield address


@pytest.fixture
def unlisted() -> Iterator[tuple[str, list[str]]]:
    with site() as found:
        yield found


START = """
import json, os, socket, urllib.error, urllib.request
def ask(url, **more):
    try:
        with urllib.request.urlopen(url, timeout=10, **more) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return type(error).__name__
def tunnel(place):
    with socket.create_connection(("127.0.0.1", 3128), 10) as s:
        s.sendall(f"CONNECT {place} HTTP/1.1\\r\\n\\r\\n".encode())
        return int(s.recv(100).split()[1])
"""


def answer(source: str, *network: str) -> Any:
    """What a submission's code leaves in `found`."""
    cells = (
        Cell("attempt", "student", f"{START}{source}"),
        Cell("found", "student", "print('\\n' + json.dumps(found))"),
    )
    job = Job(cells, limits=LIMITS, imports=IMPORTS, network=network)
    result = Result.from_bytes(execute(job.to_bytes()))
    assert [cell.reason for cell in result.cells] == [None, None], result
    assert result.cells[0].outputs == []
    return json.loads(result.cells[1].outputs[-1]["text"])


@in_sandbox
class TestASubmission:
    def test_reads_and_sends_by_the_usual_means(self, listed: str) -> None:
        found = answer(
            f"""
import requests, subprocess
url = "http://{listed}/a?b=c"
found = [json.loads(ask(url)), json.loads(ask(url, data=b"sent")), requests.get(url).json()]
found.append(json.loads(subprocess.run(["curl", "-s", url], stdout=-1).stdout))
""",
            listed,
        )
        got = ["GET", "/a?b=c", listed, ""]
        assert found == [got, ["POST", "/a?b=c", listed, "sent"], got, got]

    def test_makes_tunnels_as_for_https(self, listed: str) -> None:
        found = answer(
            f"""
import http.client
way = http.client.HTTPConnection("127.0.0.1", 3128)
way.set_tunnel("{listed}")
found = []
for path in ("/one", "/two"):
    way.request("GET", path)
    found.append(json.loads(way.getresponse().read())[1])
""",
            listed,
        )
        assert found == ["/one", "/two"]

    def test_reaches_no_other_host_or_port(
        self, listed: str, unlisted: tuple[str, list[str]]
    ) -> None:
        other, asked = unlisted
        port = other.split(":")[1]
        number = int.from_bytes(socket.inet_aton("127.0.0.1"))
        names = ["localhost", "127.1", f"{number}", "0x7f.1", "0.0.0.0", "[::1]", "[::ffff:7f00:1]"]
        places = [other, *(f"{name}:{port}" for name in names)]
        places += ["169.254.169.254:80", "example.org:443", "127.0.0.1:3128", "127.0.0.1:22"]
        found = answer(
            f"""
places = {places!r}
found = [[ask("http://" + place + "/"), tunnel(place)] for place in places]
found += [[ask("http://{listed}/to/" + place), 403] for place in places[:1]]  # by a redirect
found += [[ask("http://{listed}@{other}/"), tunnel("{listed}@{other}")]]
""",
            listed,
        )
        assert found[:-1] == [[403, 403]] * (len(places) + 1)
        assert set(found[-1]) <= {400, 403, "URLError", "OSError"}
        assert asked == []

    def test_a_second_request_does_not_follow_the_first(self, listed: str) -> None:
        found = answer(
            f"""
one = "GET http://{listed}/%s HTTP/1.1\\r\\nHost: %s\\r\\n%s\\r\\n"
def said(*requests):
    with socket.create_connection(("127.0.0.1", 3128), 10) as s:
        s.sendall("".join(requests).encode())
        text = b""
        while part := s.recv(1000): text += part
        return text.decode()
found = [said(one % (1, "elsewhere", ""), one % (2, "elsewhere", "")),
         said(one % (3, "", "Transfer-Encoding: chunked\\r\\n")),
         said(one % (4, "", "Content-Length: 0\\r\\nContent-Length: 9\\r\\n"), "x" * 9),
         said(one % (5, "", " folded: 1\\r\\n")),
         said("GET / HTTP/1.1\\r\\n\\r\\n"),
         said("x" * 20000)]
""",
            listed,
        )
        assert [text.split()[1] for text in found] == ["200", "400", "400", "400", "400", "431"]
        assert found[0].count("HTTP/1.1") == 1
        assert "elsewhere" not in found[0]

    def test_has_so_many_connections_and_bytes_and_no_more(self, listed: str) -> None:
        found = answer(
            f"""
found = [0, 0]
try:
    with urllib.request.urlopen("http://{listed}/endless", timeout=10) as endless:
        while part := endless.read(2 ** 20): found[0] += len(part)
except OSError: pass
try:
    for _ in range(1000):
        with socket.create_connection(("127.0.0.1", 3128), 10): found[1] += 1
except OSError: pass
""",
            listed,
        )
        assert 60 * 2**20 < found[0] <= 64 * 2**20
        assert 150 < found[1] < 400  # those that are waiting when the proxy has enough count, too

    def test_what_waits_in_connections_counts_as_its_memory(self, listed: str) -> None:
        source = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
held = []
for _ in range(100):
    held += [socket.create_connection(server.getsockname()), server.accept()[0]]
    if full:
        held[-2].settimeout(0.02)
        try: held[-2].sendall(bytes(2**26))
        except TimeoutError: pass
time.sleep(full and 20)
"""
        limits = Limits(cell_seconds=25, total_seconds=60, memory=2**28)
        for full, reason in (("True", "out of memory"), ("False", None)):
            cells = (Cell("a", "student", f"full = {full}{source}"),)
            job = Job(cells, {}, limits, IMPORTS, network=(listed,))
            assert Result.from_bytes(execute(job.to_bytes())).reason == reason

    def test_makes_no_sockets_but_of_tcp(self, listed: str) -> None:
        found = answer(
            """
found = []
for kind in ((2, 2), (2, 3), (2, 1, 132), (2, 1, 262), (10, 1), (16, 3), (17, 3), (40, 1)):
    try: socket.socket(*kind); found.append(kind)
    except OSError: pass
""",
            listed,
        )
        assert found == []

    def test_has_neither_proxy_nor_network_where_the_course_lists_none(self) -> None:
        found = answer(
            """
found = [name for name in os.environ if "proxy" in name.lower()]
try: socket.socket(); found.append("socket")
except OSError: pass
"""
        )
        assert found == []


@in_sandbox
def test_the_tests_process_has_no_network(listed: str) -> None:
    look = (
        "import os, socket\n"
        "assert 'http_proxy' not in os.environ\n"
        "try: socket.socket()\n"
        "except OSError: pass\n"
        "else: raise AssertionError\n"
    )
    cells = (
        Cell("mine", "student", f"{START}def f(): return ask('http://{listed}/')[:1]"),
        Cell("test", "test", f"{look}assert f() == '['"),
    )
    job = Job(cells, limits=LIMITS, imports=IMPORTS, network=(listed,), noticing=False)
    result = Result.from_bytes(execute(job.to_bytes()))
    assert [(cell.mode, cell.outputs) for cell in result.cells] == [("outside", [])] * 2


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_proxy_knows_nothing_of_the_host_and_has_limits() -> None:
    running = proxy.start(listening(), ("api.example.org:443",))
    try:
        about = Path(f"/proc/{running.pid}")
        assert about.joinpath("environ").read_bytes().rstrip(b"\0") == b"MALLOC_ARENA_MAX=2"
        limits = re.findall(
            r"^Max (cpu time|address space) +(\d+)", (about / "limits").read_text(), re.M
        )
        assert limits == [("cpu time", "60"), ("address space", str(2**29))]
        sockets = [fd for fd in (about / "fd").iterdir() if "socket:" in str(fd.readlink())]
        assert len(sockets) == 1
    finally:
        proxy.end(running)


def test_a_proxy_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="expected a host and a port"):
        proxy.start(listening(), ("api.example.org",))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="without a word"):
        proxy.start(listening(), ("api.example.org:443",))


@in_sandbox
def test_no_submission_is_blamed_for_a_proxy_that_cannot_start(
    listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: Any) -> None:
        raise OSError("no process is left")

    monkeypatch.setattr(proxy, "start", cannot)
    with pytest.raises(SandboxError, match=r"proxy .* cannot start: no process is left"):
        answer("found = 1", listed)


def test_a_socket_that_does_not_come_is_not_the_submissions_doing() -> None:
    status, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    nowhere = [os.open(os.devnull, os.O_RDWR) for _ in range(5)]
    fork = Fork(*nowhere[:3], status, *nowhere[3:], LIMITS, True, cast(Any, None))
    with inside, contextlib.closing(fork):
        inside.send(b"listens")
        assert list(fork.read(status.fileno())) == []
        assert fork.broken is not None
        assert "open files" in fork.broken


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The status by which a proxy answers a request for a name that leads to these addresses."""

    def through(name: str, allowed: str, *addresses: str) -> int:
        leads = iter([addresses, ["127.0.0.1"]])  # asked again, the name leads elsewhere

        def lookup(host: bytes, port: int, **_: Any) -> list[Any]:
            assert host == name.encode()
            return [(2, 1, 6, "", (address, port)) for address in next(leads)]

        reached: list[Any] = []

        def connected(family: int, place: Any) -> None:
            reached.append(place[0])

        monkeypatch.setattr(proxy.socket, "getaddrinfo", lookup)
        monkeypatch.setattr(proxy, "_connected", connected)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        served = proxy.Proxy(listener, [proxy.listed(allowed)])
        threading.Thread(target=served.serve, daemon=True).start()
        with socket.socket() as client:
            client.settimeout(10)
            client.connect(listener.getsockname())
            client.sendall(f"CONNECT {name}:443 HTTP/1.1\r\n\r\n".encode())
            status = int(client.recv(100).split()[1])
        assert "127.0.0.1" not in reached
        assert bool(reached) == (status == 502)
        return status

    return through


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
        *("::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_a_listed_name_that_leads_to_a_private_address(
    through: Callable[..., int], address: str
) -> None:
    assert through("api.example.org", "api.example.org:443", address) == 403


def test_a_listed_name_is_looked_up_once_and_only_public_addresses_are_tried(
    through: Callable[..., int],
) -> None:
    found = through("api.example.org", "API.example.org:443", "127.0.0.1", "93.184.216.34")
    assert found == 502


@pytest.mark.parametrize(
    "text", ["example.org", "example.org:0", "a:99999", "http://a:80", "a b:1"]
)
def test_an_entry_is_a_host_with_a_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"c\.Isolated\.network: expected a host and a port"):
        proxy.listed(text)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_tcp_and_its_plain_options(machine: str) -> None:
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    socket_call, option_call = {"x86_64": (41, 54), "aarch64": (198, 208)}[machine]
    program, strict = seccomp_program(machine, network=True), seccomp_program(machine)
    for flags in (0, 0x800, 0x80000, 0x80800):
        assert decision(program, socket_call, arch, 2, 1 | flags, 6) == ALLOW
        assert decision(strict, socket_call, arch, 2, 1 | flags, 6) == NO_FAMILY
    assert decision(program, socket_call, arch, 2, 2, 0) == NO_FAMILY
    assert decision(program, socket_call, arch, 2, 1, 262) == NO_FAMILY
    assert decision(program, option_call, arch, 3, 6, 1) == ALLOW
    assert decision(program, option_call, arch, 3, 6, 31) == NO  # TCP_ULP
    assert decision(program, option_call, arch, 3, 1, 26) == NO  # SO_ATTACH_FILTER
    assert decision(program, option_call, arch, 3, 0, 64) == NO  # of netfilter
