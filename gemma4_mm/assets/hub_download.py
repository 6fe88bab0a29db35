"""A program of its own: print the paths of files of one hub repository, from the hub's local cache or downloaded.

`prompt.sources` runs it in a child process, since a name lookup or connection that hangs can only be bounded by ending
the process, and since the hub client's retry messages belong to nobody's stderr. It imports nothing of this package.

usage: hub_download.py REPOSITORY DIRECTORY NAME=SHA256…
"""

import hashlib
import sys
from pathlib import Path


def main(repository: str, directory: str, *wanted: str) -> None:
    """Print one path per wanted file; a cached copy counts only if it has the wanted SHA-256."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    for item in wanted:
        name, sha256 = item.split("=")
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str) and hashlib.sha256(Path(cached).read_bytes()).hexdigest() == sha256:
            path = cached
        else:
            path = hf_hub_download(repository, name, local_dir=directory)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
