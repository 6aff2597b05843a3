"""ISO Schematron (ISO/IEC 19757-3:2016) to one XSLT 3.0 stylesheet.

What is taken is what the rules of the CI-SIS use: includes, phases, abstract patterns
and rules, ``extends``, ``let``, ``assert``, ``report``, ``value-of``, ``name``; query
binding ``xslt2``. Anything else in the pack is named as a problem, and the rest goes on.

The stylesheet cannot open anything: ``doc()`` and ``document()`` become a look into the
documents that are handed in with it, and a rule that calls another function which opens
files or addresses is left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from adapters.cda.validation.expressions import (
    BELOW_HEADER,
    documents_named,
    of_header,
    opening,
    with_own_documents,
    without_comments,
)
from adapters.cda.validation.stylesheet import PROLOGUE, quoted, text_node, whole

SCH = "http://purl.oclc.org/dsdl/schematron"
INCLUDES_MAX = 5_000
EXTENDS_MAX = 20
FILE_BYTES_MAX = 16 << 20
RULES_MAX = 50_000
_BASE = "{urn:ecluse:schematron}base"
_LITERAL = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)')\s*""")


class NotASchematron(Exception):
    """The file is no schematron that can be used. The message says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One assertion, as findings name it. ``level`` is its role (error, warning, info)."""

    name: str
    level: str


@dataclass(slots=True)
class Compiled:
    """A stylesheet that writes ``<f n="assertion" p="path">text</f>`` for each failure.

    ``documents`` are the value sets that it may look into, by the name that its rules
    use; ``files`` everything that was read; ``problems`` what was left out and why.
    """

    title: str
    stylesheet: str
    rules: list[Rule]
    documents: dict[str, Path]
    files: list[Path]
    problems: list[str] = field(default_factory=list)


def compile_schematron(path: Path, root: Path) -> Compiled:
    """Compile a schematron whose includes and value sets lie below ``root``.

    Raises NotASchematron when the file itself cannot be read.
    """
    return _Compiler(path, root).compiled()


def _parse(path: Path) -> etree._Element:
    if path.stat().st_size > FILE_BYTES_MAX:
        raise NotASchematron(f"{path.name} is larger than {FILE_BYTES_MAX} bytes")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True,
        remove_pis=True,
    )  # fmt: skip
    return etree.fromstring(path.read_bytes(), parser)


def _sch(name: str) -> str:
    return f"{{{SCH}}}{name}"


