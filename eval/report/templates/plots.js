// The report's plots. Their text and lines take the page's colour, so light and dark need no second drawing.
"use strict";

const plots = new Map(); // by the id of their data

const plotTheme = {
  axis: {
    labelColor: "currentColor",
    titleColor: "currentColor",
    gridColor: "var(--line)",
    domainColor: "var(--quiet)",
    tickColor: "var(--quiet)",
  },
  legend: { labelColor: "currentColor" },
};

function plotTip(handler, event, item, value) {
  if (!value) return hideTip();
  const { policy, ...figures } = value;
  const { clientX: left, clientY: top } = event.changedTouches?.[0] ?? event;
  openTip({ left: left + 8, top: top - 4, bottom: top + 4 }, el("b", {}, policy ?? ""), tipTable(Object.entries(figures)));
}

// What a plot shows is `rows` that pass `keeps`, and what `adds` makes of the choices in its menus. `titles` are pairs:
// what the specifications call something, and what it is called now.
function startPlot(figure) {
  const { rows, specs } = json(figure.dataset.chart);
  const menus = [...figure.querySelectorAll("select[data-menu]")];
  const plot = { rows, keeps: () => true, adds: () => [], titles: [], draw };
  let view = null;
  let drawing = false;
  let again = false;

  function chosen() {
    const choices = menus.map((menu) => menu.value);
    let text = JSON.stringify(specs[choices.join(" ")]);
    for (const [before, now] of plot.titles) {
      text = text.replaceAll(JSON.stringify(before).slice(1, -1), () => JSON.stringify(now).slice(1, -1));
    }
    const points = [...plot.rows, ...plot.adds(...choices)].filter(plot.keeps);
    const spec = JSON.parse(text);
    // These layers are named after the kind of points that they show; without any, Vega would warn of their extent.
    const own = ["derived", "hull"];
    spec.layer = spec.layer?.filter(({ name }) => !own.includes(name) || points.some(({ kind }) => kind === name));
    return { ...spec, datasets: { points } };
  }

  async function draw() {
    again = true;
    if (drawing) return;
    drawing = true;
    try {
      while (again) {
        again = false;
        view?.finalize();
        const options = { actions: false, renderer: "svg", config: plotTheme, tooltip: plotTip };
        ({ view } = await vegaEmbed(figure.querySelector(".plot"), chosen(), options));
      }
    } finally {
      drawing = false;
    }
  }

  async function save() {
    const paper = await vegaEmbed(el("div"), { ...chosen(), width: 640 }, { actions: false }); // in black on nothing
    el("a", { href: await paper.view.toImageURL("svg"), download: `${figure.dataset.name}.svg` }).click();
    paper.finalize();
  }

  figure.addEventListener("change", draw);
  figure.querySelector("[data-do=reset]").addEventListener("click", draw);
  figure.querySelector("[data-do=save]").addEventListener("click", save);
  plots.set(figure.dataset.chart, plot);
}

document.querySelectorAll("figure[data-chart]").forEach(startPlot);
// After all scripts have run, and after the page has been painted once.
addEventListener("DOMContentLoaded", () => {
  requestAnimationFrame(() => setTimeout(() => plots.forEach((plot) => plot.draw())));
});
