"""The cache by itself: bounds, order of eviction, damage, other processes."""

import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from gemma4_mm import InputError, MediaCache
from gemma4_mm.cache import Entry

ROOT = Path(__file__).parents[2]
ENTRY_BYTES = 4096
LARGE_BYTES = 1 << 18  # takes a while to write


def key_of(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def entry_of(number, n_bytes=ENTRY_BYTES):
    return Entry(values=np.random.default_rng(number).integers(0, 256, n_bytes, np.uint8), plan={"number": number})


def assert_is(entry, number, n_bytes=ENTRY_BYTES):
    assert entry is not None
    assert entry.plan == {"number": number}
    assert np.array_equal(entry.values, entry_of(number, n_bytes).values)


def files_of(directory):
    return sorted(directory.rglob("*.safetensors"))


def total_of(directory):
    total = 0
    for path in files_of(directory):
        with suppress(FileNotFoundError):  # evicted by another process
            total += path.stat().st_size
    return total


def test_it_is_off_by_default(processor):
    assert processor.cache is None


def test_memory_keeps_what_was_used_last():
    cache = MediaCache(max_memory_bytes=3 * ENTRY_BYTES)
    for number in range(3):
        cache.put(key_of(number), entry_of(number))
    assert_is(cache.get(key_of(0)), 0)
    cache.put(key_of(3), entry_of(3))
    assert cache.get(key_of(1)) is None
    for number in (0, 2, 3):
        assert_is(cache.get(key_of(number)), number)
    cache.put(key_of(4), entry_of(4, 4 * ENTRY_BYTES))  # over the bound by itself: pushes nothing out
    assert cache.get(key_of(4)) is None
    assert_is(cache.get(key_of(0)), 0)
    assert (cache.stats.hits, cache.stats.misses) == (5, 2)


def test_what_is_kept_cannot_be_changed_through_a_hit_or_a_view():
    cache = MediaCache()
    batch = np.arange(10.0, dtype=np.float32)
    cache.put(key_of(0), Entry(values=batch[2:5], plan={}))
    batch[:] = 0
    found = cache.get(key_of(0)).values
    assert found.tolist() == [2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_the_disk_keeps_what_was_used_last_and_stays_within_its_bound(tmp_path):
    bound = 12 * ENTRY_BYTES
    cache = MediaCache(tmp_path, max_memory_bytes=0, max_disk_bytes=bound)
    for number in range(40):
        cache.put(key_of(number), entry_of(number))
        os.utime(tmp_path / "v1" / key_of(number)[:2] / f"{key_of(number)}.safetensors", ns=(number, number))
        assert_is(cache.get(key_of(0)), 0)  # used at every step
        assert total_of(tmp_path) <= bound
    kept = {number for number in range(40) if cache.get(key_of(number)) is not None}
    assert 0 in kept
    assert kept - {0} == set(range(min(kept - {0}), 40))
    assert 5 <= len(kept) <= 11


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "swapped", "plan", "text"])
def test_damage_is_a_miss_and_is_mended(tmp_path, damage):
    cache = MediaCache(tmp_path, max_memory_bytes=0)
    cache.put(key_of(0), entry_of(0))
    cache.put(key_of(1), entry_of(1))
    path = next(path for path in files_of(tmp_path) if path.stem == key_of(0))
    data = path.read_bytes()
    other = next(path for path in files_of(tmp_path) if path.stem == key_of(1)).read_bytes()
    path.write_bytes(
        {
            "bit": data[:-100] + bytes([data[-100] ^ 4]) + data[-99:],
            "cut": data[:-1],
            "empty": b"",
            "swapped": other,  # whole, but another item's
            "plan": data.replace(b'\\"number\\": 0', b'\\"number\\": 7'),
            "text": b"no safetensors",
        }[damage]
    )
    assert path.read_bytes() != data
    assert cache.get(key_of(0)) is None
    assert cache.stats.damaged == 1
    assert not path.exists()
    cache.put(key_of(0), entry_of(0))
    assert_is(cache.get(key_of(0)), 0)
    assert_is(cache.get(key_of(1)), 1)


def test_a_wrong_or_missing_count_is_counted_again(tmp_path):
    bound = 12 * ENTRY_BYTES
    cache = MediaCache(tmp_path, max_memory_bytes=0, max_disk_bytes=bound)
    for number in range(8):
        cache.put(key_of(number), entry_of(number))
    for number, text in enumerate(("x", ""), start=8):
        (tmp_path / "v1/bytes").write_text(text, encoding="ascii")
        cache.put(key_of(number), entry_of(number))
        assert int((tmp_path / "v1/bytes").read_text(encoding="ascii")) == total_of(tmp_path)


