"""The kinds of failure, and which of them an exception is."""

from __future__ import annotations

import errno

import aiohttp

CONNECT = "connect"  # no connection came about: refused, unreachable, no TLS
CERTIFICATE = "certificate"  # by TLS, of no certificate that this machine trusts for the asked host
RESET = "reset"  # the connection ended before the whole answer was there
TIMEOUT = "timeout"  # the answer was not there in time, in whatever phase
STATUS = "status"  # answered, with a status of 400 or more
GARBAGE = "garbage"  # what came is not HTTP
LOCAL = "local"  # this machine ran out of ports, files or memory: nothing the server did
UNFINISHED = "unfinished"  # cut off by a second signal

KINDS = (CONNECT, CERTIFICATE, RESET, TIMEOUT, STATUS, GARBAGE, LOCAL)
_LOCAL = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


class BrokenError(Exception):
    """A connection that broke, under a name for which aiohttp does not send the request a second time."""


def kind(error: BaseException) -> str:
    """Return the kind of failure that ``error`` is; raises it again where it is none of them."""
    cause = error.__cause__ if isinstance(error, BrokenError) else error
    if isinstance(cause, OSError) and cause.errno in _LOCAL:
        return LOCAL
    if isinstance(cause, TimeoutError):
        return TIMEOUT
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return CERTIFICATE
    if isinstance(cause, aiohttp.ClientConnectorError):
        return CONNECT
    # A payload error is an answer cut off in its body.
    if isinstance(cause, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return RESET
    if isinstance(cause, aiohttp.ClientError):
        return GARBAGE
    raise error
