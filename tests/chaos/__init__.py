"""Long runs: `soak` lets ports come and go, and watches what the agents hold; `chaos` breaks things meanwhile.

Both are random, and say by which seed; `SEED=…` plays it again. `churn` is the one model of where each port is.
"""
