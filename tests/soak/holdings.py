"""What a process holds: descriptors, threads, children, memory; and whether that grows."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holdings:
    """One look at a process."""

    descriptors: int
    threads: int
    children: int
    memory: int
    """Resident, in KiB."""

    @classmethod
    def of(cls, pid: int) -> "Holdings":
        root = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines())
        children = [task.joinpath("children").read_text().split() for task in (root / "task").iterdir()]
        return cls(
            descriptors=len(list((root / "fd").iterdir())),
            threads=int(status["Threads"]),
            children=sum(map(len, children)),
            memory=int(status["VmRSS"].split()[0]),
        )

    @property
    def counted(self) -> tuple[int, int, int]:
        """What must be the same whenever all is quiet."""
        return self.descriptors, self.threads, self.children


def slope(points: list[tuple[float, float]]) -> float:
    """Return the rise for each unit of x, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
