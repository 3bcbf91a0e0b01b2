"""HTTP for people and programs on this host: a small server for given routes, and the CLI's client."""
