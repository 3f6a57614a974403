"""Metrics that fall with more records, told by their names: errors and losses, where every answer expects a score.

Imports nothing but the standard library: ``recommend`` asks it.
"""

import re

_RATES = {
    "error", "errors", "err", "errs", "eer", "hter", "wer", "cer", "ber", "fpr", "fnr", "fdr", "far", "frr",
    "false", "miss", "misses", "mistakes", "misclassification", "misclassified", "brier", "ece", "mce", "hamming",
    "regret",
}  # fmt: skip
_AMBIGUOUS = {"wer", "cer", "ber", "far"}
_UNBOUNDED = {
    "loss", "losses", "nll", "bce", "ppl", "xent", "hinge", "deviance", "divergence", "mape", "smape", "rmsle",
    "msle", "medae",
}  # fmt: skip
_RATE_ENDS, _UNBOUNDED_ENDS = ("error", "errors", "brier"), ("loss", "losses", "entropy", "perplexity", "mse", "mae")
_RATE_STARTS = ("error", "misclass")
SCORES = {"auroc", "auc", "auprc", "accuracy", "acc", "f1", "score", "precision", "recall", "kappa", "mcc"}
_OTHER_SCORES = {
    "roc", "aupr", "ap", "map", "dice", "sensitivity", "specificity", "tpr", "tnr", "ppv", "npv", "jaccard", "iou",
    "gmean",
}  # fmt: skip
_QUALIFIERS = {
    "macro", "micro", "weighted", "mean", "average", "avg", "balanced", "test", "val", "valid", "validation",
    "train", "cv",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+(?![a-z])\d*|\d+")  # test_error, valLoss and MSELoss alike
_CONDITION = re.compile(r"@|(?:^|[\W_])at(?:[\W_]|$)", re.IGNORECASE)  # sensitivity_at_fpr_0.05 is a sensitivity
# 1-auc, 1 - auc, one_minus_auc, and X1.auc or X1...auc, as R's make.names writes the first two
_COMPLEMENT = re.compile(r"(?:1|one)(?:\s*[-\u2010-\u2015\u2212]\s*|[\s_.]*minus[\s_.]*)|X1\.+", re.I)
_NEGATED = re.compile(r"neg(?:ative|ated)?[\W_]", re.IGNORECASE)


def why_it_falls(metric: str) -> str | None:
    """Return a sentence on what to give instead of a metric that falls with more records, None for one that rises.

    An error or a loss anywhere in the name makes it fall (``val_loss``, ``test_error_rate``, ``logloss``), and so does
    1 minus a score (``1-auc``); 1 minus an error, and an error that is negated as scikit-learn does, rise.
    """
    name = _CONDITION.split(metric.strip(), maxsplit=1)[0].strip()
    found = _COMPLEMENT.match(name)
    rest = name[found.end() :] if found else name
    if _is_error(rest):
        rises = found or (_NEGATED.match(name) and "likelihood" not in name.lower())
        return None if rises else f"{metric} falls with more records: {_instead(metric)}"
    if found and _names_score(rest):
        return f"{metric} falls with more records: give {rest} itself, which rises"
    return None


def falls(metric: str) -> bool:
    """Say whether a metric's name is that of an error or a loss, which fall with more records."""
    return why_it_falls(metric) is not None


def _instead(metric: str) -> str:
    words = _words(metric)
    if any(word in _UNBOUNDED or word.endswith(_UNBOUNDED_ENDS) for word in words):
        return "give a score that rises, such as auroc_macro"
    return f"give 1 - {metric}, which rises"


def _is_error(name: str) -> bool:
    words = [word if word in SCORES else word.rstrip("0123456789") for word in _words(name)]
    if "skill" in words or ("hamming" in words and "score" in words):  # 1 minus an error, by their definitions
        return False
    if _NEGATED.match(name) and "likelihood" in words:
        return True
    ambiguous = _AMBIGUOUS if words and words[0] in SCORES else set()  # auroc_ber may be the AUROC of a place
    return any(
        (word in _RATES | _UNBOUNDED and word not in ambiguous)
        or word.endswith(_RATE_ENDS + _UNBOUNDED_ENDS)
        or word.startswith(_RATE_STARTS)
        for word in words
    )


def _names_score(name: str) -> bool:
    """Say whether a name begins with a score: ``auc`` in 1-auc, where 1-lead_auc is the area of one lead."""
    words = [word for word in _words(name) if word not in _QUALIFIERS]
    return bool(words) and words[0] in SCORES | _OTHER_SCORES


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]
