"""Turns the answers of a probe into one finding for each open question about the API. Pure.

A finding holds only counts, words of a list, documented names and redacted error texts of what was
received: see `redaction`, which all that is foreign passes.
A question that could not be answered says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etl.diagnose.probe.data import Answer, Finding, Probe
from etl.diagnose.probe.records import (
    count_kinds,
    date_forms,
    ids_of,
    kind_of,
    orders,
    unknown_names,
    uuid_count,
)
from etl.diagnose.probe.redaction import count, documented, media_type
from etl.formatting import many

NAME_VARIANTS = {
    "other case": "in the other case",
    "prefix": "without its last character",
    "slash": "with a slash more or less at its end",
    "blanks": "with a blank at each end",
    "star": "with * for its last character",
}
_RATE = ("Limit", "Period", "Remaining", "Reset")
_ENDPOINTS = {"default": "list", "applications": "applications", "aggregate": "aggregate"}


def findings(probe: Probe) -> list[Finding]:
    """Every question, in the order of the report."""
    return [
        _default_limit(probe),
        _maximum_limit(probe),
        _honoured_limit(probe),
        _order(probe),
        _stable(probe),
        _view_name(probe),
        _device_type(probe),
        *_errors(probe),
        _refusal(probe),
        *_rate_limits(probe),
        *_of_records(probe),
        _applications(probe),
        _aggregate(probe),
        _credentials(probe),
        _transport(probe),
        _members(probe),
        _unpinned(probe),
    ]


def _unanswered(
    key: str, question: str, why: str, facts: Mapping[str, Any] | None = None
) -> Finding:
    return Finding(key, question, f"not known: {why}", is_answered=False, facts=facts or {})


def _largest(probe: Probe) -> str:
    return f"the largest view has {probe.known:,} record{'' if probe.known == 1 else 's'}"


# --- page[limit] --------------------------------------------------------------------------


def _default_limit(probe: Probe) -> Finding:
    about = ("default_limit", "How many records without page[limit]?")
    default = probe.answers.get("default", Answer())
    if default.records is None:
        return _unanswered(*about, probe.reason_without("default"))
    facts = {"records": default.count, "known": probe.known}
    if default.count >= probe.known:
        return _unanswered(*about, f"{_largest(probe)}, and all came", facts)
    return Finding(*about, f"{default.count}, of at least {probe.known:,}", facts=facts)


def _maximum_limit(probe: Probe) -> Finding:
    about = ("maximum_limit", "What is the largest page[limit]?")
    answers = probe.limits
    if not answers:
        return _unanswered(*about, probe.reason_without("limits"))
    facts = {"asked": [{"limit": n, **probe.as_json(a)} for n, a in answers.items()]}
    accepted, largest = probe.largest
    refused = [n for n, a in answers.items() if a.is_refused and n > accepted]
    if accepted and refused:
        least = min(refused)
        text = f"{accepted:,} is accepted, {least:,} is refused: {probe.summary(answers[least])}"
        return Finding(*about, text, facts=facts)
    if not accepted:
        return _unanswered(*about, probe.summary(next(iter(answers.values()))), facts)
    if fewer := [n for n, a in answers.items() if n > accepted and a.records is not None]:
        text = f"{accepted:,} brings {largest.count:,}, {fewer[-1]:,} only"
        return Finding(*about, f"{text} {answers[fewer[-1]].count:,}", facts=facts)
    if largest.count < min(probe.known, accepted):
        text = f"{largest.count:,}: more are asked for without an error, but no more come"
        return Finding(*about, f"{text} of at least {probe.known:,}", facts=facts)
    why = f"{accepted:,} is accepted, but {_largest(probe)}"
    if 10 <= largest.count < accepted and largest.count % 10 == 0:
        why += " (a round number: it may be the maximum, or all that there is)"
    return _unanswered(*about, why, facts)


def _honoured_limit(probe: Probe) -> Finding:
    about = ("limit_honoured", "Does the API keep to a page[limit] below the number of records?")
    _, largest = probe.largest
    lower = {n: a for n, a in probe.limits.items() if n < largest.count and a.records is not None}
    if not lower:
        return _unanswered(*about, _largest(probe))
    facts = {"asked": [{"limit": n, "records": a.count} for n, a in lower.items()]}
    text = ", ".join(f"asked for {n}: {a.count} came" for n, a in lower.items())
    is_kept = all(a.count == n for n, a in lower.items())
    return Finding(*about, f"{'yes' if is_kept else 'no'}; {text}", facts=facts)


# --- order --------------------------------------------------------------------------------


def _order(probe: Probe) -> Finding:
    about = ("order", "How are the records sorted?")
    records = probe.largest[1].records or []
    by_member = orders(records)
    if not by_member:
        return _unanswered(*about, _largest(probe))
    text = ", ".join(f"{name} {order}" for name, order in by_member.items())
    return Finding(*about, f"{text} (of {len(records):,} records)", facts=by_member)


def _stable(probe: Probe) -> Finding:
    about = ("stable", "Do two identical requests bring the same records in the same order?")
    again = probe.answers.get("again", Answer())
    if again.records is None:
        return _unanswered(*about, probe.reason_without("again"))
    first, second = ids_of(probe.largest[1].records or []), ids_of(again.records)
    facts = {"is_same_set": sorted(first) == sorted(second), "is_same_order": first == second}
    if first == second:
        return Finding(*about, "yes", facts=facts)
    how = "the same records in another order" if facts["is_same_set"] else "other records"
    return Finding(*about, f"no: {how}", facts=facts)


# --- filters ------------------------------------------------------------------------------


def _view_name(probe: Probe) -> Finding:
    about = ("match_view_name", "How does filter[view_name] match?")
    answers = {name: probe.answers[name] for name in NAME_VARIANTS if name in probe.answers}
    answered = {name: answer for name, answer in answers.items() if answer.records is not None}
    facts = {name: probe.as_json(answer) for name, answer in answers.items()}
    not_asked = {n: probe.not_asked[n] for n in NAME_VARIANTS if n in probe.not_asked}
    if not answered:
        why = next(
            iter([*(probe.summary(a) for a in answers.values()), *not_asked.values()]), "not asked"
        )
        return _unanswered(*about, why, facts)
    texts = [f"{NAME_VARIANTS[n]}: {_matched(probe, a)}" for n, a in answered.items()]
    texts += [
        f"{NAME_VARIANTS[n]}: {probe.summary(a)}" for n, a in answers.items() if n not in answered
    ]
    texts += [f"{NAME_VARIANTS[name]}: not asked, {why}" for name, why in not_asked.items()]
    is_exact = all(answer.count == 0 for answer in answered.values())
    rule = "exactly" if is_exact else "not exactly"
    return Finding(*about, f"{rule}; the name {'; '.join(texts)}", facts=facts)


def _matched(probe: Probe, answer: Answer) -> str:
    if not answer.count:
        return "nothing"
    same = sorted(ids_of(answer.records or []))
    is_same = same == sorted(ids_of(probe.largest[1].records or []))
    return "the same records" if is_same else f"{many(answer.count, 'record')}, not the same"


def _device_type(probe: Probe) -> Finding:
    about = ("match_device_type", "How does filter[device_type] match?")
    as_sent, other = (probe.answers.get(key, Answer()) for key in ("device", "device case"))
    if as_sent.records is None or other.records is None:
        key = "device" if as_sent.records is None else "device case"
        return _unanswered(*about, probe.reason_without(key))
    facts = {"as_in_the_records": as_sent.count, "in_the_other_case": other.count}
    text = f"as the records spell it: {as_sent.count:,}, in the other case: {other.count:,}"
    if not as_sent.count:
        return _unanswered(*about, f"{text} records", facts)
    rule = "case matters" if other.count != as_sent.count else "case does not matter"
    return Finding(*about, f"{rule}; {text} records", facts=facts)


def _errors(probe: Probe) -> Iterator[Finding]:
    questions = {
        "empty": ("empty_view_name", "What does an empty filter[view_name] bring?"),
        "missing": ("missing_view_name", "What does a missing filter[view_name] bring?"),
        "limit zero": ("limit_zero", "What does page[limit]=0 bring?"),
        "limit negative": ("limit_negative", "What does page[limit]=-1 bring?"),
        "limit text": ("limit_text", "What does page[limit]=ten bring?"),
    }
    for key, about in questions.items():
        answer = probe.answers.get(key, Answer())
        if answer.is_temporary:
            facts = {} if answer.status is None else probe.as_json(answer)
            yield _unanswered(*about, probe.reason_without(key), facts)
        else:
            yield Finding(*about, probe.summary(answer), facts=probe.as_json(answer))


# --- permission, rate limit ---------------------------------------------------------------


def _refusal(probe: Probe) -> Finding:
    about = ("refusal", "Which permission is needed, and what is the body of a 403?")
    refused = [
        (name, probe.answers[key])
        for key, name in _ENDPOINTS.items()
        if key in probe.answers and probe.answers[key].status in (401, 403)
    ]
    if not refused:
        return _unanswered(*about, "these keys were refused nowhere")
    text = "; ".join(f"{name}: {probe.summary(a)} ({_error_shape(a)})" for name, a in refused)
    facts = {n: probe.as_json(a) | {"shape": _error_shape(a)} for n, a in refused}
    return Finding(*about, text, facts=facts)


def _error_shape(answer: Answer) -> str:
    kind = media_type(answer.headers.get("Content-Type", ""))
    found = answer.parsed
    if not answer.body:
        return f"an empty body, {kind}"
    errors = found.get("errors") if isinstance(found, dict) else None
    if isinstance(errors, list):
        inner = sorted({kind_of(error) for error in errors}) or ["nothing"]
        return f"errors: list of {' and '.join(inner)}, {kind}"
    return f"{'another JSON' if found is not None else 'not JSON'}, {kind}"


def _rate_limits(probe: Probe) -> Iterator[Finding]:
    for key, endpoint in _ENDPOINTS.items():
        about = (f"rate_limit_{endpoint}", f"What is the rate limit of the {endpoint} endpoint?")
        headers = probe.answers.get(key, Answer()).headers
        name = headers.get("X-RateLimit-Name", "")
        numbers = {h.lower(): count(headers.get(f"X-RateLimit-{h}", "").strip()) for h in _RATE}
        facts = {"name": probe.redaction.limit_name(name) if name else None, **numbers}
        if not any(facts.values()):
            has_answer = probe.answers.get(key, Answer()).status is not None
            yield _unanswered(*about, "no such header" if has_answer else probe.reason_without(key))
            continue
        text = ", ".join(f"{n} {facts[n]}" for n in numbers if facts[n] is not None)
        yield Finding(*about, f"{facts['name'] or 'without a name'}: {text}", facts=facts)


# --- records ------------------------------------------------------------------------------


def _of_records(probe: Probe) -> Iterator[Finding]:
    records = probe.records
    about = {
        "dates": "How many digits after the point do dates have, and which zone?",
        "attribute_types": "Which type does each attribute have?",
        "unknown_attributes": "Which attributes are not in the specification?",
        "null_or_absent": "Are session_id and view_id null or absent?",
        "id_shape": "Have the ids the shape of a UUID?",
    }
    if not records:
        yield from (_unanswered(key, about[key], "no record was read") for key in about)
        return
    dates, kinds = date_forms(records), count_kinds(records)
    inner, members = (documented(names) for names in unknown_names(records))
    unknown = [f"beside attributes: {_listed(*members)}"] if any(members) else []
    unknown += [_listed(*inner)] if any(inner) else []
    named = {"names": inner[0], "others": inner[1]}
    named |= {"names_beside": members[0], "others_beside": members[1]}
    empty = {n: _only(kinds[n], "null", "absent") for n in ("session_id", "view_id")}
    uuids = uuid_count(records)
    answers: Sequence[tuple[str, Mapping[str, Any]]] = (
        (_spelled(dates), dates),
        (_spelled(kinds), kinds),
        ("; ".join(unknown) or "none", named),
        (_spelled(empty), empty),
        (f"{uuids:,} of {len(records):,}", {"uuids": uuids, "records": len(records)}),
    )
    for key, (text, facts) in zip(about, answers, strict=True):
        yield Finding(key, about[key], text, facts=facts)


def _only(counts: Mapping[str, int], *names: str) -> dict[str, int]:
    return {name: counts.get(name, 0) for name in names}


def _spelled(found: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(
        f"{name}: {', '.join(f'{number} x {how}' for how, number in counts.items()) or 'never'}"
        for name, counts in found.items()
    )


# --- the rest -----------------------------------------------------------------------------


def _applications(probe: Probe) -> Finding:
    about = ("applications", "Is the list of RUM applications permitted?")
    answer = probe.answers.get("applications", Answer())
    if answer.is_temporary:
        return _unanswered(*about, probe.reason_without("applications"))
    if answer.records is None:
        return Finding(*about, probe.summary(answer), facts=probe.as_json(answer))
    facts = {"status": 200, "applications": answer.count}
    return Finding(*about, f"yes, it names {answer.count:,}", facts=facts)


def _aggregate(probe: Probe) -> Finding:
    about = ("aggregate", "Is RUM's aggregate permitted?")
    answer = probe.answers.get("aggregate", Answer())
    if answer.is_temporary:
        return _unanswered(*about, probe.reason_without("aggregate"))
    is_fine = answer.status == 200 and isinstance(answer.parsed, dict)
    text = "yes" if is_fine else probe.summary(answer)
    return Finding(*about, text, facts=probe.as_json(answer))


def _credentials(probe: Probe) -> Finding:
    about = ("credentials", "Which kind of credential does the list endpoint accept?")
    default = probe.answers.get("default", Answer())
    facts = {"kind": probe.credentials, "status": default.status}
    if default.status == 200:
        return Finding(*about, f"{probe.credentials}: accepted", facts=facts)
    if default.status in (401, 403):
        return Finding(*about, f"{probe.credentials}: refused, {default.status}", facts=facts)
    return _unanswered(*about, f"{probe.credentials}: {probe.reason_without('default')}", facts)


def _transport(probe: Probe) -> Finding:
    about = ("transport", "Which content types, and is gzip used?")
    answered = [a for a in probe.answers.values() if a.status is not None]
    if not answered:
        return _unanswered(*about, "no answer came")
    types = sorted({media_type(a.headers.get("Content-Type", "")) for a in answered})
    zipped = sum("gzip" in a.headers.get("Content-Encoding", "").lower() for a in answered)
    facts = {"content_types": types, "gzipped": zipped, "answers": len(answered)}
    return Finding(*about, f"{', '.join(types)}; gzip in {zipped} of {len(answered)}", facts=facts)


def _members(probe: Probe) -> Finding:
    about = ("members", "Has the list answer members beside data?")
    default = probe.answers.get("default", Answer())
    if default.records is None or not isinstance(default.parsed, dict):
        return _unanswered(*about, probe.reason_without("default"))
    names, others = documented(name for name in default.parsed if name != "data")
    text = _listed(names, others) or "none"
    return Finding(*about, text, facts={"names": names, "others": others})


def _listed(names: Sequence[str], others: int) -> str:
    """Documented names, and how many others there are."""
    text = f"{many(others, 'name')} that Datadog does not document" if others else ""
    return ", ".join(filter(None, [*names, text]))


def _unpinned(probe: Probe) -> Finding:
    about = ("unpinned", "Do unpinned snapshots leave the list, or stay?")
    why = "only a change in Datadog would show it"
    if not probe.stored:
        return _unanswered(*about, f"{why}, and nothing is stored yet")
    stored = probe.stored
    seen = f"{stored['removed']:,} of {stored['rows']:,} were removed, {stored['returned']:,}"
    why += f"; of the snapshots stored here {seen} returned"
    return _unanswered(*about, why, stored)
