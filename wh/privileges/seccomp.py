"""Filters of system calls (seccomp(2)), as classic BPF.

A call that a filter does not let through fails with an errno, as if the kernel had none of it: whatever tries
something new goes on without. For this thread and all that come of it. Needs no_new_privs.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from wh.privileges.kernel import MACHINE, syscall

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_X32_BIT = 0x40000000

# linux/seccomp.h
_SET_MODE_FILTER = 1
_FLAG_SPEC_ALLOW = 1 << 2
"""Without it older kernels switch off the speculation of stores in our threads, which slows the data
plane."""

_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000

# linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JGE, BPF_JSET, BPF_RET|BPF_K,
# BPF_ALU|BPF_AND|BPF_K
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_SET, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_INSTRUCTION = struct.Struct("=HBBI")
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, (16, 24, 32)  # in struct seccomp_data; of arguments the lower half
_SOCKET_TYPE = 0xF  # linux/net.h: the rest of it are flags

# Numbers of x86_64 and aarch64 (asm/unistd_64.h, asm-generic/unistd.h); None: it has no such call.
_NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "poll": (7, None),
    "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "ioctl": (16, 29),
    "select": (23, None), "mremap": (25, 216), "madvise": (28, 233), "getpid": (39, 172),
    "socket": (41, 198), "connect": (42, 203), "sendto": (44, 206), "recvfrom": (45, 207),
    "sendmsg": (46, 211), "recvmsg": (47, 212), "getsockname": (51, 204), "getpeername": (52, 205),
    "clone": (56, 220), "setsockopt": (54, 208), "getsockopt": (55, 209), "execve": (59, 221),
    "fcntl": (72, 25), "exit": (60, 93), "ptrace": (101, 117), "futex": (202, 98),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "exit_group": (231, 94), "ppoll": (271, 73),
    "pselect6": (270, 72), "unshare": (272, 97), "setns": (308, 268), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "getrandom": (318, 278), "bpf": (321, 280), "execveat": (322, 281),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "clone3": (435, 435), "pidfd_getfd": (438, 438),
    "newfstatat": (262, 79), "mount": (165, 40), "open_tree": (428, 428), "fsopen": (430, 430),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186),
    "socketpair": (53, 199), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "perf_event_open": (298, 241),
}  # fmt: skip

_CLONE_NAMESPACES = 0x7E020000
"""linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; clone() knows no NEWTIME."""

Instruction = tuple[int, int, int, int]
_NO_SUCH_SOCKET: Instruction = (_RETURN, 0, 0, _RET_ERRNO | errno.EAFNOSUPPORT)

_FOREIGN = (
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "unshare", "setns", "mount",
    "open_tree", "fsopen", "shmget", "shmat", "semget", "msgget", "bpf", "perf_event_open",
    "userfaultfd", "keyctl", "add_key", "request_key",
)  # fmt: skip
"""What none of our processes has a use for: others' memory and queues, other namespaces, programs in the
kernel, its keys. io_uring_setup and clone3 are apart from these: who is told that the kernel has none does
without."""

_OWNERS = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown", "fchownat", "setxattr",
    "lsetxattr", "fsetxattr", "setxattrat",
)  # fmt: skip
"""Modes, owners and access lists, which Landlock leaves to whoever owns the file: of root's, root."""

_CLIENT = (
    "read", "write", "close", "fstat", "newfstatat", "poll", "ppoll", "select", "pselect6", "lseek", "mmap",
    "mprotect", "munmap", "mremap", "madvise", "brk", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
    "getpid", "connect", "sendto", "recvfrom", "sendmsg", "recvmsg", "getsockname", "getpeername",
    "setsockopt", "getsockopt",
    "fcntl", "ioctl", "exit", "exit_group", "futex", "restart_syscall", "clock_gettime", "getrandom",
)  # fmt: skip
"""All that a TCP client needs that has loaded its code: no path, no process, no signal. `socket` has a rule
of its own."""


class SocketRule(NamedTuple):
    """Of new sockets. kind, protocols: None: any."""

    family: int
    kind: int | None = None
    protocols: tuple[int, ...] | None = None


_ROUTE = (0,)  # linux/netlink.h: no other subsystem of the kernel
_TCP = (0, socket.IPPROTO_TCP)

DAEMON_SOCKETS = (
    SocketRule(socket.AF_INET),
    SocketRule(socket.AF_INET6),
    SocketRule(socket.AF_NETLINK, protocols=_ROUTE),
)
TCP_SOCKETS = (SocketRule(socket.AF_INET, socket.SOCK_STREAM, _TCP),)


def daemon_filter(*, programs: bool, files: bool) -> bytes | None:
    """New sockets of the Internet and of routing alone, no other process's memory, no new namespaces; unless
    files, no change of a file's mode or owner; unless programs, no other program. None: no filter is known
    for this machine."""
    if MACHINE not in _ARCHITECTURE:
        return None
    refused = [*_FOREIGN, *(() if files else _OWNERS), *(() if programs else ("execve", "execveat"))]
    return _assemble([*_refusals(refused), _sockets(DAEMON_SOCKETS)], otherwise=_RET_ALLOW)


