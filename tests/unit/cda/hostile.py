"""Narratives that try to run, load or break out; the tests of rendering read this table."""

from __future__ import annotations

from tests.unit.cda.samples import document

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)
_RUN = "window.ran=1;fetch('http://CANARY/ran')"

NARRATIVES: dict[str, str] = {
    "script": f"<script>{_RUN}</script>",
    "script-html": f'<script xmlns="http://www.w3.org/1999/xhtml">{_RUN}</script>',
    "svg": f'<svg xmlns="http://www.w3.org/2000/svg" onload="{_RUN}"><image href="http://CANARY/i"/></svg>',
    "iframe": '<iframe src="http://CANARY/f"/><object data="http://CANARY/o"/><embed src="http://CANARY/e"/>',
    "javascript-link": f'<linkHtml href="javascript:{_RUN}">click</linkHtml>',
    "javascript-mixed": '<linkHtml href=" jAvA&#9;script:alert(1)">click</linkHtml>',
    "data-link": '<linkHtml href="data:text/html,&lt;script&gt;window.ran=1&lt;/script&gt;">x</linkHtml>',
    "outside-link": '<linkHtml href="http://CANARY/link">x</linkHtml>',
    "style-attribute": '<paragraph style="background:url(http://CANARY/s)">x</paragraph>',
    "style-code": '<content styleCode="Bold url(http://CANARY/c) &quot;&gt;&lt;img src=x">x</content>',
    "style-element": "<style>@import 'http://CANARY/css'; body{background:url(http://CANARY/b)}</style>",
    "handler": f'<paragraph onclick="{_RUN}" onmouseover="{_RUN}" ID="p1">x</paragraph>',
    "image": '<img src="http://CANARY/img" onerror="window.ran=1"/>',
    "id-break-out": '<content ID="x&quot; onload=&quot;window.ran=1">x</content>',
    "text-break-out": "<paragraph>&lt;/div&gt;&lt;script&gt;window.ran=1&lt;/script&gt;"
    "&lt;img src=http://CANARY/t&gt;</paragraph>",
    "cdata": "<paragraph><![CDATA[</p><script>window.ran=1</script><!-- ]]></paragraph>",
    "media-outside": '<renderMultiMedia referencedObject="http://CANARY/m"/>',
    "media-svg": '<renderMultiMedia referencedObject="m1"/>',
    "meta": '<meta http-equiv="refresh" content="0;url=http://CANARY/meta"/><base href="http://CANARY/"/>',
    "form": '<form action="http://CANARY/form"><input autofocus="1" onfocus="window.ran=1"/></form>',
    "nested-tables": "<table><tbody><tr><td>" * 40 + "x" + "</td></tr></tbody></table>" * 40,
    "spans": '<table><tbody><tr><td colspan="99999999" rowspan="-1">x</td></tr></tbody></table>',
    "template": "<template><script>window.ran=1</script></template><noscript><p title='&lt;/noscript"
    "&gt;&lt;img src=x onerror=window.ran=1&gt;'/></noscript>",
    "math": '<math xmlns="http://www.w3.org/1998/Math/MathML"><mtext><script>window.ran=1</script></mtext></math>',
}

SVG = "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIG9ubG9hZD0id2luZG93LnJhbj0xIi8+"


def all_together() -> str:
    """Every narrative, each in a section of its own but the first."""
    return "</text></section></component><component><section><text>".join(NARRATIVES.values())


def hostile_document(narrative: str, *, media: str = SVG, title: str = "Titre") -> bytes:
    """A document with this narrative, and a picture ``m1`` in it that claims to be a PNG."""
    body = (
        "<component><structuredBody><component><section>"
        f"<title>{title}</title><text>{narrative}</text></section></component>"
        '<component><section><entry><observationMedia classCode="OBS" moodCode="EVN" ID="m1">'
        f'<value mediaType="image/png" representation="B64">{media}</value>'
        "</observationMedia></entry></section></component></structuredBody></component>"
    )
    return document(body=body).encode()
