"""Deployments and reprocessings as plain JSON objects, for the REST API and ``--json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gateway.console.differences import differences
from gateway.deployment.changes import Changes
from gateway.deployment.checking import Checked
from gateway.deployment.comparing import Compared, Fact
from gateway.deployment.deploying import Deployed
from gateway.deployment.reprocessing import DryRun
from gateway.journal.mappings import Deployment, Version
from gateway.journal.reprocessing import Job
from gateway.shapes import cause, instant

Shape = dict[str, Any]


def version(value: Version, *, manifest: bool = False) -> Shape:
    """One version; with ``manifest`` the digest of each of its files."""
    shape: Shape = {
        "version": value.number,
        "digest": value.digest,
        "site": value.site or None,
        "mappings": dict(value.mappings),
        "files": len(value.manifest),
        "edited": list(value.edited),
        "release": value.release,
        "tests": value.tests,
        "at": instant(value.at),
        "kept": value.kept,
    }
    return {**shape, "manifest": dict(value.manifest)} if manifest else shape


def deployment(value: Deployment) -> Shape:
    """One change of what is in force. ``previous`` null: nothing was before."""
    return {
        "version": value.version,
        "previous": value.previous or None,
        "action": value.action.value,
        "actor": value.actor,
        "reason": value.reason,
        "at": instant(value.at),
    }


def checked(value: Checked, changes: Changes | None = None) -> Shape:
    """What a check found; files by their paths in the set."""
    return {
        "ok": value.fit,
        "mappings": len(value.library.programs) if value.library is not None else 0,
        "findings": [asdict(each) for each in value.findings],
        "tests": len(value.tests),
        "failed_tests": [asdict(each) for each in value.failed],
        "changes": changes.shape() if changes is not None else None,
    }


def deployed(value: Deployed) -> Shape:
    """What a deployment did."""
    shape = {**deployment(value.deployment), "again": value.again}
    if value.checked is not None:
        shape["tests"] = len(value.checked.tests)
        shape["warnings"] = [asdict(each) for each in value.checked.findings]
    return shape


def job(value: Job) -> Shape:
    """One reprocessing."""
    return {
        "id": value.id,
        "state": value.state.value,
        "note": value.note or None,
        "actor": value.actor,
        "reason": value.reason,
        "selection": value.selection.as_json(),
        "version": value.version,
        "position": value.position,
        "until": value.until_id,
        "counts": dict(value.counts),
        "failures": [asdict(each) for each in value.failures],
        "at": instant(value.at),
        "changed_at": instant(value.changed_at),
        "ended_at": instant(value.ended_at),
    }


def dry_run(value: DryRun, *, values: bool = False) -> Shape:
    """What a reprocessing would do. ``values`` adds what the elements hold: data of patients."""
    return {
        "selected": value.selected,
        "examined": value.examined,
        "version": value.version,
        "counts": dict(value.counts),
        "messages": [compared(each, values=values) for each in value.listed],
    }


def compared(value: Compared, *, values: bool = False) -> Shape:
    """What one message's facts would become."""
    return {
        "message_id": value.message_id,
        "verdict": value.verdict.value,
        "cause": cause(value.cause),
        "mapping": value.mapping or None,
        "mapping_version": value.version or None,
        "added": [each.reference for each in value.added],
        "changed": [_fact(each, values=values) for each in value.changed],
        "vanished": [each.reference for each in value.vanished],
        "same": value.same,
    }


def _fact(value: Fact, *, values: bool) -> Shape:
    found = differences(value.before or {}, value.after or {})
    return {
        "reference": value.reference,
        "elements": [
            {"path": each.path, "before": each.before, "after": each.after}
            if values
            else {"path": each.path}
            for each in found
        ],
    }
