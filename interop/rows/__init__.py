"""The rows: what is proved with which peer. One module per kind of row; `ROWS` is all of them, in the order they run.

A row's function takes a `Row` and returns the numbers of its result line; it raises `Failed` or `Skipped` otherwise.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from drive.process import Skipped
from drive.signer import SIGNERS

PEERS_TOOL = Path(__file__).parent.parent / "peers"
KEPT_DAYS_MAX = 1  # what failed rows left behind is kept this long


@dataclass
class Row:
    """One row and where it works."""

    name: str
    function: object
    peers: tuple = ()
    signers: tuple = ("semel", "tmkms", "filepv")  # that can do it
    seconds_max: int = 120  # after which it has failed
    options: dict = field(default_factory=dict)
    signer_kind: str = "semel"
    directory: Path = None
    build_until: float = float("inf")  # monotonic time after which no peer is built for it

    def peer(self, name):
        """Directory of a peer, built if it must be."""
        there = subprocess.run([PEERS_TOOL, "find", name], capture_output=True, text=True)
        if there.returncode == 0:
            return Path(there.stdout.strip())
        if time.monotonic() > self.build_until:
            raise Skipped(f"{name} would have to be built, and the time budget is used up (SEMEL_INTEROP_BUDGET)")
        print(f"     building {name} …", flush=True)
        seconds_left = signal.alarm(0)  # a build is not the row's time
        built = subprocess.run([PEERS_TOOL, "get", name], stdout=subprocess.PIPE, text=True)
        signal.alarm(seconds_left)
        last = (built.stdout.strip().splitlines() or ["?"])[-1]
        print(f"     {last}", flush=True)
        if built.returncode != 0:
            raise Skipped(last)
        return Path(subprocess.run([PEERS_TOOL, "find", name], capture_output=True, text=True, check=True).stdout.strip())

    def signer(self, node_binary, kind=None):
        kind = kind or self.signer_kind
        return SIGNERS[kind](self, self.directory / kind, node_binary)

    def obtain(self):
        """Everything that takes long, before the row's own time starts."""
        if self.signer_kind not in self.signers:
            raise Skipped(f"{self.signer_kind} cannot do this")
        for peer in self.peers:
            self.peer(peer)

    def make_directory(self):
        """A fresh directory on the disk of the cache: a ledger does not want a tmpfs, which /tmp may be."""
        cache = Path(os.environ.get("SEMEL_CACHE") or Path.home() / ".cache/semel") / "rows"
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.iterdir():
            if time.time() - old.stat().st_mtime > KEPT_DAYS_MAX * 86400:
                shutil.rmtree(old, ignore_errors=True)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=cache))


def all_rows():
    from . import conflict, dialects, four_validators, guide, harness, mithril, one_validator, switch, token, upgrade

    modules = (one_validator, dialects, four_validators, harness, upgrade, guide, token, switch, conflict, mithril)
    return [row for module in modules for row in module.rows()]
