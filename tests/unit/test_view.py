"""The viewer: what its pages show at every stage, their links, and hostile texts."""

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from html import unescape

import pyarrow as pa
import pytest
import report_run
from html_pages import HOSTILE, parsed
from report_run import HIDDEN_QUESTION, HIDDEN_TRUTH, STAGES, decode, make_run, stages_of

from pivottrace.cli import main
from pivottrace.commands import view as command
from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.labels.intake import open_store
from pivottrace.labels.store import Given
from pivottrace.pipeline import build_pages
from pivottrace.report.annotators import annotators
from pivottrace.report.telling import Why, telling
from pivottrace.report.view_places import question_page, slug
from pivottrace.routing.routes import ROUTES
from pivottrace.run.directory import RunDir
from pivottrace.schemas import TRIAGE
from pivottrace.verifier import Verifier
from pivottrace.viewer import question_view
from pivottrace.viewer.answer_groups import samples_of
from pivottrace.viewer.pages import write_question, write_route, write_telling
from pivottrace.viewer.ranked_pool import RankedPool
from pivottrace.viewer.trace_view import CHUNK_TOKENS, LEVELS, SIGNALS, trace_view

FAILED, TRUNCATED = "q-0011", "q-0012"


@pytest.fixture(autouse=True)
def tokens_of_the_fabricated_run(monkeypatch):
    monkeypatch.setattr(question_view, "tokenizer_decode", lambda run: decode)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("view") / "demo")


def view_of(run, question_id):
    found = question_view.question_views(run, RankedPool(run), {question_id: None}, is_short=False)
    return found[0]


