"""Reading what a batch wrote: `ModelInputs` by index, straight from the mapped shards."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

from gemma4_mm.dataset.index import INDEX
from gemma4_mm.dataset.manifest import Manifest
from gemma4_mm.dataset.shard import Shard, shard_path
from gemma4_mm.errors import InputError, MediaError
from gemma4_mm.inputs import ModelInputs

_OPEN_SHARDS: Final = 8  # mapped at a time


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request that has tensors.

    Attributes:
        index: of the request in the file of requests, from 0, blank lines not counted.
        id: what the request calls itself; None where it has no name.
        inputs: its tensors.
    """

    index: int
    id: str | int | None
    inputs: ModelInputs


class Shards:
    """A finished folder of shards. Iterating gives a `Sample` per request in order, failed ones left out.

    Picklable and small, so that data loaders can send it to their workers.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, verify: bool) -> None:
        self.folder = folder
        self.manifest = manifest
        self._verify = verify
        self._open: OrderedDict[int, Shard] = OrderedDict()

    def __len__(self) -> int:
        """Requests, failed ones among them."""
        return self.manifest.n_requests

    def __getitem__(self, index: int) -> ModelInputs:
        """The tensors of one request.

        Raises:
            IndexError: there is no such request.
            InputError: it failed; the message says why.
            MediaError: its shard is missing or damaged.
        """
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} requests, 0 to {len(self) - 1}")
        number, position = divmod(index, self.manifest.shard_size)
        return self._shard(number).inputs(position, verify=self._verify)

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            number, position = divmod(index, self.manifest.shard_size)
            shard = self._shard(number)
            request = shard.requests[position]
            if "error" not in request:
                inputs = shard.inputs(position, verify=self._verify)
                yield Sample(index=index, id=request["id"], inputs=inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def _shard(self, number: int) -> Shard:
        if number in self._open:
            self._open.move_to_end(number)
        else:
            self._open[number] = Shard(shard_path(self.folder, number))
            while len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        return self._open[number]


def read_shards(folder: str | PathLike[str], *, verify: bool = False) -> Shards:
    """Open what `gemma4-mm batch` or `run_batch` wrote.

    Args:
        folder: the output folder.
        verify: whether every request read is compared with its SHA-256.

    Raises:
        MediaError: not such a folder, or a damaged one.
        InputError: the run is not finished.
    """
    folder = Path(folder).absolute()
    manifest = Manifest.read(folder)
    if manifest is None:
        raise MediaError(f"{folder} holds no run.json; give a folder that gemma4-mm batch wrote")
    if not (folder / INDEX).is_file():
        raise InputError(f"the run in {folder} is not finished; run the same gemma4-mm batch again, it goes on")
    return Shards(folder, manifest, verify=verify)
