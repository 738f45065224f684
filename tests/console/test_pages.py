"""Every page as HTML and as JSON: the same view, escaped, with the headers that keep a browser safe."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from mainspring.console import routes
from mainspring.console.charts import draw_chart
from mainspring.console.pages import PAGES
from mainspring.console.rendering import static_files
from mainspring.console.responses import HEADERS
from mainspring.console.views.events import show_events
from mainspring.console.views.monitors import show_monitor
from mainspring.console.views.overview import show_overview
from mainspring.console.views.runs import show_run, show_runs
from mainspring.console.views.tracking import BANDS, show_tracking_run
from mainspring.lineage import Store, list_events, record_event
from mainspring.monitoring import list_windows
from mainspring.tracking import Metric, create_experiment, create_run, log_batch, search_experiments, search_runs

HOSTILE = '<img src=x onerror="alert(1)">'
RUN = "01RUN000000000000000000003"


def _client(store: Store) -> TestClient:
    return TestClient(Starlette(routes=routes(store)), headers={"Accept": "text/html"}, follow_redirects=False)


@pytest.fixture(scope="module")
def client(store: Store) -> TestClient:
    return _client(store)


@pytest.fixture(scope="module")
def addresses(store: Store) -> list[str]:
    """One address of every page."""
    with store.database.read() as connection:
        window = list_windows(connection, "flights-delay")[3].id
        cause = list_events(connection, types=("gate.",))[0].id
        experiment = search_experiments(connection).experiments[0].id
        run = search_runs(connection, [experiment]).runs[0].id
    return [
        "/", "/runs", f"/runs/{RUN}", f"/runs/{RUN}?task=train", "/experiments", "/models", "/models/flights-delay",
        "/models/flights-delay/1", "/endpoints", "/endpoints/flights-delay", "/monitors", "/monitors/flights-delay",
        f"/monitors/flights-delay/{window}", "/events", "/events?type=gate", f"/events?cause={cause}",
        "/predictions/req-1", "/predictions/req-1:1", "/search?q=nothing", f"/experiments/{experiment}",
        f"/tracking/{run}",
    ]  # fmt: skip


def test_every_page_answers(client, addresses):
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200, (address, answer.text[-500:])
        assert answer.headers["content-type"].startswith("text/html"), address


def test_every_answer_carries_the_security_headers(client, addresses):
    for address in [*addresses, "/no/such/page", "/runs/none", "/static/console.css", "/runs.json"]:
        headers = client.get(address).headers
        assert {name: headers.get(name) for name in HEADERS} == HEADERS, address
    assert "default-src 'self'" in HEADERS["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in HEADERS["Content-Security-Policy"]


def test_no_page_has_inline_scripts_styles_or_foreign_addresses(client, addresses):
    for address in addresses:
        text = client.get(address).text
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=[^&]|javascript:", re.sub(r"&[#\w]+;", "&", text)), address
        assert re.findall(r"<script[^>]*>", text) == re.findall(r'<script type="module" src="/static/[^"]+">', text)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text), address


def test_hostile_names_are_escaped(client, addresses):
    shown = 0
    for address in addresses:
        text = client.get(address).text
        assert "<img" not in text, address
        shown += "&lt;img" in text
    assert shown >= 3


def test_pages_stay_small_on_the_wire(client, addresses):
    for address in addresses:
        assert len(gzip.compress(client.get(address).content, 6)) <= 40_000, address


def test_style_and_script_stay_small():
    files = static_files()
    assert len(files["console.css"]) <= 15_000
    assert len(files["console.js"]) <= 20_000


def test_the_json_twin_is_the_view(client, store):
    views = {"/index.json": show_overview(store), "/runs.json": show_runs(store), "/events.json": show_events(store),
             f"/runs/{RUN}.json": show_run(store, RUN),
             "/monitors/flights-delay.json": show_monitor(store, "flights-delay")}  # fmt: skip
    for address, view in views.items():
        answer = client.get(address)
        assert answer.headers["content-type"] == "application/json", address
        assert answer.content == msgspec.json.encode(view), address


def test_the_same_address_answers_json_to_a_program(client, addresses):
    for address in addresses:
        by_header = client.get(address, headers={"Accept": "application/json"})
        assert by_header.status_code == 200, address
        assert "head" in by_header.json(), address
    assert client.get("/", headers={"Accept": "application/json"}).content == client.get("/index.json").content


def test_every_link_leads_somewhere(client, addresses):
    found = {link for address in addresses for link in re.findall(r'href="(/[^"]*)"', client.get(address).text)}
    assert len(found) > 50
    for link in sorted(found):
        address = link.replace("&amp;", "&")
        assert client.get(address).status_code == 200, link


def test_every_page_names_its_command(client, addresses):
    for address in addresses:
        if not address.startswith("/search"):
            assert re.search(r"Command line <code>(mainspring|curl) ", client.get(address).text), address


def test_a_page_that_is_not_there_says_so(client):
    answer = client.get("/no/such/page")
    assert answer.status_code == 404
    assert "There is no page at /no/such/page." in answer.text
    assert client.get("/runs/none").status_code == 404
    problem = client.get("/runs/none.json")
    assert (problem.status_code, problem.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_unknown_addresses_of_programs_keep_the_servers_own_errors(store):
    app = Starlette(routes=routes(store), exception_handlers={404: lambda *_: PlainTextResponse("mine", 404)})
    client = TestClient(app)
    assert client.post("/api/nothing").text == "mine"
    assert client.get("/api/nothing", headers={"Accept": "application/json"}).text == "mine"


def test_routes_of_others_come_first(store):
    app = Starlette(
        routes=[*routes(store)[:-1], Route("/mine", lambda _: PlainTextResponse("mine")), routes(store)[-1]]
    )
    assert TestClient(app).get("/mine", headers={"Accept": "text/html"}).text == "mine"


def test_an_empty_store_teaches_the_first_command(empty_store):
    client = _client(empty_store)
    for page in PAGES:
        if "{" not in page.path:
            assert client.get(page.path).status_code == 200, page.path
    assert "mainspring run train" in client.get("/runs").text
    assert "mainspring demo" in client.get("/").text
    assert client.get("/monitors/flights-delay").status_code == 200
    assert client.get("/endpoints/flights-delay").status_code == 200


def test_older_events_are_paged_without_gaps(empty_store):
    with empty_store.database.write() as connection:
        for number in range(1100):
            kind = "gate.passed" if number % 50 == 0 else "task.finished"
            record_event(connection, empty_store.clock, kind, source="t", subject=str(number))
    for type, expected in (("", 1100), ("gate", 22)):
        seen, before = [], 0
        while True:
            page = show_events(empty_store, type=type, before=before)
            seen += [row.event.subject for row in page.rows]
            if page.older is None:
                break
            before = page.older
        assert len(seen) == len(set(seen)) == expected


def test_the_chain_of_causes_goes_back_to_the_measured_window(client, store):
    with store.database.read() as connection:
        promoted = list_events(connection, types=("rollout.promoted",))[0].id
    chain = [row["event"]["type"] for row in client.get(f"/events.json?cause={promoted}").json()["rows"]]
    assert chain == ["rollout.promoted", "rollout.started", "gate.passed", "trigger.fired", "monitor.window.measured"]


def test_the_chart_compares_the_loop_with_the_model_never_retrained(store):
    chart = show_overview(store).endpoints[0].performance
    loop, never = chart.series
    assert (loop.name, never.name) == ("as served", "never retrained")
    assert len(loop.points) == len(never.points) == 9
    assert never.points[-1].y > loop.points[-1].y
    assert [marker.glyph for marker in sorted(chart.markers, key=lambda marker: marker.x)] == ["↻", "✓", "↻", "⊘"]


def test_a_run_shows_the_log_of_the_chosen_task(store):
    page = show_run(store, RUN, task="train")
    assert page.chosen is not None
    assert "valid log loss 0.4711" in page.chosen.text
    assert {node.name: node.after for node in page.nodes}["condition/register"] == ["gate", "train"]


def test_a_log_is_never_read_outside_the_work_folder(client, store, tmp_path: Path):
    secret = store.settings.home / "log.txt"
    secret.write_text("secret")
    for task in ("..", "../..", "../../..", "/etc/passwd"):
        assert "secret" not in client.get(f"/runs/{RUN}", params={"task": task}).text


def test_a_search_for_an_id_goes_to_its_page(client):
    for wanted, target in ((RUN, f"/runs/{RUN}"), ("req-1", "/predictions/req-1"), ("req-1:1", "/predictions/req-1:1")):
        assert client.get("/search", params={"q": wanted}).headers["location"] == target
    several = client.get("/search", params={"q": "flights-delay"})
    assert '<a href="/monitors/flights-delay">' in several.text


@pytest.mark.parametrize(
    "address",
    ["/predictions/req-1:9", "/predictions/none", "/events?cause=none", "/monitors/none", "/endpoints/none",
     "/monitors/flights-delay/none", "/models/none", "/models/flights-delay/99", "/tracking/none"],
)  # fmt: skip
def test_what_is_not_there_is_a_404_with_a_sentence(client, address):
    answer = client.get(address)
    assert answer.status_code == 404
    assert "RESOURCE_DOES_NOT_EXIST" in answer.text


@pytest.mark.parametrize("query", ["before=-1", "before=x", "before=99999999999999999999", "type=%00", "cause="])
def test_odd_queries_are_answered(client, query):
    assert client.get(f"/events?{query}").status_code == 200


def test_a_filter_that_cannot_be_read_is_a_400_that_says_so(client):
    answer = client.get("/experiments/1", params={"filter": "nonsense("})
    assert answer.status_code == 400
    assert "INVALID_PARAMETER_VALUE" in answer.text


def test_the_model_page_answers_who_when_and_what_was_before(client):
    now = client.get("/models/flights-delay.json").json()["production"]
    assert (now["version"], now["before"], now["actor"]) == ("2", "1", "delivery")
    assert now["reason"].startswith("The canary is better")


def test_a_version_knows_its_pipeline_run_and_params(client):
    page = client.get("/models/flights-delay/2.json").json()
    assert page["pipeline_run"]["id"] == RUN
    assert page["training"]["params"] == [{"key": "trees", "value": "150"}]


def test_a_tracking_run_shows_its_files_and_curves(client, addresses):
    run = next(address for address in addresses if address.startswith("/tracking/"))
    page = client.get(f"{run}.json").json()
    assert [curve["title"] for curve in page["curves"]] == ["log_loss"]
    training = client.get("/models/flights-delay/1.json").json()["training"]["id"]
    files = client.get(f"/tracking/{training}.json").json()["files"]
    assert [file["path"] for file in files] == ["model/MLmodel", "model/booster.txt"]


def test_a_tampered_model_shows_as_broken_in_the_chain(client):
    why = client.get("/predictions/req-1:1/why.json").json()
    assert why["broken"] >= 1
    assert "does not match" in client.get("/predictions/req-1:1/why").text


def test_a_peak_in_a_long_history_is_in_the_curve(empty_store):
    values = [1.0] * 5_000
    values[3_333] = 40.0
    with empty_store.database.write() as connection:
        run = create_run(connection, empty_store.clock, create_experiment(connection, empty_store.clock, "long"))
        points = [Metric(key="loss", value=value, timestamp=1, step=step) for step, value in enumerate(values)]
        log_batch(connection, run.id, metrics=points)
    view = show_tracking_run(empty_store, run.id)
    (points,) = [line.points for line in view.curves[0].series]
    assert len(points) == BANDS
    assert max(point.high for point in points) == 40.0
    assert 'class="band' in draw_chart(view.curves[0])
