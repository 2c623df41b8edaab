// Writes values and draws charts. What comes from the database is written as text, never as HTML.
"use strict";

const CHARTS = JSON.parse((document.getElementById("charts") || { textContent: "{}" }).textContent);
const INSTANTS = new Set(JSON.parse(document.getElementById("instants").textContent));
const BOOLEANS = new Set(JSON.parse(document.getElementById("booleans").textContent));
const LONGEST = 200; // letters of a text; a name of thousands would fill the screen
const NARROW = 360; // pixels of a chart: on a telephone
const CONFIG = {
  background: null,
  view: { stroke: null },
  axis: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", gridColor: "#eee" },
  legend: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", offset: 6 },
  axisY: { domain: false, ticks: false, labelPadding: 6 },
};

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  if (className) made.className = className;
  return made;
}

async function rowsOf(place, chart) {
  const sql = new URLSearchParams({ sql: chart.query, _shape: "objects" });
  const filters = place.dataset.query ? `&${place.dataset.query}` : "";
  const answer = await (await fetch(`${place.dataset.url}?${sql}${filters}`)).json();
  if (!answer.ok) throw new Error(answer.error || "the query failed");
  return answer.rows;
}

function drawNumber(place, chart, rows) {
  const value = rows.length ? rows[0].value : null;
  const shown = typeof value === "number" ? value.toLocaleString("en") : value;
  const unit = value === null ? "" : chart.display.unit || "";
  place.append(element("p", value === null ? "–" : `${shown}${unit}`, "value"));
}

// --- values: the same in the tables of the dashboard and in those of Datasette

function isId(name) {
  return /id$/.test(name);
}

function isBoolean(name, value) {
  return BOOLEANS.has(name) && (value === 0 || value === 1);
}

function kindOf(name, value) {
  if (isBoolean(name, value)) return "boolean";
  if (typeof value === "number") return "number";
  if (/^\d{4}-\d\d-\d\d( |$)/.test(value)) return "instant";
  if (/(^|_)(id|key|hash)$/.test(name) && value.length > 12) return "key";
  return value.length > 40 ? "long" : "";
}

// Yes and no, thousands apart, an instant to the minute, and a text that is not too long as it is.
function shownAs(name, value) {
  if (isBoolean(name, value)) return value ? "yes" : "no";
  if (typeof value === "number") return isId(name) ? String(value) : value.toLocaleString("en");
  const isInstant = INSTANTS.has(name) && /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/.test(value);
  if (isInstant) return value.slice(0, 16);
  return value.length > LONGEST ? `${value.slice(0, LONGEST)}…` : value;
}

function linkTo(address) {
  if (!/^https?:\/\//i.test(address)) return "";
  const link = element("a", "open");
  link.href = address;
  link.title = address;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  return link;
}

function fill(cell, name, value) {
  cell.dataset.label = name.replace(/_url$/, "");
  if (value === null || value === "") {
    cell.classList.add("nothing");
  } else if (name.endsWith("_url")) {
    cell.replaceChildren(linkTo(value));
  } else {
    const shown = shownAs(name, value);
    cell.textContent = shown;
    if (kindOf(name, value)) cell.classList.add(kindOf(name, value));
    if (shown !== value || kindOf(name, value) === "key") cell.title = value;
  }
  return cell;
}

function drawTable(place, _chart, rows) {
  const names = Object.keys(rows[0]);
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const name of names) {
    const made = element("th", name.replace(/_url$/, ""));
    if (rows.some((row) => typeof row[name] === "number")) made.dataset.kind = "number";
    head.append(made);
  }
  const body = table.createTBody();
  for (const row of rows) {
    body.insertRow().append(...names.map((name) => fill(element("td"), name, row[name])));
  }
  const frame = element("div", null, "frame");
  frame.append(table);
  place.append(frame);
}

// Datasette has written the values into the cells; links to its own pages stay as they are.
function valueOf(cell) {
  if (cell.classList.contains("type-none")) return null;
  const text = cell.textContent.trim();
  if (!cell.matches(".type-int, .type-float")) return text === "\u00a0" ? "" : cell.textContent;
  const number = Number(text);
  return Number.isSafeInteger(number) || cell.matches(".type-float") ? number : text;
}

function rewriteTable(table) {
  const heads = [...table.tHead.rows[0].cells];
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, n) => {
      const name = heads[n].dataset.column;
      cell.dataset.label = name;
      const link = cell.querySelector("a");
      if (link && link.origin === location.origin) return;
      fill(cell, name, link ? link.getAttribute("href") : valueOf(cell));
      if (cell.classList.contains("number")) heads[n].dataset.kind = "number";
    });
  }
}

// --- charts

// A legend names what is there, in the order of the scale, and nothing else.
function withoutAbsent(spec, rows) {
  for (const part of [spec, ...(spec.layer || [])]) {
    const color = part.encoding && part.encoding.color;
    if (!color || !color.scale || !color.scale.domain) continue;
    const { domain, range } = color.scale;
    const there = new Set(rows.map((row) => row[color.field]));
    color.scale.domain = domain.filter((value) => there.has(value));
    color.scale.range = range.filter((_, n) => there.has(domain[n]));
  }
}

// On a telephone the labels leave room for the bars, and a legend has as many lines as it needs.
function fitToWidth(spec, width) {
  if (width >= NARROW) return;
  for (const part of [spec, ...(spec.layer || [])]) {
    const { y, color } = part.encoding || {};
    if (y && y.axis) y.axis.labelLimit = 120;
    if (color && color.legend) Object.assign(color.legend, { columns: 2, labelLimit: 110 });
  }
}

function heightOf(spec, rows) {
  const y = spec.encoding && spec.encoding.y;
  if (!y || y.type !== "nominal") return 260;
  return Math.max(3, new Set(rows.map((row) => row[y.field])).size) * 24;
}

async function drawVega(place, chart, rows) {
  const spec = structuredClone(chart.display);
  withoutAbsent(spec, rows);
  fitToWidth(spec, place.clientWidth);
  await vegaEmbed(
    place,
    {
      description: chart.title,
      width: "container",
      height: heightOf(spec, rows),
      autosize: { type: "fit-x", contains: "padding" },
      config: CONFIG,
      data: { values: rows },
      ...spec,
    },
    { mode: "vega-lite", actions: false, renderer: "svg" },
  );
}

async function draw(place) {
  const chart = CHARTS[place.dataset.chart];
  const how = { number: drawNumber, table: drawTable, "vega-lite": drawVega }[chart.library];
  try {
    const rows = await rowsOf(place, chart);
    if (!rows.length && chart.library !== "number") {
      place.append(element("p", chart.empty, "empty"));
    } else {
      await how(place, chart, rows);
    }
  } catch (error) {
    place.append(element("p", `Not to be had: ${error.message}`, "error"));
  }
  place.dataset.drawn = "yes";
}

// A choice of a question: its values are in the database.
async function fillOptions(select) {
  const query = new URLSearchParams({ sql: select.dataset.options, _shape: "arrays" });
  const answer = await (await fetch(`${select.dataset.url}?${query}`)).json();
  const there = new Set([...select.options].map((option) => option.value));
  for (const [value] of answer.rows || []) {
    if (!there.has(value)) select.add(new Option(value, value));
  }
}

for (const table of document.querySelectorAll("table.rows-and-columns")) rewriteTable(table);
for (const select of document.querySelectorAll("select[data-options]")) fillOptions(select);
for (const select of document.querySelectorAll(".heatmaps .filters select")) {
  select.addEventListener("change", () => select.form.submit());
}
for (const place of document.querySelectorAll("[data-chart]")) draw(place);
