"""A node that is upgraded from Tendermint 0.34 to CometBFT 0.38 in place: same chain, same data, another binary.

The signer is not told: its process, its configuration and its state go on. It only sees that the node, gone for a moment, speaks the newer
dialect when it is back.
"""

import time

from drive.node import Node, new_home_for, rate
from drive.process import Failed, free_ports

from . import Row

HEIGHTS_MIN = 60  # on each side


def upgrade(row):
    old_binary, new_binary = row.peer("tendermint-0.34.24") / "tendermint", row.peer("cometbft-0.38.26") / "cometbft"
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    old = Node(old_binary, row.directory / "old", address)
    key = old.init()
    signer = row.signer(old_binary)
    home = signer.add(key, address)
    with signer:
        with old:
            old.await_height(HEIGHTS_MIN, 60)
            old.prove(key, 1, old.height() - 1)
            below = old.height()
        config, pids = home_config(home), [process.pid for process in signer.processes]
        new = new_home_for(old, new_binary, row.directory / "new")
        with new:
            started = time.monotonic()
            new.await_height(below + HEIGHTS_MIN, 60)
            top = new.height() - 1
            speed = rate(top - below, started)
            new.prove(key, below, top)
        if (home_config(home), [process.pid for process in signer.processes]) != (config, pids):
            raise Failed("the signer was touched")
        signer.check()
        signer.stop()
    return f"heights 1..{below} on {old_binary.parent.name}, {below}..{top} on {new_binary.parent.name} ({speed}), one signer process, its configuration untouched"


def home_config(home):
    return home.config.read_text() if home.config.exists() else ""


def rows():
    yield Row("upgrade", upgrade, peers=("tendermint-0.34.24", "cometbft-0.38.26"), signers=("semel", "tmkms"))
