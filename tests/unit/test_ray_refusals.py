"""What is said about a cluster that cannot be used. A real one: tests/integration/test_ray.py."""

import socket
import sys

import pytest

from pivottrace.cli import main

RUN = ["run", "--until", "sample", "--questions", "world:default?num=2&seed=1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ray", "auto", "--shard", "1/2"], "either --shard or --ray"),
        (["--ray", "auto", "--rollouts.backend", "openai"], "samples on the cluster"),
    ],
)
def test_ray_excludes_other_places(tmp_path, capsys, arguments, said):
    assert main([*RUN, "--output", str(tmp_path / "run"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ray_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*RUN, "--output", str(tmp_path / "run"), "--ray", "auto"]) == 2
    assert "pip install 'pivottrace[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["host", "ray://host:10001", "127.0.0.1:PORT"])
def test_an_address_without_a_cluster_is_refused_at_once(tmp_path, capsys, monkeypatch, address):
    monkeypatch.setitem(sys.modules, "ray", type(sys)("ray"))
    with socket.socket() as free:  # bound, and nobody listens
        free.bind(("127.0.0.1", 0))
        address = address.replace("PORT", str(free.getsockname()[1]))
        assert main([*RUN, "--output", str(tmp_path / "run"), "--ray", address]) == 2
    assert f"--ray {address}: no Ray cluster can be used there" in capsys.readouterr().err
