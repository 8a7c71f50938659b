"""Which system calls a submission may make, and with what: a seccomp filter (classic BPF).

The list of calls is in `autograder.inside.calls`. It leaves out the kernel's wide or often broken
doors, all that makes namespaces or reaches other processes, memory that no process is charged for,
and what tells one sandbox of another: `inotify`, `flock`, `fanotify`, message queues, keys.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from autograder.inside.calls import CALLS, FIRST_COMMON, MACHINES

__all__ = ["NEW_NAMESPACES", "seccomp_program"]

_CLONE_NEWNS, _CLONE_NEWCGROUP, _CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID = 0x8000000, 0x10000000, 0x20000000
_CLONE_NEWNET = 0x40000000
NEW_NAMESPACES = (
    _CLONE_NEWNS
    | _CLONE_NEWCGROUP
    | _CLONE_NEWUTS
    | _CLONE_NEWIPC
    | _CLONE_NEWUSER
    | _CLONE_NEWPID
    | _CLONE_NEWNET
)

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x50000
_NOT_PERMITTED, _MISSING, _NO_FAMILY = _ERRNO | 1, _ERRNO | 38, _ERRNO | 97
_AS_IF_DONE = _ERRNO  # the caller is told that all went well
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_AF_UNIX, _AF_INET, _SOCK_STREAM, _SOL_SOCKET, _IPPROTO_TCP = 1, 2, 1, 1, 6
_TCP_OPTIONS = (1, 4, 5, 6, 18)  # no delay, keep alive, time-out
_F_GETLK, _F_OFD_GETLK, _F_SETLEASE, _F_NOTIFY = 5, 36, 1024, 1026
_TIOCSCTTY, _TIOCSTI, _TIOCLINUX = 0x540E, 0x5412, 0x541C
_SO_ATTACH = (26, 50, 51, 52)  # filters and BPF programs, of a socket and of a group
_PR_KEPT = {
    "SET_PDEATHSIG": 1,
    "GET_PDEATHSIG": 2,
    "GET_DUMPABLE": 3,  # to set it would close the process to the host, which counts its memory
    "SET_NAME": 15,
    "GET_NAME": 16,
    "GET_SECCOMP": 21,
    "CAPBSET_READ": 23,
    "SET_TIMERSLACK": 29,
    "GET_TIMERSLACK": 30,
    "GET_NO_NEW_PRIVS": 39,
    "SET_THP_DISABLE": 41,
    "GET_THP_DISABLE": 42,
    "SET_VMA": 0x53564D41,
}


@dataclass(frozen=True)
class _Rule:
    """What a call returns by one of its arguments (the low half of it).

    Attributes:
        argument: which one, from 0.
        cases: test, value, and what is returned where it holds, or another rule; the first that
            holds counts.
        otherwise: what is returned else.
    """

    argument: int
    cases: tuple[tuple[int, int, int | _Rule], ...]
    otherwise: int = _ALLOW


def _any_of(values: tuple[int, ...]) -> tuple[tuple[int, int, int | _Rule], ...]:
    return tuple((_EQUAL, value, _ALLOW) for value in values)


_UNIX_ONLY = _Rule(0, ((_EQUAL, _AF_UNIX, _ALLOW),), _NO_FAMILY)
_NO_FILTERS = _Rule(2, tuple((_EQUAL, option, _NOT_PERMITTED) for option in _SO_ATTACH))
_RULES = {
    "clone": _Rule(0, ((_ANY_BIT, NEW_NAMESPACES, _NOT_PERMITTED),)),
    "fcntl": _Rule(
        1,
        (
            (_EQUAL, _F_SETLEASE, _NOT_PERMITTED),  # stops whoever else opens the file
            (_EQUAL, _F_NOTIFY, _NOT_PERMITTED),  # tells who else uses a folder
            # It would tell of other sandboxes' locks. As if there was one: sqlite is careful then,
            # and goes without its write-ahead log, which needs the answer.
            (_EQUAL, _F_GETLK, _AS_IF_DONE),
            (_EQUAL, _F_OFD_GETLK, _AS_IF_DONE),
        ),
    ),
    "ioctl": _Rule(
        1,
        (
            (_EQUAL, _TIOCSCTTY, _AS_IF_DONE),  # follows a setsid in forkpty, as for `!ls`
            (_EQUAL, _TIOCSTI, _NOT_PERMITTED),
            (_EQUAL, _TIOCLINUX, _NOT_PERMITTED),
        ),
    ),
    "prctl": _Rule(0, tuple((_EQUAL, kept, _ALLOW) for kept in _PR_KEPT.values()), _NOT_PERMITTED),
    # A session is a group of its own to the scheduler: a submission stays in one.
    "setsid": _Rule(0, (), _AS_IF_DONE),
    "setsockopt": _NO_FILTERS,
    "socket": _UNIX_ONLY,
    "socketpair": _UNIX_ONLY,
}

_TCP_ONLY = _Rule(
    1,  # the kind, with and without SOCK_NONBLOCK and SOCK_CLOEXEC
    tuple(
        (_EQUAL, _SOCK_STREAM | flags, _Rule(2, _any_of((0, _IPPROTO_TCP)), _NO_FAMILY))
        for flags in (0, 0x800, 0x80000, 0x80800)
    ),
    _NO_FAMILY,
)
_NETWORK_RULES = {
    "socket": _Rule(0, ((_EQUAL, _AF_UNIX, _ALLOW), (_EQUAL, _AF_INET, _TCP_ONLY)), _NO_FAMILY),
    "setsockopt": _Rule(
        1,
        (
            (_EQUAL, _SOL_SOCKET, _NO_FILTERS),
            (_EQUAL, _IPPROTO_TCP, _Rule(2, _any_of(_TCP_OPTIONS), _NOT_PERMITTED)),
        ),
        _NOT_PERMITTED,
    ),
}

Statement = tuple[int, int, int, int]


def seccomp_program(machine: str, network: bool = False) -> bytes:
    """The seccomp filter for a machine (`platform.machine()`), as classic BPF.

    A system call that is not listed returns EPERM, or ENOSYS where it is so new that libraries fall
    back on older ones; sockets other than Unix ones cannot be made, with `network` also those of
    TCP; a call by another architecture's table kills the process.

    Raises:
        ValueError: nobody has listed the system calls of that machine.

    >>> len(seccomp_program("x86_64")) % 8
    0
    """
    if machine not in MACHINES:
        raise ValueError(
            f"machine: no seccomp filter for {machine!r}; known are {', '.join(sorted(MACHINES))}"
        )
    number, arch = 0, 4
    # Every test skips the one statement behind it where it does not hold.
    program: list[Statement] = [(_LOAD, 0, 0, arch), (_EQUAL, 1, 0, _AUDIT_ARCH[machine])]
    program += [(_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, number)]
    if machine == "x86_64":  # the x32 table, which shares the architecture
        program += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _MISSING)]
    rules = _RULES | _NETWORK_RULES if network else _RULES
    for name, numbers in CALLS.items():
        call = numbers[MACHINES[machine]]
        if call is not None:
            body = _body(rules.get(name, _ALLOW))
            program += [(_EQUAL, 0, len(body), call), *body]
    program += [(_AT_LEAST, 0, 1, FIRST_COMMON), (_RETURN, 0, 0, _MISSING)]
    program += [(_RETURN, 0, 0, _NOT_PERMITTED)]
    return b"".join(struct.pack("=HBBI", *statement) for statement in program)


def _body(rule: int | _Rule) -> list[Statement]:
    if isinstance(rule, int):
        return [(_RETURN, 0, 0, rule)]
    body: list[Statement] = [(_LOAD, 0, 0, 16 + 8 * rule.argument)]
    for test, value, result in rule.cases:
        then = _body(result)
        body += [(test, 0, len(then), value), *then]
    return [*body, (_RETURN, 0, 0, rule.otherwise)]
