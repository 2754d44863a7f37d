"""Policies: who is told of which alerts; those of the configuration file are shown, those of the API changed."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query
from pydantic import Field
from sqlalchemy import Connection, delete, func, insert, select, update

from alerts.administration import note
from alerts.policies.policy import Checked, Policy, check
from alerts.policies.store import API, active_policies, known
from alerts.tables import policies
from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import READING, WRITING
from dashboards.api.models import Json, Ms, Name, Shape
from dashboards.api.problems import Problem
from dashboards.api.strict import StrictRoute

PolicyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="Policy id")]

router = APIRouter(tags=["policies"])
writing = APIRouter(tags=["policies"], route_class=StrictRoute)


class PolicyRow(Shape):
    """A policy; ``policy`` has the fields of ``[[policy]]`` in server.toml."""

    id: str
    position: int = Field(description="Order in which it is asked; the file's are asked first")
    policy: Json
    active: bool
    source: str = Field(description="config: the server's file, changed there; api")
    version: int
    changed_by: str
    changed_ms: Ms
    warnings: list[str] = Field(description="Why it may route nothing")


class PolicyList(Shape):
    """Policies in the order in which they are asked."""

    policies: list[PolicyRow]


class KeepPolicy(Shape):
    """A policy to be kept."""

    policy: Json = Field(description="id, match, endpoints, targets, escalate, group_by, …")
    position: int = Field(0, ge=0, le=10_000)
    active: bool = True
    version: int = Field(0, ge=0, description="That was read; 0 makes a new one")
    actor: Name = ""


class CheckPolicy(Shape):
    """A policy to be tried."""

    policy: Json


class CheckReply(Shape):
    """What is wrong with it."""

    faults: list[str] = Field(description="It would be refused")
    warnings: list[str] = Field(description="It may route nothing")


@router.get("/policies", summary="Who is told of what", responses=READING)
def policy_list(sources: SourcesOf) -> PolicyList:
    """Return every policy with what would keep it from routing."""
    with sources.operational.read() as connection:
        return _list(connection)


@writing.post("/policies/check", summary="Try a policy", responses=WRITING)
def try_policy(body: CheckPolicy, sources: SourcesOf, _key: Writer) -> CheckReply:
    """Say what is wrong with a policy; nothing is kept."""
    policy = _parsed(body.policy)
    with sources.operational.read() as connection:
        checked = _check(connection, policy)
    return CheckReply(faults=checked.faults, warnings=checked.warnings)


@writing.put("/policies/{policy_id}", summary="Keep a policy", responses=WRITING)
def keep_policy(
    policy_id: PolicyId, body: KeepPolicy, sources: SourcesOf, key: Writer
) -> PolicyRow:
    """Make or change a policy; one that names what is not there is refused, one that may route nothing is warned of."""
    policy = _parsed(body.policy)
    if policy.id != policy_id:
        raise Problem(422, "policy.id: is not the id of the address", field="policy.id")
    now_ms = sources.now_ms()
    actor = f"{body.actor or key.name} ({key.id})"
    with sources.operational.write() as connection:
        checked = _check(connection, policy)
        if checked.faults:
            raise Problem(422, "; ".join(checked.faults), faults_of_policy=checked.faults)
        values = {
            "position": body.position,
            "document": msgspec.to_builtins(policy),
            "active": body.active,
            "changed_by": actor,
            "changed_ms": now_ms,
        }
        _write(connection, policy_id, body.version, values)
        note(
            connection,
            actor=actor,
            action="policy.kept",
            subject=policy_id,
            data=msgspec.to_builtins(policy),
            at_ms=now_ms,
        )
        return _one(connection, policy_id)


@writing.delete("/policies/{policy_id}", summary="Remove a policy", responses=WRITING)
def remove_policy(
    policy_id: PolicyId,
    sources: SourcesOf,
    key: Writer,
    version: Annotated[int, Query(ge=1, description="That was read")],
) -> PolicyList:
    """Remove a policy of the API."""
    with sources.operational.write() as connection:
        _own(connection, policy_id, version)
        connection.execute(delete(policies).where(policies.c.id == policy_id))
        note(
            connection,
            actor=f"{key.name} ({key.id})",
            action="policy.removed",
            subject=policy_id,
            data={},
            at_ms=sources.now_ms(),
        )
        return _list(connection)


def _parsed(document: Json) -> Policy:
    try:
        return msgspec.convert(document, Policy)
    except msgspec.ValidationError as exc:
        raise Problem(422, f"policy: {exc}", field="policy") from exc


def _check(connection: Connection, policy: Policy) -> Checked:
    before = []
    for other in active_policies(connection):
        if other.id == policy.id:
            break
        before.append(other)
    return check(policy, before, known(connection))


def _own(connection: Connection, policy_id: str, version: int) -> None:
    query = select(policies.c.source, policies.c.version).where(policies.c.id == policy_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Problem(404, f"no policy {policy_id!r}")
    if row.source != API:
        raise Problem(409, "it stands in the server's configuration file: change it there")
    if row.version != version:
        raise Problem(409, f"it was changed meanwhile: version {row.version}", version=row.version)


def _write(connection: Connection, policy_id: str, version: int, values: dict[str, object]) -> None:
    if version:
        _own(connection, policy_id, version)
        newer = update(policies).where(policies.c.id == policy_id)
        connection.execute(newer.values(**values, version=version + 1))
        return
    there = select(func.count()).select_from(policies).where(policies.c.id == policy_id)
    if connection.scalar(there):
        raise Problem(409, f"there is a policy {policy_id!r}: say which version was read")
    connection.execute(insert(policies).values(id=policy_id, source=API, **values))


def _list(connection: Connection) -> PolicyList:
    there = known(connection)
    before: list[Policy] = []
    rows = []
    query = select(policies).order_by(policies.c.source.desc(), policies.c.position, policies.c.id)
    for row in connection.execute(query).mappings():
        policy = msgspec.convert(row["document"], Policy)
        checked = check(policy, before, there)
        if row["active"]:
            before.append(policy)
        rows.append(
            PolicyRow(
                id=row["id"],
                position=row["position"],
                policy=row["document"],
                active=row["active"],
                source=row["source"],
                version=row["version"],
                changed_by=row["changed_by"],
                changed_ms=row["changed_ms"],
                warnings=[*checked.faults, *checked.warnings],
            )
        )
    return PolicyList(policies=rows)


def _one(connection: Connection, policy_id: str) -> PolicyRow:
    return next(row for row in _list(connection).policies if row.id == policy_id)
