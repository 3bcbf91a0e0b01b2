"""Core tests: no loop, no socket, no clock of their own; hypothesis has time, for the machine may be busy."""

from hypothesis import settings

settings.register_profile("core", deadline=None, print_blob=True)
settings.load_profile("core")
