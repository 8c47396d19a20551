"""A typed method for every command (SPEC 4), named as it is without its `_storage` where that says nothing.

Arguments have the meaning and the defaults of SPEC 4. Every method raises a class of `errors.REFUSALS` when the
service says no, and ReplyTimeoutError or ServiceUnreachableError when it says nothing until the deadline. Of a
client with a spool, those that change something return a Spooled instead when the service says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from storage_protocol import commands as c
from storage_protocol.names import Value
from storage_protocol.records import Acquisition, AcquisitionNode, Conversion, Marked, Node, Run, Storage

from .annotations import Annotations
from .calls import S, read
from .configuration import Configuration
from .replies import (
    AcquisitionPage,
    ConversionPage,
    Description,
    Emptied,
    EventPage,
    NodePage,
    Rebuilt,
    Restored,
    Status,
    StorageList,
    TrashPage,
)
from .variables import Variables

Mode = Literal["append", "remove"]


def _node(result: Any, cmd: str) -> Node:
    acquisition = isinstance(result, dict) and result.get("kind") == "acq"
    return read(result, AcquisitionNode if acquisition else Node, cmd)


def _node_page(result: Any, cmd: str) -> NodePage:
    page = read(result, dict[str, Any], cmd)
    return NodePage(tuple(_node(each, cmd) for each in page.get("nodes", ())), page.get("cursor"))


class Commands(Annotations[S], Configuration[S], Variables[S]):
    """All commands as methods."""

    # 4.1 Life cycle of a storage

    async def init_storage(
        self,
        storage_id: str,
        brg_name: str,
        *,
        use_rundb: bool = True,
        brg_mp: str = "file:///",
        brg_path: str = "",
        brg_parent_id: str = "root",
        elog_server: str | None = None,
        elog_name: str | None = None,
        stats_names: Iterable[str] = (),
        producers_count: int = 1,
        finish_timeout_s: float | None = None,
        producer_timeout_s: float | None = None,
    ) -> Storage | S:
        """Create a storage, or find it there with the same arguments."""
        command = c.InitStorage(
            storage_id=storage_id,
            brg_name=brg_name,
            use_rundb=use_rundb,
            brg_mp=brg_mp,
            brg_path=brg_path,
            brg_parent_id=brg_parent_id,
            elog_server=elog_server,
            elog_name=elog_name,
            stats_names=tuple(stats_names),
            producers_count=producers_count,
            finish_timeout_s=finish_timeout_s,
            producer_timeout_s=producer_timeout_s,
        )
        return await self._change(command, Storage)

    async def config_storage(self, storage_id: str) -> Storage | S:
        """Resolve the storage's mount point and create its base run group in the RunDB."""
        return await self._change(c.ConfigStorage(storage_id=storage_id), Storage)

    async def inval_storage(self, storage_id: str, *, force: bool = False) -> Storage | S:
        """Take a storage back to ready; with force, abort its open acquisitions first."""
        return await self._change(c.InvalStorage(storage_id=storage_id, force=force), Storage)

    async def deinit_storage(self, storage_id: str, *, force: bool = False) -> S | None:
        """Forget a storage; its data and its RunDB nodes stay."""
        return await self._change_to(c.DeinitStorage(storage_id=storage_id, force=force), lambda result: None)

    async def register_producer(self, storage_id: str, producer: str | None = None) -> Storage | S:
        """Expect one more producer in later acquisitions."""
        return await self._change(c.RegisterProducer(storage_id=storage_id, producer=producer), Storage)

    async def unregister_producer(self, storage_id: str, producer: str) -> Storage | S:
        """Expect a named producer no longer in later acquisitions."""
        return await self._change(c.UnregisterProducer(storage_id=storage_id, producer=producer), Storage)

    async def heartbeat_producer(self, storage_id: str, producer: str) -> None:
        """A producer's sign of life."""
        await self.call(c.HeartbeatProducer(storage_id=storage_id, producer=producer))

    async def get_storage(self, storage_id: str) -> Storage:
        """One storage."""
        return await self._ask(c.GetStorage(storage_id=storage_id), Storage)

    async def list_storages(self) -> StorageList:
        """All storages, with the seq up to which the list is true."""
        return await self._ask(c.ListStorages(), StorageList)

    # 4.2 Runs and acquisitions

    async def new_run(
        self, storage_id: str, run_name: str, *, mode: Mode = "append", params: Mapping[str, Value] | None = None
    ) -> Run | S:
        """Create a run and its folder, reuse it, or set the old one aside and create it anew."""
        command = c.NewRun(storage_id=storage_id, run_name=run_name, mode=mode, params=dict(params or {}))
        return await self._change(command, Run)

    async def set_param_run(self, storage_id: str, run_name: str, param: str, value: Value) -> bool | S:
        """Set a parameter of a run. False when the storage stores none."""
        command = c.SetParamRun(storage_id=storage_id, run_name=run_name, param=param, value=value)
        return await self._change_to(command, lambda result: bool(result["stored"]))

    async def new_acq(
        self,
        storage_id: str,
        acq_name: str,
        run_name: str,
        *,
        mode: Mode = "append",
        convert_script: str | None = None,
        params: Mapping[str, Value] | None = None,
        producers_count: int | None = None,
        producers: Iterable[str] | None = None,
    ) -> Acquisition | S:
        """Open an acquisition and its folder, as new, as a next segment, or in place of the old one."""
        command = c.NewAcq(
            storage_id=storage_id,
            acq_name=acq_name,
            run_name=run_name,
            mode=mode,
            convert_script=convert_script,
            params=dict(params or {}),
            producers_count=producers_count,
            producers=None if producers is None else tuple(producers),
        )
        return await self._change(command, Acquisition)

    async def set_param_acq(
        self,
        storage_id: str,
        acq_id: str,
        param: str,
        value: Value,
        *,
        uid: str | None = None,
        segment: int | None = None,
    ) -> bool | S:
        """Set a parameter of an open acquisition. False when the storage stores none."""
        command = c.SetParamAcq(
            storage_id=storage_id, acq_id=acq_id, param=param, value=value, uid=uid, segment=segment
        )
        return await self._change_to(command, lambda result: bool(result["stored"]))

    async def mark_as_finished(
        self,
        storage_id: str,
        acq_id: str | None = None,
        *,
        producer: str | None = None,
        ok: bool = True,
        summary: Mapping[str, Value] | None = None,
        uid: str | None = None,
        segment: int | None = None,
    ) -> Marked | S:
        """A producer is done with an acquisition; the last expected mark finishes it."""
        command = c.MarkAsFinished(
            storage_id=storage_id,
            acq_id=acq_id,
            producer=producer,
            ok=ok,
            summary=dict(summary or {}),
            uid=uid,
            segment=segment,
        )
        return await self._change(command, Marked)

    async def close_acq(
        self, storage_id: str, acq_id: str, *, reason: str = "", uid: str | None = None, segment: int | None = None
    ) -> Acquisition | S:
        """Finish an acquisition now, whoever is missing."""
        command = c.CloseAcq(storage_id=storage_id, acq_id=acq_id, reason=reason, uid=uid, segment=segment)
        return await self._change(command, Acquisition)

    async def abort_acq(
        self, storage_id: str, acq_id: str, *, reason: str = "", uid: str | None = None, segment: int | None = None
    ) -> Acquisition | S:
        """Give an acquisition up; its data stay, nothing is converted."""
        command = c.AbortAcq(storage_id=storage_id, acq_id=acq_id, reason=reason, uid=uid, segment=segment)
        return await self._change(command, Acquisition)

    async def get_run(self, run_id: str) -> Run:
        """One run."""
        return await self._ask(c.GetRun(run_id=run_id), Run)

    async def get_acq(self, acq_id: str) -> Acquisition:
        """One acquisition."""
        return await self._ask(c.GetAcq(acq_id=acq_id), Acquisition)

    async def list_acqs(
        self,
        *,
        storage_id: str | None = None,
        run_id: str | None = None,
        state: Literal["open", "finished", "aborted"] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AcquisitionPage:
        """Acquisitions, newest first."""
        command = c.ListAcqs(storage_id=storage_id, run_id=run_id, state=state, limit=limit, cursor=cursor)
        return await self._ask(command, AcquisitionPage)

    # 4.4 RunDB

    async def new_group(
        self, name: str, parent_id: str = "root", *, mp: str = "file:///", path: str = ""
    ) -> Node | S:
        """Create a group in the RunDB."""
        command = c.NewGroup(name=name, parent_id=parent_id, mp=mp, path=path)
        return await self._change_to(command, lambda result: _node(result, command.CMD))

    async def get_node(self, node_id: str) -> Node:
        """One node of the RunDB; an AcquisitionNode where it is one."""
        command = c.GetNode(node_id=node_id)
        return _node(await self.call(command), command.CMD)

    async def list_nodes(
        self, parent_id: str = "root", *, limit: int = 100, cursor: str | None = None
    ) -> NodePage:
        """The children of a node, oldest first."""
        command = c.ListNodes(parent_id=parent_id, limit=limit, cursor=cursor)
        return _node_page(await self.call(command), command.CMD)

    async def find_nodes(
        self,
        under: str = "root",
        *,
        kind: Literal["group", "run", "acq"] | None = None,
        where: Mapping[str, Any] | None = None,
        state: Literal["open", "finished", "aborted"] | None = None,
        verdict: Literal["complete", "partial"] | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> NodePage:
        """The nodes below a node that match, newest first."""
        command = c.FindNodes(
            under=under,
            kind=kind,
            where=dict(where or {}),
            state=state,
            verdict=verdict,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
        return _node_page(await self.call(command), command.CMD)

    # 4.5 Conversions

    async def list_conversions(
        self,
        acq_id: str | None = None,
        *,
        state: Literal["queued", "running", "succeeded", "failed", "cancelled"] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> ConversionPage:
        """Conversions, newest first."""
        command = c.ListConversions(acq_id=acq_id, state=state, limit=limit, cursor=cursor)
        return await self._ask(command, ConversionPage)

    async def get_conversion(self, conversion_id: str) -> Conversion:
        """One conversion."""
        return await self._ask(c.GetConversion(conversion_id=conversion_id), Conversion)

    async def retry_conversion(self, conversion_id: str) -> Conversion | S:
        """Queue an ended conversion anew."""
        return await self._change(c.RetryConversion(conversion_id=conversion_id), Conversion)

    async def cancel_conversion(self, conversion_id: str, *, reason: str = "") -> Conversion | S:
        """Cancel a conversion that is queued or running."""
        return await self._change(c.CancelConversion(conversion_id=conversion_id, reason=reason), Conversion)

    # 4.6 Service

    async def ping(self) -> str:
        """The service's time, RFC 3339."""
        return str((await self.call(c.Ping()))["time"])

    async def describe(self) -> Description:
        """What this service is, its limits and its commands."""
        return await self._ask(c.Describe(), Description)

    async def get_status(self) -> Status:
        """How the service fares: journal, mounts, conversions, queues, warnings."""
        return await self._ask(c.GetStatus(), Status)

    async def prune_events(self, before_seq: int) -> int | S:
        """Give the events before this one up, for good; its seq again."""
        return await self._change_to(c.PruneEvents(before_seq=before_seq), lambda result: result["before_seq"])

    async def replay_events(
        self,
        after_seq: int = 0,
        *,
        topics: Iterable[str] = (),
        subject: str | None = None,
        limit: int = 1000,
    ) -> EventPage:
        """Events of the journal, oldest first."""
        command = c.ReplayEvents(after_seq=after_seq, topics=tuple(topics), subject=subject, limit=limit)
        return await self._ask(command, EventPage)

    # 4.7 Trash

    async def list_trash(self, *, mp: str | None = None, limit: int = 100, cursor: str | None = None) -> TrashPage:
        """What was set aside and is still there, newest first."""
        return await self._ask(c.ListTrash(mp=mp, limit=limit, cursor=cursor), TrashPage)

    async def restore_trash(self, uid: str, *, mp: str | None = None, replace: bool = False) -> Restored | S:
        """Move what was set aside back to where it was; with replace, set aside what stands there now."""
        return await self._change(c.RestoreTrash(uid=uid, mp=mp, replace=replace), Restored)

    async def empty_trash(
        self, *, mp: str | None = None, uid: str | None = None, older_than_s: float = 0.0
    ) -> Emptied | S:
        """Give up what was set aside, for good: all of it, one entry, or what is older."""
        return await self._change(c.EmptyTrash(mp=mp, uid=uid, older_than_s=older_than_s), Emptied)

    # 4.8 Rebuild

    async def rebuild_rundb(self, *, mp: str = "file:///", path: str = "") -> Rebuilt | S:
        """Bring back into the RunDB what the marker files below a mount point, or a folder of it, tell of.

        It may take minutes. After a ReplyTimeoutError the service goes on; asked again while it does, it is
        UnavailableError. `call` with `deadline_s=None` waits as long as it takes.
        """
        return await self._change(c.RebuildRundb(mp=mp, path=path), Rebuilt)
