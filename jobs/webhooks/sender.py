"""Sender of webhook deliveries. Every worker runs one.

A sender sends several deliveries concurrently, but only one at a time to each webhook.
"""

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
    """The request got no response. The message is shown to the webhook's owner."""


@dataclass
class WebhookClient:
    """HTTP client that sends signed requests to validated addresses."""

    allowed_networks: Sequence[Network] = ()
    """Non-public networks that the operator allows."""
    resolver: Resolver = resolve_with_system
    timeout_seconds: float = TOTAL_TIMEOUT_SECONDS
    """Limit for the complete request."""
    ssl_context: ssl.SSLContext | None = None

    async def validate_url(self, url: str) -> None:
        """Reject a URL that could never be used.

        A host without an address is accepted: it may get one.

        Raises ``ForbiddenUrl``.
        """
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await resolve_address(parse_url(url), self.resolver, self.allowed_networks)

    async def send(self, webhook: Webhook, delivery: Delivery) -> int:
        """Send a delivery and return the response's status. Redirects are not followed.

        Raises ``DeliveryFailed``.
        """
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._send(webhook, delivery)
        except ForbiddenUrl as error:
            raise DeliveryFailed(str(error)) from error
        except TimeoutError as error:
            raise DeliveryFailed(f"No response within {self.timeout_seconds:.0f} seconds.") from error
        except httpx.TransportError as error:
            raise DeliveryFailed(f"The connection failed ({type(error).__name__}).") from error
        except OSError as error:
            raise DeliveryFailed("The URL's host has no address. Correct the URL or the host's DNS records.") from error

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
        # Connect to the validated address, but verify the host's certificate. A proxy would resolve
        # the name again.
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
            # Only the status matters, so the body is not read.
            return response.status_code


def create_webhook_client(settings: Settings) -> WebhookClient:
    return WebhookClient(parse_networks(settings.webhook_networks))


def create_reusable_webhook_client(settings: Settings) -> WebhookClient:
    """Create a client for many requests, which loads the trusted certificates once."""
    return replace(create_webhook_client(settings), ssl_context=ssl.create_default_context())


def _get_active_secrets(webhook: Webhook) -> list[str]:
    old_secret = webhook.old_secret if time.time() < (webhook.old_secret_until or 0) else None
    return [webhook.secret, *([old_secret] if old_secret else [])]


async def claim_delivery(db: Database, name: str) -> tuple[Delivery, Webhook] | None:
    """Claim the delivery that has been due longest, or return None."""
    async with db.autocommit() as connection:
        if not await outbox.has_due_delivery(connection):
            return None
    async with db.write() as session:
        return await outbox.claim(session, name, LEASE_SECONDS)


async def deliver(db: Database, client: WebhookClient, delivery: Delivery, webhook: Webhook) -> None:
    """Try a delivery once and record the result."""
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
            await outbox.record_failure(session, delivery, status, note or f"The response was {status}, not 2xx.")
    log.info("→ %s to %s, try %d: %s", delivery.id, webhook.id, delivery.tries, status or note)


async def run_sender(db: Database, settings: Settings) -> None:
    """Send deliveries until cancelled. Cancelled tries are repeated after their lease expires."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    client = create_reusable_webhook_client(settings)
    slots = asyncio.Semaphore(MAX_CONCURRENT)
    cleaned_up_at = -_CLEANUP_INTERVAL_SECONDS
    async with asyncio.TaskGroup() as group:
        while True:
            claimed = None
            with suppress(StorageUnavailable):
                if time.monotonic() - cleaned_up_at > _CLEANUP_INTERVAL_SECONDS:
                    cleaned_up_at = time.monotonic()
                    async with db.write() as session:
                        await outbox.delete_old_deliveries(session)
                async with slots:
                    claimed = await claim_delivery(db, name)
            if claimed is None:
                await asyncio.sleep(settings.poll_seconds * random.uniform(0.75, 1.25))
            else:
                await slots.acquire()
                group.create_task(_try_deliver(db, client, *claimed)).add_done_callback(lambda _: slots.release())


async def _try_deliver(db: Database, client: WebhookClient, delivery: Delivery, webhook: Webhook) -> None:
    try:
        await deliver(db, client, delivery, webhook)
    except StorageUnavailable as error:
        log.warning("%s: could not record the result, so the delivery will be repeated: %s", delivery.id, error)
