"""Writes the pages that are made from the code, or checks that they are current.

    python tools/pages.py write
    python tools/pages.py check     exit code 1, naming each stale file

protocol/LIFECYCLE.md from the tables of storage_service.rules.lifecycle, protocol/MESSAGES.md from
storage_protocol, protocol/vectors from tools/examples.py, the schemas of marker files in protocol/schemas.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct
from msgspec.structs import fields

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tool is started by its path

from storage_protocol import errors, events, limits, records  # noqa: E402
from storage_protocol.commands import COMMANDS  # noqa: E402
from storage_protocol.specs import Argument, CommandSpec  # noqa: E402
from storage_service.rules.lifecycle import ABSENT, TABLES, Row  # noqa: E402
from storage_service.rules.rebuild_work import AcqFile, RunFile  # noqa: E402
from tools import vectors  # noqa: E402

MADE = "<!-- Made by tools/pages.py from the code. Change the code, then run `make pages`. -->"

LIFECYCLE_INTRODUCTION = (
    "Each table is the whole state machine: a transition that is no row does not exist, and a command without one "
    "is refused. Rows of one state and trigger are tried from the top; the first whose guard holds is taken. "
    "Triggers in small letters are commands, those in capitals are the service's own. A row that tells nothing "
    "changes nothing, and is left out of the drawing unless it leads to another state."
)
MESSAGES_INTRODUCTION = (
    "Every command, what a good reply holds, every event, every refusal, every limit. What they mean is said in "
    "[SPEC.md](SPEC.md); examples, byte by byte, are in [vectors](vectors). `*` marks a mutating command."
)

GUARDS = {
    "same args": "the arguments are those of the storage that is there",
    "forced": "the command has `force`",
    "append": "the command's `mode`",
    "remove": "the command's `mode`",
    "misfit": "the mark's `uid` or `segment` is another one's, its name has marked already, or no place is free",
    "last": "with this mark the finish barrier is met",
    "succeeded": "the script's exit code is 0",
    "cancelled": "a client asked for it to be cancelled, or its acquisition is not finished any more",
    "once more": "the service itself ended the attempt, or there are attempts left",
}
TRIGGERS = {
    "LAST_ACQUISITION_ENDED": "the storage's last open acquisition is finished or aborted",
    "PRODUCER_SILENT": "nothing was heard for `producer_timeout_s` of a producer that is waited for",
    "PRODUCER_HEARD": "a producer that was lost, or a connection that has named it, says something",
    "FINISH_TIMEOUT": "`finish_timeout_s` have passed since its first mark",
    "ALL_OTHERS_MARKED": "nobody is missing but producers that are silent for `producer_timeout_s`",
    "SEALED": "the data are synced and the marker file is complete",
    "ACQUISITION_FINISHED": "a segment with a `convert_script` is finished",
    "START": "the acquisition is sealed, the wait is over, and fewer than `max_parallel` run",
    "OPENED_AGAIN": "its acquisition is opened again, or removed",
    "ENDED": "the attempt is over, and nothing that it started is left",
}
SUMMARIES = {
    "storage": "A storage is `acquiring` while at least one of its acquisitions is open.",
    "acquisition": "An acquisition that is opened again is its next segment.",
    "conversion": "A conversion keeps its id through all its attempts.",
}

# The commands by section of SPEC.md, with what a good reply holds.
RESULTS: dict[str, dict[str, str]] = {
    "4.1 Life cycle of a storage": {
        "init_storage": "[Storage](#storage)",
        "config_storage": "[Storage](#storage)",
        "inval_storage": "[Storage](#storage)",
        "deinit_storage": "`{}`",
        "register_producer_storage": "[Storage](#storage)",
        "unregister_producer_storage": "[Storage](#storage)",
        "heartbeat_producer_storage": "`{}`",
        "get_storage": "[Storage](#storage)",
        "list_storages": "`storages`: list of [Storage](#storage); `last_seq`: int; `journal_id`: str",
    },
    "4.2 Runs and acquisitions": {
        "new_run_storage": "[Run](#run)",
        "set_param_run_storage": "`stored`: bool",
        "new_acq_storage": "[Acquisition](#acquisition)",
        "set_param_acq_storage": "`stored`: bool",
        "mark_as_finished_storage": "[Marked](#marked)",
        "close_acq_storage": "[Acquisition](#acquisition)",
        "abort_acq_storage": "[Acquisition](#acquisition)",
        "get_run": "[Run](#run)",
        "get_acq": "[Acquisition](#acquisition)",
        "list_acqs": "`acqs`: list of [Acquisition](#acquisition); `cursor`: str or nil",
    },
    "4.3 Configuration and variables": {
        "set_config_storage": "`blake3`: str, or nil where it was taken back",
        "set_var": "`value`: as it was given",
        "add_var": "`value`: the sum, an int or a float",
        "get_var": "`value`",
        "list_vars": "`vars`: map of name to value; `more`: true, only where the list was cut",
    },
    "4.4 RunDB": {
        "new_group": "[Node](#node)",
        "get_node": "[Node](#node) or [AcquisitionNode](#acquisitionnode)",
        "list_nodes": "`nodes`: list of [Node](#node), [AcquisitionNode](#acquisitionnode); `cursor`: str or nil",
        "find_nodes": "`nodes`: list of [Node](#node), [AcquisitionNode](#acquisitionnode); `cursor`: str or nil",
        "annotate_node": "[Annotation](#annotation)",
        "list_annotations": "`annotations`: list of [Annotation](#annotation); `cursor`: str or nil",
    },
    "4.5 Conversions": {
        "list_conversions": "`conversions`: list of [Conversion](#conversion); `cursor`: str or nil",
        "get_conversion": "[Conversion](#conversion)",
        "retry_conversion": "[Conversion](#conversion)",
        "cancel_conversion": "[Conversion](#conversion)",
    },
    "4.6 Service": {
        "ping": "`time`: str",
        "describe": (
            "`service`, `version`: str; `protocol`: int; `service_id`, `journal_id`, `events_endpoint`: str; "
            "`limits`: map, see [Limits](#limits); `commands`: map of a command's name to `mutating`, `doc` and "
            "`args`, a map of an argument's name to `type`, `required` and `default`"
        ),
        "get_status": (
            "`started_at`: str; `journal`: map of `journal_id`, `first_seq`, `last_seq`; `mounts`: list of maps "
            "of `mp`, `state`, `free_bytes`, `reason`, and `trash`, a map of `entries`, `bytes`, `measured_at`; "
            "`conversions`: map of state to count; `conversion_protection`: map of `runner`, `flock`, "
            "`pid_namespace`: bool, `reason`: str or nil; `queues`: map of what waits to count; `logbooks`: list "
            "of maps of `logbook`, `waiting`, `state`, `reason`; `loop`: map of "
            "`stalls`, `longest_s`; `storages`: int; `warnings`: list of str"
        ),
        "replay_events": (
            "`events`: list of event bodies; `last_seq`, `oldest_seq`: int; `journal_id`: str; `more`: bool"
        ),
        "prune_events": "`before_seq`: int",
    },
    "4.7 Trash": {
        "list_trash": (
            "`entries`: list of [TrashEntry](#trashentry); `cursor`: str or nil; `unreachable`: list of str"
        ),
        "restore_trash": "[TrashEntry](#trashentry), and `rundb`: bool; `acqs`: int",
        "empty_trash": "`entries`, `bytes`: int; `more`: bool; `unreachable`: list of str",
    },
    "4.8 Rebuild": {
        "rebuild_rundb": (
            "`mp`, `path`: str; `groups`, `runs`, `acqs`, `known`, `folders`: int; "
            "`skipped`: list of [Skipped](#skipped); `skipped_count`: int"
        ),
    },
}
RECORDS = (
    *(records.Storage, records.Document, records.Run, records.Acquisition, records.CountedMark, records.Marked),
    *(records.Statistic, records.Reading, records.Configuration),
    *(
        records.Node,
        records.AcquisitionNode,
        records.Annotation,
        records.Conversion,
        records.Location,
        records.Warn,
    ),
    records.TrashEntry,
    records.Skipped,
)


def pages() -> dict[str, str]:
    """Every generated file: its path below the project's folder, and its content."""
    made = {"protocol/LIFECYCLE.md": _lifecycle(), "protocol/MESSAGES.md": _messages()}
    for name, document in vectors.documents().items():
        made[f"protocol/vectors/{name}"] = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    for kind, record in {"run": RunFile, "acquisition": AcqFile}.items():
        made[f"protocol/schemas/{kind}.json"] = json.dumps(_schema(kind, record), indent=1) + "\n"
    return made


