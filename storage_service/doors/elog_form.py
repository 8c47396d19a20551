"""What elogd reads and writes: its form, safe texts, entries in raw form, error pages.

elogd keeps entries in text files without quoting: what is sent is made so that no text can be taken for another
entry, and cut where elogd would refuse it. It counts bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import unescape
from urllib.parse import unquote_plus, urlsplit

MOST_TEXT_BYTES, MOST_ATTRIBUTE_BYTES = 250_000, 1500
# Room for what elogd may add, and for the notes of what was left out.
_ROOM = 500
_START = "$@MID@$:"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ENTRY = re.compile(rb"\$@MID@\$:\s*(\d+)\s*")
_LINE = re.compile(rb"={40,}\s*")
_PASSWORD_FORM = re.compile(rb"type\s*=\s*[\"']?password", re.IGNORECASE)
_ERROR = re.compile(r"class\s*=\s*[\"']?errormsg[\"']?[^>]*>(.*?)</t[dr]>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")

Field = tuple[str, bytes]
File = tuple[str, bytes]


def field_name(attribute: str) -> str:
    """The name of an attribute's field in a form or a search."""
    return re.sub(r"[^0-9A-Za-z]", "_", attribute)


def safe_attribute(value: str, charset: str) -> bytes:
    """One line, cut to what elogd takes."""
    return _cut(" ".join(_CONTROL.sub(" ", value).split()), MOST_ATTRIBUTE_BYTES - _ROOM, charset, " ...")


def safe_text(text: str, charset: str) -> bytes:
    """Text in which no line can be taken for the beginning of an entry, cut to what elogd takes."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [
        f" {line}" if line.startswith(_START) else line for line in (_CONTROL.sub("?", each) for each in lines)
    ]
    # Where lines end, elogd may write two bytes for one.
    most = MOST_TEXT_BYTES - _ROOM - len(lines)
    return _cut("\n".join(lines), most, charset, "\n[The rest was too long for the logbook.]\n")


def _cut(text: str, most: int, charset: str, note: str) -> bytes:
    """In the logbook's charset; what that lacks is a question mark."""
    encoded = text.encode(charset, "replace")
    if len(encoded) <= most:
        return encoded
    return encoded[: max(most, 0)].decode(charset, "ignore").encode(charset) + note.encode(charset, "replace")


def form(fields: Iterable[Field], files: Iterable[File], boundary: str) -> bytes:
    """The body of a POST. The boundary must not come in what is sent: make it of enough dice."""
    parts = []
    for name, value in fields:
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value)
    for number, (file_name, content) in enumerate(files):
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="attfile{number}"; filename="{file_name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        parts.append(head.encode() + content)
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])


class Listing:
    """The entries of an answer in raw form, read as it comes. `lacks` is true as soon as one is there that has no
    such attribute at all: then elogd did not search by it, but lists everything."""

    def __init__(self, attribute: str, charset: str) -> None:
        self.found: list[tuple[int, str]] = []
        self.lacks = False
        self._begins = attribute.encode(charset, "replace") + b":"
        self._charset = charset
        self._rest = b""
        self._number: int | None = None
        self._in_head = False
        self._has = False

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))

    def _line(self, line: bytes) -> None:
        if entry := _ENTRY.fullmatch(line):
            self._number, self._in_head, self._has = int(entry[1]), True, False
        elif not self._in_head or self._number is None:
            return
        elif line.startswith(self._begins):
            self._has = True
            value = line.removeprefix(self._begins).decode(self._charset, "replace")
            self.found.append((self._number, value.strip()))
        elif _LINE.fullmatch(line):
            self._in_head = False
            self.lacks = self.lacks or not self._has


def asks_for_password(body: bytes) -> bool:
    """Whether an answer is the form that elogd shows in place of an error when a login is missing or wrong."""
    return _PASSWORD_FORM.search(body) is not None


def said(body: bytes, charset: str) -> str | None:
    """The error that a page tells, in one line; None when it is no error page."""
    page = body.decode(charset, "replace")
    if "errormsg" not in page:
        return None
    found = _ERROR.search(page)
    text = " ".join(unescape(_TAG.sub(" ", found[1])).split()) if found else ""
    return text[:500] or "an error without a text"


def number_in(location: str, name: str) -> int | None:
    """The number of an accepted entry, with which its address ends, behind that of its logbook."""
    parts = urlsplit(location)
    segments = [unquote_plus(each) for each in parts.path.split("/")]
    if parts.query or len(segments) < 2 or not segments[-2] or not re.fullmatch("[0-9]{1,9}", segments[-1]):
        return None
    if segments[-1] == name != segments[-2]:
        return None  # the address of a logbook whose name is a number
    return int(segments[-1])


def logged_in(user: str, upwd: str) -> Mapping[str, str]:
    """The header by which a search is logged in."""
    return {"Cookie": f"unm={user}; upwd={upwd}"} if user else {}
