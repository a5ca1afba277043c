"""The viewer and the report in a real Chromium: accessible, safe, by keyboard, and fast to open."""

import pytest
import report_run
from browser import in_browser
from html_pages import HOSTILE

from pivottrace.pipeline import build_pages
from pivottrace.viewer import question_view
from pivottrace.viewer.pages import write_question, write_route

LONG, TOKENS = "q-0004", 10_000
SLOWEST_MS = 4_000  # the aim is a second; this machine may do other work


class LongWorld(report_run.World):
    """The question `LONG` has a trace of `TOKENS` tokens in one paragraph."""

    def _trace(self, i):
        words, mass = super()._trace(i)
        if self.ids[i] != LONG:
            return words, mass
        times = -(-TOKENS // len(words))
        return ([*words, " So"] * times)[:TOKENS], ([*mass, 0.05] * times)[:TOKENS]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(report_run, "World", LongWorld)
    patch.setattr(question_view, "tokenizer_decode", lambda run: report_run.decode)
    run = report_run.make_run(tmp_path_factory.mktemp("seen") / "run", hostile=HOSTILE)
    long_page = write_question(run, LONG)
    write_route(run, "annotate")
    build_pages(run)
    patch.undo()
    told = {"run": str(run.path), "long_page": str(long_page)}
    return in_browser("check_view.py", tmp_path_factory.mktemp("told"), **told)


def test_no_page_has_a_serious_finding_or_runs_or_fetches_anything(found):
    assert len(found["pages"]) >= 3 * 4
    for name, page in found["pages"].items():
        assert page == {"serious": [], "faults": [], "other_requests": [], "wide": False}, name


def test_keys_go_to_questions_and_pivots_and_the_background_follows_the_choice(found):
    keyboard = found["keyboard"]
    first, second, back = keyboard["questions"]
    assert first == back != second
    assert keyboard["pivots"] == ["-pivot-1", "-pivot-2", "-pivot-1"]
    assert keyboard["read"].startswith("token ") and "pivot 1" in keyboard["read"]
    assert keyboard["legends"] == ["entropy"]
    plain, shaded = keyboard["backgrounds"]
    assert plain != shaded
    assert keyboard["faults"] == []


def test_ten_thousand_tokens_open_in_a_second(found):
    opening = found["opening"]
    print(f"{opening['tokens']:,} tokens were painted after {opening['milliseconds']:.0f} ms")
    assert opening["tokens"] == TOKENS
    assert opening["milliseconds"] < SLOWEST_MS
