"""What shares a batch, what happens to those who share one with a bad request, and how a slow model is kept apart."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mainspring.serving import read_records
from mainspring.serving.batcher import BatchLimits, Job, Lane, predict_jobs, take_batch
from mainspring.serving.calls import Call
from mainspring.serving.checked import Checked
from mainspring.serving.deployment import ModelReference
from mainspring.serving.endpoint import EndpointOptions
from mainspring.serving.faults import BadRequest, ModelFailed, TooLate
from mainspring.serving.models import LoadedModel
from mainspring.serving.outputs import single
from mainspring.serving.plan import matrix_plan
from mainspring.serving.protocols import v1

PREDICT = "/v1/models/flights:predict"


def _model(predict, *, is_quick=True):
    reference = ModelReference(name="m", version="1", digest="sha256:" + "0" * 64, folder="/")
    return LoadedModel(reference=reference, platform="test", plan=matrix_plan(1), predict=predict, is_quick=is_quick)


def _job(*values, methods=("predict",), deadline=float("inf")):
    matrix = np.array([[float(value)] for value in values])
    call = Call(v1.WIRE, lambda reply: None, 0)
    return Job(call, Checked(("x",), len(values), matrix=matrix), methods, deadline)


def _double(checked):
    return single(checked.to_matrix()[:, 0] * 2)


def _double_but_13(checked):
    if (checked.to_matrix() == 13).any():
        raise ValueError("13")
    return _double(checked)


@given(st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=4), min_size=1, max_size=24))
def test_in_any_batch_only_the_requests_that_make_the_model_fail_fail(requests):
    jobs = [_job(*values) for values in requests]
    predict_jobs(_model(_double_but_13), jobs, sample=_job(1).checked)
    for job, values in zip(jobs, requests, strict=True):
        if 13 in values:
            assert isinstance(job.error, BadRequest)
        else:
            assert job.error is None
            assert job.outputs.primary.tolist() == [value * 2 for value in values]


def test_a_model_that_fails_on_what_it_predicted_before_is_at_fault_itself_and_is_not_asked_again_and_again():
    calls = []

    def fail(checked):
        calls.append(checked.rows)
        raise ValueError("broken")

    jobs = [_job(number) for number in range(100)]
    predict_jobs(_model(fail), jobs, sample=_job(1).checked)
    assert all(isinstance(job.error, ModelFailed) for job in jobs)
    assert len(calls) == 2


def test_a_lone_request_a_model_fails_on_is_the_models_fault_until_the_model_has_predicted_something():
    alone = _job(13)
    assert predict_jobs(_model(_double_but_13), [alone], None) is None
    assert isinstance(alone.error, ModelFailed)
    sample = predict_jobs(_model(_double_but_13), [_job(5)], None)
    again = _job(13)
    predict_jobs(_model(_double_but_13), [again], sample)
    assert isinstance(again.error, BadRequest)
    assert again.error.http_status == 400


def test_a_model_that_answers_the_wrong_number_of_rows_is_asked_request_by_request():
    jobs = [_job(1), _job(2), _job(3)]
    predict_jobs(_model(lambda checked: single(checked.to_matrix()[:1, 0])), jobs, None)
    assert [job.outputs.primary.tolist() for job in jobs] == [[1.0], [2.0], [3.0]]


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["predict", "predict_proba"])), max_size=30))
def test_batches_keep_the_order_the_limit_and_one_method(requests):
    waiting = deque(_job(*range(rows), methods=(method,)) for rows, method in requests)
    queued = list(waiting)
    taken = []
    while waiting:
        batch, late = take_batch(waiting, 8)
        assert late == []
        assert len({job.methods for job in batch}) == 1
        assert sum(job.checked.rows for job in batch) <= 8
        taken += batch
    for method in ("predict", "predict_proba"):
        assert [job for job in taken if job.methods == (method,)] == [j for j in queued if j.methods == (method,)]


def test_a_request_whose_time_has_passed_is_dropped_without_predicting():
    waiting = deque([_job(1, deadline=time.perf_counter() - 1), _job(2)])
    batch, late = take_batch(waiting, 8)
    assert [job.checked.rows for job in batch] == [1]
    assert [type(job.error) for job in late] == [TooLate]
    assert late[0].error.http_status == 504


def test_requests_of_one_turn_share_one_model_call_and_one_write(client, rows, tmp_path, monkeypatch):
    model = client.endpoint.require_router().variants[0].model
    batches = []
    predict = model.predict
    object.__setattr__(model, "predict", lambda checked: batches.append(checked.rows) or predict(checked))
    writes = []
    append = client.endpoint.log.append
    monkeypatch.setattr(client.endpoint.log, "append", lambda records: writes.append(len(records)) or append(records))

    async def burst():
        return await asyncio.gather(*(client.send(PREDICT, {"instances": rows}) for _ in range(7)))

    replies = client.run(burst())
    assert {reply.status for reply in replies} == {200}
    assert (batches, writes) == ([21], [7])
    assert {record.batch_rows for record in read_records(tmp_path / "predictions", 0, 2**60)} == {21}
    assert len({reply.body for reply in replies}) == 1


def test_bad_requests_of_a_turn_do_not_reach_the_batch(client, rows):
    async def burst():
        bodies = [{"instances": rows}, {"instances": [{"month": "x"}]}, {"instances": rows}, {"nothing": 1}]
        return await asyncio.gather(*(client.send(PREDICT, body) for body in bodies))

    assert [reply.status for reply in client.run(burst())] == [200, 400, 200, 400]


def test_a_slow_model_runs_in_its_own_thread_and_the_next_batch_gathers_meanwhile():
    threads, batches = set(), []

    def slow(checked):
        threads.add(threading.current_thread().name)
        batches.append(checked.rows)
        time.sleep(0.3)
        return _double(checked)

    async def run():
        done = []
        lane = Lane(_model(slow, is_quick=False), BatchLimits(), done.extend)
        lane.submit(_job(1))
        longest = 0.0
        for number in range(40):
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - started)
            lane.submit(_job(number))
        while not lane.is_idle:
            await asyncio.sleep(0.005)
        return done, longest

    done, longest = asyncio.run(run())
    assert len(done) == 41
    assert all(job.error is None for job in done)
    assert len(batches) <= 6
    assert threads == {"model-m"}
    assert longest < 0.25


def test_a_call_that_never_returns_is_answered_for_and_leaves_the_lane_open():
    stuck = threading.Event()

    def sometimes(checked):
        if (checked.to_matrix() == 13).any():
            stuck.wait(5)
        return _double(checked)

    async def run():
        done = []
        lane = Lane(_model(sometimes, is_quick=False), BatchLimits(seconds=0.1), done.extend)
        lane.submit(_job(13))
        await asyncio.sleep(0.02)
        lane.submit(_job(1))
        while len(done) < 2:
            await asyncio.sleep(0.01)
        was_stuck = lane.stuck
        stuck.set()
        while lane.stuck:
            await asyncio.sleep(0.01)
        return done, was_stuck

    (late, good), was_stuck = asyncio.run(run())
    assert isinstance(late.error, TooLate)
    assert good.outputs.primary.tolist() == [2.0]
    assert was_stuck == 1


def test_what_would_wait_behind_too_many_is_refused_before_it_is_parsed(make_client, rows):
    client = make_client(settings=EndpointOptions(limits=BatchLimits(max_waiting=3)))

    async def burst():
        return await asyncio.gather(*(client.send(PREDICT, {"instances": rows}) for _ in range(10)))

    replies = client.run(burst())
    assert sorted(reply.status for reply in replies) == [200] * 3 + [503] * 7
    refused = next(reply for reply in replies if reply.status == 503)
    assert (b"retry-after", b"1") in refused.headers
    assert b"mainspring_overloaded_total" in client.get("/metrics").body


def test_a_deadline_may_come_from_the_client(client, rows):
    assert client.post(PREDICT, {"instances": rows}, x_request_timeout_ms="60000").status == 200
    for bad in ("0", "-1", "soon", "1.5", "99999999999999"):
        reply = client.post(PREDICT, {"instances": rows}, x_request_timeout_ms=bad)
        assert (reply.status, "error" in msgspec.json.decode(reply.body)) == (400, True)


def test_an_id_that_is_used_again_gets_an_ending_of_ours(client, rows, tmp_path):
    replies = [client.post(PREDICT, {"instances": rows}, x_request_id="mine") for _ in range(3)]
    ids = [dict(reply.headers)[b"x-request-id"].decode() for reply in replies]
    assert ids[0] == "mine"
    assert len(set(ids)) == 3
    assert all(one.startswith("mine-") for one in ids[1:])
    assert [record.id for record in read_records(tmp_path / "predictions", 0, 2**60)] == ids


def test_a_trace_is_written_down(client, rows, tmp_path):
    client.post(PREDICT, {"instances": rows}, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    client.post(PREDICT, {"instances": rows}, traceparent="nonsense")
    records = list(read_records(tmp_path / "predictions", 0, 2**60))
    assert [record.trace_id for record in records] == ["0af7651916cd43dd8448eb211c80319c", ""]
    assert all(record.predict_ms > 0 and record.queue_ms >= 0 for record in records)


def test_a_client_may_ask_for_a_variant_and_a_column_can_keep_it(make_client, rows):
    client = make_client(
        settings=EndpointOptions(split_field="distance"), champion=(50, False, "1"), canary=(50, False, "2")
    )

    def variant(document, **headers):
        return dict(client.post(PREDICT, document, **headers).headers).get(b"x-variant")

    assert variant({"instances": rows}, x_variant="canary") == b"canary"
    assert variant({"instances": rows}, x_amzn_sagemaker_target_variant="champion") == b"champion"
    assert client.post(PREDICT, {"instances": rows}, x_variant="other").status == 404
    same = {variant({"instances": [rows[0] | {"distance": 7.5}]}) for _ in range(20)}
    others = {variant({"instances": [rows[0] | {"distance": float(n)}]}) for n in range(40)}
    assert (len(same), len(others)) == (1, 2)
