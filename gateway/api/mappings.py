"""REST for the mappings: what is in force, the versions kept, check, deploy, roll back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from gateway.api.security import SET_BYTES_MAX
from gateway.deployment import shapes
from gateway.deployment.changes import changes
from gateway.deployment.deploying import REASON_MAX, CannotDeploy, Deployed
from gateway.deployment.files import FileSet, NotASet
from gateway.journal import mappings as kept
from gateway.journal.mappings import Conflict
from gateway.row_number import RowNumber

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")

PAGE_MAX = 500
KEY_MAX = 128
Reason = Annotated[str, Query(max_length=REASON_MAX, description="Why.")]
Expected = Annotated[
    int | None,
    Query(ge=0, description="The version that is in force as far as the caller knows; 0: none."),
]
Key = Annotated[
    str, Query(max_length=KEY_MAX, description="Names this action: sent twice, it acts once.")
]
_PACKED: dict[str, Any] = {"requestBody": {"content": {"application/octet-stream": {}}}}


class Rollback(BaseModel):
    """Which version is to be in force again, and why."""

    model_config = ConfigDict(extra="forbid")

    version: RowNumber | None = Field(
        default=None, ge=1, description="Its number; none: the one before the present."
    )
    reason: str = Field(max_length=REASON_MAX, description="Why.")
    expected: int | None = Field(
        default=None, ge=0, description="The version that is in force as far as the caller knows."
    )
    key: str = Field(
        default="", max_length=KEY_MAX, description="Names this action: sent twice, it acts once."
    )


def mapping_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/mappings``."""
    router = APIRouter(prefix="/api/v1/mappings", tags=["mappings"])
    _add_reading(router, gateway)
    _add_deploying(router, gateway)
    return router


def _add_reading(router: APIRouter, gateway: Gateway) -> None:
    journal = gateway.journal

    @router.get("")
    def in_force() -> Any:
        """What messages are read with now. ``version`` 0: the folders as they were at the
        start, nothing was ever deployed. ``checking``: how far a check is that is at work, as
        ``step`` (``loading`` or ``testing``), ``done`` and ``of``."""
        now, checking = gateway.mappings.now, gateway.deployer.checking
        return {
            "version": now.version,
            "digest": now.files.digest,
            "site": now.files.site or None,
            "mappings": {each.name: each.version for each in now.library.programs},
            "files": len(now.files.files),
            "checking": asdict(checking) if checking is not None else None,
        }

    @router.get("/versions")
    def list_versions(limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 50) -> Any:
        """The versions, newest first, with who deployed what when."""
        with journal.read() as connection:
            last = kept.latest(connection)
            return {
                "current": last.version if last is not None else 0,
                "items": [shapes.version(each) for each in kept.versions(connection, limit=limit)],
                "deployments": [
                    shapes.deployment(each) for each in kept.deployments(connection, limit=limit)
                ],
            }

    @router.get("/versions/{number}")
    def show_version(number: RowNumber) -> Any:
        """One version with the digest of each of its files."""
        with journal.read() as connection:
            found = kept.version(connection, number)
        if found is None:
            raise HTTPException(404, f"there is no version {number}")
        return shapes.version(found, manifest=True)

    @router.get("/versions/{number}/files")
    def packed_files(number: RowNumber) -> Response:
        """The files of a version, packed, as ``deploy`` takes them."""
        with journal.read() as connection:
            packed = kept.content(connection, number)
        if packed is None:
            raise HTTPException(404, f"the files of version {number} are not kept")
        return Response(packed, media_type="application/octet-stream")


def _add_deploying(router: APIRouter, gateway: Gateway) -> None:
    deployer = gateway.deployer

    @router.post("/check", openapi_extra=_PACKED)
    async def check(request: Request) -> Any:
        """Would these packed files be deployed? Nothing is changed."""
        files = await _files(request)

        def act() -> Any:
            now = deployer.current()
            changed = changes(now, files) if now is not None else None
            return {
                **shapes.checked(deployer.check(files), changed),
                "current": deployer.current_version(),
            }

        return await run_in_threadpool(act)

    @router.post("/deploy", openapi_extra=_PACKED)
    async def deploy(
        request: Request,
        *,
        reason: Reason = "",
        expected: Expected = None,
        overwrite: bool = False,
        key: Key = "",
    ) -> Response:
        """Check these packed files, run their tests and put them in force. 409 when another
        version is in force than the one expected; 422 with ``findings`` when they are wrong."""
        files = await _files(request)
        actor = request.state.actor
        return await run_in_threadpool(
            _answer,
            lambda: deployer.deploy(
                files, actor=actor, reason=reason, expected=expected, overwrite=overwrite, key=key
            ),
        )

    @router.post("/rollback")
    def rollback(request: Request, wanted: Rollback) -> Response:
        """Put a former version in force again."""
        return _answer(
            lambda: deployer.rollback(
                wanted.version, actor=request.state.actor, reason=wanted.reason,
                expected=wanted.expected, key=wanted.key,
            )
        )  # fmt: skip


def _answer(act: Callable[[], Deployed]) -> Response:
    try:
        return JSONResponse(shapes.deployed(act()))
    except Conflict as conflict:
        said = {"detail": f"{conflict}; look at what it changes first", "current": conflict.current}
        return JSONResponse(said, 409)
    except CannotDeploy as error:
        found = shapes.checked(error.checked) if error.checked is not None else {}
        return JSONResponse({"detail": str(error), **found}, 422)


async def _files(request: Request) -> FileSet:
    """The packed files of the body. Raises HTTPException."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > SET_BYTES_MAX:
            raise HTTPException(413, "the packed files are too large")
    try:
        return await run_in_threadpool(FileSet.unpack, bytes(body))
    except NotASet as error:
        raise HTTPException(422, str(error)) from None
