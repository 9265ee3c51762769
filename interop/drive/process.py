"""Child processes that end with the row that started them, whatever happens to it.

Invariants: a child gets SIGKILL when the runner dies; `Child.stop` returns only when the process is gone; output goes to a file,
never to a pipe that could fill.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PORTS = range(20000, 32000)
_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """The row did not hold; the text says what was seen."""


class Skipped(Exception):
    """The row cannot run here; the text is the reason."""


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One process with its log."""

    def __init__(self, command, log, cwd=None, environment=None):
        self.command = [str(word) for word in command]
        self.log = Path(log)
        with open(self.log, "ab") as out:
            self._popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, preexec_fn=_die_with_parent,
                env=environment and os.environ | environment,
            )

    @property
    def pid(self):
        return self._popen.pid

    def ended(self):
        """Exit code, or None while it runs."""
        return self._popen.poll()

    def stop(self, grace=10.0):
        """SIGTERM, then SIGKILL after `grace` seconds. Returns the seconds it took, or None if it had to be killed."""
        started = time.monotonic()
        if self._popen.poll() is None:
            self._popen.terminate()
        try:
            self._popen.wait(grace)
            return time.monotonic() - started
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self):
        """SIGKILL, as a crash."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()

    def wait(self, seconds):
        """Exit code; Failed if it does not end in time."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.command[0]} did not end in {seconds} s: {self.last_line()}") from None

    def last_line(self):
        """The last line of its log that says something, for a failure's message."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:240] if lines else "(it printed nothing)"


def run(command, log, seconds=30, cwd=None):
    """Runs a command to its end; Failed unless it exits 0."""
    child = Child(command, log, cwd)
    try:
        code = child.wait(seconds)
    finally:
        child.kill()
    if code != 0:
        raise Failed(f"{' '.join(child.command)} exited {code}: {child.last_line()}")


def free_ports(count):
    """`count` different TCP ports of the loopback that nobody listens on now, below the range from which the kernel takes the
    source ports of outgoing connections: one of those could be taken before it is used."""
    found = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Failed(f"there are no {count} free ports in {PORTS}")


def wait_until(condition, seconds, what):
    """Polls `condition` until it is true; an OSError or a lookup that fails counts as not yet. Failed after `seconds`."""
    end = time.monotonic() + seconds
    last = ""
    while True:
        try:
            if condition():
                return
        except (OSError, KeyError, TypeError) as error:
            last = f" (last: {error})"
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s{last}")
        time.sleep(0.05)
