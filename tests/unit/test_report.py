"""The report: safe with hostile text, whole at every stage, the same bytes twice."""

import re

import numpy as np
import pyarrow.compute as pc
import pytest
from html_pages import HOSTILE, parsed
from report_run import HIDDEN_QUESTION, HIDDEN_TRUTH, STAGES, decode, make_run, stages_of
from scipy.stats import spearmanr

from pivottrace.config import parse_config
from pivottrace.errors import LabelsNeeded, RunDirError
from pivottrace.estimators import ESTIMATORS
from pivottrace.labels import budget
from pivottrace.pipeline import unfinished
from pivottrace.report import build_report
from pivottrace.report.collect import headline
from pivottrace.report.correlations import RankCorrelation, rank_correlations, route_mix
from pivottrace.report.examples import examples
from pivottrace.report.figures import smoothed
from pivottrace.report.render import ranking_verdict
from pivottrace.report.sparkline import sparkline
from pivottrace.report.telling import Telling, Why
from pivottrace.report.texts import MAX_RESPONSE_CHARS, clean, cut, mark_pivots, token_texts
from pivottrace.report.wording import marked_titles
from pivottrace.run.directory import RunDir


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """(run, page after each stage): one run that grows."""
    path, pages = tmp_path_factory.mktemp("report") / "demo", {}
    for stage, run in stages_of(path):
        pages[stage] = build_report(run, unfinished(run), decode).read_text(encoding="utf-8")
    return run, pages


@pytest.fixture(scope="module")
def run(history):
    return history[0]


@pytest.fixture(scope="module")
def page(history):
    return history[1]["evaluate_after"]


TITLES = marked_titles(ESTIMATORS)


def sections(page):
    """Text of each section by id, tags and runs of space removed."""
    found = re.findall(r'<section id="(\w+)">(.*?)</section>', page, flags=re.DOTALL)
    return {name: " ".join(re.sub(r"<[^>]+>", " ", body).split()) for name, body in found}


def test_the_same_run_gives_the_same_bytes(run, page):
    with run.timed("report"):
        again = build_report(run, unfinished(run), decode).read_bytes()
    # The report's own seconds are in timings.jsonl now; they must not show.
    assert build_report(run, unfinished(run), decode).read_bytes() == again == page.encode()


def test_nothing_is_fetched_and_nothing_runs(page):
    tags = parsed(page)
    assert "http://" not in page and "https://" not in page
    assert not {tag for tag, _ in tags.seen} & {"script", "link", "iframe", "object", "img", "form"}
    for tag, attributes in tags.seen:
        assert not [name for name in attributes if name.startswith("on")], tag
        target = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert target.startswith("#") and (target == "#" or target[1:] in tags.ids), target
    assert not re.findall(r"url\((?!#)", page)
    assert "@import" not in page and "default-src 'none'" in page


def test_identifiers_are_unique_though_five_figures_in_two_widths_share_the_page(page):
    ids = parsed(page).ids
    assert len(ids) > 100 and len(ids) == len(set(ids))
    assert page.count('<svg class="figure"') == 10
    assert "#c8500a" not in page.split("</style>")[1], "figures must follow the page's colours"


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    run = make_run(tmp_path / "<b>run", hostile=HOSTILE)
    page = build_report(run, unfinished(run), decode).read_text(encoding="utf-8")
    tags = parsed(page)
    assert not {tag for tag, _ in tags.seen} & {"script", "img"}
    assert "&lt;script&gt;alert(1)" in page and "{{ 7*7 }}" in page
    assert "⟨U+202E⟩" in page and "⟨U+001B⟩" in page and "⟨U+200B⟩" in page
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x08\x0b-\x1f\x7f]", page)


