"Evidence made by hand in the form of an audit: every part filled, or every part open"

import numpy as np

CLASSES = ("emergency", "routine", "self_care", "urgent")
ATTRIBUTES = {
    "channel": ("chat", "email", "voice"),
    "age_band": ("0-4", "18-39", "40-64", "5-17", "65+"),
}
METRICS = (
    "abstention_rate",
    "selective_risk",
    "coverage",
    "set_size",
    "overconfidence",
    "expected_cost",
)
OF_CLASSES = ("tpr", "fpr", "fnr", "ppv", "npv")


def gap(reason):
    return {"evaluated": False, "reason": reason}


def number(value, wide=0.05, n=376, **more):
    ends = {"low": value - wide, "high": value + wide}
    return {"value": value, **ends, "n": n, "level": 0.95} | more


def share(k, n):
    value = k / n
    ends = {"low": max(0.0, value - 0.05), "high": min(1.0, value + 0.05)}
    return {"value": value, **ends, "k": k, "n": n, "level": 0.95}


def identity(classes):
    return {
        "name": "triage-demo",
        "kind": "run",
        "date": "2026-11-29",
        "intended_use": "Sorts messages to a nurse advice line by urgency.",
        "limits": "Not for emergencies that are phoned in; English only.",
        "classes": list(classes),
        "n": 376,
        "certificate": "052e79d588487ba2",
        "basis": {"how": "before", "from": None, "asked": {}},
        "basis_said": [],
        "model": "minilm",
        "built": "with a LoRA adapter and a classification head",
        "seed": 0,
        "fingerprints": {"adapter": "5b5f6fa3" * 8, "onnx": None, "prompt": "ab" * 32},
        "versions": {"fine_tune_llm": "0.1.0", "numpy": "2.4.6", "python": "3.11.2"},
    }


