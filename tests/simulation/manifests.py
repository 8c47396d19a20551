"""Manifests, as the protocol's text has them (SPEC 4.2.15): who writes them, and what may be told of them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import NamedTuple

from storage_service.rules.work import CANCELLED, OPENED_AGAIN, Failed, ManifestDone, WriteManifest

from .acquisitions import Acquisitions
from .broken import must
from .mount import AWAY, Mount
from .patience import Patience
from .records import Map

ENDED = ("conversion.succeeded", "conversion.failed", "conversion.cancelled")
OFF = "off"


class Sheet(NamedTuple):
    """A manifest that lies beside the data: whose chain it says that it is in, and which it names before it."""

    uid: str
    name: str
    storage_id: str
    previous: str | None


class Owed:
    """
    kind    what the first seal of this segment was configured with
    whole   whether the manifest of the segment is still to come
    ended   segment and attempt of the conversions that ended since the last of their manifests
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.whole = True
        self.ended: list[tuple[int, int]] = []


class Manifests(Acquisitions):
    """The journal's part: each sealed segment gets its manifest once, each conversion that ended is in one.

    kind_of  what is configured for a storage, as long as this life of the service lasts
    sheets   every manifest that was ever put in place, by its digest
    """

    def __init__(self, max_parallel: int, patience: Patience) -> None:
        super().__init__(max_parallel, patience)
        self.kinds = (OFF,)
        self.sheets: dict[str, Sheet] = {}
        self.manifests: dict[tuple[str, str], str] = {}
        self._chains: dict[str, str] = {}
        self._due: dict[str, Owed] = {}
        self._ran: set[str] = set()  # conversions that left something since their last end

    def kind_of(self, storage_id: str) -> str:
        return self.kinds[ord(storage_id[0]) % len(self.kinds)]

    def owed(self) -> list[str]:
        """The acquisitions of which a manifest has still to come."""
        return [id for id, owed in self._due.items() if owed.kind != OFF and (owed.whole or owed.ended)]

    def may_be_asked(self, order: WriteManifest) -> bool:
        """Whether this manifest is due, of an acquisition that is sealed, as far as that is durable."""
        acq, owed = self.acqs.get(order.acq_id), self._due.get(order.acq_id)
        if acq is None or owed is None or not acq["sealed"] or owed.kind != order.kind:
            return False
        due = owed.whole if order.conversion is None else not owed.whole and order.conversion in owed.ended
        return due and (acq["uid"], acq["segment"]) == (order.uid, order.segment)

    # What is told

    def _acquisition_started(self, event: Map, subject: str, data: Map) -> None:
        super()._acquisition_started(event, subject, data)
        self._due.pop(subject, None)

    def _acquisition_removed(self, event: Map, subject: str, data: Map) -> None:
        super()._acquisition_removed(event, subject, data)
        self._due.pop(subject, None)

    def _acquisition_sealed(self, event: Map, subject: str, data: Map) -> None:
        super()._acquisition_sealed(event, subject, data)
        # Sealed a second time, it owes what it owed.
        owed = self._due.get(subject)
        if owed is None or owed.kind == OFF:
            self._due[subject] = Owed(self.kind_of(event["storage_id"]))

    def _conversion(self, event: Map, data: Map) -> Map:
        before = super()._conversion(event, data)
        acq, owed = self.acqs.get(data["acq_id"]), self._due.get(data["acq_id"])
        if event["type"] == "conversion.started":
            self._ran.add(data["conversion_id"])
        if event["type"] in ENDED and data["conversion_id"] in self._ran:
            self._ran.remove(data["conversion_id"])
            if owed is not None and acq is not None and acq["uid"] == data["uid"]:
                owed.ended.append((data["segment"], data["attempt"]))
        return before

    def _acquisition_manifest_written(self, event: Map, subject: str, data: Map) -> None:
        acq, owed, digest = self._acq(event, ""), self._due.get(subject), data["manifest_blake3"]
        place = data["uid"], data["name"]
        must((acq["uid"], acq["segment"]) == (data["uid"], data["segment"]), "wrong", "another's manifest", event)
        must(acq["state"] != "open" and acq["sealed"], "wrong", "a manifest of what is not sealed", event, acq)
        must(place not in self.manifests, "doubled", "a manifest is told twice", event)
        if owed is None or owed.kind == OFF:
            must(False, "wrong", "a manifest where none is due", event)
            return
        if owed.whole:
            must(data["name"] == f"manifest-{data['segment']}.json", "wrong", "not that of the segment", event)
            owed.whole = False
        else:
            names = ["manifest-{}-conversion-{}.json".format(*each) for each in owed.ended]
            must(data["name"] in names, "wrong", "of no conversion that ended", event, names)
            del owed.ended[: names.index(data["name"]) + 1]
        sheet = self.sheets[digest]
        must((sheet.uid, sheet.name) == place, "wrong", "it tells of another manifest", event, sheet)
        before = self._chains.get(sheet.storage_id)
        must(sheet.previous == before, "wrong", "it does not name the one before it", event, sheet, before)
        self._chains[sheet.storage_id] = digest
        self.manifests[place] = digest


