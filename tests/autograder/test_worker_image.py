"""The image of a Dask worker: what it is allowed, and its steps, run in a bare Debian."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from autograder.execute.sandbox import NAMESPACES

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "autograder" / "system" / "worker"
MIRROR = "http://deb.debian.org/debian"


def instructions(name: str) -> list[str]:
    """What the Dockerfile has behind a word such as COPY."""
    lines = (WORKER / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


def pods() -> dict[tuple[str, str], Any]:
    """What pod.yaml describes, by kind and name."""
    found = yaml.safe_load_all((WORKER / "pod.yaml").read_text())
    return {(one["kind"], one["metadata"]["name"]): one["spec"] for one in found}


def test_the_image_holds_packages_and_no_credentials() -> None:
    (base,) = [line for line in instructions("ARG") if line.startswith("BASE=")]
    assert re.fullmatch(r"BASE=debian:[a-z]+-slim", base)
    *_, user = instructions("USER")
    assert user.split(":")[0] not in ("", "0", "root")
    copied = [source for line in instructions("COPY") for source in line.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    given = {"requirements.txt", "constraints.txt", "pyproject.toml", "README.md", "LICENSE"}
    assert set(copied) == given | {"vaelib", "vae_exercises", "autograder"}
    for variable in " ".join(instructions("ENV")).split():
        name, _, value = variable.partition("=")
        assert value.startswith("/run/secrets/") or not re.search("KEY|CERT|CA_FILE", name)


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_compose_confines(name: str) -> None:
    compose = yaml.safe_load((WORKER / "compose.yaml").read_text())
    service = compose["services"][name]
    assert service["user"] == "1000:1000"
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "devices", "volumes", "environment"} & service.keys()
    if name == "worker":
        assert "ports" not in service
        assert all(compose["networks"][network]["internal"] for network in service["networks"])
        allowed = {option for option in service["security_opt"] if "unconfined" in option}
        assert allowed == set(re.findall(r"--security-opt (\S+=unconfined)", NAMESPACES))


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_the_pods_confine(name: str) -> None:
    pod = pods()["Deployment", f"autograder-{name}"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    allowed = container["securityContext"]
    assert allowed["allowPrivilegeEscalation"] is False
    assert allowed["readOnlyRootFilesystem"] is True
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert "env" not in container
    assert [next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]] == [
        "emptyDir",
        "secret",
    ]
    assert (allowed.get("procMount") == "Unmasked") == (name == "worker")
    assert (pod.get("hostUsers") is False) == (name == "worker")


def test_a_pod_reaches_the_scheduler_and_nothing_else() -> None:
    policy = pods()["NetworkPolicy", "autograder-worker"]
    worker = pods()["Deployment", "autograder-worker"]["template"]["metadata"]["labels"]
    scheduler = pods()["Deployment", "autograder-scheduler"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"] == worker
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (out,), (into,) = policy["egress"], policy["ingress"]
    assert out["to"] == into["from"] == [{"podSelector": {"matchLabels": scheduler}}]
    assert out["ports"] == [{"port": 8786}]


def test_the_package_brings_these_files() -> None:
    project = tomllib.loads((ROOT / "autograder" / "pyproject.toml").read_text())
    globs = project["tool"]["setuptools"]["package-data"]["autograder"]
    found = {path for glob in globs for path in (ROOT / "autograder").glob(glob)}
    assert found >= {path for path in WORKER.iterdir() if path.is_file()}


def pip_settings() -> tuple[dict[str, str], list[str]]:
    """Where pip finds packages here: as variables, and as options of bubblewrap that bind it."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    variables: dict[str, str] = {}
    binds: list[str] = []
    for name, value in re.findall(r"^\S+?\.([\w-]+)='(.*)'$", told, re.M):
        if name in ("index-url", "extra-index-url", "find-links"):
            variables.setdefault(f"PIP_{name.replace('-', '_').upper()}", value)  # pip's order
            for place in value.replace("\\n", " ").split():
                path = Path(place.removeprefix("file://"))
                folder = path if name == "find-links" else path.parent  # files lie beside an index
                if folder.is_absolute() and folder.is_dir():
                    binds += ["--ro-bind", str(folder), str(folder)]
    return variables, binds


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Path]:
    """The root of the release that the Dockerfile names, with nothing but what it needs."""
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed")
    if os.geteuid() != 0:
        pytest.skip("debootstrap has to be run as root")
    (release,) = re.findall(r"BASE=debian:(\w+)-slim", " ".join(instructions("ARG")))
    try:
        urllib.request.urlopen(f"{MIRROR}/dists/{release}/Release", timeout=10).close()
    except OSError as error:
        pytest.skip(f"{MIRROR} cannot be reached: {error}")
    root = tmp_path / "root"
    line = ["debootstrap", "--variant=minbase", release, str(root), MIRROR]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    yield root
    shutil.rmtree(root)  # gigabytes


@pytest.mark.slow
def test_the_steps_make_a_worker_that_isolates(debian: Path) -> None:
    for line in instructions("COPY"):
        *sources, target = shlex.split(line)
        for source in sources:
            place = debian / target.lstrip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, place)
    (step,) = instructions("RUN")
    variables, binds = pip_settings()
    ca = Path("/etc/ssl/certs/ca-certificates.crt")
    inside = ["--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp", "--bind", "/proc", "/proc"]
    net = ["--ro-bind", "/etc/resolv.conf", "/etc/resolv.conf", "--ro-bind-try", str(ca), "/tmp/ca"]
    proxies = {name: value for name, value in os.environ.items() if name.endswith("_proxy")}
    trust = {"PIP_CERT": "/tmp/ca"} if ca.exists() else {}
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"}
    subprocess.run(
        ["bwrap", "--bind", str(debian), "/", *inside, *net, *binds, "sh", "-c", step],
        env={**path, **proxies, **variables, **trust},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    code = (
        "from autograder.execute.look import look\n"
        "from autograder.execute.run import execute\n"
        "from autograder.job import Cell, Job, Result\n"
        "cell = Cell('a', 'student', 'print(6 * 7)')\n"
        "result = Result.from_bytes(execute(Job((cell,), imports=('vaelib',)).to_bytes()))\n"
        "print(look()['sandbox'], result.isolated, result.cells[0].outputs[0]['text'])"
    )
    user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--bounding-set=-all"]
    alone = ["--unshare-net", "--unshare-ipc", *user, "--no-new-privs"]
    python = ["/opt/worker/bin/python", "-c", code]
    done = subprocess.run(
        ["bwrap", "--ro-bind", str(debian), "/", *inside, *alone, *python],
        env=path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "None True 42\n\n", done.stderr
