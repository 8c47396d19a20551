"""PSI ELOG: the logbooks of one elogd, through the form that its pages post.

1. A 302 whose Location ends in the entry's number is the only success.
2. A missing or wrong login is answered with 200 and a form; an error with a page that has `errormsg`.
3. What elogd does not understand it may never answer: every request has one deadline for all of it.
4. It searches by parts of a value, and by nothing where the attribute is not one of the logbook: what it lists is
   compared, and a list of entries without that attribute is an error, never an empty result.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from pathlib import Path
from urllib.parse import quote

import httpx2

from ..config_logbooks import LogbookServer
from ..rules.logbook_work import ENTRY, LOGBOOK, SERVER, Draft
from ..rules.work import Fault
from .elog_form import (
    Listing,
    asks_for_password,
    field_name,
    form,
    logged_in,
    number_in,
    safe_attribute,
    safe_text,
    said,
)
from .sha256_crypt import hashed

MOST_BYTES = 8 << 20
"""Of an answer that is read."""


class Elog:
    """One elogd, by the name that clients give. `prepare` comes before each of the others."""

    def __init__(self, server: str, given: LogbookServer) -> None:
        self._server = server
        self._given = given
        self._upwd = ""
        self._tls: ssl.SSLContext | bool = True
        self._written: set[str] = set()  # logbooks that have an entry of ours
        self._proven: set[str] = set()  # of which it is known that they search by the key

    def prepare(self) -> None:
        """Read the password and the certificates. Blocks; it is done in a thread. Raises Fault."""
        given = self._given
        password = b""
        try:
            if given.password_file is not None:
                password = _first_line(given.password_file)
            if given.url.startswith("https:"):
                self._tls = ssl.create_default_context(cafile=given.ca_file)
        except OSError as error:  # ssl's errors are such, too
            name = given.ca_file if isinstance(error, ssl.SSLError) else error.filename or given.password_file
            raise self._fault(SERVER, f"{name} cannot be read: {error.strerror or error}") from None
        self._upwd = hashed(password) if given.user else ""

    # What every logbook can do

    async def look(self, name: str) -> None:
        await self._search(name, f"look-{secrets.token_hex(16)}")

    async def find(self, name: str, key: str) -> int | None:
        found = await self._search(name, key)
        return min((number for number, value in found if value == key), default=None)

    async def write(self, name: str, draft: Draft, number: int | None, reply_to: int | None) -> int:
        if name not in self._proven:
            await self.look(name)
            if name in self._written:
                self._proven.add(name)
        given, charset = self._given, self._given.charset
        attributes = {**given.attributes, given.title_attribute: draft.title, given.key_attribute: draft.key}
        fields = [("cmd", b"Submit"), ("exp", name.encode(charset, "replace"))]
        if given.user:
            fields += [("unm", given.user.encode(charset, "replace")), ("upwd", self._upwd.encode())]
        fields += [(field_name(each), safe_attribute(value, charset)) for each, value in attributes.items()]
        fields.append(("Encoding", b"plain"))
        if number is not None:
            fields += [("edit_id", b"%d" % number), ("skiplock", b"1")]
        elif reply_to is not None:
            fields.append(("reply_to", b"%d" % reply_to))
        fields.append(("Text", safe_text(draft.text, charset)))
        boundary = secrets.token_hex(32)
        body = form(fields, [(each.name, each.content) for each in draft.attachments], boundary)
        status, location, page = await self._exchange(name, body, f"multipart/form-data; boundary={boundary}")
        accepted = number_in(location, name) if status == 302 else None
        if accepted is None:
            raise self._refused(name, status, page)
        self._written.add(name)
        return accepted

    # The two requests

    async def _search(self, name: str, key: str) -> list[tuple[int, str]]:
        """Numbers and keys of the entries in whose key `key` is. Raises Fault."""
        listing, page, size = Listing(self._given.key_attribute, self._given.charset), bytearray(), 0
        headers = logged_in(self._given.user, self._upwd)
        query = f"?{field_name(self._given.key_attribute)}={quote(key)}&mode=Raw"
        try:
            async with (
                asyncio.timeout(self._given.timeout_s),
                self._client() as client,
                client.stream("GET", self._address(name) + query, headers=headers) as answer,
            ):
                async for chunk in answer.aiter_raw():
                    size += len(chunk)
                    listing.feed(chunk)
                    page += chunk[: max(0, (64 << 10) - len(page))]
                    if listing.lacks or size > MOST_BYTES:
                        break
                status = answer.status_code
        except (TimeoutError, httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._unreachable(error) from error
        listing.feed(b"\n")
        if listing.lacks or size > MOST_BYTES:
            message = f"it has no attribute {self._given.key_attribute}, by which entries are found again; add it"
            raise self._fault(LOGBOOK, f"{message} to its Attributes, or name another as key_attribute", name)
        if status != 200 or asks_for_password(bytes(page)) or said(bytes(page), self._given.charset):
            raise self._refused(name, status, bytes(page))
        return listing.found

    async def _exchange(self, name: str, body: bytes, kind: str) -> tuple[int, str, bytes]:
        """Post a form: the status, the Location and the beginning of the page that is answered. Raises Fault."""
        page = bytearray()
        try:
            async with (
                asyncio.timeout(self._given.timeout_s),
                self._client() as client,
                client.stream("POST", self._address(name), content=body, headers={"Content-Type": kind}) as answer,
            ):
                location = answer.headers.get("Location", "")
                if answer.status_code != 302:
                    async for chunk in answer.aiter_raw():
                        page += chunk
                        if len(page) > 64 << 10:
                            break
                return answer.status_code, location, bytes(page)
        except (TimeoutError, httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._unreachable(error) from error

    def _client(self) -> httpx2.AsyncClient:
        """A connection for one request, and nothing from the environment: no proxies, no logins."""
        headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "storage-service"}
        timeout = self._given.timeout_s
        return httpx2.AsyncClient(verify=self._tls, timeout=timeout, trust_env=False, headers=headers)

    def _address(self, name: str) -> str:
        return f"{self._given.url.rstrip('/')}/{quote(name, safe='')}/"

    # What went wrong

    def _unreachable(self, error: Exception) -> Fault:
        if isinstance(error, TimeoutError | httpx2.TimeoutException):
            return self._fault(SERVER, f"it did not answer within {self._given.timeout_s:g} s")
        return self._fault(SERVER, f"it cannot be reached: {error or type(error).__name__}")

    def _refused(self, name: str, status: int, page: bytes) -> Fault:
        if asks_for_password(page):
            whom = (
                f"it does not take the login of {self._given.user!r}"
                if self._given.user
                else "it asks for a login"
            )
            return self._fault(LOGBOOK, whom, name)
        if (error := said(page, self._given.charset)) is not None:
            return self._fault(ENTRY, f"it says: {error}", name)
        concerns = SERVER if status >= 500 else ENTRY
        return self._fault(concerns, f"it answered with status {status} and no entry number", name)

    def _fault(self, concerns: str, what: str, name: str | None = None) -> Fault:
        where = f"The logbook server {self._server}" if name is None else f"The logbook {self._server}/{name}"
        return Fault("unavailable", f"{where}: {what.rstrip('.')}.", concerns=concerns)


def _first_line(path: Path) -> bytes:
    """Of the file of a password, without its end. Raises OSError."""
    with path.open("rb") as file:
        return file.readline(4096).rstrip(b"\r\n")
