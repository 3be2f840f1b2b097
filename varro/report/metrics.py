"""Every number a report shows, in one table: name, label, formula in words, unit, healthy range."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """What one number means and how it is written."""

    name: str
    """the key in report.json"""
    label: str
    definition: str
    """the formula in words"""
    unit: str
    """`%` is stored as a share in [0, 1] and shown as a percentage"""
    healthy: str | None
    decimals: int
    """of the value as shown; a nonzero value too small for them is shown in scientific notation"""


MAX_COPY_RISE = 0.05
MAX_REPETITION_RISE = 0.10
MAX_WORDS_DRIFT = 0.15
"""beyond the frozen base's"""
REPEATING = 0.5
MAX_REPEATING_FRAC = 0.20
MAX_TRUNCATED_FRAC = 0.10
MAX_HEDGED_FRAC = 0.15
MAX_HUB_FRAC = 0.25
MAX_UNRESOLVED_FRAC = 0.75
MIN_OPENINGS_FRAC = 0.5
MIN_ENTROPY_OF_FIRST = 0.5
MAX_FORMAT = 0.95
MAX_PLACEBO_RISE = 0.02
"""limits of the alarms; source: science.md, section 4.3"""

MEMORY = ("peak_rss_gb", "rss_gb", "mlx_peak_gb", "mlx_active_gb", "mlx_cache_gb")
"""what each stage took"""
CONTROLS = ("shuffled", "base_against_base", "heldout", "over_day_before", "echo", "template")
"""what stands beside the claim, in this order; all are cosines"""

