"""A Tendermint or CometBFT node of any version on the loopback, which leaves its signing to a remote signer.

The node's own key file is taken away from it. A node that finds none makes a new random key, so blocks alone prove nothing:
`Node.prove` compares the key that `/status` shows, and each commit's address, with the signer's.
Heights are integers; times are seconds; addresses are upper-case hex as the nodes print them.
"""

import json
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from .process import Child, Failed, free_ports, run, wait_until

CHAIN_ID = "semel-interop-1"
BLOCK_ID_FLAG_COMMIT = 2


def versions(binary):
    """(major, minor) of `…/cometbft-0.38.26/cometbft`, from the directory it is kept in."""
    major, minor, *_ = re.search(r"-(\d+)\.(\d+)\.\d+$", Path(binary).parent.name).groups()
    return int(major), int(minor)


class Node:
    """One validator's node and its home directory."""

    def __init__(self, binary, home, privval, sockets=None, chain_id=CHAIN_ID):
        self.binary, self.home, self.privval, self.chain_id = Path(binary), Path(home), privval, chain_id
        self.rpc_port, self.p2p_port = sockets or free_ports(2)
        self.child = None

    # ---- home

    def init(self, extensions=False):
        """A new one-validator home; returns the validator's key file, which is no longer in the node's reach."""
        run([self.binary, "init", "--home", self.home], self.home.parent / "init.log")
        self.edit_genesis(extensions)
        self.configure()
        return self.take_key()

    def edit_genesis(self, extensions=False):
        path = self.home / "config/genesis.json"
        genesis = json.loads(path.read_text())
        genesis["chain_id"] = self.chain_id
        if "time_iota_ms" in genesis["consensus_params"]["block"]:
            # Up to 0.34 block times rise by at least this much. At 300 heights a second a default of 1 s runs ahead of the clock, and
            # 0.38 votes nil for blocks from the future.
            genesis["consensus_params"]["block"]["time_iota_ms"] = "1"
        if extensions:
            genesis["consensus_params"]["abci"]["vote_extensions_enable_height"] = "1"
        path.write_text(json.dumps(genesis, indent=2))

    def configure(self, peers="", settings=()):
        """Writes the settings into config.toml; `settings` are further (key, value as TOML) pairs."""
        path = self.home / "config/config.toml"
        text = path.read_text()
        pairs = {
            "priv_validator_laddr": f'"{self.privval}"',
            "proxy_app": '"kvstore"',
            "timeout_commit": '"1ms"',
            "skip_timeout_commit": "true",
            "create_empty_blocks": "true",
            "pprof_laddr": '""',
            "persistent_peers": f'"{peers}"',
            "addr_book_strict": "false",
            "allow_duplicate_ip": "true",
            **dict(settings),
        }
        for key, value in pairs.items():
            text = re.sub(rf"(?m)^{key} *=.*$", f"{key} = {value}", text)
        text = re.sub(r'(?m)^laddr = "tcp://[0-9.]*:26657"', f'laddr = "tcp://127.0.0.1:{self.rpc_port}"', text)
        text = re.sub(r'(?m)^laddr = "tcp://[0-9.]*:26656"', f'laddr = "tcp://127.0.0.1:{self.p2p_port}"', text)
        path.write_text(text)

    def take_key(self):
        """Moves the key file out of the home, so that the node cannot sign."""
        kept = self.home.parent / f"{self.home.name}-key.json"
        (self.home / "config/priv_validator_key.json").rename(kept)
        return kept

    def id(self):
        """The node's p2p id, as its peers name it."""
        log = self.home.parent / f"{self.home.name}-id"
        log.unlink(missing_ok=True)
        word = "show_node_id" if versions(self.binary) < (0, 34) else "show-node-id"
        run([self.binary, word, "--home", self.home], log)
        return log.read_text().split()[-1]

    # ---- life

    def start(self):
        """Starts it. The signer must be there already: the node waits 3 s for it, once."""
        self.child = Child([self.binary, "node", "--home", self.home], self.home.parent / f"{self.home.name}.log")

    def stop(self):
        """Ends it. The signer must still be there: without it a node hangs in its shutdown for minutes."""
        if self.child:
            self.child.stop(grace=15)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    # ---- what it says

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rpc_port}{path}", timeout=5) as answer:
            body = json.load(answer)
        return body.get("result", body)

    def height(self):
        """Latest height; 0 while there is none, or while it does not answer yet."""
        try:
            return int(self.get("/status")["sync_info"]["latest_block_height"])
        except (OSError, KeyError):
            return 0

    def await_height(self, height, seconds):
        """Waits for a height. A node whose consensus failed stays up and answers, so only a rising height is proof of life."""
        def reached():
            if self.child.ended() is not None:
                raise Failed(f"the node ended: {self.child.last_line()}")
            self.check_log()
            return self.height() >= height
        wait_until(reached, seconds, f"height {height} (now {self.height()})")

    def check_log(self):
        log = self.child.log.read_text(errors="replace")
        for bad in ("CONSENSUS FAILURE", "onflicting vote", "ErrVoteConflictingVotes", "DuplicateVoteEvidence"):
            if bad in log:
                line = next(line for line in log.splitlines() if bad in line)
                raise Failed(f"the node's log: {line[:240]}")

    def evidence(self, low, high):
        """Heights of [low, high] whose block carries evidence of a double signature."""
        found = []
        for height in range(low, high + 1):
            block = self.get(f"/block?height={height}")["block"]
            if (block["evidence"] or {}).get("evidence"):
                found.append(height)
        return found

    def commit(self, height):
        """(round, signatures) of the commit of a height; absent signatures are None in 0.33 and flag 1 later."""
        commit = self.get(f"/commit?height={height}")["signed_header"]["commit"]
        signatures = commit.get("signatures") or commit.get("precommits")
        first = next((one for one in signatures if one), {})
        return int(commit.get("round", first.get("round", 0))), signatures

    def prove_key(self, key_file):
        """Proof that the node's validator is the signer's key; returns that key as its file has it."""
        key = json.loads(Path(key_file).read_text())
        shown = self.get("/status")["validator_info"]["pub_key"]["value"]
        if shown != key["pub_key"]["value"]:
            raise Failed(f"/status shows the key {shown}, the signer's is {key['pub_key']['value']}")
        return key

    def prove(self, key_file, low, high):
        """Proof that `key_file`'s key made the commits of [low, high] and is the one in /status. Returns the number of them that
        needed more than one round."""
        key = self.prove_key(key_file)
        later_rounds = 0
        for height in range(low, high + 1):
            commit_round, signatures = self.commit(height)
            if len(signatures) != 1 or not signatures[0]:
                raise Failed(f"the commit of height {height} has no signature")
            one = signatures[0]
            if one["validator_address"] != key["address"] or not one["signature"]:
                raise Failed(f"the commit of height {height} is not signed by {key['address']}")
            if one.get("block_id_flag", BLOCK_ID_FLAG_COMMIT) != BLOCK_ID_FLAG_COMMIT:
                raise Failed(f"the commit of height {height} has block_id_flag {one['block_id_flag']}")
            later_rounds += commit_round > 0
        return later_rounds


def new_home_for(node, binary, home):
    """A home of another version's `binary` with the chain, the node key and the data of a stopped `node`, on its ports."""
    successor = Node(binary, home, node.privval, (node.rpc_port, node.p2p_port))
    successor.init()
    for name in ("config/genesis.json", "config/node_key.json", "data"):
        old, new = node.home / name, successor.home / name
        shutil.rmtree(new) if new.is_dir() else new.unlink()
        (shutil.copytree if old.is_dir() else shutil.copy)(old, new)
    return successor


def rate(heights, since):
    """`heights` per second since the monotonic time `since`, for a result line."""
    return f"{heights / (time.monotonic() - since):.0f}/s"
