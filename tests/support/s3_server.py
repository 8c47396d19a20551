"""S3 on the loopback: a whole one in this process, and one that says no in a way of its choosing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class S3Server:
    """moto's S3, and a client of its own to look at it and to put things there, as producers do."""

    def __init__(self) -> None:
        moto = pytest.importorskip("moto.server", reason="the extra s3 and moto[server] are not installed")
        s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        where = {"endpoint_url": self.url, "region_name": "us-east-1"}
        self._system: Any = s3fs.S3FileSystem(
            key="test", secret="test", skip_instance_cache=True, use_listings_cache=False, client_kwargs=where
        )

    def bucket(self, name: str) -> str:
        """A new and empty bucket."""
        self._system.call_s3("create_bucket", Bucket=name)
        return name

    def keys(self, bucket: str) -> dict[str, bytes]:
        """Everything in a bucket."""
        found = self._system.call_s3("list_objects_v2", Bucket=bucket).get("Contents", [])
        contents = {}
        for each in found:
            with suppress(FileNotFoundError):  # the service deletes it meanwhile
                contents[each["Key"]] = self._system.cat_file(f"{bucket}/{each['Key']}")
        return contents

    def put(self, bucket: str, key: str, content: bytes) -> None:
        self._system.call_s3("put_object", Bucket=bucket, Key=key, Body=content)

    def close(self) -> None:
        self._system.close_session(self._system.loop, self._system.s3)
        self._server.stop()


@contextmanager
def refusing_s3(code: str, status: int, after: int = 0) -> Iterator[str]:
    """The URL of an S3 that answers each request with this error, the first `after` as if all were well; without a
    code it never answers."""
    left = [after]
    over = threading.Event()

    class Refusal(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not code:
                over.wait(60)
                return
            left[0] -= 1
            body = b"<ListBucketResult></ListBucketResult>"
            if left[0] < 0:
                body = f"<Error><Code>{code}</Code><Message>No, by hunter2.</Message></Error>".encode()
            self.send_response(status if left[0] < 0 else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
