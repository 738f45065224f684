"""One logged prediction: the request, the answer, and what every variant said."""

from __future__ import annotations

import msgspec

from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import to
from mainspring.core import NotFound
from mainspring.governance import Finding, explain_prediction
from mainspring.lineage import Store
from mainspring.serving import PredictionRecord, find_records

ROWS = 50
"""How many rows of a request are shown; said on the page when there are more."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant said about one row, or would have said (``shadow``)."""

    variant: str
    version: str
    shadow: bool
    output: object


class PredictedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a request: its inputs and what each variant said."""

    row: int
    id: str
    inputs: dict[str, object]
    scores: list[Scored]


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it was logged; ``rows`` has the one that was asked for, or the first ones."""

    head: Head
    id: str
    record: PredictionRecord
    model_href: str
    variants: list[PredictionRecord]
    rows: list[PredictedRow]
    total: int


def show_prediction(store: Store, id: str) -> Prediction:
    """Show a request (``ID``) or one row of it (``ID:ROW``) from the logs of the endpoints; raise `NotFound`."""
    request_id, _, row = id.partition(":")
    records = find_prediction(store, request_id)
    if not records:
        raise NotFound(f"There is no logged prediction {id}.", hint="Look for its id in the answer's x-request-id.")
    answered = next((record for record in records if not record.shadow), records[0])
    wanted = [int(row)] if row.isascii() and row.isdigit() else list(range(min(answered.rows, ROWS)))
    if any(index >= answered.rows for index in wanted):
        raise NotFound(f"Request {request_id} has {answered.rows} rows, counted from 0; there is no row {row}.")
    return Prediction(
        head=head_of(
            store.clock,
            f"Prediction {id}",
            "endpoints",
            command=f"mainspring why {request_id}:{wanted[0] if wanted else 0}",
            python=f"find_records(settings.endpoint_folder({answered.endpoint!r}) / 'predictions', {request_id!r})",
        ),
        id=id,
        record=msgspec.structs.replace(answered, inputs=None, outputs=None),
        model_href=to("models", answered.model, answered.version),
        variants=[msgspec.structs.replace(record, inputs=None, outputs=None) for record in records],
        rows=[_row(index, answered, records) for index in wanted],
        total=answered.rows,
    )


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """The chain behind a prediction, every digest in it hashed again."""

    head: Head
    id: str
    chain: Finding
    checked: int
    broken: int


def explain(store: Store, id: str) -> Why:
    """Walk from a prediction to the version, run, tasks, data and code behind it; raise `NotFound`."""
    chain = explain_prediction(store, id)
    verdicts = [finding.verified for finding in chain.walk() if finding.verified is not None]
    return Why(
        head=head_of(
            store.clock,
            f"Why {id}",
            "endpoints",
            command=f"mainspring why {id}",
            python=f"explain_prediction(store, {id!r})",
        ),
        id=id,
        chain=chain,
        checked=len(verdicts),
        broken=verdicts.count(False),
    )


def find_prediction(store: Store, request_id: str) -> list[PredictionRecord]:
    """Return the records of a request from whichever endpoint has them."""
    folders = sorted((store.settings.home / "endpoints").glob("*/predictions"))
    return next((records for folder in folders if (records := find_records(folder, request_id))), [])


def _row(index: int, answered: PredictionRecord, records: list[PredictionRecord]) -> PredictedRow:
    return PredictedRow(
        row=index,
        id=f"{answered.id}:{index}",
        inputs={name: values[index] for name, values in (answered.inputs or {}).items() if index < len(values)},
        scores=[
            Scored(variant=record.variant, version=record.version, shadow=record.shadow, output=record.outputs[index])
            for record in records
            if record.outputs is not None and index < len(record.outputs)
        ],
    )
