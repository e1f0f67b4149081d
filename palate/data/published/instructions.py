"""Verifiable instructions: whether a program finds that a text follows them, by the ids of IFEval (Zhou et al. 2023, arXiv:2311.07911).

Each check does what the published code does. Ids that need a package for sentences, words or languages have no check, and their
instructions are missing from all figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from palate.core import DataError

IDS, ARGUMENTS = "instruction_id_list", "kwargs"
"""The columns of a row with the ids of its instructions, and with the arguments of each."""

RELATIONS = ("less than", "at least")
_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}

Arguments = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Check:
    """How an instruction is checked.

    Attributes:
        follows: takes a text and the arguments by name, and returns whether the text follows the instruction.
        needs: the arguments and what each must be: `int`, `str`, `list` (of texts) or a tuple of the texts that are known.
    """

    follows: Callable[..., bool]
    needs: Mapping[str, type | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of a prompt: its id and its arguments."""

    id: str
    arguments: Arguments

    @property
    def has_check(self) -> bool:
        """Whether a program can tell if a text follows it."""
        return self.id in CHECKS

    def strict(self, text: str) -> bool | None:
        """Return whether the text follows the instruction, None without a check. An empty text follows none."""
        check = CHECKS.get(self.id)
        return None if check is None else bool(text.strip()) and check.follows(text, **self.arguments)

    def loose(self, text: str) -> bool | None:
        """Return whether the text follows it, or does so without its first line, its last line, both, or without asterisks."""
        return None if not self.has_check else any(self.strict(one) for one in _variants(text))


def _variants(text: str) -> list[str]:
    lines = text.split("\n")
    shorter = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    return [form for one in (text, *shorter) for form in (one, one.replace("*", ""))]


def instructions_in(row: Mapping[str, object], source: str) -> tuple[Instruction, ...]:
    """Return the instructions of a row. Arguments that are null are left out, as some copies of IFEval name all of them in each row.

    Raises:
        DataError: the columns do not hold ids and as many arguments, or an argument that a check needs is missing or is wrong.
    """
    ids, arguments = row.get(IDS), row.get(ARGUMENTS)
    if not isinstance(ids, list | tuple) or not ids or not all(isinstance(one, str) and one for one in ids):
        raise DataError(f"{source}: `{IDS}` needs a list of ids of instructions, got {str(ids)[:80]!r}")
    if not isinstance(arguments, list | tuple) or len(arguments) != len(ids) or not all(isinstance(one, Mapping) for one in arguments):
        raise DataError(f"{source}: `{ARGUMENTS}` needs an object of arguments for each of the {len(ids)} ids, got {str(arguments)[:80]!r}")
    return tuple(_instruction(name, given, source) for name, given in zip(ids, arguments, strict=True))


def _instruction(name: str, given: Arguments, source: str) -> Instruction:
    check = CHECKS.get(name)
    if check is None:
        return Instruction(name, {})
    for argument, wanted in check.needs.items():
        value = given.get(argument)
        is_right = value in wanted if isinstance(wanted, tuple) else isinstance(value, wanted) and not isinstance(value, bool)
        if wanted is list:
            is_right = isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)
        if not is_right:
            known = f"known are {', '.join(wanted)}" if isinstance(wanted, tuple) else f"it needs {_WORDS[wanted]}"
            raise DataError(f"{source}: the argument `{argument}` of {name} is {value!r}; {known}")
    return Instruction(name, {argument: given[argument] for argument in check.needs})


_WORDS: Mapping[type, str] = {int: "a whole number", str: "a text", list: "a list of texts"}


def _is_related(count: int, relation: str, threshold: int) -> bool:
    return count < threshold if relation == RELATIONS[0] else count >= threshold


def _count(pattern: str, text: str, flags: int = 0) -> int:
    """Return how often a pattern is found. The published code takes keywords as patterns; what is not a pattern is taken as it stands."""
    try:
        return len(re.findall(pattern, text, flags))
    except re.error:
        return len(re.findall(re.escape(pattern), text, flags))


def _keywords(text: str, keywords: list[str]) -> bool:
    return all(_count(word, text, re.IGNORECASE) for word in keywords)


