"""`make demo`: three hypervisors, two tenants with the same addresses, and a proof of each thing that happens."""
