"""A node that wants two signatures: `hostile/` asks, over CometBFT's own SecretConnection and codec, what no honest node asks.

Every conflict at one position, regressions, broken fields, spoiled frames and handshakes; then a storm in which two sentries of one
validator ask for different blocks at the same time while the signer is killed. Every signature that comes back is verified and filed.
`random` asks a million things that come to nobody's mind, `killed` kills the signer a thousand times right after it signed.
"""

from drive.node import CHAIN_ID
from drive.process import Child, Failed, free_ports, run, wait_until

from . import Row

STORM = {"heights": 300, "crashes": 5}
KILLED = {"heights": 2002, "crashes": 1000}
RANDOM = {"random": 1_000_000}


def conflict(row):
    binary = row.peer("hostile-node") / "hostile-node"
    tools = row.peer("cometbft-0.38.26") / "cometbft"
    run([tools, "init", "--home", row.directory / "node"], row.directory / "init.log")  # for a key only
    ports = free_ports(2)
    first, second = (f"tcp://127.0.0.1:{port}" for port in ports)
    signer = row.signer(tools)
    home = signer.add(row.directory / "node/config/priv_validator_key.json", first)
    signer.commands()  # writes the home
    command = [binary, "-addr", f"127.0.0.1:{ports[0]}", "-chain-id", CHAIN_ID]
    command += [word for name, value in row.options.items() for word in (f"-{name}", value)]
    if home.config.exists():
        add_sentry(home, second)
        command += ["-addr2", f"127.0.0.1:{ports[1]}"]
    log = row.directory / "hostile.log"
    node = Child([*command, f"-strict={str(row.signer_kind == 'semel').lower()}"], log)
    crashed = 0
    with signer:
        try:
            while node.ended() is None:
                wait_until(lambda: node.ended() is not None or crashes(log) > crashed, row.seconds_max, "a crash or the end")
                if crashes(log) > crashed:
                    crashed += 1
                    signer.kill()
                    signer.start()
        finally:
            node.kill()
        signer.check()
    if node.ended() != 0:
        failed = [line for line in log.read_text().splitlines() if line.startswith("FAIL")]
        raise Failed(f"{len(failed)} promises broken: {'; '.join(failed[:3])[:400]}")
    if crashed != row.options.get("crashes", 0):
        raise Failed(f"{crashed} crashes instead of {row.options['crashes']}")
    return f"{node.last_line()}, {crashed} × kill -9"


def crashes(log):
    return log.read_text().splitlines().count("crash")


def add_sentry(home, address):
    """A second `[[validator]]` of the same chain and key: a second sentry."""
    text = home.config.read_text()
    start, end = text.index("[[validator]]"), text.index("[[providers")
    block = text[start:end].replace(home.address, address)
    home.config.write_text(text[:end] + block + text[end:])


def rows():
    peers = ("hostile-node", "cometbft-0.38.26")
    yield Row("conflict", conflict, peers, signers=("semel", "filepv"), options=STORM)
    yield Row("conflict-random", conflict, peers, signers=("semel",), options=RANDOM, seconds_max=600)
    yield Row("conflict-killed", conflict, peers, signers=("semel",), options=KILLED, seconds_max=900)
