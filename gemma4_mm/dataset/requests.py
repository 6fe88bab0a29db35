"""A file of requests, one JSON object a line: cut into shards without holding it, and read line by line."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemma4_mm.errors import InputError

_KEYS: Final = ("id", "messages", "tools", "documents", "options")
# What a shard needs to be the way it is, or has a key of its own
_NOT_OPTIONS: Final = ("conversation", "tokenize", "return_dict", "return_tensors", "chat_template", *_KEYS)


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The requests of one shard: consecutive ones, whatever the number of workers.

    Attributes:
        number: of the shard, from 0.
        first: index of its first request, from 0.
        n_requests: how many it has.
        first_line: number of its first line in the file, from 1; blank lines count.
        offset: its first byte in the file.
        n_bytes: its bytes.
        sha256: of these bytes.
    """

    number: int
    first: int
    n_requests: int
    first_line: int
    offset: int
    n_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class RequestFile:
    """A file of requests and how it is cut.

    Attributes:
        path: absolute.
        sha256: of the whole file.
        n_requests: lines that are not blank.
        shards: in order.
    """

    path: Path
    sha256: str
    n_requests: int
    shards: tuple[ShardPlan, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line that is not blank.

    Attributes:
        index: of the request, from 0.
        number: of the line in the file, from 1.
        text: its bytes.
    """

    index: int
    number: int
    text: bytes


@dataclass(frozen=True, kw_only=True)
class Request:
    """One conversation, as a line asks for it.

    Attributes:
        messages: the conversation.
        arguments: keyword arguments of `Processor.apply_chat_template`.
    """

    messages: list[Any]
    arguments: Mapping[str, Any]


def scan_requests(path: Path, *, shard_size: int) -> RequestFile:
    """Read the file once, for its digests and for where each shard begins; no line is kept.

    Args:
        path: the JSON Lines file.
        shard_size: requests of each shard but the last.

    Raises:
        InputError: the file cannot be read, or holds no request.
    """
    shards: list[ShardPlan] = []
    whole = hashlib.sha256()
    try:
        with path.open("rb") as file:
            shard = _OpenShard(number=0, first=0, line=1, offset=0)
            for line in file:
                if shard.n_requests == shard_size:
                    shards.append(shard.plan())
                    shard = shard.next()
                whole.update(line)
                shard.add(line)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; give a JSON Lines file of requests") from error
    if not shard.n_requests and not shards:
        raise InputError(f'{path} holds no request; write one a line: {{"id": …, "messages": […]}}')
    if shard.n_requests:  # else there is nothing but blank lines after the last full shard
        shards.append(shard.plan())
    return RequestFile(
        path=path.absolute(),
        sha256=whole.hexdigest(),
        n_requests=sum(plan.n_requests for plan in shards),
        shards=tuple(shards),
    )


def read_shard_lines(path: Path, plan: ShardPlan) -> Iterator[Line]:
    """The lines of one shard.

    Raises:
        InputError: the file cannot be read, or changed after it was scanned.
    """
    try:
        with path.open("rb") as file:
            file.seek(plan.offset)
            data = file.read(plan.n_bytes)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; leave the file where it is until the run ends") from error
    if hashlib.sha256(data).hexdigest() != plan.sha256:
        raise InputError(f"{path} changed while it was read; start anew into another folder")
    index = plan.first
    for number, text in enumerate(data.split(b"\n"), start=plan.first_line):
        if text.strip():
            yield Line(index=index, number=number, text=text)
            index += 1


def parse_line(text: bytes) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        InputError: it is not one.
    """
    try:
        record = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f'not JSON: {error}; write one object a line: {{"id": …, "messages": […]}}') from error
    except RecursionError as error:
        raise InputError("the JSON is nested too deeply; nest it less") from error
    if not isinstance(record, dict):
        raise InputError(f'a line holds {type(record).__name__}, not an object; write {{"id": …, "messages": […]}}')
    return record


def request_id(record: Mapping[str, Any]) -> str | int | None:
    """The caller's own name of a request; None where the line has none.

    Raises:
        InputError: it is neither text nor a whole number.
    """
    value = record.get("id")
    if value is None or isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise InputError(f"id is {value!r}; it must be text or a whole number")


def read_request(record: Mapping[str, Any], *, defaults: Mapping[str, Any]) -> Request:
    """Read one request; what it does not set is as in `defaults`.

    Raises:
        InputError: an unknown key, or a value of the wrong type.
    """
    if unknown := sorted(set(record) - set(_KEYS)):
        raise InputError(f"unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}; processor arguments go to options")
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise InputError('messages must be one conversation: a list of {"role": …, "content": …} objects')
    options = record.get("options")
    if options is not None and not isinstance(options, dict):
        raise InputError(f'options is {type(options).__name__}; give an object, such as {{"max_soft_tokens": 140}}')
    if refused := sorted(set(options or {}) & set(_NOT_OPTIONS)):
        raise InputError(f"{refused[0]!r} cannot be set in options; leave it out")
    extra = {name: record[name] for name in ("tools", "documents") if record.get(name) is not None}
    return Request(messages=messages, arguments={**defaults, **(options or {}), **extra})


class _OpenShard:
    """A shard whose lines are being counted."""

    def __init__(self, *, number: int, first: int, line: int, offset: int) -> None:
        self.n_requests = 0
        self._number, self._first, self._first_line, self._offset = number, first, line, offset
        self._n_lines = self._n_bytes = 0
        self._digest = hashlib.sha256()

    def add(self, line: bytes) -> None:
        self.n_requests += bool(line.strip())
        self._n_lines += 1
        self._n_bytes += len(line)
        self._digest.update(line)

    def plan(self) -> ShardPlan:
        return ShardPlan(
            number=self._number,
            first=self._first,
            n_requests=self.n_requests,
            first_line=self._first_line,
            offset=self._offset,
            n_bytes=self._n_bytes,
            sha256=self._digest.hexdigest(),
        )

    def next(self) -> "_OpenShard":
        return _OpenShard(
            number=self._number + 1,
            first=self._first + self.n_requests,
            line=self._first_line + self._n_lines,
            offset=self._offset + self._n_bytes,
        )
