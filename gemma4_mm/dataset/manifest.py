"""`run.json`: which requests and settings a folder answers, so that a run goes on with the same ones or not at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from gemma4_mm.dataset.requests import RequestFile
from gemma4_mm.errors import InputError, MediaError

_NAME: Final = "run.json"
_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the files of a folder follow from, beside the media themselves.

    Attributes:
        version: of the layout of the folder.
        requests_sha256: of the file of requests.
        n_requests: in that file.
        shard_size: requests of each shard but the last.
        settings: everything else that changes a tensor or an error.
    """

    version: int
    requests_sha256: str
    n_requests: int
    shard_size: int
    settings: dict[str, Any]

    @classmethod
    def of(cls, requests: RequestFile, *, shard_size: int, settings: Mapping[str, Any]) -> Self:
        """The manifest of a run.

        Raises:
            InputError: a setting is no JSON value.
        """
        try:
            settings = json.loads(json.dumps(settings))  # as it will be read again
        except (TypeError, ValueError) as error:
            raise InputError(f"options must be JSON values: {error}; write them as a request would") from error
        return cls(
            version=_VERSION,
            requests_sha256=requests.sha256,
            n_requests=requests.n_requests,
            shard_size=shard_size,
            settings=dict(settings),
        )

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The manifest of a folder; None where there is none.

        Raises:
            MediaError: it is damaged.
        """
        path = folder / _NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["version"] != _VERSION:
                raise MediaError(f"{path} is of layout {data['version']}, this version reads {_VERSION}; run anew")
            return cls(**data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, MediaError):
                raise
            raise MediaError(f"{path} cannot be read ({error}); restore it, or run into another folder") from error

    def write(self, folder: Path) -> None:
        """Put the manifest into a folder, whole."""
        partial = folder / f".{_NAME}.partial"
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / _NAME)

    def check_same(self, wanted: Self, *, folder: Path) -> None:
        """Check that a run may go on.

        Raises:
            InputError: the requests or a setting differ; the message names the first difference.
        """
        differences = [
            f"{name} was {before!r} and is {after!r}"
            for name, before, after in _differences(asdict(self), asdict(wanted))
        ]
        if differences:
            raise InputError(
                f"{folder} holds a run of other requests or settings: {'; '.join(differences)}; give the same ones to "
                "go on, or choose another folder"
            )


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name in {**before, **after}:
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            found.append((f"{prefix}{name}", one, other))
    return found
