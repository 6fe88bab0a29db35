"""`index.jsonl` and `errors.jsonl`, in the order of the requests, written from the finished shards.

`errors.jsonl` grows while the run goes on; `index.jsonl` appears when all shards are there, and says that they are.
A line of the index is `index`, `line`, `id`, `shard`, and either `tokens`, `image`, `video`, `audio` (tokens of the
prompt, soft tokens per item) or `error`. A line of the errors is `index`, `line`, `id`, `type` and `message`.
"""

import json
from collections.abc import Container, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gemma4_mm.dataset.shard import Shard, shard_path

INDEX: Final = "index.jsonl"
ERRORS: Final = "errors.jsonl"


class IndexWriter:
    """Writes both files, shard by shard.

    Args:
        folder: where the shards are.
        n_shards: how many there will be.
    """

    def __init__(self, folder: Path, *, n_shards: int) -> None:
        self._folder, self._n_shards = folder, n_shards
        self._partial = folder / f".{INDEX}.partial"
        self._next = 0
        self._files = ExitStack()
        self.n_failed = 0

    def __enter__(self) -> Self:
        (self._folder / INDEX).unlink(missing_ok=True)
        self._index = self._files.enter_context(self._partial.open("w", encoding="utf-8"))
        self._errors = self._files.enter_context((self._folder / ERRORS).open("w", encoding="utf-8"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()
        if kind is None and self._next == self._n_shards:
            self._partial.replace(self._folder / INDEX)
        else:
            self._partial.unlink(missing_ok=True)

    def advance(self, finished: Container[int]) -> None:
        """Write the lines of all shards that follow without a gap.

        Raises:
            MediaError: a shard vanished or was damaged in the meantime.
        """
        while self._next < self._n_shards and self._next in finished:
            shard = Shard(shard_path(self._folder, self._next))
            for request in shard.requests:
                self._index.write(_line(_summary(request, shard=self._next)))
                if "error" in request:
                    self.n_failed += 1
                    self._errors.write(_line({**_place(request), **request["error"]}))
            self._errors.flush()
            self._next += 1


def _place(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: request[name] for name in ("index", "line", "id")}


def _summary(request: Mapping[str, Any], *, shard: int) -> dict[str, Any]:
    summary = {**_place(request), "shard": shard}
    if "error" in request:
        return {**summary, "error": request["error"]["type"]}
    counts: dict[str, dict[int, int]] = {"image": {}, "video": {}, "audio": {}}
    tokens = 0
    for segment in request["segments"]:
        n_tokens = segment["stop"] - segment["start"]
        tokens += n_tokens if segment["kind"] != "padding" else 0
        if segment["item"] is not None:
            items = counts[segment["kind"]]
            items[segment["item"]] = items.get(segment["item"], 0) + n_tokens
    return {**summary, "tokens": tokens, **{kind: list(items.values()) for kind, items in counts.items()}}


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"
