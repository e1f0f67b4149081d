"""Whatever raters do in whatever order: an item's places are its votes and leases, and never too many."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from palate.ratings import Answer, Assignment, open_ratings
from tests.support.ratings import new_file, pair, team

RATERS = st.integers(0, 3)
BOTH_WAYS = (Answer(ranking=((0,), (1,))), Answer(ranking=((1,), (0,))), Answer(ranking=((0, 1),)), Answer(skipped=True))


class Places(RuleBasedStateMachine):
    """Four raters, three items, two raters wanted of each and three at most."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ratings = open_ratings(new_file(Path(self.folder.name) / "ratings.db"))
        self.crew = team(self.ratings, items=3, raters=4, overlap=2, max_overlap=3, extra=(pair("g", gold=((0,), (1,))),), gold_share=0.1)
        self.seen: list[tuple[int, Assignment]] = []
        self.submitted = 0

    @rule(rater=RATERS)
    def claim(self, rater: int) -> None:
        found = self.crew.claim(rater)
        if found:
            self.seen.append((rater, found))

    @rule(rater=RATERS)
    def fetch_ahead(self, rater: int) -> None:
        crew = self.crew
        held = self.ratings.claim_many(crew.project.id, crew.raters[rater].id, crew.now, crew.random, 2)
        self.seen.extend((rater, found) for found, _ in held)

    @precondition(lambda self: self.seen)
    @rule(at=st.integers(0, 50), answer=st.sampled_from(BOTH_WAYS))
    def submit(self, at: int, answer: Answer) -> None:
        rater, found = self.seen[at % len(self.seen)]
        self.crew.submit(found, answer, rater)
        self.submitted += 1

    @precondition(lambda self: self.seen)
    @rule(at=st.integers(0, 50))
    def release(self, at: int) -> None:
        rater, found = self.seen[at % len(self.seen)]
        self.ratings.release(found.id, self.crew.raters[rater].id)

    @rule(rater=RATERS)
    def undo(self, rater: int) -> None:
        self.submitted += self.crew.undo(rater) is not None

    @rule(seconds=st.sampled_from((1.0, 40.0, 70.0)))
    def wait(self, seconds: float) -> None:
        self.crew.now += seconds

    @precondition(lambda self: self.seen)
    @rule(at=st.integers(0, 50))
    def remove(self, at: int) -> None:
        if self.submitted % 5 == 4:
            self.ratings.remove_item(self.seen[at % len(self.seen)][1].item, self.crew.now)

    @invariant()
    def places_are_right(self) -> None:
        assert self.ratings.check() == ()

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(list(self.ratings.judgments(self.crew.project.id))) == self.submitted

    def teardown(self) -> None:
        self.ratings.close()
        self.folder.cleanup()


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=15, stateful_step_count=40)
