"""Transformers' processor and ours over the same files; nothing of torch is imported before a test needs it."""

import pytest


@pytest.fixture(scope="session")
def theirs(hf_processor):
    """Transformers' own; its tokenizer has been given the video token, so tests may share it."""
    return hf_processor


@pytest.fixture(scope="session")
def fast(theirs):
    from gemma4_mm.hf import Gemma4UnifiedProcessorFast

    return Gemma4UnifiedProcessorFast.from_hf(theirs)


@pytest.fixture(scope="session")
def folder(theirs, tmp_path_factory):
    """What transformers saves."""
    directory = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(directory)
    return directory


@pytest.fixture
def ours(monkeypatch):
    """Counts how often our pixel code computed a call: `ours.images`, `ours.videos`."""
    from gemma4_mm.hf import image_processor, video_processor

    class Count:
        images = videos = 0

    def counted(module, name, counter):
        real = getattr(module, name)

        def call(*args, **kwargs):
            data = real(*args, **kwargs)
            setattr(Count, counter, getattr(Count, counter) + (data is not None))
            return data

        monkeypatch.setattr(module, name, call)

    counted(image_processor, "preprocess_images", "images")
    counted(video_processor, "preprocess_videos", "videos")
    return Count


@pytest.fixture
def registered():
    from gemma4_mm.hf import register, unregister

    register()
    yield
    unregister()