class Hashers:
    """The host's processes that write manifests, which end with the service, and what they put beside the data."""

    def __init__(self, mount: Mount, journal: Manifests) -> None:
        self._mount, self._journal = mount, journal
        self.came: Counter[str] = Counter()

    def carry_out(self, order: WriteManifest, chance: Random) -> ManifestDone | Failed:
        there = self._mount.folders.get(order.path)
        if self._mount.away or there is None or chance.random() < 0.1:
            self.came["failed"] += 1
            return AWAY
        if (there.id, there.uid) != (order.acq_id, order.uid):
            self.came["another's"] += 1
            return Failed("already_exists", "The folder is another's.", {"what": "folder", "id": there.id})
        told = self._mount.told("/".join(order.path))
        known = order.path not in self._mount.spoilt
        if known and (told["state"] == "open" or told["segment"] != order.segment):
            self.came["opened again"] += 1
            return Failed("unavailable", "It was opened again.", {"reason": OPENED_AGAIN})
        journal = self._journal
        must((order.uid, order.name) not in journal.manifests, "lost", "a told manifest is written over", order)
        for name in order.over:
            must((order.uid, name) in journal.manifests, "wrong", "it adds to what is not told", name, order)
        digest = f"digest {len(journal.sheets)}"
        previous = order.previous.blake3 if order.previous is not None else None
        journal.sheets[digest] = Sheet(order.uid, order.name, order.storage_id, previous)
        if self._mount.blind:
            self.came["failed afterwards"] += 1
            return AWAY
        self.came["of a conversion" if order.conversion else "of a segment"] += 1
        return ManifestDone(1, 7, digest)


class Job:
    """A manifest at the door. `result`: it is over, and not told yet."""

    __slots__ = ("order", "result")

    def __init__(self, order: WriteManifest) -> None:
        self.order = order
        self.result: ManifestDone | Failed | None = None


class Jobs:
    """Those of one life of the service."""

    def __init__(self, hashers: Hashers, journal: Manifests) -> None:
        self._hashers, self._journal = hashers, journal
        self.under_way: list[Job] = []

    def add(self, orders: list[WriteManifest], cancels: list[str]) -> None:
        """What the desk wants: some are given up, others begun. Either may be in place already."""
        for job in self.under_way:
            if job.order.acq_id in cancels:
                self._hashers.came["cancelled"] += 1
                job.result = Failed("unavailable", "It was opened again or removed.", {"reason": CANCELLED})
        for order in orders:
            busy = [job.order for job in self.under_way if job.order.storage_id == order.storage_id]
            must(not busy, "wrong", "two manifests of one storage at once", order, busy)
            must(self._journal.may_be_asked(order), "wrong", "a manifest that is not due, or not durably", order)
            self.under_way.append(Job(order))

    def get_on(self, job: Job, chance: Random) -> ManifestDone | Failed | None:
        """It is written, or fails; and, now or later, told: then what is returned is no None."""
        if job.result is None:
            job.result = self._hashers.carry_out(job.order, chance)
            if chance.random() < 0.5:
                return None
        self.under_way.remove(job)
        return job.result

    def crash(self, chance: Random) -> None:
        """What was being written may be in place, and nobody hears of it."""
        for job in self.under_way:
            if job.result is None and chance.random() < 0.5:
                self._hashers.carry_out(job.order, chance)
            self._hashers.came["lost"] += 1
