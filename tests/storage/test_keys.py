"""Keys, usage and idempotency on both databases, with concurrent writers of the same rows."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from storage import idempotency
from storage.access import keys, usage
from storage.access.audit import audit
from storage.access.limits import Limits, lock_project, sum_stored_bytes
from storage.access.usage import UsageAmount, UsageDimensions
from storage.db import Database, connect
from storage.idempotency import KeyInUse, KeyReused, StoredResponse, new_ticket
from storage.tables import AuditEntry, File, IdempotencyRecord, Project, Upload, Usage

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
async def db(database_url: str):  # type: ignore[no-untyped-def]
    db = connect(database_url)
    yield db
    await db.close()


@pytest.fixture
async def project(db: Database) -> Project:
    async with db.write() as session:
        return await keys.create_project(session, "test")


async def test_a_key_authenticates_its_principal(db: Database, project: Project) -> None:
    async with db.write() as session:
        key, row = await keys.create_key(session, project.id, "k", "read")
        await session.execute(update(Project).values(max_bytes=7))
        principal = await keys.authenticate(session, key)
        assert await keys.authenticate(session, key + "x") is None
    assert principal is not None
    assert (principal.project_id, principal.key_id, principal.role) == (project.id, row.id, "read")
    assert principal.organization_id == keys.DEFAULT_ORGANIZATION
    assert principal.limits == Limits(max_bytes=7)
    assert principal.limits.with_defaults(Limits(max_bytes=9, tokens_per_minute=5)) == Limits(
        max_bytes=7, tokens_per_minute=5
    )


async def test_expired_and_revoked_keys_are_invalid(db: Database, project: Project) -> None:
    async with db.write() as session:
        expired, _ = await keys.create_key(session, project.id, "k", expires_at=time.time() - 1)
        revoked, row = await keys.create_key(session, project.id, "k")
        valid, _ = await keys.create_key(session, project.id, "k", expires_at=time.time() + 60)
        assert await keys.revoke_key(session, row.id, "proj_other") is None
        revoked_row = await keys.revoke_key(session, row.id, project.id)
        assert revoked_row is not None
        assert revoked_row.revoked_at is not None
        assert await keys.revoke_key(session, row.id) is None
    hashes = [keys.hash_key(key) for key in (expired, revoked, valid)]
    async with db.read() as session:
        assert list(await keys.find_principals(session, hashes)) == hashes[2:]
    async with db.write() as session:
        await session.execute(update(Project).values(archived_at=time.time()))
        assert await keys.find_principals(session, hashes) == {}


async def test_stored_bytes_include_open_uploads(db: Database, project: Project) -> None:
    now = time.time()
    shared = {"project_id": project.id, "created_at": now, "filename": "f", "purpose": "batch"}
    async with db.write() as session:
        assert await sum_stored_bytes(session, project.id) == 0
        session.add(File(id="file-1", bytes=2**40, sha256="0", blob_key="k", **shared))
        for number, status in enumerate(["pending", "completed", "cancelled"]):
            session.add(
                Upload(id=str(number), expires_at=now + 60, mime_type="x", bytes=10**number, status=status, **shared)
            )
        await session.flush()
        await lock_project(session, project.id)
        assert await sum_stored_bytes(session, project.id) == 2**40 + 1


async def test_counters_add_up(db: Database, project: Project) -> None:
    """Ten concurrent writers increment the same rows in different orders."""
    counters = [UsageDimensions(project.id, "key", "2026-11-21", "chat", model) for model in "abc"]

    async def add(number: int) -> None:
        async with db.write() as session:
            order = counters[number % 3 :] + counters[: number % 3]
            await usage.add_usage(session, [(dimensions, UsageAmount(1, 2**33, 3)) for dimensions in order])

    await asyncio.gather(*(add(number) for number in range(10)))
    async with db.read() as session:
        rows = (await session.execute(select(Usage).order_by(col(Usage.model)))).scalars().all()
    assert [(row.model, row.requests, row.input_tokens, row.output_tokens) for row in rows] == [
        (model, 10, 10 * 2**33, 30) for model in "abc"
    ]


async def test_only_one_claims_a_request(db: Database, project: Project) -> None:
    async def claim(number: int) -> str:
        try:
            async with db.write() as session:
                earlier = await idempotency.claim(session, new_ticket(project.id, "key:a", "f"))
        except KeyInUse:
            return "busy"
        return "claimed" if earlier is None else earlier.body

    results = await asyncio.gather(*(claim(number) for number in range(20)))
    assert sorted(results) == ["busy"] * 19 + ["claimed"]


async def test_lifecycle_of_an_idempotent_request(db: Database, project: Project) -> None:
    first, second = (new_ticket(project.id, "key:a", "f") for _ in range(2))
    async with db.write() as session:
        assert await idempotency.claim(session, first) is None
        with pytest.raises(KeyReused):
            await idempotency.claim(session, new_ticket(project.id, "key:a", "other"))
        assert not await idempotency.complete(session, second, StoredResponse(200, "{}"))
        await idempotency.release(session, second)
        assert await idempotency.complete(session, first, StoredResponse(200, "1"))
        await idempotency.release(session, first)
        assert await idempotency.claim(session, second) == StoredResponse(200, "1")
    async with db.write() as session:
        aged = update(IdempotencyRecord).values(created_at=time.time() - idempotency.RETENTION_SECONDS - 1)
        await session.execute(aged)
        await idempotency.delete_expired(session)
        assert (await session.execute(select(IdempotencyRecord))).first() is None


async def test_a_lost_claim_writes_nothing(db: Database, project: Project) -> None:
    late, new = (new_ticket(project.id, "key:a", "f") for _ in range(2))
    async with db.write() as session:
        assert await idempotency.claim(session, late) is None
        await session.execute(update(IdempotencyRecord).values(created_at=time.time() - idempotency.STALE_SECONDS - 1))
        assert await idempotency.claim(session, new) is None
        assert not await idempotency.complete(session, late, StoredResponse(200, "late"))
        await idempotency.release(session, late)
        assert await idempotency.complete(session, new, StoredResponse(200, "new"))


async def test_a_stored_response_is_replaced_only_when_it_is_old(db: Database, project: Project) -> None:
    ticket = new_ticket(project.id, "retry:x", "x")
    async with db.write() as session:
        assert await idempotency.store(session, ticket, StoredResponse(200, "1"), 600)
        assert not await idempotency.store(session, ticket, StoredResponse(200, "2"), 600)
        assert await idempotency.load(session, ticket, 600) == StoredResponse(200, "1")
        assert await idempotency.store(session, ticket, StoredResponse(200, "3"), 0)
        assert await idempotency.load(session, ticket, 600) == StoredResponse(200, "3")
        assert await idempotency.load(session, ticket, 0) is None


async def test_an_audit_entry(db: Database, project: Project) -> None:
    principal = keys.Principal(project.id, "key_1", request_id="req_1")
    async with db.write() as session:
        await audit(session, principal, "file.deleted", "file-1", detail={"n": 1})
    async with db.read() as session:
        entry = (await session.execute(select(AuditEntry))).scalar_one()
    assert (entry.organization_id, entry.project_id, entry.key_id) == (keys.DEFAULT_ORGANIZATION, project.id, "key_1")
    assert (entry.action, entry.target, entry.request_id, entry.detail) == ("file.deleted", "file-1", "req_1", {"n": 1})
