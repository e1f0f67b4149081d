"""A few preferences in words that the tests' tokenizer knows: prompt, chosen, rejected."""

PAIRS = [
    ("the cook has ", "rice and beans", "no salt"),
    ("so what can we make ", "for two guests today", "please"),
    ("the guests ", "make rice", "make beans today"),
    ("please ", "make salt for the cook", "what can we make today please"),
    ("today we ", "can", "has"),
    ("two guests make ", "the beans and rice", "salt and rice"),
]