def helper_filter() -> bytes | None:
    """As a daemon's, but it changes files and starts a program; its sockets are those of that program, and
    local ones. None as there."""
    if MACHINE not in _ARCHITECTURE:
        return None
    sockets = (*TCP_SOCKETS, SocketRule(socket.AF_UNIX))
    return _assemble([*_refusals(_FOREIGN), _sockets(sockets)], otherwise=_RET_ALLOW)


def client_filter() -> bytes | None:
    """For a process that talks with one TCP server over IPv4, on code that it has loaded: what is listed, and
    nothing else. None: no filter is known for this machine."""
    if MACHINE not in _ARCHITECTURE:
        return None
    rules = [_sockets(TCP_SOCKETS), *(_permit(name) for name in _CLIENT)]
    return _assemble(rules, otherwise=_RET_ERRNO | errno.EPERM)


def install(program: bytes | None) -> str | None:
    """Put the filter in force. Returns what status shows; None: the kernel has no seccomp, or program is
    None."""
    if program is None:
        return None
    buffer = ctypes.create_string_buffer(program, len(program))
    count = len(program) // _INSTRUCTION.size
    header = struct.pack("@HxxxxxxQ", count, ctypes.addressof(buffer))
    for flags in (_FLAG_SPEC_ALLOW, 0):
        try:
            syscall(_SECCOMP[MACHINE], _SET_MODE_FILTER, flags, header)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
        else:
            return "seccomp"
    return None


def _number(name: str) -> int | None:
    return _NUMBERS[name][("x86_64", "aarch64").index(MACHINE)]


def _when(name: str, then: list[Instruction]) -> list[Instruction]:
    """then, which ends with a verdict, for one system call; the accumulator holds its number."""
    number = _number(name)
    return [] if number is None else [(_IF_EQUAL, 0, len(then), number), *then]


def _refuse(name: str, number: int) -> list[Instruction]:
    return _when(name, [(_RETURN, 0, 0, _RET_ERRNO | number)])


def _permit(name: str) -> list[Instruction]:
    return _when(name, [(_RETURN, 0, 0, _RET_ALLOW)])


def _refusals(names: Iterable[str]) -> list[list[Instruction]]:
    """These, and ways around: a pair of datagram sockets can be connected to any socket file."""
    rules = [_refuse(name, errno.EPERM) for name in names]
    rules += [_refuse(name, errno.ENOSYS) for name in ("io_uring_setup", "clone3")]
    pairs = [*_is_kind(socket.SOCK_STREAM), (_RETURN, 0, 0, _RET_ALLOW)]
    return [*rules, _clone(), _when("socketpair", pairs)]


def _sockets(rules: Iterable[SocketRule]) -> list[Instruction]:
    """Others: as if the kernel did not know the family."""
    checks: list[Instruction] = []
    for family, kind, protocols in rules:
        then = [] if kind is None else _is_kind(kind)
        if protocols is not None:
            then += [(_LOAD, 0, 0, _ARGUMENTS[2]), *_is_one_of(protocols)]
        then.append((_RETURN, 0, 0, _RET_ALLOW))
        checks += [(_LOAD, 0, 0, _ARGUMENTS[0]), (_IF_EQUAL, 0, len(then), int(family)), *then]
    return _when("socket", [*checks, _NO_SUCH_SOCKET])


def _is_kind(kind: int) -> list[Instruction]:
    return [(_LOAD, 0, 0, _ARGUMENTS[1]), (_AND, 0, 0, _SOCKET_TYPE), *_is_one_of((int(kind),))]


def _is_one_of(values: tuple[int, ...]) -> list[Instruction]:
    """Goes on where the accumulator holds one of them."""
    checks = [(_IF_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [*checks, _NO_SUCH_SOCKET]


def _clone() -> list[Instruction]:
    """Threads and processes, in the namespaces that we have."""
    flags = [(_LOAD, 0, 0, _ARGUMENTS[0]), (_IF_SET, 1, 0, _CLONE_NAMESPACES)]
    return _when("clone", [*flags, (_RETURN, 0, 0, _RET_ALLOW), (_RETURN, 0, 0, _RET_ERRNO | errno.EPERM)])


def _assemble(rules: Iterable[list[Instruction]], *, otherwise: int) -> bytes:
    """Another machine's calls (32 bits, x32) would pass under wrong numbers: the kernel has none of them."""
    foreign = (_RETURN, 0, 0, _RET_ERRNO | errno.ENOSYS)
    program = [(_LOAD, 0, 0, _ARCH), (_IF_EQUAL, 1, 0, _ARCHITECTURE[MACHINE]), foreign]
    program += [(_LOAD, 0, 0, _NUMBER), (_IF_AT_LEAST, 0, 1, _X32_BIT), foreign]
    for rule in rules:
        program += rule
    program.append((_RETURN, 0, 0, otherwise))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
