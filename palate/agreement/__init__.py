"""Statistics of raters, with numpy and the standard library only.

`Votes` holds the votes as codes, and `VoteTable` adds what is known beside them. `analyse` computes the whole report.
docs/methods/agreement.md explains each figure.
"""

from palate.agreement.advice import advice, favoured, favoured_words, nearest
from palate.agreement.alpha import krippendorff_alpha, raw_agreement
from palate.agreement.analysis import AgreementReport, DimensionReport, analyse
from palate.agreement.bias import Bias, length_bias, side_bias
from palate.agreement.curve import CurvePoint, Forecast, LearningCurve, learning_curve
from palate.agreement.dawid_skene import DawidSkene, dawid_skene
from palate.agreement.estimates import Estimate
from palate.agreement.gradings import Grading, table_of_grades
from palate.agreement.kappa import (
    NoiseCeiling,
    PairKappas,
    cohen_kappa,
    fleiss_kappa,
    majority_ceiling,
    pair_kappas,
    rater_noise_ceiling,
)
from palate.agreement.raters import Pace, RaterReport, SelfConsistency, rater_reports, self_consistency
from palate.agreement.selection import Selection, ask_further, ensemble_disagreement, select
from palate.agreement.shares import (
    concluded,
    first_probability,
    hold_out,
    majority,
    next_vote_shares,
    smoothed_share,
    smoothed_shares,
    vote_log_loss,
)
from palate.agreement.strengths import CrowdStrengths, CrowdVotes, bradley_terry, crowd_bradley_terry
from palate.agreement.vote_table import VoteTable
from palate.agreement.votes import PAIR_ANSWERS, RULE_ANSWERS, Votes, pair_answer

__all__ = [
    "PAIR_ANSWERS",
    "RULE_ANSWERS",
    "AgreementReport",
    "Bias",
    "CrowdStrengths",
    "CrowdVotes",
    "CurvePoint",
    "DawidSkene",
    "DimensionReport",
    "Estimate",
    "Forecast",
    "Grading",
    "LearningCurve",
    "NoiseCeiling",
    "Pace",
    "PairKappas",
    "RaterReport",
    "Selection",
    "SelfConsistency",
    "VoteTable",
    "Votes",
    "advice",
    "analyse",
    "ask_further",
    "bradley_terry",
    "cohen_kappa",
    "concluded",
    "crowd_bradley_terry",
    "dawid_skene",
    "ensemble_disagreement",
    "favoured",
    "favoured_words",
    "first_probability",
    "fleiss_kappa",
    "hold_out",
    "krippendorff_alpha",
    "learning_curve",
    "length_bias",
    "majority",
    "majority_ceiling",
    "nearest",
    "next_vote_shares",
    "pair_answer",
    "pair_kappas",
    "rater_noise_ceiling",
    "rater_reports",
    "raw_agreement",
    "select",
    "self_consistency",
    "side_bias",
    "smoothed_share",
    "smoothed_shares",
    "table_of_grades",
    "vote_log_loss",
]
