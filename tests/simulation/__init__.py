"""Deterministic simulation: the real desk and the real rules, in a world that one seed decides.

    python -m tests.simulation --seconds 60
    python -m tests.simulation --replay 4711

Clients, the network, the store, the mount point, the scripts and both clocks are simulated (`clients`, `network`,
`service`, `mount`, `scripts`, `world`); a life is a list of steps drawn from its seed (`life`). Checkers that know
only what was told hold every step against the protocol's text: `journal` with `acquisitions`, `barrier` and
`patience`, and `asked`. They import nothing of `storage_service.rules`; `tables` does, which compares what was
told with what is kept and what is in memory. When the faults stop, `ending` demands that everything ends.
"""
