"""Removes what a lab left whose owner was killed: `python -m tests.lab.sweep`.

Touched are only labs whose recorded owner is dead, and of processes only those on their record.
"""

from tests.lab.lab import remove
from tests.lab.ownership import records


def sweep() -> list[str]:
    """Remove all abandoned labs and return their tokens."""
    swept: list[str] = []
    for record in records():
        owner = record.owner()
        if owner is None or owner.alive():
            continue
        record.kill()
        remove(record)
        swept.append(record.token)
    return swept


if __name__ == "__main__":
    for token in sweep():
        print(f"lab {token}: swept")
