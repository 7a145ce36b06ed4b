"""SSRF guard of webhooks: no URL, DNS record or redirect leads to a forbidden address."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jobs.webhooks import outbox, signing
from jobs.webhooks.sender import DeliveryFailed, WebhookClient
from jobs.webhooks.url_policy import Address, ForbiddenUrl, is_public, parse_url, resolve_address
from storage.tables import Delivery, Webhook
from tests.webhook_receiver import ConnectionCounter, Receiver, count_connections, run_receiver

pytestmark = pytest.mark.anyio

LOOPBACK_NETWORKS = (ip_network("127.0.0.0/8"),)
PUBLIC_IP = "93.184.216.34"

DNS_RECORDS = {
    "localhost": ["127.0.0.1"],
    "internal.example": ["10.0.0.5"],
    "metadata.example": ["169.254.169.254"],
    "mixed.example": [PUBLIC_IP, "127.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "six.example": ["::1"],
    "unique-local.example": ["fd00::1"],
    "link-local.example": ["fe80::1"],
    "translated.example": ["64:ff9b::7f00:1"],
    "bücher.example": ["127.0.0.1"],
    "xn--bcher-kva.example": ["127.0.0.1"],
    "good.example": [PUBLIC_IP],
}

FORBIDDEN_URLS = [
    "https://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/",
    "https://127.8.9.10:{port}/",
    "https://localhost:{port}/",
    "https://LOCALHOST:{port}/",
    "https://localhost.:{port}/",
    "https://internal.example:{port}/",
    "https://metadata.example:{port}/latest/meta-data/",
    "https://mixed.example:{port}/",
    "https://mapped.example:{port}/",
    "https://six.example:{port}/",
    "https://unique-local.example:{port}/",
    "https://link-local.example:{port}/",
    "https://translated.example:{port}/",
    "https://bücher.example:{port}/",
    "https://xn--bcher-kva.example:{port}/",
    "https://[::1]:{port}/",
    "https://[::]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/",
    "https://[::127.0.0.1]:{port}/",
    "https://[::ffff:169.254.169.254]/",
    "https://[64:ff9b::127.0.0.1]:{port}/",
    "https://[64:ff9b:1::7f00:1]:{port}/",
    "https://[2002:7f00:1::]:{port}/",
    "https://[2001:0:7f00:1::]:{port}/",
    "https://[fe80::1]:{port}/",
    "https://[fe80::1%25lo]:{port}/",
    "https://[fec0::1]:{port}/",
    "https://[fc00::1]:{port}/",
    "https://[ff02::1]:{port}/",
    "https://0.0.0.0:{port}/",
    "https://0.1.2.3:{port}/",
    "https://0:{port}/",
    "https://127.1:{port}/",
    "https://2130706433:{port}/",
    "https://0x7f000001:{port}/",
    "https://0x7f.0.0.1:{port}/",
    "https://0177.0.0.1:{port}/",
    "https://017700000001:{port}/",
    "https://127.0.0.1.:{port}/",
    "https://１２７.０.０.１:{port}/",
    "https://127。0。0。1:{port}/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://198.18.0.1/",
    "https://192.0.2.1/",
    "https://192.88.99.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "http://good.example/",
    "https://good.example:6379/",
    "https://good.example:22/",
    "https://good.example:0/",
    "https://good.example:65536/",
    "https://good.example:{port}@127.0.0.1:{port}/",
    "https://good.example@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}#@good.example/",
    "https://127.0.0.1:{port}\\@good.example/",
    "https://good.example\\@127.0.0.1:{port}/",
    "https://good.example/\r\nHost: 127.0.0.1",
    "https://good.example /",
    "https://good.exa%6dple/",
    "https://-good.example/",
    "https://good..example/",
    "https:///hook",
    "https://",
    "//127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_INFO",
    "ftp://127.0.0.1:{port}/",
    "dict://127.0.0.1:{port}/",
    "javascript:alert(1)",
    "127.0.0.1:{port}",
    "",
    "https://good.example/" + "x" * 2048,
    "https://good.example/ü",
]


async def resolve_from_records(host: str, port: int) -> list[Address]:
    if host not in DNS_RECORDS:
        raise OSError("no such name")
    return [ip_address(text) for text in DNS_RECORDS[host]]


@pytest.fixture(scope="module")
def connection_counter() -> Iterator[ConnectionCounter]:
    with count_connections() as counter:
        yield counter


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def build_webhook(url: str) -> Webhook:
    return Webhook(
        id="wh_x",
        project_id="p",
        created_at=0,
        updated_at=0,
        name="w",
        url=url,
        secret=signing.generate_secret(),
        events=[],
    )


def build_sample_delivery(webhook: Webhook) -> Delivery:
    return outbox.build_delivery(webhook, "batch.completed", "batch_x")


async def send(client: WebhookClient, url: str) -> int:
    webhook = build_webhook(url)
    return await client.send(webhook, build_sample_delivery(webhook))


@pytest.mark.parametrize("template", FORBIDDEN_URLS)
async def test_rejected_at_creation_and_at_delivery(connection_counter: ConnectionCounter, template: str) -> None:
    url, client = (
        template.replace("{port}", str(connection_counter.port)),
        WebhookClient(resolver=resolve_from_records, timeout_seconds=2),
    )
    with pytest.raises(ForbiddenUrl) as caught:
        await client.validate_url(url)
    with pytest.raises(DeliveryFailed, match=r".") as undelivered:
        await send(client, url)
    assert str(undelivered.value) == str(caught.value)
    assert connection_counter.connections == 0


def test_the_table_is_long_enough() -> None:
    assert len(set(FORBIDDEN_URLS)) >= 40


def test_connections_are_counted() -> None:
    with count_connections() as counter:
        socket.create_connection(("127.0.0.1", counter.port)).close()
        deadline = time.monotonic() + 5
        while not counter.connections:
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://good.example", "good.example", 443, "/"),
        ("HTTPS://Good.Example/A?b=c", "good.example", 443, "/A?b=c"),
        ("https://good.example:8443/a%20b", "good.example", 8443, "/a%20b"),
        ("https://bücher.example/", "xn--bcher-kva.example", 443, "/"),
        ("https://93.184.216.34/", PUBLIC_IP, 443, "/"),
        ("https://[2606:4700:0:0::6810:84e5]/", "2606:4700::6810:84e5", 443, "/"),
    ],
)
async def test_allowed_urls(url: str, host: str, port: int, path: str) -> None:
    target = parse_url(url)
    assert (target.host, target.port, target.path) == (host, port, path)


@pytest.mark.parametrize("text", [PUBLIC_IP, "1.1.1.1", "2606:4700::6810:84e5", "2a00:1450:4001:80b::200e"])
def test_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


async def test_a_name_that_does_not_resolve_yet_may_be_stored() -> None:
    client = WebhookClient(resolver=resolve_from_records)
    await client.validate_url("https://later.example/hook")
    with pytest.raises(DeliveryFailed, match="no address"):
        await send(client, "https://later.example/hook")


async def test_rebinding(connection_counter: ConnectionCounter) -> None:
    answers = [[PUBLIC_IP], ["127.0.0.1"]]

    async def resolve_rebinding(host: str, port: int) -> Sequence[Address]:
        return [ip_address(text) for text in answers.pop(0)]

    client = WebhookClient(resolver=resolve_rebinding, timeout_seconds=2)
    url = f"https://good.example:{connection_counter.port}/"
    await client.validate_url(url)
    with pytest.raises(DeliveryFailed, match="not public"):
        await send(client, url)
    assert (answers, connection_counter.connections) == ([], 0)


async def test_the_address_is_looked_up_once_and_connected_to(receiver: Receiver) -> None:
    resolved: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[Address]:
        resolved.append(host)
        return [ip_address("127.0.0.1")]

    assert (
        await send(WebhookClient(LOOPBACK_NETWORKS, resolve), receiver.build_url("/hook?a=b", "hooks.example")) == 200
    )
    assert resolved == ["hooks.example"]
    assert receiver.headers[0]["host"] == f"hooks.example:{receiver.port}"


async def test_an_allowed_network_allows_nothing_else(connection_counter: ConnectionCounter) -> None:
    client = WebhookClient((ip_network("127.0.0.1/32"),), resolve_from_records)
    await resolve_address(
        parse_url(f"http://127.0.0.1:{connection_counter.port}/"), resolve_from_records, client.allowed_networks
    )
    for url in (f"http://127.0.0.2:{connection_counter.port}/", "https://internal.example/", "http://good.example/"):
        with pytest.raises(ForbiddenUrl):
            await client.validate_url(url)


async def test_a_redirect_is_not_followed(receiver: Receiver, connection_counter: ConnectionCounter) -> None:
    receiver.redirect_url = f"http://127.0.0.1:{connection_counter.port}/"
    assert await send(WebhookClient(LOOPBACK_NETWORKS), receiver.build_url("/redirect")) == 307
    assert connection_counter.connections == 0


async def test_a_silent_receiver_times_out(receiver: Receiver) -> None:
    with pytest.raises(DeliveryFailed, match="No response within"):
        await send(WebhookClient(LOOPBACK_NETWORKS, timeout_seconds=0.3), receiver.build_url("/silent"))


async def test_an_endless_answer_is_not_read(receiver: Receiver) -> None:
    started = time.monotonic()
    assert await send(WebhookClient(LOOPBACK_NETWORKS), receiver.build_url("/endless")) == 200
    assert time.monotonic() - started < 2


async def test_no_listener() -> None:
    with run_receiver() as receiver:
        url = receiver.build_url()
    with pytest.raises(DeliveryFailed, match=r"connection failed \(ConnectError\)"):
        await send(WebhookClient(LOOPBACK_NETWORKS), url)


def create_certificate(folder: Path, name: str) -> tuple[str, str]:
    """Create a self-signed certificate. Return the paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


async def test_the_certificate_is_the_names_not_the_addresss(tmp_path: Path) -> None:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [ip_address("127.0.0.1")]

    cert, key = create_certificate(tmp_path, "hooks.example")
    client = WebhookClient(LOOPBACK_NETWORKS, resolve, ssl_context=ssl.create_default_context(cafile=cert))
    with run_receiver(ssl_certfile=cert, ssl_keyfile=key) as receiver:
        assert await send(client, receiver.build_url(host="hooks.example")) == 200
        for host in ("other.example", "127.0.0.1"):
            with pytest.raises(DeliveryFailed, match="connection failed"):
                await send(client, receiver.build_url(host=host))
        with pytest.raises(DeliveryFailed, match="connection failed"):
            await send(WebhookClient(LOOPBACK_NETWORKS, resolve), receiver.build_url(host="hooks.example"))
        assert len(receiver.bodies) == 1
