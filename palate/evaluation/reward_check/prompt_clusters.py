"""Groups of prompts that are alike: k-means on the words that tell prompts apart (tf-idf). The same prompts give the same groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORDS = re.compile(r"[^\W\d_]{3,}")
MOST_WORDS = 1000
"""Words that are counted, at most: the ones in most prompts."""
RARE = 0.01
"""A word in a smaller share of the prompts, or in fewer than three, names no kind of prompt."""
COMMON = 0.5
"""A word in a larger share of the prompts tells nothing apart."""
PER_CLUSTER = 30
"""Prompts for each cluster, at least, on average."""
MOST_CLUSTERS = 8
ROUNDS = 30
OTHER = "other prompts"
NAMING = 3
"""Words in the name of a cluster."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PromptClusters:
    """The cluster (n,) of each text, and the clusters' names, made of the words that are frequent in them and rare elsewhere.

    `others` (m,) are the clusters of further texts, which had no part in the making of the clusters.
    """

    number: Ints
    names: tuple[str, ...]
    others: Ints


def cluster_prompts(texts: Sequence[str], others: Sequence[str] = (), most: int = MOST_CLUSTERS) -> PromptClusters | None:
    """Return at most `most` clusters of texts (n,); None where there are too few texts for two.

    Texts without a counted word are `other prompts`. The first centre is the text most like the mean, and each further one is the text
    farthest from those so far. So no seed is needed. Each of the `others` (m,) belongs to the cluster whose centre is nearest.
    """
    count = min(most, len(set(texts)) // PER_CLUSTER)
    if count < 2:
        return None
    words, rarity = _words(texts)
    vectors = _vectors(texts, words, rarity)
    filled = np.linalg.norm(vectors, axis=1) > 0
    if np.unique(vectors[filled], axis=0).shape[0] < count:
        return None
    assigned, centres = _kmeans(vectors[filled], count)
    number = np.full(len(texts), -1, dtype=np.int64)
    number[filled] = assigned
    names = [_name(vectors, number, k, words) for k in range(count)]
    used = [k for k in range(count) if (number == k).any()]
    further = _vectors(others, words, rarity)
    nearest = np.where(np.linalg.norm(further, axis=1) > 0, (further @ centres[used].T).argmax(1), len(used))
    renumbered = {k: place for place, k in enumerate(used)}
    final = np.array([renumbered.get(int(k), len(used)) for k in number], dtype=np.int64)
    has_rest = not filled.all() or bool((nearest == len(used)).any())
    return PromptClusters(final, (*(names[k] for k in used), *((OTHER,) if has_rest else ())), nearest.astype(np.int64))


def _words(texts: Sequence[str]) -> tuple[list[str], Floats]:
    """Return the v words that are counted, and for each (v,) the logarithm of how rare it is."""
    spread = Counter(word for text in texts for word in set(WORDS.findall(text.lower())))
    least, most = max(RARE * len(texts), 3), max(COMMON * len(texts), 1)
    words = [word for word, in_texts in sorted(spread.items(), key=lambda item: (-item[1], item[0])) if least <= in_texts <= most][
        :MOST_WORDS
    ]
    return words, np.log([len(texts) / spread[word] for word in words])


def _vectors(texts: Sequence[str], words: Sequence[str], rarity: Floats) -> Floats:
    """Return unit vectors (n, v) of the texts, or zeros."""
    place = {word: k for k, word in enumerate(words)}
    table = np.zeros((len(texts), max(len(words), 1)))
    for row, text in enumerate(texts):
        for word, times in Counter(WORDS.findall(text.lower())).items():
            if word in place:
                table[row, place[word]] = (1 + np.log(times)) * rarity[place[word]]
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    return table / np.where(norms > 0, norms, 1.0)


def _kmeans(vectors: Floats, count: int) -> tuple[Ints, Floats]:
    """Return the cluster (n,) of each vector, and the centres (count, v)."""
    centres = [vectors[int((vectors @ vectors.mean(0)).argmax())]]
    while len(centres) < count:
        nearness = np.max(np.stack([vectors @ centre for centre in centres]), axis=0)
        centres.append(vectors[int(nearness.argmin())])
    placed = np.stack(centres)
    number = np.full(len(vectors), -1, dtype=np.int64)
    for _ in range(ROUNDS):
        now = (vectors @ placed.T).argmax(1)
        if (now == number).all():
            break
        number = now
        for k in range(count):
            if (number == k).any():
                mean = vectors[number == k].mean(0)
                placed[k] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return number, placed


def _name(vectors: Floats, number: Ints, k: int, words: Sequence[str]) -> str:
    inside = number == k
    if not inside.any():
        return ""
    others = vectors[~inside].mean(0) if (~inside).any() else 0.0
    lead = vectors[inside].mean(0) - others
    return ", ".join(words[int(place)] for place in np.argsort(-lead, kind="stable")[:NAMING] if lead[int(place)] > 0) or OTHER
