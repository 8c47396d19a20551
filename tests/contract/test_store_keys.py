"""Idempotency keys on each store: what is remembered, and how it is forgotten (SPEC 5)."""

from __future__ import annotations

from random import Random
from uuid import uuid4

import pytest

from storage_protocol import commands as c
from storage_protocol.keys import uuid7, uuid7_ms
from storage_service.desk.batch import Batch, Journal
from storage_service.desk.keyring import Keyring, Remembered, last_to_forget
from storage_service.rules.state import State
from storage_service.store import dated
from tests.support.memory_store import MemoryStore
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import PLACES, START, StepShell, init

Store = MemoryStore | SqliteStore
MS = int(START * 1000)
DAY = 86_400.0
REGISTER = c.RegisterProducer(storage_id="s")


def uuid(ms: int) -> str:
    return uuid7(ms, bytes(10))


def batch(*keys: str, expire_before: float | None = None, newest_ms: int = 0) -> Batch:
    """A batch that remembers these keys, or forgets, and nothing else."""
    made = Batch(1, State(PLACES), Journal())
    made.keys += [(key, key.encode()[:16], f"reply to {key}".encode()) for key in keys]
    made.expire_keys_before, made.newest_key_ms = expire_before, newest_ms
    made.forget_up_to_ms = last_to_forget(expire_before or 0.0)
    return made


def found(store: Store, *keys: str) -> list[bool]:
    return [remembered is not None for _, remembered in store.look_up(("key", key) for key in keys)]


def test_what_is_remembered_is_found_after_a_restart(store: Store) -> None:
    keys = ["plain", uuid(MS), "µ" * 64, *(f"key {n}" for n in range(200))]
    store.commit(batch(*keys), START)
    for _ in range(2):
        expected = [(("key", key), Remembered(key.encode()[:16], f"reply to {key}".encode())) for key in keys]
        assert store.look_up(("key", key) for key in keys) == expected
        assert found(store, "another", "", "PLAIN") == [False] * 3
        store.reopen()


def test_old_keys_go_a_thousand_at_a_time_and_younger_ones_stay(store: Store) -> None:
    # The times of the keys themselves are no order: the newest is in the first thousand.
    old = [uuid(MS - 7 * n) if n % 2 else f"old {n}" for n in range(2500)]
    old[500] = uuid(MS + 40)
    young = [uuid(MS - 90_000), uuid(MS + 90_000), "young"]
    store.commit(batch(*old), START)
    store.commit(batch(*young), START + 10.0)
    told = [store.commit(batch(expire_before=START + 5.0), START + 20.0) for _ in range(4)]
    assert [each.forgotten for each in told] == [1000, 1000, 500, 0]
    assert [each.forgotten_ms for each in told] == [MS + 40, MS - 7 * 1001, MS - 7 * 2001, 0]
    for _ in range(3):
        assert store.forgotten_ms == MS + 40
        assert not any(found(store, *old))
        assert all(found(store, *young))
        store.reopen()
    assert store.commit(batch(expire_before=START + 10.1), START + 20.0).forgotten == 3
    store.reopen()
    assert store.forgotten_ms == MS + 90_000


def test_a_key_of_the_moment_itself_stays(store: Store) -> None:
    store.commit(batch("key"), START)
    assert store.commit(batch(expire_before=START), START).forgotten == 0
    assert found(store, "key") == [True]


def test_forgetting_plain_keys_moves_no_time(store: Store) -> None:
    store.commit(batch("plain"), START)
    assert store.commit(batch(expire_before=START + 1), START).forgotten == 1
    store.reopen()
    assert (store.forgotten_ms, found(store, "plain")) == (0, [False])


def test_what_is_forgotten_can_be_remembered_again(store: Store) -> None:
    store.commit(batch("plain"), START)
    store.commit(batch(expire_before=START + 1), START)
    store.commit(batch("plain"), START + 2)
    assert found(store, "plain") == [True]


