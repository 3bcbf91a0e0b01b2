"""portwatch: layer-2 overlays for Open vSwitch hypervisors, without a server."""

__version__ = "0.1.0"
