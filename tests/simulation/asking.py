"""What a client asks next: mostly for the life of a few acquisitions, drawn from what clients were told."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from storage_protocol import commands as c
from storage_protocol.commands import Command

from .journal import Journal
from .life import Terms

GROUPS = {"s": "g", "t": "g", "u": "h"}
ACQS = ["root/g/r/a"] * 4 + ["root/g/r/b"] * 2 + ["root/g/r1/a", "root/h/r/a"]


def command(chance: Random, told: Journal, terms: Terms, tag: str) -> Command:
    """`tag` is the client's own word: it stands in whatever the command's effect tells."""
    return _Draw(chance, told, terms, tag).command()


def init(storage: str, terms: Terms, count: int | None = None) -> c.InitStorage:
    """As all clients ask for this storage, but for another number of producers where `count` says so."""
    terms = {"s": terms, "t": terms._replace(producers_count=0), "u": Terms(None, None, 2)}[storage]
    return c.InitStorage(
        storage_id=storage,
        brg_name=GROUPS[storage],
        use_rundb=storage != "t",
        producers_count=terms.producers_count if count is None else count,
        finish_timeout_s=terms.finish_timeout_s,
        producer_timeout_s=terms.producer_timeout_s,
        stats_names=terms.stats_names,
    )


class _Draw:
    def __init__(self, chance: Random, told: Journal, terms: Terms, tag: str) -> None:
        self.chance, self.pick, self.told, self.tag = chance, chance.choice, told, tag
        self.terms = terms
        self.storage = self.pick("ssssssstu")

    def command(self) -> Command:
        if self.told.conversions and self.odds(0.1):
            return self.pick([self.retry, self.cancel])()
        if self.told.lost and self.odds(0.15):
            return c.HeartbeatProducer(storage_id=self.storage, producer=self.pick("pq"))
        made: Command = self.chance.choices(_MAKERS, _WEIGHTS)[0](self)
        return made

    def odds(self, chance: float) -> bool:
        return self.chance.random() < chance

    def acq(self) -> dict[str, Any]:
        """An acquisition, mostly by the storage that has it, sometimes with a uid or a segment of another one."""
        opened = [id for id, acq in self.told.acqs.items() if acq["state"] == "open"]
        id = self.pick(opened) if opened and self.odds(0.6) else self.pick(ACQS)
        acq = self.told.acqs.get(id)
        args: dict[str, Any] = {"storage_id": acq["storage_id"] if acq and self.odds(0.9) else self.storage}
        args["acq_id"] = id
        if acq and self.odds(0.4):
            args |= {"uid": acq["uid"], "segment": acq["segment"]}
            if self.odds(0.2):
                args |= self.pick([{"uid": "another"}, {"segment": acq["segment"] + self.pick([1, 2])}])
        return args

    # One maker for each command

    def init(self) -> Command:
        return init(self.storage, self.terms, self.pick([1, 1, 1, 2]) if self.odds(0.1) else None)

    def config(self) -> Command:
        return c.ConfigStorage(storage_id=self.storage)

    def inval(self) -> Command:
        return c.InvalStorage(storage_id=self.storage, force=self.odds(0.4))

    def deinit(self) -> Command:
        return c.DeinitStorage(storage_id=self.storage, force=self.odds(0.5))

    def register(self) -> Command:
        return c.RegisterProducer(storage_id=self.storage, producer=self.pick([None, "p", "q"]))

    def heartbeat(self) -> Command:
        return c.HeartbeatProducer(storage_id=self.storage, producer=self.pick("pq"))

    def unregister(self) -> Command:
        return c.UnregisterProducer(storage_id=self.storage, producer=self.pick("pq"))

    def new_run(self) -> Command:
        name, mode = self.pick(["r", "r", "r1", "n{n}", "n{n:03}x"]), "remove" if self.odds(0.2) else "append"
        params = {"by": self.tag} if self.odds(0.5) else {}
        return c.NewRun(storage_id=self.storage, run_name=name, mode=mode, params=params)  # type: ignore[arg-type]

    def set_run(self) -> Command:
        return c.SetParamRun(
            storage_id=self.storage, run_name=self.pick(["r", "r", "r1"]), param="x", value=self.tag
        )

    def new_acq(self) -> Command:
        args: dict[str, Any] = {"storage_id": self.storage, "run_name": self.pick(["r", "r", "r", "r1"])}
        args["acq_name"] = self.pick(["a", "a", "a", "a", "b", "b", "a/x"])
        if self.odds(0.25):
            args["mode"] = "remove"
        if self.odds(0.5):
            args["convert_script"] = "missing" if self.odds(0.03) else "convert"
        if self.odds(0.3):
            args["params"] = {"by": self.tag}
        if self.odds(0.15):
            args["producers_count"] = self.pick([0, 1, 2])
        if self.odds(0.15):
            args["producers"] = self.pick([(), ("p",), ("q", "p")])
        return c.NewAcq(**args)

    def set_acq(self) -> Command:
        return c.SetParamAcq(**self.acq(), param=self.pick("xy"), value=self.tag)

    def mark(self) -> Command:
        asked = self.acq() if self.odds(0.9) else {"storage_id": self.storage}
        ok, producer = self.odds(0.85), self.pick([None, None, "p", "p", "q", "z"])
        return c.MarkAsFinished(**asked, producer=producer, ok=ok, summary={"by": self.tag})

    def close(self) -> Command:
        return c.CloseAcq(**self.acq(), reason=self.tag)

    def abort(self) -> Command:
        return c.AbortAcq(**self.acq(), reason=self.tag)

    def new_group(self) -> Command:
        parent, name = self.pick([("root", "g"), ("root", "h"), ("root/g", "r"), ("root", "k"), ("root/k", "l")])
        return c.NewGroup(name=name, parent_id=parent)

    def _conversion(self) -> str:
        known = list(self.told.conversions)
        running = [id for id in known if self.told.conversions[id]["state"] == "running"]
        if running and self.odds(0.5):
            return self.pick(running)
        return self.pick(known) if known and self.odds(0.95) else "no such"

    def retry(self) -> Command:
        return c.RetryConversion(conversion_id=self._conversion())

    def cancel(self) -> Command:
        return c.CancelConversion(conversion_id=self._conversion(), reason=self.tag)

    def add_var(self) -> Command:
        return c.AddVar(ns=self.pick("vw"), name=self.pick("no"), delta=self.chance.randint(1, 9))

    def set_config(self) -> Command:
        """Mostly a document of its own, sometimes one that others hand in too; or it is taken back."""
        content = self.pick([self.tag.encode(), self.tag.encode(), b"the same", None])
        return c.SetConfig(storage_id=self.storage, document=content, name=self.pick(["config.xml", "b.json"]))

    def annotate(self) -> Command:
        node = self.pick([*ACQS, "root/g/r", "root/g/r1", "root/g"])
        return c.AnnotateNode(node_id=node, name=self.pick("xy"), value=self.tag, author="somebody")

    def get_storage(self) -> Command:
        return c.GetStorage(storage_id=self.storage)

    def get_run(self) -> Command:
        return c.GetRun(run_id=self.pick(["root/g/r", "root/g/r1"]))

    def get_acq(self) -> Command:
        return c.GetAcq(acq_id=self.pick(ACQS))

    def get_conversion(self) -> Command:
        return c.GetConversion(conversion_id=self._conversion())

    def list_storages(self) -> Command:
        return c.ListStorages()

    def ping(self) -> Command:
        return c.Ping()


_TABLE: list[tuple[float, Callable[[_Draw], Command]]] = [
    (3, _Draw.init), (3, _Draw.config), (0.5, _Draw.inval), (0.6, _Draw.deinit), (2, _Draw.register),
    (1, _Draw.unregister), (1, _Draw.heartbeat), (4, _Draw.new_run), (2, _Draw.set_run),
    (10, _Draw.new_acq), (4, _Draw.set_acq),
    (9, _Draw.mark), (6, _Draw.close), (2.5, _Draw.abort), (0.7, _Draw.new_group), (2, _Draw.add_var),
    (2, _Draw.annotate), (2, _Draw.set_config), (1.5, _Draw.retry),
    (1.5, _Draw.cancel), (1, _Draw.get_storage), (0.7, _Draw.get_run), (1.5, _Draw.get_acq),
    (0.7, _Draw.get_conversion), (0.7, _Draw.list_storages), (0.3, _Draw.ping),
]  # fmt: skip
_WEIGHTS, _MAKERS = zip(*_TABLE, strict=True)
