"""The operators' guide as it is written: four validators with their keys in a YubiHSM go from a chain on Tendermint 0.33 to a new one on
0.34, and back.

Configurations and unit are the guide's own, read from its text; only paths, addresses and key numbers are put in their place. The
YubiHSM is the `yubihsm` crate's mock device behind the connector's protocol. `semel upgrade` does what the guide does by hand.
"""

import base64
import getpass
import json
import os
import re
import subprocess
import time
from pathlib import Path

from drive.node import rate
from drive.process import Child, Failed, Skipped, free_ports, run, wait_until
from drive.signer import semel_binary

from . import Row
from .four_validators import QUICK, VALIDATORS, network

REPOSITORY = Path(__file__).resolve().parent.parent.parent
GUIDE = REPOSITORY.parent / "shared/guides/T-tmkms-update.md"
SYSTEMCTL = Path(__file__).resolve().parent.parent / "drive/systemctl"
OLD, NEW = "commercio-2_2", "commercio-3"
OLD_DIRECTORY, OLD_BINARIES = "/data_tmkms/tmkms/kms/commercio", "/data_tmkms/tmkms/.cargo/bin"
HEIGHTS_MIN = 20  # of each leg


def block(after, language):
    """The guide's first block of a language behind some words, without its indentation."""
    if not GUIDE.exists():
        raise Skipped("the guide is not beside this repository")
    text = GUIDE.read_text()
    found = re.search(rf"(?s)```{language}\n(.*?)```", text[text.index(after) :])
    return "\n".join(line.strip() for line in found.group(1).splitlines()) + "\n"


def connector_binary():
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    binary = target / "debug/yubihsm-connector"
    if not binary.exists():
        raise Skipped(f"there is no {binary}; build it: cargo build -p semel-devnet-yubihsm")
    return binary


class Host:
    """The directory of the guide, its units, and the service manager."""

    def __init__(self, row, connector):
        self.directory, self.units, self.binaries = (row.directory / name for name in ("kms", "units", "bin"))
        for made in (self.directory, self.units, self.binaries):
            made.mkdir()
        (self.binaries / "tmkms").symlink_to(semel_binary())
        (self.directory / "password").write_text("password\n")
        (self.directory / "password").chmod(0o600)
        self.connector = connector
        self.environment = {**os.environ, "SYSTEMCTL_DIR": str(self.units), "SEMEL_LEDGER": str(row.directory / "ledger")}
        self.log = row.directory / "commands.log"

    def place(self, text, number, address):
        """The guide's text with this machine's paths, the node's address and the validator's number."""
        text = text.replace(OLD_DIRECTORY, str(self.directory)).replace(OLD_BINARIES, str(self.binaries))
        text = text.replace("User=tmkms", f"User={getpass.getuser()}")  # the guide's user has to exist
        text = text.replace("/data_tmkms/tmkms/kms/password", str(self.directory / "password"))
        text = text.replace("tcp://127.0.0.1:12345", self.connector).replace("tcp://10.1.1.1:26658", address)
        text = text.replace("state01", f"state0{number}").replace("connection01", f"connection0{number}").replace("tmkms.01", f"tmkms.0{number}")
        return re.sub(r'(chain_ids = \[[^]]*\], key = )1\b', rf"\g<1>{number}", text)

    def add(self, number, address):
        config = self.place(block("The typical configuration", "toml"), number, address)
        (self.directory / f"tmkms.0{number}.toml").write_text(config)
        unit = self.place(block("will be of this type", "ini"), number, address)
        (self.units / f"tmkms-0{number}.service").write_text(unit)
        self.run(self.binaries / "tmkms", "softsign", "keygen", "-t", "consensus", self.directory / f"secret_connection0{number}.key")

    def run(self, *command, seconds=60):
        with open(self.log, "ab") as log:
            print("$", *command, file=open(self.log, "a"))
            done = subprocess.run([str(word) for word in command], stdout=log, stderr=log, env=self.environment, timeout=seconds)
        if done.returncode != 0:
            last = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()][-3:]
            raise Failed(f"{' '.join(map(str, command))} exited {done.returncode}: {' / '.join(last)[:400]}")

    def systemctl(self, *words):
        self.run(SYSTEMCTL, *words)

    def upgrade(self, *words):
        self.run(semel_binary(), "upgrade", *words, seconds=120)

    def state_height(self, number, suffix=""):
        return int(json.loads((self.directory / f"commercio_priv_validator_state0{number}{suffix}.json").read_text())["height"])

    def stop(self):
        for unit in self.units.glob("*.service"):
            subprocess.run([SYSTEMCTL, "stop", unit.name], env=self.environment, check=False)


