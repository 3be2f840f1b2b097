"""Varro: one small language model that learns from tomorrow's news, every day.

    ingest    what arrived since yesterday, under an as-of clock
    settle    score yesterday's forecasts against what was then published
    update    GSPO on the sampled token ids, on a KL leash to the reference
    publish   a checkpoint: atomic, hashed, loadable by stock mlx_lm
    forecast  eight five-beat forecasts per headline, by the new policy
    evaluate  the frozen base forecasts the held-out headlines with the same seeds
    report    what a person reads over coffee

`varro.day.run_day` is this list as code.
"""

__version__ = "0.1.0"
