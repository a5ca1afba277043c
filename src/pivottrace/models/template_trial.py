"""A chat template is tried in a process of its own before it is used.

A template is a small program that comes with a model. Jinja's sandbox keeps it from files and from
the network, but not from running for hours or filling the memory. Here the kernel ends it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from pivottrace.errors import ModelError
from pivottrace.verifier.child import limit_memory

SECONDS = 10.0
"""Processor time for one prompt (ours). The templates of chat models take about a millisecond."""
MEMORY_BYTES = 1 << 30
"""Memory for one prompt, beyond that of the loaded libraries (ours)."""
OUT_OF_MEMORY = 3
"""Exit code of the process if the memory does not suffice."""

MESSAGES = [{"role": "user", "content": "What is 2 + 3?"}]
# With -P and the explicit path the child finds the same modules as the parent.
BOOT = (
    "import json, sys; request = json.load(sys.stdin); sys.path[:] = request['path']; "
    "from pivottrace.models.template_trial import render; render(request)"
)


def refuse_endless_template(tokenizer: Any, where: str) -> None:
    """Render one question by the tokenizer's chat template, and stop it at a limit.

    A template that refuses the question passes, because it may take others. It has its own message
    when the pool is rendered.

    Args:
        tokenizer: The tokenizer of the model. Without a chat template nothing is done.
        where: The model's path or id, for the message.

    Raises:
        ModelError: The template takes more than `SECONDS` or `MEMORY_BYTES`.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return
    tokens = json.dumps(tokenizer.special_tokens_map, default=str)
    excess = _excess(template, tokens, SECONDS, MEMORY_BYTES)
    if excess is not None:
        raise ModelError(
            f"{where}: the chat template takes more than {excess} for one question. Put the "
            f"model's own chat_template.jinja there (or chat_template in tokenizer_config.json)."
        )


@cache  # several stages of a run load one tokenizer
def _excess(template: str, tokens: str, seconds: float, memory_bytes: int) -> str | None:
    """The limit that a template goes beyond, in words; None if it keeps to both."""
    request = {
        "path": [entry for entry in sys.path if isinstance(entry, str)],
        "template": template,
        "tokens": json.loads(tokens),
        "seconds": seconds,
        "memory_bytes": memory_bytes,
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", BOOT],
        input=json.dumps(request).encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode == -signal.SIGPROF:
        return f"{seconds:g} s"
    return f"{memory_bytes / 1e9:.1f} GB" if done.returncode == OUT_OF_MEMORY else None


def render(request: Mapping[str, Any]) -> None:
    """Render a template under the limits. This is the child's part.

    Args:
        request: The request that `_excess` sends.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    limit_memory(request["memory_bytes"])
    # Processor time, so that a busy machine makes no difference. The signal ends the process.
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])
    try:
        render_jinja_template(
            conversations=[MESSAGES],
            chat_template=request["template"],
            add_generation_prompt=True,
            **request["tokens"],
        )
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
