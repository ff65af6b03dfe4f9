// An answer as it came about: its tokens by probability, its drafts, look-ups and hand-overs.
"use strict";

const outcome = (em) => el("span", { class: em ? "right" : "wrong" }, em ? "✓ right" : "✗ wrong");

// `told` holds what the index knows: { policy, em, f1, cost }.
function armView(told, arm, question) {
  const spent = [count(arm.generated, "token") + (arm.discarded ? ` (${arm.discarded} discarded)` : "")];
  if (arm.retrievals) spent.push(count(arm.retrievals, "look-up"));
  if (arm.escalations) spent.push(count(arm.escalations, "hand-over"));
  spent.push(`cost ${number(told.cost)}`, `${arm.seconds.toFixed(1)} s`);
  return el("section", { class: "arm" },
    el("h4", {}, told.policy, el("span", { class: "score" }, outcome(told.em), ` · F1 ${share(told.f1)}`)),
    el("p", { class: "spent" }, spent.join(" · ")),
    streamView(told.policy, arm.events, question),
    el("p", { class: "short" }, el("span", {}, "Answer read: "), arm.answer || "none"),
  );
}

// A segment's tokens are runs of the question's.
function idsOf({ runs }) {
  const ids = [];
  for (let i = 0; i < runs.length; i += 2) {
    for (let id = runs[i]; id < runs[i] + runs[i + 1]; id++) ids.push(id);
  }
  return ids;
}

function streamView(policy, events, question) {
  const segments = events.filter((event) => event.kind === "segment");
  for (const segment of segments) segment.ids ??= idsOf(segment);
  const mixed = new Set(segments.map((segment) => segment.role)).size > 1;
  const stream = el("div", { class: "stream", role: "group", "aria-label": `Answer of ${policy}, token by token` });
  stream.policy = policy;
  stream.segments = segments.map(({ ids, starts }) => ({ ids, starts, nodes: [] }));
  stream.tokens = question.tokens;
  for (const event of events) {
    if (event.kind === "segment") {
      const place = segments.indexOf(event);
      const fired = events.filter((other) => other.kind === "fired" && other.segment === place);
      stream.append(...segmentView(event, fired, mixed, stream.segments[place].nodes, question.tokens));
    } else {
      stream.append(...(eventViews[event.kind](event, segments, question, events) ?? []));
    }
  }
  for (const node of [...stream.childNodes]) { // no space before a line's first word
    const begins = !node.previousSibling || node.previousSibling.matches?.(".event");
    const first = node.nodeName === "DEL" ? node.firstChild : node;
    if (begins && first?.nodeType === Node.TEXT_NODE && !first.data.trim()) first.data = "";
  }
  stream.querySelector("[tabindex]")?.setAttribute("tabindex", "0"); // one stop for Tab, the arrows do the rest
  return stream;
}

function segmentView({ role, ids, kept }, fired, mixed, nodes, tokens) {
  const marks = new Map(fired.map((event) => [event.token, event]));
  const shown = ids.map((id, place) => {
    const mark = marks.has(place) && el("span", { class: "fired", title: reason(marks.get(place)) }, "▲");
    return [...tokenView(id, tokens, place >= kept, nodes), mark].filter(Boolean);
  });
  const parts = mixed ? [el("span", { class: "role" }, role)] : [];
  parts.push(...shown.slice(0, kept).flat());
  if (kept < ids.length) parts.push(el("del", { title: "discarded draft" }, ...shown.slice(kept).flat()));
  return parts;
}

const probability = (tokens, id) => 1 - tokens.values["min-prob"][id] / watching.scale;

// The token's node goes to `nodes`, or null where there is nothing to see.
function tokenView(id, tokens, discarded, nodes) {
  const text = tokens.text[id];
  if (!text) {
    nodes.push(null);
    return [];
  }
  const space = text.match(/^\s*/)[0];
  const word = text.slice(space.length);
  const level = [0.95, 0.8, 0.5, 0.2].filter((bound) => probability(tokens, id) < bound).length;
  const blank = space.includes("\n") ? "↵" : "␣";
  const node = el("span", { class: `t p${level}${word ? "" : " blank"}`, tabindex: "-1" }, word || blank);
  node.told = { id, tokens, discarded };
  nodes.push(node);
  return word ? [space, node] : [node, space];
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
  failed: ({ part, error }) => [el("p", { class: "event" }, `✕ The ${part} failed: ${error}`)],
  chosen: ({ router, policy }) => [el("p", { class: "event note" }, `${router} chose ${policy}`)],
  fired(event, segments, { tokens }) {
    if (event.signal === "always") return [];
    const token = tokens.text[segments[event.segment]?.ids[event.token]]?.trim();
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
  const { id, tokens, discarded } = node.told;
  const others = tokens.top[id] || [];
  const pairs = Array.from({ length: others.length / 2 }, (_, i) => others.slice(2 * i, 2 * i + 2));
  const lines = pairs.map(([word, value]) => [JSON.stringify(word), percent(value / 1000)]);
  openTip(
    node.getBoundingClientRect(),
    el("div", {},
      el("code", {}, JSON.stringify(tokens.text[id])),
      ` p = ${percent(probability(tokens, id))}${discarded ? ", discarded" : ""}`),
    el("div", {}, `${watching.watch.label}: ${watching.valueOf(tokens, id)}`),
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
