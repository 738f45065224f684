from __future__ import annotations

import pytest

from mainspring import lineage, registry
from mainspring.core import InvalidInput, NotFound


@pytest.fixture
def two_versions(shelf):
    for data in (b"one", b"two"):
        _, model_id = shelf.log_model(data)
        shelf.register(f"models:/{model_id}")
    return shelf


def move(shelf, version: str, reason: str = "better", cause: str | None = None) -> str | None:
    shelf.clock.advance(1)
    with shelf.database.write() as connection:
        return registry.set_alias(
            connection, shelf.clock, name="flights-delay", alias="champion", version=version, actor="ada",
            reason=reason, cause=cause,
        )  # fmt: skip


def test_moves_keep_from_to_when_who_why_and_cause(two_versions) -> None:
    first = move(two_versions, "1", "first")
    second = move(two_versions, "2", "better", cause=first)
    with two_versions.database.read() as connection:
        newest, oldest = registry.alias_history(connection, "flights-delay")
        event = lineage.get_event(connection, second)
    assert (oldest.from_version, oldest.to_version, oldest.reason) == (None, "1", "first")
    assert (newest.from_version, newest.to_version, newest.actor, newest.cause) == ("1", "2", "ada", first)
    assert newest.moved_at == two_versions.clock.now_ms()
    assert (event.type, event.cause, event.data["from"], event.data["to"]) == ("model.alias.moved", first, "1", "2")


def test_setting_an_alias_where_it_is_changes_nothing(two_versions) -> None:
    move(two_versions, "1")
    assert move(two_versions, "1") is None
    with two_versions.database.read() as connection:
        assert len(registry.alias_history(connection, "flights-delay")) == 1


def test_uris_resolve_to_versions(two_versions) -> None:
    move(two_versions, "1")
    with two_versions.database.read() as connection:
        for uri, version in {
            "models:/flights-delay@champion": "1",
            "models:/flights-delay/1": "1",
            "models:/flights-delay/latest": "2",
            "flights-delay": "2",
        }.items():
            assert registry.resolve(connection, uri).version == version
        assert registry.resolve_alias(connection, "flights-delay", "champion").aliases == ["champion"]
        assert registry.resolve_alias(connection, "flights-delay", "nobody") is None
        for uri in ("models:/nobody@champion", "models:/flights-delay@nobody", "models:/flights-delay/9", "nobody"):
            with pytest.raises(NotFound):
                registry.resolve(connection, uri)


def test_removed_alias_leaves_its_history(two_versions) -> None:
    move(two_versions, "2")
    with two_versions.database.write() as connection:
        registry.delete_alias(
            connection, two_versions.clock, name="flights-delay", alias="champion", actor="ada", reason="retired"
        )
        assert registry.resolve_alias(connection, "flights-delay", "champion") is None
        assert {move.to_version for move in registry.alias_history(connection, "flights-delay")} == {"2", None}


UNUSABLE_ALIASES = ["latest", "v1", "V12", "a b", "a/b", "", "x" * 256]


def test_unusable_alias_is_refused(two_versions) -> None:
    for alias in UNUSABLE_ALIASES:
        with pytest.raises(InvalidInput), two_versions.database.write() as connection:
            registry.set_alias(
                connection, two_versions.clock, name="flights-delay", alias=alias, version="1", actor="a", reason=""
            )
