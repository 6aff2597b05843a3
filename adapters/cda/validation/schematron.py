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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

SCH = "http://purl.oclc.org/dsdl/schematron"
XSL = "http://www.w3.org/1999/XSL/Transform"
OWN = "urn:ecluse:schematron"
_FUNCTIONS = "http://www.w3.org/2005/xpath-functions"
INCLUDES_MAX = 5_000
EXTENDS_MAX = 20
FILE_BYTES_MAX = 16 << 20
RULES_MAX = 50_000
_BASE = "{urn:ecluse:schematron}base"
_DOCUMENT = re.compile(r"(?:fn:)?(?:document|doc)(?=\s*\()")
_OPENING = re.compile(
    r"(?:[\w.-]+:)?(?:unparsed-text(?:-lines|-available)?|(?:uri-)?collection|json-doc|transform"
    r"|load-xquery-module|environment-variable|available-environment-variables|doc-available"
    r"|parse-xml(?:-fragment)?|function-lookup|evaluate|system-property)(?=\s*[(#])|(?:document|doc)#"
)
_NAMED = re.compile(r"""\b(?:document|doc)\s*\(\s*(?:"([^"]*)"|'([^']*)')""")
_COMMENT = re.compile(r"""("[^"]*"|'[^']*')|\(:.*?:\)""", re.DOTALL)
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
        parts = [_PROLOGUE]
        for name, value in self.variables.items():
            parts.append(f'<xsl:variable name="{_quoted(name)}" select="{_quoted(value)}"/>')
        calls: list[str] = []
        for number, pattern in enumerate(patterns):
            written = self._pattern(pattern, f"m{number}")
            if written:
                parts += written
                calls.append(f'<xsl:apply-templates select="/" mode="m{number}"/>')
        parts += self.templates
        parts.append(f'<xsl:template match="/"><r>{"".join(calls)}</r></xsl:template>')
        prefixes = "".join(
            f' xmlns:{prefix}="{_quoted(uri)}"'
            for prefix, uri in self.namespaces.items()
            if prefix not in ("xml", "xsl", "ecluse", "xs", "map", "err", "")
        )
        head = (
            f'<xsl:stylesheet version="3.0" xmlns:xsl="{XSL}" xmlns:ecluse="{OWN}" '
            f'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:map="{_FUNCTIONS}/map" '
            f'xmlns:err="http://www.w3.org/2005/xqt-errors"{prefixes} '
            f'exclude-result-prefixes="#all">'
        )
        return head + "\n".join(parts) + "</xsl:stylesheet>"

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
        below = _BELOW_HEADER if all(_of_header(rule.get("context", "")) for rule in rules) else "*"
        for rank, rule in enumerate(rules):
            context = self._expression(rule.get("context", ""), f"the context of a rule in {name}")
            if context is None:
                continue
            body = self._rule(rule, name)
            written.append(
                f'<xsl:template match="{_quoted(context)}" mode="{mode}" '
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
                        f'<xsl:variable name="{_quoted(child.get("name", ""))}" '
                        f'select="{_quoted(value)}"/>'
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
            f'<xsl:if test="{_quoted(failing)}"><f n="{number}" p="{{path(.)}}">{text}</f></xsl:if>'
        )

    def _text(self, element: etree._Element, where: str) -> str | None:
        """A message as a sequence of text and values."""
        parts = [_text_node(element.text)]
        for child in element:
            if child.tag == _sch("value-of"):
                select = self._expression(child.get("select", ""), where)
                if select is None:
                    return None
                parts.append(f'<xsl:value-of select="{_quoted(select)}"/>')
            elif child.tag == _sch("name"):
                path = child.get("path")
                parts.append(f'<xsl:value-of select="name({_quoted(path) if path else "."})"/>')
            else:
                parts.append(_text_node("".join(str(each) for each in child.itertext())))
            parts.append(_text_node(child.tail))
        return "".join(parts)

    # --- expressions ------------------------------------------------------------------

    def _expression(self, text: str, where: str) -> str | None:
        """XPath with ``document()`` made ours; None (and a problem) when it would open more."""
        for found in _NAMED.finditer(text):
            self._know(found[1] or found[2])
        bare = _COMMENT.sub(lambda found: found[1] or " ", text)
        opened = _OPENING.search(_outside_literals(bare, str, keep=False))
        if opened is not None:
            self.problems.append(
                f"{self.path.name}: {where} calls {opened[0].rstrip('#')}(), which could open "
                "something; it is left out"
            )
            return None
        return _outside_literals(bare, lambda code: _DOCUMENT.sub("ecluse:document", code))

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


_PROLOGUE = """
<xsl:output method="xml" omit-xml-declaration="yes" indent="no"/>
<xsl:param name="ecluse:documents" as="map(*)" select="map{}"/>
<xsl:function name="ecluse:document" as="document-node()?">
  <xsl:param name="name"/>
  <xsl:sequence select="if (map:contains($ecluse:documents, string($name)))
    then $ecluse:documents(string($name)) else error(xs:QName('ecluse:missing'))"/>
</xsl:function>
<xsl:function name="ecluse:fault" as="element()">
  <xsl:param name="node"/><xsl:param name="code"/>
  <f n="-1" p="{path($node)}"><xsl:value-of select="local-name-from-QName($code)"/></f>
</xsl:function>
<xsl:template match="/|*" mode="#all" priority="-9">
  <xsl:apply-templates select="*" mode="#current"/>
</xsl:template>
"""
"""The root's own template has the unnamed mode, in which no other rule is."""


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


_BELOW_HEADER = "self::*[not(self::*:structuredBody)]/*"
"""Where a walk goes that has nothing to look for in the sections and their entries."""
_HEADER_PATH = re.compile(
    r"(?://?)?[\w.-]+:ClinicalDocument(?:/[\w.-]+:[\w.-]+)*(?:/\*)?|/", re.ASCII
)


def _of_header(context: str) -> bool:
    """Whether a rule's context cannot be a node below ``structuredBody``: it is a path of named
    children from the document down, without that name, and only its last step may be ``*``."""
    depth, plain = 0, []
    for character in _outside_literals(context, str, keep=False):
        depth += (character == "[") - (character == "]")
        if depth == 0 and character != "]" and not character.isspace():
            plain.append(character)
    paths = "".join(plain).split("|")
    return all(_HEADER_PATH.fullmatch(path) and "structuredBody" not in path for path in paths)


def _outside_literals(text: str, change: Callable[[str], str], *, keep: bool = True) -> str:
    parts = re.split(r"""("[^"]*"|'[^']*')""", text)
    return "".join(
        (part if keep else '""') if place % 2 else change(part) for place, part in enumerate(parts)
    )


def _quoted(text: str) -> str:
    """Text as the value of an XML attribute in double quotes."""
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        .replace("\n", "&#10;").replace("\t", "&#9;")
    )  # fmt: skip


def _text_node(text: str | None) -> str:
    if not text:
        return ""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<xsl:text>{escaped}</xsl:text>"
