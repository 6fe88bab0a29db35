"""Saved files, the Auto classes, plugins and imports."""

import filecmp
import re
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

from gemma4_mm import Execution
from gemma4_mm.testing.strategies.images import make_picture
from tests.hf.same import assert_same

pytestmark = pytest.mark.parity

PHOTO = make_picture("photo", height_px=61, width_px=83)


def assert_same_files(one, other):
    names = sorted(path.name for path in Path(one).iterdir())
    assert names == sorted(path.name for path in Path(other).iterdir())
    assert "processor_config.json" in names
    assert filecmp.cmpfiles(one, other, names, shallow=False) == (names, [], [])


def test_saved_files_are_transformers_in_every_byte(theirs, folder, tmp_path):
    from gemma4_mm.hf import Gemma4UnifiedProcessorFast

    fast = Gemma4UnifiedProcessorFast.from_hf(theirs, execution=Execution(threads=2))
    fast.save_pretrained(tmp_path / "fast")
    assert_same_files(folder, tmp_path / "fast")
    for name, source in (("again", tmp_path / "fast"), ("theirs", folder)):
        type(theirs).from_pretrained(source).save_pretrained(tmp_path / name)
    assert_same_files(tmp_path / "theirs", tmp_path / "again")


@pytest.mark.parametrize("part", ["image_processor", "video_processor"])
def test_a_part_saves_as_transformers(part, theirs, fast, tmp_path):
    getattr(theirs, part).save_pretrained(tmp_path / "theirs")
    getattr(fast, part).save_pretrained(tmp_path / "fast")
    (name,) = [path.name for path in (tmp_path / "theirs").iterdir()]
    assert (tmp_path / "fast" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


def test_from_pretrained_gives_fast_parts_with_the_execution(folder):
    from transformers.models import gemma4_unified

    from gemma4_mm.hf import Gemma4UnifiedImageProcessorFast, Gemma4UnifiedProcessorFast

    fast = Gemma4UnifiedProcessorFast.from_pretrained(
        folder, execution=Execution(threads=2), padding_side="right", trust_remote_code=True
    )
    assert isinstance(fast, gemma4_unified.Gemma4UnifiedProcessor)
    assert type(fast.image_processor) is Gemma4UnifiedImageProcessorFast
    assert fast.execution == Execution(threads=2)
    assert fast.tokenizer.padding_side == "right"


def test_parts_given_by_hand_are_copied_as_fast_ones(theirs):
    from gemma4_mm.hf import Gemma4UnifiedProcessorFast, Gemma4UnifiedVideoProcessorFast
    from gemma4_mm.hf.theirs import HFVideoProcessor

    video = HFVideoProcessor(max_soft_tokens=140)
    fast = Gemma4UnifiedProcessorFast(
        feature_extractor=theirs.feature_extractor,
        image_processor=theirs.image_processor,
        tokenizer=theirs.tokenizer,
        video_processor=video,
    )
    assert type(fast.video_processor) is Gemma4UnifiedVideoProcessorFast
    assert fast.video_processor.max_soft_tokens == 140
    assert type(video) is HFVideoProcessor


@pytest.mark.usefixtures("registered")
def test_auto_classes_give_ours_after_register(folder, theirs):
    import transformers

    from gemma4_mm import hf

    fast = transformers.AutoProcessor.from_pretrained(folder)
    assert type(fast) is hf.Gemma4UnifiedProcessorFast
    assert isinstance(fast, type(theirs))
    assert isinstance(fast, transformers.Gemma4UnifiedProcessor)
    assert type(transformers.AutoImageProcessor.from_pretrained(folder)) is hf.Gemma4UnifiedImageProcessorFast
    assert_same(theirs(images=PHOTO, return_tensors="pt"), fast(images=PHOTO, return_tensors="pt"))
    hf.unregister()
    assert type(transformers.AutoProcessor.from_pretrained(folder)) is type(theirs)


def test_the_init_has_transformers_signature():
    import inspect

    from gemma4_mm.hf import Gemma4UnifiedProcessorFast
    from gemma4_mm.hf.theirs import HFProcessor

    assert inspect.signature(Gemma4UnifiedProcessorFast) == inspect.signature(HFProcessor)
    assert Gemma4UnifiedProcessorFast.get_attributes() == HFProcessor.get_attributes()


def test_the_vllm_plugin_rebinds_the_name_in_vllm(monkeypatch, registered):  # noqa: ARG001 (undone afterwards)
    from gemma4_mm.hf import Gemma4UnifiedProcessorFast, vllm_plugin
    from gemma4_mm.hf.theirs import HFProcessor

    (point,) = [
        point for point in metadata.entry_points(group="vllm.general_plugins") if point.value.startswith("gemma4_mm")
    ] or [metadata.EntryPoint("gemma4_mm", "gemma4_mm.hf.vllm_plugin:register", "vllm.general_plugins")]
    model = types.ModuleType(vllm_plugin._MODEL)
    model.Gemma4UnifiedProcessor = HFProcessor
    parts = vllm_plugin._MODEL.split(".")
    for n in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:n]), types.ModuleType(".".join(parts[:n])))
    monkeypatch.setitem(sys.modules, vllm_plugin._MODEL, model)
    point.load()()
    assert model.Gemma4UnifiedProcessor is Gemma4UnifiedProcessorFast


