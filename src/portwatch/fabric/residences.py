"""One tunnel address, one host: whose an address is that several hosts claim. docs/mobility.md, the same address twice.

Who holds it follows from what the hosts say of themselves: it is the same everywhere, in whatever order they are heard.
"""

from collections import Counter
from datetime import datetime

from portwatch.model import Claim, HostName, TunnelEndpoint

Residence = tuple[TunnelEndpoint, datetime]
"""Where a living host says it is tunnelled to, and since when."""


class Residences:
    """Asked before a claim counts. What it returns is to be settled by whoever keeps the claims."""

    def __init__(self, host: HostName, endpoint: TunnelEndpoint | None) -> None:
        self.holders: dict[TunnelEndpoint, HostName] = {}
        """Of the tunnel addresses that several hosts claim, whose each is: the others' claims do not count."""
        self._host, self._endpoint = host, endpoint
        self._claims: dict[TunnelEndpoint, Counter[HostName]] = {}
        """Tunnel address → the other hosts whose claims name it, and how many do."""
        self._of: dict[HostName, Residence] = {}

    def may_tunnel(self, claim: Claim) -> bool:
        """Is the tunnel address that a claim names its host's, as far as is known?"""
        return claim.tunnel_ip is None or self.holders.get(claim.tunnel_ip, claim.host) == claim.host

    @property
    def refused(self) -> dict[HostName, TunnelEndpoint]:
        """The hosts, this one perhaps among them, whose tunnel address is another's: see `holders`."""
        told = self._host in self._of  # before, nobody could know that we are there
        return {
            host: endpoint
            for endpoint, holder in self.holders.items()
            for host in self.claimants(endpoint)
            if host != holder and (host != self._host or told)
        }

    def resides(self, host: HostName, residence: Residence | None) -> set[TunnelEndpoint]:
        """A host lives there; None: it does not live, or has no address. Return the addresses to settle anew."""
        before = self._of.pop(host, None)
        if residence is not None:
            self._of[host] = residence
        return {each[0] for each in (before, residence) if each is not None}

    def named(self, before: Claim | None, after: Claim | None) -> set[TunnelEndpoint]:
        """A claim has changed. Return the addresses that its host names for the first or the last time."""
        changed: set[TunnelEndpoint] = set()
        for claim, by in ((before, -1), (after, 1)):
            if claim is not None and claim.tunnel_ip is not None:
                hosts = self._claims.setdefault(claim.tunnel_ip, Counter())
                hosts[claim.host] += by
                if hosts[claim.host] == max(by, 0):
                    changed.add(claim.tunnel_ip)
                if not hosts[claim.host]:
                    del hosts[claim.host]
                if not hosts:
                    del self._claims[claim.tunnel_ip]
        return changed

    def claimants(self, endpoint: TunnelEndpoint) -> set[HostName]:
        """Return the hosts that say that they are at *endpoint*."""
        return {*self._claims.get(endpoint, ()), *((self._host,) if endpoint == self._endpoint else ())}

    def rightful(self, endpoint: TunnelEndpoint) -> HostName | None:
        """Return who holds an address: of the living hosts that claim it, who has had it longest. None: undisputed."""
        claimants = self.claimants(endpoint)
        living = [(found[1], host) for host in claimants if (found := self._of.get(host)) and found[0] == endpoint]
        return min(living)[1] if living and len(claimants) > 1 else None

    def affected(self, endpoint: TunnelEndpoint, holder: HostName | None) -> set[HostName]:
        """Return the hosts whose claims begin or cease to count if *holder* holds the address."""
        before = self.holders.get(endpoint)
        return {host for host in self.claimants(endpoint) if (before in (None, host)) != (holder in (None, host))}

    def hold(self, endpoint: TunnelEndpoint, holder: HostName | None) -> None:
        """The address is *holder*'s now; None: nobody disputes it."""
        if holder is None:
            self.holders.pop(endpoint, None)
        else:
            self.holders[endpoint] = holder
