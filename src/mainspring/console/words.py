"""How times, numbers and states read: one place, so that a thing looks the same on every page."""

from __future__ import annotations

import math
from typing import Literal

from mainspring.core import to_iso

Tone = Literal["idle", "running", "good", "attention", "failed"]
GLYPHS: dict[Tone, str] = {"idle": "○", "running": "◐", "good": "✓", "attention": "▲", "failed": "✕"}
_TONES: dict[Tone, tuple[str, ...]] = {
    "running": ("RUNNING", "PENDING", "CANARY", "STARTED", "SCHEDULED", "FIRED"),
    "good": ("COMPLETE", "FINISHED", "SUCCEEDED", "READY", "OK", "PASSED", "PROMOTED", "CACHED", "DONE", "REGISTERED",
             "HEALTHY", "MEASURED", "MOVED", "WRITTEN", "CREATED"),
    "attention": ("ALERT", "RAISED", "WARNING", "REFUSED", "ROLLED_BACK", "DRIFT", "MISSING", "INCONCLUSIVE", "FIRING",
                  "ANOMALY"),
    "failed": ("FAILED", "ERROR", "KILLED", "INTERNAL_ERROR", "CRITICAL", "CORRUPT"),
}  # fmt: skip
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words}
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def tone_of(state: str) -> Tone:
    """Return the colour a state has; what is not known is idle."""
    return _TONE_OF.get(state.upper().replace(" ", "_"), "idle")


def tone_of_event(type: str) -> Tone:
    """Return the colour of an event: that of what its type says happened.

    >>> tone_of_event("gate.refused")
    'attention'
    """
    return tone_of(type.rpartition(".")[2])


def age(ms: int, now_ms: int) -> str:
    """Say how long before now something was, in its largest unit.

    >>> age(0, 7_200_000), age(0, 90_000), age(5, 5)
    ('2 h ago', '1 min ago', 'now')
    """
    distance = abs(now_ms - ms)
    text = next((f"{distance // unit} {name}" for unit, name in _UNITS if distance >= unit), "")
    if not text:
        return "now"
    return f"{text} ago" if ms <= now_ms else f"in {text}"


def duration(ms: float | None) -> str:
    """Say how long something took.

    >>> duration(340), duration(12_340), duration(125_000), duration(None)
    ('340 ms', '12.3 s', '2 min 5 s', '–')
    """
    if ms is None:
        return "–"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    if ms < 7_200_000:
        return f"{ms // 60_000:.0f} min {ms % 60_000 // 1000:.0f} s"
    return f"{ms / 3_600_000:.1f} h" if ms < 172_800_000 else f"{ms / 86_400_000:.1f} d"


def day(ms: int) -> str:
    """Return the date of a time, as ISO."""
    return to_iso(ms)[:10]


def number(value: object, digits: int = 4) -> str:
    """Write a number with ``digits`` significant digits and thousands separated; anything else as it is.

    >>> number(336776), number(0.50617), number(None), number(1e-9)
    ('336,776', '0.5062', '–', '1e-09')
    """
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, float) or not math.isfinite(value) or value == 0:
        return "0" if value == 0 else str(value)
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size > 12:
        return f"{value:.{digits - 1}g}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"


def estimate(value: float | None, standard_error: float | None = None) -> str:
    """Write a number with as many digits as its standard error allows, and the error.

    >>> estimate(0.47134, 0.0031), estimate(0.47134), estimate(None)
    ('0.471 ± 0.003', '0.4713', '–')
    """
    if value is None or not standard_error or math.isnan(standard_error):
        return number(value)
    places = min(6, max(0, -math.floor(math.log10(standard_error))))
    return f"{value:.{places}f} ± {standard_error:.{places}f}"


def count(number: int, noun: str) -> str:
    """Write how many there are of something.

    >>> count(1, "signal"), count(2000, "row")
    ('1 signal', '2,000 rows')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def e_value(value: float) -> str:
    """Write an e-value: exactly while it is small, as a power of ten when only its size matters.

    >>> e_value(1.0), e_value(19.96), e_value(1.2e12)
    ('1.0', '20', '10^12')
    """
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}" if value < 10_000 else f"10^{math.log10(value):.0f}"


def size(count: int | None) -> str:
    """Write a number of bytes.

    >>> size(512), size(20_480)
    ('512 B', '20.0 kB')
    """
    if count is None:
        return "–"
    scaled, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if scaled < 1024 or unit == "GB":
            break
        scaled /= 1024
    return f"{scaled:.0f} B" if unit == "B" else f"{scaled:.1f} {unit}"


def short(identifier: str | None, length: int = 12) -> str:
    """Shorten a digest to what a person compares.

    >>> short("sha256:0123456789abcdef")
    '0123456789ab'
    """
    return (identifier or "–").rpartition(":")[2][:length]