def words(page):
    """The text of a page, without tags, styles and scripts."""
    page = re.sub(r"<(style|script).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


# One question ---------------------------------------------------------------------------------


def test_the_tokens_are_the_response_and_pivots_are_where_scoring_found_them(run):
    scores = {r["question_id"]: r for r in run.read_table("scores", "score").to_pylist()}
    greedy = {r["question_id"]: r for r in run.read_parts("rollouts_greedy", "greedy").to_pylist()}
    signals = {r["question_id"]: r for r in run.read_parts("signals", "trace").to_pylist()}
    ids = [question_id for question_id, row in scores.items() if row["peaks"]][:6]
    for question_id in ids:
        trace = view_of(run, question_id).trace
        spans = [span for chunk in trace.chunks for span in chunk]
        assert "".join(span.text for span in spans) == greedy[question_id]["text"]
        assert trace.num_tokens == len(spans) == len(greedy[question_id]["tokens"])
        peaks = scores[question_id]["peaks"]
        assert [p.position for p in trace.pivots] == peaks
        assert [s.first for s in spans if s.pivots] == peaks
        for shade in trace.shades:
            stored = signals[question_id][shade.signal.column]
            assert shade.values == [round(v, shade.signal.digits) for v in stored]
            darkest = max(range(len(stored)), key=lambda i: shade.levels[i])
            assert shade.levels[darkest] == LEVELS - 1 and min(shade.levels) == 0


def test_levels_follow_the_numbers_of_the_legend():
    values = [0.0, 0.1, 0.25, 0.5, 1.0]
    row = {"tokens": [0, 1, 2, 3, 4], "text": "abcde", "answer": None, "finish": "stop"}
    signals = dict.fromkeys((s.column for s in SIGNALS), values) | {"failure": None}
    trace = trace_view(
        row | {"failure": None}, signals, [2], None, lambda t: "".join("abcde"[i] for i in t)
    )
    by_name = {shade.signal.column: shade for shade in trace.shades}
    far, certain = by_name["far_mass"], by_name["self_certainty"]
    assert far.levels == [0, 1, 2, 5, 9]
    for value, level in zip(values, far.levels, strict=True):
        assert far.edges[level] <= value + 1e-9
        assert level == LEVELS - 1 or value < far.edges[level + 1]
    # A low self-certainty is the notable one, so it is dark.
    assert certain.levels[0] == LEVELS - 1 and certain.levels[-1] == 0
    assert certain.edges[0] > certain.edges[-1]
    assert trace.pivots[0].question_mass is None and trace.pivots[0].far_mass == 0.25


def test_tokens_that_share_a_character_share_a_span_with_the_darkest_value():
    text = "né🙂"
    tokens = list(text.encode())  # 1 + 2 + 4 bytes
    far = [0.1, 0.9, 0.2, 0.0, 0.0, 0.7, 0.0]
    row = {"tokens": tokens, "text": text, "answer": None, "finish": "stop", "failure": None}
    signals = {"far_mass": far, "entropy": None, "self_certainty": None, "failure": None}
    trace = trace_view(
        row, signals, [1, 4], 0.5, lambda t: bytes(t).decode("utf-8", errors="replace")
    )
    spans = [span for chunk in trace.chunks for span in chunk]
    assert [(s.text, s.first, s.last, s.pivots) for s in spans] == [
        ("n", 0, 0, ()),
        ("é", 1, 2, (1,)),
        ("🙂", 3, 6, (2,)),
    ]
    assert trace.shades[0].values == [0.1, 0.9, 0.7]
    assert "Not kept for this question: entropy, self-certainty." in trace.notes


def test_long_traces_come_in_chunks_that_end_with_a_line():
    pieces = ["word "] * 250 + ["end\n"] + ["more "] * 300
    row = {
        "tokens": list(range(len(pieces))),
        "text": "".join(pieces),
        "answer": None,
        "finish": "length",
        "failure": None,
    }
    trace = trace_view(row, None, None, None, lambda t: "".join(pieces[i] for i in t))
    assert [len(chunk) for chunk in trace.chunks] == [251, 300] and CHUNK_TOKENS < 251
    assert trace.pivots is None and trace.shades == []


def test_samples_are_grouped_as_they_voted_and_checked_against_the_label(run):
    votes = {r["question_id"]: r for r in run.read_table("votes", "sample").to_pylist()}
    evidence = {r["question_id"]: r for r in run.read_table("evidence", "calibrate").to_pylist()}
    assert len(evidence) == 40
    for question_id, row in list(evidence.items())[:12]:
        samples, vote = view_of(run, question_id).samples, votes[question_id]
        given = [group for group in samples.groups if group.answer is not None]
        assert [len(group.responses) for group in given] == vote["class_counts"]
        assert [g.answer for g in given if g.is_vote] == (
            [vote["vote_answer"]] if vote["vote_reason"] == "ok" else []
        )
        assert [i for i, group in enumerate(given) if group.right] == (
            [row["right_class"]] if row["right_class"] in range(len(given)) else []
        )
        assert [i for i, group in enumerate(given) if group.is_greedy] == (
            [vote["greedy_class"]] if vote["greedy_class"] in range(len(given)) else []
        )
        assert samples.greedy_right == row["greedy_right"]
        assert samples.notes == [] and samples.num_samples == 8


def sampled(*answers):
    return [
        {
            "sample": i,
            "text": f"so {answer}",
            "tokens": [0, 1],
            "answer": answer,
            "finish": "stop",
            "failure": None,
        }
        for i, answer in enumerate(answers)
    ]


def test_samples_without_an_answer_come_last_and_a_changed_vote_is_told():
    rows = sampled(None, None, None, "1/2", "0.5", "7")
    with Verifier("math") as verifier:
        found = samples_of(rows, {"class_counts": [1, 1, 1]}, "7", "1/2", verifier)
        early = samples_of(rows, None, None, None, verifier)
    assert [(g.answer, len(g.responses), g.right) for g in found.groups] == [
        ("1/2", 2, True),
        ("7", 1, False),
        (None, 3, None),
    ]
    assert found.groups[0].is_vote and found.groups[1].is_greedy and found.greedy_right is False
    assert "other groups now than when they voted" in found.notes[0]
    assert early.vote == "The samples have not voted yet." and not early.notes
    assert {group.right for group in early.groups} == {None}


def test_a_verifier_that_is_gone_leaves_the_texts_and_says_so():
    with Verifier("no_such_module:same") as verifier:
        found = samples_of(sampled("4", "4", "5"), {"class_counts": [3]}, "4", "4", verifier)
    assert [len(group.responses) for group in found.groups] == [2, 1]
    assert found.greedy_right is None
    assert "compared as text here" in found.notes[0] and "no_such_module" in found.notes[0]


def test_a_failed_question_and_a_cut_one_say_why(run):
    page = words(write_question(run, FAILED).read_text())
    assert "no usable trace: empty_response (the model ended at once)" in page
    assert "defer : the model ended at once" in page or "defer" in page
    page = words(write_question(run, TRUNCATED).read_text())
    assert "cut at the token limit" in page and "Answer: none" in page


def test_only_truths_that_were_paid_for_are_shown(tmp_path):
    run = make_run(tmp_path / "run", "triage", calibrate={"num_probes": 40, "draw": "systematic"})
    page = write_question(run, HIDDEN_QUESTION).read_text()
    assert "The question has no label." in page and HIDDEN_TRUTH not in page
    assert HIDDEN_TRUTH in run.read_table("pool", made_by="run")["answer"].to_pylist()


def test_a_tokenizer_that_is_gone_is_told_and_the_text_stays(run, monkeypatch):
    monkeypatch.setattr(question_view, "tokenizer_decode", lambda run: None)
    page = words(write_question(run, "q-0003").read_text())
    assert "The tokens could not be placed in this text" in page and "So the answer is" in page


def test_neighbours_are_next_in_the_ranking_and_every_link_leads_somewhere(run):
    triage = run.read_table("triage", made_by="triage").to_pylist()
    ranked = sorted((r for r in triage if r["rank"] is not None), key=lambda r: r["question_id"])
    order = [r["question_id"] for r in sorted(ranked, key=lambda r: r["rank"])]
    for place in (0, 1, 70, len(order) - 1):
        view = view_of(run, order[place])
        assert view.place == place + 1
        assert [n.question_id for n in view.before] == order[max(0, place - 2) : place]
        assert [n.question_id for n in view.after] == order[place + 1 : place + 3]
    assert view_of(run, FAILED).place is None and view_of(run, FAILED).before == []
    shutil.rmtree(run.path / "view", ignore_errors=True)
    build_pages(run)
    write_route(run, "weak")
    path = write_question(run, order[70])
    for page in run.path.glob("view/**/*.html"):
        tags = parsed(page.read_text())
        targets = [a["href"] for _, a in tags.seen if "href" in a]
        assert targets
        for target in targets:
            name, _, anchor = target.partition("#")
            there = (page.parent / name).resolve() if name else page
            assert there.is_file(), target
            assert not anchor or anchor in parsed(there.read_text()).ids, target
    assert f'data-before="{slug(order[69])}.html"' in path.read_text()


# The questions that are shown -----------------------------------------------------------------


def triage_row(question_id, route, reason, **numbers):
    return dict.fromkeys(TRIAGE.names) | {
        "question_id": question_id,
        "route": route,
        "reason": reason,
        **numbers,
    }


def test_a_route_shows_its_clearest_typical_and_closest_question_and_another_reason():
    rows = [
        triage_row(f"a{i}", "annotate", "annotate_gain", priority=i / 10, rank=0.5)
        for i in range(5)
    ]
    rows += [triage_row("h", "annotate", "annotate_hopeless", priority=0.05, rank=0.9)]
    rows += [triage_row("w", "weak", "weak_vote", vote_gain=0.1, rank=0.4)]
    rows += [triage_row("d1", "defer", "defer_budget", label_gain=0.2, rank=0.8)]
    rows += [triage_row(f"f{i}", "defer", "failed_no_answer") for i in range(3)]
    chosen = telling(pa.Table.from_pylist(rows, schema=TRIAGE))
    assert [(t.question_id, t.route, t.why) for t in chosen] == [
        ("w", "weak", Why.CLEAREST),
        ("a4", "annotate", Why.CLEAREST),
        ("a1", "annotate", Why.TYPICAL),
        ("h", "annotate", Why.OTHER),
        ("a0", "annotate", Why.CLOSEST),
        ("d1", "defer", Why.CLEAREST),
        ("f0", "defer", Why.OTHER),
    ]
    assert telling(TRIAGE.empty_table()) == []


def test_without_a_calibration_the_rank_decides():
    rows = [
        triage_row(f"q{i}", route, reason, rank=i / 10)
        for route, reason in (
            ("annotate", "annotate_fraction_highest"),
            ("discard", "fraction_lowest"),
        )
        for i in range(5)
    ]
    chosen = telling(pa.Table.from_pylist(rows, schema=TRIAGE))
    assert [t.question_id for t in chosen] == ["q0", "q2", "q4", "q4", "q2", "q0"]


def test_names_of_files_differ_where_ids_differ():
    ids = ["q-1", "Q-1", "q 1", "q/1", "q-1 ", "../q", ".q", "é", "漢", "x" * 200, "", "index", "-"]
    ids += [slug(question_id) for question_id in ids]
    names = {question_id: slug(question_id) for question_id in ids}
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert names["q-1"] == "q-1" and names["index"] == "index"
    for name in names.values():
        assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]{0,90}", name), name