def stale(root: Path) -> list[str]:
    """The generated files that are missing, differ from what the code says, or should not be there."""
    made = pages()
    wrong = [path for path, text in made.items() if _content(root / path) != text]
    found = (path.relative_to(root).as_posix() for path in (root / "protocol/vectors").glob("*.json"))
    return sorted([*wrong, *(path for path in found if path not in made)])


def write(root: Path) -> list[str]:
    """Bring every generated file up to date; the paths of those that changed."""
    made, wrong = pages(), stale(root)
    for path in wrong:
        if path in made:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(made[path], encoding="utf-8")
        else:
            (root / path).unlink()
    return wrong


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


# The schemas of marker files


def _schema(kind: str, record: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of `run.json` or `acquisition.json`: the record, and what says of which form the file is."""
    (root,), below = msgspec.json.schema_components((record,), ref_template="#/$defs/{name}")
    defined = below.pop(root["$ref"].rpartition("/")[2])
    form = f"storage-service/{kind}/1"
    defined["properties"] = {"format": {"const": form}, **defined["properties"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:storage-service:{kind}:1",
        **defined,
        "required": ["format", *defined["required"]],
        "$defs": below,
    }


# The life cycles


def _lifecycle() -> str:
    lines = [
        MADE,
        "# Life cycles",
        LIFECYCLE_INTRODUCTION,
    ]
    for name, rows in TABLES.items():
        lines += [f"## {name.capitalize()}", SUMMARIES[name], _drawing(rows), _rows(rows)]
        lines.append(_legend("Guards", GUARDS, [row.guard for row in rows]))
        lines.append(_legend("The service's own triggers", TRIGGERS, [row.trigger for row in rows]))
    return "\n\n".join(line for line in lines if line) + "\n"


def _drawing(rows: tuple[Row, ...]) -> str:
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.tells or row.state != row.next:
            label = f"{row.trigger} [{row.guard}]" if row.guard else row.trigger
            arrows.setdefault((_drawn(row.state), _drawn(row.next)), []).append(label)
    lines = [f"    {state} --> {next}: {'<br/>'.join(labels)}" for (state, next), labels in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _drawn(state: str) -> str:
    return "[*]" if state == ABSENT else state


def _rows(rows: tuple[Row, ...]) -> str:
    cells = [
        (row.state, _code(row.trigger), row.guard, row.next, ", ".join(map(_code, _told(row.tells))))
        for row in rows
    ]
    return _table(("state", "trigger", "guard", "next", "tells"), cells)


def _told(tells: str) -> Iterator[str]:
    """The events' types: `.x` after `a.b` is `a.x`."""
    family = ""
    for type_ in filter(None, (part.strip() for part in tells.split(","))):
        family = family if type_.startswith(".") else type_.partition(".")[0]
        yield family + type_ if type_.startswith(".") else type_


def _legend(title: str, words: dict[str, str], used: list[str]) -> str:
    here = [word for word in dict.fromkeys(used) if word and word not in COMMANDS]
    # A word without an explanation is a KeyError here, and so is noticed by the check.
    return "\n".join([f"{title}:", "", *(f"- {word}: {words[word]}" for word in here)]) if here else ""


# The messages


def _messages() -> str:
    listed = [name for section in RESULTS.values() for name in section]
    if sorted(listed) != sorted(COMMANDS):
        raise KeyError(f"RESULTS and COMMANDS differ in {sorted(set(listed) ^ set(COMMANDS))}")
    lines = [
        MADE,
        "# Messages",
        MESSAGES_INTRODUCTION,
        "## Commands",
    ]
    for section, results in RESULTS.items():
        lines.append(f"### {section}")
        for name, result in results.items():
            lines += _command(name, COMMANDS[name], result)
    lines += ["## Records", "The maps that replies and events carry. Times are RFC 3339 in UTC."]
    for record in RECORDS:
        lines += [f"### {record.__name__}", _sentence(record.__doc__), _fields(record)]
    lines += ["## Events", "The types that are in the journal, and their `data`:", _events(events.EVENTS)]
    lines += ["The types that are not; their `seq` and `prev_seq` are nil:", _events(events.UNNUMBERED)]
    refusals = [(_code(code), when) for code, when in errors.CODES.items()]
    lines += ["## Refusals", _table(("code", "when"), refusals)]
    return "\n\n".join([*lines, "## Limits", *_limits()]) + "\n"


def _command(name: str, spec: CommandSpec, result: str) -> list[str]:
    star = " *" if spec.mutating else ""
    lines = [f"#### {name}{star}", _sentence(spec.doc)]
    if spec.args:
        rows = [(_code(arg.name), arg.type, _default(arg)) for arg in spec.args.values()]
        lines.append(_table(("argument", "type", "default"), rows))
    return [*lines, f"Result: {result}."]


def _default(arg: Argument) -> str:
    return "required" if arg.required else _code(json.dumps(arg.default).replace("null", "nil"))


def _fields(record: type[Struct]) -> str:
    hints = get_type_hints(record)
    return _table(("field", "type"), [(_code(each.name), _words(hints[each.name])) for each in fields(record)])


def _words(kind: Any) -> str:
    """A type in words of the wire."""
    arguments = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_words(each) for each in sorted(arguments, key=lambda each: each is NoneType))
    if get_origin(kind) is tuple:
        return f"list of ({_words(arguments[0])})" if get_args(arguments[0]) else f"list of {_words(arguments[0])}"
    if get_origin(kind) is dict:
        return f"map of {_words(arguments[0])} to ({_words(arguments[1])})"
    if kind is NoneType:
        return "nil"
    return f"[{kind.__name__}](#{kind.__name__.lower()})" if issubclass(kind, Struct) else str(kind.__name__)


