"""A chain of one validator on every node version, for at least 100 heights, all with one and the same signer configuration."""

import time

from drive.node import Node, rate
from drive.process import free_ports, wait_until

from . import Row

HEIGHTS_MIN = 100
NODES = (
    # peer, vote extensions, controls that can do it
    ("cometbft-0.38.26", False, ("tmkms", "filepv")),
    ("cometbft-0.38.26", True, ("filepv",)),  # tmkms 0.15: CONSENSUS FAILURE, it loses the extension's signature
    ("tendermint-0.34.24", False, ("tmkms", "filepv")),
    ("tendermint-0.33.9", False, ("tmkms", "filepv")),
    ("cometbft-1.0.1", False, ("filepv",)),  # tmkms: the node cannot read the key in its reply
    ("cometbft-0.38.10", False, ("filepv",)),  # an extension's signature is mandatory although extensions are off
    ("cometbft-0.37.18", False, ("tmkms", "filepv")),
    ("cometbft-0.40.0", False, ("tmkms", "filepv")),
)
_port = []


def signer_port():
    """One port for all rows of a run, so that the configuration is the same file in all of them."""
    if not _port:
        _port.extend(free_ports(1))
    return _port[0]


def one_validator(row):
    peer, extensions = row.options["peer"], row.options["extensions"]
    binary = row.peer(peer) / peer.split("-")[0]
    address = f"tcp://127.0.0.1:{signer_port()}"
    node = Node(binary, row.directory / "node", address)
    key = node.init(extensions)
    signer = row.signer(binary)
    home = signer.add(key, address)
    with signer:
        signer.check()
        seen = make_chain(node, signer, home, key)
        signer.stop()
    return f"{seen}, state file {home.state_height()}"


def make_chain(node, signer, home, key):
    """The chain's first heights with this signer, which runs; the result line's beginning."""
    started = time.monotonic()
    with node:
        node.await_height(1, 25)
        first = time.monotonic() - started
        node.await_height(HEIGHTS_MIN + 1, 60)
        top = node.height() - 1
        speed = rate(top, started + first)
        later = node.prove(key, 1, top)
        signer.check()
        node.check_log()
    check_state(signer, home, top)
    return f"{top} heights, {speed}, all signed by the key in /status, {later} in a later round, first block after {first:.1f} s"


def check_state(signer, home, top):
    """The state file follows the chain: once the node has ended it stands at the last height signed."""
    last = max((height for _, height, _, _ in signer.signed()), default=top)
    wait_until(lambda: home.state_height() >= last, 2, f"state file at {last}")


def rows():
    for peer, extensions, controls in NODES:
        yield Row(
            f"one-{peer.split('-')[1]}{'-extensions' if extensions else ''}",
            one_validator,
            peers=(peer,),
            signers=("semel", *controls),
            options={"peer": peer, "extensions": extensions},
        )
