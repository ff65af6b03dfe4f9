// What the report's scripts share: making nodes, writing figures, reading the embedded data, one tooltip.
// Text of models and data sets only ever becomes text nodes.
"use strict";

const byId = (id) => document.getElementById(id);
const json = (id) => JSON.parse(byId(id).textContent);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== "" && child !== null && child !== undefined));
  return node;
}

// Figures are written as flarekit.eval.analysis.wording writes them.

const minus = (text) => (/^-[0.]*$/.test(text) ? text.slice(1) : text.replace("-", "−"));
const share = (value) => {
  const digits = Math.abs(value) >= 0.005 || !value ? 2 : 3;
  return minus(value.toFixed(digits).replace(/^(-?)0\./, "$1."));
};
const number = (value) => {
  const size = Math.abs(value);
  const whole = size >= 10 || Number.isInteger(size);
  return minus(
    whole ? Math.round(value).toLocaleString("en") : size >= 1 ? value.toFixed(1) : String(Number(value.toPrecision(2))),
  );
};
const signed = (write) => (value) => (value > 0 && !write(value).startsWith("−") ? `+${write(value)}` : write(value));
const percent = (p) => (p >= 0.1 ? (100 * p).toFixed(0) : p >= 0.001 ? (100 * p).toFixed(1) : "<0.1") + "%";
const count = (n, word) => `${Number(n.toFixed(2))} ${word}${n === 1 ? "" : "s"}`;

// A question's data are deflated, and unpacked when it is shown.

async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

// One tooltip for the tokens and for the plots.

function openTip(at, ...children) {
  const tip = byId("tip");
  tip.replaceChildren(...children);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const below = at.bottom + 8 + box.height < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - box.width - 8))}px`;
  tip.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - box.height - 8)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

const tipTable = (rows) =>
  el("table", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((text) => el("td", {}, String(text))))));
