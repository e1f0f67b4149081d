"""Patterns of usual attempts to talk a model out of its instructions. Each function says whether a text holds one. No torch."""

from __future__ import annotations

import re

_MODEL_WORDS = r"(?:instructions?|rules?|guidelines?|prompts?|directions?|policies|restrictions|programming|training)"
_OVERRIDES = re.compile(
    rf"\b(?:ignore|disregard|forget|override|bypass|skip|drop)\b[^.!?\n]{{0,40}}"
    rf"\b(?:all|any|every|previous|prior|above|earlier|your|the|these|those|system)\b[^.!?\n]{{0,30}}\b{_MODEL_WORDS}\b"
    r"|\bnew (?:system )?instructions? *:|<\|?(?:im_start|system)\|?>|\[/?(?:INST|SYSTEM)\]",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\b(?:repeat|print|show|reveal|output|tell me|give me|write down|what (?:is|are|was|were))\b[^.!?\n]{0,40}"
    r"\b(?:system prompt|(?:system|hidden|initial|original|secret) (?:instructions?|prompt|message)|your instructions"
    r"|(?:text|words|prompt) above)\b",
    re.IGNORECASE,
)
_PLAYS = re.compile(
    r"\bdo anything now\b|\b(?:you are|act as|pretend (?:to be|you are)|play|become|simulate)\b[^.!?\n]{0,60}"
    r"\b(?:no|without(?: any)?|free of|not bound by|ignores?(?: all)?)"
    r" (?:rules|restrictions|limits|limitations|filters?|guidelines|ethics|morals)\b"
    r"|\b(?:jailbreak|jailbroken|developer mode|god mode)\b",
    re.IGNORECASE,
)


def overrides_instructions(completion: str) -> bool:
    """Return whether the text tells the model to forget its instructions, or writes turns of its own."""
    return _OVERRIDES.search(completion) is not None


def asks_for_instructions(completion: str) -> bool:
    """Return whether the text asks for the model's hidden instructions."""
    return _ASKS.search(completion) is not None


def plays_without_rules(completion: str) -> bool:
    """Return whether the text asks the model to play somebody to whom no rules apply."""
    return _PLAYS.search(completion) is not None
