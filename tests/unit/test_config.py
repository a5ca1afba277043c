import re
from pathlib import Path

import pytest

from pivottrace.config import PRESETS, Config, dump_config, load_config, parse_config
from pivottrace.config.as_flags import as_flags
from pivottrace.config.template import template
from pivottrace.errors import ConfigError
from pivottrace.run.bindings import changed_settings, settings_of


def test_unknown_key_names_the_nearest_valid_one(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("[rollouts]\ntemprature = 0.5\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "rollouts.temprature is not a setting" in str(caught.value)
    assert "nearest one is rollouts.temperature" in str(caught.value)
    assert str(path) in str(caught.value)


def test_wrong_value_names_the_key():
    with pytest.raises(ConfigError, match=r"labels\.budget = -3.*greater than or equal to 0"):
        parse_config({"labels": {"budget": -3}}, "my.toml")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": -1}, "seed = -1: Input should be greater"),
        ({"seed": 2**32}, f"seed = {2**32}: a whole number here is at most {2**32 - 1}"),
        ({"pool": {"limit": 10**20}}, f"pool.limit = {10**20}: a whole number here is at most"),
    ],
)
def test_a_number_that_no_library_takes_is_refused(values, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse_config(values, where="x")
    assert parse_config({"seed": 2**32 - 1}, where="x").seed == 2**32 - 1


def test_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="pivottrace init"):
        load_config(tmp_path / "none.toml")


def test_broken_toml_names_the_line(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("[pool\n")
    with pytest.raises(ConfigError, match=r"not valid TOML.*line 1"):
        load_config(path)


def test_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="'papre' is not one of default, paper"):
        parse_config({"preset": "papre"}, "x")


def test_file_overrides_preset():
    assert parse_config({"preset": "paper"}, "x").pivots.percentile == 95
    overridden = parse_config({"preset": "paper", "pivots": {"percentile": 85}}, "x")
    assert overridden.pivots.percentile == 85
    assert overridden.pivots.window == 10


def test_preset_of_the_command_line_overrides_the_file_and_flags_override_it(tmp_path):
    from pivottrace.commands.flags import load

    path = tmp_path / "my.toml"
    path.write_text("[pivots]\npercentile = 80\nwindow = 4\nreference_size = 9\n")
    config = load([str(path), "--preset", "paper", "--pivots.window", "7"])
    assert config.preset == "paper"
    assert (config.pivots.percentile, config.pivots.window) == (95, 7)
    assert config.pivots.reference_size == 9
    with pytest.raises(ConfigError, match="command line: preset = 'papre' is not one of default"):
        load([str(path), "--preset=papre"])


def test_presets_set_the_same_keys():
    keys = {name: {s: set(v) for s, v in preset.items()} for name, preset in PRESETS.items()}
    assert keys["default"] == keys["paper"]


def test_a_section_that_is_no_table_is_named():
    with pytest.raises(ConfigError, match="pivots = 3"):
        parse_config({"pivots": 3}, "x")


def test_dumped_configuration_reads_back_the_same(tmp_path):
    config = parse_config({"pool": {"map": {"prompt": "q"}}, "labels": {"budget": 7}}, "x")
    path = tmp_path / "c.toml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_template_is_valid_and_equal_to_the_defaults(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(template(Config(), path))
    assert load_config(path) == Config()


@pytest.mark.parametrize("flag", ["--map", "--questions", "--pool.prompt-suffix"])
def test_a_value_that_lacks_its_quotes_is_refused(flag):
    from pivottrace.commands.flags import load

    with pytest.raises(ConfigError, match="needs quotes") as caught:
        load(["--output", "runs/x", flag, "prompt=Convert", "this"])
    assert f"{flag} 'prompt=Convert this'" in str(caught.value)


def test_changed_settings_can_be_given_as_flags():
    from pivottrace.commands.flags import parse

    sections = {
        "pool": {"map": {"prompt": "a question"}, "unused": ["Body", "a b"], "limit": 5},
        "rollouts": {"stop": ["\n", "'"]},
        "labels": {"budget": 30, "partial": True},
        "calibrate": {"num_probes": None},
        "train": {"learning_rate": 1e-6, "enabled": False},
        "preset": "paper",
    }
    was, now = Config(pool={"system_prompt": "Think.", "limit": 4}), parse_config(sections, "test")
    assert as_flags(was, was) == as_flags(was, was.model_copy(update={"output": Path("b")})) == []
    for before, after in ((was, now), (now, was)):
        assert parse(as_flags(before, after), before) == after
    words = as_flags(was, Config(pool=was.pool, labels={"budget": 30}, train={"steps": 9}))
    assert words == ["--labels.budget", "30", "--train.steps", "9"]


def test_a_preset_may_be_named_in_a_template(tmp_path):
    path = tmp_path / "c.toml"
    own = parse_config({"pivots": {"percentile": 90.0}}, "test")
    for text in (template(Config(), path), template(own, path)):
        path.write_text(text.replace('preset = "default"', 'preset = "paper"'))
        found = load_config(path)
        assert (found.pivots.reading, found.trace.heads) == ("onset", "all")
    assert found.pivots.percentile == 90.0, "what is not the preset's stays"


def test_no_sampling_is_bound_to_the_ranking():
    def read(**sections):
        return settings_of("sample", parse_config(sections, "test"))

    for how in ({}, {"sampling": "fixed"}):
        plain = read(rollouts=how)
        assert not {"score.estimator", "pivots.reading", "pivots.statistic"} & plain.keys()
        changes = {"score": {"estimator": "length"}, "pivots": {"reading": "onset"}}
        assert read(rollouts=how, **changes) == plain
    used = {"sample": read(rollouts={"sampling": "fixed"})}
    (line,) = changed_settings(used, parse_config({}, "test"))
    assert str(line) == "rollouts.sampling: was 'fixed', now 'stepwise' (used by sample)"
