"""The Open vSwitch database of this host: what it says about ports, and what portwatch writes into it."""
