"""What every request passes: an id, the token, one line in the log, and no fault that tells more than it should."""

import hmac
import itertools
import json
import logging
import re
import secrets
import sys
import time
from functools import lru_cache
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.serving.answers import JSON
from sightline.serving.intake import Arriving, ClientGoneError
from sightline.serving.limits import Settings
from sightline.serving.metrics import Metrics
from sightline.serving.problems import Problem, RequestError

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a client may name its request; another name is replaced."""

OPEN_PATHS = ("/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready")
"""Answered without the token, and so is what the page is made of: they hold nothing of the model."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page asks nobody but this server for anything."""

CLIENT_GONE = 499
"""In the log, of a request whose client left before the answer; the number that nginx made known."""

_log = logging.getLogger("sightline.serving")


class Door:
    """An ASGI application around the routes."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._token = None if settings.token is None else settings.token.encode()
        self._writes_log = settings.access_log
        self._requests = lru_cache(metrics.requests.labels)
        self._latency = lru_cache(metrics.latency.labels)
        self._first, self._count = secrets.token_hex(4), itertools.count()
        self.draining = False
        """Whether connections are to end with their next answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        note: dict[str, Any] = {"id": given if REQUEST_ID.fullmatch(given) else self._next_id(), "status": 0}
        scope["app"] = self  # so that the router raises what it would answer in plain text
        scope["note"] = note  # what endpoints add is logged: model, images, bytes

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                note["status"] = message["status"]
                self._add_headers(message["headers"], note["id"])
            await send(message)

        async def answer_in_part(message: Message) -> None:
            await answer({**message, "more_body": True} if message["type"] == "http.response.body" else message)

        arriving = Arriving(receive)
        refusal = await self._pass_on(scope, arriving.receive, answer)
        if refusal is not None:
            await refusal(scope, receive, answer_in_part)
        self._record(scope, note, time.perf_counter() - start)
        if refusal is not None:
            await arriving.discard()  # all is sent; what comes last only ends the answer, and maybe the connection
            await answer({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, scope: Scope, receive: Receive, answer: Send) -> Response | None:
        """Let the routes answer, or give the refusal to answer with: no error, whose traceback holds what was read."""
        note = scope["note"]
        try:
            self._check_token(scope, Headers(scope=scope))
            await self._app(scope, receive, answer)
        except RequestError as error:
            return _refused(error, scope)
        except HTTPException as error:  # the router's: no such path, no such method
            return _refused(_of_router(error, scope), scope)
        except ClientGoneError:
            note["status"] = CLIENT_GONE
        except Exception:  # noqa: BLE001  # the outermost handler: the log has the traceback, the client an id
            _log.exception("request %s failed", note["id"])
            if note["status"] == 0:
                fault = Problem("internal", f"The server has a fault; its log names it by {note['id']}.")
                return _refused(RequestError(fault), scope)
        return None

    def _next_id(self) -> str:
        """Unique, not secret: asking the system for randomness would hand the interpreter to other threads."""
        return f"{self._first}{next(self._count):08x}"

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        path = scope["path"]
        if self._token is None or path in OPEN_PATHS or path.startswith("/page/") or scope["method"] == "OPTIONS":
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        sent = given.strip().encode() if scheme.lower() == "bearer" else b""
        if not hmac.compare_digest(sent, self._token):
            problem = Problem("unauthorized", "Send the server's token as `Authorization: Bearer TOKEN`.")
            raise RequestError(problem, {"www-authenticate": "Bearer", "connection": "close"})

    def _add_headers(self, headers: list[tuple[bytes, bytes]], request_id: str) -> None:
        """As ASGI has them; no answer of ours has one of these already, but a refusal that ends the connection."""
        headers += [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
        if any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers):
            headers += [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
        if self.draining and (b"connection", b"close") not in headers:
            headers.append((b"connection", b"close"))

    def _record(self, scope: Scope, note: dict[str, Any], seconds: float) -> None:
        route = scope.get("route")
        endpoint = getattr(route, "path", "other")
        self._requests(endpoint, str(note["status"])).inc()
        self._latency(endpoint).observe(seconds)
        if not self._writes_log:
            return
        client = scope.get("client")
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            "ms": round(1000 * seconds, 2),
        }
        sys.stderr.write(json.dumps(line | note) + "\n")


def _of_router(error: HTTPException, scope: Scope) -> RequestError:
    method, path = scope["method"], scope["path"][:200]
    if error.status_code == 405:
        return RequestError(
            Problem("method_not_allowed", f"{path} can't be asked by {method}."), dict(error.headers or {})
        )
    return RequestError(Problem("not_found", f"There is nothing at {path}; /openapi.json lists what there is."))


def _refused(error: RequestError, scope: Scope) -> JSON:
    told = error.problem.plain() | {"request_id": scope["note"]["id"]}
    # the Open Inference Protocol wants the sentence itself as "error"
    v2 = scope["path"].startswith("/v2")
    content = {"error": told.pop("message")} | told if v2 else {"error": told}
    return JSON(content | error.details, status_code=error.problem.status, headers=error.headers)
