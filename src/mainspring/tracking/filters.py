"""MLflow's filter and order grammar: text into comparisons, comparisons into SQL conditions.

``metrics.`` / ``params.`` / ``tags.`` / ``attributes.`` (or nothing) / ``datasets.``, keys quoted with backticks or
double quotes, joined by AND only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from mainspring.core import InvalidInput

_KINDS = {
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("parameter", "parameters", "param", "params"), "param"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
    **dict.fromkeys(("dataset", "datasets"), "dataset"),
}
_KIND_NAMES = {"metric": "metric", "param": "parameter", "tag": "tag", "attribute": "attribute", "dataset": "dataset"}
_SPACED_NAMES = ("run name",)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>'(?:[^']|'')*')
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<name>(?:[A-Za-z_]\w*\s*\.\s*)?(?:`[^`]*`|"[^"]*")|[\w][\w.\-/]*)
    | (?P<operator><=|>=|!=|<>|=|<|>)
    | (?P<mark>[(),])
    )""",
    re.VERBOSE,
)
_NUMERIC = ("=", "!=", "<", "<=", ">", ">=")
_TEXT = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL")
MAX_LENGTH = 20_000


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One clause: ``metrics.loss < 0.5``. ``kind`` is metric, param, tag, attribute or dataset."""

    kind: str
    key: str
    operator: str
    value: str | float | tuple[str, ...] | None


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str

    def means(self, word: str) -> bool:
        return self.kind in ("name", "mark") and self.text.upper() == word


def parse_filter(text: str) -> list[Comparison]:
    """Parse a filter; raise `InvalidInput` that names the clause."""
    if not text.strip():
        return []
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"The filter has {len(text)} characters.", hint=f"At most {MAX_LENGTH} are allowed.")
    tokens = list(_tokenize(text))
    comparisons = []
    while True:
        comparisons.append(_take_comparison(tokens))
        if tokens and not tokens[0].means("AND"):
            raise _bad_clause(tokens[0].text, "Join comparisons with AND; OR is not there.")
        while tokens and tokens[0].means("AND"):
            tokens.pop(0)
        if not tokens:
            return comparisons


def compare(
    connection: sa.Connection, column: sa.ColumnElement[Any], comparison: Comparison, *, numeric: bool
) -> sa.ColumnElement[bool]:
    """Compare a column as the clause says."""
    operator, value = comparison.operator, comparison.value
    if operator not in (_NUMERIC if numeric else _TEXT):
        raise _bad_comparator(comparison.kind, comparison.key, operator, _NUMERIC if numeric else _TEXT)
    if operator.startswith("IS "):
        return column.is_(None) if operator == "IS NULL" else column.is_not(None)
    if operator in ("IN", "NOT IN"):
        values = list(value) if isinstance(value, tuple) else []
        return column.in_(values) if operator == "IN" else column.not_in(values)
    if numeric != isinstance(value, float):
        raise _bad_value(comparison, numeric=numeric)
    if operator == "LIKE":
        return _like(connection, column, str(value))
    if operator == "ILIKE":
        return column.ilike(str(value), escape=_no_escape(connection))
    by_operator = {
        "=": column == value, "!=": column != value, "<": column < value,
        "<=": column <= value, ">": column > value, ">=": column >= value,
    }  # fmt: skip
    return by_operator[operator]


def compare_tag(
    connection: sa.Connection,
    comparison: Comparison,
    columns: ReadOnlyColumnCollection[str, sa.Column[Any]],
    belongs: sa.ColumnElement[bool],
    *,
    absent_differs: bool = False,
) -> sa.ColumnElement[bool]:
    """Compare the value under the clause's key in a table of keys and values.

    With ``absent_differs``, something without the key counts as ``!=``, as in MLflow's registry.
    """
    mine = sa.and_(belongs, columns["key"] == comparison.key)
    if comparison.operator == "IS NULL":
        return ~sa.exists().where(mine)
    if comparison.operator == "IS NOT NULL":
        return sa.exists().where(mine)
    if comparison.operator in ("IN", "NOT IN"):
        raise _bad_comparator(comparison.kind, comparison.key, comparison.operator, _TEXT)
    if absent_differs and comparison.operator == "!=":
        same = msgspec.structs.replace(comparison, operator="=")
        return ~sa.exists().where(mine, compare(connection, columns["value"], same, numeric=False))
    return sa.exists().where(mine, compare(connection, columns["value"], comparison, numeric=False))


def parse_order(clause: str) -> tuple[str, str, bool]:
    """Parse ``metrics.loss DESC`` into kind, key and whether it ascends."""
    match = re.fullmatch(r"\s*(.+?)(?:\s+(asc|desc))?\s*", clause[:1000], re.IGNORECASE | re.DOTALL)
    if match is None:
        raise _bad_order(clause)
    written = match[1].strip()
    kind, key = _read_identifier(written)
    is_quoted = not written.endswith(key)
    if not is_quoted and re.search(r"[\s,]", key) and key.lower() not in _SPACED_NAMES:
        if match[2] is None and len(key.split()) == 2 and "," not in key:
            raise InvalidInput(
                f"Invalid ordering key in order_by clause '{clause[:200]}'.",
                hint="Only ASC or DESC follow; quote a key: metrics.`a b` DESC",
            )
        raise _bad_order(clause)
    return kind, key, (match[2] or "asc").lower() == "asc"


def check_orders(clauses: Sequence[str], same: Mapping[str, str] | None = None) -> None:
    """Refuse to order by the same thing twice, as MLflow's registry does; ``same`` maps a key to its other name."""
    keys = [parse_order(clause)[1] for clause in clauses]
    if len({(same or {}).get(key, key) for key in keys}) < len(keys):
        raise InvalidInput(f"`order_by` contains duplicate fields: {list(clauses)!s:.500}")


