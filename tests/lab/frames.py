"""Raw Ethernet frames: built, sent, and answered.

Building is pure. Sending and asking use the network namespace of the thread that calls them.
"""

import socket
import struct
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY = "00:00:00:00:00:00"

ETH_P_ALL = 0x0003
ETHERTYPE_ARP = 0x0806
ETHERTYPE_RARP = 0x8035
ETHERTYPE_IPV6 = 0x86DD

ARP_REQUEST, ARP_REPLY, RARP_REQUEST = 1, 2, 3
ICMPV6 = 58
NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT = 135, 136
SOURCE_LINK_LAYER_ADDRESS, TARGET_LINK_LAYER_ADDRESS = 1, 2

ETHERNET_BYTES = 14
IPV6_BYTES = 40
ADVERTISEMENT_BYTES = 24  # up to its options


def ethernet(destination: str, source: str, ethertype: int, payload: bytes) -> bytes:
    """Return a frame, padded to Ethernet's minimum."""
    return (_mac(destination) + _mac(source) + struct.pack("!H", ethertype) + payload).ljust(60, b"\0")


def arp_request(mac: str, sender: str, target: str) -> bytes:
    """Who has *target*? Tell *sender* (`0.0.0.0`: a probe)."""
    return ethernet(BROADCAST, mac, ETHERTYPE_ARP, _arp(ARP_REQUEST, mac, sender, NOBODY, target))


def gratuitous_arp(mac: str, address: str) -> bytes:
    """*address* is at *mac*: told to everybody, unasked."""
    return arp_request(mac, address, address)


def arp_reply(mac: str, address: str, target_mac: str, target: str) -> bytes:
    """*address* is at *mac*: told to *target* alone, asked or not."""
    return ethernet(target_mac, mac, ETHERTYPE_ARP, _arp(ARP_REPLY, mac, address, target_mac, target))


def rarp(mac: str) -> bytes:
    """I am here: what QEMU sends when a migrated guest goes on."""
    return ethernet(BROADCAST, mac, ETHERTYPE_RARP, _arp(RARP_REQUEST, mac, "0.0.0.0", mac, "0.0.0.0"))


def neighbor_solicitation(mac: str, sender: str, target: str) -> bytes:
    """Who has *target*? Tell *sender* (`::`: duplicate address detection)."""
    low = IPv6Address(target).packed[-3:]
    group = IPv6Address("ff02::1:ff00:0").packed[:-3] + low
    options = struct.pack("!BB", SOURCE_LINK_LAYER_ADDRESS, 1) + _mac(mac) if sender != "::" else b""
    message = struct.pack("!BBHI", NEIGHBOR_SOLICITATION, 0, 0, 0) + IPv6Address(target).packed + options
    addresses = IPv6Address(sender).packed + group
    checksum = _checksum(addresses + struct.pack("!II", len(message), ICMPV6) + message)
    header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, 255) + addresses
    packet = header + message[:2] + struct.pack("!H", checksum) + message[4:]
    return ethernet(f"33:33:ff:{low.hex(':')}", mac, ETHERTYPE_IPV6, packet)


def send(frame: bytes, device: str) -> None:
    """Send one frame."""
    with _open(device) as packets:
        packets.send(frame)


def ask(device: str, mac: str, sender: str | None, target: str, wait: float) -> list[str]:
    """Ask who has *target*; return the MAC of every answer within *wait* seconds, in order."""
    if isinstance(ip_address(target), IPv4Address):
        question, answer = arp_request(mac, sender or "0.0.0.0", target), arp_answer
    else:
        question, answer = neighbor_solicitation(mac, sender or "::", target), neighbor_answer
    answers: list[str] = []
    with _open(device) as packets:
        packets.send(question)
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            packets.settimeout(left)
            try:
                found = answer(packets.recv(2048), target)
            except TimeoutError:
                break
            if found:
                answers.append(found)
    return answers


def arp_answer(frame: bytes, address: str) -> str | None:
    """Return the MAC that *frame*, an ARP reply, gives for *address*; else None."""
    head = struct.pack("!HHHBBH", ETHERTYPE_ARP, 1, 0x0800, 6, 4, ARP_REPLY)
    if frame[12:22] != head or frame[28:32] != IPv4Address(address).packed:
        return None
    return frame[22:28].hex(":")


def neighbor_answer(frame: bytes, address: str) -> str | None:
    """Return the MAC that *frame*, a neighbour advertisement, gives for *address*; else None."""
    packet, message = frame[ETHERNET_BYTES:], frame[ETHERNET_BYTES + IPV6_BYTES :]
    if frame[12:14] != struct.pack("!H", ETHERTYPE_IPV6) or packet[6:7] != bytes([ICMPV6]):
        return None
    if message[:1] != bytes([NEIGHBOR_ADVERTISEMENT]) or message[8:24] != IPv6Address(address).packed:
        return None
    option = message[ADVERTISEMENT_BYTES : ADVERTISEMENT_BYTES + 8]
    return option[2:].hex(":") if option[:1] == bytes([TARGET_LINK_LAYER_ADDRESS]) else frame[6:12].hex(":")


def _open(device: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    packets.bind((device, 0))
    return packets


def _arp(operation: int, mac: str, address: str, target_mac: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    sender = _mac(mac) + IPv4Address(address).packed
    return head + sender + _mac(target_mac) + IPv4Address(target).packed


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _checksum(text: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(text) // 2}H", text))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