def _frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _is_related(_count(keyword.strip(), text, re.IGNORECASE), relation, frequency)


def _forbidden(text: str, forbidden_words: list[str]) -> bool:
    return not any(_count(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def _letters(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _is_related(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


def _words(text: str, num_words: int, relation: str) -> bool:
    return _is_related(len(re.findall(r"\w+", text)), relation, num_words)


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    """Paragraphs are divided by `***`. Only the first and the last part may be empty."""
    parts = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(parts[1:-1]) and sum(parts) == num_paragraphs


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are divided by an empty line. The place counts empty paragraphs too, as in the published code."""
    parts = text.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if not 1 <= nth_paragraph <= count or not (paragraph := parts[nth_paragraph - 1].strip()):
        return False
    word = re.split(r"""[.,?!'"]""", paragraph.split()[0].lstrip("'").lstrip('"'))[0]
    return count == num_paragraphs and word.lower() == first_word.lower()


def _postscript(text: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    return bool(_count(_POSTSCRIPTS.get(marker, rf"\s*{marker.lower()}.*$"), text.lower(), re.MULTILINE))


def _bullets(text: str, num_bullets: int) -> bool:
    return sum(_count(pattern, text, re.MULTILINE) for pattern in (r"^\s*\*[^\*].*$", r"^\s*-.*$")) == num_bullets


def _highlights(text: str, num_highlights: int) -> bool:
    single, double = re.findall(r"\*[^\n\*]*\*", text), re.findall(r"\*\*[^\n\*]*\*\*", text)
    bare = [one.strip("*") for one in single] + [one.removeprefix("**").removesuffix("**") for one in double]
    return sum(bool(one.strip()) for one in bare) >= num_highlights


def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return _count(rf"\s?{section_spliter.strip()}\s?\d+\s?", text) >= num_sections


def _json(text: str) -> bool:
    inside = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        inside = inside.removeprefix(fence)
    try:
        json.loads(inside.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    responses = [part for part in parts if part]
    return all(parts[1:-1]) and len(responses) == 2 and responses[0] != responses[1]


def _ends(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quoted(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _repeats(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


CHECKS: Mapping[str, Check] = {
    "keywords:existence": Check(_keywords, {"keywords": list}),
    "keywords:frequency": Check(_frequency, {"keyword": str, "frequency": int, "relation": RELATIONS}),
    "keywords:forbidden_words": Check(_forbidden, {"forbidden_words": list}),
    "keywords:letter_frequency": Check(_letters, {"letter": str, "let_frequency": int, "let_relation": RELATIONS}),
    "length_constraints:number_words": Check(_words, {"num_words": int, "relation": RELATIONS}),
    "length_constraints:number_paragraphs": Check(_paragraphs, {"num_paragraphs": int}),
    "length_constraints:nth_paragraph_first_word": Check(_first_word, {"num_paragraphs": int, "nth_paragraph": int, "first_word": str}),
    "detectable_content:number_placeholders": Check(
        lambda text, num_placeholders: _count(r"\[.*?\]", text) >= num_placeholders, {"num_placeholders": int}
    ),
    "detectable_content:postscript": Check(_postscript, {"postscript_marker": str}),
    "detectable_format:number_bullet_lists": Check(_bullets, {"num_bullets": int}),
    "detectable_format:constrained_response": Check(lambda text: any(choice in text for choice in _CHOICES), {}),
    "detectable_format:number_highlighted_sections": Check(_highlights, {"num_highlights": int}),
    "detectable_format:multiple_sections": Check(_sections, {"section_spliter": str, "num_sections": int}),
    "detectable_format:json_format": Check(_json, {}),
    "detectable_format:title": Check(_title, {}),
    "combination:two_responses": Check(_two_responses, {}),
    "combination:repeat_prompt": Check(_repeats, {"prompt_to_repeat": str}),
    "startend:end_checker": Check(_ends, {"end_phrase": str}),
    "startend:quotation": Check(_quoted, {}),
    "change_case:english_capital": Check(str.isupper, {}),
    "change_case:english_lowercase": Check(str.islower, {}),
    "punctuation:no_comma": Check(lambda text: "," not in text, {}),
}
"""The check of each id. Those of upper and lower case do not look at the language, which the published code does with langdetect."""
