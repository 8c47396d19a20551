"""R5: whoever is killed, and when: a conversion never runs twice at once, and one result is accepted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.conversion_life import SETTINGS, Life
from tests.support.polling import eventually
from tests.support.service import Service

Make = Callable[..., Service]

KILLS = [
    ("service", "fled"),
    ("runner", "fled"),
    ("service", "started"),
    ("keeper", "fled"),
    ("service", "begun"),
    ("script", "fled"),
    ("service runner", "fled"),
    ("service", "started"),
    ("service keeper", "started"),
    ("service script", "fled"),
    ("service", "fled"),
]


@pytest.mark.parametrize("namespace", [False, True], ids=["subreaper", "namespace"])
def test_nothing_outlives_a_kill_nothing_overlaps_and_one_result_is_accepted(
    own_service: Make, namespace: bool
) -> None:
    service = own_service({"conversion": SETTINGS | {"pid_namespace": namespace}})
    with service.connect() as wire:
        protection = wire.call("get_status")["conversion_protection"]
        if namespace and not protection["pid_namespace"]:
            pytest.skip("this kernel grants no PID namespace")
    life = Life(service)
    for cycle, (victims, point) in enumerate(KILLS):
        with service.connect() as wire:
            running = eventually(lambda: (one := life.conversion(wire))["state"] == "running" and one)
        life.reach(point, running["attempt"])
        life.kill(victims)
        if "service" in victims:
            if cycle % 2:
                eventually(lambda: life.processes() == {})
            service.start()
        with service.connect() as wire:
            eventually(lambda: life.conversion(wire)["attempt"] > running["attempt"])  # noqa: B023
    (life.folder / "go").touch()
    life.check()
    assert len([line for line in life.lines() if line.startswith("end")]) == 1


def test_what_protects_conversions_is_told_and_what_is_refused_is_warned_of(own_service: Make) -> None:
    service = own_service({"conversion": {"pid_namespace": True}})
    with service.connect() as wire:
        status = wire.call("get_status")
    protection = status["conversion_protection"]
    assert (protection["runner"], protection["flock"]) == (True, True)
    if protection["pid_namespace"]:
        assert (protection["reason"], status["warnings"]) == (None, [])
    else:
        assert status["warnings"] == [protection["reason"]]
        assert protection["reason"] in service.log_text()