def test_only_truths_that_were_paid_for_are_shown(tmp_path, monkeypatch):
    # Drawn along the ranking, the probes leave this question out.
    run = make_run(tmp_path / "run", "triage", calibrate={"num_probes": 40, "draw": "systematic"})
    paid = {i: label.answer for i, label in budget.bought(run).items()}
    assert HIDDEN_QUESTION not in paid
    shown = [HIDDEN_QUESTION, min(paid)]
    rows = run.read_table("triage", made_by="triage").filter(pc.field("question_id").isin(shown))
    chosen = [Telling(row["question_id"], row["route"], Why.TYPICAL) for row in rows.to_pylist()]
    monkeypatch.setattr("pivottrace.report.examples.telling", lambda triage: chosen)
    found = {e.question_id: e for route in examples(run, decode).values() for e in route}
    assert {i: e.truth for i, e in found.items()} == {
        HIDDEN_QUESTION: None,
        min(paid): paid[min(paid)],
    }
    assert HIDDEN_TRUTH in run.read_table("pool", made_by="run")["answer"].to_pylist()
    page = build_report(run, unfinished(run), decode).read_text()
    assert HIDDEN_QUESTION in page and HIDDEN_TRUTH not in page


@pytest.mark.parametrize("until", STAGES[:-1])
def test_it_is_whole_at_every_stage_and_says_what_is_missing(history, until):
    run, pages = history
    page = pages[until]
    parsed(page)
    text = sections(page)
    done = STAGES.index(until)
    made_by = {
        "routes": "triage",
        "calibration": "calibrate",
        "ranking": "calibrate",
        "training": "train",
        "examples": "triage",
        "failures": "greedy",
    }
    for section, stage in made_by.items():
        missing = f"pivottrace run {run.path} --until {stage}" in text[section]
        assert missing == (STAGES.index(stage) > done), section
    assert "This run is not finished" in page


def test_a_new_run_has_a_report(tmp_path):
    run = RunDir.create(parse_config({"output": str(tmp_path / "new")}, where="test"))
    assert "Still to come: pool" in build_report(run, unfinished(run)).read_text()
    assert headline(run)["questions"] is None


def test_a_run_that_waits_for_people_says_how_to_go_on(tmp_path):
    with pytest.raises(LabelsNeeded):
        make_run(tmp_path / "run", labels={"budget": 0.3, "source": "file"})
    run = RunDir.open(tmp_path / "run")
    page = build_report(run, unfinished(run), decode).read_text()
    assert "Labels are needed" in page and "probes_to_label.csv" in page
    assert f"pivottrace label serve {run.path}" in page
    assert "Nobody has given an answer yet." in page
    assert "labels used of allowed" in page and headline(run)["labels_used"] == 0


def test_the_tiles_are_the_run_in_figures(run):
    figures = headline(run)
    routes = run.read_table("triage", made_by="triage")["route"].to_pylist()
    assert figures["routes"] == {route: routes.count(route) for route in figures["routes"]}
    assert figures["questions"] == len(routes) == 160
    assert figures["probes"] == 40
    assert figures["labels_allowed"] == 48 and 40 <= figures["labels_used"] <= 48
    assert figures["accuracy_after"]["accuracy"] == 0.7312
    assert figures["difference"]["mean"] == 0.1104
    assert "report" not in figures["seconds"]


def test_the_page_states_the_headline_and_the_failures(page):
    text = sections(page)
    assert "62.1 %" in page and "+11.0 points" in page
    assert "empty_response" in text["failures"] and text["failures"].count("q-0011") == 1
    assert "Re-checking was built into the world" in text["origin"]
    assert "calibrate.num_probes 40 –" in text["asked"]


