"""``as: Attachment``: bytes out of a message, looked at, kept beside the entries."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from gateway.mapping.compiling import At, Compiler, Item
from gateway.mapping.conversions import COMPOUNDS, Converter
from gateway.mapping.document import Many, Node, Table
from gateway.mapping.running import HandedOver, Run
from gateway.mapping.targets import Target, text_target
from gateway.mapping.vocabulary import documents
from gateway.model import Attachment, Embedded, Format
from gateway.ports import Scope, Value

OPTIONS = ("encoding", "declared", "title", "creation", "language", "hand_over")

Option = Callable[[Run, Scope, Item], Any]


def _option(c: Compiler, rule: Table, key: str, kind: str, at: At) -> Option | None:
    """The value of an option that is a rule; a function that gives None without it."""
    node = rule.get(key)
    if node is None:
        return lambda _run, _scope, _item: None
    from gateway.mapping.rules import compile_rule

    compiled = compile_rule(c, node, Target(f"attachment.{key}", key, (kind,)), at)
    return compiled.run if compiled is not None else None


def _declared(c: Compiler, rule: Table, at: At) -> Callable[[Run, Scope, Item], list[str]] | None:
    node = rule.get("declared")
    if node is None:
        return lambda _run, _scope, _item: []
    from gateway.mapping.rules import compile_rule

    nodes: tuple[Node, ...] = node.items if isinstance(node, Many) else (node,)
    found = [compile_rule(c, part, text_target("attachment.declared"), at) for part in nodes]
    rules = [part.run for part in found if part is not None]
    if len(rules) < len(nodes):
        return None
    return lambda run, scope, item: [text for get in rules if (text := get(run, scope, item))]


def _attachment(c: Compiler, rule: Table, target: Target, at: At) -> Converter | None:
    """Options: ``encoding``, ``declared``, ``title``, ``creation``, ``language``, ``hand_over``."""
    encoding = _option(c, rule, "encoding", "string", at)
    declared = _declared(c, rule, at)
    title = _option(c, rule, "title", "string", at)
    creation = _option(c, rule, "creation", "dateTime", at)
    language = _option(c, rule, "language", "code", at)
    formats = c.texts(rule.get("hand_over"))
    for name in formats:
        if name.text != documents.CDA:
            c.error(name.place, "hand-over", f"no format {name.text!r} is handed over", "cda")
    hand_over = any(name.text == documents.CDA for name in formats)
    if not (encoding and declared and title and creation and language):
        return None
    decode_as, declares = encoding, declared
    extras = (("language", language), ("title", title), ("creation", creation))

    def convert(run: Run, scope: Scope, item: Item, value: Value) -> dict[str, Any] | None:
        described_as = documents.declared_type(declares(run, scope, item))
        named = {key: get(run, scope, item) for key, get in extras}
        data, note = documents.decode(value.raw(), decode_as(run, scope, item) or "")
        if not data:
            return None
        if note:
            run.pending.append(note)
        found, is_cda = documents.sniff(data)
        if documents.disagrees(described_as, found):
            run.pending.append("content-mismatch")
        if is_cda and hand_over:
            run.flush(rule.place, target.path, value.path)
            raise HandedOver(Embedded(format=Format.CDA, data=data, source=value.path))
        return described(run, data, found, named)

    return Converter(convert, "Attachment", ("Attachment",), "the bytes may not be decodable")


def described(run: Run, data: bytes, media_type: str, extras: dict[str, Any]) -> dict[str, Any]:
    """Keep the bytes with the run and give the FHIR Attachment that points to them."""
    sha256 = hashlib.sha256(data).hexdigest()
    run.attachments[sha256] = Attachment(sha256=sha256, media_type=media_type, data=data)
    sha1 = hashlib.sha1(data).digest()  # noqa: S324 - FHIR R4 defines Attachment.hash as SHA-1
    made = {
        "contentType": media_type,
        "url": f"Binary/{sha256}",
        "size": len(data),
        "hash": base64.b64encode(sha1).decode(),
    }
    made.update({key: value for key, value in extras.items() if value is not None})
    return made


def _cda_document_id(c: Compiler, rule: Table, _target: Target, at: At) -> Converter | None:
    """``root`` or ``root^extension`` of the CDA in the bytes; nothing for other bytes."""
    encoding = _option(c, rule, "encoding", "string", at)
    if encoding is None:
        return None

    def convert(run: Run, scope: Scope, item: Item, value: Value) -> str | None:
        data, _ = documents.decode(value.raw(), encoding(run, scope, item) or "")
        return documents.cda_document_id(data)

    return Converter(convert, "string", ("CdaDocumentId",), "the bytes may not be decodable")


COMPOUNDS["CdaDocumentId"] = (("string",), _cda_document_id)
COMPOUNDS["Attachment"] = (("Attachment",), _attachment)
