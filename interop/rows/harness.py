"""tm-signer-harness, the field's own conformance test of remote signers, in both families of the protocol and on both transports.

It asks for the public key, a proposal, a prevote and a precommit, and checks each signature over the requested timestamp; so each run
has a fresh key, chain and state. Exit codes: 0 all held; 2 nobody dialled; 8 public key; 9 proposal; 10 vote.
"""

from drive.node import Node
from drive.process import Child, Failed, free_ports

from . import Row

ACCEPT_RETRIES = "1000"  # × 10 ms; the default of 100 is over before a signer's second attempt to dial


def harness(row):
    binaries = row.peer(row.options["peer"])
    if row.options["transport"] == "tcp":
        address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    else:
        address = f"unix://{row.directory}/pv.sock"
    node = Node(binaries / "tendermint", row.directory / "node", address)
    key = node.init()
    key.rename(node.home / "config/priv_validator_key.json")  # the harness compares with it
    signer = row.signer(node.binary)
    signer.add(node.home / "config/priv_validator_key.json", address)
    with signer:
        command = [binaries / "tm-signer-harness", "run", "-addr", address, "-tmhome", node.home, "-accept-retries", ACCEPT_RETRIES]
        child = Child(command, row.directory / "harness.log")
        try:
            code = child.wait(30)
        finally:
            child.kill()
    if code != 0:
        raise Failed(f"exit code {code}: {child.last_line()}")
    return f"exit code 0 on {address.split(':')[0]}"


def rows():
    for version in ("0.34.24", "0.33.9"):
        for transport in ("tcp", "unix"):
            peer = f"tendermint-{version}"
            yield Row(f"harness-{version}-{transport}", harness, peers=(peer,), signers=("semel", "tmkms"), options={"peer": peer, "transport": transport})
