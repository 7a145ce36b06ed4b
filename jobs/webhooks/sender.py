"""Sending deliveries: every worker does, several at a time, never two at once to the same webhook."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import httpx

from jobs.webhooks import outbox, signing
from jobs.webhooks.url_policy import Refused, Resolver, parse, resolved, system_resolver
from storage.db import Database
from storage.errors import StorageUnavailable
from storage.settings import Network, Settings, networks_of
from storage.tables import Delivery, Webhook

log = logging.getLogger("luthier.webhooks")

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
LEASE_SECONDS = 30.0
AT_ONCE = 8
_TIDY_SECONDS = 3600.0


class Undelivered(Exception):
    """No answer came; the message is fit for the webhook's owner."""


@dataclass
class Post:
    """One signed request to one webhook, to an address that was looked at."""

    networks: Sequence[Network] = ()
    """Those besides the internet that the operator allows."""
    resolver: Resolver = system_resolver
    seconds: float = TOTAL_SECONDS
    """For all of it."""
    tls: ssl.SSLContext | None = None

    async def check(self, url: str) -> None:
        """Refuse what could never be sent to. A name that has no address yet may get one. Raises ``Refused``."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await resolved(parse(url), self.resolver, self.networks)

    async def send(self, webhook: Webhook, delivery: Delivery) -> int:
        """The answer's status; a redirect is one like any other. Raises ``Undelivered``."""
        try:
            async with asyncio.timeout(self.seconds):
                return await self._send(webhook, delivery)
        except Refused as error:
            raise Undelivered(str(error)) from error
        except TimeoutError as error:
            raise Undelivered(f"No answer within {self.seconds:.0f} seconds.") from error
        except httpx.TransportError as error:
            raise Undelivered(f"The connection failed ({type(error).__name__}).") from error
        except OSError as error:
            raise Undelivered("The URL's host has no address.") from error

    async def _send(self, webhook: Webhook, delivery: Delivery) -> int:
        target = parse(webhook.url)
        address = await resolved(target, self.resolver, self.networks)
        headers = {
            "host": target.authority,
            "content-type": "application/json",
            "user-agent": "Luthier-Webhooks/1",
            **signing.headers(_secrets(webhook), delivery.id, int(time.time()), delivery.body),
        }
        literal = f"[{address}]" if address.version == 6 else str(address)
        url = f"{target.scheme}://{literal}:{target.port}{target.path}"
        # The connection goes to the address; certificate and Host are the name's. A proxy would resolve it anew.
        async with (
            httpx.AsyncClient(
                verify=self.tls or ssl.create_default_context(),
                trust_env=False,
                timeout=httpx.Timeout(self.seconds, connect=CONNECT_SECONDS),
            ) as http,
            http.stream(
                "POST",
                url,
                content=delivery.body.encode(),
                headers=headers,
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            # Its status is all that is wanted of an answer; its body is not read.
            return response.status_code


def post_of(settings: Settings) -> Post:
    return Post(networks_of(settings.webhook_networks))


def lasting_post_of(settings: Settings) -> Post:
    """For many requests: the certificates that it trusts are read once."""
    return replace(post_of(settings), tls=ssl.create_default_context())


def _secrets(webhook: Webhook) -> list[str]:
    old = webhook.old_secret if time.time() < (webhook.old_secret_until or 0) else None
    return [webhook.secret, *([old] if old else [])]


async def claimed(db: Database, name: str) -> tuple[Delivery, Webhook] | None:
    """What is due longest, for this sender."""
    async with db.single() as connection:
        if not await outbox.waits(connection):
            return None
    async with db.write() as session:
        return await outbox.claim(session, name, LEASE_SECONDS)


async def deliver(db: Database, post: Post, delivery: Delivery, webhook: Webhook) -> None:
    """One try, and what came of it."""
    status: int | None = None
    note = ""
    try:
        status = await post.send(webhook, delivery)
    except Undelivered as error:
        note = str(error)
    async with db.write() as session:
        if status is not None and 200 <= status < 300:
            await outbox.arrived(session, delivery, status)
        else:
            await outbox.failed(session, delivery, status, note or f"The answer was {status}, not 2xx.")
    log.info("→ %s to %s, try %d: %s", delivery.id, webhook.id, delivery.tries, status or note)


async def send_for_ever(db: Database, settings: Settings) -> None:
    """Until cancelled; what is under way then is tried again once its lease has run out."""
    name, post, places = f"{socket.gethostname()}:{os.getpid()}", lasting_post_of(settings), asyncio.Semaphore(AT_ONCE)
    tidied = -_TIDY_SECONDS
    async with asyncio.TaskGroup() as group:
        while True:
            found = None
            with suppress(StorageUnavailable):
                if time.monotonic() - tidied > _TIDY_SECONDS:
                    tidied = time.monotonic()
                    async with db.write() as session:
                        await outbox.forget(session)
                async with places:
                    found = await claimed(db, name)
            if found is None:
                await asyncio.sleep(settings.poll_seconds * random.uniform(0.75, 1.25))
            else:
                await places.acquire()
                group.create_task(_deliver(db, post, *found)).add_done_callback(lambda _: places.release())


async def _deliver(db: Database, post: Post, delivery: Delivery, webhook: Webhook) -> None:
    try:
        await deliver(db, post, delivery, webhook)
    except StorageUnavailable as error:
        log.warning("%s: how it ended is not written, so it is sent again: %s", delivery.id, error)
