"""A chain whose only key is in a PKCS#11 token: SoftHSM2 makes it and never gives it out, the node takes its signatures."""

import base64
import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

from drive.node import CHAIN_ID, Node, rate
from drive.process import Child, Failed, Skipped, free_ports, run, wait_until
from drive.signer import semel_binary

from . import Row

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
HEIGHTS_MIN = 100
CONFIG = """
[[chain]]
id = "{chain}"
key_format = {{ type = "hex" }}
state_file = "{home}/state.json"

[[validator]]
chain_id = "{chain}"
addr = "{address}"
secret_key = "{home}/identity.key"

[[providers.pkcs11]]
module = "{module}"
token_label = "validator"
pin_file = "{home}/pin"
keys = [{{ chain_ids = ["{chain}"], label = "consensus" }}]
"""


def token(row):
    if not MODULE.exists() or not shutil.which("softhsm2-util") or not shutil.which("pkcs11-tool"):
        raise Skipped("softhsm2 and opensc are not installed")
    binary = row.peer("cometbft-0.38.26") / "cometbft"
    home = row.directory / "signer"
    (home / "tokens").mkdir(parents=True)
    os.environ["SOFTHSM2_CONF"] = str(home / "softhsm2.conf")
    (home / "softhsm2.conf").write_text(f"directories.tokendir = {home}/tokens\nobjectstore.backend = file\n")
    log = row.directory / "setup.log"
    run(["softhsm2-util", "--init-token", "--free", "--label", "validator", "--pin", "1234", "--so-pin", "4321"], log)
    login = ["pkcs11-tool", "--module", MODULE, "--token-label", "validator", "--login", "--pin", "1234"]
    run([*login, "--keypairgen", "--key-type", "EC:edwards25519", "--label", "consensus", "--id", "01"], log)
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    (home / "tmkms.toml").write_text(CONFIG.format(chain=CHAIN_ID, home=home, address=address, module=MODULE))
    for name, text in (("pin", "1234\n"), ("identity.key", base64.b64encode(os.urandom(32)).decode())):
        (home / name).write_text(text)
        (home / name).chmod(0o600)
    signer = Child([semel_binary(), "kms", "start", "-c", home / "tmkms.toml", "--ledger", home / "ledger"], row.directory / "semel.log")
    node = Node(binary, row.directory / "node", address)
    try:
        added = r"added consensus Ed25519 key: ([0-9A-F]{64})"
        wait_until(lambda: re.search(added, signer.log.read_text()), 10, "the key of the token")
        public = bytes.fromhex(re.search(added, signer.log.read_text()).group(1))
        node.init()
        key = belongs_to(node, public)
        since = time.monotonic()
        with node:
            node.await_height(HEIGHTS_MIN + 1, 90)
            top = node.height() - 1
            node.prove(key, 1, top)
            node.check_log()
        if signer.ended() is not None:
            raise Failed(f"the signer ended: {signer.last_line()}")
    finally:
        signer.kill()
    return f"{top} heights ({rate(top, since)}), all signed by the key of the token, which /status shows"


def belongs_to(node, public):
    """Makes the key the chain's only validator; returns a file with its public half."""
    value, address = base64.b64encode(public).decode(), hashlib.sha256(public).hexdigest()[:40].upper()
    path = node.home / "config/genesis.json"
    genesis = json.loads(path.read_text())
    (validator,) = genesis["validators"]
    validator["pub_key"]["value"], validator["address"] = value, address
    path.write_text(json.dumps(genesis, indent=2))
    key = node.home.parent / "token-key.json"
    key.write_text(json.dumps({"address": address, "pub_key": {"type": "tendermint/PubKeyEd25519", "value": value}}))
    return key


def rows():
    yield Row("token", token, peers=("cometbft-0.38.26",), signers=("semel",), seconds_max=180)
