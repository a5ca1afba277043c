"""Rows of a `datasets` folder or of a dataset on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivottrace.errors import ConfigError, DataError
from pivottrace.ingest.rows import Row, Source
from pivottrace.ingest.tabular import PARQUET_BATCH_ROWS, arrow_rows

_COMMIT = re.compile(r"[0-9a-f]{40}")
# "hf://datasets/openai/gsm8k@740312…/main/test-00000-of-00001.parquet"
_IN_URL = re.compile(rf"@({_COMMIT.pattern})/")


def open_folder(name: str, path: Path, split: str | None, column_map: dict[str, str]) -> Source:
    """Open a folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.

    Raises:
        ConfigError: The split does not exist, or there are several and the user named none.
        DataError: The folder is something else, or is broken.
    """
    if not any((path / f).is_file() for f in ("dataset_dict.json", "state.json")):
        raise DataError(
            f"{name}: a folder without dataset_dict.json or state.json was not written by "
            "save_to_disk. Name one file in it, or write the folder with dataset.save_to_disk"
        )
    import datasets
    import pyarrow as pa

    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DataError(
            f"{name}: the `datasets` folder is broken ({_first_line(error)}). Write it again with "
            "save_to_disk"
        ) from None
    return _open_dataset(name, loaded, split, column_map)


def open_hub(
    name: str,
    base: str,
    split: str | None,
    column_map: dict[str, str],
    revision: str | None = None,
) -> Source:
    """Open `user/dataset` or `user/dataset:configuration` through the `datasets` cache or the Hub.

    Args:
        name: The source string, for messages.
        base: The id, with the configuration behind a colon.
        split: Its split.
        column_map: The source string's own column options.
        revision: Commit, branch or tag; None means the newest.

    Raises:
        ConfigError: The split does not exist, or there are several and the user named none.
        DataError: The name is not a local path, and the Hub does not give the dataset, or the cache
            has another commit than `revision`.
    """
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    from pivottrace.ingest.hub_access import CURE, tell_of_cache, unreachable

    why = unreachable()
    if why is not None:
        datasets.config.HF_HUB_OFFLINE = True  # its cache is then read at once
    hub_id, _, configuration = base.partition(":")
    try:
        pinned = {} if revision is None else {"revision": revision}
        loaded = datasets.load_dataset(hub_id, configuration or None, **pinned)
    except (DatasetsError, HfHubHTTPError, OSError, ValueError) as error:
        if why is not None:
            copy = f"a copy in the Hub's cache that cannot be used ({_first_line(error)})"
            if isinstance(error, ConnectionError):
                copy = "no copy in the Hub's cache"
            raise DataError(
                f"{name}: no such file or folder here, {copy}, and {why}. {CURE}"
            ) from None
        raise DataError(
            f"{name}: no such file or folder here, and as a Hub dataset it could not be loaded "
            f"({type(error).__name__}: {_first_line(error)}). Check the spelling and the network, "
            "name a configuration as in user/dataset:configuration, or give a local file"
        ) from None
    if why is not None:
        tell_of_cache(hub_id, why)
    source = _open_dataset(name, loaded, split, column_map)
    _refuse_another_revision(source, hub_id, revision)
    return source


def _refuse_another_revision(source: Source, hub_id: str, asked: str | None) -> None:
    """Refuse a wrong commit. Without a network the cache gives its last one, not the named one."""
    if asked is None or not _COMMIT.fullmatch(asked) or source.revision in (None, asked):
        return
    raise DataError(
        f"{source.name}: the copy of {hub_id} in the Hub's cache is of commit {source.revision}, "
        f"and {asked} was asked for. Connect to the Hub, or take that copy with "
        f"?revision={source.revision}"
    )


def _revision_of(loaded: Any) -> str | None:
    """The commit that a dataset was loaded from, by the addresses of its files."""
    found = {match[1] for url in loaded.download_checksums or () if (match := _IN_URL.search(url))}
    return found.pop() if len(found) == 1 else None


def _open_dataset(name: str, loaded: Any, split: str | None, column_map: dict[str, str]) -> Source:
    import datasets

    if isinstance(loaded, datasets.DatasetDict):
        loaded = _choose_split(name, loaded, split)
    elif split is not None and str(loaded.split) != split:
        raise ConfigError(
            f"{name}: split = {split!r}, but the folder holds one dataset without that split. "
            "Leave split out"
        )

    def rows() -> Iterator[Row]:
        # In Arrow format images and audio stay undecoded, so their libraries are not needed.
        yield from arrow_rows(name, loaded.with_format("arrow").iter(PARQUET_BATCH_ROWS))

    columns, revision = tuple(loaded.column_names), _revision_of(loaded)
    return Source(name, columns, rows, "row", column_map, revision=revision)


def _choose_split(name: str, loaded: Any, split: str | None) -> Any:
    if split is None and len(loaded) == 1:
        return next(iter(loaded.values()))
    if split not in loaded:
        there = ", ".join(loaded)
        problem = "has several splits" if split is None else f"has no split {split!r}"
        raise ConfigError(
            f"{name}: {problem}; there are {there}. Name one: set pool.split, or write "
            f"{name.partition('?')[0]}?split={next(iter(loaded), 'train')}"
        )
    return loaded[split]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
