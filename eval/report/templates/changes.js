// Which answers change from one arm to another: four counts, their test, and a strip with a cell for every question.
"use strict";

const CELLS = 600; // more cannot be told apart
const outcomes = { kept: "right → right", lost: "right → wrong", gained: "wrong → right", still: "wrong → wrong" };

// null where either arm has not finished the question
function outcomeOf(index, from, to, place) {
  const [before, after] = [index.em[from][place], index.em[to][place]];
  if (before === null || after === null) return null;
  return before === 1 ? (after === 1 ? "kept" : "lost") : after === 1 ? "gained" : "still";
}

// McNemar's exact test: the probability of so uneven a split of the changes, or a more uneven one, if both were as likely.
function mcnemar(gained, lost) {
  const n = gained + lost;
  let term = -n * Math.LN2; // ln of C(n, k) / 2^n
  let sum = 0;
  for (let k = 0; k <= Math.min(gained, lost); k++) {
    sum += Math.exp(term);
    term += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * sum);
}

function tellChanges(index, from, to) {
  const found = index.ids.map((id, place) => outcomeOf(index, from, to, place));
  const counts = Object.fromEntries(Object.keys(outcomes).map((name) => [name, found.filter((own) => own === name).length]));
  for (const button of document.querySelectorAll("#changes [data-rule]")) {
    const rule = button.dataset.rule;
    button.replaceChildren(el("i", { class: `cell ${rule}` }), String(counts[rule]));
    button.setAttribute("aria-label", `${counts[rule]} ${outcomes[rule]}, show them`);
  }
  const p = mcnemar(counts.gained, counts.lost);
  const test = p < 0.001 ? "<\u00a0.001" : `=\u00a0${p.toFixed(3).replace(/^0/, "")}`;
  byId("tested").textContent = counts.gained + counts.lost
    ? `From ${from} to ${to}, ${counts.gained} become right and ${counts.lost} wrong: exact McNemar p\u00a0${test}, for this pair alone.`
    : `From ${from} to ${to} no answer changes between right and wrong.`;
  const cells = found.length > CELLS ? [] : found.map((own, place) =>
    own && el("button", {
      type: "button", class: `cell ${own}`, tabindex: "-1", "data-place": place,
      title: `${place + 1}. ${index.texts[place]} (${outcomes[own]})`,
      "aria-label": `${place + 1}. ${index.texts[place]}: ${outcomes[own]}`,
    }),
  );
  byId("strip").replaceChildren(...cells.filter(Boolean));
}

// Which cells are on offer, and which is shown.
function markChanges(rule, matching, shown) {
  for (const button of document.querySelectorAll("#changes [data-rule]")) {
    button.setAttribute("aria-pressed", String(button.dataset.rule === rule));
  }
  const offered = new Set(matching);
  const focused = document.activeElement?.closest("#strip");
  for (const cell of byId("strip").children) {
    const place = Number(cell.dataset.place);
    cell.classList.toggle("out", !offered.has(place));
    cell.tabIndex = place === shown ? 0 : -1;
    if (place === shown) {
      cell.setAttribute("aria-current", "true");
      if (focused) cell.focus({ preventScroll: true });
    } else {
      cell.removeAttribute("aria-current");
    }
  }
}
