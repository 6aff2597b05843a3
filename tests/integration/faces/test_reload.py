"""A running gateway that reads its configuration again: what changes, and what is told of it."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from pydicom.data import get_testdata_file

from adapters.dicom.sender import send_files
from adapters.hl7.framing import FrameReader, frame
from gateway.cli import main
from gateway.cli.output import Code
from tests.acceptance.return_listener import ReturnListener, asking
from tests.certificates import Authority
from tests.eventually import eventually
from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House, running_house
from tests.integration.hl7.fake_intake import fields
from tests.servers import free_port

CDA = Path(__file__).resolve().parents[3] / "gateway" / "demo" / "cr_bio.xml"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A gateway of the test's own."""
    with running_house(tmp_path) as made:
        yield made


def write(house: House, **changes: Any) -> dict[str, Any]:
    """Change the file; a source of None is taken away."""
    tree = yaml.safe_load(house.configuration.read_text(encoding="utf-8"))
    sources = {each["name"]: each for each in tree["sources"]}
    for name, value in changes.pop("sources", {}).items():
        if value is None:
            del sources[name]
        else:
            sources[name] = {"name": name, **sources.get(name, {}), **value}
    tree.update(changes, sources=list(sources.values()))
    house.configuration.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return tree


def reload(house: House, status: int = 200) -> dict[str, Any]:
    with house.client() as http:
        answer = http.post("/api/v1/reload")
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_sources_come_change_and_go(house: House) -> None:
    new = f"127.0.0.1:{free_port()}"
    scanner = house.source("scanner")
    write(house, sources={
        "ward": {"type": "mllp", "listen": new}, "scanner": None,
        "lab": {"processing_ids": ["T"]},
    })  # fmt: skip
    told = reload(house)
    assert {name: told[name] for name in ("started", "changed", "stopped", "unchanged")} == {
        "started": ["ward"], "changed": ["lab"], "stopped": ["scanner"], "unchanged": ["practice"],
    }  # fmt: skip
    assert listens(new)
    assert not listens(scanner)
    assert house.send(hl7.admission("R1")) == ["AR"]
    running = json.loads((house.settings.state / "gateway.json").read_text(encoding="utf-8"))
    assert running["sources"].keys() == {"lab", "practice", "ward"}
    assert running["configuration"]["in_force"] is True
    with house.client() as http:
        assert http.get("/api/v1/configuration").json()["addresses"]["ward"] == new
        assert "ward" in http.get("/").text
    assert reload(house)["unchanged"] == ["lab", "practice", "ward"]


def test_return_links_follow_their_sources(house: House, tmp_path: Path) -> None:
    """One that comes, one that moves, one that goes: with what is owed given on the link in force.
    The second speaks TLS, shows the gateway's certificate, and is told of where certificates are."""
    authority = Authority(tmp_path / "authority")
    peer, own = authority.issue("his"), authority.issue("ecluse", ends=timedelta(days=9))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.load_cert_chain(peer.certificate, peer.key)
    context.verify_mode = ssl.CERT_REQUIRED
    first, second = ReturnListener(free_port()), ReturnListener(free_port(), tls=context)
    tls = {
        "ca": str(authority.certificate), "certificate": str(own.certificate), "key": str(own.key),
    }  # fmt: skip

    def link(to: str, tls: dict[str, str] | None = None) -> None:
        write(house, sources={"lab": {"return_link": to, "return_link_tls": tls}})
        assert reload(house)["changed"] == ["lab"]

    def told(control_id: str) -> list[int]:
        """How often each listener was told of a message."""
        return [len(each.of(control_id)) for each in (first, second)]

    first.start()
    second.start()
    try:
        link(f"127.0.0.1:{first.port}")
        assert house.send(asking(hl7.admission("L1"), "AL", "AL")) == ["CA"]
        eventually(lambda: told("L1") == [1, 0])
        write(house, sources={"lab": {
            "return_link": f"127.0.0.1:{second.port}", "return_link_tls": {**tls, "ca": "none.pem"},
        }})  # fmt: skip
        [problem] = reload(house, 422)["problems"]
        assert "return_link_tls.ca: " in problem
        link(f"127.0.0.1:{second.port}", tls)
        assert house.send(asking(hl7.admission("L2"), "AL", "AL")) == ["CA"]
        eventually(lambda: told("L2") == [0, 1])
        assert second.shown == ["ecluse"]
        with house.client() as http:
            metrics, page = http.get("/metrics").text, http.get("/").text
        for use in ("client", "server-ca"):
            label = f'certificate_expiry_timestamp_seconds{{source="lab",use="{use}"}}'
            assert label in metrics
        assert "A certificate of lab expires soon" in page
        link("")
        assert house.send(asking(hl7.admission("L3"), "AL", "AL")) == ["CA"]
        house.wait()
        with house.client() as http:
            standing = http.get("/api/v1/status").json()["acknowledgements"]["lab"]
        assert standing == {"sent": 2, "unlinked": 1}
        names = {each.name for each in threading.enumerate()}
        assert "ecluse-acknowledgements-lab" not in names
    finally:
        first.stop()
        second.stop()


