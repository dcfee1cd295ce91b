"""Which of the searched settings mattered.

Source: An Efficient Approach for Assessing Hyperparameter Importance (Hutter et al., ICML 2014): functional ANOVA.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

FEWEST = 4
"""Of fewer finished trials nothing can be told."""


def importance_of(optuna: Any, trials: Sequence[Any], num_settings: int) -> dict[str, float]:
    """Each setting's share in the variance of the finished trials' first figure, adding up to 1, the largest first.

    Empty where there is nothing to tell: few trials, one setting, or the same figure everywhere.
    """
    if len(trials) < FEWEST or num_settings < 2:
        return {}
    study = optuna.create_study(directions=["maximize"] * len(trials[0].values))
    study.add_trials(list(trials))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with suppress(RuntimeError, ValueError):  # every trial has the same figure
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator, target=_first))
    return {}


def _first(trial: Any) -> float:
    return trial.values[0]
