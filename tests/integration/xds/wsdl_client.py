"""A client of XDS.b that another project's library makes of IHE's own WSDLs (zeep, MIT).

The schema of ``urn:ihe:iti:xds-b:2007`` is not beside the WSDLs; the few elements of it that the
transactions have (ITI TF-2 3.41 and 3.43) are declared here. zeep knows no substitution groups, and
loses what recursive types inherit (Classification in RegistryObject): in the copy that it reads, what
a list of registry objects may hold is spelled out, and what is submitted is any XML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zeep
import zeep.cache
import zeep.transports
from lxml import etree

XCF = """<schema xmlns="http://www.w3.org/2001/XMLSchema"
  targetNamespace="urn:ihe:iti:xds-b:2007"><element name="Document" type="base64Binary"/></schema>"""
XML_LANG = """<schema xmlns="http://www.w3.org/2001/XMLSchema"
  targetNamespace="http://www.w3.org/XML/1998/namespace"><attribute name="lang" type="language"/></schema>"""
IHEXDSB = """<schema xmlns="http://www.w3.org/2001/XMLSchema" elementFormDefault="qualified"
  targetNamespace="urn:ihe:iti:xds-b:2007" xmlns:ihe="urn:ihe:iti:xds-b:2007"
  xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
  xmlns:rs="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0">
  <include schemaLocation="xcf.xsd"/>
  <import namespace="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0" schemaLocation="../ebRS30/lcm.xsd"/>
  <import namespace="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" schemaLocation="../ebRS30/rs.xsd"/>
  <element name="ProvideAndRegisterDocumentSetRequest"><complexType><sequence>
    <element ref="lcm:SubmitObjectsRequest"/>
    <element name="Document" minOccurs="0" maxOccurs="unbounded"><complexType><simpleContent>
      <extension base="base64Binary"><attribute name="id" type="anyURI" use="required"/></extension>
    </simpleContent></complexType></element>
  </sequence></complexType></element>
  <element name="RetrieveDocumentSetRequest"><complexType><sequence>
    <element name="DocumentRequest" maxOccurs="unbounded"><complexType><sequence>
      <element name="HomeCommunityId" type="string" minOccurs="0"/>
      <element name="RepositoryUniqueId" type="string"/><element name="DocumentUniqueId" type="string"/>
    </sequence></complexType></element>
  </sequence></complexType></element>
  <element name="RetrieveDocumentSetResponse"><complexType><sequence>
    <element ref="rs:RegistryResponse"/>
    <element name="DocumentResponse" minOccurs="0" maxOccurs="unbounded"><complexType><sequence>
      <element name="HomeCommunityId" type="string" minOccurs="0"/>
      <element name="RepositoryUniqueId" type="string"/><element name="DocumentUniqueId" type="string"/>
      <element name="mimeType" type="string"/><element name="Document" type="base64Binary"/>
    </sequence></complexType></element>
  </sequence></complexType></element>
</schema>"""
OBJECTS = ("ExtrinsicObject", "RegistryPackage", "Association", "Classification", "ObjectRef")


def laid_out(corpus: Path, folder: Path, *, spelled_out: bool) -> Path:
    """WSDLs and schemas in the places in which they name one another."""
    for name in ("schema/IHE", "schema/ebRS30"):
        (folder / name).mkdir(parents=True)
    (folder / "schema/xml.xsd").write_text(XML_LANG, encoding="utf-8")
    (folder / "schema/IHE/xcf.xsd").write_text(XCF, encoding="utf-8")
    own = IHEXDSB
    if spelled_out:
        own = own.replace(
            '<element ref="lcm:SubmitObjectsRequest"/>',
            '<any namespace="##other" processContents="skip"/>',
        )
    (folder / "schema/IHE/IHEXDSB.xsd").write_text(own, encoding="utf-8")
    for path in corpus.iterdir():
        text = path.read_text(encoding="utf-8")
        if path.name == "rim.xsd" and spelled_out:
            one = '<element maxOccurs="unbounded" minOccurs="0" ref="tns:Identifiable"/>'
            assert one in text
            choice = "".join(f'<element ref="tns:{each}"/>' for each in OBJECTS)
            text = text.replace(
                one, f'<choice minOccurs="0" maxOccurs="unbounded">{choice}</choice>', 1
            )
        if path.suffix == ".xsd":
            (folder / "schema/ebRS30" / path.name).write_text(text, encoding="utf-8")
        elif path.suffix == ".wsdl":
            (folder / path.name).write_text(text, encoding="utf-8")
    return folder


def schema(corpus: Path, folder: Path) -> etree.XMLSchema:
    """All of them as one schema, to judge answers by."""
    laid_out(corpus, folder, spelled_out=False)
    root = folder / "schema/all.xsd"
    # IHE's first: rim.xsd names another file for the same namespace, which is then passed over.
    imports = {
        "urn:ihe:iti:xds-b:2007": "IHE/IHEXDSB.xsd",
        "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0": "ebRS30/query.xsd",
    }
    made = "".join(
        f'<import namespace="{name}" schemaLocation="{place}"/>' for name, place in imports.items()
    )
    root.write_text(f'<schema xmlns="http://www.w3.org/2001/XMLSchema">{made}</schema>')
    return etree.XMLSchema(etree.parse(root))


class WsdlClient:
    """The three transactions, as zeep has them."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        self._clients: list[zeep.Client] = []

    def __getitem__(self, wsdl: str) -> Any:
        """The service of one WSDL, at the endpoint."""
        client = zeep.Client(
            str(self._folder / wsdl),
            transport=zeep.transports.Transport(cache=None, timeout=60, operation_timeout=60),
        )  # fmt: skip
        self._clients.append(client)
        [binding] = client.wsdl.bindings
        return client.create_service(binding, self._url)

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.transport.session.close()


def slots(said: dict[str, str | list[str]]) -> list[dict[str, Any]]:
    """Slots as zeep wants them."""
    return [
        {
            "name": name,
            "ValueList": {
                "_value_1": [
                    {"Value": each} for each in ([value] if isinstance(value, str) else value)
                ]
            },
        }
        for name, value in said.items()
    ]
