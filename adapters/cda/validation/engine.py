"""The process in which documents are judged: ``python -m adapters.cda.validation.engine``.

It reads requests from standard input and writes answers to standard output, each a line
of JSON, with the bytes that the line announces after it. Once the schema is loaded it
gives away the right to open anything (no file descriptor more, ``setrlimit(2)``): neither
a rule nor a document can then read a file, write one or reach an address. Value sets and
stylesheets come through the pipe. Memory is limited by the same call; time by whoever
started it, who may kill it at any moment: it holds nothing.
"""

from __future__ import annotations

import contextlib
import sys
from collections import OrderedDict
from itertools import islice
from typing import Any, BinaryIO

import orjson
from lxml import etree

from adapters.cda.document import DEFAULT_LIMITS, Document, Limits, read_document
from adapters.cda.prolog import NotReadable
from adapters.cda.structure import V3, name_of
from adapters.cda.validation.findings import Finding, Level
from adapters.cda.validation.national import check as check_national
from adapters.cda.validation.places import element_at, line_of, place
from gateway.model import Payload

LOADED_MAX = 16
"""Schematrons that are held compiled; the longest unused one goes first."""
MEMORY_BYTES_MAX = 3 << 30
LONG_TEXT = 1 << 16
LONG_TEXT_KEPT = 64
_SCHEMA_ERRORS_MAX = 200


class Judge:
    """What the process holds between requests."""

    def __init__(self) -> None:
        self.schema: etree.XMLSchema | None = None
        self.loaded: OrderedDict[str, _Rules] = OrderedDict()
        self.document: Document | None = None
        self.saxon = _Saxon()

    def load_schema(self, path: str) -> dict[str, Any]:
        """Load the XML schema; only possible before :meth:`seal`."""
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        try:
            self.schema = etree.XMLSchema(etree.parse(path, parser))
        except (OSError, etree.XMLSyntaxError, etree.XMLSchemaParseError) as error:
            return {"problem": f"the schema cannot be loaded ({type(error).__name__})"}
        return {}

    def seal(self, memory_bytes_max: int, *, schematrons: bool) -> dict[str, Any]:
        """Open nothing more, and take no more memory than that."""
        if schematrons:
            self.saxon.start()
        if sys.platform != "win32":
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes_max, memory_bytes_max))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        return {}

    def load_rules(self, name: str, content: bytes) -> dict[str, Any]:
        """Compile a stylesheet; ``{"problem"}`` when Saxon does not take it."""
        said = orjson.loads(content)
        try:
            self.loaded[name] = self.saxon.rules(said)
        except Exception as error:  # noqa: BLE001  whatever the pack's rules do to Saxon
            return {"problem": _first_line(error)}
        while len(self.loaded) > LOADED_MAX:
            self.loaded.popitem(last=False)
        return {}

    def read(self, content: bytes, request: dict[str, Any]) -> dict[str, Any]:
        """Take a document; what is needed to choose its rules, and the first findings."""
        self.document = None
        payload = Payload.from_bytes(content)
        limits = Limits(**request["limits"]) if request.get("limits") else DEFAULT_LIMITS
        try:
            document = read_document(payload, encoding=request["encoding"], limits=limits)
        except NotReadable as fault:
            return {"unreadable": {"text": str(fault), "place": fault.location,
                                   "code": str(fault.code)}}  # fmt: skip
        self.document = document
        findings = check_national(document)
        if self.schema is not None:
            findings += self._by_schema(document.root)
        root = document.root
        return {
            "findings": [_plain(each) for each in findings],
            "templates": [
                [each.get("root", ""), each.get("extension", "")]
                for each in root.iterchildren(f"{{{V3}}}templateId")
            ][:50],
            "structured": root.find(f"{{{V3}}}component/{{{V3}}}structuredBody") is not None,
            "loaded": list(self.loaded),
        }

    def judge(self, names: list[str]) -> dict[str, Any]:
        """Run schematrons that are loaded over the document that was read."""
        document, self.document = self.document, None
        if document is None or not names:
            return {"findings": [], "problems": []}
        root = document.root
        shortened(root)
        tree = self.saxon.document(root)
        findings: list[dict[str, Any]] = []
        problems: list[str] = []
        for name in names:
            rules = self.loaded[name]
            self.loaded.move_to_end(name)
            try:
                answer = rules.run(tree)
            except Exception as error:  # noqa: BLE001  Saxon's own error says which rule
                problems.append(f"{rules.title}: {_first_line(error)}")
                continue
            for each in etree.fromstring(answer.encode("utf-8"), _ANSWERS).iter("f"):
                _told(each, rules, root, findings, problems)
        return {"findings": findings, "problems": list(dict.fromkeys(problems))}

    def _by_schema(self, root: etree._Element) -> list[Finding]:
        assert self.schema is not None
        # A document inside another (signed, self-presenting) is judged by itself.
        tree = etree.ElementTree(root)
        if self.schema.validate(tree):
            return []
        found = []
        log: Any = self.schema.error_log
        for entry in islice(log, _SCHEMA_ERRORS_MAX):
            text = entry.message.replace(f"{{{V3}}}", "")
            # Values of the document are in libxml2's sentences: the schema's part is enough.
            found.append(
                Finding(
                    origin="XSD", rule=entry.type_name.removeprefix("SCHEMAV_"),
                    level=Level.ERROR, text=f"Non conforme au schéma CDA : {text}",
                    xpath=_schema_place(root, entry.path or ""), line=entry.line,
                )
            )  # fmt: skip
        return found


