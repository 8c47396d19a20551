"""A table `[logbooks.<server>]` of the configuration: a server of electronic logbooks, and what it may hold."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

MOST_TIMEOUT_S = 600.0
PATHS = ("password_file", "ca_file")
"""The keys that are paths of files; relative ones start at the configuration's folder."""

_KEYS = {
    "url": str,
    "user": str,
    "password_file": str,
    "timeout_s": (int, float),
    "attributes": dict,
    "title_attribute": str,
    "key_attribute": str,
    "charset": str,
    "ca_file": str,
}


class LogbookServer(Struct, frozen=True, forbid_unknown_fields=True):
    """A server of logbooks (PSI ELOG), by the name that clients give as `elog_server`."""

    url: str
    """http://HOST:PORT or https://HOST, with the path before the logbooks' names if there is one."""

    user: str = ""
    """Who writes; empty where the logbooks have no users."""

    password_file: Path | None = None
    """The file whose first line is that user's password. Read anew for each entry, never told to anybody."""

    timeout_s: float = 20.0
    """Seconds that the server may take for one request."""

    attributes: dict[str, str] = {}
    """Attributes that every entry has, such as Author and Type."""

    title_attribute: str = "Subject"
    """The attribute that gets the entry's title."""

    key_attribute: str = "Key"
    """The attribute by which entries are found again, lest one be written twice. Every logbook must have it."""

    charset: str = "utf-8"
    """What the server's entries are encoded in."""

    ca_file: Path | None = None
    """Certificates (PEM) that an https server is checked with, instead of those of this host."""


def logbook_server(name: str, value: object) -> str | None:
    """What is wrong with such a table, or None."""
    if not re.fullmatch(r"[^\x00-\x1f\x7f]{1,1024}", name):
        return "the name of a logbook server must be a text of at most 1024 printable characters"
    if not isinstance(value, dict):
        return 'it must be a table like { url = "http://elog.example:8080" }'
    for key, given in value.items():
        if key not in _KEYS:
            return f"{key!r} is not a known key of it; there are: {', '.join(_KEYS)}"
        if not isinstance(given, _KEYS[key]) or isinstance(given, bool):  # type: ignore[arg-type]
            return f"its {key} is of the wrong type"
    return _wrong_url(value.get("url")) or _wrong_values(value) or _wrong_attributes(value)


def _wrong_url(url: object) -> str | None:
    try:
        parts = urlsplit(str(url))
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        return "its url must be http://HOST:PORT or https://HOST:PORT"
    if parts.username is not None:
        return "its url must hold no login; give user and password_file"
    return None


def _wrong_values(value: dict[str, object]) -> str | None:
    timeout = value.get("timeout_s", 1.0)
    if not isinstance(timeout, int | float) or not 0 < timeout <= MOST_TIMEOUT_S:
        return f"its timeout_s must be above 0 and at most {MOST_TIMEOUT_S:g}"
    user = str(value.get("user", ""))
    if not user.isprintable() or ";" in user or not user.isascii():
        return "its user must be of printable ASCII characters without ;"
    if ("password_file" in value) != bool(user):
        return "its user and its password_file go together"
    try:
        codecs.lookup(str(value.get("charset", "utf-8")))
    except LookupError:
        return "its charset is not known"
    if any(not value[key] or "\0" in str(value[key]) for key in PATHS if key in value):
        return "its password_file and its ca_file must be paths of files"
    return None


def _wrong_attributes(value: dict[str, object]) -> str | None:
    attributes = value.get("attributes", {})
    own = [str(value.get("title_attribute", "Subject")), str(value.get("key_attribute", "Key"))]
    if not isinstance(attributes, dict) or not all(isinstance(each, str) for each in attributes.values()):
        return 'its attributes must be texts, like { Author = "DAQ" }'
    names = [*map(str, attributes), *own]
    if not all(re.fullmatch(r"[^\x00-\x1f\x7f:]{1,100}", name) for name in names):
        return "the names of its attributes must be printable, without :"
    fields = [re.sub(r"[^0-9A-Za-z]", "_", name).lower() for name in names]
    taken = {"cmd", "exp", "unm", "upwd", "encoding", "text", "edit_id", "skiplock", "reply_to"}
    if len(set(fields)) < len(fields) or taken & set(fields):
        return "its attributes, title_attribute and key_attribute must be different, and no field of elogd's form"
    return None
