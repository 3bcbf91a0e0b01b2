"""Questions to this host's kernel: is an address ours, does a packet of this size get to a peer, is the clock kept.

It blocks; echoes need root, as the rest of a hypervisor's tools do.
"""

import ctypes
import os
import select
import socket
import struct
import time
from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address
from typing import Final

from portwatch.model import IpAddress, TunnelEndpoint

ECHO_SECONDS: Final = 1.0
LEAST: Final = 96
"""Bytes of a small packet: an echo of it must come if the peer answers echoes at all."""

# linux/in.h, linux/in6.h: do not fragment, whatever the kernel believes of the path.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE = 10, 23, 3
_ICMP_HEADER: Final = struct.Struct("!BBHHH")
_ECHO_REQUEST, _ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_IP_HEADER: Final = {4: 20, 6: 40}
_TIME_ERROR: Final = 5
"""linux/timex.h: nothing disciplines the clock."""


def is_ours(address: IpAddress) -> bool:
    """Is this an address of this host?"""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def echoed(source: TunnelEndpoint, peers: Iterable[TunnelEndpoint], size: int) -> set[TunnelEndpoint]:
    """Return those of *peers* that send back an unfragmented IP packet of *size* bytes."""
    waiting = set(peers)
    found: set[TunnelEndpoint] = set()
    version = source.version
    four = isinstance(source, IPv4Address)
    family, protocol = (socket.AF_INET, socket.IPPROTO_ICMP) if four else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    with socket.socket(family, socket.SOCK_RAW, protocol) as wire:
        wire.bind((str(source), 0))
        level, option = (socket.IPPROTO_IP, _IP_MTU_DISCOVER) if four else (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
        wire.setsockopt(level, option, _PROBE)
        identity = os.getpid() & 0xFFFF
        payload = bytes(size - _IP_HEADER[version] - _ICMP_HEADER.size)
        for peer in waiting:
            try:
                wire.sendto(_request(version, identity, size, payload), (str(peer), 0))
            except OSError:
                continue  # too large for the first interface, or no way there: no echo will come
        deadline = time.monotonic() + ECHO_SECONDS
        while waiting - found and (left := deadline - time.monotonic()) > 0:
            if not select.select([wire], [], [], left)[0]:
                break
            packet, sender = wire.recvfrom(65535)
            head = packet[_IP_HEADER[4] if four else 0 :]  # of IPv6 the kernel keeps the header
            kind, _, _, theirs, sequence = _ICMP_HEADER.unpack_from(head)
            if (kind, theirs, sequence) == (_ECHO_REPLY[version], identity, size & 0xFFFF):
                found.add(ip_address(sender[0]))
    return found & waiting


def clock_disciplined() -> bool | None:
    """Does something keep the clock right? None: the kernel does not say."""
    timex = ctypes.create_string_buffer(512)  # all zero: only ask
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    return None if state < 0 else bool(state != _TIME_ERROR)


def _request(version: int, identity: int, size: int, payload: bytes) -> bytes:
    head = _ICMP_HEADER.pack(_ECHO_REQUEST[version], 0, 0, identity, size & 0xFFFF)
    if version == 6:  # noqa: PLR2004 - IPv6: the kernel makes the checksum
        return head + payload
    checksum = _checksum(head + payload)
    return _ICMP_HEADER.pack(_ECHO_REQUEST[version], 0, checksum, identity, size & 0xFFFF) + payload


def _checksum(octets: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = octets + bytes(len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
