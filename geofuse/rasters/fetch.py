"""Fetch files from hosts that are allowed, with deadlines, retries and checks.

GDAL reads remote files itself, but hangs when a host stalls, keeps a corrupt answer for
ever, and goes wherever a file points. So a file is fetched whole, to a name that is the
digest of its address, checked, and only then opened like any local file.

    origin allowed?  ──>  address public?  ──>  fetch, bounded in size and time
                     ──>  as long as announced?  digest as stated?  a whole raster?
                     ──>  CACHE/3f9a….tif   one rename

Redirects are checked like first addresses. An error of the network is tried again, each
time after twice the wait; one of the request (404, 403) is not.
"""

import hashlib
import http.client
import ipaddress
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from geofuse.errors import GeofuseError, ParameterError, RemoteError

#: Public archives that speak STAC or hold its assets.
ORIGINS = (
    "https://earth-search.aws.element84.com",
    "https://sentinel-cogs.s3.us-west-2.amazonaws.com",
    "https://planetarycomputer.microsoft.com",
    "https://landsateuwest.blob.core.windows.net",
    "https://sentinel2l2a01.blob.core.windows.net",
    "https://landsatlook.usgs.gov",
    "https://cmr.earthdata.nasa.gov",
    "https://data.lpdaac.earthdatacloud.nasa.gov",
    "https://stac.dataspace.copernicus.eu",
)

_BLOCK = 1 << 18
_LOCKS: dict[str, threading.Lock] = {}
_LOCKING = threading.Lock()


