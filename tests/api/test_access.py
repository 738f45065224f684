from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring import registry
from mainspring.api.access import ROLES, Principal, action_of, authorize, find_principal, parse_tokens
from mainspring.core import InvalidInput
from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import list_events, open_store

RUNS, HOOKS = "/api/2.0/mlflow/runs/create", "/api/2.0/mlflow/webhooks/1"


@given(role=st.text(), action=st.text(), resource=st.text())
def test_what_no_rule_allows_is_denied(role: str, action: str, resource: str) -> None:
    allowed = authorize(Principal(name="x", role=role), action, resource)
    assert not allowed or (role in ROLES and action in ("read", "write", "administer") and resource.startswith("/"))
    assert not authorize(None, action, resource)


def test_roles_are_steps() -> None:
    viewer, editor, admin = (Principal(name="x", role=role) for role in ("viewer", "editor", "admin"))
    for path, action, allowed in (
        (RUNS, "read", (True, True, True)),
        (RUNS, "write", (False, True, True)),
        (RUNS, "administer", (False, False, True)),
        (HOOKS, "read", (True, True, True)),
        (HOOKS, "write", (False, False, True)),
        ("/_test/reset", "write", (False, False, True)),
        (RUNS, "unknown", (False, False, False)),
    ):
        assert tuple(authorize(one, action, path) for one in (viewer, editor, admin)) == allowed, (path, action)


def test_a_search_reads_although_it_posts() -> None:
    assert action_of("POST", "/api/2.0/mlflow/runs/search") == "read"
    assert action_of("POST", "/search") == "write"
    assert [action_of(method, RUNS) for method in ("GET", "HEAD", "POST", "PATCH", "TRACE")] == [
        "read", "read", "write", "write", "unknown",
    ]  # fmt: skip


def test_tokens_are_read_with_their_roles() -> None:
    grants = parse_tokens("# people\nada editor ada-s3cret\n\nlonely-token\n")
    assert [(grant.principal.name, grant.principal.role) for grant in grants] == [("ada", "editor"), ("", "admin")]
    assert find_principal(grants, b"ada-s3cret") == grants[0].principal
    assert find_principal(grants, b"ada-s3cre") is None
    for wrong in ("ada boss ada-s3cret", "a b", "short"):
        with pytest.raises(InvalidInput):
            parse_tokens(wrong)


def test_a_viewer_reads_and_nothing_more(own_server) -> None:
    own_server.flags["token"] = "ada viewer ada-s3cret\nbob editor bob-s3cret"
    own_server.start()
    ada, bob = {"Authorization": "Bearer ada-s3cret"}, {"Authorization": "Bearer bob-s3cret"}
    path = "/api/2.0/mlflow/experiments/"
    assert own_server.call("POST", path + "search", {"max_results": 1}, **ada)[0] == 200
    status, _, answer = own_server.call("POST", path + "create", {"name": "x"}, **ada)
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
    assert own_server.call("POST", path + "create", {"name": "x"}, **bob)[0] == 200
    hook = {"name": "w", "url": "https://example.com", "events": [{"entity": "PROMPT", "action": "CREATED"}]}
    assert own_server.call("POST", "/api/2.0/mlflow/webhooks", hook, **bob)[0] == 403


def test_what_somebody_does_is_kept_under_the_name_of_their_token(own_server) -> None:
    own_server.flags["token"] = "ada editor ada-s3cret\nnameless-token"
    own_server.start()
    ada, nobody = {"Authorization": "Bearer ada-s3cret"}, {"Authorization": "Bearer nameless-token"}
    path = "/api/2.0/mlflow/"
    assert own_server.call("POST", path + "registered-models/create", {"name": "m"}, **ada)[0] == 200
    for _ in range(2):
        version = {"name": "m", "source": "s3://bucket/x"}
        assert own_server.call("POST", path + "model-versions/create", version, **ada)[0] == 200
    for version, who in (("1", ada), ("2", nobody)):
        alias = {"name": "m", "alias": "champion", "version": version}
        assert own_server.call("POST", path + "registered-models/alias", alias, **who)[0] == 200
    stage = {"name": "m", "version": "1", "stage": "Staging"}
    assert own_server.call("POST", path + "model-versions/transition-stage", stage, **ada)[0] == 200
    store = open_store(resolve_settings(own_server.folder), Project(project="test"))
    with store.database.read() as connection:
        assert [move.actor for move in registry.alias_history(connection, "m")] == ["tester", "ada"]
        assert registry.get_version(connection, "m", "1").user == "ada"
        (moved,) = (one for one in list_events(connection) if one.type == "model.stage.moved")
        assert moved.data["actor"] == "ada"
    store.close()
