"""``ecluse verify``: is everything that was acknowledged still there and on its way?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, facts, say, table

if TYPE_CHECKING:
    from gateway.journal.journal import Journal

SHOWN = 20


def verify(
    config: ConfigOption = None,
    state_folder: StateOption = None,
    *,
    content: Annotated[
        bool,
        typer.Option("--content", help="Read the bytes of every message, too, and hash them."),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Check the account (acknowledged = on its way + delivered + held + unmapped + dead +
    discarded), that nothing is stranded, and the chain of hashes over what was accepted.

    Works while the gateway runs, in bounded memory at any size. Exit 3 when something does
    not fit. Keep the newest digest elsewhere: it shows later that nothing was cut off;
    the newest seal's too, once something was purged.
    """
    from gateway.cli.access import reading

    with reading(settings(config, state_folder)) as journal:
        told = verified(journal, content=content)
    if json_output:
        data(told)
    else:
        _say(told)
    raise typer.Exit(Code.DONE if told["intact"] else Code.FINDINGS)


def verified(journal: Journal, *, content: bool) -> dict[str, Any]:
    """What the checks found; ``intact`` says whether everything fits."""
    from itertools import islice

    from gateway import shapes
    from gateway.journal import chain, consistency, messages

    walked = chain.Verified()
    broken = 0
    shown: list[dict[str, Any]] = []
    with journal.read() as connection:
        ledger = messages.ledger(connection)
        total = {
            name: sum(getattr(line, name) for line in ledger.values())
            for name in ("accepted", "delivered", "pending", "held", "unmapped", "dead",
                         "discarded", "refused", "duplicates")
        }  # fmt: skip
        findings = list(consistency.check(connection))
        faults = chain.verify(connection, walked)
        for fault in islice(faults, SHOWN):
            broken += 1
            shown.append(
                {"chain": fault.chain, "link": fault.number, "messages": fault.ids,
                 "what": fault.what}
            )  # fmt: skip
        broken += sum(1 for _ in faults)
        altered = list(islice(_altered(journal, connection), SHOWN)) if content else []
    somewhere = sum(
        total[name] for name in ("delivered", "pending", "held", "unmapped", "dead", "discarded")
    )
    return {
        "intact": not (findings or broken or altered) and somewhere == total["accepted"],
        **shapes.ledger(ledger),
        "acknowledged": total["accepted"],
        "somewhere": somewhere,
        "findings": [
            {"check": each.check, "what": each.what, "count": each.count,
             "examples": list(each.examples)}
            for each in findings
        ],
        "chain": {"links": walked.links, "messages": walked.messages, "broken": broken,
                  "faults": shown, "newest": walked.newest},
        "purged": {"seals": walked.seals, "messages": walked.sealed_messages,
                   "newest": walked.newest_seal},
        "content": {"read": content, "altered": altered},
    }  # fmt: skip


def _altered(journal: Journal, connection: Any) -> Any:
    """Messages whose bytes do not have the digest that stands in their row, or are not there
    although no purge took them."""
    import hashlib

    from gateway.journal import messages
    from gateway.journal.values import MessageFilter

    before: int | None = None
    while page := messages.page(connection, MessageFilter(), before_id=before, limit=100):
        for message in page:
            try:
                payload = messages.payload(journal, message)
                digest = hashlib.sha256()
                with payload.open() as stream:
                    while block := stream.read(1 << 20):
                        digest.update(block)
                intact = digest.hexdigest() == message.sha256
            except (KeyError, OSError):
                intact = messages.purged(connection, message)
            if not intact:
                yield message.id
        before = page[-1].id


def _say(told: dict[str, Any]) -> None:
    links, purged = told["chain"], told["purged"]
    sealed = f"{purged['messages']} messages, {purged['seals']} seals" if purged["seals"] else ""
    facts(
        [
            ("acknowledged", told["acknowledged"]),
            ("somewhere", told["somewhere"]),
            ("chain", f"{links['links']} links over {links['messages']} messages"),
            ("newest digest", links["newest"] or "none yet"),
            ("purged by policy", sealed),
            ("newest seal", purged["newest"]),
        ]
    )
    for each in told["findings"]:
        numbers = ", ".join(map(str, each["examples"]))
        say(f"{each['count']} {each['what']}: {numbers}")
    if links["faults"]:
        table(
            ["chain", "link", "messages", "what"],
            [(f["chain"], f["link"], f["messages"], f["what"]) for f in links["faults"]],
            numbers=("link",),
        )
        if links["broken"] > len(links["faults"]):
            say(f"and {links['broken'] - len(links['faults'])} more")
    if told["content"]["altered"]:
        numbers = ", ".join(map(str, told["content"]["altered"]))
        say(f"the bytes of these messages are not those that were accepted: {numbers}")
    say("Everything fits." if told["intact"] else "Something does not fit.")
