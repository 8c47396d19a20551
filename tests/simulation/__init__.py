"""Deterministic simulation: the real desk and the real rules, in a world that one seed decides.

    python -m tests.simulation --seconds 60
    python -m tests.simulation --replay 4711

Clients, the network, the store, the mount point, the scripts and both clocks are simulated (`clients`, `network`,
`service`, `mount`, `scripts`, `world`); a life is a list of steps drawn from its seed (`life`). Checkers that know
only what was told hold every step against the protocol's text (`journal`, `barrier`, `replies`, `tables`). They
import nothing of `storage_service.rules`, but for `tables`, which compares what is in memory with what is kept.
"""
