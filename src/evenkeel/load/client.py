"""One request over aiohttp, sent once and no more."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from evenkeel.errors import EvenkeelError
from evenkeel.load import failures
from evenkeel.load.settings import Settings

# Seconds an idle connection is kept: less than servers keep theirs (HAProxy's role 10, gunicorn's default 2), so that
# this side closes first. Where a server closes a connection under a request all the same, that is a failure.
IDLE = 1.5


class Outcome(NamedTuple):
    """What became of a request: status 0 where no answer came; ``failure`` as in a Record."""

    status: int
    backend: str
    version: str
    failure: str


class _OneAddress(AbstractResolver):
    """Gives the one address: with several, aiohttp would try one after the other and hide a refusal."""

    def __init__(self, family: int, address: str) -> None:
        self._family, self._address = family, address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family  # the address has its own
        return [
            ResolveResult(
                hostname=host,
                host=self._address,
                port=port,
                family=self._family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Hold nothing."""


async def resolve(url: str) -> tuple[int, str]:
    """Return (family, address) of the URL's host: of several, the first that accepts a connection, else the first.

    Raises:
        EvenkeelError: the name has no address.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError:
        raise EvenkeelError(f"The host {parts.hostname} of the URL has no address.") from None
    candidates = [(int(family), str(address[0])) for family, _, _, _, address in found]
    for family, address in candidates if len(candidates) > 1 else ():
        try:
            async with asyncio.timeout(1):
                _, writer = await asyncio.open_connection(address, port)
        except OSError:
            continue
        writer.close()
        return family, address
    return candidates[0]


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET whose kept-alive connection broke: it repeats only what it knows as broken."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise failures.BrokenError from error


class Client:
    """Sends requests to one address, as many at once as there are."""

    def __init__(self, settings: Settings, address: tuple[int, str]) -> None:
        """Prepare one session for kept-alive and one for fresh connections; needs a running loop."""
        self._urls = {share.path: URL(settings.url + share.path, encoded=True) for share in settings.mix}
        # By TLS too it is the host that is asked for, wherever it is.
        self._tls: dict[str, Any] = {}
        if settings.url.startswith("https:"):
            self._tls = {"server_hostname": settings.host, "ssl": settings.verify}
        self._kept = self._session(address, settings.headers, fresh=False)
        self._fresh = self._session(address, settings.headers, fresh=True)

    @staticmethod
    def _session(
        address: tuple[int, str], headers: tuple[tuple[str, str], ...], *, fresh: bool
    ) -> aiohttp.ClientSession:
        pool = {"force_close": True} if fresh else {"keepalive_timeout": IDLE}
        # limit=0: a limit would make requests wait for each other, and the loop would be closed.
        connector = aiohttp.TCPConnector(limit=0, resolver=_OneAddress(*address), ttl_dns_cache=None, **pool)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            middlewares=(_send_once,),
            headers={"User-Agent": "evenkeel-load"} | dict(headers),
            # The time limit is send()'s; aiohttp rounds its own up to whole seconds.
            timeout=aiohttp.ClientTimeout(),
        )

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._kept.close()
        await self._fresh.close()

    async def send(self, method: str, path: str, *, fresh: bool, timeout: float) -> Outcome:  # noqa: ASYNC109 - a float on the hot path
        """Send a request and read its whole answer within ``timeout`` seconds."""
        session = self._fresh if fresh else self._kept
        status, backend, version = 0, "", ""
        try:
            async with (
                asyncio.timeout(timeout),
                session.request(method, self._urls[path], allow_redirects=False, **self._tls) as answer,
            ):
                status = answer.status
                backend, version = answer.headers.get("X-Backend", ""), answer.headers.get("X-App-Version", "")
                await answer.read()
        except Exception as error:  # noqa: BLE001 - kind() raises what it does not know
            return Outcome(status, backend, version, failures.kind(error))
        return Outcome(status, backend, version, failures.STATUS if status >= 400 else "")