# Pages ----------------------------------------------------------------------------------------


def test_every_stage_has_a_page_that_says_what_is_missing(tmp_path):
    made_by = {"greedy": "trace", "trace": "signals", "score": "pivots", "sample": "sampled"}
    for stage, run in stages_of(tmp_path / "demo"):
        for path in (write_telling(run), write_question(run, "q-0003")):
            page = path.read_text()
            parsed(page)
            for name in made_by:
                missing = f"pivottrace run {run.path} --until {name}" in page
                # Without a trace nothing is said of its signals.
                said = name in ("greedy", "sample") or STAGES.index(stage) >= 1
                late = STAGES.index(name) > STAGES.index(stage)
                assert missing == (late and said), (stage, name)
            assert ("--until triage</code>" in page) == (STAGES.index(stage) < 6)
        assert run.read_table("pool", "run").num_rows == 160


def test_a_run_without_questions_says_how_to_get_them(tmp_path):
    run = RunDir.create(parse_config({"output": str(tmp_path / "new")}, where="test"))
    with pytest.raises(RunDirError, match=r"no questions yet.*--until pool"):
        write_telling(run)
    build_pages(run)
    assert not (run.path / "view").exists()


def test_hostile_texts_are_shown_and_do_nothing(tmp_path):
    run = make_run(tmp_path / "<b>run", hostile=HOSTILE)
    build_pages(run)
    write_question(run, "q-0003")
    for path in run.path.glob("view/**/*.html"):
        page = path.read_text(encoding="utf-8")
        tags = parsed(page)
        assert not {tag for tag, _ in tags.seen} & {"img", "link", "iframe", "object", "form"}
        assert not [name for _, attributes in tags.seen for name in attributes if name[:2] == "on"]
        scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, flags=re.DOTALL)
        data = [body for attributes, body in scripts if "application/json" in attributes]
        (own,) = [body for attributes, body in scripts if not attributes]
        assert len(data) == page.count("<article") - page.count("no usable trace")
        for body in data:
            values = json.loads(body).values()
            assert all(isinstance(v, int | float) for each in values for v in each)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert (
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
        )
        assert "&lt;script&gt;alert(1)" in page and "{{ 7*7 }}" in page
        assert "⟨U+202E⟩" in page and "⟨U+001B⟩" in page and "⟨U+200B⟩" in page
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x08\x0b-\x1f\x7f]", page)
        assert "http://" not in page and "https://" not in page


