// The report's browser of single questions: choosing one, and showing the arms' answers to it.
"use strict";

const abouts = indexes.map((index, place) => json(`about-${place}`));
let matching = []; // places in the group's index of the questions on offer
let shown = -1; // the one on show

const group = () => Number(byId("group")?.value ?? 0);
const compared = () => [byId("from").value, byId("to").value];

// Choosing

const is = (name) => (index, from, to, place) => outcomeOf(index, from, to, place) === name;
const rise = (index, from, to, place) => (index.f1[to][place] ?? NaN) - (index.f1[from][place] ?? NaN);
const every = (index, place) => Object.values(index.em).map((own) => own[place]).filter((em) => em !== null);
const rules = {
  all: () => true,
  ...Object.fromEntries(Object.keys(outcomes).map((name) => [name, is(name)])),
  better: (...asked) => rise(...asked) > 0,
  worse: (...asked) => rise(...asked) < 0,
  right: (index, from, to, place) => every(index, place).every((em) => em === 1),
  wrong: (index, from, to, place) => !every(index, place).some((em) => em === 1),
};

function choose() {
  const words = byId("search").value.toLowerCase().trim();
  const rule = byId("change").value;
  const index = indexes[group()];
  matching = [...index.ids.keys()].filter((place) => {
    const parts = [index.ids[place], index.texts[place], ...index.answers[place]];
    return rules[rule](index, ...compared(), place) && parts.some((part) => part.toLowerCase().includes(words));
  });
  byId("pick").replaceChildren(
    ...matching.map((place, at) => el("option", { value: place }, `${at + 1}. ${index.texts[place]}`)),
  );
  show(matching.includes(shown) ? shown : (matching[0] ?? -1));
}

function offerArms() {
  const { policies, compared } = abouts[group()];
  for (const [end, policy] of [["from", compared[0]], ["to", compared[1]]]) {
    byId(end).replaceChildren(...policies.map((name) => el("option", { selected: name === policy && "" }, name)));
  }
  compare();
}

function compare() {
  const [from, to] = compared();
  const index = indexes[group()];
  startWatch(abouts[group()], [to, from], index);
  tellChanges(index, from, to);
  choose();
}

function step(by) {
  const place = matching[matching.indexOf(shown) + by];
  if (place !== undefined) show(place);
}

// Showing

async function show(place) {
  shown = place;
  const at = matching.indexOf(place);
  byId("count").textContent = matching.length ? `${at + 1} of ${matching.length}` : "no question fits";
  byId("previous").disabled = at <= 0;
  byId("next").disabled = at < 0 || at === matching.length - 1;
  byId("pick").value = String(place);
  markChanges(byId("change").value, matching, shown);
  tellOf(null);
  const own = group();
  const question = place < 0 ? null : await unpack(`question-${own}-${place}`);
  if (place !== shown || own !== group()) return; // another was chosen meanwhile
  byId("question").replaceChildren(...(question ? questionView(question, place) : []));
  tellFires(indexes[own], matching);
}

function questionView(question, place) {
  const found = (id) => question.passages[id]?.title ?? id;
  const facts = [["Gold answer", question.answers.join(" · ")]];
  if (question.supporting.length) facts.push(["Supporting", question.supporting.map(found).join(" · ")]);
  if (question.kind) facts.push(["Kind", question.kind]);
  const hops = question.invented?.map((invented) => (invented ? "invented" : "real"));
  if (hops) facts.push(["Hops", hops.join(" → ")]);
  const pair = [...new Set(compared())];
  const answered = abouts[group()].policies.filter((policy) => policy in question.arms);
  const others = answered.filter((policy) => !pair.includes(policy));
  const view = (policy) => armView(toldOf(policy, place), question.arms[policy], question);
  return [
    el("h3", {}, question.text),
    el("dl", { class: "facts" }, ...facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])),
    el("div", { class: "arms" }, ...pair.filter((policy) => answered.includes(policy)).map(view)),
    others.length ? othersView(others, place, question, view) : "",
  ].filter(Boolean);
}

const toldOf = (policy, place) => {
  const index = indexes[group()];
  return { policy, em: index.em[policy][place], f1: index.f1[policy][place], cost: priced[group()].cost(policy, place) };
};

// The other arms, a line each; one that is opened shows its whole answer.
let othersOpen = false;

function othersView(policies, place, question, view) {
  const lines = policies.map((policy) => {
    const { em, f1, cost } = toldOf(policy, place);
    const line = el("details", { class: "other" }, el("summary", {},
      el("b", {}, policy), outcome(em), el("span", {}, `F1 ${share(f1)}`), el("span", {}, `cost ${number(cost)}`),
      el("span", { class: "said" }, question.arms[policy].answer || "none")));
    line.addEventListener("toggle", () => {
      if (line.open && line.children.length === 1) line.append(view(policy));
      tellFires(indexes[group()], matching);
    });
    return line;
  });
  const all = el("details", { class: "others" }, el("summary", {}, count(policies.length, "other arm")), ...lines);
  all.open = othersOpen;
  all.addEventListener("toggle", () => { othersOpen = all.open; });
  return all;
}

// Listening

const article = byId("question");
const tokenAt = (event) => event.target.closest?.(".t");
for (const kind of ["pointerover", "focusin", "click"]) {
  article.addEventListener(kind, (event) => tellOf(tokenAt(event)));
}
for (const kind of ["pointerleave", "focusout"]) article.addEventListener(kind, () => tellOf(null));
addEventListener("scroll", () => tellOf(told), { passive: true }); // focusing a token may scroll: the tip goes along

addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === "Escape") tellOf(null);
  if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
  const token = tokenAt(event);
  if (token) nextToken(token, by);
  else if (!event.target.closest?.("input, select, .scroll, pre")) step(by);
});

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("pick").addEventListener("change", (event) => show(Number(event.target.value)));
byId("group")?.addEventListener("change", offerArms);
byId("change").addEventListener("change", choose);
byId("search").addEventListener("input", choose);
for (const id of ["from", "to"]) byId(id).addEventListener("change", compare);

byId("changes").addEventListener("click", ({ target }) => {
  const rule = target.closest("[data-rule]")?.dataset.rule;
  const cell = target.closest("[data-place]");
  if (rule) {
    byId("change").value = byId("change").value === rule ? "all" : rule; // a second press takes the filter away
    choose();
  } else if (cell) {
    pickCell(Number(cell.dataset.place));
  }
});

function pickCell(place) {
  if (!matching.includes(place)) {
    byId("change").value = "all";
    byId("search").value = "";
    shown = place;
    return choose();
  }
  show(place);
}

byId("signal").addEventListener("change", ({ target }) => {
  setWatch(Number(target.value), null, indexes[group()]);
  tellFires(indexes[group()], matching);
});
for (const id of ["threshold", "exact"]) {
  byId(id).addEventListener("input", ({ target }) => {
    if (target.value === "") return; // still being written
    setThreshold(Number(target.value));
    tellFires(indexes[group()], matching);
  });
}
addEventListener("priced", () => show(shown));
offerArms();
