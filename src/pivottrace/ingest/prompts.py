"""How a question's messages are put to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ROLES = ("system", "developer", "user", "assistant", "tool")
# gpt-oss calls the author's instructions "developer"; a prompt that has them has its own.
INSTRUCTION_ROLES = ("system", "developer")


def format_prompt(
    messages: Sequence[Mapping[str, str]], system_prompt: str | None, prompt_suffix: str
) -> list[dict[str, str]]:
    r"""Add the system prompt and the suffix to a question's chat messages, in a copy.

    The system prompt is put first only where no message has the role `system` or `developer`:
    what a question brings along wins. The suffix goes to the end of the *last* user message, on a
    line of its own unless it begins with whitespace (" Answer:" and "\n\nAnswer:" are joined as
    they are). Each does nothing when None or empty.

    Args:
        messages: Chat messages, each with `role` and `content`.
        system_prompt: Text of a system message.
        prompt_suffix: Text for the end of the last user message.

    Returns:
        New messages, each with `role` and `content` only.
    """
    formatted = [{"role": m["role"], "content": m["content"]} for m in messages]
    users = [i for i, message in enumerate(formatted) if message["role"] == "user"]
    if prompt_suffix and users:
        separator = "" if prompt_suffix[0].isspace() else "\n"
        formatted[users[-1]]["content"] += separator + prompt_suffix
    if system_prompt and not any(m["role"] in INSTRUCTION_ROLES for m in formatted):
        formatted.insert(0, {"role": "system", "content": system_prompt})
    return formatted


def last_user_message(messages: Sequence[Mapping[str, str]]) -> str:
    """Text of the last user message, which is the question itself; empty where there is none."""
    return next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
