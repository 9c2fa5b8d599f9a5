"""A decoder child that a film can take over: a film that begins with #! is run as Python.

Started by tests in the place of `worker.imaging.child`, whose confinement and protocol it has.
`obedient_child.py [WALL...] SETTINGS`: walls named are left out, as a kernel without them does.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import sys
import time

from worker.errors import CorruptFile
from worker.imaging import child, kernel, landlock, seccomp, wire

# What a film's code can use; there is no importing any more when it runs.
TOOLS = {
    "child": child, "ctypes": ctypes, "fcntl": fcntl, "mmap": mmap, "kernel": kernel,
    "os": os, "resource": resource, "signal": signal, "socket": socket, "sys": sys, "time": time,
    "wire": wire, "CorruptFile": CorruptFile,
}  # fmt: skip


def obey(data, limits, picture_px, decode=child.decode, **asked):
    """Decode a film, or do as it says and tell how it went, as a CorruptFile."""
    if not data.startswith(b"#!"):
        return decode(data, limits, picture_px, **asked)
    try:
        exec(data, TOOLS)
    except OSError as error:
        raise CorruptFile(f"refused: {errno.errorcode[error.errno]}") from error
    raise CorruptFile("done")


def serve(requests, answers, settings, limits, serve=child.serve):
    """Serve as the real child does, and show the films its descriptors."""
    TOOLS.update(requests=requests, answers=answers)
    serve(requests, answers, settings, limits)


def answer(request, settings, limits, answer=child._answer):
    """Answer as the real child does, and show the film its own request."""
    TOOLS["request"] = request
    return answer(request, settings, limits)


if __name__ == "__main__":
    child.decode, child.serve, child._answer = obey, serve, answer
    left_out, sys.argv[1:] = sys.argv[1:-1], sys.argv[-1:]
    for wall in left_out:
        {"seccomp": seccomp, "landlock": landlock}[wall].restrict = lambda: 0
    child.main()
