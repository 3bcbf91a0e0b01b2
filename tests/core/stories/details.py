"""A port's details come from the bus: before its plug or after it, wrong at first, changed, deleted."""

from portwatch.model import Mac, NetworkId, PortDetails, PortId, fixed_ip
from tests.core.fleet import Fleet, a_port, a_vni
from tests.core.stories.facts import active, answered, asked_of, cut_off, dropped, passes, said, talk
from tests.core.stories.story import Setting, Step, Story, Trait, ip, mac, plug, unplug

DIRECTORY = Setting(directory=True)
FORGETFUL = frozenset({Trait.FORGETS})
"""Who begins anew and misses details waits for them, or remembers them by its own claims: test_directory.py."""


def libvirt_plugs(host: str, name: str) -> Step:
    """The port is plugged in with the keys that libvirt writes, and no others."""
    return plug(host, name, None, fixed_ips=(), from_directory=True)


def told(name: str, network: str = "blue", **changes: object) -> Step:
    """The orchestrator says a port's details."""
    known: dict[str, object] = {
        "network_id": NetworkId(network),
        "segmentation_id": a_vni(network),
        "fixed_ips": a_port(name).fixed_ips,
    }

    def step(fleet: Fleet) -> None:
        fleet.directory[PortId(name)] = PortDetails(**{**known, **changes})  # type: ignore[arg-type]  # as builders are
        _spread(fleet, name)

    return step


def deleted(name: str) -> Step:
    """The orchestrator deletes a port's details."""

    def step(fleet: Fleet) -> None:
        del fleet.directory[PortId(name)]
        _spread(fleet, name)

    return step


def _spread(fleet: Fleet, name: str) -> None:
    for host in fleet.hosts.values():
        if PortId(name) in host.plugged:
            host.hear_details(name)


THERE = tuple(step for number in (1, 2, 3) for step in (told(f"p{number}"), libvirt_plugs(f"hv{number}", f"p{number}")))
TALK = talk("hv1/p1", "hv2/p2", "hv3/p3")

STORIES = (
    Story(
        "details come before the plug",
        (),
        THERE,
        (TALK, active("hv1/p1", "hv2/p2", "hv3/p3"), answered("hv1/p1", ip("p2"), mac("p2"))),
        setting=DIRECTORY,
    ),
    Story(
        "details come after the plug",
        THERE[:4],
        (libvirt_plugs("hv3", "p3"), told("p3")),
        (TALK, active("hv3/p3"), answered("hv1/p1", ip("p3"), mac("p3"))),
        setting=DIRECTORY,
        unless=FORGETFUL,
    ),
    Story(
        "details do not come",
        THERE[:4],
        (libvirt_plugs("hv3", "p3"),),
        (
            talk("hv1/p1", "hv2/p2"),
            cut_off("hv3/p3"),
            said("hv3/p3", "BUILD", "details-missing: network-id, segmentation-id not in the directory"),
        ),
        setting=DIRECTORY,
        unless=FORGETFUL,
    ),
    Story(
        "details change",
        THERE,
        (told("p3", "red"), told("p1", fixed_ips=(fixed_ip("10.0.0.77"),))),
        (
            talk("hv3/p3"),
            said("hv3/p3", "ACTIVE", network_id="red"),
            answered("hv2/p2", "10.0.0.77", mac("p1")),
            asked_of("hv2/p2", ip("p1"), "hv1/p1"),
            passes("hv1/p1", "10.0.0.77"),
            dropped("hv1/p1", ip("p1")),
        ),
        setting=DIRECTORY,
    ),
    Story(
        "details of another MAC than the one plugged in",
        THERE,
        (told("p3", mac=Mac(mac("p9"))),),
        (talk("hv1/p1", "hv2/p2"), cut_off("hv3/p3"), said("hv3/p3", "ERROR", "mac-mismatch:")),
        setting=DIRECTORY,
    ),
    Story(
        "details of another MAC are mended",
        THERE,
        (told("p3", mac=Mac(mac("p9"))), told("p3", mac=Mac(mac("p3")))),
        (TALK, active("hv3/p3")),
        setting=DIRECTORY,
    ),
    Story(
        "details are deleted while the port is plugged in",
        THERE,
        (deleted("p3"),),
        (TALK, active("hv3/p3")),
        throughout=(TALK,),
        setting=DIRECTORY,
        unless=FORGETFUL,
    ),
    Story(
        "a port whose details were deleted is plugged in anew",
        THERE,
        (unplug("hv3", "p3"), deleted("p3"), libvirt_plugs("hv3", "p3")),
        (talk("hv1/p1", "hv2/p2"), cut_off("hv3/p3"), said("hv3/p3", "BUILD", "details-missing:")),
        setting=DIRECTORY,
        unless=FORGETFUL,
    ),
)
