// Keys, filter, chart read-out and live events. Every page works without this file.

const search = document.getElementById("search");
const help = document.getElementById("help");

// --- filter the rows of this page -------------------------------------------------------------------------------
function filterRows() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("main tbody tr")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
}
search?.addEventListener("input", filterRows);

// --- rows by keyboard -------------------------------------------------------------------------------------------
function rows() {
  return [...document.querySelectorAll("main tbody tr")].filter((row) => !row.hidden && row.querySelector("a"));
}
function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("at"));
  const next = at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + step));
  all[at]?.classList.remove("at");
  all[next].classList.add("at");
  all[next].querySelector("a").focus();
  all[next].scrollIntoView({ block: "nearest" });
}

let waiting = false; // for the second key after g
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    waiting = false;
    if (document.activeElement === search) { search.value = ""; filterRows(); search.blur(); }
    return;
  }
  if (event.target.closest("input, textarea, select")) return;
  if (waiting) {
    waiting = false;
    document.querySelector(`nav [data-key="${CSS.escape(event.key)}"]`)?.click();
    return;
  }
  const actions = {
    "/": () => search.focus(),
    "?": () => help.showModal(),
    g: () => { waiting = true; setTimeout(() => { waiting = false; }, 1500); },
    j: () => move(1),
    k: () => move(-1),
  };
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});

// --- copy an id with one click ----------------------------------------------------------------------------------
document.addEventListener("click", (event) => {
  const id = event.target.closest("[data-copy]");
  if (!id || !navigator.clipboard) return;
  navigator.clipboard.writeText(id.dataset.copy).then(() => {
    const before = id.textContent;
    id.textContent = "copied";
    setTimeout(() => { id.textContent = before; }, 800);
  });
});

// --- read-out of charts: the nearest point of every line at the pointer -------------------------------------------
const NS = "http://www.w3.org/2000/svg";
document.addEventListener("pointermove", (event) => {
  const chart = event.target.closest?.("svg.chart");
  for (const old of document.querySelectorAll(".readout")) if (!chart || old.ownerSVGElement !== chart) old.remove();
  if (!chart) return;
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
  const nearest = [...chart.querySelectorAll(".line")].map((line) => {
    let best = null;
    for (const dot of line.querySelectorAll("circle")) {
      const away = Math.abs(dot.cx.baseVal.value - point.x);
      if (!best || away < best.away) best = { away, x: dot.cx.baseVal.value, text: dot.textContent };
    }
    return best && { ...best, colour: [...line.classList].find((name) => /^s\d$/.test(name)) };
  }).filter(Boolean);
  if (!nearest.length) return;
  chart.querySelector(".readout")?.remove();
  const group = document.createElementNS(NS, "g");
  group.setAttribute("class", "readout");
  const cross = document.createElementNS(NS, "path");
  const bottom = chart.viewBox.baseVal.height - 24;
  cross.setAttribute("class", "cross");
  cross.setAttribute("d", `M${nearest[0].x} 22V${bottom}`);
  group.append(cross);
  const left = nearest[0].x > chart.viewBox.baseVal.width / 2;
  nearest.forEach(({ text, colour }, index) => {
    const label = document.createElementNS(NS, "text");
    label.setAttribute("class", `name ${colour}${left ? " end" : ""}`);
    label.setAttribute("x", nearest[0].x + (left ? -8 : 8));
    label.setAttribute("y", bottom - 8 - 14 * (nearest.length - 1 - index));
    label.textContent = text;
    group.append(label);
  });
  group.setAttribute("pointer-events", "none");
  chart.append(group);
});

// --- live -------------------------------------------------------------------------------------------------------
const main = document.querySelector("main[data-live]");
const status = document.getElementById("live");
const say = (text, tone) => { status.textContent = text; status.className = tone; };

function cell(row, text, className) {
  const made = row.insertCell();
  made.textContent = text;
  if (className) made.className = className;
  return made;
}
function append(event) {
  const table = document.getElementById("events");
  if (!table) return swap();
  if (table.dataset.type && !event.type.startsWith(table.dataset.type)) return;
  if (event.sequence && event.sequence <= Number(table.dataset.newest)) return;
  if (event.sequence) table.dataset.newest = event.sequence;
  const row = table.tBodies[0].insertRow(0);
  row.className = "fresh";
  cell(row, "now").title = new Date(event.time).toISOString();
  cell(row, event.type);
  cell(row, event.subject);
  const why = cell(row, "");
  if (event.cause) {
    const link = document.createElement("a");
    link.href = `/events?cause=${encodeURIComponent(event.id)}`;
    link.textContent = "why";
    why.append(link);
  }
  cell(row, event.data?.reason ?? Object.entries(event.data ?? {}).filter(([, value]) => typeof value !== "object")
    .map(([key, value]) => `${key} ${value}`).join(" · "), "wrap");
  while (table.tBodies[0].rows.length > 400) table.tBodies[0].deleteRow(-1);
}

let due = null; // at most one refresh of the page's content every 1.5 s
function swap() {
  due ??= setTimeout(async () => {
    due = null;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    main.replaceChildren(...page.querySelector("main").childNodes);
    document.getElementById("now").textContent = page.getElementById("now").textContent;
    filterRows();
  }, 1500);
}

if (main) {
  const source = new EventSource("/api/v1/events/stream");
  source.onopen = () => say("● live", "good");
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "○ not live" : "▲ reconnecting", "attention");
  const take = (message) => {
    let event;
    try { event = JSON.parse(message.data); } catch { return; }
    if (main.dataset.live === "append") append(event); else swap();
  };
  source.onmessage = take;
  source.addEventListener("event", take);
  addEventListener("pagehide", () => source.close());
}
