"""Group commit: what is answered is committed, and a job that fails harms nobody else's."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core import InvalidInput
from mainspring.db import Database, Job, Session, Writer, driver_errors


def insert(name: str):
    def work(session: Session) -> str:
        session.run("INSERT INTO metric_name (name) VALUES (?)", (name,))
        if name.startswith("bad"):
            raise InvalidInput(f"{name} is refused after it was written")
        return name

    return work


def submit(writer: Writer, work) -> Future:
    future: Future = Future()
    writer.submit(
        Job(work, lambda result, error: future.set_result(result) if error is None else future.set_exception(error))
    )
    return future


def names(database: Database) -> set[str]:
    with database.session() as session:
        return {row[0] for row in session.rows("SELECT name FROM metric_name")}


@pytest.fixture
def writer(database: Database):
    made = Writer(database)
    yield made
    made.close()


class Gate:
    """Holds the writer in a job, so that the jobs after it wait and become one group."""

    def __init__(self, writer: Writer) -> None:
        self._entered, self._open = threading.Event(), threading.Event()
        self.answer = submit(writer, self._work)
        assert self._entered.wait(10)

    def _work(self, _: Session) -> None:
        self._entered.set()
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(["good", "bad", "same", "broken"]), min_size=1, max_size=12))
def test_in_a_group_each_job_ends_as_it_would_alone(database: Database, kinds: list[str]) -> None:
    with database.write_session() as session:
        session.run("DELETE FROM metric_name")
    writer, gate, answers = Writer(database), None, []
    gate = Gate(writer)
    for number, kind in enumerate(kinds):
        name = {"same": "same", "broken": ""}.get(kind, f"{kind}{number}")
        work = (lambda session: session.run("INSERT INTO nowhere VALUES (1)")) if kind == "broken" else insert(name)
        answers.append((kind, name, submit(writer, work)))
    gate.open()
    writer.close()
    expected: set[str] = set()
    for kind, name, answer in answers:
        if kind == "good" or (kind == "same" and name not in expected):
            assert answer.result(0) == name
            expected.add(name)
        elif kind == "bad":
            assert isinstance(answer.exception(0), InvalidInput)
        else:
            assert isinstance(answer.exception(0), driver_errors())
    assert names(database) == expected


def test_jobs_that_wait_share_a_transaction_and_are_answered_after_it(database: Database, writer: Writer) -> None:
    gate = Gate(writer)
    seen: list[int] = []

    def count(session: Session) -> None:
        seen.append(len(session.rows("SELECT name FROM metric_name")))

    answers = [submit(writer, work) for work in (insert("a"), count, insert("b"), count)]
    assert not any(answer.done() for answer in answers)
    gate.open()
    assert [answer.result(10) for answer in answers] == ["a", None, "b", None]
    assert seen == [1, 2]
    assert names(database) == {"a", "b"}


def test_close_commits_what_is_queued(database: Database) -> None:
    writer = Writer(database)
    gate = Gate(writer)
    answers = [submit(writer, insert(f"m{number}")) for number in range(600)]
    gate.open()
    writer.close()
    assert all(answer.done() for answer in answers)
    assert len(names(database)) == 600


def test_a_writer_that_was_never_used_closes() -> None:
    Writer(Database("", None)).close()


def test_another_process_that_writes_is_waited_for(sqlite_database: Database) -> None:
    writer = Writer(sqlite_database)
    with sqlite_database.exclusive():
        answer = submit(writer, insert("later"))
        assert not threading.Event().wait(0.1)
        assert not answer.done()
    assert answer.result(10) == "later"
    writer.close()


def test_a_commit_that_fails_is_told_to_all_and_nothing_is_repeated(sqlite_database: Database) -> None:
    writer = Writer(sqlite_database)
    gate, runs = Gate(writer), []

    def defer(session: Session) -> None:
        runs.append(1)
        session.run("PRAGMA defer_foreign_keys=ON")
        session.run("INSERT INTO metric_history (run, metric, timestamp, step, value) VALUES (77, 77, 0, 0, 0.0)")

    answers = [submit(writer, work) for work in (insert("a"), defer)]
    gate.open()
    assert all(isinstance(answer.exception(10), driver_errors()) for answer in answers)
    assert runs == [1]
    assert names(sqlite_database) == set()
    assert submit(writer, insert("b")).result(10) == "b"
    writer.close()


@pytest.mark.postgresql
def test_a_connection_that_was_cut_is_opened_again(request: pytest.FixtureRequest, database: Database) -> None:
    if database.dialect != "postgresql":
        pytest.skip("SQLite has no connections to cut")
    writer = Writer(database)
    assert submit(writer, insert("before")).result(10) == "before"
    with database.session() as session:
        session.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert submit(writer, insert("after")).result(10) == "after"
    writer.close()


def test_a_power_cut_is_survived_unless_the_address_says_otherwise(tmp_path) -> None:
    from mainspring.db import connect

    for options, level in (("", 2), ("?synchronous=full", 2), ("?synchronous=normal", 1)):
        database = connect(f"sqlite:///{tmp_path / 'x.db'}{options}")
        with database.session() as session:
            assert session.row("PRAGMA synchronous") == (level,)
        database.close()
    with pytest.raises(InvalidInput, match="options"):
        connect(f"sqlite:///{tmp_path / 'x.db'}?synchronous=off")