@dataclass(frozen=True)
class Fetcher:
    """How files are fetched, and from where.

    Args:
        folder: Where fetched files are kept.
        origins: Scheme and host (and port) of the hosts that are allowed. One that is
            private (an address of its own network) must be named by its address.
        deadline: Seconds for one try, from the request to the last byte.
        tries: How many there are.
        wait: Seconds before the second try; doubled each time.
        most_bytes: Largest file.

    Raises:
        ParameterError: An origin is none, or a number is not positive.
    """

    folder: Path
    origins: tuple[str, ...] = ORIGINS
    deadline: float = 120.0
    tries: int = 4
    wait: float = 1.0
    most_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for origin in self.origins:
            if origin != _origin(origin):
                raise ParameterError(
                    f"expected an origin such as https://example.org, found {origin!r}; "
                    "give scheme and host, without a path"
                )
        if not (self.deadline > 0 and self.tries >= 1 and self.wait >= 0):
            raise ParameterError(
                f"expected a deadline, tries and a wait, found {self.deadline}, "
                f"{self.tries}, {self.wait}; 120, 4 and 1 are usual"
            )

    def check(self, address: str) -> None:
        """Refuse an address that is not of an allowed origin.

        Raises:
            RemoteError: It is not.
        """
        if _origin(address) not in self.origins:
            raise RemoteError(
                f"expected an address of an allowed origin, found {_short(address)}; "
                "name its origin in origins=(…) if you trust it"
            )

    def text(self, address: str, *, most: int = 64 * 2**20) -> bytes:
        """The content at an address, in memory.

        Raises:
            RemoteError: It cannot be fetched.
        """
        parts: list[bytes] = []
        self._tried(address, lambda: self._stream(address, parts, most))
        return b"".join(parts)

    def file(
        self,
        address: str,
        *,
        ending: str = ".tif",
        size: int | None = None,
        sha256: str | None = None,
        verify: Callable[[Path], object] = lambda path: None,
    ) -> Path:
        """A local copy of the file at an address; fetched where there is none yet.

        Args:
            address: Where it is.
            ending: Ending of the local name.
            size: Bytes that it should have, where known.
            sha256: Its digest, where known.
            verify: Raises a GeofuseError where a file is damaged; it is fetched again.

        Raises:
            RemoteError: It cannot be fetched, or is damaged each time.
        """
        self.check(address)
        name = hashlib.sha256(address.encode()).hexdigest()[:40]
        path = self.folder / f"{name}{ending}"
        with _LOCKING:
            lock = _LOCKS.setdefault(str(path), threading.Lock())
        with lock:
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._tried(
                    address, lambda: self._land(address, path, size, sha256, verify)
                )
        return path

    def _tried(self, address: str, work: Callable[[], None]) -> None:
        self.check(address)
        for number in range(1, self.tries + 1):
            try:
                work()
                return
            except _PassingError as error:
                if number == self.tries:
                    raise RemoteError(
                        f"expected {_short(address)}, found that it cannot be fetched in "
                        f"{self.tries} tries of {self.deadline:g} s each ({error}); try "
                        "again later"
                    ) from error
            time.sleep(self.wait * 2 ** (number - 1))

    def _land(
        self,
        address: str,
        path: Path,
        size: int | None,
        sha256: str | None,
        verify: Callable[[Path], object],
    ) -> None:
        part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
        try:
            digest = hashlib.sha256()
            with part.open("wb") as file:
                sink = _Sink(file.write, digest.update)
                self._stream(address, sink, self.most_bytes)
                file.flush()
                os.fsync(file.fileno())
            found = part.stat().st_size
            if size is not None and found != size:
                raise _PassingError(f"{found} bytes of {size}")
            if sha256 is not None and digest.hexdigest() != sha256.lower():
                raise _PassingError("its digest is not the one stated")
            try:
                verify(part)
            except GeofuseError as error:
                raise _PassingError(f"damaged: {error}") from error
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _stream(self, address: str, sink: Any, most: int) -> None:
        """Fetch once, block by block, within the deadline."""
        if isinstance(sink, list):
            sink.clear()
        _refuse_private(address)
        end = time.monotonic() + self.deadline
        opener = urllib.request.build_opener(_CheckedRedirects(self))
        request = urllib.request.Request(address, headers={"User-Agent": "geofuse"})
        try:
            with opener.open(request, timeout=self.deadline) as answer:
                announced = answer.headers.get("Content-Length")
                got = 0
                while True:
                    left = end - time.monotonic()
                    if left <= 0:
                        raise _PassingError(f"not all there after {self.deadline:g} s")
                    _set_timeout(answer, left)
                    block = answer.read1(_BLOCK)
                    if not block:
                        break
                    got += len(block)
                    if got > most:
                        raise RemoteError(
                            f"expected at most {most} bytes, found more at "
                            f"{_short(address)}; raise most_bytes if that is right"
                        )
                    sink.append(block)
                if announced is not None and got != int(announced):
                    raise _PassingError(f"{got} bytes of {announced}")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _PassingError(f"status {error.code}") from error
            raise RemoteError(
                f"expected {_short(address)}, found status {error.code}; check that it is "
                "there and open to you"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _PassingError(str(error) or type(error).__name__) from error


class _PassingError(Exception):
    """A failure that may pass."""


class _Sink:
    """Takes blocks like a list, and keeps none."""

    def __init__(self, *takers: Callable[[bytes], object]) -> None:
        self.takers = takers

    def append(self, block: bytes) -> None:
        for take in self.takers:
            take(block)


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a first request might go."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        try:
            self.fetcher.check(newurl)
            _refuse_private(newurl)
        except RemoteError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _set_timeout(answer: Any, seconds: float) -> None:
    """Bound the wait for the next bytes; the connection's own timeout is for each read."""
    raw = getattr(getattr(answer, "fp", None), "raw", None)
    sock = getattr(raw, "_sock", None)
    if sock is not None:
        sock.settimeout(max(seconds, 0.01))


def _origin(address: str) -> str:
    """Scheme, host and port of an address; empty where it is none."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if (
        parts.scheme not in ("https", "http")
        or not parts.hostname
        or "@" in parts.netloc
    ):
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_private(address: str) -> None:
    """Refuse a name of a host in a network of its own, looked up before each request."""
    host = urlsplit(address).hostname or ""
    if _is_literal(host):
        return  # named by its address among the allowed origins
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return  # not found: the request will say so, and be tried again
    private = sorted(str(a) for a in found if not _is_public(str(a)))
    if private:
        raise RemoteError(
            f"expected a public host, found {host} at {', '.join(private)}; name it by its "
            "address in origins=(…) if you trust it"
        )


def _is_public(address: str) -> bool:
    return ipaddress.ip_address(address.split("%")[0]).is_global


def _short(address: str) -> str:
    """An address without what may be a secret."""
    return address.split("?")[0]
