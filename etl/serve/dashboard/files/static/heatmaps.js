// Draws the charts of a page. What comes from the database is written as text, never as HTML.
"use strict";

const CHARTS = JSON.parse(document.getElementById("charts").textContent);
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

function kindOf(value) {
  if (typeof value === "number") return "number";
  if (/^\d{4}-\d\d-\d\d/.test(value)) return "instant";
  return String(value).split(/\s/).some((word) => word.length > 30) ? "long" : "";
}

function cell(name, value) {
  if (value === null) return element("td");
  if (!name.endsWith("_url")) return element("td", value, kindOf(value));
  const made = element("td");
  if (!/^https?:\/\//i.test(value)) return made;
  const link = element("a", "open");
  link.href = value;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  made.append(link);
  return made;
}

function drawTable(place, _chart, rows) {
  const names = Object.keys(rows[0]);
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const name of names) {
    const isNumber = rows.some((row) => typeof row[name] === "number");
    head.append(element("th", name.replace(/_url$/, ""), isNumber ? "number" : ""));
  }
  const body = table.createTBody();
  for (const row of rows) {
    body.insertRow().append(...names.map((name) => cell(name, row[name])));
  }
  const frame = element("div", null, "frame");
  frame.append(table);
  place.append(frame);
}

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

function heightOf(spec, rows) {
  const y = spec.encoding && spec.encoding.y;
  if (!y || y.type !== "nominal") return 260;
  return Math.max(3, new Set(rows.map((row) => row[y.field])).size) * 24;
}

async function drawVega(place, chart, rows) {
  const spec = structuredClone(chart.display);
  withoutAbsent(spec, rows);
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

for (const select of document.querySelectorAll(".filters select")) {
  select.addEventListener("change", () => select.form.submit());
}
for (const place of document.querySelectorAll("[data-chart]")) draw(place);
