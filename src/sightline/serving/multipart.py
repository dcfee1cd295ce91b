"""multipart/form-data from a body that is in memory: nothing is written to the disk."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sightline.serving.problems import refuse

MAX_HEADER_BYTES = 8192
"""Of one part."""


@dataclass(frozen=True)
class Part:
    """One field or file of a form."""

    name: str
    filename: str | None
    is_file: bool
    content: bytes


@dataclass(slots=True)
class _Draft:
    """A part while it is read."""

    headers: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    header_bytes: int = 0
    content: list[bytes] = field(default_factory=list[bytes])


class _Reader:
    """Gathers what the parser finds."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._max_parts = max_parts
        self._draft = _Draft()

    def on_part_begin(self) -> None:
        if len(self.parts) >= self._max_parts:
            raise refuse("too_many_images", f"The form has more than {self._max_parts} parts; send several requests.")
        self._draft = _Draft()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._draft.header_name += self._header(data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._draft.header_value += self._header(data[start:end])

    def on_header_end(self) -> None:
        draft = self._draft
        draft.headers[bytes(draft.header_name).lower()] = bytes(draft.header_value)
        draft.header_name.clear()
        draft.header_value.clear()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._draft.content.append(data[start:end])

    def on_part_end(self) -> None:
        draft = self._draft
        kind, options = parse_options_header(draft.headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise refuse("invalid_request", "A part of the form has no name.")
        filename = options.get(b"filename")
        named = None if filename is None else filename.decode("utf-8", "replace")
        is_file = named is not None or draft.headers.get(b"content-type", b"").lower().startswith(b"image/")
        name = options[b"name"].decode("utf-8", "replace")
        self.parts.append(Part(name, named, is_file, b"".join(draft.content)))

    def on_end(self) -> None:
        self.ended = True

    def _header(self, piece: bytes) -> bytes:
        self._draft.header_bytes += len(piece)
        if self._draft.header_bytes > MAX_HEADER_BYTES:
            raise refuse("invalid_request", f"A part of the form has more than {MAX_HEADER_BYTES} bytes of headers.")
        return piece


def parts_of(body: bytes, content_type: str, *, max_parts: int) -> list[Part]:
    """The parts in order. Raises RequestError for what is no form, is cut short, or has more parts."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise refuse("invalid_request", "The Content-Type multipart/form-data names no boundary.")
    reader = _Reader(max_parts)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.on_part_begin,
                "on_header_field": reader.on_header_field,
                "on_header_value": reader.on_header_value,
                "on_header_end": reader.on_header_end,
                "on_part_data": reader.on_part_data,
                "on_part_end": reader.on_part_end,
                "on_end": reader.on_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:  # a ParseError, or a boundary that is too long
        raise refuse("invalid_request", f"The form can't be read: {error}.") from error
    if not reader.ended:
        raise refuse("invalid_request", "The form ends before its last boundary.")
    return reader.parts
