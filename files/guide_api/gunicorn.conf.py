"""Gunicorn's settings: threads, because requests wait far more than they compute."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

from prometheus_client import multiprocess

bind = "0.0.0.0:8000"
worker_class = "gthread"
workers = int(os.environ.get("WORKERS", "0")) or len(os.sched_getaffinity(0))
# Per worker, not shared out: the kernel spreads connections unevenly, and one worker may get all of a burst.
# Threads are started as they are needed.
threads = int(os.environ.get("THREADS", "128"))
# Longer than the balancer keeps an idle connection: the side that reuses it must be the side that closes it.
keepalive = int(os.environ.get("KEEPALIVE_SECONDS", "75"))
# At a stop running requests get this long; the container's stop timeout is longer.
graceful_timeout = int(os.environ.get("GRACEFUL_TIMEOUT_SECONDS", "15"))
timeout = 30
# The heartbeat files: /tmp is a tmpfs, a disk could stall the worker.
worker_tmp_dir = "/tmp"
# No control socket: the root filesystem is read-only, and nobody asked for one.
control_socket_disable = True
accesslog = None
errorlog = "-"

METRICS_DIR = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
# /readyz of every worker looks for it.
DRAIN_FILE = Path(os.environ["DRAIN_FILE"])
# How long a client may leave a request unfinished without a word. Balancers send it as a whole.
SILENCE_SECONDS = int(os.environ.get("SILENCE_SECONDS", "5"))
DRAIN_SECONDS = float(os.environ.get("DRAIN_SECONDS", "2"))


def on_starting(_server: Any) -> None:
    """Start from zero: a former process may have been draining, and its counts would be added to the new ones."""
    DRAIN_FILE.unlink(missing_ok=True)
    shutil.rmtree(METRICS_DIR, ignore_errors=True)
    METRICS_DIR.mkdir(parents=True)


def when_ready(server: Any) -> None:
    """Limit how long a client may be silent, and put a delay before gunicorn's own stop.

    Gunicorn waits for the rest of a head for ever, with a thread for each. The kernel ends that after SILENCE_SECONDS:
    connections have it from the socket that they come in by.

    Gunicorn's stop closes the port at once, but first the balancer must look away. SIGTERM makes ``/readyz`` say 404,
    and gunicorn gets it DRAIN_SECONDS later. It gets a second one at once, and so SIGINT and SIGQUIT.
    """
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_SECONDS, 0))
    stop = cast("Callable[[int, FrameType | None], None]", signal.getsignal(signal.SIGTERM))

    def drain(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, stop)
        signal.setitimer(signal.ITIMER_REAL, DRAIN_SECONDS)
        DRAIN_FILE.touch()

    if DRAIN_SECONDS > 0:
        signal.signal(signal.SIGALRM, lambda _number, frame: stop(signal.SIGTERM, frame))
        signal.signal(signal.SIGTERM, drain)


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the live gauges of a worker that is gone; its counters stay in the sum."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
