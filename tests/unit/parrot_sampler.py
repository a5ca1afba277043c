"""A sampler without a model, for tests: it says the same words, then letters drawn by the seed."""

import random

from training_run import WORDS, build_tokenizer

LETTERS = [WORDS.index(letter) for letter in "abcdefghij"]


def drawn(seed, prompt, sample):
    """The letter, a token id, that `ParrotSampler` draws for one sample of a prompt."""
    return random.Random(f"{seed} {list(prompt)} {sample}").choice(LETTERS)


class ParrotSampler:
    """Responds with `words`; without any, with the prompt's last token where greedy, else `drawn`.

    Like any sampler it refuses nothing and checks nothing: what it is given must fit. `calls` has
    the prompts and settings of each call.
    """

    def __init__(self, tokenizer, words=None, max_positions=20, digest="parrot"):
        self.tokenizer, self.max_positions = tokenizer, max_positions
        self.calls = []
        self._words, self._digest = words, digest

    def facts(self):
        return {"model_digest": self._digest}

    def sample(self, prompts, settings):
        self.calls.append((prompts, settings))
        return [
            [self._respond(prompt, settings, sample) for sample in range(settings.num_samples)]
            for prompt in prompts
        ]

    def _respond(self, prompt, settings, sample):
        if self._words is not None:
            return self.tokenizer(self._words, add_special_tokens=False)["input_ids"]
        if settings.temperature is None:
            return [prompt[-1]]
        return [drawn(settings.seed, prompt, sample)]


def open_parrot(model, rollouts):
    """What `rollouts.backend = "parrot_sampler:open_parrot"` opens: `model.path` is its digest."""
    return ParrotSampler(build_tokenizer("{{ messages[0]['content'] }}"), digest=model.path)