def test_a_directory_that_vanishes_or_cannot_be_written_is_no_error_later(tmp_path):
    cache = MediaCache(tmp_path / "cache", max_memory_bytes=0)
    shutil.rmtree(tmp_path / "cache")
    cache.put(key_of(0), entry_of(0))
    assert cache.get(key_of(0)) is None
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose a writable directory"):
        MediaCache(tmp_path / "file" / "cache")
    with pytest.raises(InputError, match="must be at least 0"):
        MediaCache(max_memory_bytes=-1)


def test_what_a_killed_process_left_is_removed_in_time(tmp_path):
    cache = MediaCache(tmp_path, max_memory_bytes=0, max_disk_bytes=4 * ENTRY_BYTES)
    abandoned, fresh = tmp_path / "v1/partial/old", tmp_path / "v1/partial/new"
    for path in (abandoned, fresh):
        path.write_bytes(b"x")
    os.utime(abandoned, (0, 0))
    for number in range(6):
        cache.put(key_of(number), entry_of(number))
    assert not abandoned.exists()
    assert fresh.exists()


def test_it_is_pickled_as_a_name_and_bounds(tmp_path):
    cache = MediaCache(tmp_path, max_memory_bytes=10**6, max_disk_bytes=10**7)
    cache.put(key_of(0), entry_of(0, 10**5))
    data = pickle.dumps(cache)
    assert len(data) < 1000
    copy = pickle.loads(data)  # noqa: S301 (our own)
    assert (copy.directory, copy.max_memory_bytes, copy.max_disk_bytes) == (tmp_path, 10**6, 10**7)
    assert_is(copy.get(key_of(0)), 0, 10**5)


def _hammer(directory, bound, seed, n_steps, connection):
    """Put and get at random, and send how many hits there were, or what went wrong."""
    cache = MediaCache(directory, max_memory_bytes=0, max_disk_bytes=bound)
    generator = np.random.default_rng(seed)
    hits = 0
    try:
        for step in range(n_steps):
            number = int(generator.integers(0, 60))
            found = cache.get(key_of(number))
            if found is None:
                cache.put(key_of(number), entry_of(number, LARGE_BYTES))
            else:
                assert_is(found, number, LARGE_BYTES)
                hits += 1
            if step % 8 == 0:
                assert total_of(directory) <= bound
        assert cache.stats.damaged == 0
    except Exception as error:
        connection.send(repr(error))
        raise
    connection.send(hits)


def test_processes_share_a_small_directory_while_it_evicts(tmp_path):
    context = multiprocessing.get_context("spawn")
    children = []
    for seed in (0, 0, 1):  # two that ask for the same at the same time
        ours, theirs = context.Pipe()
        child = context.Process(target=_hammer, args=(tmp_path, 20 * LARGE_BYTES, seed, 300, theirs))
        child.start()
        theirs.close()
        children.append((child, ours))
    for child, ours in children:
        hits = ours.recv()
        child.join()
        assert isinstance(hits, int), hits
        assert hits > 50
    assert list((tmp_path / "v1/partial").iterdir()) == []
    assert int((tmp_path / "v1/bytes").read_text(encoding="ascii")) >= total_of(tmp_path) > 0


# Every rename that a process makes, as Python's own audit events tell them; a hook cannot be taken back.
WATCH_RENAMES = """
import json, sys
from pathlib import Path
from gemma4_mm import MediaCache
from tests.cache.test_cache import entry_of, files_of, key_of
renamed = []
sys.addaudithook(lambda event, arguments: renamed.append(str(arguments[1])) if event == "os.rename" else None)
directory = Path(sys.argv[1])
cache = MediaCache(directory)
for number in range(3):
    cache.put(key_of(number), entry_of(number))
print(json.dumps([renamed, [str(path) for path in files_of(directory)]]))
"""


def test_a_file_appears_whole(tmp_path):
    """Written aside and renamed: no other process can read a part of it."""
    command = [sys.executable, "-c", WATCH_RENAMES, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    renamed, files = json.loads(result.stdout)
    assert len(files) == 3
    assert set(files) <= set(renamed)