def same_validators(old, new):
    """Makes a new chain of the validators of an old one: their keys are what stays."""
    keys = [json.loads(node.key.read_text()) for node in old]
    genesis_file = new[0].home / "config/genesis.json"
    genesis = json.loads(genesis_file.read_text())
    for validator, key in zip(genesis["validators"], keys, strict=True):
        validator["pub_key"], validator["address"] = key["pub_key"], key["address"]
    for node, before in zip(new, old, strict=True):
        (node.home / "config/genesis.json").write_text(json.dumps(genesis, indent=2))
        node.key, node.privval = before.key, before.privval
        node.configure(settings=QUICK, peers=node_peers(node, new))


def node_peers(node, nodes):
    return ",".join(f"{other.id()}@127.0.0.1:{other.p2p_port}" for other in nodes if other is not node)


def leg(nodes, heights, what):
    """Runs a network until it has made so many more heights; returns the last one."""
    started = []
    try:
        for node in nodes:
            node.start()
            started.append(node)
        wait_until(lambda: nodes[0].height() > 0, 60, f"{what}: a first height")
        below = nodes[0].height()
        nodes[0].await_height(below + heights, 90)
        top = nodes[0].height() - 1
        for node in nodes:
            node.prove_key(node.key)
            node.check_log()
        if found := nodes[0].evidence(max(1, below), top):
            raise Failed(f"{what}: evidence in the blocks of heights {found}")
        return top
    finally:
        for node in started:
            node.stop()


def guide(row):
    old_binary, new_binary = row.peer("tendermint-0.33.9") / "tendermint", row.peer("tendermint-0.34.24") / "tendermint"
    old = network(row, old_binary, "old", OLD)
    new = network(row, new_binary, "new", NEW)
    same_validators(old, new)
    port = free_ports(1)[0]
    seeds = [base64.b64decode(json.loads(node.key.read_text())["priv_key"]["value"])[:32].hex() for node in old]
    keys = [word for number, seed in enumerate(seeds, 1) for word in ("--put-key", f"{number}:ed25519:{seed}")]
    hsm = Child([connector_binary(), "--listen", f"127.0.0.1:{port}", *keys], row.directory / "connector.log")
    host = Host(row, f"tcp://127.0.0.1:{port}")
    since = time.monotonic()
    try:
        for number, node in enumerate(old, 1):
            host.add(number, node.privval)
        units = [f"tmkms-0{number}.service" for number in range(1, VALIDATORS + 1)]
        files = {path: path.read_bytes() for path in [*host.directory.glob("tmkms.0*.toml"), *host.units.glob("*.service")]}
        for unit in units:
            host.systemctl("enable", unit)
            host.systemctl("start", unit)
        first = leg(old, HEIGHTS_MIN, "the old chain")
        heights = [host.state_height(number) for number in range(1, VALIDATORS + 1)]
        plan = row.directory / "plan.json"
        host.upgrade(
            "plan", "--from", OLD, "--to", NEW, "--protocol", "v0.34", "--suffix", "v3", "--configs", host.directory / "tmkms.0?.toml",
            "--units", host.units / "tmkms-0?.service", "--out", plan,
        )
        written = (host.directory / "tmkms.01.v3.toml", host.place(block("`/data_tmkms/tmkms/kms/commercio/tmkms.01.v3.toml`", "toml"), 1, old[0].privval))
        host.upgrade("apply", plan, "--yes", "--systemctl", SYSTEMCTL)
        if written[0].read_text() != written[1]:
            raise Failed("tmkms.01.v3.toml is not what the guide has")
        second = leg(new, HEIGHTS_MIN, "the new chain")
        host.upgrade("rollback", plan, "--yes", "--systemctl", SYSTEMCTL)
        if changed := [path.name for path, was in files.items() if path.read_bytes() != was]:
            raise Failed(f"files of the old chain changed: {changed}")
        third = leg(old, HEIGHTS_MIN, "the old chain again")
        lowered = [number for number, height in enumerate(heights, 1) if host.state_height(number) < height]
        if third <= first or lowered:
            raise Failed(f"the old chain went from {first} to {third}; states lowered: {lowered}")
    finally:
        host.stop()
        hsm.kill()
    return (
        f"{VALIDATORS} keys in a YubiHSM, {first} heights of {OLD} on 0.33.9, upgrade, {second} heights of {NEW} on 0.34.24, rollback, "
        f"{OLD} goes on to {third} ({rate(third + second, since)})"
    )


def rows():
    yield Row("guide", guide, peers=("tendermint-0.33.9", "tendermint-0.34.24"), signers=("semel",), seconds_max=600)
