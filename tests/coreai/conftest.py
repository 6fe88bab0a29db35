"""Tiny bundles, built once and kept in pytest's cache under a hash of all that shapes them."""

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filelock import FileLock

import gemma4_mm.coreai
from gemma4_mm.assets.find import Assets
from gemma4_mm.coreai.bundle.bundle import Bundle

if TYPE_CHECKING:
    from gemma4_mm.coreai.run.runtime import Runtime

CONVERTERS = ("coreai-core", "coreai-torch", "coreai-opt", "torch", "transformers")
CACHE_DIR = "coreai-bundles"
# Files that run a bundle and do not shape one: a change in them leaves the cache valid.


def _gap(packages: tuple[str, ...]) -> str | None:
    missing = [package for package in packages if importlib.util.find_spec(package.replace("-", "_")) is None]
    return f"{', '.join(missing)} not installed: pip install 'gemma4-mm[coreai-convert]'" if missing else None


@pytest.fixture(scope="session")
def coreai() -> None:
    """Apple's runtime and converter; skipped with the reason where they are not installed, and never in CI."""
    gap = _gap(("coreai", "coreai_torch", "coreai_opt", "torch", "transformers"))
    if gap and os.environ.get("CI"):
        pytest.fail(f"Core AI tests may not be skipped in CI: {gap}")
    if gap:
        pytest.skip(gap)


@pytest.fixture(scope="session")
def cached_bundle(request: pytest.FixtureRequest) -> Callable[[str, Callable[[Path], object]], Bundle]:
    """Build a bundle unless the cache has it; parallel workers wait for the one that builds."""
    request.getfixturevalue("coreai")
    root = Path(request.config.cache.mkdir(CACHE_DIR))
    root.mkdir(parents=True, exist_ok=True)  # the worker that asks first may not be the one that made the cache

    def build(name: str, make: Callable[[Path], object]) -> Bundle:
        path = root / f"{name}-{_build_hash()}"
        with FileLock(root / f"{name}.lock"):
            if not path.exists():
                for stale in root.glob(f"{name}-*"):
                    shutil.rmtree(stale)
                make(path)
        return Bundle.read(path)

    return build


@pytest.fixture(scope="session")
def tiny_bundle(cached_bundle: Callable[[str, Callable[[Path], object]], Bundle]) -> Bundle:
    """`build_tiny_bundle()` with bfloat16 storage, which is exact for its weights."""
    from gemma4_mm.coreai.convert.tiny import build_tiny_bundle

    return cached_bundle("tiny", build_tiny_bundle)


@pytest.fixture(scope="session")
def runtime(tiny_bundle: Bundle) -> Iterator["Runtime"]:
    """The tiny bundle, loaded once for each worker."""
    from gemma4_mm.coreai.run.runtime import Runtime

    with Runtime.open(tiny_bundle) as opened:
        yield opened


@pytest.fixture(scope="session")
def chat_bundle(tiny_bundle: Bundle, assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with the published chat template beside its own tokenizer."""
    path = tmp_path_factory.mktemp("chat") / "bundle"
    shutil.copytree(tiny_bundle.path, path)
    (path / "tokenizer" / "chat_template.jinja").write_text(assets.read_chat_template(), "utf-8")
    return Bundle.read(path)


@pytest.fixture(scope="session")
def chat_runtime(chat_bundle: Bundle) -> Iterator["Runtime"]:
    """The same, loaded once for each worker."""
    from gemma4_mm.coreai.run.runtime import Runtime

    with Runtime.open(chat_bundle) as opened:
        yield opened


@pytest.fixture(scope="session")
def tiny_model(coreai: None) -> Any:  # noqa: ARG001 (asks for torch)
    """Hugging Face's model of the same weights."""
    from gemma4_mm.coreai.convert import tiny

    return tiny.tiny_model()


@pytest.fixture(scope="session")
def int4_bundle(
    cached_bundle: Callable[[str, Callable[[Path], object]], Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """Converted from a checkpoint directory by the command, as a user would."""
    from gemma4_mm.cli.app import run
    from gemma4_mm.coreai.convert import tiny
    from gemma4_mm.coreai.convert.tiny_tokenizer import write_tokenizer

    def make(path: Path) -> None:
        checkpoint = tmp_path_factory.mktemp("checkpoint")
        tiny.tiny_model().save_pretrained(checkpoint)
        write_tokenizer(checkpoint, chat_template=None)
        words = ["bundle", "convert", str(checkpoint), str(path), "--int4", "--context-length", "256", "--name", "tiny"]
        assert run(words) == 0

    return cached_bundle("int4-command", make)


@pytest.fixture(scope="session")
def int4_runtime(int4_bundle: Bundle) -> Iterator["Runtime"]:
    """The same, loaded once for each worker."""
    from gemma4_mm.coreai.run.runtime import Runtime

    with Runtime.open(int4_bundle) as opened:
        yield opened


@pytest.fixture(scope="session")
def dequantised_model(coreai: None) -> Any:  # noqa: ARG001 (asks for torch)
    """Hugging Face's model with the weights that the INT4 bundle dequantises to."""
    from gemma4_mm.coreai.convert import tiny
    from gemma4_mm.coreai.convert.convert import load_tools

    _, quantize = load_tools()
    model = tiny.tiny_model()
    quantize.quantize_decoder(model)  # its weights are now the dequantised ones, and it runs as any other
    return model


@pytest.fixture
def calls(chat_runtime: "Runtime", monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Function and length of each call that reaches the runtime, which runs it."""
    seen: list[tuple[str, int]] = []
    submit = chat_runtime.submit

    def record(function: str, inputs: Any, **options: Any) -> Any:
        seen.append((function, np.shape(next(iter(inputs.values())))[-1]))
        return submit(function, inputs, **options)

    monkeypatch.setattr(chat_runtime, "submit", record)
    return seen


def _build_hash() -> str:
    """Changes with every source file that shapes a bundle and every version that conversion depends on."""
    package, tests = Path(gemma4_mm.coreai.__file__).parent, Path(__file__).parent
    shaping = sorted(file for room in ("bundle", "convert") for file in (package / room).glob("*.py"))
    digest = hashlib.sha256()
    for file in (*shaping, tests / "toy.py", tests / "conftest.py", tests / "run" / "test_assume_none.py"):
        digest.update(file.name.encode() + file.read_bytes())
    for library in CONVERTERS:
        digest.update(f"{library}=={metadata.version(library)}".encode())
    return digest.hexdigest()[:16]