METRICS: tuple[Metric, ...] = (
    # learning
    Metric(
        "lift",
        "Lift over frozen base",
        "mean over headlines of (served - frozen base) in contrast on even terms (no threshold for "
        "a link, outcomes and placebo days drawn to one size), each headline's forecasts averaged "
        "first; over days, the mean of the days' means: the claim",
        "cosine",
        "confidence sequence above 0",
        4,
    ),
    Metric(
        "lift_reward",
        "Reward difference",
        "mean over headlines of (served - frozen base) in reward; style counts here, so it is "
        "not the claim",
        "reward",
        None,
        4,
    ),
    Metric(
        "lift_format",
        "Format difference",
        "mean over headlines of (served - frozen base) in the format component",
        "component",
        None,
        4,
    ),
    Metric(
        "lift_semantic",
        "Semantic difference",
        "mean over headlines of (served - frozen base) in the semantic component",
        "component",
        None,
        4,
    ),
    Metric(
        "lift_contrast",
        "Contrast difference",
        "mean over headlines of (served - frozen base) in contrast as the reward has it: linked "
        "headlines only, the day at its own size. Not the claim: it rises with keeping near to "
        "the headline alone",
        "cosine",
        None,
        4,
    ),
    Metric(
        "lift_similarity",
        "Similarity difference",
        "mean over headlines of (served - frozen base) in similarity; what is not matched by "
        "placebo is lift",
        "cosine",
        None,
        4,
    ),
    Metric(
        "lift_placebo",
        "Placebo difference",
        "mean over headlines of (served - frozen base) in placebo: what sounding like news of "
        "any day adds",
        "cosine",
        f"rise within a week at most {MAX_PLACEBO_RISE}",
        4,
    ),
    Metric(
        "lift_vote",
        "Direction difference",
        "mean over headlines of (served - frozen base) in direction vote",
        "vote, -1 to 1",
        None,
        4,
    ),
    Metric(
        "lift_copy_frac",
        "Copy difference",
        "mean over headlines of (served - frozen base) in copy rate",
        "share",
        None,
        4,
    ),
    Metric(
        "lift_repetition_frac",
        "Repetition difference",
        "mean over headlines of (served - frozen base) in repetition",
        "share",
        None,
        4,
    ),
    Metric(
        "lift_valid",
        "Validity difference",
        "mean over headlines of (served - frozen base) in the share of valid forecasts",
        "share",
        None,
        4,
    ),
    Metric(
        "lift_words",
        "Length difference",
        "mean over headlines of (served - frozen base) in words",
        "words",
        None,
        1,
    ),
    Metric(
        "shuffled",
        "Shuffled day",
        "lift measured on a placebo day drawn at random instead of the forecasts' own, which they "
        "can not foresee: against the other placebo days",
        "cosine",
        "0",
        4,
    ),
    Metric(
        "base_against_base",
        "Base against base",
        "lift of the frozen base's even forecasts over its odd ones",
        "cosine",
        "0",
        4,
    ),
    Metric(
        "heldout",
        "Held-out headlines only",
        "lift on the headlines that are never trained on",
        "cosine",
        "like the lift",
        4,
    ),
    Metric(
        "over_day_before",
        "Over the day before",
        "mean over headlines of (served - frozen base) in similarity to the outcomes less "
        "similarity to the day before the headlines', linked alike: the lift without what merely "
        "goes on, which was as near to the headline then",
        "cosine",
        "above 0",
        4,
    ),
    Metric(
        "echo",
        "Against echo",
        "mean over headlines of contrast, served minus the headline itself as the forecast",
        "cosine",
        "above 0",
        4,
    ),
    Metric(
        "template",
        "Against template",
        "mean over headlines of contrast, served minus one sentence that suits any headline",
        "cosine",
        "above 0",
        4,
    ),
    Metric(
        "accuracy",
        "Direction right",
        "share of forecasts whose direction agreed with their outcomes', of those where both "
        "can be told",
        "%",
        "served above frozen base",
        1,
    ),
    Metric(
        "sd_of_days", "Spread of days", "standard deviation of the days' lifts", "cosine", None, 4
    ),
    Metric(
        "days_for_small_lift",
        "Days needed",
        "further days until a mean lift of the size named would be told from 0 at this spread",
        "days",
        None,
        0,
    ),
    # reward
    Metric(
        "reward",
        "Reward",
        "weighted sum of format and semantic, 0 for an invalid forecast; mean over the "
        "forecasts named",
        "reward",
        None,
        3,
    ),
    Metric(
        "format",
        "Format",
        "mean over forecasts of the format component: the five beats, lowered by repetition, "
        "hedging, copying, brevity and straying from the topic",
        "component",
        f"at most {MAX_FORMAT}: above it there is nothing left to learn in it",
        3,
    ),
    Metric(
        "semantic",
        "Semantic",
        "mean over forecasts of the semantic component: contrast on a ramp, times what the "
        "direction vote leaves, plus margin, times the copy gate",
        "component",
        None,
        3,
    ),
    Metric(
        "even_contrast",
        "Contrast on even terms",
        "mean over forecasts of similarity minus placebo, without a threshold for a link and with "
        "outcomes and placebo days drawn to one size: 0 if the day were one more placebo day",
        "cosine",
        None,
        4,
    ),
    Metric(
        "contrast",
        "Contrast",
        "mean over forecasts of similarity minus placebo: what only the day itself would have paid",
        "cosine",
        None,
        4,
    ),
    Metric(
        "similarity",
        "Similarity",
        "mean over forecasts of the best cosine to an outcome linked to the headline",
        "cosine",
        None,
        3,
    ),
    Metric(
        "placebo",
        "Placebo",
        "mean over forecasts of the same similarity on past days of the same size: what is "
        "earned without foresight",
        "cosine",
        None,
        3,
    ),
    Metric(
        "vote",
        "Direction vote",
        "mean over forecasts of whether direction and linked outcomes agree (1), disagree (-1) "
        "or can not be told (0)",
        "vote, -1 to 1",
        None,
        3,
    ),
    Metric(
        "margin",
        "Flip margin",
        "mean over forecasts of the cosine to the outcome minus that to the outcome with its "
        "direction turned round",
        "cosine",
        None,
        3,
    ),
    Metric(
        "gate",
        "Copy gate",
        "mean over forecasts of what copying from the headline leaves of the semantic component",
        "factor",
        None,
        3,
    ),
    Metric(
        "topic",
        "Topic gate",
        "mean over forecasts of what straying from the headline leaves of the format component",
        "factor",
        None,
        3,
    ),
    Metric(
        "advantage",
        "Advantage",
        "what the update made of the reward: its distance from the group's mean in running "
        "spreads, before the leash",
        "spreads",
        None,
        2,
    ),
    Metric(
        "weight",
        "Weight",
        "the component's intended share of influence on the update",
        "%",
        None,
        1,
    ),
    Metric(
        "share",
        "Share of variance",
        "the component's part of the variance of the update's advantages",
        "%",
        "within 5 points of its weight",
        1,
    ),
    Metric(
        "spread",
        "Running spread",
        "within-group standard deviation of the component, decayed over days",
        "component",
        None,
        3,
    ),
    Metric(
        "null_correlation",
        "Correlation with placebo",
        "within-group correlation of the semantic component with the forecast's own placebo",
        "correlation",
        "at most 0.2",
        2,
    ),
    Metric(
        "raw_null_correlation",
        "Correlation with placebo, raw",
        "the same for the plain best similarity to any outcome: what the essay's reward ranks by",
        "correlation",
        None,
        2,
    ),
    Metric(
        "beat",
        "Beat",
        "mean over forecasts of one component of format, from 0 (absent) to 1 (well formed)",
        "component",
        None,
        3,
    ),
    Metric("n_settled", "Settled", "forecasts that got a reward, of all roles", "count", None, 0),
    Metric(
        "n_unresolved_groups",
        "Unresolved",
        "groups about whose headline nothing was published: format is all that is scored",
        "count",
        None,
        0,
    ),
    Metric(
        "unresolved_frac",
        "Unresolved, share",
        "groups about whose headline nothing was published, by groups",
        "%",
        f"at most {100 * MAX_UNRESOLVED_FRAC:.0f} %",
        1,
    ),
    Metric("n_pending_groups", "Pending", "groups that wait for more outcomes", "count", None, 0),
    Metric(
        "n_void",
        "Void",
        "forecasts that could not be settled: excluded and counted, never read as 0",
        "count",
        "0",
        0,
    ),
    Metric(
        "n_invalid",
        "Invalid",
        "forecasts that were settled and earn nothing, by reason",
        "count",
        None,
        0,
    ),
    Metric(
        "n_outcomes", "Outcomes", "headlines that forecasts were settled against", "count", None, 0
    ),
    Metric(
        "n_repeats",
        "Repeats removed",
        "arrivals that only repeat a headline that was forecast",
        "count",
        None,
        0,
    ),
    Metric(
        "n_doubles",
        "Doubles removed",
        "arrivals that only repeat another arrival",
        "count",
        None,
        0,
    ),
    Metric(
        "n_instructions",
        "Instructions removed",
        "arrivals that talk to a language model and not to readers",
        "count",
        None,
        0,
    ),
    Metric(
        "n_placebo_days",
        "Placebo days",
        "past days whose headlines serve as the control",
        "count",
        None,
        0,
    ),
    # hygiene
    Metric(
        "quality",
        "Quality (five beats)",
        "mean over forecasts of the five beats: direction and magnitude are one",
        "0 to 1",
        None,
        3,
    ),
    Metric(
        "quality_original",
        "Quality (original's Q)",
        "the original's cue words found as substrings, (0.35 direction + 0.30 asset + 0.20 "
        "time) · length: 'up' in 'support' counts",
        "0 to 0.85",
        None,
        3,
    ),
    Metric(
        "zeros_frac", "Zeros", "share of forecasts with an original Q of exactly 0", "%", None, 1
    ),
    Metric(
        "very_low_frac",
        "Very low",
        "share of forecasts with an original Q below 0.2, zeros included",
        "%",
        None,
        1,
    ),
    Metric(
        "leak_frac",
        "Leak (original's list)",
        "share of forecasts, empty ones left out, that match one of the original's 13 "
        "expressions; some match honest English",
        "%",
        None,
        1,
    ),
    Metric(
        "words",
        "Words",
        "mean words a forecast, separated by white space; the essay's figure leaves empty "
        "forecasts out",
        "words",
        f"within {100 * MAX_WORDS_DRIFT:.0f} % of the frozen base",
        1,
    ),
    Metric(
        "copy_frac",
        "Copy rate",
        "mean share of a forecast's word pairs that stand in the headline",
        "%",
        f"at most {100 * MAX_COPY_RISE:.0f} points above the frozen base",
        1,
    ),
    Metric(
        "repetition_frac",
        "Repetition",
        "mean share of a forecast's word triples that repeat an earlier one",
        "%",
        f"at most {100 * MAX_REPETITION_RISE:.0f} points above the frozen base",
        1,
    ),
    Metric(
        "repeating_frac",
        "Repeating forecasts",
        f"share of forecasts whose repetition is above {100 * REPEATING:.0f} %",
        "%",
        f"at most {100 * MAX_REPEATING_FRAC:.0f} %",
        1,
    ),
    Metric(
        "truncated",
        "Truncated",
        "share of forecasts that ran out of tokens or stop where no sentence can",
        "%",
        f"at most {100 * MAX_TRUNCATED_FRAC:.0f} %",
        1,
    ),
    Metric(
        "hedged",
        "Hedged",
        "share of forecasts that say that the same thing goes both ways",
        "%",
        f"at most {100 * MAX_HEDGED_FRAC:.0f} %",
        1,
    ),
    Metric(
        "leak",
        "Leak",
        "share of forecasts with control tokens, assistant talk, the prompt or its placeholders",
        "%",
        "0",
        1,
    ),
    Metric(
        "script_frac",
        "Foreign script",
        "mean share of letters in a script that is neither Latin nor the headline's",
        "%",
        "0",
        1,
    ),
    Metric(
        "hub_frac",
        "Hub",
        "share of matched forecasts that met the same outcome, for the most frequent one",
        "%",
        f"at most {100 * MAX_HUB_FRAC:.0f} %",
        1,
    ),
    Metric(
        "openings_frac",
        "Openings",
        "mean over groups of distinct first five words by forecasts",
        "%",
        f"at least {100 * MIN_OPENINGS_FRAC:.0f} %",
        1,
    ),
    # canaries and calibration
    Metric(
        "canary",
        "Canary",
        "mean semantic reward of a text whose rank is known; the exact outcome must lead by 0.03",
        "component",
        "below exact",
        3,
    ),
    Metric(
        "brier",
        "Brier score",
        "mean squared distance of the stated probability from what happened: direction agreed "
        "(1) or not (0)",
        "score, 0 is best",
        "below that of the base rate",
        3,
    ),
    Metric(
        "base_rate_brier",
        "Brier score of the base rate",
        "what always stating the share that happened would earn, f(1 - f)",
        "score, 0 is best",
        None,
        3,
    ),
    Metric(
        "probability",
        "Stated probability",
        "mean of the probabilities stated in the bin",
        "%",
        None,
        1,
    ),
    Metric(
        "happened_frac",
        "Happened",
        "share of the bin's forecasts whose direction agreed",
        "%",
        "like the stated probability",
        1,
    ),
    Metric(
        "n_probabilities",
        "Stated probabilities",
        "settled forecasts with a stated probability and a known direction, over all days",
        "count",
        None,
        0,
    ),
    # update
    Metric(
        "kl_ref",
        "KL to reference",
        "mean over forecasts of Σ_t KL(policy to reference), each over the whole vocabulary",
        "nats a sequence",
        "below 9; an update that would pass the limit (12) is refused",
        3,
    ),
    Metric(
        "kl_k1",
        "KL to reference, k1",
        "mean over forecasts of Σ_t (old_logprobs - ref_logprobs), as in the leash",
        "nats a sequence",
        "near kl_ref",
        3,
    ),
    Metric(
        "kl_k3",
        "KL to reference, k3",
        "mean over forecasts of Σ_t (r - 1 - log r), r = exp(ref_logprobs - old_logprobs)",
        "nats a sequence",
        "near kl_ref",
        3,
    ),
    Metric(
        "kl_base_after",
        "KL to frozen base, after",
        "as kl_ref_after, to the frozen base: the same until the reference was reset",
        "nats a sequence",
        "below 24",
        3,
    ),
    Metric(
        "kl_ref_after",
        "KL to reference, after",
        "the same of the updated policy, on at most 8 groups spread over the day, and of a day of "
        "fewer than 29 on a quarter of its forecasts (16 at least); where an update was refused, "
        "kl_ref: the policy serves on",
        "nats a sequence",
        "below 12",
        3,
    ),
    Metric(
        "kl_coef",
        "Leash coefficient",
        "what the controller has come to, adjusted after each day towards the target KL",
        "per nat",
        None,
        4,
    ),
    Metric(
        "leash_strength",
        "Leash strength",
        "the weight of kl_ref in the update: the coefficient, and more the further kl_ref is past "
        "the lower edge of the dead band",
        "per nat",
        None,
        4,
    ),
    Metric(
        "kl_update",
        "KL of the update",
        "mean over the same forecasts of Σ_t exact KL(new‖behaviour policy)",
        "nats a sequence",
        "within update.kl_day_low and kl_day_high (0.05–0.3), where the learning rate is steered",
        4,
    ),
    Metric(
        "kl_sampler",
        "Sampler mismatch",
        "mean |sampler - recomputed| over the log-probs of sampled tokens",
        "nats a token",
        "< 1e-5 in float32; above 0.02 nothing is trained",
        3,
    ),
    Metric(
        "tis_mean",
        "Sampler weight",
        "mean over forecasts of exp(Σ_t (old_logprobs - sampler_logprobs)), at most 2",
        "ratio",
        "near 1",
        4,
    ),
    Metric(
        "n_off_sampler",
        "Off the sampler",
        "forecasts left out of the update because that weight is outside 0.5 to 2",
        "count",
        "0",
        0,
    ),
    Metric(
        "n_overlong",
        "Cut",
        "forecasts cut at the limit of tokens; left out of the update",
        "count",
        "few",
        0,
    ),
    Metric(
        "n_empty",
        "Empty",
        "forecasts without a token; left out of the update",
        "count",
        "0",
        0,
    ),
    Metric(
        "n_too_few",
        "Groups too small",
        "groups left out because fewer than two of their forecasts train",
        "count",
        "0",
        0,
    ),
    Metric(
        "n_low_variance",
        "Groups that hardly differ",
        "groups left out because they spread by less than a quarter of the running spread in both "
        "components, those without spread among them",
        "count",
        None,
        0,
    ),
    Metric(
        "n_trained",
        "Trained on",
        "forecasts that the steps were taken on",
        "count",
        None,
        0,
    ),
    Metric(
        "length_correlation",
        "Correlation with length",
        "within groups, of advantages with the number of tokens, over the forecasts that train",
        "correlation",
        "between -0.8 and 0.8; beyond, nothing is trained",
        2,
    ),
    Metric(
        "clip_frac",
        "Clip fraction",
        "share of forecasts whose clipped branch is active",
        "%",
        "5–20 %",
        1,
    ),
    Metric(
        "clip_scale",
        "Clip scale",
        "factor on both clip ranges, steered by the clip fraction of the updates before",
        "factor",
        "0.25–4",
        2,
    ),
    Metric(
        "ratio_mean",
        "Mean importance ratio",
        "mean over forecasts of exp(mean over tokens of (new_logprobs - old_logprobs))",
        "ratio",
        "near 1",
        4,
    ),
    Metric(
        "entropy",
        "Entropy",
        "mean over sampled positions of the policy's entropy over the whole vocabulary",
        "nats a token",
        f"at least {100 * MIN_ENTROPY_OF_FIRST:.0f} % of the first update's",
        3,
    ),
    Metric(
        "entropy_first",
        "Entropy at first",
        "entropy of the run's first update",
        "nats a token",
        None,
        3,
    ),
    Metric(
        "grad_norm",
        "Gradient norm",
        "L2 norm of the adapter's gradient before clipping, mean over inner steps",
        "norm",
        "finite, no sudden rise",
        4,
    ),
    Metric(
        "n_skipped_steps",
        "Skipped steps",
        "inner steps left out because their gradient was a spike; a second one ends the day",
        "count",
        "0",
        0,
    ),
    Metric(
        "n_attempts",
        "Attempts",
        "times the update was made; the second, if any, at half the rate from the parent",
        "count",
        "1",
        0,
    ),
    Metric(
        "leash_loss",
        "Leash in the loss",
        "mean over inner steps of the k2 term; 0 while the leash is in the reward",
        "loss",
        "0 or more",
        4,
    ),
    Metric(
        "loss",
        "Loss",
        "what the optimiser minimised: the clipped policy term, and leash_loss if there is one",
        "loss",
        "finite; its level is not progress",
        4,
    ),
    Metric("lr", "Learning rate", "step size of the optimiser", "per step", None, 3),
    Metric(
        "lr_scale",
        "Rate scale",
        "factor on the configured learning rate, steered by the KL of the updates before",
        "factor",
        "0.0625–2",
        2,
    ),
    Metric(
        "n_headlines",
        "Headlines",
        "headlines that a mean or an interval is taken over",
        "count",
        None,
        0,
    ),
    Metric("n_days", "Days", "evaluated days that a claim pools", "count", None, 0),
    Metric("n_groups", "Groups", "headlines with their forecasts together", "count", None, 0),
    # cadence, and the best of k
    Metric(
        "best_of",
        "Best of k",
        "contrast on even terms of the best of k forecasts on a headline, mean over all choices of "
        "k; headlines where each side has all its contrasts",
        "cosine",
        None,
        4,
    ),
    Metric(
        "lift_best_of",
        "Best of k, difference",
        "mean over headlines of (served - frozen base) in best of k; over days, the mean of the "
        "days' means. At k = 1 it is the lift, on fewer headlines",
        "cosine",
        None,
        4,
    ),
    Metric("best_of_k", "k", "forecasts to choose from", "count", None, 0),
    Metric(
        "cadence_surprisal",
        "Surprisal",
        "-log of the sampler's probability of the token, mean over a forecast's tokens; of a word, "
        "the sum",
        "nats",
        None,
        3,
    ),
    Metric(
        "cadence_entropy",
        "Entropy where sampled",
        "entropy of what the token was drawn from, mean over a forecast's tokens; not in ledgers "
        "before 0005",
        "nats",
        None,
        3,
    ),
    Metric(
        "cadence_spikes_per_100",
        "Spikes",
        "tokens with a surprisal of the forecast's mean plus one standard deviation or more",
        "per 100",
        None,
        1,
    ),
    Metric(
        "cadence_peak_interval",
        "Between peaks",
        "mean distance between peaks: spikes that are higher than the token before and not lower "
        "than the next",
        "tokens",
        None,
        1,
    ),
    Metric(
        "cadence_masd",
        "Step of surprisal",
        "mean absolute successive difference of surprisal (MASD)",
        "nats",
        None,
        3,
    ),
    Metric(
        "cadence_acf1",
        "Autocorrelation, lag 1",
        "of surprisal, from one token to the next",
        "correlation",
        None,
        3,
    ),
    Metric(
        "cadence_acf2",
        "Autocorrelation, lag 2",
        "of surprisal, over two tokens",
        "correlation",
        None,
        3,
    ),
    Metric(
        "cadence_cooldown",
        "Cooldown",
        "entropy at a spike less its mean over up to three tokens behind it, mean over spikes",
        "nats",
        None,
        3,
    ),
    Metric("n_forecasts", "Forecasts", "sampled answers", "count", None, 0),
    Metric(
        "n_zero_variance",
        "Groups without spread",
        "groups whose rewards are all equal, which teach nothing",
        "count",
        None,
        0,
    ),
    Metric(
        "missing_frac", "Missing", "share of forecasts that have no such component", "%", None, 1
    ),
    Metric(
        "no_signal_frac",
        "Groups without signal",
        "share of an update's groups whose forecasts earned (nearly) the same",
        "%",
        "few",
        1,
    ),
    Metric("n_steps", "Inner steps", "optimiser steps of the daily update", "count", None, 0),
    Metric("n_tokens", "Tokens", "sampled tokens, stop tokens included", "count", None, 0),
    Metric("tokens_per_s", "Tokens per second", "tokens handled by wall time", "tokens/s", None, 0),
    Metric("n_new", "New headlines", "headlines first seen this day", "count", None, 0),
    Metric("n_train", "Training headlines", "headlines forecast for training", "count", None, 0),
    Metric("n_heldout", "Held-out headlines", "headlines never trained on", "count", None, 0),
    Metric("n_malformed", "Malformed", "items or lines that could not be read", "count", "0", 0),
    Metric(
        "n_duplicates",
        "Duplicates",
        "items already in the ledger, not added again",
        "count",
        None,
        0,
    ),
    Metric("n_feeds", "Feeds", "feeds on the list; an archive counts as one", "count", None, 0),
    Metric(
        "n_alive",
        "Feeds alive",
        "feeds that answered, or rest because a server that is well asked them to",
        "count",
        None,
        0,
    ),
    Metric(
        "n_unreached",
        "Feeds not reached",
        "feeds that there was no time for; they come first the next time",
        "count",
        "0",
        0,
    ),
    Metric("n_missed", "Missed cycles", "cycles before this one that nobody ran", "count", "0", 0),
    Metric("seconds", "Seconds", "wall time of a stage", "s", None, 1),
    Metric(
        "peak_rss_gb",
        "Peak memory",
        "largest resident size of the process up to the stage's end",
        "GB",
        None,
        2,
    ),
    Metric("rss_gb", "Memory", "resident size of the process at the stage's end", "GB", None, 2),
    Metric("mlx_active_gb", "MLX arrays", "in use by MLX at the stage's end", "GB", None, 2),
    Metric(
        "mlx_cache_gb",
        "MLX cache",
        "freed buffers that MLX keeps, given back after the stage",
        "GB",
        None,
        2,
    ),
    Metric("mlx_peak_gb", "Peak MLX memory", "largest use by MLX in the stage", "GB", None, 2),
    Metric("disk_free_gb", "Disk free", "left on the home's disk that night", "GB", None, 1),
    Metric("n_processes", "Processes", "of the cluster that made the day", "", None, 0),
    Metric("n_parameters", "Parameters", "weights of the policy", "count", None, 0),
    Metric(
        "trainable_frac", "Trainable", "share of the weights that the adapter trains", "%", None, 2
    ),
)

