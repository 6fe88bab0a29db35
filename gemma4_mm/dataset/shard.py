"""One shard: a safetensors file, written as a stream, whole or not at all.

The library's own writer takes all tensors of a file at once. A shard of videos would be gigabytes, so here each request
is written as soon as it is encoded: space is left for the header, the tensors follow, and the header comes last. The
format allows that: a header may end in spaces. What is read is read by the library.

Schema: tensors are named `INDEX/NAME`, such as `17/input_ids`, NAME as in `ModelInputs`. The metadata entry
`gemma4_mm_shard` is a JSON object: `version`, `number` of the shard, `requests_sha256` of the lines that it answers,
`profile`, and `requests`, one object per line in order: `index`, `line`, `id`, and either `keys` (names of its tensors,
in order), `sha256` (see `content_digest`) and `segments`, or `error` (`type` and `message`).
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.dataset.requests import Line, ShardPlan
from gemma4_mm.errors import InputError, MediaError
from gemma4_mm.inputs import ModelInputs, read_segments, read_tensor, write_segments
from gemma4_mm.optional import require

PARTIAL_GLOB: Final = ".*.partial"
_VERSION: Final = 1
_METADATA_KEY: Final = "gemma4_mm_shard"
_DTYPES: Final = {"int64": "I64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL"}
_HEADER_UNIT: Final = 4096  # headers are multiples of it, which also aligns the tensors
_HEADER_BYTES: Final = 2048  # left per request; more is needed for videos of many frames
_MAX_HEADER_BYTES: Final = 100_000_000  # what the safetensors library reads
_COPY_BYTES: Final = 1 << 24


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard is kept."""
    return folder / f"shard-{number:06d}.safetensors"


def content_digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the tensors of one request, in order."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


class ShardWriter:
    """Writes one shard; leaving the `with` block puts it in place, or removes it after an exception.

    Args:
        folder: where the shards are.
        plan: which requests it answers.
        profile: name of the reference behaviour.
    """

    def __init__(self, folder: Path, plan: ShardPlan, *, profile: str) -> None:
        self._path = shard_path(folder, plan.number)
        # Two processes never write to one file, even if one outlives the run that started it
        self._partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
        self._record: dict[str, Any] = {
            "version": _VERSION,
            "number": plan.number,
            "requests_sha256": plan.sha256,
            "profile": profile,
            "requests": [],
        }
        self._tensors: dict[str, dict[str, Any]] = {}
        self._last: list[tuple[str, NDArray[Any]]] = []
        self._header_bytes = _round_up(_HEADER_BYTES * (plan.n_requests + 1))
        self._n_bytes = 0

    def __enter__(self) -> Self:
        self._file = self._partial.open("wb", buffering=0)
        self._file.seek(8 + self._header_bytes)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
                self._partial.replace(self._path)
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def add(self, line: Line, inputs: ModelInputs, *, request_id: str | int | None) -> None:
        """Write the tensors of one request."""
        for name, value in inputs.items():
            # Values of one byte come last in the file, so that all others stay aligned
            if value.itemsize == 1:
                self._last.append((f"{line.index}/{name}", value))
            else:
                self._write(f"{line.index}/{name}", value)
        self._record["requests"].append(
            {
                "index": line.index,
                "line": line.number,
                "id": request_id,
                "keys": list(inputs),
                "sha256": content_digest(inputs),
                "segments": write_segments(inputs.segments),
            }
        )

    def add_error(self, line: Line, *, kind: str, message: str, request_id: str | int | None) -> None:
        """Note that one request has no tensors, and why."""
        self._record["requests"].append(
            {"index": line.index, "line": line.number, "id": request_id, "error": {"type": kind, "message": message}}
        )

    def _write(self, name: str, value: NDArray[Any]) -> None:
        data = _bytes(value)
        start, self._n_bytes = self._n_bytes, self._n_bytes + data.nbytes
        self._tensors[name] = {
            "dtype": _DTYPES[value.dtype.name],
            "shape": list(value.shape),
            "data_offsets": [start, self._n_bytes],
        }
        while data.nbytes:
            data = data[self._file.write(data) :]

    def _finish(self) -> None:
        for name, value in self._last:
            self._write(name, value)
        header = json.dumps(
            {"__metadata__": {_METADATA_KEY: _compact(self._record)}, **self._tensors}, separators=(",", ":")
        ).encode()
        if len(header) > _MAX_HEADER_BYTES:
            raise InputError(
                f"the header of {self._path} would have {len(header)} bytes; the safetensors format allows "
                f"{_MAX_HEADER_BYTES}; choose a smaller --shard-size"
            )
        if len(header) > self._header_bytes:
            self._make_room(_round_up(len(header)))
        self._file.seek(0)
        self._file.write(struct.pack("<Q", self._header_bytes) + header.ljust(self._header_bytes))

    def _make_room(self, header_bytes: int) -> None:
        """Move the tensors towards the end, last bytes first."""
        shift = header_bytes - self._header_bytes
        first, position = 8 + self._header_bytes, 8 + self._header_bytes + self._n_bytes
        with self._partial.open("r+b", buffering=0) as file:
            while position > first:
                start = max(first, position - _COPY_BYTES)
                file.seek(start)
                data = memoryview(file.read(position - start))
                file.seek(start + shift)
                while data.nbytes:
                    data = data[file.write(data) :]
                position = start
        self._header_bytes = header_bytes


