"""Documents in each store: written with what names them, forgotten when nothing does, rolled back (SPEC 4.3)."""

from __future__ import annotations

from typing import Any

import pytest
from blake3 import blake3

from storage_protocol import commands as c
from storage_protocol.configuration import DOCUMENT_BYTES
from tests.support.memory_store import MemoryStore
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import StepShell, close, config, init, new_acq, new_run, read

Store = MemoryStore | SqliteStore
DOCUMENTS = [b"", b"<config/>", b"\xff\x00\xfe", "für".encode(), bytes(DOCUMENT_BYTES)]


def given(content: bytes | None, storage_id: str = "s", name: str = "config.xml") -> c.SetConfig:
    return c.SetConfig(storage_id=storage_id, document=content, name=name)


def digest(content: bytes) -> str:
    return blake3(content).hexdigest()


def kept(store: Store) -> set[bytes]:
    return set(store.documents.values())


def storage(store: Store) -> StepShell:
    return StepShell(store=store).must(init(), config(), new_run())


@pytest.mark.parametrize("content", DOCUMENTS, ids=len)
def test_a_document_comes_back_as_it_was_also_after_a_restart(store: Store, content: bytes) -> None:
    shell = storage(store)
    told = shell.call(given(content)).result
    assert told == {"blake3": digest(content)}
    for _ in range(3):
        assert store.document(digest(content)) == content
        shell.restart()
    assert shell.record(("storage", "s")).config.bytes == len(content)
    shell.sound()


def test_what_nothing_names_is_forgotten(store: Store) -> None:
    shell = storage(store)
    for content in (b"one", b"two", b"two", b"three"):
        shell.must(given(content))
        assert kept(store) == {content}
    assert store.document(digest(b"one")) is None
    shell.must(given(None))
    assert kept(store) == set()
    shell.must(given(b"one"), c.DeinitStorage(storage_id="s", force=True))
    assert kept(store) == set()


def test_what_an_acquisition_still_has_to_save_is_kept(store: Store) -> None:
    shell = storage(store).must(given(b"one"))
    shell.sources = lambda order: None
    shell.must(new_acq(), given(b"two"), new_acq(acq_name="b"), given(None))
    assert kept(store) == {b"one", b"two"}
    shell.restart()
    assert kept(store) == {b"one", b"two"}
    shell.must(close())
    assert kept(store) == {b"two"}
    shell.must(close("root/g/r/b"))
    assert kept(store) == set()
    shell.sound()


def test_of_what_comes_and_goes_in_one_transaction_nothing_stays(store: Store) -> None:
    shell = storage(store)
    shell.hold_commits = True
    shell.send(c.SetVar(name="x", value=1))
    shell.run()
    shell.send(given(b"one"), given(b"two"), given(None))
    shell.run()
    shell.commit().run()
    assert {row.topic for row in shell.batch.rows} == {"storage.config_set/s/"}
    shell.commit().run()
    assert kept(store) == set()
    shell.hold_commits = False
    shell.sound()


def test_what_was_taken_back_may_be_handed_in_again_by_another_before_that_is_durable(store: Store) -> None:
    shell = storage(store).must(given(b"one"), init("t", brg_name="h"))
    shell.hold_commits = True
    shell.send(given(None))
    shell.run()
    shell.send(given(b"one", "t"))
    shell.run()
    shell.hold_commits = False
    shell.commit().run()
    assert kept(store) == {b"one"}


@pytest.mark.parametrize("content", [b"two", None])
def test_what_was_rolled_back_was_never_kept_nor_forgotten(store: Store, content: Any) -> None:
    shell = storage(store).must(given(b"one"))
    shell.hold_commits = True
    sent = shell.send(given(content))
    shell.run()
    shell.roll_back().run()
    assert (shell.told(sent), kept(store)) == (["unavailable"], {b"one"})
    shell.hold_commits = False
    shell.must(given(content))
    assert kept(store) == ({content} if content else set())
    shell.sound()


def test_a_reading_that_was_rolled_back_forgets_nothing(store: Store) -> None:
    shell = storage(store).must(given(b"one"), new_acq(), given(None))
    shell.sources = lambda order: None
    shell.must(close())
    shell.hold_commits = True
    shell.taken()
    shell.roll_back().run()
    assert kept(store) == {b"one"}
    shell.hold_commits, shell.sources = False, read
    shell.run()
    assert kept(store) == set()
    shell.sound()