def data(classes):
    sizes = {"train": 1724, "validation": 216, "calibration": 376, "test": 376}
    counts = {role: [n // len(classes)] * len(classes) for role, n in sizes.items()}
    found = {
        "code": "suspicious_labels",
        "severity": "low",
        "message": "320 labels at odds with the text",
        "fix": "Look at them; `ftllm check-labels` asks the model",
        "count": 320,
        "rows": [1, 2],
        "details": {},
    }
    return {
        "source": {
            "name": "triage.jsonl",
            "rows": 2692,
            "sha256": "9a" * 32,
            "read": {"encoding": "utf-8", "format": "jsonl"},
        },
        "classes": list(classes),
        "roles": sizes,
        "counts": counts,
        "findings": {"rows": 2692, "repeated_texts": 3, "repeats_left_out": 2},
        "named": {"classes_merged": []},
        "caveat": None,
        "overlap": "",
        "promised_rows": [],
        "groups": list(ATTRIBUTES),
        "note": "The bundled sample leaves out easy messages",
        "changed": "",
        "texts_read": {"max_length": 144, "longest": 103, "limit": 512, "cut": {}},
        "cut": "",
        "quality": {
            "rows": 2692,
            "checks": ["a", "b"],
            "counts": {"high": 0, "medium": 0, "low": 1, "info": 0},
            "skipped": {"votes": "there are no votes"},
            "findings": [found],
        },
    }


def difference(value):
    about = {"metric": "accuracy", "method": "McNemar", "first": 0.79, "second": 0.69}
    ends = {"difference": value, "low": value - 0.05, "high": value + 0.05}
    return about | ends | {"level": 0.95, "n": 376, "p_value": 0.0003}


def training():
    epochs = [
        {
            "epoch": i,
            "step": 27 * i,
            "loss": 1 / i,
            "eval_nll": 0.9 / i,
            "eval_ece": 0.05,
        }
        for i in range(1, 6)
    ]
    return {
        "threads": 1,
        "epochs": 5,
        "start_kept": False,
        "curve": epochs,
        "settings": [
            {"key": "training.epochs", "value": 5, "source": "argument"},
            {"key": "lora.r", "value": 16, "source": "default"},
        ],
        "gain": {
            "kind": "head",
            "start": "the frozen encoder with the best linear head",
            "accuracy": share(221, 376),
            "nll": 0.894,
            "difference": {"accuracy": difference(0.2), "nll": difference(-0.37)},
            "said": "training helped: accuracy +20.2 points (95% +15.5 to +25.2)",
        },
    }


def performance(classes):
    K = len(classes)
    table = np.full((K, K), 1) + np.eye(K, dtype=int) * 70
    accuracy = share(297, 376)
    return {
        "accuracy": accuracy,
        "nll": 0.524,
        "brier": 0.288,
        "aurc": 0.0659,
        "intervals": {"nll": number(0.524), "brier": number(0.288)},
        "auc": gap("there are more than two classes"),
        "per_class": {
            name: {"recall": share(78, 94), "precision": share(78, 97)}
            for name in classes
        },
        "confusion": table.tolist(),
        "baselines": {
            "majority": share(94, 376) | {"difference": difference(0.54)},
            "tfidf": share(260, 376) | {"difference": difference(0.098)},
            "frozen": share(221, 376) | {"difference": difference(0.2)},
        },
        "errors": {
            "pairs": [
                {
                    "true": classes[0],
                    "decided": classes[2 % K],
                    "n": 3,
                    "share": share(3, 94),
                    "cost": 20.0,
                    "total": 60.0,
                    "critical": True,
                },
                {
                    "true": classes[1],
                    "decided": classes[0],
                    "n": 12,
                    "share": share(12, 94),
                    "cost": 1.0,
                    "total": 12.0,
                    "critical": False,
                },
            ],
            "rows": [
                {
                    "row": 17 + i,
                    "id": f"m{17 + i}",
                    "true": classes[0],
                    "decided": classes[2 % K],
                    "confidence": 0.93 - i / 100,
                    "cost": 20.0,
                    "critical": True,
                    "text": None,
                }
                for i in range(18)
            ],
        },
    }


def calibration(classes):
    bins = [
        {"low": i / 15, "high": (i + 1) / 15, "n": 20 + i, "conf": (i + 0.5) / 15}
        | {"acc": (i + 0.2) / 15}
        for i in range(5, 15)
    ]

    def side(scale):
        metrics = {"nll": 0.52, "brier": 0.29, "ece": 0.035, "mce": 0.15}
        values = {name: value * scale for name, value in metrics.items()}
        more = {"ece_debiased": 0.02, "classwise_ece": 0.03, "smooth_ece": 0.03}
        intervals = {k: number(v, 0.01) for k, v in (values | more).items()}
        return values | {"accuracy": 0.79, "table": bins, "intervals": intervals}

    after = side(1) | {"mce": 0.4}
    after["intervals"]["mce"] = number(0.4, 0.1)
    return {
        "n": 376,
        "verdict": "concern",
        "method": "vector",
        "choice": {"name": "vector", "why": "the simplest within one standard error"},
        "notes": ["the simplest within one standard error"],
        "temperature": 1.802,
        "n_bins": 15,
        "before": side(2),
        "after": after,
        "tests": [
            {"name": "mean excess", "statistic": 0.01, "p_value": 0.2, "adjusted": 0.4},
            {
                "name": "kernel test",
                "statistic": 1.3,
                "p_value": 0.01,
                "adjusted": 0.02,
            },
        ],
        "by_class": [
            {"class": name, "n": 94, "ece": number(0.04), "excess": number(0.01)}
            for name in classes
        ],
        "by_group": [
            {"attribute": a, "group": g, "n": 80, "ece": number(0.05)}
            | {"overconfidence": number(-0.02)}
            for a, groups in ATTRIBUTES.items()
            for g in groups
        ]
        + [
            {"attribute": "channel", "group": "fax", "n": 3}
            | gap("3 rows, fewer than 30")
        ],
        "errors": {
            "wrong": share(79, 376),
            "mean_conf": number(0.61),
            "sure_of_wrong": share(9, 79),
            "wrong_when_sure": gap("no row is that sure"),
        },
        "temperature_would": {
            "temperature": 1.8,
            "nll_before": 0.59,
            "nll_after": 0.53,
        },
    }


def coverage(classes):
    def cells(names):
        return [
            {"cell": name, "n": 94, "covered": 84, "coverage": 0.894, "low": 0.8}
            | {"high": 0.95, "reason": ""}
            for name in names
        ] + [
            {"cell": "rare", "n": 3, "covered": 3, "coverage": None, "low": None}
            | {"high": None, "reason": "3 rows, fewer than 20"}
        ]

    def table(names):
        return {"cells": cells(names), "level": 0.95, "min_rows": 20}

    return {
        "score": "lac",
        "alpha": 0.1,
        "threshold": 0.768,
        "n_calibration": 376,
        "rows_missing": 0,
        "n_test": 376,
        "coverage": 0.896,
        "band": [0.84, 0.952],
        "no_band": None,
        "band_level": 0.99,
        "inside": True,
        "mean_set_size": 1.303,
        "n_added": 2,
        "sizes": [2, 264, 108, 2],
        "promised": {
            "condition": None,
            "cells": [],
            "empty": "allow",
            "settings": {},
            "decided": "The set of a decided text holds the class that was decided.",
        },
        "conditional": {
            "by_class": table(classes),
            "by_group": {name: table(groups) for name, groups in ATTRIBUTES.items()},
            "by_size": table(["size 1", "size 2 to 3"]),
            "gap": {"value": 0.04, "by_chance": 0.025},
            "worst_slab": {"n": 10, "value": 0.5, "low": 0.19, "high": 0.81},
            "short": {"bound": 0.8, "of": 4, "below": 0, "worst": []},
        },
        "more": [{"alpha": 0.05, "coverage": share(350, 376), "mean_set_size": 1.6}],
    }


def selective(classes):
    K = len(classes)
    cost = (np.ones((K, K)) - np.eye(K)).tolist()
    cost[0][2 % K] = 20.0
    certificate = {
        "name": "error",
        "group": None,
        "given": "decided",
        "score": "max_prob",
        "delta": 0.1,
        "target_risk": 0.1,
        "mean_loss": None,
        "threshold": 0.7006,
        "n": 376,
        "n_decided": 256,
        "n_errors": 19,
        "n_tests": 37,
        "p_value": 0.098,
        "risk_bound": 0.0998,
        "theorem": "fixed-sequence testing (Bauer 1991)",
    }
    return {
        "certificate": certificate,
        "certificates": [certificate],
        "refusal": None,
        "refused": [],
        "group": "",
        "targets": [
            {
                "name": "error",
                "group": None,
                "promise": "at most 10.0% of decisions at 70.1% or more are wrong",
                "promised": 0.1,
                "is_rate": True,
                "test": {"value": 0.0859, "n": 256},
                "p_value": 0.8,
            }
        ],
        "test": {"decided": share(256, 376), "wrong": share(22, 256)},
        "curve": {
            "selective_coverage": np.linspace(0.01, 1, 50).tolist(),
            "risk": np.linspace(0, 0.21, 50).tolist(),
        },
        "costs": {
            "matrix": {
                "classes": list(classes),
                "cost": cost,
                "critical": [[classes[0], classes[2 % K]]],
                "abstain_cost": [0.5] * K,
            },
            "mean": 0.21,
            "all": 0.3,
            "critical": share(3, 256),
        },
        "other_targets": {
            "name": "target_risk",
            "own": 0.1,
            "note": "Only the target that was fixed before is promised",
            "rows": [
                {"target": 0.05, "is_own": False, "certified": False, "n": 376}
                | {"decided": gap("nothing would be decided"), "wrong": gap("nothing")}
                | {"more_rows": 524, "why": "too few rows"},
                {"target": 0.1, "is_own": True, "certified": True, "n": 376}
                | {"decided": share(256, 376), "wrong": share(22, 256)}
                | {"more_rows": None, "why": None},
            ],
        },
    }


def fairness(classes):
    rates, gaps = [], []
    names = [*METRICS, *(f"{m}[{c}]" for m in OF_CLASSES for c in classes[:4])]
    for view, groups in ATTRIBUTES.items():
        for i, metric in enumerate(names):
            for j, group in enumerate(groups):
                rates.append(rate(view, group, metric, 0.3 + i / 200 + j / 100))
            gaps.append(largest(view, groups, metric, p=0.001 if i == 1 else 0.6))
    gaps.append(
        dict.fromkeys(largest("channel", ("a", "b"), "tpr", p=1.0))
        | {"view": "channel", "metric": "equalised_odds", "reason": "tpr: 3 rows"}
    )
    every = [(a, g) for a, groups in ATTRIBUTES.items() for g in groups]
    return {
        "n": 376,
        "settings": {"min_rows": 30, "level": 0.975, "power": 0.8, "order": 1}
        | {"seed": 0, "positive": "each", "n_resamples": 1000, "family": "all"},
        "rates": rates,
        "gaps": gaps,
        "not_evaluated": {"calibration_error": "no bins were given"},
        "missing": {"channel": 0, "age_band": 4},
        "multicalibration": {"error": 0.06, "view": "all rows", "cell": []},
        "subgroup_auc": [
            {"attribute": a, "group": g, "n": 80, "auc": number(0.9)}
            | {"bpsn": number(0.8), "bnsp": gap("no positive row outside the group")}
            for a, g in every
        ],
        "class_calibration": [
            {"attribute": a, "group": g, "class": c, "n": 80, "mean_prob": 0.3}
            | {"frequency": 0.25, "excess": number(0.05)}
            for a, g in every
            for c in classes
        ],
        "selective_vs_full": [
            {"attribute": "channel", "metric": "selective_risk", "verdict": "wider"}
            | {"full_gap": number(0.03), "selective_gap": number(0.08)}
            | {"difference": number(0.05, 0.02)}
        ],
        "thresholds": {
            "channel": [
                {
                    "threshold": t / 10,
                    "groups": {
                        "chat": {"decided": 0.5, "selective_risk": 0.1},
                        "voice": {"decided": 0.4, "selective_risk": None},
                    },
                }
                for t in range(1, 10)
            ]
        },
        "reference": {"channel": "chat"},
        "control": [],
        "power": [
            {"attribute": a, "metric": m, "detectable": 0.2}
            for a in ATTRIBUTES
            for m in METRICS
        ],
    }


def rate(view, group, metric, value):
    about = {"view": view, "cell": [group], "metric": metric, "n": 80, "reason": ""}
    return about | {"value": value, "low": value - 0.1, "high": value + 0.1}


def largest(view, groups, metric, *, p):
    return {
        "view": view,
        "metric": metric,
        "criterion": "alike",
        "difference": 0.12,
        "low": 0.02,
        "high": 0.25,
        "ratio": 0.7,
        "highest": [groups[1]],
        "lowest": [groups[0]],
        "worst": [groups[1]],
        "p_value": p,
        "detectable": 0.15,
        "n_groups": len(groups),
        "n_skipped": 0,
        "reason": "",
    }


def behaviour(classes):
    def tested(**about):
        shift = number(-0.021, 0.01, 64)
        found = {"n": 64, "flips": share(5, 64), "shift": shift}
        return about | found | {"p_value": 0.004, "adjusted": 0.03}

    return {
        "n_decisions": 1840,
        "swaps": [tested(attribute="sex", term=t) for t in ("she", "her husband")],
        "invariance": [tested(name=n) for n in ("typos", "upper case", "length")],
        "injection": [tested(name="ignore the instructions")],
        "cases": [
            {"name": "chest pain", "kind": "mft", "n": 12, "failed": share(1, 12)}
            | {"examples": ["routine for a pressing chest"]},
            {"name": "polite", "kind": "inv", "n": 8, "failed": share(0, 8)}
            | {"examples": []},
        ],
        "representation": [
            {"attribute": "sex", "group": g, "n": n, "share": share(n, 376)}
            for g, n in (("she", 120), ("he", 95))
        ],
        "association": [
            {"term": "she", "class": classes[0], "n": 31, "pmi": number(0.4, 0.2)}
            | {"p_value": 0.01, "adjusted": 0.08}
        ],
        "disagreement": gap("no votes of annotators were given"),
    }


def risk(classes):
    return {
        "cost": {
            "expected": number(0.21),
            "worst_case": number(0.5),
            "cvar": number(3.2, 0.4),
            "critical": share(3, 256),
        },
        "certified": [
            {
                "name": "error",
                "promised": 0.1,
                "bound": 0.0998,
                "measured": share(22, 256),
            }
        ],
        "by_class": [
            {"class": c, "n": 94, "cost": number(0.3), "error": share(8, 64)}
            for c in classes
        ],
        "by_group": [
            {"attribute": "channel", "group": g, "n": 90, "cost": number(0.3)}
            for g in ATTRIBUTES["channel"]
        ],
        "workload": {
            "abstained": share(120, 376),
            "per_1000": 319.1,
            "by_class": [
                {"class": c, "n": 94, "abstained": share(30, 94)} for c in classes
            ],
            "by_reason": [{"reason": "ambiguous", "n": 120, "share": share(120, 120)}],
        },
        "stress": [
            {"name": "more emergencies", "kind": "prior", "setting": {"factor": 2.0}}
            | {
                "error": number(0.25),
                "cost": number(0.6),
                "selective_risk": number(0.1),
            },
            {"name": "noise", "kind": "noise", "setting": {"size": 0.5}}
            | {"error": number(0.3), "cost": gap("no costs"), "selective_risk": None},
        ],
        "register": [
            {
                "id": "R1",
                "hazard": "an emergency is sent home",
                "cause": "short texts",
                "likelihood": "possible",
                "severity": "catastrophic",
                "mitigation": "a nurse reads every abstention",
                "residual": "medium",
                "evidence": "errors",
                "source": "finding critical_errors",
            }
        ],
    }


def findings():
    about = {"rows": [], "details": {"value": 0.134}}
    return [
        {
            "part": "out_of_scope",
            "code": "out_of_scope_decided",
            "severity": "high",
            "message": "64.4% [56.4, 71.8] of 160 texts of no class are decided",
            "fix": "Set `scope.score`",
            "count": 103,
        }
        | about,
        {
            "part": "fairness",
            "code": "group_breaks_certificate",
            "severity": "medium",
            "message": "Of channel voice 13.4% [8.5, 20.4] of 127 decisions are wrong, "
            "where at most 10% was certified",
            "fix": "Certify by group: `risk.group: channel`",
            "count": 0,
        }
        | about,
    ]


def gates():
    return [
        {"rule": "ece <= .03", "status": "fail", "value": 0.035, "bound": 0.03}
        | {"at": "value", "why": "", "measured": number(0.035), "number": "ece"},
        {
            "rule": "certified_risk <= .1",
            "status": "pass",
            "value": 0.0998,
            "bound": 0.1,
        }
        | {"at": "value", "why": "", "measured": {"value": 0.0998}, "number": "risk"},
        {
            "rule": "flips <= .01",
            "status": "not evaluated",
            "value": None,
            "bound": 0.01,
        }
        | {
            "at": "upper bound",
            "why": "no terms",
            "measured": gap("no terms"),
            "number": "x",
        },
    ]


def full_evidence(classes=CLASSES):
    "Every part of the audit of a run"
    evidence = {
        "version": 2,
        "identity": identity(classes),
        "data": data(classes),
        "training": training(),
        "performance": performance(classes),
        "calibration": calibration(classes),
        "coverage": coverage(classes),
        "selective": selective(classes),
        "abstentions": [
            {
                "id": "1806",
                "text": "I sleep nine hours and still I am flat battery",
                "true": classes[1],
                "likeliest": classes[0],
                "confidence": 0.345,
                "reason": "ambiguous",
                "prediction_set": list(classes[:2]),
            }
        ],
        "scope": gap("scope.score is none: no text is rejected"),
        "out_of_scope": {
            "n": 160,
            "decided": share(103, 160),
            "empty_sets": share(0, 160),
            "scores": {
                "max_prob": {
                    "score": "max_prob",
                    "auroc": number(0.539),
                    "let_through": number(0.95),
                }
            },
            "rejected": gap("no text is rejected as out of scope"),
            "bound": gap("no text is rejected as out of scope"),
        },
        "shift": [{"what": "confidence", "p_value": 0.93, "adjusted": 1.0}],
        "drift": gap("monitoring starts once the classifier is in use"),
        "fairness": fairness(classes),
        "behaviour": behaviour(classes),
        "risk": risk(classes),
        "mitigations": [
            {
                "name": "group_thresholds",
                "setting": {"attribute": "channel"},
                "attribute": "channel",
                "before": {
                    "tpr": {"groups": {"chat": share(60, 80)}, "gap": number(0.12)}
                },
                "after": {
                    "tpr": {"groups": {"chat": share(64, 80)}, "gap": number(0.04)}
                },
                "change": {"tpr": number(-0.08) | {"verdict": "narrower"}},
                "said": "the gap of tpr narrows from 12 to 4 points",
            }
        ],
        "seeds": {
            "n_runs": 3,
            "metrics": {
                "accuracy": {"mean": 0.79, "sd": 0.01, "low": 0.78, "high": 0.8}
                | {"values": [0.78, 0.79, 0.8]}
            },
            "flips": share(31, 376),
            "said": "three seeds agree on 91.8% of rows",
        },
        "findings": findings(),
        "gates": gates(),
        "sheet": gap("not asked for"),
        "mapping": {
            "note": "Which parts of this audit speak to which point",
            "rows": [
                {"framework": "EU AI Act, Annex IV", "reference": "2(g)"}
                | {"asks": "metrics of accuracy", "status": "in part", "source": "EU"}
                | {"parts": ["performance"], "open": "cybersecurity"}
            ],
        },
    }
    return evidence


def predictions_evidence(classes=CLASSES):
    "Of bare predictions: no run, no promise, no data"
    evidence = full_evidence(classes)
    no_run = gap("there is no run, only predictions")
    evidence["identity"] = dict.fromkeys(evidence["identity"]) | {
        "name": "predictions",
        "kind": "predictions",
        "classes": list(classes),
        "n": 376,
    }
    parts = ("data", "training", "coverage", "selective", "abstentions", "scope")
    evidence |= dict.fromkeys((*parts, "out_of_scope", "shift", "seeds"), no_run)
    evidence["calibration"]["before"] = None
    evidence["calibration"]["method"] = None
    evidence["calibration"]["temperature"] = None
    return evidence


def open_evidence():
    "Nothing was evaluated"
    evidence = full_evidence()
    parts = [part for part in evidence if part not in ("version", "identity")]
    return evidence | {part: gap(f"no {part} here") for part in parts}
