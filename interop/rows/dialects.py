"""What a few nodes do otherwise than the rest: Noise instead of SecretConnection, secp256k1 instead of Ed25519.

Both run a chain of one validator for at least 100 heights.
"""

import base64
import json
import re

from drive.node import Node
from drive.process import Failed, free_ports, run, wait_until

from . import Row
from .one_validator import make_chain

PEER_ID = re.compile(r"KMS peer ID: (12D3KooW\w+)")
STRANGER = "12D3KooW9tJMax94Lrqw7Y5Qw36viGQAS2gTEPQ5Wg1vTk7xPfQs"  # the key of bytes 1 to 32


def noise(row):
    """Both sides know each other's peer id. The node has a stranger's first, and takes no signature; then ours."""
    binary = row.peer(row.options["peer"]) / "cometbft"
    port = free_ports(1)[0]
    node = Node(binary, row.directory / "node", f"noise://{STRANGER}@127.0.0.1:{port}")
    key = node.init()
    log = row.directory / "node-id"
    run([binary, "show-node-id", "--libp2p", "--home", node.home], log)
    signer = row.signer(binary)
    home = signer.add(key, f"noise://{log.read_text().split()[-1]}@127.0.0.1:{port}")
    with signer:
        wait_until(lambda: PEER_ID.search(signer.log.read_text()), 10, "the signer's peer id")
        ours = PEER_ID.search(signer.log.read_text())[1]
        with node:
            wait_until(lambda: "is the peer id of this signer" in signer.log.read_text(), 20, "a word about the wrong peer id")
        if signer.signed():
            raise Failed("something was signed for a node that expects another signer")
        node.privval = f"noise://{ours}@127.0.0.1:{port}"
        node.configure()
        seen = make_chain(node, signer, home, key)
        if "handshake noise" not in signer.log.read_text():
            raise Failed("the connection was not Noise")
        signer.stop()
    return f"{seen}, over Noise; a node with another peer id got nothing"


def secp256k1(row):
    """The account key is the chain's only key, so it is its consensus key."""
    binary = row.peer(row.options["peer"]) / "cometbft"
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    node = Node(binary, row.directory / "node", address)
    key = node.init()
    maker = row.directory / "maker"
    run([row.peer("cometbft-1.0.1") / "cometbft", "init", "--key-type", "secp256k1", "--home", maker], row.directory / "maker.log")
    key.write_text((maker / "config/priv_validator_key.json").read_text())
    let_validate(node, json.loads(key.read_text()))
    signer = row.signer(binary)
    home = signer.add(key, address)
    for made in (home.directory, home.directory / "secrets", home.directory / "state"):
        made.mkdir(mode=0o700)
    private = json.loads(key.read_text())["priv_key"]["value"]
    for name, text in (("consensus.key", private), ("connection.key", base64.b64encode(bytes(range(32))).decode())):
        path = home.directory / "secrets" / name
        path.touch(mode=0o600)
        path.write_text(text)
    home.config.write_text(home.text().replace('key_type = "consensus"', 'key_type = "account"'))
    with signer:
        seen = make_chain(node, signer, home, key)
        signer.stop()
    return f"{seen}, a secp256k1 key"


def let_validate(node, key):
    """Puts the secp256k1 key into the genesis of a node that makes Ed25519 keys only."""
    path = node.home / "config/genesis.json"
    genesis = json.loads(path.read_text())
    genesis["consensus_params"]["validator"]["pub_key_types"] = ["secp256k1"]
    genesis["validators"] = [{"address": key["address"], "pub_key": key["pub_key"], "power": "10", "name": ""}]
    path.write_text(json.dumps(genesis, indent=2))


def rows():
    yield Row("noise-0.40.0", noise, peers=("cometbft-0.40.0",), signers=("semel",), options={"peer": "cometbft-0.40.0"})
    for peer in ("cometbft-1.0.1", "cometbft-0.38.26", "cometbft-0.40.0"):
        name, peers = f"secp256k1-{peer.split('-')[1]}", tuple(dict.fromkeys((peer, "cometbft-1.0.1")))
        yield Row(name, secp256k1, peers=peers, signers=("semel",), options={"peer": peer})
