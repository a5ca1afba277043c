"""Ingest: questions from files, `datasets` folders, the Hub or the embedded world."""

from pivottrace.ingest.overlap import find_overlap
from pivottrace.ingest.prompts import format_prompt
from pivottrace.ingest.questions import read_questions
from pivottrace.ingest.sources import source_digest

__all__ = ["find_overlap", "format_prompt", "read_questions", "source_digest"]
