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
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_RARP = 0x8035
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_EXPERIMENT = 0x88B5

ARP_REQUEST, ARP_REPLY, RARP_REQUEST = 1, 2, 3
UDP, ICMPV6 = 17, 58
ROUTER_SOLICITATION, NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT, LISTENER_REPORT = 133, 135, 136, 143
ROUTER, SOLICITED, OVERRIDE = 0x8000_0000, 0x4000_0000, 0x2000_0000
SOURCE_LINK_LAYER_ADDRESS, TARGET_LINK_LAYER_ADDRESS = 1, 2

ETHERNET_BYTES = 14
IPV6_BYTES = 40
ADVERTISEMENT_BYTES = 24  # up to its options


def ethernet(destination: str, source: str, ethertype: int, payload: bytes) -> bytes:
    """Return a frame, padded to Ethernet's minimum."""
    return (_mac(destination) + _mac(source) + struct.pack("!H", ethertype) + payload).ljust(60, b"\0")


def experiment(mac: str, text: bytes = b"") -> bytes:
    """A frame of no protocol at all, to everybody (IEEE 802, local experiments)."""
    return ethernet(BROADCAST, mac, ETHERTYPE_EXPERIMENT, text)


def udp(destination: str, mac: str, source: str, target: str, ports: tuple[int, int] = (9, 9)) -> bytes:
    """A datagram from *source* to *target*, IPv4 or IPv6, from and to *ports*."""
    payload = b"portwatch"
    datagram = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    sender, to = ip_address(source), ip_address(target)
    if isinstance(sender, IPv4Address):
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, UDP, 0) + sender.packed + to.packed
        header = packet[:10] + struct.pack("!H", _checksum(packet)) + packet[12:]
        return ethernet(destination, mac, ETHERTYPE_IPV4, header + datagram)
    return ethernet(destination, mac, ETHERTYPE_IPV6, _ipv6(UDP, 64, sender.packed + to.packed, datagram, 6))


def icmpv6(
    mac: str, sender: str, to: str, kind: int, body: bytes, *, hops: int = 255, destination: str | None = None
) -> bytes:
    """An ICMPv6 message, its *body* from the fifth byte on; to the Ethernet address of a multicast *to*, or another."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    addresses = IPv6Address(sender).packed + IPv6Address(to).packed
    packet = _ipv6(ICMPV6, hops, addresses, message, 2)
    multicast = "33:33:" + addresses[-4:].hex(":")
    return ethernet(destination or multicast, mac, ETHERTYPE_IPV6, packet)


def arp_request(mac: str, sender: str, target: str, sender_mac: str | None = None) -> bytes:
    """Who has *target*? Tell *sender* (`0.0.0.0`: a probe), who says to be *sender_mac*."""
    return ethernet(BROADCAST, mac, ETHERTYPE_ARP, _arp(ARP_REQUEST, sender_mac or mac, sender, NOBODY, target))


def gratuitous_arp(mac: str, address: str) -> bytes:
    """*address* is at *mac*: told to everybody, unasked."""
    return arp_request(mac, address, address)


def arp_reply(mac: str, address: str, target_mac: str, target: str) -> bytes:
    """*address* is at *mac*: told to *target* alone, asked or not."""
    return ethernet(target_mac, mac, ETHERTYPE_ARP, _arp(ARP_REPLY, mac, address, target_mac, target))


def rarp(mac: str, sender_mac: str | None = None) -> bytes:
    """I am here: what QEMU sends when a migrated guest goes on."""
    who = sender_mac or mac
    return ethernet(BROADCAST, mac, ETHERTYPE_RARP, _arp(RARP_REQUEST, who, "0.0.0.0", who, "0.0.0.0"))


def neighbor_solicitation(
    mac: str,
    sender: str,
    target: str,
    *,
    options: bytes | None = None,
    hops: int = 255,
    to: str | None = None,
    destination: str | None = None,
) -> bytes:
    """Who has *target*? Tell *sender* (`::`: duplicate address detection); to the target's group, or to *to*."""
    if options is None:
        options = link_layer_option(SOURCE_LINK_LAYER_ADDRESS, mac) if sender != "::" else b""
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:-3] + IPv6Address(target).packed[-3:])
    body = bytes(4) + IPv6Address(target).packed + options
    return icmpv6(mac, sender, to or str(group), NEIGHBOR_SOLICITATION, body, hops=hops, destination=destination)


def neighbor_advertisement(
    mac: str, sender: str, target: str, *, options: bytes | None = None, flags: int = OVERRIDE, to: str = "ff02::1"
) -> bytes:
    """*target* is at *mac*: told to all nodes, unasked."""
    if options is None:
        options = link_layer_option(TARGET_LINK_LAYER_ADDRESS, mac)
    body = struct.pack("!I", flags) + IPv6Address(target).packed + options
    return icmpv6(mac, sender, to, NEIGHBOR_ADVERTISEMENT, body)


def link_layer_option(kind: int, mac: str) -> bytes:
    """Return the option of neighbour discovery that holds a MAC."""
    return struct.pack("!BB", kind, 1) + _mac(mac)


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
    return [found for frame in exchange(question, device, wait) if (found := answer(frame, target))]


def exchange(frame: bytes, device: str, wait: float) -> list[bytes]:
    """Send one frame; return all that comes within *wait* seconds, in order."""
    heard: list[bytes] = []
    with _open(device) as packets:
        packets.send(frame)
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            packets.settimeout(left)
            try:
                heard.append(packets.recv(2048))
            except TimeoutError:
                break
    return heard


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


def _ipv6(protocol: int, hops: int, addresses: bytes, message: bytes, place: int) -> bytes:
    """Return a packet, with the checksum at *place* of its message."""
    pseudo = addresses + struct.pack("!II", len(message), protocol) + message
    checksum = struct.pack("!H", _checksum(pseudo.ljust(len(pseudo) + len(pseudo) % 2, b"\0")))
    header = struct.pack("!IHBB", 6 << 28, len(message), protocol, hops) + addresses
    return header + message[:place] + checksum + message[place + 2 :]


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _checksum(text: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(text) // 2}H", text))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
