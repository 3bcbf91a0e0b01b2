"""The rules of the fabric, told as stories, by subject."""

from tests.core.stories import details, moves, neighbours, networks, ports, restarts, shared, snapshots, spoofing
from tests.core.stories.story import Story

STORIES: tuple[Story, ...] = (
    *ports.STORIES,
    *details.STORIES,
    *moves.STORIES,
    *shared.STORIES,
    *neighbours.STORIES,
    *spoofing.STORIES,
    *snapshots.STORIES,
    *networks.STORIES,
    *restarts.STORIES,
)