def _events(told: dict[str, str]) -> str:
    return _table(("type", "data"), [(_code(type_), data) for type_, data in told.items()])


def _limits() -> list[str]:
    defaults = limits.Limits()
    # The docstring of Limits has a line for each: its name, then what it limits.
    meaning = dict(line.strip().split(maxsplit=1) for line in (limits.Limits.__doc__ or "").strip().splitlines())
    rows = [
        (_code(each.name), meaning[each.name], f"{getattr(defaults, each.name):,}")
        for each in fields(limits.Limits)
    ]
    rows.append(("", "a reply, which is then cut with `more` or a `cursor`, in bytes", f"{limits.REPLY_BYTES:,}"))
    rows.append(("", "the largest `limit` argument", f"{limits.PAGE_MOST:,}"))
    return ["By the names under which `describe` reports them.", _table(("limit", "of what", "default"), rows)]


# Markdown


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _sentence(doc: str | None) -> str:
    """A docstring on one line, in the wire's words for Python's values."""
    return " ".join((doc or "").split()).replace("None", "nil").replace("False", "false")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["write"]:
            for path in write(ROOT):
                print(f"written: {path}")
            return 0
        case ["check"]:
            wrong = stale(ROOT)
            for path in wrong:
                print(f"stale: {path}; run `make pages`")
            return 1 if wrong else 0
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
