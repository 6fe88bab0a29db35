"""Which decoders are at work: their versions belong to whatever is said of their pixels and samples."""

import platform
from functools import cache
from typing import Any

import numpy as np

from gemma4_mm.optional import require
from gemma4_mm.spec import MediaKind

_PILLOW_FEATURES = ("libjpeg_turbo", "jpg", "jpg_2000", "zlib", "libtiff", "webp", "avif", "littlecms2")


@cache
def decoder_versions(kind: MediaKind) -> tuple[str, ...]:
    """Names and versions of the libraries that decode a kind of media here, and the machine that they run on.

    Raises:
        MissingDependencyError: one is not installed.
    """
    found: dict[str, Any] = {"numpy": np.__version__, "machine": platform.machine()}
    if kind == "image" or kind == "video":
        features = require("PIL.features")
        found["pillow"] = require("PIL").__version__
        found |= {f"pillow {name}": features.version(name) for name in _PILLOW_FEATURES}
    if kind == "video":
        av = require("av", extra="video")
        found |= {"av": av.__version__, **av.library_versions}
    if kind == "audio":
        soundfile, soxr = require("soundfile", extra="audio"), require("soxr", extra="audio")
        found |= {
            "libsndfile": soundfile.__libsndfile_version__,
            "soxr": soxr.__version__,
            "libsoxr": soxr.__libsoxr_version__,
        }
    return tuple(f"{name} {version}" for name, version in found.items())
