"""The benchmarks: real hypervisors, and the bare parts measured beside them in the same run."""
