"""What a client is told when a request can't be answered: a stable code, a sentence, the offending file's name."""

from dataclasses import dataclass, field
from typing import Any

CODES = {
    "invalid_request": (400, "The request can't be understood: a malformed body, an unknown or wrong option."),
    "unauthorized": (401, "The bearer token is missing or wrong."),
    "forbidden": (403, "The request comes from another site's page."),
    "unknown_model": (404, "No model of that name is served."),
    "not_found": (404, "There is nothing at that path."),
    "method_not_allowed": (405, "That path takes other methods."),
    "body_timeout": (408, "The body took too long to arrive."),
    "body_too_large": (413, "The body has more bytes than allowed."),
    "too_many_images": (413, "The request has more images than allowed."),
    "unsupported_media_type": (415, "The body's Content-Type isn't one of those that are read."),
    "unreadable_image": (422, "An image can't be decoded, or has more pixels than allowed."),
    "overloaded": (429, "The queue is full; Retry-After says when to come back."),
    "model_failed": (500, "The model couldn't compute an answer."),
    "internal": (500, "The server has a fault; its log names it by the request's id."),
    "reload_failed": (409, "The folder holds no model that can be opened; the one before goes on answering."),
    "stopping": (503, "The server is stopping, or not ready yet."),
    "deadline_exceeded": (504, "The request wasn't answered in time."),
}
"""Every code: its HTTP status and what it means."""


@dataclass(frozen=True)
class Problem:
    """Why an image, or a request, has no answer."""

    code: str
    """One of CODES."""
    message: str
    """One sentence, for people."""
    file: str | None = None
    """The name of the file that it is about, as the client gave it."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return CODES[self.code][0]

    def plain(self) -> dict[str, Any]:
        """As it stands in an answer."""
        named = {} if self.file is None else {"file": self.file}
        return {"code": self.code, "message": self.message} | named


@dataclass
class RequestError(Exception):
    """Ends a request with a problem."""

    problem: Problem
    headers: dict[str, str] = field(default_factory=dict[str, str])
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    """What stands beside the error in the answer."""

    def __str__(self) -> str:
        return self.problem.message


def refuse(code: str, message: str, *, file: str | None = None, close: bool = False) -> RequestError:
    """The exception for a problem; `close` ends the connection, where the rest of a body is not read."""
    return RequestError(Problem(code, message, file), {"connection": "close"} if close else {})
