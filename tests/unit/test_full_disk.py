"""A full disk is one line with its cure, whichever library finds it, and nothing is lost."""

import errno
import os
import shutil
import sqlite3
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from training_run import config, metrics, train

from pivottrace.errors import OutOfDiskError, RunDirError
from pivottrace.labels.store import Given, LabelStore, read_labels
from pivottrace.training.saving import full_disk_errors

Usage = namedtuple("Usage", "total used free")
WEIGHTS = {"a": torch.zeros(1000)}


@contextmanager
def no_room(monkeypatch):
    """Inside, the disk says that it has no room."""
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 0))
        yield


def raise_(error):
    raise error


WRITERS = {
    "a file": lambda: Path("/dev/full").write_text("x"),
    "a quota": lambda: raise_(OSError(errno.EDQUOT, "Disk quota exceeded")),
    "torch": lambda: torch.save(WEIGHTS, "/dev/full"),
    "torch, the older way": lambda: raise_(RuntimeError(f"write(): {os.strerror(errno.ENOSPC)}")),
    "safetensors": lambda: raise_(SafetensorError("I/O error: No space (os error 28)")),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_librarys_full_disk_is_said(writer, tmp_path, monkeypatch):
    with (
        no_room(monkeypatch),
        pytest.raises(OutOfDiskError, match=r"disk is full. Free some room and run the same"),
        full_disk_errors(tmp_path),
    ):
        WRITERS[writer]()


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), OSError(errno.ECONNRESET, "reset"), OutOfDiskError()]
)
def test_other_errors_of_a_training_stay_as_they_are(error, tmp_path):
    with pytest.raises(type(error)) as caught, full_disk_errors(tmp_path):
        raise error
    assert caught.value is error


def test_a_writer_that_fails_with_room_left_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(SafetensorError), full_disk_errors(tmp_path):
        save_file(WEIGHTS, tmp_path / "absent" / "model.safetensors")


@pytest.mark.usefixtures("one_thread")
def test_a_checkpoint_that_does_not_fit_ends_training_and_the_next_one_goes_on(
    start, tokenizer, tmp_path, monkeypatch
):
    save = torch.save

    def full(value, path, *args, **kwargs):
        if "checkpoint-4" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(value, path, *args, **kwargs)

    cfg = config(steps=5, save_steps=2)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(OutOfDiskError, match="the disk is full"):
            train(start, tokenizer, tmp_path / "run", cfg=cfg)
    resumed = []
    train(
        start,
        tokenizer,
        tmp_path / "run",
        cfg=cfg,
        on_log=lambda step, logs: resumed.append(step),
    )
    assert resumed == [3, 4, 5]
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 3, 4, 5]


def test_a_full_disk_at_the_label_store_is_told_from_other_disk_errors(tmp_path, monkeypatch):
    path = tmp_path / "labels.sqlite"
    LabelStore(path, 3).add_many([Given("q1", "7", "file", "probe")])
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE

    def broken(*args, **kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", broken)
        for use in (lambda: LabelStore(path, 3), lambda: read_labels(path)):
            with no_room(monkeypatch), pytest.raises(OutOfDiskError, match=r"Free some room"):
                use()
            with pytest.raises(RunDirError, match=r"Look for errors of the disk") as caught:
                use()
            assert not isinstance(caught.value, OutOfDiskError)
            assert "permission" not in str(caught.value)
    assert list(read_labels(path)) == ["q1"]
