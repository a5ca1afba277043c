"""Training with made-up completions that are the same however many processes there are.

    torchrun --standalone --nproc-per-node 2 two_processes.py FOLDER ORDER

Each process writes FOLDER/rule-RANK.json, the state that its rules came to.
"""

import json
import os
import sys
from pathlib import Path

import torch
from training_run import GROUP, WORDS, build_model, build_tokenizer, config, train, training_rows
from watched_training import Fading, Teacher, watched

from pivottrace.training.learnable_order import make_order
from pivottrace.training.trl_trainer import WeightedGRPOTrainer

CONFIG = config(questions_per_step=4, micro_batch_size=4, save_steps=1, evaluate_steps=1)


def made_up(self, prompt_ids, *args, **kwargs):
    """Completions that depend on the step, the prompt and the place in the group only."""
    completions = []
    for i, ids in enumerate(prompt_ids):
        seed = self.state.global_step * 10_007 + sum(ids) * 101 + i % GROUP
        generator = torch.Generator().manual_seed(seed)
        length = int(torch.randint(1, 5, (1,), generator=generator))
        words = torch.randint(3, len(WORDS), (length,), generator=generator)
        completions.append([*words.tolist(), 1])
    return completions, None


def run(folder, start, tokenizer, order):
    folder.mkdir(parents=True, exist_ok=True)
    teacher = Teacher()
    rule = Fading(teacher)
    cfg = CONFIG.model_copy(update={"order": order})
    chooser = make_order(training_rows(), cfg, 3)
    rules = [each for each in (rule, chooser) if each is not None]
    own = WeightedGRPOTrainer._generate_single_turn
    WeightedGRPOTrainer._generate_single_turn = made_up
    try:
        weights = train(
            start,
            tokenizer,
            folder,
            training_rows(),
            watched(*rules),
            cfg,
            rule=rule,
            order=chooser,
            stateful=[teacher],
            evaluate=lambda model: {"accuracy": 0.5},
        )
    finally:
        WeightedGRPOTrainer._generate_single_turn = own
    state = json.dumps([*(each.state_dict() for each in rules), teacher.mean])
    (folder / f"rule-{os.environ.get('RANK', '0')}.json").write_text(state)
    return weights


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), build_model(), build_tokenizer(), sys.argv[2])
