// The report's browser of single questions: choosing one, and showing every arm's answer as it came about.
"use strict";

const index = json("index");
const groups = json("groups");
let matching = []; // places in `index` of the questions on offer
let shown = -1; // the one on show

// Choosing

const right = (scores) => scores?.[0] === 1;
const rules = {
  all: () => true,
  gained: (from, to) => from && to && !right(from) && right(to),
  lost: (from, to) => from && to && right(from) && !right(to),
  better: (from, to) => from && to && to[1] > from[1],
  worse: (from, to) => from && to && to[1] < from[1],
  right: (from, to, every) => every.every(right),
  wrong: (from, to, every) => !every.some(right),
};

function choose() {
  const words = byId("search").value.toLowerCase().trim();
  const rule = rules[byId("change").value];
  const [group, from, to] = [Number(byId("group")?.value ?? 0), byId("from").value, byId("to").value];
  matching = [...index.keys()].filter((place) => {
    const { group: own, id, text, answers, scores } = index[place];
    if (own !== group || !rule(scores[from], scores[to], Object.values(scores))) return false;
    return [id, text, ...answers].some((part) => part.toLowerCase().includes(words));
  });
  byId("pick").replaceChildren(
    ...matching.map((place, number) => el("option", { value: place }, `${number + 1}. ${index[place].text}`)),
  );
  show(matching.includes(shown) ? shown : (matching[0] ?? -1));
}

function offerArms() {
  const { policies, compared } = groups[Number(byId("group")?.value ?? 0)];
  for (const [end, policy] of [["from", compared[0]], ["to", compared[1]]]) {
    byId(end).replaceChildren(...policies.map((name) => el("option", { selected: name === policy && "" }, name)));
  }
  choose();
}

function step(by) {
  const place = matching[matching.indexOf(shown) + by];
  if (place !== undefined) show(place);
}

function show(place) {
  shown = place;
  const number = matching.indexOf(place);
  byId("count").textContent = matching.length ? `${number + 1} of ${matching.length}` : "no question fits";
  byId("previous").disabled = number <= 0;
  byId("next").disabled = number < 0 || number === matching.length - 1;
  byId("pick").value = String(place);
  tellOf(null);
  byId("question").replaceChildren(...(place < 0 ? [] : questionView(json(`question-${place}`), index[place].group)));
}

// One question

function questionView(question, group) {
  const found = (id) => question.passages[id]?.title ?? id;
  const facts = [["Gold answer", question.answers.join(" · ")]];
  if (question.supporting.length) facts.push(["Supporting", question.supporting.map(found).join(" · ")]);
  if (question.kind) facts.push(["Kind", question.kind]);
  const hops = question.invented?.map((invented) => (invented ? "invented" : "real"));
  if (hops) facts.push(["Hops", hops.join(" → ")]);
  const arms = groups[group].policies.filter((policy) => policy in question.arms);
  return [
    el("h3", {}, question.text),
    el("dl", { class: "facts" }, ...facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])),
    el("div", { class: "arms" }, ...arms.map((policy) => armView(policy, question.arms[policy], question))),
  ];
}

function armView(policy, arm, question) {
  const { costs } = arm;
  const spent = [count(costs.generated, "token") + (costs.discarded ? ` (${costs.discarded} discarded)` : "")];
  if (costs.retrievals) spent.push(count(costs.retrievals, "retrieval"));
  if (costs.escalations) spent.push(count(costs.escalations, "hand-over"));
  spent.push(`cost ${Number(costs.price.toFixed(0)).toLocaleString("en")}`, `${costs.seconds.toFixed(1)} s`);
  const verdict = el("span", { class: arm.em ? "right" : "wrong" }, arm.em ? "✓ right" : "✗ wrong");
  return el("section", { class: "arm" },
    el("h4", {}, policy, el("span", { class: "score" }, verdict, ` · F1 ${share(arm.f1)}`)),
    el("p", { class: "spent" }, spent.join(" · ")),
    streamView(policy, arm.events, question),
    el("p", { class: "short" }, el("span", {}, "Answer read: "), arm.answer || "none"),
  );
}

function streamView(policy, events, question) {
  const segments = events.filter((event) => event.kind === "segment");
  const mixed = new Set(segments.map((segment) => segment.role)).size > 1;
  const stream = el("div", { class: "stream", role: "group", "aria-label": `Answer of ${policy}, token by token` });
  for (const event of events) {
    if (event.kind === "segment") {
      const fired = events.filter((other) => other.kind === "fired" && segments[other.segment] === event);
      stream.append(...segmentView(event, fired, mixed));
    } else {
      stream.append(...(eventViews[event.kind](event, segments, question, events) ?? []));
    }
  }
  stream.querySelector("[tabindex]")?.setAttribute("tabindex", "0"); // one stop for Tab, the arrows do the rest
  return stream;
}

