"""Of the doctor: whether the mailboxes can be opened, and how much waits in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from gateway.cli.checks import Check, Level


def mailbox_checks(sources: Iterable[object]) -> Iterator[Check]:
    """Log in to each mailbox and look into it; nothing in it is changed."""
    from adapters.mail.mailbox import Mailbox, MailboxFault
    from adapters.mail.settings import ImapSourceSettings
    from adapters.tls import ClientTls, TlsUnusable

    for each in sources:
        if not isinstance(each, ImapSourceSettings):
            continue
        name = f"mailbox {each.name}"
        try:
            tls = ClientTls(each.tls) if each.security != "none" else None
            with contextlib.closing(Mailbox(each, tls, prepare=False)) as mailbox:
                _, waiting = mailbox.look()
        except TlsUnusable:
            continue  # the check of its certificates says why
        except MailboxFault as fault:
            yield Check(name=name, level=Level.ERROR, found=f"{each.server}: {fault}",
                        advice="Mails stay in it until then; look at server, user, "
                        "password_file and tls.")  # fmt: skip
        else:
            yield Check(name=name, level=Level.OK, found=f"{each.server}, {len(waiting)} wait")