def order_clause(clause: str, columns: Mapping[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
    """Turn an order clause on an attribute into SQL."""
    kind, key, ascends = parse_order(clause)
    if kind != "attribute":
        raise InvalidInput(f"Invalid order_by entity: {kind}")
    if key not in columns:
        known = ", ".join(columns)
        raise InvalidInput(f"Invalid attribute key '{key[:100]}' specified.", hint=f"Valid keys are {known}")
    return columns[key].asc() if ascends else columns[key].desc()


def _bad_clause(clause: str, hint: str = "Write for example: metrics.loss < 0.5") -> InvalidInput:
    return InvalidInput(f"Invalid clause(s) in filter string: {clause[:200]!r}.", hint=hint)


def _bad_order(clause: str) -> InvalidInput:
    return InvalidInput(
        f"Invalid order_by clause '{clause[:200]}'. Could not be parsed.", hint="Write for example: metrics.loss DESC"
    )


def _bad_list(expected: str) -> InvalidInput:
    return InvalidInput(f"While parsing a list in the query, expected {expected}", hint="Write: IN ('a', 'b')")


def _bad_comparator(kind: str, key: str, operator: str, known: tuple[str, ...]) -> InvalidInput:
    return InvalidInput(f"Invalid comparator '{operator}' not one of {', '.join(known)} for {kind} '{key[:100]}'")


def _bad_value(comparison: Comparison, *, numeric: bool) -> InvalidInput:
    kind, value = _KIND_NAMES[comparison.kind], comparison.value
    if numeric:
        which = f"numeric attribute: {comparison.key[:100]}" if kind == "attribute" else kind
        return InvalidInput(f"Expected numeric value type for {which}. Found {str(value)[:100]!r}")
    return InvalidInput(f"Expected a quoted string value for {kind} (e.g. 'my-value'). Got value {value}")


def _tokenize(text: str) -> Iterator[_Token]:
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _bad_clause(text[position:])
        yield _Token(match.lastgroup, match[match.lastgroup])
        position = match.end()


def _take_comparison(tokens: list[_Token]) -> Comparison:
    if len(tokens) < 3 or tokens[0].kind != "name":
        raise _bad_clause(" ".join(token.text for token in tokens[:3]))
    kind, key = _read_identifier(tokens.pop(0).text)
    operator = _take_operator(tokens)
    value = None if operator.startswith("IS ") else _take_value(tokens, operator)
    _check_operator(kind, key, operator)
    return Comparison(kind=kind, key=key, operator=operator, value=value)


def _check_operator(kind: str, key: str, operator: str) -> None:
    if operator.startswith("IS ") and kind not in ("param", "tag"):
        raise InvalidInput(f"IS NULL / IS NOT NULL is only supported for tags and params, not for {kind} '{key}'.")
    if operator in ("IN", "NOT IN") and kind not in ("attribute", "dataset"):
        raise _bad_comparator(kind, key, operator, _TEXT[:4])


def _take_operator(tokens: list[_Token]) -> str:
    first = tokens.pop(0)
    if first.kind == "operator":
        return "!=" if first.text == "<>" else first.text
    words = first.text.upper()
    if words in ("NOT", "IS") and tokens:
        words += " " + tokens.pop(0).text.upper()
    if words == "IS NOT" and tokens:
        words += " " + tokens.pop(0).text.upper()
    if words not in _TEXT:
        raise InvalidInput(
            f"Invalid comparator {words[:50]!r}.", hint=f"Use one of {', '.join((*_NUMERIC, *_TEXT[2:]))}."
        )
    return words


def _take_value(tokens: list[_Token], operator: str) -> str | float | tuple[str, ...]:
    if not tokens:
        raise _bad_clause(operator, "There is nothing to compare with.")
    if operator in ("IN", "NOT IN"):
        return _take_list(tokens)
    token = tokens.pop(0)
    if token.kind == "number":
        number = float(token.text)
        return number if math.isfinite(number) else math.copysign(1.7976931348623157e308, number)
    return _unquote_value(token)


def _take_list(tokens: list[_Token]) -> tuple[str, ...]:
    values: list[str] = []
    if not tokens.pop(0).means("("):
        raise _bad_clause("IN", "Write: IN ('a', 'b')")
    if tokens and tokens[0].means(")"):
        raise _bad_list("a non-empty list of string values, but got empty list")
    while tokens:
        if tokens[0].means(","):
            raise _bad_list("a non-empty list of string values, but got ill-formed list.")
        if tokens[0].kind != "string" and not tokens[0].text.startswith('"'):
            found = tokens[0].text[:100]
            raise _bad_list(f"string value, punctuation, or whitespace, but got different type in list: {found}")
        values.append(_unquote_value(tokens.pop(0)))
        mark = tokens.pop(0) if tokens else None
        if mark is not None and mark.means(",") and tokens and tokens[0].means(")"):  # Python's tuple of one
            mark = tokens.pop(0)
        if mark is not None and mark.means(")"):
            return tuple(values)
        if mark is None or not mark.means(","):
            break
    raise _bad_clause("IN", "The list is not closed.")


def _unquote_value(token: _Token) -> str:
    text = token.text
    if token.kind == "string":
        return text[1:-1].replace("''", "'")
    if token.kind == "name" and len(text) > 1 and text[0] == '"' == text[-1]:
        return text[1:-1]
    if text.lower() in ("true", "false"):
        raise _bad_clause(text)
    raise InvalidInput(
        "Parameter value is either not quoted or unidentified quote types used for string value "
        f"{text[:100]}. Use either single or double quotes."
    )


def _read_identifier(text: str) -> tuple[str, str]:
    prefix, dot, key = text.partition(".")
    if not dot or text[0] in '`"':
        return "attribute", _unquote_key(text)
    kind = _KINDS.get(prefix.strip())
    if kind is None:
        raise InvalidInput(f"Invalid entity type '{prefix[:100]}'. Valid values are {list(_KIND_NAMES.values())}")
    return kind, _unquote_key(key.strip())


def _unquote_key(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] in "`\"'" and text[-1] == text[0] else text


def _like(connection: sa.Connection, column: sa.ColumnElement[Any], pattern: str) -> sa.ColumnElement[bool]:
    """Compare with LIKE and respect case: SQLite's own LIKE does not, its GLOB does."""
    if connection.dialect.name != "sqlite":
        return column.like(pattern, escape=_no_escape(connection))
    glob = "".join(f"[{mark}]" if mark in "*?[" else {"%": "*", "_": "?"}.get(mark, mark) for mark in pattern)
    return column.op("GLOB", is_comparison=True)(glob)


def _no_escape(connection: sa.Connection) -> str | None:
    """Return what makes a backslash in a pattern a plain character: SQLite needs nothing for that."""
    return None if connection.dialect.name == "sqlite" else ""
