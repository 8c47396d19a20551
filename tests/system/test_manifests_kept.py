"""Manifests of what was removed, restored and converted once more: verify is content with all of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.polling import eventually
from tests.support.service import Service
from tests.system.test_manifests import damage, folder_of, quiet, storage_on, taken, verify

Make = Callable[..., Service]
# Each attempt leaves something else.
CONVERT = '#!/bin/sh\necho "$CONVERSION_ATTEMPT" > "$ACQ_DIR/attempt.txt"\n'


def test_what_comes_back_from_the_trash_is_proven_and_conversions_add_to_its_manifests(own_service: Make) -> None:
    service = own_service(start=False)
    service.script("convert.sh", CONVERT)
    with service.start().connect() as wire:
        storage = storage_on(wire).open()
        run = storage.run()
        acq = taken(storage, "a", convert_script="convert.sh")
        (conversion,) = wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"]
        id = conversion["conversion_id"]
        eventually(lambda: wire.call("get_conversion", conversion_id=id)["state"] == "succeeded")
        quiet(wire)
        storage.run(mode="remove")
        wire.call("restore_trash", uid=run["uid"], replace=True)
        folder = folder_of(acq)
        first = (folder / "manifest-1.json").read_bytes()
        code, document = verify(folder)
        assert (code, damage(document)) == (0, [])

        wire.call("retry_conversion", conversion_id=id)
        eventually(lambda: (folder / "manifest-1-conversion-2.json").exists(), 60)
        quiet(wire)
        code, document = verify(folder)
        assert (code, damage(document)) == (0, [])
        notes = [(each["what"], each["path"]) for each in document["acquisitions"][0]["notes"]]
        assert ("replaced", "attempt.txt") in notes
        assert (folder / "manifest-1.json").read_bytes() == first
        names = [event["data"]["name"] for event in wire.journal(topics=["acquisition.manifest_written"])]
        assert names == ["manifest-1.json", "manifest-1-conversion-1.json", "manifest-1-conversion-2.json"]