class _Compiler:
    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.root = root.resolve()
        self.files: list[Path] = []
        self.problems: list[str] = []
        self.rules: list[Rule] = []
        self.documents: dict[str, Path] = {}
        self.namespaces: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.abstract: dict[str, etree._Element] = {}
        self.named: dict[str, str] = {}
        self.templates: list[str] = []

    def compiled(self) -> Compiled:
        try:
            schema = _parse(self.path)
        except (OSError, etree.XMLSyntaxError) as error:
            raise NotASchematron(f"{self.path.name}: {type(error).__name__}") from None
        if schema.tag != _sch("schema"):
            raise NotASchematron(f"{self.path.name}: the root element is not schema")
        self.files.append(self.path)
        self._include(schema, self.path.parent, 0)
        for ns in schema.iterchildren(_sch("ns")):
            self.namespaces[ns.get("prefix", "")] = ns.get("uri", "")
        stylesheet = self._stylesheet(schema)
        title = " ".join((schema.findtext(_sch("title")) or "").split()) or self.path.stem
        return Compiled(title, stylesheet, self.rules, self.documents, self.files, self.problems)

    # --- includes ---------------------------------------------------------------------

    def _include(self, element: etree._Element, folder: Path, depth: int) -> None:
        for child in list(element):
            if child.tag != _sch("include"):
                self._include(child, folder, depth)
                continue
            content = self._included(child.get("href", ""), folder, depth)
            if content is None:
                element.remove(child)
            else:
                element.replace(child, content)

    def _included(self, href: str, folder: Path, depth: int) -> etree._Element | None:
        target = self._below(folder / href)
        if target is None:
            self.problems.append(f"{self.path.name}: include {href} is not in the pack")
            return None
        if depth > EXTENDS_MAX or len(self.files) >= INCLUDES_MAX:
            self.problems.append(f"{self.path.name}: includes nest too deeply at {href}")
            return None
        try:
            content = _parse(target)
        except (OSError, etree.XMLSyntaxError, NotASchematron) as error:
            self.problems.append(f"{href}: cannot be read ({type(error).__name__})")
            return None
        self.files.append(target)
        content.set(_BASE, target.name)
        self._include(content, target.parent, depth + 1)
        return content

    def _below(self, path: Path) -> Path | None:
        """The file, if it is one and lies in the pack."""
        try:
            resolved = path.resolve()
            inside = resolved.is_relative_to(self.root) and resolved.is_file()
        except OSError:
            return None
        return resolved if inside else None

    # --- abstract patterns and rules --------------------------------------------------

    def _patterns(self, schema: etree._Element) -> Iterator[etree._Element]:
        every = list(schema.iterchildren(_sch("pattern")))
        by_id = {each.get("id", ""): each for each in every}
        active = self._active(schema)
        for pattern in every:
            if pattern.get("abstract") == "true":
                continue
            if active is not None and pattern.get("id") not in active:
                continue
            model = pattern.get("is-a")
            if model is None:
                yield pattern
            elif model in by_id:
                yield _instance(by_id[model], pattern)
            else:
                self.problems.append(
                    f"{self.path.name}: the abstract pattern {model} is not in the pack"
                )

    def _active(self, schema: etree._Element) -> set[str] | None:
        wanted = schema.get("defaultPhase", "#ALL")
        if wanted == "#ALL":
            return None
        for phase in schema.iterchildren(_sch("phase")):
            if phase.get("id") == wanted:
                return {each.get("pattern", "") for each in phase.iterchildren(_sch("active"))}
        self.problems.append(f"{self.path.name}: there is no phase {wanted}; all patterns run")
        return None

    # --- the stylesheet ---------------------------------------------------------------

    def _stylesheet(self, schema: etree._Element) -> str:
        patterns = list(self._patterns(schema))
        self.abstract = {
            rule.get("id", ""): rule
            for rule in schema.iter(_sch("rule"))
            if rule.get("abstract") == "true"
        }
        for holder in (schema, *patterns):
            for let in holder.iterchildren(_sch("let")):
                self._global(let)
        parts = [PROLOGUE]
        for name, value in self.variables.items():
            parts.append(f'<xsl:variable name="{quoted(name)}" select="{quoted(value)}"/>')
        calls: list[str] = []
        for number, pattern in enumerate(patterns):
            written = self._pattern(pattern, f"m{number}")
            if written:
                parts += written
                calls.append(f'<xsl:apply-templates select="/" mode="m{number}"/>')
        parts += self.templates
        parts.append(f'<xsl:template match="/"><r>{"".join(calls)}</r></xsl:template>')
        return whole(parts, self.namespaces)

    def _global(self, let: etree._Element) -> None:
        name, value = let.get("name", ""), let.get("value", "")
        expression = self._expression(value, f"let {name}")
        if expression is None:
            return
        if self.variables.setdefault(name, expression) != expression:
            self.problems.append(f"{self.path.name}: let {name} is given twice with two values")
        literal = _LITERAL.fullmatch(value)
        if literal is not None:
            self._know(literal[1] if literal[1] is not None else literal[2])

    def _pattern(self, pattern: etree._Element, mode: str) -> list[str]:
        rules = [
            rule
            for rule in pattern.iter(_sch("rule"))
            if rule.get("abstract") != "true" and rule.get("context")
        ]
        name = pattern.get("id") or (pattern.get(_BASE) or self.path.name).removesuffix(".sch")
        written = []
        below = BELOW_HEADER if all(of_header(rule.get("context", "")) for rule in rules) else "*"
        for rank, rule in enumerate(rules):
            context = self._expression(rule.get("context", ""), f"the context of a rule in {name}")
            if context is None:
                continue
            body = self._rule(rule, name)
            written.append(
                f'<xsl:template match="{quoted(context)}" mode="{mode}" '
                f'priority="{len(rules) - rank}"><xsl:try rollback-output="no">{body}'
                f'<xsl:catch><xsl:sequence select="ecluse:fault(., $err:code)"/></xsl:catch>'
                f'</xsl:try><xsl:apply-templates select="{below}" mode="#current"/></xsl:template>'
            )
        if written and below != "*":
            written.append(
                f'<xsl:template match="*" mode="{mode}" priority="-5">'
                f'<xsl:apply-templates select="{below}" mode="#current"/></xsl:template>'
            )
        return written

    def _rule(self, rule: etree._Element, pattern: str, depth: int = 0) -> str:
        """The tests of a rule. What it extends is called where it has no ``let``, else copied."""
        parts = []
        where = f"a rule in {pattern}"
        for child in rule:
            if child.tag == _sch("extends"):
                parts.append(self._extended(child.get("rule", ""), pattern, depth))
            elif child.tag == _sch("let"):
                value = self._expression(child.get("value", ""), where)
                if value is not None:
                    parts.append(
                        f'<xsl:variable name="{quoted(child.get("name", ""))}" '
                        f'select="{quoted(value)}"/>'
                    )
            elif child.tag in (_sch("assert"), _sch("report")):
                parts.append(self._assertion(child, rule, pattern))
        return "".join(parts)

    def _extended(self, name: str, pattern: str, depth: int) -> str:
        base = self.abstract.get(name)
        if base is None or depth > EXTENDS_MAX:
            self.problems.append(f"{self.path.name}: the abstract rule {name} is not in the pack")
            return ""
        if any(True for _ in base.iterchildren(_sch("let"))):
            return self._rule(base, pattern, depth + 1)
        template = self.named.get(name)
        if template is None:
            template = self.named[name] = f"a{len(self.named)}"
            body = self._rule(base, name, depth + 1)
            self.templates.append(f'<xsl:template name="{template}">{body}</xsl:template>')
        return f'<xsl:call-template name="{template}"/>'

    def _assertion(self, test_of: etree._Element, rule: etree._Element, pattern: str) -> str:
        where = f"a rule in {pattern}"
        test = self._expression(test_of.get("test", ""), where)
        text = self._text(test_of, where)
        if test is None or text is None or len(self.rules) >= RULES_MAX:
            return ""
        failing = f"not({test}\n)" if test_of.tag == _sch("assert") else test
        role = (test_of.get("role") or rule.get("role") or "error").lower()
        number = len(self.rules)
        self.rules.append(Rule(test_of.get("id") or rule.get("id") or pattern, role))
        return (
            f'<xsl:if test="{quoted(failing)}"><f n="{number}" p="{{path(.)}}">{text}</f></xsl:if>'
        )

    def _text(self, element: etree._Element, where: str) -> str | None:
        """A message as a sequence of text and values."""
        parts = [text_node(element.text)]
        for child in element:
            if child.tag == _sch("value-of"):
                select = self._expression(child.get("select", ""), where)
                if select is None:
                    return None
                parts.append(f'<xsl:value-of select="{quoted(select)}"/>')
            elif child.tag == _sch("name"):
                path = child.get("path")
                parts.append(f'<xsl:value-of select="name({quoted(path) if path else "."})"/>')
            else:
                parts.append(text_node("".join(str(each) for each in child.itertext())))
            parts.append(text_node(child.tail))
        return "".join(parts)

    # --- expressions ------------------------------------------------------------------

    def _expression(self, text: str, where: str) -> str | None:
        """XPath with ``document()`` made ours; None (and a problem) when it would open more."""
        for name in documents_named(text):
            self._know(name)
        bare = without_comments(text)
        opened = opening(bare)
        if opened:
            self.problems.append(
                f"{self.path.name}: {where} calls {opened}(), which could open "
                "something; it is left out"
            )
            return None
        return with_own_documents(bare)

    def _know(self, name: str) -> None:
        """Remember a value set that rules name, with the file that it is."""
        if not name.endswith(".xml") or name in self.documents:
            return
        for folder in (self.path.parent, self.root, *self.path.parents):
            found = self._below(folder / name)
            if found is not None:
                self.documents[name] = found
                self.files.append(found)
                return
        self.problems.append(f"{self.path.name}: the value set {name} is not in the pack")


def _instance(model: etree._Element, pattern: etree._Element) -> etree._Element:
    """An abstract pattern with the parameters of one use of it put in, as text (section 6.3)."""
    values = {
        each.get("name", ""): each.get("value", "") for each in pattern.iterchildren(_sch("param"))
    }
    made = etree.fromstring(etree.tostring(model))
    if values:
        names = "|".join(re.escape(name) for name in sorted(values, key=len, reverse=True))
        uses = re.compile(rf"\$({names})(?![\w.\-])")
        for element in made.iter(etree.Element):
            for name, value in element.attrib.items():
                element.set(name, uses.sub(lambda found: values[found[1]], str(value)))
    made.set("id", pattern.get("id") or model.get("id") or "")
    del made.attrib["abstract"]
    return made