function segmentView({ role, tokens, kept }, fired, mixed) {
  const marks = new Map(fired.map((event) => [event.token, event]));
  const nodes = tokens.map((token, place) => {
    const mark = marks.has(place) && el("span", { class: "fired", title: reason(marks.get(place)) }, "▲");
    return [...tokenView(token, place >= kept), mark].filter(Boolean);
  });
  const parts = mixed ? [el("span", { class: "role" }, role)] : [];
  parts.push(...nodes.slice(0, kept).flat());
  if (kept < tokens.length) parts.push(el("del", { title: "discarded draft" }, ...nodes.slice(kept).flat()));
  return parts;
}

function tokenView([text, p, alternatives = []], discarded) {
  const space = text.match(/^\s*/)[0];
  const word = text.slice(space.length);
  const level = [0.95, 0.8, 0.5, 0.2].filter((bound) => p < bound).length;
  const blank = space.includes("\n") ? "↵" : "␣";
  const node = el("span", { class: `t p${level}${word ? "" : " blank"}`, tabindex: "-1" }, word || blank);
  node.told = { text, p, alternatives, discarded };
  return word ? [space, node] : text ? [node, space] : [];
}

const figures = ({ signal, value, threshold }) => `${signal} ${value} ≥ ${threshold}`;
const reason = (event) => `${figures(event)}: ${event.action}`;

const eventViews = {
  probe(event, segments, question, events) {
    const { signal, value, texts } = event;
    const begun = events.slice(0, events.indexOf(event)).some((other) => other.kind === "segment");
    const asked = texts.length ? `: ${texts.map((text) => text || "nothing").join(" · ")}` : "";
    return [el("p", { class: "event note" }, `${begun ? "After" : "Before"} generation: ${signal} ${value}${asked}`)];
  },
  chosen: ({ router, policy }) => [el("p", { class: "event note" }, `${router} chose ${policy}`)],
  fired(event, segments) {
    if (event.signal === "always") return [];
    const token = segments[event.segment]?.tokens[event.token]?.[0].trim();
    const when = event.moment === "pre" ? "before generation" : event.moment === "post" ? "after the answer" : "";
    const where = token ? `at “${token}”` : when;
    return [el("p", { class: "event" }, `▲ ${figures(event)} ${where} → ${event.action}`)];
  },
  retrieved({ query, hits }, segments, { text, passages, supporting }) {
    const supports = hits.filter(([id]) => supporting.includes(id)).length;
    const known = supporting.length ? `, ${supports} of ${supporting.length} supporting` : "";
    const asked = query === text ? "with the question" : el("span", { class: "query" }, query);
    const summary = el("summary", {}, `Retrieved ${count(hits.length, "passage")}${known}: `, asked);
    return [el("details", { class: "event" }, summary, ...hits.map(([id, score]) => {
      const supports = supporting.includes(id);
      const title = el("b", {}, passages[id].title, supports ? " · supporting" : "");
      if (score !== null) title.append(el("small", {}, ` score ${score}`));
      return el("div", { class: supports ? "passage supports" : "passage" }, title, passages[id].text);
    }))];
  },
  "handed-over"({ source, target, anew }) {
    const how = anew ? "starts anew" : "goes on from here";
    return [el("p", { class: "event" }, `⇄ Handed over from the ${source} to the ${target} model, which ${how}`)];
  },
};

// The tooltip of a token

let told = null; // the token whose tooltip is open

function tellOf(node) {
  told = node;
  if (!node) return hideTip();
  const { text, p, alternatives, discarded } = node.told;
  const pairs = Array.from({ length: alternatives.length / 2 }, (_, i) => alternatives.slice(2 * i, 2 * i + 2));
  const lines = pairs.map(([word, value]) => [JSON.stringify(word), percent(value)]);
  openTip(
    node.getBoundingClientRect(),
    el("div", {}, el("code", {}, JSON.stringify(text)), ` p = ${percent(p)}${discarded ? ", discarded" : ""}`),
    lines.length ? tipTable(lines) : el("small", {}, "no alternative above 0.5%"),
  );
}

function nextToken(node, by) {
  const tokens = [...node.closest(".stream").querySelectorAll(".t")];
  const target = tokens[tokens.indexOf(node) + by];
  if (!target) return;
  node.tabIndex = -1;
  target.tabIndex = 0;
  target.focus();
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
for (const id of ["change", "from", "to"]) byId(id).addEventListener("change", choose);
byId("search").addEventListener("input", choose);
offerArms();