def test_pivots_are_marked_on_the_token_and_on_the_curve(run):
    score_of = {r["question_id"]: r for r in run.read_table("scores", made_by="score").to_pylist()}
    greedy = run.read_parts("rollouts_greedy", "greedy").to_pylist()
    tokens = {row["question_id"]: row["tokens"] for row in greedy}
    shown = [e for found in examples(run, decode).values() for e in found if e.num_pivots]
    assert len(shown) > 5
    for e in shown:
        peaks = score_of[e.question_id]["peaks"]  # the run's reading
        marked = [p.text for p in e.response if p.pivots]
        assert marked == [decode([tokens[e.question_id][t]]).lstrip() for t in peaks]
        assert "".join(p.text for p in e.response) == decode(tokens[e.question_id])
        for number, t in enumerate(peaks, start=1):
            assert f"pivot {number}: token {t}," in e.signal


def test_without_a_tokenizer_the_text_is_there_and_marks_are_said_to_be_missing(run, monkeypatch):
    monkeypatch.setattr("pivottrace.report.examples.tokenizer_decode", lambda run: None)
    page = build_report(run, unfinished(run)).read_text()
    assert "So the answer is" in page and "could not be placed" in page
    build_report(run, unfinished(run), decode)


def test_a_torn_table_is_named(tmp_path):
    run = make_run(tmp_path / "run", until="greedy")
    run.part_path("rollouts_greedy", 1).write_bytes(b"PAR1 torn")
    with pytest.raises(RunDirError, match=r"part-00001\.parquet is torn .* from a copy"):
        build_report(run, unfinished(run), decode)


# Texts ----------------------------------------------------------------------------------------


def utf8_decode(tokens):
    return bytes(tokens).decode("utf-8", errors="replace")


def test_characters_of_several_tokens_belong_to_the_last_of_them():
    text = "né 🙂."
    pieces = token_texts(list(text.encode()), utf8_decode)
    assert "".join(pieces) == text
    assert pieces == ["n", "", "é", " ", "", "", "", "🙂", "."]


def test_a_trace_cut_inside_a_character_still_adds_up():
    pieces = token_texts(list("a🙂".encode()[:-1]), utf8_decode)
    assert "".join(pieces) == utf8_decode("a🙂".encode()[:-1])


def test_a_tokenizer_that_drops_leading_spaces_keeps_them_inside():
    words = ["▁So", "▁it", "▁is", "."]

    def metaspace(tokens):
        return "".join(words[t] for t in tokens).replace("▁", " ").removeprefix(" ")

    assert token_texts([0, 1, 2, 3], metaspace) == ["So", " it", " is", "."]


def test_a_tokenizer_whose_text_depends_on_more_is_refused():
    assert token_texts([1, 2, 3], lambda tokens: "ab" if len(tokens) == 3 else "x") is None


def test_marks_number_pivots_in_order_and_skip_empty_pieces():
    pieces, left_out = mark_pivots(["a", "", " b", "c", " d"], [1, 4])
    assert [(p.text, p.pivots) for p in pieces] == [
        ("a ", ()),
        ("b", (1,)),
        ("c ", ()),
        ("d", (2,)),
    ]
    assert left_out == 0


def test_long_texts_are_cut_and_counted():
    assert cut("x" * 12, 10) == type(cut("", 1))("x" * 10, 2)
    pieces, left_out = mark_pivots(["ab"] * 4000, [10, 3900])
    assert sum(len(p.text) for p in pieces) == MAX_RESPONSE_CHARS
    assert left_out == 8000 - MAX_RESPONSE_CHARS
    assert [p.pivots for p in pieces if p.pivots] == [(1,)]


def test_ordinary_writing_is_left_alone():
    text = "x² − 1\n\tनमस्ते می‌خواهم 👩‍🔬 e\u0301"
    assert clean(text) == text
    assert clean("a\r\nb\rc\U000e0041") == "a\nb⟨U+000D⟩c⟨U+E0041⟩"


# Numbers --------------------------------------------------------------------------------------


