"""A recommendation as the JSON document that ``recommendation.schema.json`` describes, for programs."""

import json
from dataclasses import asdict
from typing import Any

from advisor.answer.arms import ArmOutlook
from advisor.answer.costs import Money
from advisor.answer.recommend import Recommendation
from engine.json_values import finite, rounded
from studies.files.curve import Curve, PooledCurve

# Keys are only ever added; one that changes its meaning needs a new version. 2: all arms that were measured, best first
SCHEMA_VERSION = 2


def to_json(
    answer: Recommendation, explanation: dict[str, Any] | None = None, data: dict[str, Any] | None = None
) -> str:
    """Return the document as text."""
    return json.dumps(to_document(answer, explanation, data), indent=2, allow_nan=False)


def to_document(
    answer: Recommendation, explanation: dict[str, Any] | None = None, data: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the answer, scores rounded to 4 decimals, with an explanation and the asker's data where given."""
    question, curve = answer.question, answer.curve
    document = {
        "schema_version": SCHEMA_VERSION,
        "question": {
            "n_records": question.n_records,
            "arch": curve.arch,
            "family": curve.family,
            "metric": question.metric,
            "margin": question.margin,
            "upstream": curve.upstream,
            "task": question.task,
            "pays_pretraining": question.pays_pretraining,
            "uses": question.uses,
            "device_speed": question.device_speed,
            "labels": _labels(curve),
            "task_like": question.task_like,
            "currency": question.currency,
        },
        "best": answer.best.strategy,
        "arms": [_arm(one) for one in answer.arms],
        "not_measured": list(answer.not_measured),
        "verdict": answer.verdict,
        "why": answer.why,
        "scratch": rounded(asdict(answer.scratch)),
        "fine_tune": rounded(asdict(answer.fine_tune)),
        "gain": rounded(asdict(answer.gain)),
        "worth_in_records": asdict(answer.worth_in_records),
        "break_even": asdict(answer.break_even),
        "flips": {
            side: None if flip is None else asdict(flip)
            for side, flip in zip(("fewer_records", "more_records"), answer.flips, strict=True)
        },
        "more_records": None if answer.more_records is None else rounded(asdict(answer.more_records)),
        "pilot_value": None if answer.pilot_value is None else rounded(asdict(answer.pilot_value)),
        "target": _target(answer),
        "cost": {name: rounded(asdict(cost), digits=2) for name, cost in answer.cost.items()},
        "money": None if answer.money is None else _money(answer.money, question.label_cost, question.gpu_cost),
        "networks": [{**rounded(asdict(row)), "score": rounded(asdict(row.score))} for row in answer.networks],
        "pooled": isinstance(curve, PooledCurve),
        "support": answer.support,
        "evidence": _evidence(answer),
        "warnings": list(answer.warnings),
        **({} if explanation is None else {"explanation": explanation}),
        **({} if data is None else {"data": data}),
    }
    plain: dict[str, Any] = finite(document)
    return plain


def _arm(one: ArmOutlook) -> dict[str, Any]:
    return {
        "strategy": one.strategy,
        "score": rounded(asdict(one.score)),
        "difference": None if one.difference is None else rounded(asdict(one.difference)),
        "p_best": round(one.p_best, 4),
        "expected_loss": rounded(asdict(one.expected_loss)),
        "cost": rounded(asdict(one.cost), digits=2),
        "bill": None if one.bill is None else rounded(asdict(one.bill), digits=2),
    }


def _labels(curve: Curve) -> list[dict[str, Any]]:
    """Return the labels that the scores are given, and whether tasks with each of them were measured."""
    pool = curve.rests_on[-1]
    if not isinstance(pool, PooledCurve) or pool.levels is None:
        return []
    return [
        {"finding": one.finding, "prevalence": one.prevalence, "measured": pool.levels.find(one) is not None}
        for one in pool.labels
    ]


def _target(answer: Recommendation) -> dict[str, Any] | None:
    if answer.target is None:
        return None
    arms = {name: rounded(asdict(reach)) for name, reach in answer.target.items()}
    return {"score": answer.question.target, "probability": 0.8, **arms}


def _money(money: Money, label_cost: float | None, gpu_cost: float | None) -> dict[str, Any]:
    return {
        "label_cost": label_cost,
        "gpu_cost": gpu_cost,
        "scratch": rounded(asdict(money.scratch), digits=2),
        "fine_tune": rounded(asdict(money.fine_tune), digits=2),
        "label_saving": None if money.label_saving is None else rounded(asdict(money.label_saving), digits=2),
        "p_pays_off": money.p_pays_off,
        "expected_saving": None if money.expected_saving is None else round(money.expected_saving, 2),
    }


def _evidence(answer: Recommendation) -> dict[str, Any]:
    curve = answer.curve
    return {
        "study": answer.curves.study,
        "runs": sum(part.runs for part in curve.rests_on),
        "tasks": list(curve.measured_tasks),
        "replicates": curve.replicates,
        "sizes": list(curve.sizes),
        "precision": curve.precision,
        "devices": list(curve.devices),
        "test_records": curve.test_records,
        "source": dict(curve.sources[0]) if len(curve.sources) == 1 else {},
        "sources": [dict(source) for source in curve.sources],
        "created": answer.curves.created,
        "version": answer.curves.version,
    }
