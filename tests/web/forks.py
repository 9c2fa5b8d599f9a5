"""Start `screen serve` as often as a line with a port comes in: forked, so that it starts at once.

python -m tests.web.forks CONFIG
"""

import os
import signal
import sys

import uvicorn  # noqa: F401 — whatever a server imports, once for all of them

import worker.web.app  # noqa: F401
from worker.cli.main import main

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        sys.argv = ["screen", "--config", sys.argv[1], "serve", "--port", line.strip()]
        main()
    print(child, flush=True)