_ANSWERS = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)


class _Rules:
    def __init__(self, title: str, rules: list[list[str]], executable: Any) -> None:
        self.title = title
        self.rules = rules
        self.executable = executable

    def run(self, tree: Any) -> str:
        self.executable.set_global_context_item(xdm_item=tree)
        return str(self.executable.apply_templates_returning_string(xdm_value=tree))


class _Saxon:
    """SaxonC-HE, which is started where there is a pack."""

    def __init__(self) -> None:
        self._processor: Any = None

    def start(self) -> None:
        """Load the library; without it only schema and our own rules are there."""
        try:
            from saxonche import PySaxonProcessor
        except ImportError:
            return
        processor = PySaxonProcessor(license=False)
        processor.set_configuration_property("http://saxon.sf.net/feature/allowedProtocols", "")
        self._compiler = processor.new_xslt30_processor()
        self._processor = processor
        processor.parse_xml(xml_text="<a/>")  # what is loaded late must be loaded before the seal

    def rules(self, said: dict[str, Any]) -> _Rules:
        """A stylesheet ready to run, with the value sets that it looks into."""
        if self._processor is None:
            raise RuntimeError("SaxonC-HE is not installed: pip install ecluse[schematron]")
        processor = self._processor
        executable = self._compiler.compile_stylesheet(stylesheet_text=said["stylesheet"])
        documents = {
            processor.make_string_value(name): processor.parse_xml(xml_text=text)
            for name, text in said["documents"].items()
        }
        if documents:
            name = "{urn:ecluse:schematron}documents"
            executable.set_parameter(name, processor.make_map(documents))
        return _Rules(said["title"], said["rules"], executable)

    def document(self, root: etree._Element) -> Any:
        """The ClinicalDocument as Saxon's tree."""
        assert self._processor is not None
        return self._processor.parse_xml(xml_text=etree.tostring(root, encoding="unicode"))


def shortened(root: etree._Element) -> None:
    """Cut the texts of megabytes (a PDF in Base64): no rule reads further than their beginning."""
    for element in root.iter(etree.Element):
        if element.text is not None and len(element.text) > LONG_TEXT:
            element.text = element.text[:LONG_TEXT_KEPT]


def _told(
    element: etree._Element, rules: _Rules, root: etree._Element,
    findings: list[dict[str, Any]], problems: list[str],
) -> None:  # fmt: skip
    number = int(element.get("n", "-1"))
    if number < 0:
        what = {
            "missing": "a value set is not in the pack, so that rules which need it say nothing"
        }
        problems.append(f"{rules.title}: {what.get(element.text or '', element.text)}")
        return
    name, level = rules.rules[number]
    path = element.get("p", "")
    at = element_at(root, path)
    findings.append(
        {
            "origin": rules.title, "rule": name, "level": _level(level),
            "text": " ".join((element.text or "").split()),
            "xpath": place(at) if at is not None else path,
            "line": line_of(at) if at is not None else 0,
        }
    )  # fmt: skip


def _level(role: str) -> str:
    if role in ("warning", "warn"):
        return Level.WARNING.value
    return Level.INFO.value if role in ("info", "information", "hint") else Level.ERROR.value


def _schema_place(root: etree._Element, path: str) -> str:
    """libxml2's path, ``/*/*[3]/*``, in names."""
    at: etree._Element | None = root
    for step in path.split("/")[2:]:
        number = int(step[2:-1]) if step.startswith("*[") else 1
        at = next((e for n, e in enumerate(at or (), 1) if n == number), None)
        if at is None:
            return "/" + name_of(str(root.tag))
    return place(at) if at is not None else ""


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "origin": finding.origin, "rule": finding.rule, "level": finding.level.value,
        "text": finding.text, "xpath": finding.xpath, "line": finding.line,
    }  # fmt: skip


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the other end is closed."""
    judge = Judge()
    while line := requests.readline():
        request = orjson.loads(line)
        content = requests.read(request["size"]) if request.get("size") else b""
        match request["do"]:
            case "schema":
                answer = judge.load_schema(request["path"])
            case "seal":
                answer = judge.seal(request["memory_bytes_max"], schematrons=request["schematrons"])
            case "rules":
                answer = judge.load_rules(request["name"], content)
            case "read":
                answer = judge.read(content, request)
            case _:
                answer = judge.judge(request["names"])
        del content
        answers.write(orjson.dumps(answer) + b"\n")
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, sys.stdout.buffer)
