"""Templates: escaped always, strict about what they use, with the words of `words`."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from mainspring.console import words
from mainspring.console.charts import draw_chart
from mainspring.console.colours import colour_of
from mainspring.console.dag import draw_dag
from mainspring.console.views.head import Head
from mainspring.core import to_iso
from mainspring.lineage import Event
from mainspring.monitoring import Performance

HERE = Path(__file__).parent


class View(Protocol):
    """What a page shows: any struct with a head."""

    @property
    def head(self) -> Head:
        """The title, section and commands of the page."""
        ...


def render(template: str, view: View, *, twin: str) -> str:
    """Render a page; ``twin`` is the address of the same view as JSON."""
    page = environment().get_template(template)
    return page.render(view=view, head=view.head, twin=twin, version=static_version())


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the one template environment."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "tone": words.tone_of,
        "duration": words.duration,
        "number": words.number,
        "estimate": words.estimate,
        "size": words.size,
        "e_value": words.e_value,
        "count": words.count,
        "short": words.short,
        "day": words.day,
        "chart": draw_chart,
        "dag": draw_dag,
        "colour": colour_of,
        "compact": _compact,
        "subject": _shorten_subject,
        "instant": lambda ms: to_iso(ms)[:16].replace("T", " ") + " UTC",
        "pick": lambda entries, key: next((entry.value for entry in entries if entry.key == key), None),
        "state": _state,
        "event_state": _event_state,
        "event_word": _event_word,
    }
    made.globals |= {"when": _when, "loss": _loss}
    return made


@lru_cache(maxsize=1)
def static_files() -> dict[str, bytes]:
    """Return the style sheet, the script and the icon by name."""
    return {path.name: path.read_bytes() for path in sorted((HERE / "static").iterdir()) if path.is_file()}


@lru_cache(maxsize=1)
def static_version() -> str:
    """Return a short digest of the static files: a new version is a new address, so they cache for ever."""
    return hashlib.sha256(b"".join(static_files().values())).hexdigest()[:10]


@pass_context
def _when(context: Context, ms: int | None) -> Markup:
    if ms is None:
        return Markup("–")
    iso = to_iso(ms)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso, iso, words.age(ms, context["head"].now))


def _state(state: str, text: str = "") -> Markup:
    return _toned(words.tone_of(state), text or state.lower().replace("_", " "))


def _event_state(event: Event) -> Markup:
    return _toned(_event_tone(event), event.type)


def _event_word(event: Event) -> Markup:
    state = event.data.get("state")
    word = state if isinstance(state, str) else event.type.rpartition(".")[2]
    return _toned(_event_tone(event), word.lower().replace("_", " "))


def _event_tone(event: Event) -> words.Tone:
    state = event.data.get("state")
    return words.tone_of(state) if isinstance(state, str) else words.tone_of_event(event.type)


def _loss(performance: Performance | None) -> str:
    if performance is None:
        return "–"
    loss = performance.log_loss
    return f"{words.estimate(loss.value, loss.standard_error)} (n={loss.n:,})"


def _toned(tone: words.Tone, text: str) -> Markup:
    glyph = f'<span class="glyph" aria-hidden="true">{words.GLYPHS[tone]}</span>'
    return Markup(f'<span class="state {tone}">{glyph}{escape(text)}</span>')  # noqa: S704 - escaped here


def _shorten_subject(subject: str) -> str:
    """Shorten a subject that starts with a run's id (as those of tasks do) to the end of the id and the rest."""
    first, slash, rest = subject.partition("/")
    return _compact(f"…{first[-6:]}/{rest}" if slash and len(first) == 26 else subject, 48)


def _compact(value: object, limit: int = 120) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
