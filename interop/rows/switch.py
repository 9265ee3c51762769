"""tmkms signs, Semel takes over its files, tmkms takes them back: one key, one configuration, one state file, one running node.

The node is never stopped. The three logs together must not show one position signed for two blocks, and the state file must rise in each
phase, whoever writes it.
"""

from drive.node import Node
from drive.process import Failed, free_ports

from . import Row

HEIGHTS_MIN = 60  # in each phase


def switch(row):
    binary = row.peer("cometbft-0.38.26") / "cometbft"
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    node = Node(binary, row.directory / "node", address)
    key = node.init()
    theirs = row.signer(binary, "tmkms")
    home = theirs.add(key, address)
    ours = row.signer(binary).adopt(theirs) if row.signer_kind != "tmkms" else theirs
    config, phases, floor = None, [], 0
    theirs.start()
    try:
        with node:
            for signer in (theirs, ours, theirs):
                if not signer.processes:
                    signer.start()
                node.await_height(floor + HEIGHTS_MIN, 60)
                signer.check()
                if config not in (None, home.config.read_text()):
                    raise Failed("the configuration was changed")
                config = home.config.read_text()
                if len(phases) < 2:  # in the last phase the node ends before its signer
                    signer.stop()
                floor = home.state_height()
                phases.append(f"{signer.name} to {floor}")
                if floor < node.height():
                    raise Failed(f"the state file stands at {floor} after {signer.name}, the node at {node.height()}")
            node.prove(key, 1, node.height() - 1)
            node.check_log()
    finally:
        for signer in (theirs, ours):
            signer.kill()
    seen = theirs.signed()
    if ours is not theirs:
        for position, blocks in ours.signed().items():
            seen.setdefault(position, set()).update(blocks)
    if doubled := {position: blocks for position, blocks in seen.items() if len(blocks) > 1}:
        raise Failed(f"two blocks signed at one position: {doubled}")
    if len(seen) < 3 * 3 * HEIGHTS_MIN:
        raise Failed(f"the logs tell of {len(seen)} signatures only")
    return f"{', then '.join(phases)}; {len(seen)} positions in the logs, none signed for two blocks"


def rows():
    yield Row("switch", switch, peers=("cometbft-0.38.26", "tmkms-0.15.0"), signers=("semel", "tmkms"))