def test_the_same_run_gives_the_same_pages(run):
    build_pages(run)
    first = {path: path.read_bytes() for path in run.path.glob("view/*.html")}
    build_pages(run)
    assert {path: path.read_bytes() for path in run.path.glob("view/*.html")} == first


def test_identifiers_are_unique_on_a_page_of_many_questions(run):
    tags = parsed(write_telling(run).read_text())
    assert len(tags.ids) == len(set(tags.ids)) > 20
    articles = [attributes for tag, attributes in tags.seen if tag == "article"]
    assert 10 <= len(articles) <= 16 and [a for a in articles if "hidden" not in a] == articles[:1]


def test_an_odd_id_has_a_page(tmp_path):
    class World(report_run.World):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.ids[3] = "a/b <i>C</i>\u202e"

    run = RunDir.create(parse_config({"output": str(tmp_path / "run")}, where="test"))
    World(12, None).pool(run)
    path = write_question(run, "a/b <i>C</i>\u202e")
    assert path.parent == run.path / "view" / "questions" and path.name.startswith("a-b-i-c-i-")
    assert "a/b &lt;i&gt;C&lt;/i&gt;⟨U+202E⟩" in path.read_text()


# The command ----------------------------------------------------------------------------------


def test_the_command_prints_the_page_and_opens_it(run, capsys, monkeypatch):
    path = question_page(run, "q-0003")
    assert main(["view", str(run.path), "q-0003"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"view: {path}", f"next: open {path}"]
    opened = []
    monkeypatch.setattr(command.webbrowser, "open", lambda url: opened.append(url) or True)
    assert main(["view", str(run.path), "--route", "annotate", "--open"]) == 0
    page = run.path / "view" / "annotate.html"
    assert capsys.readouterr().out.splitlines() == [f"view: {page}"]
    assert opened == [page.resolve().as_uri()]
    monkeypatch.setattr(command.webbrowser, "open", lambda url: False)
    assert main(["view", str(run.path), "--open"]) == 0
    assert "no browser could be opened here; next: open" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["q-003"], "no question has the id 'q-003'. Similar ids are: q-0030, q-0031, q-0032."),
        (["zzz"], "The first ids are: "),
        (["--route", "wek"], "--route wek: not one of discard, weak, annotate, defer"),
        (["q-0003", "--route", "weak"], "give either a question or --route"),
        (["q-0003", "--deep"], "view has no option --deep"),
    ],
)
def test_wrong_arguments_are_refused(run, arguments, message, capsys):
    assert main(["view", str(run.path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_route_that_nothing_takes_is_refused(tmp_path):
    run = make_run(tmp_path / "run", "sample")
    with pytest.raises(ConfigError, match="nothing is routed yet"):
        write_route(run, "weak")


# The report -----------------------------------------------------------------------------------


def test_the_report_links_to_the_telling_questions(run):
    page = build_pages(run).read_text()
    chosen = telling(run.read_table("triage", made_by="triage"))
    sizes = run.stage_facts("triage")["counts"]
    shown = Counter(each.route for each in chosen)
    assert shown.keys() == set(ROUTES)
    assert all(min(3, sizes[route]) <= number <= 4 for route, number in shown.items())
    ids = parsed((run.path / "view" / "index.html").read_text()).ids
    for each in chosen:
        anchor = f"question-{slug(each.question_id)}"
        assert f'href="view/index.html#{anchor}"' in page and anchor in ids
        assert str(each.why) in page


def test_the_report_says_who_labelled_how_much(tmp_path):
    run = make_run(tmp_path / "run", "pool", labels={"budget": 0.3, "source": "file"})
    store = open_store(run)
    for name, question_id, answer in [
        ("Ada", "q-0001", "1"),
        ("Ada", "q-0002", "2"),
        ("Ada", "q-0003", "3"),
        ("Bo", "q-0001", "1"),
        ("Bo", "q-0002", "9"),
        (None, "q-0004", "4"),
    ]:
        store.add_many([Given(question_id, answer, "file", "probe", name)])
    store.add_many([Given("q-0002", "9", "file", "probe", "Cy", settles=True)])
    rows = [
        (a.name, a.answers, a.agreeing, a.differing, a.settling, a.corrected)
        for a in annotators(run)
    ]
    assert rows == [
        ("Ada", 3, 0, 0, 0, 1),
        ("Bo", 2, 1, 1, 0, 0),
        ("Cy", 1, 0, 0, 1, 0),
        ("file", 1, 0, 0, 0, 0),
    ]
    page = words(build_pages(run).read_text())
    assert "Who labelled how much" in page and "without a name, from the source file" in page
