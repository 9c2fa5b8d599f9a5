"""Named steps of the protocol at which a test kills the worker or cuts its power.

Every step after which a crash leaves something different on the disk or in the database calls
`reach` with its name. Outside tests nothing is armed and a call walks an empty list.
`tests/torture` arms each of them and kills the process there.
"""

from collections.abc import Callable

FAILPOINTS = (
    "claim-made",  # the folder below work/ exists, the film still lies in the inbox
    "claim-renamed",  # the film lies in work/, nobody knows of it
    "claim-put-back",  # it had changed and lies in the inbox again
    "claims-synced",  # claims and contents survive a power loss
    "files-recorded",  # rows committed
    "batch-hashed",
    "attempt-counted",  # committed before a byte is decoded
    "strike-counted",  # committed after a decoder died
    "batch-decoded",
    "batch-answered",
    "file-created",  # write_all_atomic: temporary file, empty
    "file-written",
    "file-synced",
    "file-renamed",  # under its final name
    "pictures-synced",
    "pages-written",
    "outcomes-written",  # inside the transaction, before its commit
    "outcomes-committed",
    "sidecar-synced",
    "film-moved",  # to done/ or failed/, its claim folder still there
    "claim-removed",
    "worklist-written",
    "recovery-begun",  # files of a dead worker wait again, committed
    "recovery-taken-up",
    "recovery-tidied",  # temporary files removed, broken pages rendered
)
ANSWER_FAILPOINTS = (  # of `interop.answerer`, which works after all that
    "answers-counted",  # the attempt, before films are looked for
    "answers-written",  # their objects are on the disk, under their final names
    "answers-made",  # the database knows
)

_armed: list[Callable[[str], None]] = []  # process-wide on purpose: the kill is, too


def reach(name: str) -> None:
    """Say that the protocol has come to a step."""
    for hook in _armed:
        hook(name)


def arm(hook: Callable[[str], None]) -> Callable[[], None]:
    """Call `hook` with each step's name from now on; return what ends that."""
    _armed.append(hook)
    return lambda: _armed.remove(hook)
