"""The text of the XSLT 3.0 stylesheet that a schematron becomes: its frame, what every one
begins with, and how values stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

XSL = "http://www.w3.org/1999/XSL/Transform"

OWN = "urn:ecluse:schematron"

_FUNCTIONS = "http://www.w3.org/2005/xpath-functions"

PROLOGUE = """
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


def whole(parts: Iterable[str], namespaces: Mapping[str, str]) -> str:
    """The stylesheet around its parts, with the prefixes that the rules use."""
    prefixes = "".join(
        f' xmlns:{prefix}="{quoted(uri)}"'
        for prefix, uri in namespaces.items()
        if prefix not in ("xml", "xsl", "ecluse", "xs", "map", "err", "")
    )
    head = (
        f'<xsl:stylesheet version="3.0" xmlns:xsl="{XSL}" xmlns:ecluse="{OWN}" '
        f'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:map="{_FUNCTIONS}/map" '
        f'xmlns:err="http://www.w3.org/2005/xqt-errors"{prefixes} '
        f'exclude-result-prefixes="#all">'
    )
    return head + "\n".join(parts) + "</xsl:stylesheet>"


def quoted(text: str) -> str:
    """Text as the value of an XML attribute in double quotes."""
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        .replace("\n", "&#10;").replace("\t", "&#9;")
    )  # fmt: skip


def text_node(text: str | None) -> str:
    """Text as a text node of its own; empty for none."""
    if not text:
        return ""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<xsl:text>{escaped}</xsl:text>"
