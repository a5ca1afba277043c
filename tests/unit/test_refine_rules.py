import pytest
from refine_groups import annotate, equal, graded, through_json, votes

from pivottrace.config import Config, RefineConfig, parse_config
from pivottrace.errors import ConfigError
from pivottrace.refine import make_rule, needs_hidden, refuse_idle_rule
from pivottrace.refine.combined import Combined
from pivottrace.refine.geomin import GeoMin
from pivottrace.refine.label_refinement import LabelRefinement
from pivottrace.refine.trapo import TraPO
from pivottrace.stage_settings import changed_settings, settings_of


class Alarm:
    """A rule that halves weak rows and spells labels in another way."""

    def __init__(self):
        self.seen = 0

    def observe(self, step, groups):
        self.seen += len(groups)

    def weight(self, question_id, route):
        return 0.5 if route == "weak" else 1.0

    def label(self, question_id, label):
        return f"{label}/1"

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def refine(**settings):
    return RefineConfig(**settings)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("none", type(None)), ("trapo", TraPO), ("geomin", GeoMin),
     ("label_refinement", LabelRefinement)],
)  # fmt: skip
def test_the_settings_make_the_rule(name, kind):
    settings = refine(rule=name)
    assert isinstance(make_rule(settings, equal), kind)
    assert needs_hidden(settings) == (name == "geomin")


def test_the_settings_reach_the_rules():
    trapo = make_rule(refine(rule="trapo", trapo_warm_up=2, trapo_similarity="cosine"), equal)
    assert (trapo.warm_up, trapo.threshold, trapo.top_share) == (2, 0.4, 0.1)
    assert (trapo.similarity, trapo.grow) == ("cosine", True)
    geomin = make_rule(refine(rule="geomin", geomin_decay=0.5), equal)
    assert (geomin.decay, geomin.warm_up, geomin.memory) == (0.5, 32, 512)
    labels = make_rule(refine(rule="label_refinement", label_slope=0.025), equal)
    assert (labels.warm_up, labels.slope) == (6, 0.025)


def test_a_changed_rule_is_a_change_of_the_train_stage():
    used = {"train": settings_of("train", Config())}
    now = parse_config({"refine": {"rule": "trapo"}}, where="run.toml")
    lines = changed_settings(used, now)
    assert lines == ["refine.rule: was 'none', now 'trapo' (used by train)"]


def test_combined_rules_observe_in_turn_and_multiply():
    trapo = TraPO(warm_up=2, threshold=0.4, top_share=0.0)
    both = Combined([trapo, Alarm()])
    for step, rate in enumerate((2, 4)):
        both.observe(step, [graded("l", rate), votes("w", rate), votes("x", 8 - rate)])
    assert both.weight("w", "weak") == 0.5
    assert both.weight("x", "weak") == 0.0
    assert both.weight("l", "annotate") == 1.0
    assert both.rules[1].seen == 6


def test_a_label_goes_through_each_rule_in_order():
    labels = LabelRefinement(warm_up=2, slope=0.05, equal=equal)
    both = Combined([labels, Alarm()])
    for step, count in enumerate((2, 3)):
        both.observe(step, [annotate("q", ["7"] * count + ["8"], label="3")])
    assert both.label("q", "3") == "7/1"
    assert Combined([Alarm(), labels]).label("q", "3") == "7"


def test_without_rules_nothing_changes():
    none = Combined([])
    none.observe(0, [votes("w", 4)])
    assert none.weight("w", "weak") == 1.0
    assert none.label("q", "3") == "3"
    assert through_json(none, Combined([])).state_dict() == {"rules": []}


def test_combined_states_are_a_list_and_must_fit():
    def fresh():
        return Combined([TraPO(warm_up=2, threshold=0.4, top_share=0.0), Alarm()])

    both = fresh()
    both.observe(0, [graded("l", 3), votes("w", 3)])
    resumed = through_json(both, fresh())
    assert resumed.state_dict() == both.state_dict()
    assert [state.get("rule") for state in both.state_dict()["rules"]] == ["trapo", None]
    with pytest.raises(ConfigError, match=r"state of 2 refinement rules and alarms.* has 1"):
        Combined([Alarm()]).load_state_dict(both.state_dict())


def test_a_rule_that_could_do_nothing_is_refused_before_training():
    refuse_idle_rule(refine(), {}, passes=0.1)
    refuse_idle_rule(refine(rule="trapo"), {"annotate": 1, "weak": 9}, passes=8.0)
    refuse_idle_rule(refine(rule="geomin"), {"annotate": 1, "weak": 9}, passes=0.5)
    for rule in ("trapo", "geomin", "label_refinement"):
        with pytest.raises(ConfigError, match=f"refine.rule = {rule} learns from annotate rows"):
            refuse_idle_rule(refine(rule=rule), {"annotate": 0, "weak": 9}, passes=20.0)
    with pytest.raises(ConfigError, match=r"trapo_warm_up = 8, .* only 7.5 times.* no weak row"):
        refuse_idle_rule(refine(rule="trapo"), {"annotate": 1}, passes=7.5)
    with pytest.raises(ConfigError, match=r"label_warm_up = 6, .* only 5.0 times.* do nothing\."):
        refuse_idle_rule(refine(rule="label_refinement"), {"annotate": 1}, passes=5.0)
