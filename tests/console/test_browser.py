"""The console in a real browser: keys, colours, no errors, nothing fetched from elsewhere."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from mainspring.console import routes
from mainspring.lineage import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PNG = b"\x89PNG"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    """A running server with the console and a stream that says one thing and ends."""
    said = {"id": "e9", "sequence": 999_999, "type": "gate.passed", "subject": "<b>live</b>", "time": 1, "data": {}}
    event = b"id: 1\ndata: " + msgspec.json.encode(said) + b"\n\n"
    stream = Route("/api/v1/events/stream", lambda _: Response(event, media_type="text/event-stream"))
    app = Starlette(routes=[stream, *routes(store)])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=30)


def test_a_person_walks_through_the_console(address):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    troubles: list[str] = []
    requests: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))

        page.goto(address)
        assert page.title() == "flights · mainspring"
        assert len(requests) <= 5
        light = page.screenshot()

        for key, path in (("r", "/runs"), ("m", "/models"), ("e", "/endpoints"), ("w", "/monitors"), ("t", "/events")):
            page.keyboard.press("g")
            page.keyboard.press(key)
            page.wait_for_url(address + path)

        page.get_by_text("<b>live</b>", exact=True).first.wait_for()
        page.goto(f"{address}/runs")
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("k")
        assert page.locator("tr.at").count() == 1
        page.keyboard.press("Enter")
        page.wait_for_url(f"{address}/runs/01RUN*")
        assert page.locator("svg.dag .node").count() == 7

        page.keyboard.press("/")
        page.keyboard.type("evaluate")
        assert page.locator("main tbody tr:visible").count() < page.locator("main tbody tr").count()
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        assert page.locator("dialog").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()

        page.goto(f"{address}/monitors/flights-delay")
        page.locator("svg.chart").first.hover(position={"x": 300, "y": 120})
        assert page.locator(".readout text").count() == 2

        page.emulate_media(color_scheme="dark")
        page.goto(address)
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(20, 23, 26)"
        dark = page.screenshot()
        for path in ("/", "/events", "/models/flights-delay", "/monitors/flights-delay", "/endpoints/flights-delay"):
            page.set_viewport_size({"width": 320, "height": 640})
            page.goto(address + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
        browser.close()
    assert light.startswith(PNG)
    assert dark != light
    assert troubles == []
    assert all(url.startswith(address) for url in requests)
