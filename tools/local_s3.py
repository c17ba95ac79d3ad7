"""A store that speaks S3 over HTTP on this machine (moto's server), and can be told to break."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import WSGIRequestHandler, make_server

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
UNAVAILABLE = b"<Error><Code>ServiceUnavailable</Code><Message>Service is unavailable</Message></Error>"

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Requests are not printed."""


class LocalS3:
    """While entered, a server that clients of this process and its children are pointed to.

    Attributes:
        broken: while set, every request is answered by status 503.
        denied: while set, every request is answered by status 403.
        requests: how many have been answered.
    """

    def __init__(self) -> None:
        self.broken, self.denied, self.requests = threading.Event(), threading.Event(), 0
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._before: dict[str, str | None] = {}

    def _answer(self, environment: dict, start: Callable) -> Iterable[bytes]:
        self.requests += 1
        if self.broken.is_set() or self.denied.is_set():
            body = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))  # else the client's write fails
            del body
            status = "503 Slow Down" if self.broken.is_set() else "403 Forbidden"
            answer = UNAVAILABLE if self.broken.is_set() else DENIED
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))])
            return [b"" if environment["REQUEST_METHOD"] == "HEAD" else answer]
        return self._app(environment, start)

    @property
    def environment(self) -> dict[str, str]:
        """What points clients to it."""
        return CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}"}

    def __enter__(self) -> LocalS3:
        self._before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        S3FileSystem.clear_instance_cache()  # which would still be clients of an earlier server
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        S3FileSystem.clear_instance_cache()

    @contextmanager
    def breaking(self, event: threading.Event) -> Iterator[None]:
        """``broken`` or ``denied`` for as long as the body lasts."""
        event.set()
        try:
            yield
        finally:
            event.clear()
