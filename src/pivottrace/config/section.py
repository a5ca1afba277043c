"""A section of the configuration. The texts below its fields are the settings' help."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

LARGEST = 2**32 - 1
"""The largest seed that numpy takes, and more than any other whole number here can mean."""


class Section(BaseModel):
    """A part of the tree. It refuses unknown keys."""

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )

    @field_validator("*")
    @classmethod
    def _within_reach(cls, value: Any) -> Any:
        """Libraries fail on such a number late, each with words of its own."""
        if type(value) is int and value > LARGEST:
            raise PydanticCustomError("large", "a whole number here is at most {n}", {"n": LARGEST})
        return value
