"""Files from servers: over https, whole, and the ones that were meant."""

import hashlib
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from alexnet.bars import Bar
from alexnet.errors import UserError
from alexnet.files import FULL

CHUNK = 2**18  # bytes
SILENCE = 60.0  # seconds after which a server that sends nothing is given up
BEYOND_THE_END = 416  # HTTP's answer to one who has all of it, or more


def fetch(urls: Sequence[str], path: Path, md5: str) -> None:
    """Downloads path from the first of urls that has it, unless it is there.

    What has come lies in a neighbour, path.part, until all of it is there and has the published MD5 sum: a
    download that was interrupted goes on where it stopped. Raises UserError for a path that is there with
    another sum; OSError or HTTPException for the last of urls, also where it is not or leads away from https.
    """
    if path.exists():
        if (found := _md5(path)) != md5:
            raise UserError(
                f"{path} is not the published file: its MD5 sum is {found}, and should be {md5}. Remove it,"
                " or put a whole copy in its place."
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for number, url in enumerate(urls, 1):
        try:
            _complete(url, part, md5)
            break
        except (OSError, HTTPException) as error:
            if number == len(urls) or getattr(error, "errno", None) in FULL:
                raise
    part.replace(path)


def _complete(url: str, part: Path, md5: str) -> None:
    begun = part.exists()
    if begun and _md5(part) == md5:
        return
    _receive(url, part)
    found = _md5(part)
    if found != md5 and begun:  # with a part of something else
        part.unlink()
        _receive(url, part)
        found = _md5(part)
    if found != md5:
        part.unlink()
        raise OSError(f"{url} sent something else: its MD5 sum is {found}, and should be {md5}")


def _receive(url: str, part: Path) -> None:
    """Appends what part lacks, as far as the server can begin in the middle."""
    _check_encrypted(url, url)
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "alexnet-claims"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=SILENCE)
    except HTTPError as error:
        if error.code == BEYOND_THE_END and have:
            part.unlink()
            return _receive(url, part)
        raise
    with response:
        _check_encrypted(url, response.url)
        if response.status != 206:  # "partial content": else all of it comes
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else None
        bar = Bar(total=total, initial=have, desc=f"downloading {part.stem}", unit="B", unit_scale=True)
        with part.open("ab" if have else "wb") as file, bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total and part.stat().st_size < total:
        raise OSError(
            f"{url} sent {part.stat().st_size:,} of {total:,} bytes, from where the same command goes on"
        )
    return None


def _check_encrypted(asked: str, url: str) -> None:
    if not url.startswith("https://"):
        raise OSError(f"{asked} leads to {url}, and only https is used")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
