// Prices that the reader may change: the plot, the table's costs and the areas under the hulls are reckoned anew from
// the recorded counts.
"use strict";

const SCORES = ["f1", "exact_match"];

// One section

function startPrices(panel) {
  const place = panel.dataset.section;
  const section = byId(`group-${place}`);
  const { presets, sizes, parts, ends } = json(`prices-${place}`);
  const { policies, baseline } = json(`about-${place}`);
  const index = indexes[place];
  const plot = plots.get(`chart-${place}`);
  const table = section.querySelector("[data-table=policies]");
  const before = new Map([...table.querySelectorAll("tbody td")].map((cell) => [cell, cell.cloneNode(true)]));
  const menu = panel.querySelector("[data-do=preset]");
  const fields = [...panel.querySelectorAll("[data-price]")];
  const hulls = section.querySelector("[data-do=hulls]");
  const now = { prices: presets[0].prices, unit: presets[0].unit, changed: false };
  const areas = areaTable(section.querySelector(".areas .scroll"));

  const costs = (policy) => parts[policy].map((own) => own && priceOf(own, now.prices));
  const known = (values) => values.filter((value) => value !== null);

  function oracle() { // the better of both ends; where they tie, the cheaper
    const [left, right] = ends.map((policy) => ({ costs: costs(policy), f1: index.f1[policy], em: index.em[policy] }));
    return mean(known(left.costs.map((cost, i) => {
      if (cost === null || right.costs[i] === null) return null;
      const gap = right.f1[i] - left.f1[i] || right.em[i] - left.em[i] || cost - right.costs[i];
      return gap > 0 ? right.costs[i] : cost;
    })));
  }

  function reprice(row) {
    if (row.parts) return { ...row, price: priceOf(row.parts, now.prices) };
    return { ...row, price: row.kind === "oracle" ? oracle() : mean(known(costs(row.policy))) };
  }

  function drawHulls(score, cost) {
    if (!hulls.checked) return [];
    const wanted = [...families(plot.rows, ends[0])].filter(([, { own }]) => own.length > 1);
    return wanted.flatMap(([family, { all }]) =>
      hullOf(all.map((row) => [row[cost], row[score]])).map(([x, y], at) => (
        { kind: "hull", family, line: "", policy: family, place: at, [cost]: x, [score]: y }
      )),
    );
  }

  function tellTable() {
    const columns = Object.fromEntries([...table.tHead.rows[0].cells].map((cell) => [cell.dataset.column, cell.cellIndex]));
    const base = costs(baseline);
    for (const row of table.tBodies[0].rows) {
      const own = costs(row.cells[0].dataset.value);
      const more = own.map((cost, i) => (cost === null || base[i] === null ? null : cost - base[i]));
      fill(row.cells[columns.price], known(own), number);
      if (row.cells[0].dataset.value !== baseline) fill(row.cells[columns.more], known(more), signed(number));
    }
  }

  function fill(cell, values, write) {
    if (!now.changed) {
      const old = before.get(cell);
      cell.replaceChildren(...old.cloneNode(true).childNodes);
      cell.dataset.value = old.dataset.value;
    } else if (values.length) {
      const found = bounds(values);
      cell.replaceChildren(write(mean(values)), ...(found ? [" ", el("small", {}, found.map(write).join(" to "))] : []));
      cell.dataset.value = mean(values);
    }
  }

  function tellAreas() {
    const found = [...families(plot.rows, ends[0])];
    const prices = found.map(([, { all }]) => all.map((row) => row.price));
    const low = Math.max(...prices.map((own) => Math.min(...own)));
    const high = Math.max(...prices.flat());
    section.querySelector("[data-part=range]").textContent = `${number(low)} to ${number(high)} ${now.unit}`;
    areas.tBodies[0].replaceChildren(...found.map(([family, { own, all }]) => {
      const scores = SCORES.map((score) => meanUnder(hullOf(all.map((row) => [row.price, row[score]])), low, high));
      const spent = [Math.min, Math.max].map((end) => end(...own.map((row) => row.price)));
      return el("tr", {},
        el("th", { scope: "row", "data-value": family }, family),
        ...[[own.length, number], ...scores.map((value) => [value, (x) => x.toFixed(3).replace(/^0/, "")]),
          ...spent.map((value) => [value, number])].map(([value, write]) =>
          el("td", { "data-value": value ?? "" }, value === null ? "–" : write(value))),
      );
    }));
    sortAgain(areas);
  }

  // What is in the fields is what counts; a field that cannot be read counts as 0.
  function reckon() {
    const preset = presets.find(({ key }) => key === menu.value);
    const written = (field) => Math.max(0, Number(field.value) || 0);
    now.prices = [...presets[0].prices];
    for (const field of fields) now.prices[field.dataset.price] = written(field);
    now.unit = preset?.unit ?? (now.unit || "units");
    now.changed = menu.value !== "report";
    plot.rows = plot.rows.map(reprice);
    const title = `Cost per question (${now.unit})`;
    plot.titles = [[`Cost per question (${presets[0].unit})`, title]];
    section.querySelector("option[value=price]").textContent = title;
    for (const part of [section.querySelector(".repriced"), panel.querySelector("[data-do=back]")]) part.hidden = !now.changed;
    panel.querySelector("summary .hint").textContent = `by ${preset?.title ?? "own prices"}`;
    panel.querySelector("[data-part=said]").textContent = now.changed ? `Reckoned anew, in ${now.unit} per question.` : "";
    tellTable();
    sortAgain(table);
    tellAreas();
    plot.draw();
    section.dispatchEvent(new CustomEvent("priced", { bubbles: true }));
  }

  function take(key) {
    const preset = presets.find((known) => known.key === key);
    menu.value = key;
    for (const label of panel.querySelectorAll("[data-for=flops]")) label.hidden = key !== "flops";
    if (preset) {
      const prices = key === "flops" ? sizes.flatMap((size) => [2 * size, 0, 2 * size]).concat(0, 0) : preset.prices;
      for (const field of fields) field.value = Number(prices[field.dataset.price].toPrecision(12));
    }
    reckon();
  }

  let waiting = 0;
  panel.addEventListener("input", ({ target }) => {
    if (target.dataset.size) sizes[target.dataset.size] = Math.max(0, Number(target.value) || 0);
    else if (!target.dataset.price) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => take(target.dataset.size ? "flops" : "own"), 120);
  });
  menu.addEventListener("change", () => take(menu.value));
  for (const back of section.querySelectorAll("[data-do=back]")) back.addEventListener("click", () => take("report"));
  plot.adds = drawHulls;
  tellAreas();
  return { cost: (policy, at) => parts[policy][at] && priceOf(parts[policy][at], now.prices) };
}

function areaTable(into) {
  const heading = (name, unit) =>
    el("th", { scope: "col", "aria-sort": "none" }, el("button", { type: "button" }, name, unit ? " " : "", unit && el("small", {}, unit)));
  const names = [["Family"], ["Points"], ["F1", "area / range"], ["EM", "area / range"], ["Cheapest", "cost"], ["Dearest", "cost"]];
  const head = el("thead", {}, el("tr", {}, ...names.map((name) => heading(...name))));
  const table = el("table", { class: "sortable", "data-table": "areas" }, head, el("tbody"));
  head.rows[0].cells[2].setAttribute("aria-sort", "descending");
  startTable(table);
  into.append(table);
  return table;
}

const indexes = [...document.querySelectorAll(".group")].map((section, place) => json(`index-${place}`));
const priced = [...document.querySelectorAll("details.prices")].map(startPrices);
