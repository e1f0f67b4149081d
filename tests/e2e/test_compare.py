"""Two policies, three simulated people at a real rating server: `compare` gives their win rate with the interval of another program."""

from __future__ import annotations

import hashlib
import html
import math
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from palate.agreement.paired_rates import RESAMPLES
from palate.cli import main
from palate.core import derive_seed
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.comparison_figures import read_comparison
from palate.runs.run import Run
from tests.support.rating_server import Client, RatingServer, open_rating_server
from tests.support.waiting import joined, wait_until

PEOPLE = ("ann", "bob", "cem")
POLICIES = ("secret-alpha", "secret-beta")


def chance(*words: object) -> float:
    return int(hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()[:8], 16) / 2**32


def worth(policy: int, prompt: int) -> int:
    return 10 + int(20 * chance("worth", policy, prompt)) + 4 * policy


def opinion(person: str, question: str, texts: list[str]) -> list[list[int]]:
    """What a person says about two texts as shown: the larger number is better, level where they are close, and people differ."""
    first, second = (int(text.split()[-1]) for text in texts)
    gap = (first - second) + (6 if chance(person, question) < 0.5 else -6) * (1 if texts[0] < texts[1] else -1)
    return [[0, 1]] if abs(gap) < 2 else [[0], [1]] if gap > 0 else [[1], [0]]


def sits(client: Client, person: str, project: str, pages: list[str], places: list[int]) -> None:
    """Judge everything that the server gives, over HTTP, from what the page shows."""
    held = client.api(f"/projects/{project}/assignments").json()["assignments"]
    count = 0
    while held:
        shown = held[0]["html"]
        pages.append(shown)
        texts = list(dict.fromkeys(html.unescape(text) for text in re.findall(r"answer of worth \d+", shown)))
        assert len(texts) == 2
        question = re.search(r"question \d+", shown)
        assert question is not None
        number = int(question[0].split()[1])
        places.append(int(texts[0].split()[-1]) == worth(0, number))
        body = {"assignment": held[0]["id"], "key": f"{person}-{count:08d}", "answer": {"ranking": opinion(person, question[0], texts)}}
        assert client.api(f"/projects/{project}/judgments", body).status_code == 200
        held = client.api(f"/projects/{project}/assignments").json()["assignments"]
        count += 1


def judged_by_people(server: RatingServer, pages: list[str], places: list[int]) -> None:
    """Three people join the project as soon as there is one, and judge."""
    wait_until(server.ratings.projects)
    (project,) = server.ratings.projects()
    for person in PEOPLE:
        server.account(person, "rater", project)
        sits(server.client(person), person, project.id, pages, places)


def own_interval(won: dict[int, list[float]], seed: int) -> tuple[float, float, float]:
    """Win rate and interval written another way: loops over prompts drawn again, and points of Student and the normal from scipy."""
    rng, n = np.random.default_rng(seed), len(won)
    prompts = list(won)

    def rate(times: list[int]) -> float:
        every = [vote for prompt, count in zip(prompts, times, strict=True) for vote in won[prompt] * count]
        return sum(every) / len(every)

    draws = [rate(rng.multinomial(n, [1 / n] * n).tolist()) for _ in range(RESAMPLES)]
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    return rate([1] * n), float(np.quantile(draws, tail)), float(np.quantile(draws, 1 - tail))


@pytest.mark.slow
def test_three_people_at_the_rating_server_compare_two_policies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["compare"]
    for number, name in enumerate(POLICIES):
        rows = [{"prompt": f"question {k}", "completions": [f"answer of worth {worth(number, k)}"]} for k in range(20)]
        write_rows(tmp_path / f"{name}.jsonl", rows)
        words.append(str(tmp_path / f"{name}.jsonl"))
    pages, places = list[str](), list[int]()
    different = [k for k in range(20) if worth(0, k) != worth(1, k)]
    with open_rating_server(tmp_path) as server:
        words += ["--raters", "people", "--raters.database", str(tmp_path / "ratings.db"), "--raters.project", "alpha against beta"]
        words += ["--raters.poll_seconds", "0.05", "--raters_per_comparison", "3", "--out", str(tmp_path / "run"), "--seed", "3"]
        people = threading.Thread(target=judged_by_people, args=(server, pages, places), daemon=True)

        def check(run: Run) -> None:
            assert people.is_alive() or len(pages) == 3 * len(different), "those who judge are gone, and questions are open"

        monkeypatch.setattr(Run, "check_stop", check)
        people.start()
        assert main(words) == 0
        joined(people)
    assert len(pages) == 3 * len(different)
    assert not any(name in page for page in pages for name in POLICIES)  # blind
    assert 0.3 < np.mean(places) < 0.7  # each policy stands on either side
    (people_say,) = read_comparison(tmp_path / "run").sources
    (rate,) = people_say.rates
    assert (people_say.kind, people_say.raters, people_say.unanswered, people_say.leads) == ("people", 3, 0, True)
    winner = POLICIES.index(rate.match.policy)
    won: dict[int, list[float]] = {k: [] for k in range(20)}
    for k in range(20):
        if k not in different:
            won[k] = [0.5]  # equal answers: nobody was asked
            continue
        texts = [f"answer of worth {worth(winner, k)}", f"answer of worth {worth(1 - winner, k)}"]
        for person in PEOPLE:
            ranking = opinion(person, f"question {k}", texts)
            won[k].append(0.5 if len(ranking) == 1 else float(ranking[0] == [0]))
    value, low, high = own_interval(won, derive_seed(3, "compare/bootstrap", "people", "overall"))
    assert rate.match.votes == sum(map(len, won.values()))
    assert rate.match.rate.value == pytest.approx(value)
    assert (rate.match.rate.low, rate.match.rate.high) == pytest.approx((low, high), abs=3e-3)
    assert f"{rate.match.policy} wins" in capsys.readouterr().out
    assert len(list(read_rows(tmp_path / "run" / "judgments.jsonl"))) == 3 * len(different)
