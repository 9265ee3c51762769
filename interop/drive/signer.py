"""Signers: Semel, and two others that serve as controls of the rows themselves.

A signer is driven through the files that tmkms users have (`../tmkms.toml`), in a home per key: `tmkms.toml`, `secrets/`, `state/`.
The controls are tmkms and `priv_val_server`, the reference signer of the node's own repository: a row that fails with a control too is
a defect of the row or of the node, not of Semel.
"""

import json
import os
import re
import shutil
from pathlib import Path

from .node import CHAIN_ID, versions
from .process import Child, Failed, Skipped, run

CONFIG = Path(__file__).parent.parent / "tmkms.toml"
SIGNED = re.compile(r"\[([^]@ ]+@[^] ]+)\] signed (Proposal|Pre[Vv]ote|Pre[Cc]ommit):(\S+) at h/r/s (\d+)/(\d+)/(\d+)")


class Home:
    """The files of one validator key at the signer."""

    def __init__(self, directory, key_file, address):
        self.directory, self.key_file, self.address = Path(directory), Path(key_file), address
        self.state_file = self.directory / "state/consensus.json"
        self.config = self.directory / "tmkms.toml"

    def write(self, tool, absolute=False, protocol_version=None):
        """Writes the home with `tool`, the words that come before `softsign`. Done once; a home that is there is used as it is."""
        if self.config.exists():
            return
        secrets = self.directory / "secrets"
        for made in (self.directory, secrets, self.directory / "state"):
            made.mkdir(mode=0o700)
        log = self.directory / "setup.log"
        run([*tool, "softsign", "import", self.key_file, secrets / "consensus.key"], log)
        run([*tool, "softsign", "keygen", "-t", "consensus", secrets / "connection.key"], log)
        self.config.write_text(self.text(absolute, protocol_version))

    def text(self, absolute=False, protocol_version=None):
        text = CONFIG.read_text().replace("tcp://127.0.0.1:26659", self.address)
        if absolute:  # several homes of one process share its working directory
            text = re.sub(r'"(state|secrets)/', rf'"{self.directory}/\1/', text)
        if protocol_version:
            text = text.replace("reconnect = true", f'reconnect = true\nprotocol_version = "{protocol_version}"')
        return text

    def state_height(self):
        return int(json.loads(self.state_file.read_text())["height"])


class Signer:
    """One signer serving one or more homes. `processes` holds what runs now."""

    name = ""

    def __init__(self, row, directory, node_binary):
        self.row, self.directory, self.node_binary = row, Path(directory), Path(node_binary)
        self.directory.mkdir(exist_ok=True)
        self.homes, self.processes = [], []
        self.log = self.directory / f"{self.name}.log"

    def add(self, key_file, address):
        self.homes.append(Home(self.directory / f"home{len(self.homes)}", key_file, address))
        return self.homes[-1]

    def adopt(self, other):
        """Takes over the homes of another signer: same key, same configuration, same state file."""
        self.homes = other.homes
        return self

    def commands(self):
        raise NotImplementedError

    def start(self):
        self.processes = [Child(command, self.log, cwd) for command, cwd in self.commands()]

    def stop(self):
        """SIGTERM; returns the seconds that the slowest took. Failed if it had to be killed."""
        took = [process.stop(grace=10) for process in self.processes]
        self.processes = []
        if None in took:
            raise Failed(f"{self.name} did not end within 10 s of SIGTERM")
        return max(took, default=0.0)

    def kill(self):
        """SIGKILL, as a crash."""
        for process in self.processes:
            process.kill()
        self.processes = []

    def check(self):
        for process in self.processes:
            if process.ended() is not None:
                raise Failed(f"{self.name} ended with {process.ended()}: {process.last_line()}")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def signed(self):
        """What the log says was signed: {(connection, height, round, step): set of block hash prefixes}."""
        seen = {}
        if self.log.exists():
            text = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace"))
            for connection, _, block, height, vote_round, step in SIGNED.findall(text):
                seen.setdefault((connection, int(height), int(vote_round), int(step)), set()).add(block)
        return seen

    def signed_twice(self):
        """Positions that were signed for two blocks."""
        return {position: blocks for position, blocks in self.signed().items() if len(blocks) > 1}


class Semel(Signer):
    """The signer under test: one process, however many keys."""

    name = "semel"

    def commands(self):
        binary = semel_binary()
        several = len(self.homes) > 1
        for home in self.homes:
            home.write([binary, "kms"], absolute=several)
        configs = [word for home in self.homes for word in ("-c", home.config)]
        cwd = self.directory if several else self.homes[0].directory
        return [([binary, "kms", "start", *configs, "--ledger", self.directory / "ledger"], cwd)]


class Tmkms(Signer):
    """Control: tmkms, one process per key. Told the protocol version where its default would not do."""

    name = "tmkms"

    def commands(self):
        family = versions(self.node_binary)
        release, protocol = ("0.12.2", "v0.33") if family < (0, 34) else ("0.15.0", "v0.34" if family < (0, 38) else None)
        binary = self.row.peer(f"tmkms-{release}") / "bin/tmkms"
        commands = []
        for home in self.homes:
            home.write([binary], protocol_version=protocol)
            commands.append(([binary, "start", "-c", home.config], home.directory))
        return commands


class FilePv(Signer):
    """Control: the reference signer of the node's own repository, started again whenever it gives up."""

    name = "filepv"

    def commands(self):
        family = versions(self.node_binary)
        if self.node_binary.name == "tendermint":
            server = self.node_binary.parent / "priv_val_server"
        else:
            server = self.row.peer(f"priv_val_server-{'1.0.1' if family >= (1, 0) else '0.38.26'}") / "priv_val_server"
        commands = []
        for home in self.homes:
            if not home.directory.exists():
                (home.directory / "state").mkdir(parents=True)
                shutil.copy(home.key_file, home.directory / "key.json")
                round_zero = "0" if family < (0, 34) else 0  # 0.33 writes it as a string
                home.state_file.write_text(json.dumps({"height": "0", "round": round_zero, "step": 0}))
            loop = 'trap "kill -9 \\$! ; exit 0" TERM; while :; do "$@" & wait $!; sleep 0.3; done'
            command = [server, "-addr", home.address, "-chain-id", CHAIN_ID, "-priv-key", "key.json", "-priv-state", home.state_file]
            commands.append((["bash", "-c", loop, "filepv", *command], home.directory))
        return commands

    def kill(self):
        self.stop()  # the loop has a child of its own


SIGNERS = {kind.name: kind for kind in (Semel, Tmkms, FilePv)}


def semel_binary():
    """$SEMEL, or the release build of this repository."""
    repository = CONFIG.parent.parent
    target = Path(os.environ.get("CARGO_TARGET_DIR") or repository / "target")
    binary = Path(os.environ.get("SEMEL") or repository / target / "release/semel").resolve()
    if not os.access(binary, os.X_OK):
        if os.environ.get("SEMEL"):
            raise Failed(f"SEMEL names {binary}, which is no program")
        raise Skipped(f"there is no {binary}; build it (make build) or name another with SEMEL=…")
    return binary
