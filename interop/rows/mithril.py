"""The published Mithril client library (mithril-client 0.14.34), a program of its own: what it believes and what it does not.

`mithril-signer` is the published signer: of two pools it has the one without which there is no quorum.

`mithril-control` is a control of the client itself: it believes what a reference aggregator answered once, and nothing that was
changed in it. So a row in which it believes Semel's aggregator says something: `mithril` is that row.
"""

import json

from drive.mithril import Network, Recorded, Signer, verify
from drive.process import Failed, Skipped, wait_until

from . import Row
from .guide import REPOSITORY

PEER = "mithril-client-0.14.34"
SIGNER = "mithril-signer-1.1.6"
DEVNET = REPOSITORY.parent / "shared/data/mithril/devnet"
# The published test key with which the recorded devnet began.
GENESIS_KEY = json.dumps([32, 253, 186, 201, 177, 11, 117, 135, 187, 167, 181, 188, 22, 59, 206, 105, 231, 150, 215, 30, 78, 212, 76, 16, 252, 180, 72, 134, 137, 247, 161, 68], separators=(",", ":")).encode().hex()
OTHER_KEY = json.dumps([127, 73, 124, 161, 6, 137, 131, 213, 207, 117, 198, 85, 176, 199, 162, 241, 68, 123, 119, 145, 13, 232, 243, 49, 229, 2, 249, 205, 205, 39, 235, 44], separators=(",", ":")).encode().hex()


def in_answers(route, change):
    """A change of every answer whose path begins with `route`."""

    def spoil(path, answer):
        if path.strip("/").startswith(route):
            change(answer)
        return answer

    return spoil


def other_stake(certificate):
    certificate["metadata"]["signers"] and certificate["metadata"]["signers"][0].update(stake=1)


def other_epoch(certificate):
    certificate["protocol_message"]["message_parts"]["current_epoch"] = "99"


def one_signer_less(artifact):
    artifact["signers"].pop()


def one_lovelace_more(artifact):
    pool = next(iter(artifact["stake_distribution"]))
    artifact["stake_distribution"][pool] += 1


def other_block(proof):
    proof["latest_block_number"] += 15


def other_transaction(proof):
    proof["certified_transactions"][0]["transactions_hashes"][0] = "0" * 64


def other_slot(proof):
    (proof.get("certified_blocks") or proof["certified_transactions"])["items"][0]["slot_number"] += 1


LIES = (
    ("certificates", "certificate/", other_stake),
    ("certificates", "certificate/", other_epoch),
    ("mithril stake distributions", "artifact/mithril-stake-distribution/", one_signer_less),
    ("cardano stake distributions", "artifact/cardano-stake-distribution/", one_lovelace_more),
    ("transaction proofs", "proof/cardano-transaction", other_block),
    ("transaction proofs", "proof/cardano-transaction", other_transaction),
    ("transaction proofs v2", "proof/v2/cardano-transaction", other_slot),
    ("block proofs", "proof/v2/cardano-block", other_slot),
)


def control(row):
    if not DEVNET.is_dir():
        raise Skipped(f"{DEVNET} is absent")
    first = lambda name, field: json.loads((DEVNET / name).read_text())[0][field]  # noqa: E731
    # What it holds of databases cannot be downloaded any more.
    options = ["--without", "database", "--artifacts", "1", "--chain", "12"]
    options += ["--transaction", first("ctx-proofs-list.json", "transaction_hash"), "--block", first("cblk-proofs-list.json", "block_hash")]
    with Recorded(DEVNET) as honest:
        held, steps = verify(row, honest.url, GENESIS_KEY, GENESIS_KEY, *options)
        if not held:
            raise Failed(f"{steps[-1]['step']}: {steps[-1]['seen']}")
        held, refused = verify(row, honest.url, OTHER_KEY, GENESIS_KEY, *options)
        if held or refused[-1]["step"] != "certificates":
            raise Failed("a chain is believed that begins with another genesis key")
    for step, route, change in LIES:
        with Recorded(DEVNET, in_answers(route, change)) as lying:
            held, seen = verify(row, lying.url, GENESIS_KEY, GENESIS_KEY, *options)
        if held or seen[-1]["step"] != step:
            raise Failed(f"{change.__name__} of {route} was to be noticed by {step}, not by {seen[-1]['step']}")
    return f"{len(steps)} steps held; another genesis key and {len(LIES)} changed answers were noticed"


