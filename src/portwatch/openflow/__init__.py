"""OpenFlow as values: flows, groups, their text in Open vSwitch's own dialect, and the difference of two tables."""
