// The slider: where a trigger with this threshold would have fired on the streams that are shown.
"use strict";

const watching = {
  ...json("watches"), // { scale, watches }
  place: 0,
  threshold: 0.5,
  get watch() {
    return this.watches[this.place];
  },
  // What a trigger reads at a token.
  valueOf(tokens, id) {
    const least = { all: 0, words: 1, content: 2 }[this.watch.counts];
    return Number(tokens.counts[id]) < least ? 0 : tokens.values[this.watch.column][id] / this.scale;
  },
  counts(tokens, id) {
    return this.watch.counts === "all" || Number(tokens.counts[id]) >= (this.watch.counts === "words" ? 1 : 2);
  },
};

// The tokens of a segment, sentence by sentence, at which the trigger is read.
function readAt({ ids, starts }, tokens) {
  return starts.map((start, i) => {
    const end = starts[i + 1] ?? ids.length;
    const places = watching.watch.read === "sentence" ? [end - 1] : Array.from({ length: end - start }, (_, j) => start + j);
    return places.filter((place) => watching.counts(tokens, ids[place]));
  });
}

// Marks a stream's tokens; gives how many of its sentences and tokens reach the threshold.
function markStream(stream) {
  const found = { sentences: 0, fired: 0, tokens: 0, reached: 0 };
  for (const segment of stream.segments) {
    segment.nodes.forEach((node) => node?.classList.remove("fires", "over"));
    found.tokens += segment.ids.length;
    for (const places of readAt(segment, stream.tokens)) {
      const over = places.filter((place) => watching.valueOf(stream.tokens, segment.ids[place]) >= watching.threshold);
      over.forEach((place, i) => segment.nodes[place]?.classList.add(i ? "over" : "fires"));
      found.sentences += 1;
      found.fired += over.length > 0;
      found.reached += over.length;
    }
  }
  return found;
}

function shareFiring(index, policy, places) {
  const peaks = places.map((place) => index.peaks[policy][place]).filter(Boolean);
  const firing = peaks.filter((values) => values[watching.place] / watching.scale >= watching.threshold);
  return peaks.length ? percentOf(firing.length / peaks.length) : "none";
}

const percentOf = (part) => `${(100 * part).toFixed(0)}%`;

// One line an answer that is open; the page says how many questions `places` are.
function tellFires(index, places) {
  const lines = [...document.querySelectorAll("#question .stream")].map((stream) => {
    const { sentences, fired, tokens, reached } = markStream(stream);
    return el("p", {},
      el("b", {}, stream.policy),
      ` would fire in ${fired} of ${count(sentences, "sentence")}, at ${reached} of ${count(tokens, "token")} of this answer; `,
      `on ${shareFiring(index, stream.policy, places)} of the ${count(places.length, "question")} on offer`);
  });
  byId("fires").replaceChildren(...lines);
}

// The slider goes as far as any answer of the group does.
function rangeOf(index) {
  if (watching.watch.high) return watching.watch.high;
  const peaks = Object.values(index.peaks).flatMap((own) => own.map((values) => values?.[watching.place] ?? 0));
  return Math.max(0.1, Math.ceil((10 * peaks.reduce((most, value) => Math.max(most, value), 0)) / watching.scale) / 10);
}

function setWatch(place, threshold, index) {
  watching.place = place;
  byId("signal").value = String(place);
  byId("threshold").max = String(rangeOf(index));
  setThreshold(threshold ?? Number(byId("threshold").max) / 2);
}

function setThreshold(value) {
  watching.threshold = Number(Math.max(0, value).toFixed(3)); // the values are thousandths
  byId("threshold").value = String(watching.threshold);
  byId("exact").value = String(watching.threshold);
  byId("threshold").setAttribute("aria-valuetext", `${watching.watch.label} ${watching.threshold}`);
}

// Where the arm that is looked at has a threshold of its own, the slider starts there.
function startWatch({ own }, policies, index) {
  const [place, threshold] = policies.map((policy) => own[policy]).find(Boolean) ?? [1, 0.5];
  setWatch(place, threshold, index);
}
