"""What happened to each request, as gzip-compressed JSON lines: a header, the records, and how the run ended."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from evenkeel.errors import EvenkeelError
from evenkeel.load.settings import Settings, Share

FORMAT = 1
_GZIP = 31
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Record(NamedTuple):
    """One request.

    Attributes:
        at: when it was to be sent, in seconds since the start.
        late: by how many seconds the generator missed that.
        latency: seconds from ``at`` until the whole answer, or the failure.
        method: GET or POST.
        path: what was asked for.
        fresh: on a connection of its own.
        status: of the answer; 0 where none came.
        backend: the answer's ``X-Backend``.
        version: the answer's ``X-App-Version``.
        failure: one of :mod:`evenkeel.load.failures`; empty where there was none.
    """

    at: float
    late: float
    latency: float
    method: str
    path: str
    fresh: bool
    status: int
    backend: str
    version: str
    failure: str

    @property
    def done(self) -> float:
        """When it ended, in seconds since the start."""
        return self.at + self.latency


@dataclass(frozen=True)
class End:
    """How a run ended: when sending stopped (seconds since the start), and the CPU seconds the generator used."""

    stopped: float
    cpu: float


@dataclass(frozen=True)
class Run:
    """A run read back; ``end`` is None where it was killed.

    Attributes:
        started: seconds since the epoch at time 0 of the records.
        pauses: (time, seconds) where the generator as a whole stood still.
    """

    started: float
    settings: Settings
    records: list[Record] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    end: End | None = None


class Writer:
    """Writes a run's file; what it was given before the last :meth:`flush` survives a kill."""

    def __init__(self, path: Path, started: float, settings: Settings) -> None:
        """Begin the file with its header; raises EvenkeelError where it can't be written."""
        self._path = path
        self._pack = zlib.compressobj(1, wbits=_GZIP)
        self._waiting: list[str] = []
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise self._unwritable(error) from None
        self._line({"load": FORMAT, "started": started, "python": sys.version.split()[0], "settings": asdict(settings)})
        self.flush()

    def _unwritable(self, error: OSError) -> EvenkeelError:
        return EvenkeelError(f"The file {self._path} can't be written: {error.strerror}.")

    def _line(self, values: dict[str, Any]) -> None:
        self._waiting.append(_encode(values))

    def record(self, record: Record) -> None:
        """Take a record; microseconds are kept."""
        values = record._asdict()
        for name in ("at", "late", "latency"):
            values[name] = round(values[name], 6)
        self._line(values)

    def pause(self, at: float, seconds: float) -> None:
        """Take a pause of the generator itself."""
        self._line({"pause": [round(at, 6), round(seconds, 6)]})

    def flush(self, mode: int = zlib.Z_SYNC_FLUSH) -> None:
        """Hand everything to the system; raises EvenkeelError."""
        lines, self._waiting = self._waiting, []
        text = "".join(f"{line}\n" for line in lines).encode()
        try:
            self._file.write(self._pack.compress(text) + self._pack.flush(mode))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self, end: End) -> None:
        """End the file; raises EvenkeelError."""
        self._line({"end": asdict(end)})
        self.flush(zlib.Z_FINISH)
        self._file.close()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole: a killed run's file ends without gzip's own end."""
    unpack = zlib.decompressobj(wbits=_GZIP)
    rest = b""
    with path.open("rb") as file:
        while block := file.read(1 << 16):
            *whole, rest = (rest + unpack.decompress(block)).split(b"\n")
            for line in whole:
                yield json.loads(line)


def _settings(values: dict[str, Any]) -> Settings:
    # Files of former releases have no headers.
    headers = tuple((name, value) for name, value in values.get("headers", ()))
    return Settings(**{**values, "mix": tuple(Share(**share) for share in values["mix"]), "headers": headers})


def read(path: Path) -> Run:
    """Return a run's file, up to where it was cut off.

    Raises:
        EvenkeelError: it can't be read or is no such file.
    """
    run: Run | None = None
    end: End | None = None
    try:
        for line in _lines(path):
            if run is None:
                run = Run(line["started"], _settings(line["settings"]))
            elif "pause" in line:
                run.pauses.append((line["pause"][0], line["pause"][1]))
            elif "end" in line:
                end = End(**line["end"])
            else:
                for name in ("method", "path", "backend", "version", "failure"):
                    # The same few texts a million times.
                    line[name] = sys.intern(line[name])
                run.records.append(Record(**line))
    except OSError as error:
        raise EvenkeelError(f"The file {path} can't be read: {error.strerror}.") from None
    except (zlib.error, ValueError, KeyError, TypeError):
        run = None
    if run is None:
        raise EvenkeelError(f"The file {path} is not one that evenkeel load has written.")
    return Run(run.started, run.settings, run.records, run.pauses, end)