def test_the_vllm_plugin_leaves_other_installations_alone(caplog):
    from gemma4_mm.hf import vllm_plugin

    assert "vllm" not in sys.modules
    vllm_plugin.register()
    assert "No module named 'vllm'" in caplog.text


def test_bits_that_differ_are_left_to_transformers_with_one_warning(monkeypatch, theirs, fast):
    from gemma4_mm.hf import trust

    trust.images_are_equal.cache_clear()
    real = trust.preprocess_images

    def wrong(*args, **kwargs):
        data = real(*args, **kwargs)
        data["pixel_values"][0, 0, 0] += 1e-7
        return data

    monkeypatch.setattr(trust, "preprocess_images", wrong)
    try:
        with pytest.warns(RuntimeWarning, match="leaves images to transformers") as caught:
            results = [fast.image_processor(PHOTO) for _ in range(2)]
        assert len(caught) == 1
        assert_same([theirs.image_processor(PHOTO)] * 2, results)
    finally:
        trust.images_are_equal.cache_clear()


def test_check_reports_every_bit(capsys):
    from gemma4_mm.hf import check
    from gemma4_mm.hf.__main__ import main

    assert main(["check"]) == 0
    n_calls = len(list(check.cases())) * len(check.executions())
    assert f"{n_calls} of {n_calls} calls equal in every bit" in capsys.readouterr().out


def test_check_finds_one_wrong_bit(capsys, monkeypatch):
    from gemma4_mm.hf import check, image_processor
    from gemma4_mm.hf.__main__ import main

    real = image_processor.preprocess_images

    def wrong(images, **kwargs):
        data = real(images, **kwargs)
        if data is not None:
            data["pixel_values"][0, 0, 0] += 1e-7
        return data

    monkeypatch.setattr(image_processor, "preprocess_images", wrong)
    monkeypatch.setattr(check, "cases", lambda: iter([check.Case(name="photo", media=[PHOTO], options={})]))
    assert main(["check"]) == 1
    assert "differs: photo, numpy on 1: pixel_values" in capsys.readouterr().out


def test_the_readme_example_runs(folder):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```py\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    code = block.replace("google/gemma-4-12B-it", str(folder))
    code += (
        "\nassert type(processor) is Gemma4UnifiedProcessorFast\nfrom gemma4_mm.hf import unregister\nunregister()\n"
    )
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 (our own README)


def test_nothing_else_of_the_package_imports_this_room():
    root = Path(__file__).parents[2] / "gemma4_mm"
    others = [path for path in root.rglob("*.py") if path.parent != root / "hf"]
    assert len(others) > 100
    assert [path for path in others if re.search(r"gemma4_mm\.hf\b", path.read_text(encoding="utf-8"))] == []
    code = "import sys, gemma4_mm; sys.exit('transformers' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_transformers_the_install_command_is_named():
    code = "import sys; sys.modules['torch'] = None; import gemma4_mm.hf"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "pip install 'gemma4-mm[hf]'" in run.stderr
