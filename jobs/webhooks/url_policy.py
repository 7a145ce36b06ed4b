"""Policy for webhook URLs: only public addresses are allowed (SSRF guard).

Each try resolves the host once, checks all of its addresses against the tables below, and connects
to one of the checked addresses. Python's ``is_global`` is not enough: it accepts multicast, 6to4,
NAT64 and older embeddings of IPv4 in IPv6.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import idna

from storage.settings import Network

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Function from host and port to addresses. Raises ``OSError`` if there are none."""

MAX_URL_CHARACTERS = 2048

_DEFAULT_PORTS = {"https": 443, "http": 80}
_LABEL_PATTERN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMBER_PATTERN = re.compile(r"[0-9]+|0x[0-9a-f]*")

_WEB_PORTS = frozenset({80, 443})
_FORBIDDEN_PORTS = frozenset(
    {
        *(1080, 1433, 1521, 1723, 2049, 2181, 2375, 2376, 2379, 2380, 3128, 3306, 3389, 4369, 5060, 5061, 5432, 5672),
        *(5900, 5984, 5985, 5986, 6000, 6379, 6443, 6667, 7000, 7001, 8086, 8500, 9042, 9092, 9100, 9200, 9300, 10250),
        *(11211, 15672, 16379, 25565, 26379, 27017, 27018, 50000, 61616),
    }
)
"""Ports above 1023 of services that could read a request as commands, or that are never public."""

_FORBIDDEN_V4 = (IPv4Network("192.88.99.0/24"), IPv4Network("192.31.196.0/24"), IPv4Network("192.175.48.0/24"))
"""Relays and sinks that the IANA registries list as global."""
_UNICAST_V6 = IPv6Network("2000::/3")
"""All allocated unicast addresses. Prefixes that wrap or translate IPv4 (``::``, ``::ffff:``,
``64:ff9b:``) are outside of it."""
_FORBIDDEN_V6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)


class ForbiddenUrl(ValueError):
    """The policy forbids this URL.

    The message gives the reason, but nothing that an address responded.
    """


@dataclass(frozen=True)
class Target:
    """A parsed URL with a normalized host."""

    scheme: str
    host: str
    port: int
    path: str
    """Path with the query."""

    @property
    def authority(self) -> str:
        """Value of the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str) -> Target:
    """Parse a webhook URL. Raises ``ForbiddenUrl``."""
    if len(url) > MAX_URL_CHARACTERS or not url.isprintable() or any(char.isspace() or char == "\\" for char in url):
        raise ForbiddenUrl(
            f"The URL must have at most {MAX_URL_CHARACTERS} printable characters, no spaces and no backslashes."
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ForbiddenUrl("This is not a URL. Write https://host/path.") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise ForbiddenUrl("The URL must start with https://.")
    if "@" in parts.netloc:
        raise ForbiddenUrl("The URL must not contain a user or password. Verify the signature of deliveries instead.")
    if parts.fragment or "#" in url:
        raise ForbiddenUrl("The URL must not contain '#'. A fragment would not be sent.")
    if not parts.path.isascii() or not parts.query.isascii():
        raise ForbiddenUrl("Percent-encode non-ASCII characters in the URL's path and query.")
    number = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if number not in _WEB_PORTS and (number < 1024 or number in _FORBIDDEN_PORTS):
        raise ForbiddenUrl(
            f"Port {number} belongs to another service. Use 443, or a port above 1023 that no known service uses."
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, _normalize_host(host or "", bracketed="[" in parts.netloc), number, path)


def _normalize_host(host: str, *, bracketed: bool) -> str:
    if bracketed:
        try:
            # A zone (%eth0) selects a link of this machine.
            return str(IPv6Address(host)) if "%" not in host else _reject_host()
        except ValueError:
            return _reject_host()
    try:
        # As browsers do: full-width digits and dots become ASCII before any check.
        name = host.lower() if host.isascii() else idna.encode(host, uts46=True, std3_rules=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        return _reject_host()
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL_PATTERN.fullmatch, labels)):
        return _reject_host()
    if _NUMBER_PATTERN.fullmatch(labels[-1]):
        # Only four decimal numbers: some resolver reads 127.1, 0x7f000001, 0177.0.0.1 and
        # 2130706433 as 127.0.0.1.
        try:
            return str(IPv4Address(name))
        except ValueError:
            return _reject_host()
    return name


def _reject_host() -> str:
    raise ForbiddenUrl("The URL's host must be a host name or an address in its standard form.")


async def resolve_with_system(host: str, port: int) -> list[Address]:
    """Resolve a host with the machine's resolver."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(info[4][0]).partition("%")[0]) for info in infos]


async def resolve_address(target: Target, resolver: Resolver, allowed_networks: Sequence[Network]) -> Address:
    """Return the address to connect to.

    ``allowed_networks`` are non-public networks that the operator allows, also over http. Raises
    ``ForbiddenUrl``, and ``OSError`` if the name has no address now.
    """
    try:
        addresses: Sequence[Address] = [ip_address(target.host)]
    except ValueError:
        addresses = await resolver(target.host, target.port)
    if not addresses:
        raise OSError("the name has no address")
    for address in addresses:
        is_allowed = _is_within(address, allowed_networks)
        if not is_allowed and not is_public(address):
            raise ForbiddenUrl("The URL leads to an address that is not public. Use a host with a public address.")
        if not is_allowed and target.scheme != "https":
            raise ForbiddenUrl("The URL must start with https://.")
    return addresses[0]


def is_public(address: Address) -> bool:
    """Return True for a public unicast address that nothing translates into another one."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not _is_within(address, _FORBIDDEN_V4)
    return address in _UNICAST_V6 and address.is_global and not _is_within(address, _FORBIDDEN_V6)


def _is_within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
