"""A server of files in place of the network."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError

import pytest


class Response(io.BytesIO):
    """What urlopen gives."""

    def __init__(self, url: str, content: bytes, status: int, length: int) -> None:
        super().__init__(content)
        self.url, self.status, self.headers = url, status, {"Content-Length": str(length)}


@dataclass
class Server:
    """Gives files by the ends of their addresses, to be put in place of urllib.request.urlopen.

    asked: every address, and where the answer begins. reach: bytes after which its connections are closed.
    ranges: whether it can begin in the middle. leads: to where an address is redirected.
    """

    files: Mapping[str, bytes]
    reach: int | None = None
    ranges: bool = True
    leads: Callable[[str], str] = lambda url: url
    asked: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, request: Any, **more: Any) -> Response:
        begin, url = request.get_header("Range"), request.full_url
        start = int(begin.removeprefix("bytes=").removesuffix("-")) if begin and self.ranges else 0
        self.asked.append((url, start))
        content = next((self.files[end] for end in self.files if url.endswith(end)), None)
        if content is None:
            raise HTTPError(url, 404, "Not Found", None, None)  # type: ignore[arg-type]
        if start and start >= len(content):
            raise HTTPError(url, 416, "Range Not Satisfiable", None, None)  # type: ignore[arg-type]
        sent = content[start:][: self.reach]
        return Response(self.leads(url), sent, 206 if start else 200, len(content) - start)

    def serve(self, monkeypatch: pytest.MonkeyPatch) -> "Server":
        """From now on."""
        monkeypatch.setattr("urllib.request.urlopen", self)
        return self
