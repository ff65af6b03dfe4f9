"""Run a command no longer than the process that asked for it lives, then end everything that the command started.

    python -I supervise.py PARENT_PID SCRATCH COMMAND ...

vLLM is a tree of processes, and a process that is killed with -9 cannot tidy up after itself. So
`flarekit.engines.local.launch` starts this small one in between: it outlives its parent by a moment, and uses nothing
but the standard library. It ends the command when it receives SIGTERM or when its parent has gone, removes the folder
SCRATCH (the command's TMPDIR), and exits with the command's status (128 + N where signal N ended it).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

POLL = 0.2
"""Seconds between two looks at the command and the parent."""
PATIENCE = 10.0
"""Seconds that the command has to end by itself after SIGTERM, before SIGKILL."""


def supervise(parent: int, command: list[str], *, poll: float = POLL, patience: float = PATIENCE) -> int:
    """Run `command` until it ends, `parent` (a process id) is gone or SIGTERM comes; its status after all has ended."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    _adopt_orphans()
    process = subprocess.Popen(command, process_group=0)
    statuses: dict[int, int] = {}
    while _alive(statuses) and process.pid not in statuses and not stop.is_set() and os.getppid() == parent:
        time.sleep(poll)
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, patience)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + seconds
        while _alive(statuses) and time.monotonic() < deadline:
            time.sleep(0.05)
    process.returncode = statuses.get(process.pid, -signal.SIGKILL)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that `_alive` sees (and collects) them too."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _alive(statuses: dict[int, int]) -> bool:
    """Whether any child is left, after noting the status of those that have ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            statuses[pid] = os.waitstatus_to_exitcode(status)
    return False


if __name__ == "__main__":
    try:
        code = supervise(int(sys.argv[1]), sys.argv[3:])
    finally:
        shutil.rmtree(sys.argv[2], ignore_errors=True)
    sys.exit(code)
