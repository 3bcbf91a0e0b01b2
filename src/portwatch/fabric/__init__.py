"""The fabric: who has which port, and the forwarding that follows from it. No clock, no I/O."""