def test_how_a_source_acknowledges_is_taken_at_once(house: House) -> None:
    write(house, sources={"lab": {"acknowledgement": "enhanced", "duplicates": "refuse"}})
    assert reload(house)["changed"] == ["lab"]
    assert house.send(hl7.admission("E1")) == ["CA"]
    assert house.send(hl7.admission("E1", family="AUTRE")) == ["CE"]


def test_a_zone_is_told_to_the_mappings(house: House) -> None:
    write(house, sources={"lab": {"zone": "America/Cayenne", "authorities": {"X": "1.2.3"}}})
    reload(house)
    context = house.gateway.normaliser.contexts["lab"]
    assert (context.zone, context.authorities) == ("America/Cayenne", {"X": "1.2.3"})


def test_an_invalid_file_keeps_what_is_in_force(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    good = house.configuration.read_text(encoding="utf-8")
    house.configuration.write_text(good + "  - {name: x, type: mllp, lisen: a}\n", encoding="utf-8")
    told = reload(house, 422)
    (problem,) = told["problems"]
    assert problem.startswith(f"{house.configuration}:8:")
    assert told["detail"] == problem
    assert not told["in_force"]
    assert house.send(hl7.admission("STILL")) == ["AA"]
    with house.client() as http:
        assert http.get("/api/v1/status").json()["configuration"]["problems"] == [problem]
        page = http.get("/").text
        assert "The configuration was not taken" in page
        assert ":8:" in page
        metrics = http.get("/metrics").text
    assert "ecluse_configuration_in_force 0.0" in metrics
    assert 'ecluse_configuration_reloads_total{outcome="not-taken"} 1.0' in metrics

    # The command does not even ask, and says where the file is wrong.
    assert main(["reload", "--config", str(house.configuration)]) == Code.USAGE
    assert f"{house.configuration}:8:" in capsys.readouterr().err

    # Put right, but not yet read again: the doctor and the status know.
    house.configuration.write_text(good, encoding="utf-8")
    assert main(["doctor", "--json", "--config", str(house.configuration)]) == Code.FINDINGS
    checks = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert checks["configuration"]["level"] == "error"
    assert ":8:" in checks["configuration"]["found"]
    assert main(["status", "--config", str(house.configuration)]) == 0
    assert ":8:" in capsys.readouterr().err
    assert main(["reload", "--config", str(house.configuration)]) == 0
    assert "No source changed." in capsys.readouterr().err
    assert main(["doctor", "--json", "--config", str(house.configuration)]) == 0
    with house.client() as http:
        assert "ecluse_configuration_in_force 1.0" in http.get("/metrics").text
        # The page is made for all who look, and may be some moments old.
        words = "The configuration was not taken"
        eventually(lambda: words not in http.get("/flow/live").text, timeout=60)


def test_a_port_that_is_taken_changes_nothing_at_all(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        scanner, lab = house.source("scanner"), house.source("lab")
        write(house, sources={
            "lab": {"processing_ids": ["T"]},
            "scanner": {"listen": f"127.0.0.1:{free_port()}"},
            "ward": {"type": "mllp", "listen": taken}, "practice": None,
        })  # fmt: skip
        told = reload(house, 422)
    (problem,) = told["problems"]
    assert "sources.2.listen: cannot listen on" in problem
    assert problem.startswith(f"{house.configuration}:")
    assert house.source("lab") == lab
    assert house.send(hl7.admission("STILL")) == ["AA"]
    assert scanner.rpartition(":")[0] == house.source("scanner").rpartition(":")[0]
    assert listens(house.source("scanner"))
    with house.client() as http:
        assert http.post("/intake/cda", content=CDA.read_bytes()).status_code == 201
    assert reload(house)["started"] == ["ward"]


def test_settings_that_need_a_restart_are_named(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    write(house, broker={"url": "redis://localhost:1/0"}, retry={"attempts_max": 3},
          log={"level": "error"})  # fmt: skip
    assert main(["reload", "--config", str(house.configuration)]) == 0
    said = capsys.readouterr().err
    assert "broker.url has changed and waits for a restart" in said
    assert "retry.attempts_max has changed" in said
    assert "log" not in said
    assert house.gateway.settings.log.level == "error"
    assert house.gateway.settings.broker.url == ""
    with house.client() as http:
        assert "wait for a restart" in http.get("/").text
        assert "ecluse_configuration_waiting 2.0" in http.get("/metrics").text


def test_mapping_files_that_are_not_in_force_are_named(
    house: House, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """They go by ``ecluse mapping deploy``, never by a reload."""
    before = house.gateway.mappings.now.files.digest
    own = tmp_path / "own"
    own.mkdir()
    (own / "codes.yaml").write_text(
        "table: own/codes\nversion: '1'\nsource: ours\nsystem: urn:x\nrows: {A: {code: a}}\n"
    )
    write(house, mappings={"folders": [str(own)]})
    assert main(["reload", "--config", str(house.configuration)]) == 0
    said = capsys.readouterr().err
    assert "Not in force: folder-1/codes.yaml. Mapping files go by ecluse mapping deploy." in said
    assert house.gateway.mappings.now.files.digest == before


def test_a_renamed_source_takes_the_port_over(house: House) -> None:
    at = f"127.0.0.1:{free_port()}"
    write(house, sources={"lab": {"listen": at}})
    reload(house)
    write(house, sources={"lab": None, "laboratory": {"type": "mllp", "listen": at}})
    told = reload(house)
    assert (told["started"], told["stopped"]) == (["laboratory"], ["lab"])
    assert house.source("laboratory") == at
    # Another kind of source on the same port, and back.
    write(house, sources={"laboratory": None, "other": {"type": "dicom", "listen": at}})
    assert reload(house)["started"] == ["other"]
    assert listens(at)
    write(house, sources={"other": None, "laboratory": {"type": "mllp", "listen": at}})
    assert reload(house)["started"] == ["laboratory"]
    assert listens(at)


def test_a_dicom_source_takes_settings_and_another_port(house: House) -> None:
    image = Path(get_testdata_file("CT_small.dcm"))  # type: ignore[arg-type]

    def store(called: str) -> bool:
        host, _, port = house.source("scanner").rpartition(":")
        try:
            (sent,) = send_files(host, int(port), called, "SCU", [image], timeout_seconds=10)
        except ConnectionError:  # the association is rejected
            return False
        return sent.accepted

    assert store("ECLUSE")
    before = house.source("scanner")
    write(house, sources={"scanner": {"ae_title": "LOCK", "require_called_aet": True}})
    assert reload(house)["changed"] == ["scanner"]
    assert house.source("scanner") == before
    assert store("LOCK")
    assert not store("ECLUSE")
    new = f"127.0.0.1:{free_port()}"
    write(house, sources={"scanner": {"listen": new}})
    reload(house)
    assert house.source("scanner") == new
    assert store("LOCK")
    eventually(lambda: not listens(before))


def test_cda_sources_take_settings(house: House, tmp_path: Path) -> None:
    document = CDA.read_bytes()
    first, second = tmp_path / "one", tmp_path / "two"
    with house.client() as http:
        write(house, sources={
            "practice": {"document_bytes_max": 1024},
            "drop": {"type": "cda-folder", "path": str(first)},
        })  # fmt: skip
        reload(house)
        assert http.post("/intake/cda", content=document).status_code == 413
        write(house, sources={
            "practice": {"document_bytes_max": 1 << 20}, "drop": {"path": str(second)},
        })  # fmt: skip
        assert reload(house)["changed"] == ["practice", "drop"]
        assert http.post("/intake/cda", content=document).status_code == 201
        assert http.post("/intake/cda/practice", content=document).status_code == 200
        assert (second / "incoming").is_dir()
        assert house.source("drop") == str(second / "incoming")
        write(house, sources={"practice": None})
        reload(house)
        assert http.post("/intake/cda", content=document).status_code == 404


def test_sources_over_http_come_change_and_go(house: House) -> None:
    message = hl7.admission("HTTP1")
    with house.client() as http:
        assert http.post("/intake/hl7", content=message).status_code == 404
        write(house, sources={"web": {"type": "hl7-http"}, "files": {"type": "hprim-http"}})
        assert reload(house)["started"] == ["web", "files"]
        assert b"MSA|AA|HTTP1" in http.post("/intake/hl7", content=message).content
        assert http.post("/intake/hprim/files", content=b"no HPRIM").status_code in {400, 422}
        write(house, sources={"web": {"processing_ids": ["T"]}, "files": {"uploads_max": 3}})
        assert reload(house)["changed"] == ["web", "files"]
        refused = http.post("/intake/hl7/web", content=hl7.admission("HTTP2"))
        assert b"MSA|AR|HTTP2" in refused.content
        write(house, sources={"web": None, "files": None})
        assert reload(house)["stopped"] == ["web", "files"]
        assert http.post("/intake/hl7/web", content=message).status_code == 404


def test_a_profile_that_changed_is_taken_up_over_an_open_connection(
    house: House, tmp_path: Path
) -> None:
    profile = tmp_path / "site.profile.yaml"

    def asks(rules: str) -> None:
        profile.write_text(f"profile: site\nmessages:\n  ADT^A01:\n    {rules}\n", encoding="utf-8")

    asks("PID-5: {required: true}")
    write(house, sources={"lab": {"profile": str(profile)}})
    assert reload(house)["changed"] == ["lab"]
    with socket.create_connection(house.mllp, timeout=30) as connection:
        frames = FrameReader()

        def told(control_id: str) -> list[str]:
            connection.sendall(frame(hl7.admission(control_id)))
            found: list[Any] = []
            while not found:
                found = frames.receive(connection.recv(1 << 16))
            return [
                fields(each.payload, "MSA", number).decode() for each in found for number in (1, 2)
            ]

        assert told("P1") == ["AA", "P1"]
        assert reload(house)["changed"] == []
        asks("PID-19: {required: true}")
        assert told("P2") == ["AA", "P2"]
        assert reload(house)["changed"] == ["lab"]
        assert told("P3") == ["AE", "P3"]
        # One with a mistake, beside a change that is none: all stays as it was.
        asks("PID-5: {requires: true}")
        write(house, sources={"lab": {"processing_ids": ["T"]}})
        [problem] = reload(house, 422)["problems"]
        assert "requires" in problem
        assert told("P4") == ["AE", "P4"]
        write(house, sources={"lab": {"processing_ids": ["P"]}})
        profile.unlink()
        reload(house, 422)
        assert told("P5") == ["AE", "P5"]
        asks("PID-5: {required: true}")
        assert reload(house)["changed"] == ["lab"]
        assert told("P6") == ["AA", "P6"]


def test_certificates_and_refusals_are_told(house: House, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    own = authority.issue("own", ends=timedelta(days=9))
    write(house, sources={"lab": {"tls": {
        "certificate": str(own.certificate), "key": str(own.key),
        "client_ca": str(authority.certificate),
    }}})  # fmt: skip
    assert reload(house)["changed"] == ["lab"]
    with socket.create_connection(house.mllp) as plain:
        plain.sendall(b"\x0bMSH|^~\\&|A\r\x1c\r")
        assert plain.recv(100) == b""
    with house.client() as http:
        metrics = http.get("/metrics").text
        page = http.get("/").text
    listen = house.gateway.settings.sources[0].listen  # type: ignore[union-attr]
    refused = f'ecluse_connections_refused_total{{listen="{listen}",reason="tls-plain-bytes"}} 1.0'
    assert refused in metrics
    expiry = next(
        line for line in metrics.splitlines()
        if line.startswith('ecluse_certificate_expiry_timestamp_seconds{source="lab",use="server"}')
    )  # fmt: skip
    assert float(expiry.split()[-1]) > 0
    assert "A certificate of lab expires soon" in page


def test_nobody_to_reload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reload", "--state-folder", str(tmp_path)]) == Code.UNREACHABLE
    assert "no gateway runs" in capsys.readouterr().err


def test_a_page_of_another_site_cannot_reload(house: House) -> None:
    with house.client() as http:
        answer = http.post("/api/v1/reload", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
        assert isinstance(answer, httpx2.Response)
