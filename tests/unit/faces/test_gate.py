"""The gate in front of every route: credentials, host, origin, size, headers."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from gateway.api.security import (
    Gate,
    Policy,
    TokenUnusable,
    policy_for,
    read_token,
)

TOKEN = "correct horse battery staple"


async def echo(request: Request) -> Response:
    body = await request.body()
    return PlainTextResponse(f"{len(body)} {request.state.actor}")


async def binary(request: Request) -> Response:
    return Response(b"%PDF", media_type=request.query_params["type"])


def client(policy: Policy, host: str = "localhost:8080") -> TestClient:
    app = Starlette(
        routes=[
            Route("/livez", echo),
            Route("/intake/cda", echo, methods=["POST"]),
            Route("/fhir/Binary/x", binary),
            Route("/{path:path}", echo, methods=["GET", "POST"]),
        ]
    )
    app.add_middleware(Gate, policy=policy)
    return TestClient(app, base_url=f"http://{host}")


def loopback(token: str | None = None) -> Policy:
    return policy_for("127.0.0.1:8080", token)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Digest {TOKEN}"},
        {"Authorization": "Basic not-base64!"},
        {"Authorization": "Basic " + base64.b64encode(b"me:wrong").decode()},
        {"Authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xff").decode()},
    ],
)
def test_without_the_token_nothing_is_answered(header: dict[str, str]) -> None:
    answer = client(loopback(TOKEN)).get("/metrics", headers=header)
    assert answer.status_code == 401
    assert "Basic" in answer.headers["WWW-Authenticate"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("header", "actor"),
    [
        (f"Bearer {TOKEN}", "token"),
        ("Basic " + base64.b64encode(f"j.martin:{TOKEN}".encode()).decode(), "j.martin"),
        ("basic " + base64.b64encode(f":{TOKEN}".encode()).decode(), "token"),
        ("Basic " + base64.b64encode(f"<b>\n:{TOKEN}".encode()).decode(), "token"),
    ],
)
def test_with_the_token_the_actor_is_known(header: str, actor: str) -> None:
    answer = client(loopback(TOKEN)).get("/x", headers={"Authorization": header})
    assert answer.text == f"0 {actor}"


def test_liveness_needs_no_token() -> None:
    assert client(loopback(TOKEN)).get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200), ("127.0.0.1:8080", 200), ("[::1]:8080", 200),
        ("LOCALHOST", 200), ("evil.example:8080", 421), ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421), ("", 421),
    ],
)  # fmt: skip
def test_a_loopback_address_answers_to_its_own_names_only(host: str, status: int) -> None:
    assert client(loopback()).get("/x", headers={"Host": host}).status_code == status


def test_another_address_answers_to_any_name() -> None:
    policy = policy_for("0.0.0.0:8080", TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "gateway.hospital.example"}
    assert client(policy).get("/x", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost:8080"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8080", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_page_of_another_site_may_not_act(headers: dict[str, str], status: int) -> None:
    assert client(loopback()).post("/dead/replay", headers=headers).status_code == status


def test_reading_across_sites_is_the_browsers_to_refuse() -> None:
    answer = client(loopback()).get("/x", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_body_over_the_limit_is_refused_announced_or_not() -> None:
    policy = Policy(token=None, hosts=None, body_bytes_max=1000)
    http = client(policy)
    assert http.post("/x", content=b"a" * 1000).text.startswith("1000 ")
    assert http.post("/x", content=b"a" * 1001).status_code == 413
    assert http.post("/x", content=iter([b"a" * 600, b"a" * 600])).status_code == 413
    assert http.post("/x", headers={"Content-Length": "-5"}).status_code == 413


def test_the_intake_has_a_limit_of_its_own() -> None:
    http = client(Policy(token=None, hosts=None, body_bytes_max=10))
    assert http.post("/intake/cda", content=b"a" * 5000).text.startswith("5000 ")


def test_pages_may_run_no_script_but_ours_and_stand_in_no_frame() -> None:
    headers = client(loopback()).get("/x").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("media_type", "sandboxed"),
    [("application/pdf", False), ("text/html", True), ("image/svg+xml", True), ("text/xml", True),
     ("application/pdfx", True)],
)  # fmt: skip
def test_a_patients_document_is_isolated(media_type: str, sandboxed: bool) -> None:
    answer = client(loopback()).get("/fhir/Binary/x", params={"type": media_type})
    policy = answer.headers["Content-Security-Policy"]
    assert ("sandbox" in policy) is sandboxed
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'self'" in policy


def test_a_token_file_is_read_to_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(f"{TOKEN}\r\nsecond\n".encode())
    assert read_token(path) == TOKEN


@pytest.mark.parametrize("content", [None, b"", b"\n", b"x" * 5000, b"\xff\xfe"])
def test_a_token_file_that_cannot_be_used_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TokenUnusable, match="token"):
        read_token(path)
