"""Images that are held in memory: the embedded set, and tests."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sightline.errors import UnreadableImageError


@dataclass(frozen=True, eq=False)
class MemorySource:
    """Files by path, as bytes."""

    location: str
    files: Mapping[str, bytes] = field(repr=False)

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises UnreadableImageError when there is no such path."""
        if path not in self.files:
            raise UnreadableImageError("the file does not exist")
        return self.files[path]

    def stamps(self, paths: Sequence[str]) -> list[str]:
        """The contents' hashes."""
        return [hashlib.sha256(self.files[path]).hexdigest() if path in self.files else "" for path in paths]