# What the client does against an aggregator that certifies everything.
STEPS = ("era", "certificates", "mithril stake distributions", "cardano stake distributions", "cardano databases", "cardano database download",
         "cardano transactions", "transaction proofs", "cardano blocks and transactions", "transaction proofs v2", "block proofs")
EPOCHS = 3  # whole ones before the client comes


def aggregator(row):
    with Network(row) as network:
        network.wait(EPOCHS)
        transaction, block = network.certified("transaction"), network.certified("block")
        # Genesis, one of each epoch, and one behind it.
        options = ["--chain", str(EPOCHS + 2), "--transaction", transaction, "--block", block]
        held, steps = verify(row, network.url, network.genesis_key, network.ancillary_key, *options)
        if not held:
            raise Failed(f"{steps[-1]['step']}: {steps[-1]['seen']}")
        missing = [step for step in STEPS if step not in (seen["step"] for seen in steps)]
        if missing:
            raise Failed(f"the client did not do: {', '.join(missing)}")
        for genesis_key, ancillary_key, more, refused in (
            (OTHER_KEY, network.ancillary_key, [], "certificates"),
            (network.genesis_key, OTHER_KEY, [], "cardano database download"),
            (network.genesis_key, network.ancillary_key, ["--transaction", "0" * 64], "transaction proofs"),
        ):
            held, seen = verify(row, network.url, genesis_key, ancillary_key, *options, *more)
            if held or seen[-1]["step"] != refused:
                raise Failed(f"{refused} was to be refused, the client ended with {seen[-1]}")
        summary = network.end()
    if summary["epochs_without_every_type"]:
        raise Failed(f"{summary['epochs_without_every_type']} epochs passed without a certificate of every type")
    return f"{len(steps)} steps held over {summary['certificates']} certificates in {summary['epochs_passed']} epochs; two other keys and a transaction that nobody certified were refused"


TYPES = 5
SIGNED_EPOCHS = 2  # in which certificates of every type have to be


def signer(row):
    with Network(row, "--pools", 2, "--external", 1, epoch_seconds=20) as network:
        wait_until(lambda: network.runs() or network.told("pool"), 60, "a pool without a signer")
        network.learn()
        pool, = network.told("pool")
        with Signer(row, SIGNER, pool) as program:

            def signed():
                """Epochs whose certificates of every type have its signature; in the first two this was the network's own signer."""
                network.runs()
                if program.child.ended() is not None:
                    raise Failed(f"the signer ended: {program.child.last_line()}")
                types = {}
                for event in network.told("certificate"):
                    types.setdefault(event["epoch"], set()).add(event["type"])
                begun = min(types, default=0) + 2
                return [epoch for epoch in types if epoch > begun and len(types[epoch]) >= TYPES]

            wait_until(lambda: len(signed()) >= SIGNED_EPOCHS, (SIGNED_EPOCHS + 5) * network.epoch_seconds, "certificates with its signatures")
            epochs = signed()
            certificates = [network.certificate(event) for event in network.told("certificate") if event["epoch"] in epochs]
            without = [one["hash"] for one in certificates if program.party not in (signer["party_id"] for signer in one["metadata"]["signers"])]
            if without:
                raise Failed(f"{program.party} has not signed {without[0]}")
        network.end()
    return f"{len(certificates)} certificates of {TYPES} types in {len(epochs)} epochs, each with its signature"


def rows():
    yield Row("mithril-signer", signer, peers=(SIGNER,), signers=("semel",), seconds_max=300)
    yield Row("mithril", aggregator, peers=(PEER,), signers=("semel",))
    yield Row("mithril-control", control, peers=(PEER,), signers=("semel",))
