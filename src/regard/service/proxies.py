"""Who asks, where proxies stand between: what they say of a client is believed from those that were named, of no other.

``X-Forwarded-For``, ``-Proto`` and ``-Host`` are read, and ``Forwarded`` (RFC 7239). A proxy that sets the one passes
on what a client made up of the other, so a request in which both tell of different clients is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from regard.errors import ConfigError

__all__ = ["Proxies", "Seen", "host_name"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,255}))(?::\d{1,5})?")
PAIR = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"([^"\\]*)"|([^\s";,]*))\s*')
MOST = 20
"""Proxies in a row that are looked at."""


class Seen(NamedTuple):
    """What is known of a client.

    Attributes:
        address: its own, or the last one that a named proxy saw.
        scheme: that it speaks, http or https.
        host: it asked for, with the port.
        forwarded: whether a proxy says that there is one, named or not.
    """

    address: str
    scheme: str
    host: str
    forwarded: bool


class Proxies:
    """The proxies that are believed.

    Args:
        named: addresses, or networks as ``10.0.0.0/8``.

    Raises:
        ConfigError: one is neither.
    """

    def __init__(self, named: Iterable[str] = ()):
        self.networks: list[Network] = []
        for text in named:
            try:
                self.networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise ConfigError(
                    f"--proxy {text!r} ({error}), wanted an address or a network, as 10.0.0.0/8"
                ) from None

    def __contains__(self, address: str) -> bool:
        known = read_address(address)
        return known is not None and any(known in network for network in self.networks)

    def look(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Seen:
        """What is known of the client of a request.

        Args:
            scope: ASGI's.
            headers: lower-case name to value, those given several times joined by commas.

        Raises:
            ValueError: a named proxy passes on two accounts that differ.
        """
        peer = str((scope.get("client") or ("unknown",))[0])
        forwarded = any(name in headers for name in ("forwarded", "x-forwarded-for", "x-forwarded-host", "via"))
        seen = Seen(peer, scope.get("scheme", "http"), headers.get("host", ""), forwarded)
        if peer not in self:
            return seen
        usual = self._usual(headers, seen) if "x-forwarded-for" in headers else None
        standard = self._standard(headers, seen) if "forwarded" in headers else None
        if usual and standard and usual.address != standard.address:
            raise ValueError("Forwarded and X-Forwarded-For tell of different clients; let the proxy set one of them")
        return usual or standard or self._usual(headers, seen)

    def _usual(self, headers: Mapping[str, str], seen: Seen) -> Seen:
        hops = [address_of(part) for part in parts(headers.get("x-forwarded-for", ""))]
        scheme = last(headers.get("x-forwarded-proto", "")).lower()
        host = last(headers.get("x-forwarded-host", ""))
        return self._through(seen, hops, scheme, host)

    def _standard(self, headers: Mapping[str, str], seen: Seen) -> Seen:
        elements = [pairs(part) for part in parts(headers["forwarded"])]
        hops = [address_of(element.get("for", "")) for element in elements]
        nearest = elements[-1] if elements else {}
        return self._through(seen, hops, nearest.get("proto", "").lower(), nearest.get("host", ""))

    def _through(self, seen: Seen, hops: list[str], scheme: str, host: str) -> Seen:
        """Go back from the nearest proxy for as long as it is a named one that speaks."""
        address = seen.address
        for hop in reversed(hops[-MOST:]):
            if address not in self or not hop:
                break
            address = hop
        return Seen(address, scheme if scheme in ("http", "https") else seen.scheme, host or seen.host, seen.forwarded)


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets; empty where it is none."""
    found = HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found else ""


def read_address(text: str) -> Any:
    """An IP address, of version 4 where it is one within version 6; None for anything else."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def address_of(text: str) -> str:
    """The IP address of a hop, without port and brackets; empty for anything else, as ``unknown`` or ``_hidden``."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    found = read_address(text)
    return "" if found is None else str(found)


def parts(header: str) -> list[str]:
    """The values of a header that holds several."""
    return [part.strip() for part in header.split(",")] if header.strip() else []


def last(header: str) -> str:
    """What the nearest proxy says."""
    return (parts(header) or [""])[-1]


def pairs(element: str) -> dict[str, str]:
    """Name to value of one element of ``Forwarded``."""
    found = (PAIR.fullmatch(part) for part in element.split(";"))
    return {match[1].lower(): match[2] or match[3] or "" for match in found if match}
