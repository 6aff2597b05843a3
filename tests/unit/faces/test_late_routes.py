"""Routes are made for the first request that needs them, once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient

from gateway.api.late import LateRoutes, Part


def client(made: Counter[str]) -> TestClient:
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "well"

    def routes(name: str, path: str) -> list[APIRouter]:
        made[name] += 1
        router = APIRouter()
        router.add_api_route(path, lambda: name, methods=["GET"])
        return [router]

    app.add_middleware(
        LateRoutes,
        application=app,
        present=("/health",),
        parts=(
            Part("/api/v1/desk", lambda: routes("desk", "/api/v1/desk/{number}")),
            Part("/api/v1", lambda: routes("api", "/api/v1/status")),
        ),
        rest=lambda: routes("pages", "/page"),
    )
    return TestClient(app)


def test_only_what_a_path_needs_is_made() -> None:
    made: Counter[str] = Counter()
    http = client(made)
    assert http.get("/health").json() == "well"
    assert not made
    assert http.get("/api/v1/status").json() == "api"
    assert http.get("/api/v1/nothing").status_code == 404
    assert made == {"api": 1}
    assert http.get("/api/v1/desk/7").json() == "desk"
    assert http.get("/nothing").status_code == 404
    assert http.get("/page").json() == "pages"
    assert made == {"api": 1, "desk": 1, "pages": 1}


def test_the_description_is_of_all() -> None:
    made: Counter[str] = Counter()
    paths = client(made).get("/openapi.json").json()["paths"]
    assert set(paths) == {"/health", "/api/v1/desk/{number}", "/api/v1/status", "/page"}


def test_requests_at_once_make_it_once() -> None:
    made: Counter[str] = Counter()
    http = client(made)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: http.get("/page").json(), range(16)))
    assert answers == ["pages"] * 16
    assert made == {"pages": 1}
