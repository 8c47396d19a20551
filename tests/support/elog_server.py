"""A stand-in for elogd: it answers as one was seen to, over real sockets, one connection after another.

1. An accepted form is answered with 302 and a Location that ends in the entry's number; nothing else is.
2. A missing attribute, an option that is not one, an unknown logbook, a text over 250,000 bytes, an attribute over
   1,500: 404 and a page with `class="errormsg"`. No, an unknown or a wrong login: 200 and a form with a password.
3. A chunked body and the download of an unknown entry are never answered. Meanwhile nobody else is, either.
4. Entries are kept as text, as elogd's files are: a line of a text that begins an entry cuts that entry in two.
5. A search compares by parts, and lists everything when the attribute is not one of the logbook.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from email.parser import BytesParser
from email.policy import HTTP
from types import TracebackType
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit

from msgspec import Struct, field

MOST_TEXT, MOST_ATTRIBUTE = 250_000, 1500
LINE = "=" * 40
LOGIN_FORM = "<html><form><input type=text name=uname><input type=password name=upassword></form></html>"

Reply = tuple[int, dict[str, str], str]


class Book(Struct):
    """A logbook: its attributes, those that must be given, what some may be, and users with their `upwd`."""

    attributes: list[str] = field(default_factory=lambda: ["Author", "Type", "Subject", "Key"])
    required: list[str] = field(default_factory=lambda: ["Author"])
    options: dict[str, list[str]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    text: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    newest: int = 0


class Entry(Struct):
    """An entry as it is read back."""

    number: int
    head: dict[str, str]
    text: str


class ElogServer:
    """
    books     by name
    broken    what becomes of the next requests, by `METHOD` (`GET`, `POST`), until it is taken away:
              `hang` (read, never answered), `lost` (done, the connection cut without an answer), `cut` (cut, not
              done), `slow` (a byte at a time, without an end), or a page that is answered
    requests  every request line, and the body's size
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None, **books: Book) -> None:
        self._tls = tls
        self.books = books or {"demo": Book()}
        self.broken: dict[str, str] = {}
        self.requests: list[str] = []
        self.accepted: Callable[[str, dict[str, str]], None] = lambda name, form: None
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> ElogServer:
        return self.start()

    def start(self) -> ElogServer:
        self._thread = threading.Thread(target=self._serve, name="stand-in for elogd")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        if self._thread is not None:
            self._thread.join(20)
            assert not self._thread.is_alive()
        self._listener.close()

    # Looking

    def entries(self, name: str = "demo") -> list[Entry]:
        """What is in a logbook, read back from its text."""
        return read(self.books[name].text)

    def with_key(self, key: str, name: str = "demo") -> list[Entry]:
        return [entry for entry in self.entries(name) if entry.head.get("Key") == key]

    def delete(self, number: int, name: str = "demo") -> None:
        """A person deletes an entry."""
        self.books[name].text = written(each for each in self.entries(name) if each.number != number)

    # Serving

    def _serve(self) -> None:
        while not self._ends.is_set():
            if select.select([self._listener], [], [], 0.02)[0]:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError, ValueError):
                    if self._tls is None:
                        self._one(connection)
                    else:
                        with self._tls.wrap_socket(connection, server_side=True) as wrapped:
                            self._one(wrapped)

    def _wait_for_its_end(self, connection: socket.socket) -> None:
        """Say nothing until the other side has had enough."""
        while not self._ends.is_set():
            if select.select([connection], [], [], 0.02)[0] and not connection.recv(65536):
                return

    def _one(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        data = b""
        while b"\r\n\r\n" not in data:
            data += (more := connection.recv(65536))
            if not more:
                return
        head, _, body = data.partition(b"\r\n\r\n")
        line, _, rest = head.decode("latin-1").partition("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (h.partition(":") for h in rest.split("\r\n"))
        }
        method, target, _ = line.split(" ")
        if "chunked" in headers.get("transfer-encoding", ""):
            self._wait_for_its_end(connection)
            return
        while len(body) < int(headers.get("content-length", "0")):
            body += (more := connection.recv(65536))
            if not more:
                return
        self.requests.append(f"{method} {target} {len(body)}")
        how = self.broken.get(method, "")
        if how in ("hang", "cut"):
            if how == "hang":
                self._wait_for_its_end(connection)
            return
        if how == "slow":
            connection.sendall(b"HTTP/1.1 302 Found\r\n")
            while not self._ends.wait(0.02):
                connection.sendall(b"X")
            return
        if how.startswith("<"):
            reply: Reply | None = (200, {}, how)
        else:
            reply = self._post(target, headers, body) if method == "POST" else self._get(target, headers)
        if reply is None:
            self._wait_for_its_end(connection)
        elif how != "lost":
            status, more_headers, page = reply
            content = page.encode()
            lines = [f"HTTP/1.1 {status} OK", "Server: ELOG HTTP 3.1.5", f"Content-Length: {len(content)}"]
            lines += [f"{name}: {value}" for name, value in more_headers.items()]
            connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + content)

    def _get(self, target: str, headers: Mapping[str, str]) -> Reply | None:
        parts = urlsplit(target)
        name, _, id = unquote(parts.path).strip("/").partition("/")
        book, asked = self.books.get(name), dict(parse_qsl(parts.query, keep_blank_values=True))
        if book is None:
            return error(f'Logbook "{name}" does not exist on remote server')
        cookies = dict(each.strip().partition("=")[::2] for each in headers.get("cookie", "").split(";"))
        if not logged_in(book, cookies):
            return 200, {}, LOGIN_FORM
        found = self.entries(name)
        if id:
            one = [entry for entry in found if str(entry.number) == id]
            return (200, {"Content-Type": "text/plain"}, written(one)) if one else None
        for attribute in book.attributes:
            if part := asked.get(parameter(attribute)):
                found = [entry for entry in found if part.lower() in entry.head.get(attribute, "").lower()]
        for entry in found:
            entry.head = {**dict.fromkeys(book.attributes, ""), **entry.head}
        return 200, {"Content-Type": "text/plain"}, written(found)

    def _post(self, target: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        form, files = multipart(headers["content-type"], body)
        name = form.get("exp", "")
        book = self.books.get(name)
        if book is None or unquote(target).strip("/") != name:
            return error(f'Logbook "{name}" does not exist on remote server')
        if not logged_in(book, form):
            return 200, {}, LOGIN_FORM
        given = {attribute: form.get(parameter(attribute), "") for attribute in book.attributes}
        for attribute, value in given.items():
            if attribute in book.required and not value:
                return error(f"Error: Attribute <b>{attribute}</b> not supplied.")
            if attribute in book.options and value and value not in book.options[attribute]:
                return error(f"Error: Attribute option <b>{value}</b> not existing.")
            if len(value.encode()) > MOST_ATTRIBUTE:
                return error(f"Error: Attribute {attribute} is too long.")
        if len(form.get("Text", "").encode()) > MOST_TEXT:
            return error("Error: Entry text too big. Please increase TEXT_SIZE and recompile elogd.")
        entries = self.entries(name)
        by_number = {entry.number: entry for entry in entries}
        if "edit_id" in form:
            number = int(form["edit_id"])
            if number not in by_number or form.get("skiplock") != "1":
                return error(f"Entry {number} cannot be written.")
            by_number[number].text = form.get("Text", "")
            by_number[number].head |= given
        else:
            book.newest = number = book.newest + 1
            head = {"Date": "Mon, 04 May 2026 07:30:00 +0000"}
            if "reply_to" in form:
                if int(form["reply_to"]) not in by_number:
                    return error(f"Entry {form['reply_to']} is not there.")
                head["In reply to"] = form["reply_to"]
            entries.append(Entry(number, {**head, **given}, form.get("Text", "")))
            by_number[number] = entries[-1]
        if files:
            by_number[number].head["Attachment"] = ",".join(f"260504_073000_{each}" for each in files)
            book.files |= {f"{number}/{each}": content for each, content in files.items()}
        by_number[number].head["Encoding"] = form.get("Encoding", "ELCode")
        book.text = written(entries)
        self.accepted(name, form)
        return 302, {"Location": f"{self.url}/{quote_plus(name)}/{number}"}, ""


def parameter(attribute: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "_", attribute)


def logged_in(book: Book, given: Mapping[str, str]) -> bool:
    return not book.users or (given.get("unm") in book.users and book.users[given["unm"]] == given.get("upwd"))


def error(text: str) -> Reply:
    return 404, {}, f'<html><table><tr><td class="errormsg">{text}</td></tr></table></html>'


def multipart(kind: str, body: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """The fields and the files of a form."""
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    form, files = dict[str, str](), dict[str, bytes]()
    for part in message.iter_parts():  # type: ignore[attr-defined]
        name, file_name = part.get_param("name", header="content-disposition"), part.get_filename()
        content = part.get_payload(decode=True)
        if file_name is None:
            form[name] = content.decode()
        else:
            files[file_name] = content
    return form, files


def written(entries: object) -> str:
    """Entries as elogd keeps them: nothing is quoted."""
    lines = []
    for entry in entries:  # type: ignore[attr-defined]
        lines += [f"$@MID@$: {entry.number}", *(f"{name}: {value}" for name, value in entry.head.items())]
        lines += [LINE, entry.text]
    return "".join(f"{line}\n" for line in lines)


def read(text: str) -> list[Entry]:
    """Entries as elogd finds them in its files."""
    found = list[Entry]()
    in_head = False
    for line in text.split("\n")[:-1]:
        if begins := re.fullmatch(r"\$@MID@\$: (\d+)", line):
            found.append(Entry(int(begins[1]), {}, ""))
            in_head = True
        elif in_head and line == LINE:
            in_head = False
        elif in_head:
            name, _, value = line.partition(":")
            found[-1].head[name] = value.strip()
        elif found:
            found[-1].text += f"{line}\n"
    for entry in found:
        entry.text = entry.text.removesuffix("\n")
    return found
