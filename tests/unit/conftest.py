"""Fixtures that several unit test files share; what is heavy is imported where it is used."""

import pytest

# The helpers' own asserts say as much as those in a test.
pytest.register_assert_rewrite("ingest_sources")


@pytest.fixture(scope="module")
def one_thread():
    """Matrices as small as the tests' run slower on several threads than on one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer():
    """The training tests' tokenizer, of a few words and letters."""
    from training_run import build_tokenizer

    return build_tokenizer()


@pytest.fixture(scope="module")
def start():
    """The tiny random Qwen3 that training starts from."""
    from training_run import build_model

    return build_model()
