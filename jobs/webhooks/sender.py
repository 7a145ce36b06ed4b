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
from jobs.webhooks.url_policy import ForbiddenUrl, Resolver, parse_url, resolve_address, resolve_with_system
from storage.db import Database
from storage.errors import StorageUnavailable
from storage.settings import Network, Settings, parse_networks
from storage.tables import Delivery, Webhook

log = logging.getLogger("luthier.webhooks")

CONNECT_TIMEOUT_SECONDS = 5.0
TOTAL_TIMEOUT_SECONDS = 10.0
LEASE_SECONDS = 30.0
MAX_CONCURRENT = 8
_CLEANUP_INTERVAL_SECONDS = 3600.0


class DeliveryFailed(Exception):
    """No answer came; the message is fit for the webhook's owner."""


@dataclass
class WebhookClient:
    """One signed request to one webhook, to an address that was looked at."""

    allowed_networks: Sequence[Network] = ()
    """Those besides the internet that the operator allows."""
    resolver: Resolver = resolve_with_system
    timeout_seconds: float = TOTAL_TIMEOUT_SECONDS
    """For all of it."""
    ssl_context: ssl.SSLContext | None = None

    async def validate_url(self, url: str) -> None:
        """Refuse what could never be sent to. A name that has no address yet may get one. Raises ``Refused``."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await resolve_address(parse_url(url), self.resolver, self.allowed_networks)

    async def send(self, webhook: Webhook, delivery: Delivery) -> int:
        """The answer's status; a redirect is one like any other. Raises ``Undelivered``."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._send(webhook, delivery)
        except ForbiddenUrl as error:
            raise DeliveryFailed(str(error)) from error
        except TimeoutError as error:
            raise DeliveryFailed(f"No answer within {self.timeout_seconds:.0f} seconds.") from error
        except httpx.TransportError as error:
            raise DeliveryFailed(f"The connection failed ({type(error).__name__}).") from error
        except OSError as error:
            raise DeliveryFailed("The URL's host has no address.") from error

    async def _send(self, webhook: Webhook, delivery: Delivery) -> int:
        target = parse_url(webhook.url)
        address = await resolve_address(target, self.resolver, self.allowed_networks)
        headers = {
            "host": target.authority,
            "content-type": "application/json",
            "user-agent": "Luthier-Webhooks/1",
            **signing.build_signature_headers(
                _get_active_secrets(webhook), delivery.id, int(time.time()), delivery.body
            ),
        }
        literal = f"[{address}]" if address.version == 6 else str(address)
        url = f"{target.scheme}://{literal}:{target.port}{target.path}"
        # The connection goes to the address; certificate and Host are the name's. A proxy would resolve it anew.
        async with (
            httpx.AsyncClient(
                verify=self.ssl_context or ssl.create_default_context(),
                trust_env=False,
                timeout=httpx.Timeout(self.timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
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


def create_webhook_client(settings: Settings) -> WebhookClient:
    return WebhookClient(parse_networks(settings.webhook_networks))


def create_reusable_webhook_client(settings: Settings) -> WebhookClient:
    """For many requests: the certificates that it trusts are read once."""
    return replace(create_webhook_client(settings), ssl_context=ssl.create_default_context())


def _get_active_secrets(webhook: Webhook) -> list[str]:
    old = webhook.old_secret if time.time() < (webhook.old_secret_until or 0) else None
    return [webhook.secret, *([old] if old else [])]


async def claim_delivery(db: Database, name: str) -> tuple[Delivery, Webhook] | None:
    """What is due longest, for this sender."""
    async with db.autocommit() as connection:
        if not await outbox.has_due_delivery(connection):
            return None
    async with db.write() as session:
        return await outbox.claim(session, name, LEASE_SECONDS)


async def deliver(db: Database, client: WebhookClient, delivery: Delivery, webhook: Webhook) -> None:
    """One try, and what came of it."""
    status: int | None = None
    note = ""
    try:
        status = await client.send(webhook, delivery)
    except DeliveryFailed as error:
        note = str(error)
    async with db.write() as session:
        if status is not None and 200 <= status < 300:
            await outbox.record_success(session, delivery, status)
        else:
            await outbox.record_failure(session, delivery, status, note or f"The answer was {status}, not 2xx.")
    log.info("→ %s to %s, try %d: %s", delivery.id, webhook.id, delivery.tries, status or note)


async def run_sender(db: Database, settings: Settings) -> None:
    """Until cancelled; what is under way then is tried again once its lease has run out."""
    name, post, places = (
        f"{socket.gethostname()}:{os.getpid()}",
        create_reusable_webhook_client(settings),
        asyncio.Semaphore(MAX_CONCURRENT),
    )
    cleaned_up_at = -_CLEANUP_INTERVAL_SECONDS
    async with asyncio.TaskGroup() as group:
        while True:
            found = None
            with suppress(StorageUnavailable):
                if time.monotonic() - cleaned_up_at > _CLEANUP_INTERVAL_SECONDS:
                    cleaned_up_at = time.monotonic()
                    async with db.write() as session:
                        await outbox.delete_old_deliveries(session)
                async with places:
                    found = await claim_delivery(db, name)
            if found is None:
                await asyncio.sleep(settings.poll_seconds * random.uniform(0.75, 1.25))
            else:
                await places.acquire()
                group.create_task(_try_deliver(db, post, *found)).add_done_callback(lambda _: places.release())


async def _try_deliver(db: Database, client: WebhookClient, delivery: Delivery, webhook: Webhook) -> None:
    try:
        await deliver(db, client, delivery, webhook)
    except StorageUnavailable as error:
        log.warning("%s: how it ended is not written, so it is sent again: %s", delivery.id, error)