def test_the_newest_key_is_never_told_older_than_it_is(store: Store) -> None:
    newest = 0
    for ms in (MS, MS + 1, MS + 999, MS + 1000, MS + 1001, MS + 5, MS + 50_000):
        newest = max(newest, ms)
        store.commit(batch(f"{uuid(ms)}", newest_ms=newest), START)
        assert newest <= store.newest_key_ms <= newest + 1000
        store.reopen()
        assert newest <= store.newest_key_ms <= newest + 1000


def test_the_newest_key_of_many_lives_of_one_second_is_not_carried_on_and_on(store: Store) -> None:
    for n in range(20):
        store.commit(batch(uuid(MS + n), newest_ms=MS + n), START)
        store.reopen()
    assert MS + 19 <= store.newest_key_ms <= MS + 1000


def test_a_key_dated_far_ahead_stays_until_its_own_time_and_holds_up_nobody(store: Store) -> None:
    ahead = [uuid(MS + 30 * 86_400_000 + n) for n in range(1500)]
    store.commit(batch(*ahead, uuid(MS), "plain"), START)
    expire = batch(expire_before=START + 1.0)
    told = [store.commit(expire, START + 7 * DAY) for _ in range(3)]
    # All who were stored before were looked at; only the two who may go are gone.
    assert ([each.forgotten for each in told], told[1].forgotten_ms) == ([1000, 502, 0], MS)
    for _ in range(2):
        assert (all(found(store, *ahead)), found(store, uuid(MS), "plain")) == (True, [False, False])
        assert store.forgotten_ms == MS
        store.reopen()
    last = START + 38 * DAY
    told = [store.commit(batch(expire_before=last - 7 * DAY), last) for _ in range(3)]
    assert [each.forgotten for each in told] == [1000, 500, 0]
    assert (any(found(store, *ahead)), store.forgotten_ms) == (False, MS + 30 * 86_400_000 + 1499)
    assert store.forgotten_ms < (last - 7 * DAY) * 1000


def test_a_key_within_an_hour_ahead_goes_as_all_others(store: Store) -> None:
    near, far = uuid(MS + 3_600_000), uuid(MS + 3_602_000)
    store.commit(batch(near, far), START)
    assert store.commit(batch(expire_before=START + 1.0), START + 7 * DAY).forgotten_ms == MS + 3_600_000
    assert found(store, near, far) == [False, True]


def test_keys_of_a_clock_that_was_ahead_hold_up_nobody(store: Store) -> None:
    store.commit(batch(*(f"ahead {n}" for n in range(1500))), START + 1000 * DAY)
    store.commit(batch("old", uuid(MS)), START)
    told = [store.commit(batch(expire_before=START + 1.0), START + 8 * DAY) for _ in range(3)]
    assert ([each.forgotten for each in told], store.forgotten_ms) == ([1000, 502, 0], MS)
    assert found(store, "old", uuid(MS), "ahead 0", "ahead 1499") == [False, False, True, True]
    # They are remembered for seven days more.
    assert store.commit(batch(expire_before=START + 7.5 * DAY), START + 9 * DAY).forgotten == 0
    told = [store.commit(batch(expire_before=START + 8.5 * DAY), START + 16 * DAY) for _ in range(3)]
    assert [each.forgotten for each in told] == [1000, 500, 0]


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_a_forgotten_uuid_is_refused_and_a_forgotten_plain_key_runs_again(store: Store, restarts: int) -> None:
    shell = StepShell(store=store).must(init())
    keys = [uuid(MS + n) if n % 2 else f"plain {n}" for n in range(2500)]
    for start in range(0, len(keys), 500):
        shell.send(*[(REGISTER, key) for key in keys[start : start + 500]])
        shell.run()
    assert all(found(store, *keys))
    # The bites come one after another, a minute is not waited between them.
    shell.wall, shell.mono = shell.wall + 7 * DAY, shell.mono + 7 * DAY
    shell.wait(61.0)
    assert (any(found(store, *keys)), store.forgotten_ms) == (False, MS + 2499)
    for _ in range(restarts):
        shell.restart()
    refused, ran = shell.call(REGISTER, keys[1]), shell.call(REGISTER, keys[0])
    assert (refused.error and refused.error.code, ran.ok) == ("key_expired", True)
    assert store.record(("storage", "s")).producers_unnamed == 2501
    assert shell.call(REGISTER, uuid(MS + 2500)).ok


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_forgotten_time_never_refuses_fresh_keys_whatever_a_client_dates_its_own(
    store: Store, restarts: int
) -> None:
    shell = StepShell(store=store).must(init())
    year = 365 * 86_400_000
    wrong = uuid(MS + year)
    first = shell.call(REGISTER, wrong)
    for week in range(1, 5):
        shell.wall, shell.mono = shell.wall + 8 * DAY, shell.mono + 8 * DAY
        shell.wait(61.0)
        for _ in range(restarts):
            shell.restart()
        assert shell.call(REGISTER, uuid(int(shell.wall * 1000))).ok, week
        assert shell.call(REGISTER, wrong).result == first.result
    shell.wall, shell.mono = shell.wall + 375 * DAY, shell.mono + 375 * DAY
    shell.wait(61.0)
    for _ in range(restarts):
        shell.restart()
    refused = shell.call(REGISTER, wrong)
    assert refused.error
    assert refused.error.code == "key_expired"
    assert shell.call(REGISTER, uuid(int(shell.wall * 1000))).ok
    assert store.record(("storage", "s")).producers_unnamed == 6


