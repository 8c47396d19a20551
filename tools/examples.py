"""The examples behind protocol/vectors: one of every command, of every event, and results of commands.

Each is written as the records of storage_protocol; `vectors` makes the golden bytes of them.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from storage_protocol import commands, records
from storage_protocol.commands import Command

STORAGE_ID = "daq"
GROUP_ID = "root/commissioning/first_tests"
RUN_ID = f"{GROUP_ID}/run_000007"
ACQ_ID = f"{RUN_ID}/threshold_200"
RUN_UID = "6f1d2c86-4f0e-4b0a-9d57-3f6a0c4d9b11"
ACQ_UID = "b7a1f3de-52c9-4a35-8f0b-0d9a6f2c7e42"
CONVERSION_ID = "2c9e6a70-1b5d-4c83-a6f4-91e0d7b8c353"
JOURNAL_ID = "0e8f4b62-7a3c-4d19-b5e6-c2d1a0f9e864"
SERVICE_ID = "d41c7e95-8b60-4f2a-93d7-5a6b0c1e2f75"
KEY = "019b0a7c-5c00-7a3e-8d21-6f4e9b0c1d86"
LOGBOOK = "main/Shift log"
EARLY, LATE = "2026-05-04T07:30:00.000000Z", "2026-05-04T07:42:10.250000Z"

COMMANDS_ASKED: tuple[Command, ...] = (
    commands.InitStorage(
        storage_id=STORAGE_ID,
        brg_name="first_tests",
        brg_path="commissioning/first_tests",
        brg_parent_id="root/commissioning",
        stats_names=("events", "bytes"),
        producers_count=2,
    ),
    commands.ConfigStorage(storage_id=STORAGE_ID),
    commands.InvalStorage(storage_id=STORAGE_ID, force=True),
    commands.DeinitStorage(storage_id=STORAGE_ID),
    commands.RegisterProducer(storage_id=STORAGE_ID, producer="ecal"),
    commands.UnregisterProducer(storage_id=STORAGE_ID, producer="ecal"),
    commands.HeartbeatProducer(storage_id=STORAGE_ID, producer="ecal"),
    commands.GetStorage(storage_id=STORAGE_ID),
    commands.ListStorages(),
    commands.NewRun(storage_id=STORAGE_ID, run_name="run_{n:06}", params={"beam_GeV": 4.5, "gas": "Ar/CO2"}),
    commands.SetParamRun(storage_id=STORAGE_ID, run_name="run_000007", param="shift", value="Zoë"),
    commands.NewAcq(
        storage_id=STORAGE_ID,
        acq_name="threshold_200",
        run_name="run_000007",
        convert_script="to_root.sh",
        params={"threshold": 200, "masked": False, "note": None},
        producers=("ecal", "hcal"),
    ),
    commands.SetParamAcq(
        storage_id=STORAGE_ID, acq_id=ACQ_ID, param="gain", value=-(1 << 63), uid=ACQ_UID, segment=1
    ),
    commands.MarkAsFinished(
        storage_id=STORAGE_ID,
        acq_id=ACQ_ID,
        producer="ecal",
        summary={"events": 120_000, "bytes": 5_000_000_000},
        uid=ACQ_UID,
        segment=1,
    ),
    commands.CloseAcq(storage_id=STORAGE_ID, acq_id=ACQ_ID, reason="end of the shift"),
    commands.AbortAcq(storage_id=STORAGE_ID, acq_id=ACQ_ID, reason="high voltage tripped"),
    commands.GetRun(run_id=RUN_ID),
    commands.GetAcq(acq_id=ACQ_ID),
    commands.ListAcqs(storage_id=STORAGE_ID, state="finished", limit=10),
    commands.SetConfig(storage_id=STORAGE_ID, document=b"<daq gain='2'/>\n", name="daq.xml"),
    commands.SetVar(ns="slow_control", name="hv.target_V", value=1450.0),
    commands.AddVar(name="spills", delta=1),
    commands.GetVar(ns="slow_control", name="hv.target_V"),
    commands.ListVars(ns="slow_control", prefix="hv."),
    commands.NewGroup(name="commissioning", path="commissioning"),
    commands.GetNode(node_id=GROUP_ID),
    commands.ListNodes(parent_id=GROUP_ID),
    commands.FindNodes(
        under=GROUP_ID,
        kind="acq",
        where={"threshold": {"ge": 150, "lt": 250}, "gas": {"like": "Ar/*"}, "masked": False},
        verdict="complete",
        since=EARLY,
    ),
    commands.AnnotateNode(node_id=ACQ_ID, name="quality", value="bad", author="Zoë"),
    commands.ListAnnotations(node_id=ACQ_ID, limit=20),
    commands.ListConversions(state="failed"),
    commands.GetConversion(conversion_id=CONVERSION_ID),
    commands.RetryConversion(conversion_id=CONVERSION_ID),
    commands.CancelConversion(conversion_id=CONVERSION_ID, reason="wrong script"),
    commands.Ping(),
    commands.Describe(),
    commands.GetStatus(),
    commands.ReplayEvents(after_seq=41, topics=("acquisition.", "conversion.failed/daq/"), limit=500),
    commands.PruneEvents(before_seq=1_000_000),
    commands.ListTrash(mp="file:///", limit=20),
    commands.RestoreTrash(uid=RUN_UID, replace=True),
    commands.EmptyTrash(older_than_s=86_400.0),
    commands.RebuildRundb(path="commissioning"),
)

STORAGE = records.Storage(
    storage_id=STORAGE_ID,
    state="configured",
    brg_name="first_tests",
    use_rundb=True,
    brg_mp="file:///",
    brg_path="commissioning/first_tests",
    brg_parent_id="root/commissioning",
    elog_server=None,
    elog_name=None,
    stats_names=("events", "bytes"),
    producers_count=2,
    finish_timeout_s=600.0,
    producer_timeout_s=None,
    producers=("ecal", "hcal"),
    producers_unnamed=0,
    open_acqs=(),
    warnings=(),
    created_at=EARLY,
)
GROUP = records.Node(
    id=GROUP_ID,
    uid="93b5d0e4-6c2f-4a87-8e1d-7f0a4c3b2d97",
    kind="group",
    name="first_tests",
    parent_id="root/commissioning",
    mp="file:///",
    path="commissioning/first_tests",
    params={},
    created_at=EARLY,
)
_RUN_PATH = "commissioning/first_tests/run_000007"
_ACQ_PATH = f"{_RUN_PATH}/threshold_200"


def _location(path: str) -> records.Location:
    return records.Location("file:///", path, f"/srv/data/{path}", f"file:///srv/data/{path}")


RUN = records.Run(
    run_id=RUN_ID,
    uid=RUN_UID,
    run_name="run_000007",
    storage_id=STORAGE_ID,
    location=_location(_RUN_PATH),
    params={"beam_GeV": 4.5, "gas": "Ar/CO2"},
    created_at=EARLY,
)
ACQ_OPEN = records.Acquisition(
    acq_id=ACQ_ID,
    uid=ACQ_UID,
    acq_name="threshold_200",
    run_id=RUN_ID,
    run_name="run_000007",
    storage_id=STORAGE_ID,
    segment=1,
    state="open",
    sealed=False,
    verdict=None,
    expected=2,
    finished=0,
    producers=(),
    missing=("ecal", "hcal"),
    failed=(),
    convert_script="to_root.sh",
    conversion=None,
    location=_location(_ACQ_PATH),
    params={"threshold": 200, "masked": False, "note": None},
    started_at=EARLY,
    finished_at=None,
    reason="",
    warnings=(),
)
MARK = records.CountedMark("ecal", True, {"events": 120_000, "bytes": 5_000_000_000}, EARLY)
CONFIG_BLAKE3 = "0a3f7c9d5e1b8264f0c7a91d3e5b7f2846c0d9e1a3b5c7d9f1e2a4b6c8d0e2f4"
STATISTICS = {
    "events": records.Statistic(
        records.Reading(1000, None, None, None, EARLY), records.Reading(121_000, None, None, None, LATE), 120_000
    ),
    "ca:HV:V": records.Statistic(
        records.Reading(1450.0, "V", "NO_ALARM", None, EARLY),
        records.Reading(None, None, None, "There was no answer within 5 s.", LATE),
    ),
}
CONFIGURATIONS = (records.Configuration("daq.xml", "start", CONFIG_BLAKE3, 16, "set_config_storage"),)
ACQ_FINISHED = replace(
    ACQ_OPEN,
    state="finished",
    verdict="partial",
    finished=2,
    producers=(MARK, records.CountedMark("hcal", False, {"error": "FIFO overflow"}, LATE)),
    missing=(),
    failed=("hcal",),
    finished_at=LATE,
)
ACQ_ABORTED = replace(ACQ_OPEN, state="aborted", finished_at=LATE, reason="high voltage tripped")
QUEUED = records.Conversion(
    conversion_id=CONVERSION_ID,
    acq_id=ACQ_ID,
    uid=ACQ_UID,
    segment=1,
    script="to_root.sh",
    state="queued",
    attempt=0,
    exit_code=None,
    progress=None,
    log=None,
    queued_at=LATE,
    started_at=None,
    ended_at=None,
    reason="",
)
RUNNING = replace(
    QUEUED, state="running", attempt=1, log=_location(f"{_ACQ_PATH}/conversion-1-1.log"), started_at=LATE
)
TRASHED = records.TrashEntry(
    mp="file:///",
    uid=RUN_UID,
    id=RUN_ID,
    kind="run",
    path=_RUN_PATH,
    storage_id=STORAGE_ID,
    set_aside_at=EARLY,
    bytes=5_000_000_000,
    files=12,
)
SEGMENT = {"acq_id": ACQ_ID, "uid": ACQ_UID, "segment": 1}

# type: (storage_id, subject, data)
EVENTS_TOLD: dict[str, tuple[str | None, str | None, Any]] = {
    "storage.initialized": (STORAGE_ID, STORAGE_ID, replace(STORAGE, state="ready")),
    "storage.configured": (STORAGE_ID, STORAGE_ID, STORAGE),
    "storage.invalidated": (STORAGE_ID, STORAGE_ID, replace(STORAGE, state="ready")),
    "storage.deinitialized": (STORAGE_ID, STORAGE_ID, replace(STORAGE, state="ready")),
    "storage.producer_registered": (STORAGE_ID, STORAGE_ID, {"producer": "ecal"}),
    "storage.producer_unregistered": (STORAGE_ID, STORAGE_ID, {"producer": "ecal"}),
    "storage.producer_lost": (STORAGE_ID, STORAGE_ID, {"producer": "hcal"}),
    "storage.producer_back": (STORAGE_ID, STORAGE_ID, {"producer": "hcal"}),
    "storage.config_set": (
        STORAGE_ID,
        STORAGE_ID,
        {"name": "daq.xml", "blake3": CONFIG_BLAKE3, "bytes": 16},
    ),
    "storage.warning": (STORAGE_ID, STORAGE_ID, {"what": "mount", "message": "file:/// does not answer."}),
    "group.created": (None, GROUP_ID, GROUP),
    "run.created": (STORAGE_ID, RUN_ID, RUN),
    "run.taken_over": (STORAGE_ID, RUN_ID, RUN),
    "run.removed": (STORAGE_ID, RUN_ID, RUN),
    "run.restored": (STORAGE_ID, RUN_ID, RUN),
    "node.annotated": (
        STORAGE_ID,
        ACQ_ID,
        {"node_id": ACQ_ID, "uid": ACQ_UID, "name": "quality", "value": "bad", "author": "Zoë"},
    ),
    "run.param_set": (STORAGE_ID, RUN_ID, {"param": "shift", "value": "Zoë"}),
    "acquisition.started": (STORAGE_ID, ACQ_ID, ACQ_OPEN),
    "acquisition.param_set": (STORAGE_ID, ACQ_ID, {"param": "gain", "value": -(1 << 63)}),
    "acquisition.producer_finished": (
        STORAGE_ID,
        ACQ_ID,
        {**SEGMENT, "producer": None, "ok": True, "summary": {"events": 120_000}, "finished": 1, "expected": 2},
    ),
    "acquisition.finished": (STORAGE_ID, ACQ_ID, ACQ_FINISHED),
    "acquisition.aborted": (STORAGE_ID, ACQ_ID, ACQ_ABORTED),
    "acquisition.measured": (
        STORAGE_ID,
        ACQ_ID,
        {**SEGMENT, "when": "end", "statistics": STATISTICS, "configurations": CONFIGURATIONS},
    ),
    "acquisition.sealed": (STORAGE_ID, ACQ_ID, SEGMENT),
    "acquisition.manifest_written": (
        STORAGE_ID,
        ACQ_ID,
        {
            **SEGMENT,
            "name": "manifest-1.json",
            "files": 3,
            "bytes": 4_294_967_296,
            "manifest_blake3": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        },
    ),
    "acquisition.removed": (STORAGE_ID, ACQ_ID, replace(ACQ_ABORTED, sealed=True)),
    "acquisition.restored": (STORAGE_ID, ACQ_ID, replace(ACQ_ABORTED, sealed=True)),
    "trash.restored": (STORAGE_ID, RUN_ID, {**msgspec.to_builtins(TRASHED), "rundb": True, "acqs": 1}),
    "trash.emptied": (STORAGE_ID, RUN_ID, {**msgspec.to_builtins(TRASHED), "why": "expired"}),
    "acquisition.warning": (
        STORAGE_ID,
        ACQ_ID,
        {"what": "seal", "message": "The data are not synced yet: the disk is full."},
    ),
    **{
        f"mount.{level}": (None, "file:///", {"mp": "file:///", "free_bytes": free, "message": message})
        for level, free, message in (
            ("low", 9_000_000_000, "The mount point file:/// has 9000000000 bytes free, fewer than 10000000000."),
            (
                "full",
                4096,
                "The mount point file:/// has 4096 bytes free, fewer than 65536: nothing is begun there.",
            ),
            ("unreachable", None, "The mount point file:/// cannot be used: it does not answer."),
            ("recovered", 12_000_000_000, "The mount point file:/// has room again: 12000000000 bytes are free."),
        )
    },
    "logbook.failed": (
        None,
        LOGBOOK,
        {"logbook": LOGBOOK, "message": "The logbook server main: it did not answer within 20 s."},
    ),
    "logbook.recovered": (
        None,
        LOGBOOK,
        {"logbook": LOGBOOK, "message": f"The logbook {LOGBOOK} takes entries again."},
    ),
    "logbook.written": (
        STORAGE_ID,
        RUN_ID,
        {"logbook": LOGBOOK, "entry": 1742, "what": "run", "key": f"run-{RUN_UID}"},
    ),
    "conversion.queued": (STORAGE_ID, ACQ_ID, QUEUED),
    "conversion.started": (STORAGE_ID, ACQ_ID, RUNNING),
    "conversion.succeeded": (
        STORAGE_ID,
        ACQ_ID,
        replace(RUNNING, state="succeeded", exit_code=0, progress=1.0, ended_at=LATE),
    ),
    "conversion.failed": (
        STORAGE_ID,
        ACQ_ID,
        replace(RUNNING, state="failed", exit_code=3, ended_at=LATE, reason="exit code 3"),
    ),
    "conversion.cancelled": (
        STORAGE_ID,
        ACQ_ID,
        replace(RUNNING, state="cancelled", exit_code=-15, ended_at=LATE, reason="wrong script"),
    ),
    "conversion.progress": (STORAGE_ID, ACQ_ID, replace(RUNNING, progress=0.42)),
    "variable": (None, "slow_control", {"name": "hv.target_V", "value": 1450.0}),
    "service.heartbeat": (
        None,
        None,
        {
            "service_id": SERVICE_ID,
            "started_at": EARLY,
            "journal_id": JOURNAL_ID,
            "last_seq": 42,
            "tails": {"storage.initialized": 1, "acquisition.finished": 42},
        },
    ),
}

RESULTS: dict[str, Any] = {
    "get_storage": STORAGE,
    "deinit_storage": {},
    "set_param_acq_storage": {"stored": True},
    "new_acq_storage": ACQ_OPEN,
    "mark_as_finished_storage": records.Marked(
        ACQ_ID, ACQ_UID, 1, "open", finished=1, expected=2, missing=("hcal",), counted=True
    ),
    "list_annotations": {
        "annotations": (records.Annotation(ACQ_ID, ACQ_UID, "quality", "bad", "Zoë", LATE),),
        "cursor": None,
    },
    "get_acq": replace(ACQ_FINISHED, sealed=True, statistics=STATISTICS, configurations=CONFIGURATIONS),
    "set_config_storage": {"blake3": CONFIG_BLAKE3},
    "get_conversion": RUNNING,
    "add_var": {"value": 42},
    "list_vars": {"vars": {"hv.state": "on", "hv.target_V": 1450.0}},
    "ping": {"time": LATE},
    "list_trash": {"entries": (TRASHED,), "cursor": None, "unreachable": ()},
    "rebuild_rundb": {
        "mp": "file:///",
        "path": "commissioning",
        "groups": 2,
        "runs": 7,
        "acqs": 31,
        "known": 0,
        "folders": 44,
        "skipped": (records.Skipped("commissioning/notes", "Its run.json cannot be understood."),),
        "skipped_count": 1,
    },
    "empty_trash": {"entries": 1, "bytes": 5_000_000_000, "more": False, "unreachable": ()},
}