def test_route_mix_is_the_share_in_each_stretch_and_spreads_ties():
    mix = route_mix([0.1, 0.3, 0.5, 0.7, np.nan], ["a", "b", "b", "a", "b"], ("a", "b"), 4)
    np.testing.assert_allclose(mix, [[1, 0], [0, 1], [0, 1], [1, 0]])
    tied = route_mix([0.25, 0.25, 0.75, 0.75], ["b", "a", "b", "b"], ("a", "b"), 4)
    np.testing.assert_allclose(tied, [[0.5, 0.5], [0.5, 0.5], [0, 1], [0, 1]])
    # Input order cannot matter.
    np.testing.assert_allclose(
        tied, route_mix([0.75, 0.25, 0.75, 0.25], ["b", "a", "b", "b"], ("a", "b"), 4)
    )


def test_rank_correlations_agree_with_scipy_and_a_plain_bootstrap():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 9, 48) / 8
    scores = {"good": -truth + rng.normal(0, 0.2, 48), "noise": rng.normal(size=48)}
    scores["holes"] = np.where(np.arange(48) % 7 == 0, np.nan, -truth + rng.normal(0, 0.6, 48))
    found = {c.name: c for c in rank_correlations(scores, truth, ["good", "noise", "holes"])}
    known = ~np.isnan(scores["holes"])
    assert found["good"].rho == pytest.approx(spearmanr(scores["good"], truth).statistic)
    expected = spearmanr(scores["holes"][known], truth[known]).statistic
    assert found["holes"].rho == pytest.approx(expected)
    assert found["holes"].num_probes == known.sum()
    draws = np.random.default_rng(0).integers(0, 48, (1000, 48))
    plain = [spearmanr(scores["good"][d], truth[d]).statistic for d in draws]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert (found["good"].low, found["good"].high) == pytest.approx((low, high))
    assert found["good"].best_share > 0.9 > found["holes"].best_share
    assert sum(c.best_share for c in found.values()) == pytest.approx(1.0)


def test_a_constant_estimator_has_no_correlation_and_few_probes_have_none():
    truth = np.linspace(0, 1, 12)
    assert [c.name for c in rank_correlations({"flat": np.ones(12), "up": truth}, truth, [])] == [
        "up"
    ]
    assert rank_correlations({"up": truth[:3]}, truth[:3], ["up"]) == []


def test_a_worse_rival_is_not_said_to_do_better():
    def found(name, rho, best_share):
        return RankCorrelation(name, rho, rho - 0.1, rho + 0.1, best_share, 48)

    rivals = [found("entropy_sum", -0.6, 0.9), found("length", -0.6, 0.1)]
    text = ranking_verdict(
        [found("consistency", -0.8, float("nan")), *rivals], "consistency", TITLES
    )
    assert "(ρ = −0.80); no other estimator does better" in text
    assert "no other estimator does better" in ranking_verdict(rivals, "length", TITLES), "a tie"
    text = ranking_verdict([*rivals, found("peak_count", -0.5, 0.0)], "peak_count", TITLES)
    assert "summed entropy does better, but not surely" in text
    text = ranking_verdict([*rivals, found("peak_count", 0.3, 0.0)], "peak_count", TITLES)
    assert text.startswith("Pivot count (peak) ranks the wrong way round (ρ = +0.30);")


def test_smoothing_is_a_centred_mean():
    np.testing.assert_allclose(smoothed([1, 2, 6, np.nan], 3), [1.5, 3, 4, 6])


def test_sparkline_keeps_the_highest_values_of_a_long_trace():
    signal = np.full(5000, 0.1)
    signal[3333] = 0.9
    drawn = sparkline(signal, 0.2, [3333])
    points = re.search(r'polyline class="line" points="([^"]*)"', drawn)[1].split()
    heights = [float(p.split(",")[1]) for p in points]
    assert len(points) <= 720
    circle = float(re.search(r'cy="([\d.]+)"', drawn)[1])
    assert min(heights) == circle
    assert sparkline(np.empty(0), None, []).endswith("</svg>")


def test_alarms_are_told(page):
    assert "step 40: share of right votes on labelled questions is 0.4, limit 0.6" in page
    assert "the weak route is paused" in page
