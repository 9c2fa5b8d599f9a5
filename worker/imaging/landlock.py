"""Cut this process off from all files, TCP and other processes by Landlock (landlock(7)).

A second wall behind `seccomp`: it also stands where the processor is none that `seccomp` knows.
What a kernel handles is told by its ABI version; each newer one takes more away.
"""

import os
import struct

from worker.imaging.kernel import syscall

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture that Python runs on
_VERSION = 1  # flag: tell the ABI version instead of making a ruleset

# LANDLOCK_ACCESS_FS_*: thirteen in ABI 1; then refer, truncate, and ioctl on devices.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
_TCP_ABI, _TCP_RIGHTS = 4, 0b11  # bind and connect
_SCOPE_ABI, _SCOPES = 6, 0b11  # abstract Unix sockets and signals end at this process


def abi() -> int:
    """The Landlock version of the running kernel; 0 where there is none or it is switched off."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict() -> int:
    """Forbid this thread, and those it starts, every right that the kernel knows; give the ABI.

    Files that are open already stay so. Wants no_new_privs. Gives 0 where there is no Landlock.
    """
    version = abi()
    if version == 0:
        return 0
    rules = _ruleset(version)
    try:
        descriptor = syscall(_CREATE_RULESET, rules, len(rules), 0)
    except OSError:
        return 0
    try:
        syscall(_RESTRICT_SELF, descriptor, 0)
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return version


def _ruleset(version: int) -> bytes:
    """A `landlock_ruleset_attr` that handles everything, and allows nothing by any rule."""
    files = (1 << max(n for since, n in _FILE_RIGHTS.items() if since <= version)) - 1
    rules = struct.pack("=Q", files)
    if version >= _TCP_ABI:
        rules += struct.pack("=Q", _TCP_RIGHTS)
    if version >= _SCOPE_ABI:
        rules += struct.pack("=Q", _SCOPES)
    return rules
