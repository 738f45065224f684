"""Lists as the API gives them: filtered, sorted by a field, in pages; without an order the oldest come first.

A page's token names the first item of the next page by its sorted value and its id, with the filter and the order it
belongs to: what is made or deleted meanwhile lets no item appear twice, and a token fits no other list.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Generic

import msgspec

from mainspring.api.kfp.filters import Field, Item, Value, find_field, read_filter
from mainspring.api.kfp.wire import Call
from mainspring.core import InvalidInput

_LARGEST_PAGE = 200
_USUAL_PAGE = 20


class Listing(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """What can be asked of the lists of one kind of thing."""

    kind: str
    fields: Mapping[str, Field[Item]]
    id: Callable[[Item], str]


def usual_fields(
    of: type[Item],
    kind: str,
    *,
    id: Callable[[Item], str],
    name: Callable[[Item], str],
    description: Callable[[Item], str],
    created_at: Callable[[Item], int],
) -> dict[str, Field[Item]]:
    """Return the fields every kind of thing has, under all names the API knows them by; there is one namespace.

    ``of`` is the type of the items.
    """
    return {
        f"{kind}_id": Field(read=id),
        "id": Field(read=id),
        "display_name": Field(read=name),
        "name": Field(read=name),
        "description": Field(read=description),
        "created_at": Field(read=created_at, kind="time"),
        "namespace": Field(read=lambda _: ""),
    }


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """One page, the token of the next (empty after the last), and how many items the whole list has."""

    items: tuple[Item, ...]
    next_token: str
    total: int


class _Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a page begins, and in which list."""

    kind: str
    order: str
    filter: str
    value: Value
    id: str


def select_page(listing: Listing[Item], call: Call, items: Iterable[Item]) -> Page[Item]:
    """Return the page a call asks for; raise `InvalidInput` that names what of its filter, order or page is wrong."""
    token, size = _read_token(listing, call), _read_size(call)
    order = token.order if token else call.query.get("sort_by", "").strip()
    text = token.filter if token else call.query.get("filter", "")
    wanted = read_filter(listing.fields, text)
    field, is_descending = _read_order(listing, order)

    def place(item: Item) -> tuple[Value, str]:
        return field.value(item), listing.id(item)

    found = sorted(filter(wanted, items), key=place, reverse=is_descending)
    start = 0
    if token is not None:
        first = (token.value, token.id)
        passed = (place(item) > first if is_descending else place(item) < first for item in found)
        start = sum(passed)
    next_token = ""
    if start + size < len(found):
        value, id = place(found[start + size])
        next_token = _write_token(_Token(kind=listing.kind, order=order, filter=text, value=value, id=id))
    return Page(items=tuple(found[start : start + size]), next_token=next_token, total=len(found))


def _read_order(listing: Listing[Item], text: str) -> tuple[Field[Item], bool]:
    words = text.lower().split() or ["created_at"]
    if words[1:] not in ([], ["asc"], ["desc"]):
        raise InvalidInput(f"The order {text!r} cannot be read.", hint="Write FIELD, FIELD asc or FIELD desc.")
    return find_field(listing.fields, words[0], "sorted"), words[1:] == ["desc"]


def _read_size(call: Call) -> int:
    text = call.query.get("page_size") or "0"
    try:
        size = int(text)
    except ValueError as error:
        raise InvalidInput(f"The page_size is {text[:40]!r}, not a whole number.") from error
    if size < 0:
        raise InvalidInput(f"The page_size is {size}; it cannot be negative.", hint="Leave it out for 20.")
    return min(size or _USUAL_PAGE, _LARGEST_PAGE)


def _read_token(listing: Listing[Item], call: Call) -> _Token | None:
    text = call.query.get("page_token", "")
    if not text:
        return None
    hint = "Begin with the first page."
    try:
        token = msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidInput("The page_token is none of this server.", hint=hint) from error
    asked = (call.query.get("sort_by", "").strip() or token.order, call.query.get("filter") or token.filter)
    if token.kind != listing.kind or asked != (token.order, token.filter):
        raise InvalidInput("The page_token belongs to a list with another filter or order.", hint=hint)
    return token


def _write_token(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()
