import pytest
from refine_groups import equal

from pivottrace.config import Config, RefineConfig, parse_config
from pivottrace.errors import ConfigError
from pivottrace.refine import make_rule, needs_hidden, refuse_idle_rule
from pivottrace.refine.geomin import GeoMin
from pivottrace.refine.label_refinement import LabelRefinement
from pivottrace.refine.trapo import TraPO
from pivottrace.run.bindings import changed_settings, settings_of


def refine(**settings):
    return RefineConfig(**settings)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", type(None)),
        ("trapo", TraPO),
        ("geomin", GeoMin),
        ("label_refinement", LabelRefinement),
    ],
)
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
    assert [str(each) for each in changed_settings(used, now)] == [
        "refine.rule: was 'none', now 'trapo' (used by train)"
    ]


def test_a_rule_without_weak_rows_is_let_through_because_it_harms_nothing():
    refuse_idle_rule(refine(rule="trapo"), {"annotate": 1, "weak": 0}, passes=7.0)
    refuse_idle_rule(refine(rule="geomin"), {"annotate": 1, "weak": 0}, passes=7.0)


def test_a_rule_that_could_do_nothing_is_refused_before_training():
    refuse_idle_rule(refine(), {}, passes=0.1)
    refuse_idle_rule(refine(rule="trapo"), {"annotate": 1, "weak": 9}, passes=8.0)
    refuse_idle_rule(refine(rule="trapo"), {"annotate": 1, "weak": 9}, passes=7.5)
    refuse_idle_rule(refine(rule="label_refinement"), {"annotate": 1}, passes=6.5)
    refuse_idle_rule(refine(rule="geomin"), {"annotate": 1, "weak": 9}, passes=0.5)
    for rule in ("trapo", "geomin", "label_refinement"):
        with pytest.raises(ConfigError, match=f"refine.rule = {rule} learns from annotate rows"):
            refuse_idle_rule(refine(rule=rule), {"annotate": 0, "weak": 9}, passes=20.0)
    with pytest.raises(ConfigError, match=r"trapo_warm_up = 8, .* only 7.0 times.* no weak row"):
        refuse_idle_rule(refine(rule="trapo"), {"annotate": 1, "weak": 9}, passes=7.0)
    with pytest.raises(ConfigError, match=r"label_warm_up = 6, .* only 6.0 times.* do nothing\."):
        refuse_idle_rule(refine(rule="label_refinement"), {"annotate": 1}, passes=6.0)
