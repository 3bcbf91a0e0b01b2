"""The fault matrix: what happens to traffic, flows and agreement when a part is stopped, killed, lost or falsified.

A row is a *story*: a generator that does harm, yields when the harm is over, and after that says what must be true
beside what must be true after every fault; a `finally` around the `yield` takes back what a failure would leave to the
next row. `restarts.killed` is the shortest one. A new row is a story like it in the file of its kind (`restarts`,
`switch`, `ovsdb`), and a new kind is a file like these that is named in `matrix`.

The runner (`runner.suffer`) pings every 10 ms between guests on three hypervisors meanwhile, one pair of which has
nothing to do with the hypervisor that is hit. At the `yield` it takes the time until all has converged: every agent
ready, each switch holding what is wanted, the wanted equal to a full recompute, all hosts of one mind. What `fault`
is told beside the name is what is promised (`Fault` has the words): without any, no probe is lost, no flow is touched.
After the story's second half, which also clears away what the first has made, all of it must hold once more.

`make faults` prints the matrix and writes it into docs/reliability.md; `ARGS='-k vswitchd'` plays some rows only.
`pytest tests/system/test_faults.py` plays each once, but for those that take long.
"""
