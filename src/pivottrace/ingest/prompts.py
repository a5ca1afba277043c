"""The messages of a question as they are given to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ROLES = ("system", "developer", "user", "assistant", "tool")
# gpt-oss calls the author's instructions "developer". A prompt with either role has instructions.
INSTRUCTION_ROLES = ("system", "developer")


def format_prompt(
    messages: Sequence[Mapping[str, str]], system_prompt: str | None, prompt_suffix: str
) -> list[dict[str, str]]:
    r"""Add the system prompt and the suffix to a question's chat messages, in a copy.

    The system prompt is put first, unless a message has the role `system` or `developer`:
    instructions in the question win. The suffix goes to the end of the *last* user message. It gets
    its own line unless it begins with whitespace (" Answer:" and "\n\nAnswer:" are joined as they
    are). Neither has an effect if it is None or empty.

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
    """Return the text of the last user message, the question itself; empty if it does not exist."""
    return next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
