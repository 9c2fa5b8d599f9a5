"""Let this process make only the system calls that decoding needs (seccomp(2), filter mode).

A list of what is allowed, not of what is forbidden: a call that a future kernel brings is
forbidden too. What is not listed fails with EPERM, as code that probes its surroundings expects;
a call by another architecture's table kills.
"""

import errno
import os
import platform
import struct
from dataclasses import dataclass

from worker.imaging.kernel import address_of, syscall

_SET_MODE_FILTER, _ALL_THREADS = 1, 1  # SECCOMP_FILTER_FLAG_TSYNC
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000  # linux/seccomp.h: return values
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # linux/bpf_common.h: codes
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD, _PROT_EXEC = 0x00010000, 0x4


@dataclass(frozen=True)
class Machine:
    """One architecture: how the kernel names it, and its numbers of system calls."""

    audit_arch: int  # linux/audit.h
    seccomp: int
    allowed: tuple[int, ...]
    clone: int
    clone3: int
    tgkill: int
    prlimit64: int
    mmap: int
    mprotect: int


# Reading the film and writing the answer; memory; the interpreter's locks and signals; clocks.
_ALLOWED = {
    # name: (x86_64, aarch64), of asm/unistd_64.h and asm-generic/unistd.h
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "lseek": (8, 62), "close": (3, 57), "recvmsg": (47, 212),
    "brk": (12, 214), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233),
    "futex": (202, 98), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "membarrier": (324, 283), "set_robust_list": (273, 99), "rseq": (334, 293),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128),
    "clock_gettime": (228, 113), "gettimeofday": (96, 169), "clock_nanosleep": (230, 115),
    "getrusage": (98, 165), "getpid": (39, 172), "gettid": (186, 178), "getcpu": (309, 168),
    "getrandom": (318, 278), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

MACHINES = {
    "x86_64": Machine(
        audit_arch=0xC000003E,
        seccomp=317,
        allowed=tuple(numbers[0] for numbers in _ALLOWED.values()),
        clone=56,
        clone3=435,
        tgkill=234,
        prlimit64=302,
        mmap=9,
        mprotect=10,
    ),
    "aarch64": Machine(
        audit_arch=0xC00000B7,
        seccomp=277,
        allowed=tuple(numbers[1] for numbers in _ALLOWED.values()),
        clone=220,
        clone3=435,
        tgkill=131,
        prlimit64=261,
        mmap=222,
        mprotect=226,
    ),
}


def restrict() -> bool:
    """Put all threads of this process under the filter, for good; wants no_new_privs.

    Gives false where the kernel has no seccomp, or the machine is neither x86_64 nor aarch64.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return False
    code = program(machine, os.getpid())
    header = struct.pack("=H6xQ", len(code) // 8, address_of(code))  # struct sock_fprog
    try:
        syscall(machine.seccomp, _SET_MODE_FILTER, _ALL_THREADS, header)
    except OSError:
        return False
    return True


def program(machine: Machine, pid: int) -> bytes:
    """The filter as BPF code: eight bytes per instruction.

    Threads may be started (OpenJPEG does), processes not; a process may signal itself only, as
    abort(3) does, and limit itself only; memory never becomes executable.
    """
    arguments = (
        _when(machine.clone, 0, _ANY_BIT, _CLONE_THREAD, _ALLOW, _refuse(errno.EPERM))
        + _when(machine.tgkill, 0, _EQUAL, pid, _ALLOW, _refuse(errno.EPERM))
        + _when(machine.prlimit64, 0, _EQUAL, 0, _ALLOW, _refuse(errno.EPERM))
        + _when(machine.mmap, 2, _ANY_BIT, _PROT_EXEC, _refuse(errno.EPERM), _ALLOW)
        + _when(machine.mprotect, 2, _ANY_BIT, _PROT_EXEC, _refuse(errno.EPERM), _ALLOW)
    )
    return (
        _instruction(_LOAD, _ARCH)
        + _instruction(_EQUAL, machine.audit_arch, yes=1)
        + _instruction(_RETURN, _KILL)
        + _instruction(_LOAD, _NUMBER)
        + b"".join(_answer(number, _ALLOW) for number in machine.allowed)
        + _answer(machine.clone3, _refuse(errno.ENOSYS))  # flags in memory: glibc then uses clone
        + arguments
        + _instruction(_RETURN, _refuse(errno.EPERM))
    )


def _refuse(number: int) -> int:
    return _ERRNO | number


def _answer(number: int, verdict: int) -> bytes:
    """One call, whatever its arguments."""
    return _instruction(_EQUAL, number, no=1) + _instruction(_RETURN, verdict)


def _when(number: int, argument: int, test: int, value: int, yes: int, no: int) -> bytes:
    """One call, by the low half of one argument (both machines are little-endian)."""
    return (
        _instruction(_EQUAL, number, no=4)
        + _instruction(_LOAD, _ARGUMENTS + 8 * argument)
        + _instruction(test, value, no=1)
        + _instruction(_RETURN, yes)
        + _instruction(_RETURN, no)
    )


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
