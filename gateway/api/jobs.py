"""What the jobs of a gateway (replays, reprocessings) have in common over REST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from fastapi import HTTPException, Request

J = TypeVar("J")
J_co = TypeVar("J_co", covariant=True)


class Act(Protocol[J_co]):
    """One thing that a person does with a job: the job as it is then."""

    def __call__(self, job_id: int, /, *, actor: str) -> J_co: ...


def act_on_job(
    request: Request,
    number: int,
    action: str,
    acts: Mapping[str, Act[J]],
    *,
    refusal: type[Exception],
    otherwise: str,
) -> J:
    """Do with a job what the path says. 404 with ``otherwise`` for what nobody does with one, 409
    for what it does not allow now (``refusal``)."""
    if action not in acts:
        raise HTTPException(404, otherwise)
    try:
        return acts[action](number, actor=request.state.actor)
    except refusal as error:
        raise HTTPException(409, str(error)) from None
