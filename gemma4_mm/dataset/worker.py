"""What one worker does, on this machine or on another: it loads a processor once and writes whole shards."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemma4_mm.assets.pinned import PinnedAssets
from gemma4_mm.dataset.requests import Line, ShardPlan, parse_line, read_request, read_shard_lines, request_id
from gemma4_mm.dataset.shard import ShardWriter
from gemma4_mm.errors import AssetError, Gemma4MMError, InputError, MissingDependencyError
from gemma4_mm.processor import Processor, build_processor

# Not the sample's fault: the run ends, and goes on once this is mended
FATAL: tuple[type[Exception], ...] = (MissingDependencyError, AssetError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all workers of a run need to know; small, since each gets it pickled.

    Attributes:
        requests: the JSON Lines file, absolute; media paths are relative to its folder.
        folder: where shards go, absolute.
        pinned: tokenizer, template and configuration.
        settings: keyword arguments of `Processor`.
        defaults: keyword arguments of `apply_chat_template` that a request may override.
    """

    requests: Path
    folder: Path
    pinned: PinnedAssets
    settings: Mapping[str, Any]
    defaults: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What became of one shard.

    Attributes:
        number: of the shard.
        n_requests: requests answered, failed ones among them.
        n_failed: requests without tensors.
        first_error: the first of them in words; None where there is none.
    """

    number: int
    n_requests: int
    n_failed: int
    first_error: str | None


class ShardEncoder:
    """A processor that answers requests, in the folder of their file: relative paths in them mean what they say.

    Changes the working directory of the process, so it belongs into a worker.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        sys.path[:] = [str(Path(entry).absolute()) for entry in sys.path]  # no import from the folder of the data
        os.chdir(job.requests.parent)
        self._processor: Processor = build_processor(Processor, job.pinned, job.settings)
        self._processor.chat_template.variables  # noqa: B018 (compiles the template, before the process is forked)

    def encode(
        self,
        plan: ShardPlan,
        *,
        lost: Mapping[int, str] | None = None,
        started: Callable[[int], None] = lambda _index: None,
    ) -> ShardReport:
        """Write one shard.

        Args:
            plan: its requests.
            lost: requests not to try again, by index, and why.
            started: told the index of each request before it is encoded.

        Raises:
            InputError: the file of requests changed, or the shard cannot be written.
            AssetError: the tokenizer or the template cannot be used.
            MissingDependencyError: a decoder is not installed.
        """
        errors: list[str] = []
        try:
            with ShardWriter(self._job.folder, plan, profile=self._processor.profile.name) as writer:
                for line in read_shard_lines(self._job.requests, plan):
                    started(line.index)
                    if error := self._answer(line, writer, lost=(lost or {}).get(line.index)):
                        errors.append(error)
        except OSError as error:
            raise InputError(f"cannot write to {self._job.folder}: {error}; make room or choose another") from error
        return ShardReport(
            number=plan.number,
            n_requests=plan.n_requests,
            n_failed=len(errors),
            first_error=errors[0] if errors else None,
        )

    def _answer(self, line: Line, writer: ShardWriter, *, lost: str | None) -> str | None:
        """Encode one request into the shard, or say why not."""
        name: str | int | None = None
        try:
            record = parse_line(line.text)
            name = request_id(record)
            if lost is not None:
                writer.add_error(line, kind="Crash", message=lost, request_id=name)
                return f"line {line.number}: {lost}"
            request = read_request(record, defaults=self._job.defaults)
            inputs = self._processor.apply_chat_template(
                request.messages, tokenize=True, return_dict=True, **request.arguments
            )
        except FATAL:
            raise
        except Exception as error:  # noqa: BLE001 (one bad sample never stops the run, whatever it found)
            message = str(error) if isinstance(error, Gemma4MMError) else f"internal error: {error}"
            writer.add_error(line, kind=type(error).__name__, message=message, request_id=name)
            return f"line {line.number}: {message}"
        writer.add(line, inputs, request_id=name)
        return None
