"""Sources: what a source string means, and which reader opens it.

    questions.jsonl  .json  .csv  .tsv  .parquet    a file
    my_dataset/                                     a folder written by `datasets`' save_to_disk
    openai/gsm8k  openai/gsm8k:main                 a Hub id, with the name of its configuration
    world:default  world:hard                       the embedded world
    bench:aime24  bench:gsm8k                       a benchmark (`ingest.benchmark_source`)
    reasoning-gym:chain_sum  gym.toml               a task of reasoning-gym, a file of tasks

Options follow a question mark: `openai/gsm8k:main?split=test`, `test.csv?prompt=task&answer=gold`,
`world:default?num=200&seed=1&split=evaluation`. They hold for this source only and override `--map`
and `split`, because a pool and its evaluation questions may need different ones. A prompt among
them overrides `pool.template` too.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import parse_qsl

from pivottrace.errors import ConfigError
from pivottrace.ingest.benchmark_table import BENCH_PREFIX
from pivottrace.ingest.gym_source import open_gym
from pivottrace.ingest.question_files import open_file
from pivottrace.ingest.rows import Source
from pivottrace.run.storage import digest_file
from pivottrace.verifier.gym_names import is_gym
from pivottrace.world import WORLD_PREFIX

COLUMN_OPTIONS = ("prompt", "answer", "id", "tolerance")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
# "gsm8k-v1.1" is a Hub name, "pool.txt" is a file.
_SUFFIX = re.compile(r"\.[a-z]\w*", re.IGNORECASE)


def open_source(text: str, split: str | None = None, limit: int | None = None) -> Source:
    """Open a source string without reading more rows than `limit`.

    Raises:
        ConfigError: An option, preset or suffix is unknown, or the source has no splits and one is
            given.
        DataError: The file is missing, empty or broken, or the dataset cannot be loaded.
    """
    base, options = split_options(text)
    if base.startswith(BENCH_PREFIX):
        from pivottrace.ingest.benchmark_source import open_benchmark

        return open_benchmark(text, base, options, limit)
    split = options.pop("split", split)
    column_map = {name: options.pop(name) for name in COLUMN_OPTIONS if name in options}
    if base.startswith(WORLD_PREFIX):
        from pivottrace.ingest.world_source import open_world

        if column_map:
            raise ConfigError(f"{text}: the embedded world has no columns to map; leave them out")
        return open_world(text, base.removeprefix(WORLD_PREFIX), options, split)
    if is_gym(base):
        if column_map or split is not None:
            raise ConfigError(
                f"{text}: reasoning-gym has no columns to map and no splits; leave them out, and "
                f"give held-out questions another seed"
            )
        return open_gym(text, base, options, limit)
    if options:
        known = ", ".join(("split", *COLUMN_OPTIONS))
        raise ConfigError(f"{text}: {next(iter(options))!r} is not an option; there are {known}")
    path = Path(base).expanduser()
    if path.is_dir():
        from pivottrace.ingest.hub import open_folder

        return open_folder(text, path, split, column_map)
    if path.exists() or _names_a_file(base):
        if split is not None:
            raise ConfigError(
                f"{text}: split = {split!r}, but a single file has no splits. Leave split out, or "
                "give the split's own file"
            )
        return open_file(text, path, column_map, limit)
    from pivottrace.ingest.hub import open_hub

    return open_hub(text, base, split, column_map)


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """Split a source string into its base and its options; an existing path has no options.

    Raises:
        ConfigError: The options are not `key=value&key=value`.
    """
    base, mark, query = text.partition("?")
    if not mark or Path(text).exists():
        return text, {}
    try:
        return base, dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        raise ConfigError(
            f"{text}: what follows '?' must be options such as split=test&answer=gold"
        ) from None


def source_digest(text: str) -> str | None:
    """Return the SHA-256, in hex, of the bytes that a source string names.

    The digest of a folder covers the names and contents of all its files. The result is None for
    the Hub, the embedded world and a task of reasoning-gym, which name no bytes here. So it is for
    a path that no longer exists.
    """
    base, options = split_options(text)
    if base.startswith(BENCH_PREFIX):
        base = options.get("path", "")
    path = Path(base).expanduser()
    if not base or base.startswith(WORLD_PREFIX) or not path.exists():
        return None
    if path.is_file():
        return digest_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode())
    return digest.hexdigest()


def _names_a_file(base: str) -> bool:
    """Return whether a path that does not exist was meant as a path, not as a Hub id."""
    return bool(_SUFFIX.fullmatch(Path(base).suffix)) or not _HUB_ID.fullmatch(base)
