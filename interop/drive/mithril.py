"""The published Mithril client library against an aggregator: `semel dev`'s, or a plain server of answers that one gave once."""

import http.server
import json
import threading
import urllib.parse
import urllib.request
from pathlib import Path

from .process import Child, Failed, wait_until
from .signer import semel_binary

PREVIEW = "shared/data/cardano/preview/immutable"
CLIENT = "semel-interop-mithril"


def verify(row, url, genesis_key, ancillary_key, *options, seconds=60):
    """(whether all held, the client's steps) of one run; Failed if the client says nothing that can be read."""
    log = row.directory / "client.log"
    log.write_text("")
    child = Child([row.peer(row.peers[0]) / CLIENT, url, genesis_key, ancillary_key, "--json", *options], log)
    try:
        code = child.wait(seconds)
    finally:
        child.kill()
    try:
        steps = [json.loads(line) for line in log.read_text().splitlines()]
    except ValueError:
        steps = []
    if code not in (0, 1) or not steps or (code == 0) != all(step["ok"] for step in steps):
        raise Failed(f"the client exited {code}: {child.last_line()}")
    return code == 0, steps


class Network:
    """`semel dev --duty aggregator`: a Cardano network with signers and Semel's aggregator, on real blocks where there are any."""

    def __init__(self, row, *options, epoch_seconds=5):
        self.epoch_seconds = epoch_seconds
        self.log = row.directory / "network.log"
        command = [semel_binary(), "dev", "--duty", "aggregator", "--json", "--epoch-time", epoch_seconds, "--home", row.directory / "network", *options]
        preview = Path(__file__).resolve().parent.parent.parent.parent / PREVIEW
        if preview.is_dir():
            command += ["--immutable", preview]
        self.child = Child(command, self.log)

    def events(self):
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]

    def told(self, what):
        return [event for event in self.events() if event.get("event") == what]

    def passed(self):
        return self.told("epoch passed")

    def runs(self):
        if self.child.ended() is not None:
            raise Failed(f"the network ended: {self.child.last_line()}")

    def wait(self, epochs):
        """Until so many epochs have passed, each with a certificate of every type."""

        def there():
            self.runs()
            return len(self.passed()) >= epochs and self.certified("transaction") and self.certified("block")

        wait_until(there, 60 + 2 * epochs * self.epoch_seconds, f"{epochs} epochs")
        self.learn()

    def learn(self):
        """Where it is reached, and its keys."""
        serving, = self.told("serving")
        self.url, self.genesis_key, self.ancillary_key = (serving[name] for name in ("url", "genesis_verification_key", "ancillary_verification_key"))

    def certificate(self, event):
        """The certificate that an event tells of."""
        with urllib.request.urlopen(f"{self.url}/certificate/{event['hash']}") as answer:
            return json.load(answer)

    def certified(self, what):
        """The hash of a block or transaction in what is certified: of an older certificate, whose proofs are given for sure."""
        found = [event[what] for event in self.told("certificate") if event[what]]
        return found[len(found) // 2] if found else None

    def end(self):
        """What it sums up in the end."""
        if self.child.stop() is None or self.child.ended() != 0:
            raise Failed(f"the network did not end well: {self.child.last_line()}")
        return self.events()[-1]["certify"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()


class Recorded:
    """An aggregator's answers from files, on a port of its own. `spoil` changes an answer: (path, answer) → answer."""

    def __init__(self, directory, spoil=None):
        self.spoil = spoil or (lambda _path, answer: answer)
        self.lists, self.items = {}, {}
        read = lambda name: json.loads((directory / f"{name}.json").read_text())  # noqa: E731
        for route, name in (("mithril-stake-distribution", "mithril-stake-distributions"), ("cardano-stake-distribution", "cardano-stake-distributions"),
                            ("cardano-transaction", "ctx-snapshots"), ("cardano-blocks-transactions", "cardano-blocks-txs-snapshots")):
            plural = "" if route.endswith("transactions") else "s"
            self.lists[f"artifact/{route}{plural}"] = read(f"{name}-list")
            self.items[f"artifact/{route}"] = read(name)
        self.lists |= {"certificates": read("certificates-list"), "status": read("status")}
        self.items["certificate"] = read("certificates")
        by_epoch = {str(item["epoch"]): item for item in read("cardano-stake-distributions").values()}
        self.items["artifact/cardano-stake-distribution/epoch"] = by_epoch
        self.proofs = {"proof/cardano-transaction": read("ctx-proofs"), "proof/v2/cardano-transaction": read("ctx-proofs-v2"), "proof/v2/cardano-block": read("cblk-proofs")}

    def answer(self, target):
        """What is answered; None is a 404."""
        parts = urllib.parse.urlparse(target)
        path = parts.path.strip("/")
        if path in self.proofs:
            first, *others = next(iter(urllib.parse.parse_qs(parts.query).values()))[0].split(",")
            answer = self.proofs[path].get(first)
            return answer and answer | {"non_certified_blocks" if path.endswith("block") else "non_certified_transactions": others}
        if path in self.lists:
            answer = self.lists[path]
            return answer[:20] if isinstance(answer, list) else answer
        route, _, name = path.rpartition("/")
        return self.items.get(route, {}).get(name)

    def __enter__(self):
        recorded = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                answer = recorded.answer(self.path)
                body = b"" if answer is None else json.dumps(recorded.spoil(self.path, json.loads(json.dumps(answer)))).encode()
                self.send_response(404 if answer is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"


class Signer:
    """A mithril-signer for a pool that `semel dev --external` left to it."""

    def __init__(self, row, peer, pool):
        self.party = pool["party_id"]
        lines = Path(pool["environment"]).read_text().splitlines()
        self.log = row.directory / f"{self.party}.log"
        self.child = Child([row.peer(peer) / "mithril-signer", "-vvv"], self.log, environment=dict(line.split("=", 1) for line in lines))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
