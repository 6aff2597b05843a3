"""Asking the running gateway, as a command that ends with the right exit code when it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.cli.output import Code, fail

if TYPE_CHECKING:
    from gateway.settings import Settings


def asked(request: Any) -> dict[str, Any]:
    """What a request to the gateway answers. Ends the command when it is refused (exit 1, or 2
    where what was asked is wrong), when nobody answers (4) and when the token is unusable (2)."""
    from gateway.api.security import TokenUnusable
    from gateway.cli.access import Refused

    try:
        answer: dict[str, Any] = request()
    except Refused as refused:
        fail(Code.USAGE if refused.status == 422 else Code.FAILED, str(refused))
    except ConnectionError as error:
        fail(Code.UNREACHABLE, f"the gateway does not answer: {error}")
    except TokenUnusable as error:
        fail(Code.USAGE, str(error))
    return answer


def ask_running(
    effective: Settings,
    path: str,
    body: Any = None,
    *,
    content: bytes | None = None,
    parameters: dict[str, str] | None = None,
) -> Any:
    """POST to a path below ``/api/v1`` of the gateway that runs on this state folder; what it
    answers. Ends the command as :func:`asked` does, and with 4 when no gateway runs."""
    from gateway.cli.access import ask, running

    gateway = running(effective)
    if gateway is None:
        fail(Code.UNREACHABLE, f"no gateway runs on {effective.state}")
    return asked(
        lambda: ask(
            effective, gateway, path, json_body=body, content=content, parameters=parameters
        )
    )
