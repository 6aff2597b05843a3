"""``id:``: identifiers derived from declared keys and the one who gave them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from gateway.mapping.compiling import At, Compiled, Compiler, Fn, Item, together
from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.findings import Place
from gateway.mapping.looking import Looking, Tokens, recalled
from gateway.mapping.memory import NOTHING, TRANSIENT_MAX, Memo
from gateway.mapping.pruning import Known, pruned
from gateway.mapping.rules import compile_text
from gateway.mapping.running import SEPARATOR, Run, derived_id, named_by
from gateway.mapping.vocabulary import texts
from gateway.ports import Scope, ValueState

Identity = Callable[[Run, Scope, Item, Tokens], str]
"""The id of an entry; raises MappingRejected when there is nothing to derive it from."""

Part = tuple[Fn, Callable[[Tokens], Hashable] | None, int]
"""A rule, what picks its contents from the tokens, and the number of its memory."""

_KEYS = ("key", "authority", "otherwise", "repeated", "note")


@dataclass(slots=True)
class Key:
    """One way to derive an id. ``authority`` is None for keys unique by themselves."""

    parts: list[Compiled]
    authority: list[Compiled] | None


@dataclass(slots=True)
class Keys:
    """All ways, in order; ``same``: a second entry of one key is the same thing."""

    keys: list[Key]
    otherwise: list[Compiled]
    same: bool

    def rules(self) -> list[Compiled]:
        """Every rule that a key is made of."""
        found = list(self.otherwise)
        for key in self.keys:
            found += [*key.parts, *(key.authority or ())]
        return found


def compile_identity(c: Compiler, node: Table, kind: str, at: At) -> Keys | None:
    """Compile the ``id:`` of an entry; None when it is wrong (reported)."""
    rule = node.get("id")
    keys: list[Key] = []
    otherwise: list[Compiled] = []
    same = False
    for item in rule.items if isinstance(rule, Many) else (rule,):
        if not isinstance(item, Table):
            c.error(node.place, "missing-key", f"{kind} needs id: {{key: […], authority: […]}}")
            return None
        c.unknown_keys(item, _KEYS, "id:")
        parts, authority = _parts(c, item, "key", at), _authority(c, item, at)
        if not parts or authority is False:
            return None
        keys.append(Key(parts, authority if isinstance(authority, list) else None))
        if item.get("otherwise") is not None:
            otherwise = _parts(c, item, "otherwise", at) or []
        repeated = c.text(item, "repeated") or "number"
        if repeated not in ("number", "same"):
            c.error(item.items["repeated"].place, "wrong-shape", "repeated: is number or same")
        same = same or repeated == "same"
    return Keys(keys, otherwise, same)


def _parts(c: Compiler, rule: Table, name: str, at: At) -> list[Compiled] | None:
    node = rule.get(name)
    if node is None:
        c.error(rule.place, "missing-key", f"id: needs {name}:")
        return None
    items = node.items if isinstance(node, Many) else (node,)
    if not items:
        c.error(node.place, "wrong-shape", f"{name}: has nothing in it")
    found = [_part(c, item, at, f"id.{name}") for item in items]
    parts = [part for part in found if part is not None]
    return parts if len(parts) == len(found) else None


def _part(c: Compiler, node: Node, at: At, path: str) -> Compiled | None:
    """One part of a key: a path, the first of several, or any rule that gives a text."""
    if isinstance(node, Text):
        return _plain(c, node, at)
    if isinstance(node, Table) and set(node.items) == {"first"}:
        listed = node.items["first"]
        if isinstance(listed, Many) and listed.items:
            parts = [_part(c, item, at, path) for item in listed.items]
            found = [part for part in parts if part is not None]
            return _first(found) if len(found) == len(parts) else None
    return compile_text(c, node, at, path)


def _plain(c: Compiler, node: Text, at: At) -> Compiled | None:
    """The text at a path, trimmed. A key takes it as it is: nothing to convert or to flag."""
    reader = c.reader(node, at)
    if reader is None:
        return None
    read, content, place = reader.read, reader.content, node.place
    text_of = reader.text_of
    if text_of is not None and not c.traced:

        def quick(_run: Run, scope: Scope, _item: Item) -> str | None:
            return text_of(scope).strip() or None

        return Compiled(quick, needs=reader.needs, reads=reader.reads, bare=quick)

    def bare(run: Run, scope: Scope, item: Item) -> str | None:
        for value in read(scope, item):
            if value.state is ValueState.PRESENT:
                if run.trace is not None:
                    run.note(place, value.path, ("key",))
                return value.text.strip() or None
        return None

    def run(run: Run, scope: Scope, item: Item) -> str | None:
        return bare(run, scope, item) if content is None or content(scope) else None

    return Compiled(run, needs=reader.needs, reads=reader.reads, bare=bare)


def _first(parts: list[Compiled]) -> Compiled:
    gets = tuple(part.run for part in parts)

    def run(run: Run, scope: Scope, item: Item) -> Any:
        for get in gets:
            value = get(run, scope, item)
            if value is not None:
                return value
        return None

    def prune(known: Known) -> Compiled | None:
        left = [part for part in (pruned(part, known) for part in parts) if part is not None]
        return _first(left) if left else None

    reads = together(part.reads for part in parts)
    needs = together(part.needs for part in parts)
    return Compiled(run, needs=needs, reads=reads, parts=parts, prune=prune)


def _authority(c: Compiler, rule: Table, at: At) -> list[Compiled] | bool:
    """The rules of ``authority:``; True for ``worldwide``, False when wrong (reported)."""
    node = rule.get("authority")
    if node is None:
        c.error(
            rule.place,
            "missing-key",
            "id: needs authority: the one who gave the key",
            "a list of paths, or worldwide for keys that are unique by themselves",
        )
        return False
    if isinstance(node, Text) and node.text == "worldwide":
        return True
    parts = _parts(c, rule, "authority", at)
    return parts if parts is not None else False


def look_up(
    c: Compiler, kind: str, keys: Keys, looking: Looking, *, place: Place, known: Known | None
) -> Identity:
    """The closure of an id, given the tokens of the entry's scope and what is known of them."""
    ways = [
        (tuple(_recalling(c, part, looking, known) for part in key.parts),
         _owner(c, key, looking, known))
        for key in keys.keys
    ]  # fmt: skip
    otherwise = [rule.run for rule in keys.otherwise]

    def identity(run: Run, scope: Scope, item: Item, tokens: Tokens) -> str:
        for parts, owner in ways:
            said = False
            by = kind
            for part in parts:
                if part is None:
                    by += SEPARATOR
                    continue
                get, pick, number = part
                if pick is None:
                    text = get(run, scope, item) or ""
                else:
                    memo: Memo = run.lasting[number]
                    found = memo.known.get(pick(tokens))
                    if found is None:
                        text = _text(run, scope, item, tokens, part)
                    else:
                        memo.hits += 1
                        text = "" if found is NOTHING else found
                if text:
                    said = True
                by += SEPARATOR + text
            if said:
                owned = _text(run, scope, item, tokens, owner) if owner is not None else ""
                return named_by(f"{kind}{SEPARATOR}{owned}{by[len(kind) :]}")
        last = [rule(run, scope, item) or "" for rule in otherwise]
        if not any(last):
            what = "nothing to derive an identifier from"
            raise run.reject(place, f"{kind}.id", scope.path, what)
        run.flag("weak-identity", place, f"{kind}.id", scope.path)
        return derived_id(kind, f"source:{run.source}", "otherwise", *last)

    return identity


