"""System calls that Python's library has no function for."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38  # linux/prctl.h


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call; bytes are passed by address. Raises OSError."""
    values = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    return _checked(_LIBC.syscall(ctypes.c_long(number), *values))


def prctl(option: int, value: int) -> None:
    """Change what the kernel does with this process. Raises OSError."""
    _checked(_LIBC.prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0))))


def address_of(data: bytes) -> int:
    """Where `data` lies; valid while `data` lives."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