class Shard:
    """A finished shard, read through the safetensors library: tensors are copied out of the mapped file on request.

    Raises:
        MediaError: the file is missing, damaged or no shard.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        safetensors = require("safetensors")
        try:
            self._file = safetensors.safe_open(str(path), framework="numpy")
            record = json.loads((self._file.metadata() or {}).get(_METADATA_KEY, "null"))
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise MediaError(f"cannot read the shard {path}: {error}; run the batch again to make it anew") from error
        if not isinstance(record, dict) or record.get("version") != _VERSION:
            raise MediaError(f"{path} is no shard of this version; run the batch again into another folder")
        self.number: int = record["number"]
        self.requests_sha256: str = record["requests_sha256"]
        self.profile: str = record["profile"]
        self.requests: list[dict[str, Any]] = record["requests"]

    def inputs(self, position: int, *, verify: bool) -> ModelInputs:
        """Read the tensors of one request.

        Args:
            position: of the request in this shard, from 0.
            verify: whether to compare the bytes with their digest.

        Raises:
            InputError: the request failed; the message is that of its error.
            MediaError: with `verify`, the bytes are not those that were written.
            MissingDependencyError: the tensors are bfloat16, and ml_dtypes is not installed.
        """
        request = self.requests[position]
        if "error" in request:
            error = request["error"]
            raise InputError(f"request {request['index']} has no tensors: {error['type']}: {error['message']}")
        tensors = {name: read_tensor(self._file, f"{request['index']}/{name}") for name in request["keys"]}
        if verify and content_digest(tensors) != request["sha256"]:
            raise MediaError(
                f"{self._path} is damaged: request {request['index']} is not what was written; run the batch again "
                "with --verify to make it anew"
            )
        return ModelInputs(tensors, segments=read_segments(request["segments"]), profile=self.profile)

    def check(self) -> None:
        """Compare all bytes with their digests.

        Raises:
            MediaError: a request is not what was written.
        """
        for position, request in enumerate(self.requests):
            if "error" not in request:
                self.inputs(position, verify=True)


def is_finished(folder: Path, plan: ShardPlan, *, verify: bool) -> bool:
    """Whether the shard of these requests is there and whole; with `verify`, every byte is read."""
    try:
        shard = Shard(shard_path(folder, plan.number))
        if verify:
            shard.check()
    except MediaError:
        return False
    return (shard.requests_sha256, len(shard.requests)) == (plan.sha256, plan.n_requests)


def _bytes(value: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def _round_up(n_bytes: int) -> int:
    return -(-n_bytes // _HEADER_UNIT) * _HEADER_UNIT


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))  # ASCII: ids and messages may hold lone surrogates