_BY_NAME = {metric.name: metric for metric in METRICS}


def is_metric(name: object) -> bool:
    return name in _BY_NAME


def find_metric(name: str) -> Metric:
    """The row of METRICS called `name`.

    Raises: ValueError if there is none: a number without a definition is not shown.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ValueError(f"metric {name!r} has no definition; add it to METRICS") from None


def unit_beside(metric_name: str) -> str:
    """The unit for a column of its own: a dash where `format_value` writes it behind the value.

    Raises: ValueError for an unknown metric.
    """
    unit = find_metric(metric_name).unit
    return "—" if unit == "%" else unit


def format_value(metric_name: str, value: float | None) -> str:
    """The value as shown to a person; a dash if it is not available.

    Raises: ValueError for an unknown metric, or a value that is not finite.
    """
    metric = find_metric(metric_name)
    if value is None:
        return "—"
    if not math.isfinite(value):
        raise ValueError(f"{metric_name} must be finite or null, found {value!r}")
    shown = value * 100 if metric.unit == "%" else value
    suffix = " %" if metric.unit == "%" else ""
    if shown != 0 and abs(shown) < 0.5 * 10**-metric.decimals:
        return f"{shown:.2g}{suffix}" if abs(shown) >= 1e-3 else f"{shown:.1e}{suffix}"
    return f"{shown + 0.0:,.{metric.decimals}f}{suffix}"
