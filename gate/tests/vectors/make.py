"""Writes reference.json: the values that independent implementations compute for the data of the tests.

    python -m venv venv && venv/bin/pip install numpy scipy scikit-learn statsmodels rouge-score
    venv/bin/python gate/tests/vectors/make.py > gate/tests/vectors/reference.json
"""

import collections
import json
import re
import string
import sys

import numpy as np
import scipy.stats as st
from rouge_score import rouge_scorer
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, cohen_kappa_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

rng = np.random.default_rng(20261126)

TEXTS = [
    ("The cat sat on the mat.", "A cat was sitting on the mat"),
    ("Paris", "The capital of France is Paris."),
    ("", "something"),
    ("same words same words", "same words"),
    ("the U.S. Supreme Court, in 1954", "U.S. Supreme Court 1954"),
    ("one two three four five six", "six five four three two one"),
    ("Return the parcel within 30 days, and keep the receipt.", "Keep your receipt; parcels may be returned within 30 days."),
    ("nothing in common here", "entirely different phrase"),
]


def squad_normalise(text):
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(answer, good):
    answer, good = squad_normalise(answer).split(), squad_normalise(good).split()
    if not answer or not good:
        return float(answer == good)
    shared = sum((collections.Counter(answer) & collections.Counter(good)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(answer), shared / len(good)
    return 2 * precision * recall / (precision + recall)


def texts():
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    return [
        {
            "answer": a,
            "good": g,
            "token-f1": squad_f1(a, g),
            "rouge-l": scorer.score(g, a)["rougeL"].fmeasure,
        }
        for a, g in TEXTS
    ]


def shares():
    rows = []
    for hits, n in [(0, 60), (0, 300), (1, 10), (7, 250), (125, 250), (249, 250), (250, 250)]:
        for tail in [0.05, 0.01, 0.001]:
            exact = proportion_confint(hits, n, alpha=2 * tail, method="beta")
            wilson = proportion_confint(hits, n, alpha=2 * tail, method="wilson")
            rows.append({"hits": hits, "n": n, "tail": tail, "exact": list(map(float, exact)), "wilson": list(map(float, wilson))})
    return rows


def pairs():
    rows = []
    for one, other in [(0, 0), (3, 0), (8, 2), (12, 12), (40, 15), (1, 20)]:
        test = mcnemar([[0, one], [other, 0]], exact=True)
        p = float(test.pvalue) if one + other else 1.0
        rows.append({"one": one, "other": other, "two-sided": p, "one-is-more": float(st.binom.sf(one - 1, one + other, 0.5))})
    return rows


def quantiles():
    """Ranks of the confidence bounds of a quantile, from the binomial distribution."""
    rows = []
    for n in [58, 59, 100, 200, 1000]:
        for q in [0.5, 0.95]:
            for tail in [0.05, 0.005]:
                # The smallest k with P(Bin(n, q) >= k) <= tail, and the largest with P(Bin(n, q) <= k - 1) <= tail.
                up = next((k for k in range(1, n + 1) if st.binom.sf(k - 1, n, q) <= tail), None)
                low = max((k for k in range(1, n + 1) if st.binom.cdf(k - 1, n, q) <= tail), default=None)
                rows.append({"n": n, "q": q, "tail": tail, "upper": up, "lower": low})
    return rows


def bounded():
    """Gaffke's bound by simulation: a million draws of the weights."""
    rows = []
    for name, values in [
        ("beta(8,2)", rng.beta(8, 2, 60)),
        ("mostly flawless", np.where(rng.random(100) < 0.9, 1.0, rng.random(100))),
        ("differences", (rng.choice([-1, 0, 1], 120, p=[0.06, 0.9, 0.04]) + 1) / 2),
    ]:
        worst = np.append(values, 1.0)
        throws = np.concatenate([rng.dirichlet(np.ones(len(worst)), 100_000) @ worst for _ in range(10)])
        for tail in [0.05, 0.01]:
            rows.append({"name": name, "values": values.tolist(), "tail": tail, "upper": float(np.quantile(throws, 1 - tail))})
    return rows


def split_mix(seed):
    """The random generator of bellwether-core, so that the same cases are drawn."""
    mask = (1 << 64) - 1

    def stream(state):
        while True:
            state = (state + 0x9E3779B97F4A7C15) & mask
            z = state
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            yield z ^ (z >> 31)

    return stream(next(stream((seed * 0xD1342543DE82EF95) & mask)))


def bootstrap():
    rows = []
    for name, ratio, n in [("tokens for each success", True, 80), ("paired difference", False, 120)]:
        if ratio:
            first, second = rng.gamma(4, 60, n), (rng.random(n) < 0.9).astype(float)
            statistic = lambda a, b, axis=-1: np.sum(a, axis) / np.sum(b, axis)
            data = (first, second)
        else:
            first, second = rng.beta(6, 2, n) - rng.beta(6, 2, n), np.ones(n)
            statistic = lambda a, b, axis=-1: np.sum(a, axis) / np.sum(b, axis)
            data = (first, second)
        times, seed = 2000, 7
        dice = split_mix(seed)
        drawn = np.array([[(next(dice) * n) >> 64 for _ in range(n)] for _ in range(times)])
        ours = np.sort(statistic(first[drawn], second[drawn]))
        theirs = st.bootstrap(data, statistic, paired=True, vectorized=True, n_resamples=99_999, method="BCa",
                              confidence_level=0.9, random_state=rng)
        # BCa from the same resamples as in bellwether-core, by the formula of scipy.
        from scipy.stats import norm
        est = statistic(first, second)
        bias = norm.ppf(((ours < est).sum() + (ours <= est).sum()) / 2 / times)
        jack = np.array([statistic(np.delete(first, i), np.delete(second, i)) for i in range(n)])
        off = jack.mean() - jack
        acc = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
        level = lambda p: norm.cdf(bias + (bias + norm.ppf(p)) / (1 - acc * (bias + norm.ppf(p))))
        rows.append({
            "name": name, "first": first.tolist(), "second": second.tolist(), "times": times, "seed": seed,
            "estimate": float(est),
            "lower": float(np.quantile(ours, level(0.05))), "upper": float(np.quantile(ours, level(0.95))),
            "scipy": [float(theirs.confidence_interval.low), float(theirs.confidence_interval.high)],
            "standard-error": float(theirs.standard_error),
        })
    return rows


def calibration():
    n = 240
    confidence = rng.uniform(0.5, 1, n)
    right = rng.random(n) < confidence**1.5
    accuracy, mean = calibration_curve(right, confidence, n_bins=10, strategy="quantile")
    # Bins of equal size have equal weights, so the error is a plain mean.
    ece = float(np.mean(np.abs(accuracy - mean)))
    return {
        "confidence": confidence.tolist(), "right": right.tolist(), "ece": ece,
        "brier": float(brier_score_loss(right, confidence)), "auroc": float(roc_auc_score(right, confidence)),
        "accuracy-by-bin": accuracy.tolist(), "confidence-by-bin": mean.tolist(),
    }


def kappa():
    people = rng.random(50) < 0.6
    scores = np.clip(np.where(people, 0.7, 0.35) + rng.normal(0, 0.2, 50), 0, 1)
    return {"scores": scores.tolist(), "people": people.tolist(), "kappa": float(cohen_kappa_score(scores >= 0.5, people))}


json.dump(
    {
        "texts": texts(), "shares": shares(), "pairs": pairs(), "quantiles": quantiles(), "bounded": bounded(),
        "bootstrap": bootstrap(), "calibration": calibration(), "kappa": kappa(),
    },
    sys.stdout, indent=1,
)
