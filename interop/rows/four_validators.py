"""Four validators whose four keys live in one signer process, which is killed and restarted while they make 100 heights.

With more than a third of the votes gone the chain waits; with the signer back it goes on. In the end no block carries evidence, no node
has seen a conflicting vote, and no position was signed for two blocks.
"""

import random
import time

from drive.node import CHAIN_ID, Node, rate
from drive.process import Failed, free_ports, run, wait_until

from . import Row

HEIGHTS_MIN = 100
VALIDATORS = 4
CRASHES = 6
QUICK = (
    ("flush_throttle_timeout", '"1ms"'),
    ("peer_gossip_sleep_duration", '"5ms"'),
    ("peer_query_maj23_sleep_duration", '"250ms"'),
    ("timeout_propose", '"500ms"'),
    ("timeout_propose_delta", '"100ms"'),
    ("timeout_prevote", '"100ms"'),
    ("timeout_precommit", '"100ms"'),
)


def four_validators(row):
    binary = row.peer("cometbft-0.38.26") / "cometbft"
    nodes = network(row, binary)
    signer = row.signer(binary)
    for node in nodes:
        signer.add(node.key, node.privval)
    started = []
    with signer:
        try:
            for node in nodes:
                node.start()
                started.append(node)
            nodes[0].await_height(3, 40)
            since, first = time.monotonic(), nodes[0].height()
            back = crashes(signer, nodes)
            nodes[0].await_height(first + HEIGHTS_MIN, 60)
            top = nodes[0].height() - 1
            speed = rate(top - first, since)
            full, fewest = signatures(nodes, top)
            for node in nodes:
                node.prove_key(node.key)
                node.check_log()
            if found := nodes[0].evidence(1, top):
                raise Failed(f"evidence in the blocks of heights {found}")
        finally:
            for node in started:
                node.stop()
        if doubled := signer.signed_twice():
            raise Failed(f"two blocks signed at one position: {doubled}")
        processes = len(signer.processes)
        signer.stop()
    return (
        f"{top} heights, {speed}, {CRASHES} × kill -9 of {processes} process{'es' * (processes > 1)} for {VALIDATORS} keys, back after "
        f"{max(back):.1f} s at most, {full} of {top} commits with {VALIDATORS} signatures, {fewest} at least, no evidence"
    )


def network(row, binary, name="net", chain_id=CHAIN_ID):
    """Homes of nodes that know each other, each without its key, which is `node.key`."""
    base = row.directory / name
    run([binary, "testnet", "--v", VALIDATORS, "--o", base, "--populate-persistent-peers=false"], row.directory / f"{name}.log")
    ports = free_ports(3 * VALIDATORS)
    nodes = []
    for i in range(VALIDATORS):
        privval, *sockets = ports[3 * i : 3 * i + 3]
        nodes.append(Node(binary, base / f"node{i}", f"tcp://127.0.0.1:{privval}", sockets, chain_id))
    peers = [f"{node.id()}@127.0.0.1:{node.p2p_port}" for node in nodes]
    for node in nodes:
        node.edit_genesis()
        node.configure(",".join(peer for peer in peers if not peer.endswith(f":{node.p2p_port}")), QUICK)
        node.key = node.take_key()
    return nodes


def crashes(signer, nodes):
    """Kills the signer at random moments of a running chain. Returns the seconds after each restart until a block was made."""
    dice = random.Random(38)
    back = []
    for _ in range(CRASHES):
        time.sleep(dice.uniform(0.3, 1.2))
        signer.kill()
        time.sleep(dice.uniform(0, 0.5))
        stood = nodes[0].height()
        signer.start()
        restarted = time.monotonic()
        wait_until(lambda: nodes[0].height() > stood + 1, 30, f"a height above {stood + 1} after a restart")
        back.append(time.monotonic() - restarted)
        signer.check()
    return back


def signatures(nodes, top):
    """(commits with all signatures, fewest signatures of any commit). More than two thirds is what a commit needs."""
    counts = []
    for height in range(1, top + 1):
        _, all_of_it = nodes[0].commit(height)
        counts.append(sum(1 for one in all_of_it if one and one["signature"]))
    return counts.count(VALIDATORS), min(counts)


def rows():
    yield Row("net4", four_validators, peers=("cometbft-0.38.26",), seconds_max=240)
