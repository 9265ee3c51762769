"""The published Mithril client library against an aggregator, and a plain server of answers that an aggregator gave once."""

import http.server
import json
import threading
import urllib.parse

from .process import Child, Failed

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