def test_keys_dated_far_ahead_are_named_and_fresh_ones_need_no_look_up(sqlite_store: SqliteStore) -> None:
    store, year = sqlite_store, 365 * 86_400_000
    ahead = [uuid(MS + year), uuid(MS + year + 0xABCDEF).upper(), uuid(MS + 60_001), uuid(2**48 - 1)]
    others = [uuid(MS), uuid(MS + 60_000).upper(), "plain", "zz", "", str(uuid4()), str(uuid4()).upper()]
    store.commit(batch(*ahead, *others, newest_ms=2**48 - 1), START)
    for _ in range(2):
        store.reopen()
        assert (store.newest_key_ms, sorted(store.keys_ahead)) == (MS + 60_000, sorted(ahead))
        keyring = Keyring(store.newest_key_ms, store.forgotten_ms, store.keys_ahead)
        assert all(map(keyring.must_look_up, [*ahead, *others]))
        assert not keyring.must_look_up(uuid(MS + 60_002))
    # A day later all of them are as they were, and the fresh keys of that day are known.
    store.commit(batch(uuid(MS + 86_400_000), newest_ms=2**48 - 1), START + DAY)
    store.reopen()
    assert (store.newest_key_ms, len(store.keys_ahead)) == (MS + 86_460_000, 3)
    assert Keyring(store.newest_key_ms, 0, store.keys_ahead).must_look_up(uuid(MS + 60_001))


def test_no_stored_key_is_ever_taken_for_new_after_a_restart(sqlite_store: SqliteStore) -> None:
    store, random, stored = sqlite_store, Random(4), list[str]()
    for life in range(12):
        wall = START + random.choice([0, 1, 5000, DAY, -DAY]) * life
        fresh = []
        for _ in range(random.randrange(1, 8)):
            off = random.choice([0, 0, 900, -900, 7_200, 10**7, -(10**7), 10**9])
            key = uuid7(int((wall + off) * 1000), random.randbytes(10))
            fresh.append(random.choice([key, key.upper(), str(uuid4())]))
        stored += fresh
        store.commit(batch(*fresh, newest_ms=max(uuid7_ms(key) or 0 for key in stored)), wall)
        store.reopen()
        keyring = Keyring(store.newest_key_ms, store.forgotten_ms, store.keys_ahead)
        assert all(map(keyring.must_look_up, stored))


def test_too_many_keys_ahead_are_not_named(monkeypatch: pytest.MonkeyPatch, sqlite_store: SqliteStore) -> None:
    monkeypatch.setattr(dated, "MOST", 3)
    store = sqlite_store
    store.commit(batch(*(uuid(MS + 10**10 + n) for n in range(4)), newest_ms=MS + 10**10 + 3), START)
    assert (store.newest_key_ms, store.keys_ahead) == (MS + 10**10 + 1003, [])