def name_elsewhere(kind: str, keys: Keys) -> Fn:
    """The closure of ``Type/id`` for an entry that another message makes; None without a key."""
    ways = [
        (
            tuple(part.run for part in key.parts),
            None if key.authority is None else tuple(part.run for part in key.authority),
        )
        for key in keys.keys
    ]

    def name(run: Run, scope: Scope, item: Item) -> str | None:
        for parts, authority in ways:
            found = [get(run, scope, item) or "" for get in parts]
            if any(found):
                by = "" if authority is None else _first_owner(run, scope, item, authority)
                return f"{kind}/{derived_id(kind, by, *found)}"
        return None

    return name


def _first_owner(run: Run, scope: Scope, item: Item, authority: tuple[Fn, ...]) -> str:
    """The authority as it goes into a key: the first that is said, else the source."""
    for get in authority:
        name = get(run, scope, item)
        if name is not None:
            return owner_of(run, name.strip())
    return f"source:{run.source}"


def _text(run: Run, scope: Scope, item: Item, tokens: Tokens, part: Part) -> str:
    """A part of a key, made once for each content of its paths."""
    get, pick, number = part
    if pick is None:
        return get(run, scope, item) or ""
    text: str | None = recalled(run, scope, item, get, pick(tokens), number, TRANSIENT_MAX)
    return text or ""


def _recalling(c: Compiler, part: Compiled, looking: Looking, known: Known | None) -> Part | None:
    """What is left of a part of a key, with the places of its contents; None for nothing."""
    left = part if known is None else pruned(part, known)
    if left is None:
        return None
    number = c.memos
    c.memos += 1
    places = None if c.traced else looking.at(left.reads)  # a note tells of one reading
    return left.bare or left.run, looking.tokens_at(places) if places else None, number


def _owner(c: Compiler, key: Key, looking: Looking, known: Known | None) -> Part | None:
    """The authority as it goes into a key; None for keys that are unique by themselves."""
    if key.authority is None:
        return None
    left = key.authority
    if known is not None:
        left = [part for part in (pruned(part, known) for part in left) if part is not None]
    rules = tuple(rule.run for rule in left)

    def owner(run: Run, scope: Scope, item: Item) -> str:
        return _first_owner(run, scope, item, rules)

    reads = together(rule.reads for rule in left)
    return _recalling(c, Compiled(owner, reads=reads), looking, None)


def owner_of(run: Run, name: str) -> str:
    """An authority as it goes into a key: worldwide by itself, else with the source's name."""
    known = run.authorities.get(name, name)
    if texts.is_worldwide(known):
        return texts.identifier_system(known, {}) or known
    return f"{name}\x1fsource:{run.source}"
