"""What the commands of the long runs take, read alike. Imports nothing of portwatch: the fuzzer must be the first."""

import math


def minutes(text: str) -> float:
    """Read how long, in minutes: for argparse."""
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError(text)
    return number
