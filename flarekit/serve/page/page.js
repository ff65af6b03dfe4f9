// The page at "/": a question, and one policy's answer to it or two side by side, as they come about.
// What models wrote and what was found only ever become text nodes.

const byId = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== "" && child !== undefined));
  return node;
}

const thousands = (value) => value.toLocaleString("en");
const figure = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))));
const percent = (p) => (p >= 0.1 || p === 0 ? (100 * p).toFixed(0) : p >= 0.001 ? (100 * p).toFixed(1) : "<0.1") + "%";
const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// Talking to the server

class Trouble extends Error {} // its message is one line for the reader

async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const what = response.status < 500 ? "The server refused the request" : "The server failed";
  throw new Trouble(`${what} (${response.status}): ${body?.error?.message ?? "it did not say why."}`);
}

// Each event of the stream until the server says that it is done.
async function* chunksOf(response) {
  const lost = new Trouble("The connection was lost before the end of the answer.");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : lost;
      });
      if (done) throw lost;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines.filter((line) => line.startsWith("data:"))) {
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have failed already
  }
}

async function ask(answer, messages, signal) {
  const body = {
    model: answer.model.id,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
    flarekit: { events: true },
  };
  try {
    const response = await call("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
    for await (const chunk of chunksOf(response)) follow(() => answer.take(chunk));
    follow(() => answer.end());
  } catch (error) {
    follow(() => answer.breakOff(error));
  }
}

// Tokens: { token, logprob } as the server sends them

const textOf = (tokens) => tokens.map(({ token }) => token).join("");

// The tokens of a committed text. Where they don't spell it (characters that take several tokens), all of it is one.
function tokensOf(text, logprobs) {
  const tokens = logprobs?.content ?? [];
  if (textOf(tokens).trim() === text.trim()) return tokens;
  return [{ token: text, logprob: tokens.length ? Math.min(...tokens.map(({ logprob }) => logprob)) : undefined }];
}

function tokenView({ token, logprob }) {
  const word = token.trimStart();
  if (!word || logprob === undefined || logprob === null) return [token];
  const p = Math.exp(logprob);
  const level = [0.95, 0.8, 0.5, 0.2].filter((bound) => p < bound).length;
  const node = el("span", { class: `t p${level}`, tabindex: "-1" }, word);
  node.probability = percent(p);
  return [token.slice(0, token.length - word.length), node];
}

// What shows the tokens in `part`, after `previous`: without the space that they begin with where nothing is before.
function tokenViews(tokens, previous) {
  const views = tokens.flatMap(tokenView);
  if (!previous || previous.className === "role") {
    while (typeof views[0] === "string" && !views[0].trim()) views.shift();
    if (typeof views[0] === "string") views[0] = views[0].trimStart();
  }
  return views.filter((view) => view !== "");
}

// A draft is kept where committed text consists of its tokens, as far as both go. The same words with other
// probabilities were generated again.
function isKept(draft, committed) {
  const [ours, theirs] = [draft.tokens, committed].map((tokens) => tokens.filter(({ token }) => token.trim()));
  const same = ({ token, logprob }, n) => token.trim() === ours[n].token.trim() && logprob === ours[n].logprob;
  return theirs.length > 0 && theirs.slice(0, ours.length).every(same);
}

function tokensAfter(tokens, text) {
  const taken = tokens.findIndex((_, n) => textOf(tokens.slice(0, n)).trimStart().length >= text.trimStart().length);
  return taken < 0 ? [] : tokens.slice(taken);
}

const throwAway = ({ node }) => node.replaceWith(el("del", { class: "draft" }, ...node.childNodes));

// Events

const when = { pre: "before the answer", mid: "during the answer", post: "after the answer" };
const block = (...children) => el("div", { class: "event" }, ...children);
const note = (text) => el("p", { class: "event note" }, text);

const eventViews = {
  probe: ({ signal, value, seconds }) => note(`Asked the model: ${signal} ${figure(value)} (${seconds.toFixed(1)} s)`),
  chosen: ({ router, policy }) => note(`${router} chose ${policy}`),
  fired({ signal, moment, value, threshold, action }) {
    if (signal === "always") return block(`→ ${action}`);
    const reason = ` ${signal} ${figure(value)} ≥ ${figure(threshold)} ${when[moment]} → ${action}`;
    return block(el("span", { class: "fired" }, "▲"), reason);
  },
  retrieved({ query, sources, seconds }, question) {
    const found = sources.length ? `Found ${count(sources.length, "passage")}` : "Found nothing";
    const asked = query === question ? "the question" : el("span", { class: "query" }, query);
    return block(`${found} in ${seconds.toFixed(2)} s with `, asked, ...sources.map(({ title, id, text, score }) =>
      el("details", { class: "passage" },
        el("summary", {}, title || id, score === null ? "" : el("small", {}, ` score ${figure(score)}`)),
        el("p", {}, text))));
  },
  "handed-over": ({ source, target, model }) =>
    block(`⇄ Handed over from the ${source} to the ${target} model, ${model}`),
  failed: ({ part, error }) => {
    const what = part === "retriever" ? "retriever" : `${part} model`;
    return el("p", { class: "event failed" }, `The ${what} failed: ${error}; the answer goes on without it.`);
  },
};

function costsView(usage, seconds, first) {
  const { prompt_tokens: prompt, completion_tokens: generated, flarekit = {} } = usage;
  const cached = usage.prompt_tokens_details?.cached_tokens;
  const discarded = flarekit.discarded_tokens;
  const text = flarekit.first_committed ?? first;
  const rows = [
    ["Prompt tokens", thousands(prompt) + (cached ? ` (${thousands(cached)} cached)` : "")],
    ["Generated tokens", thousands(generated) + (discarded ? ` (${thousands(discarded)} discarded)` : "")],
    ["Look-ups", flarekit.retrievals],
    ["Hand-overs", flarekit.escalations],
    ["By the strong model", flarekit.strong_share === undefined ? undefined : percent(flarekit.strong_share)],
    ["Whole answer after", `${(flarekit.seconds ?? seconds).toFixed(1)} s`],
    ["First text after", text === undefined ? undefined : `${text.toFixed(1)} s`],
  ].filter(([, value]) => value !== undefined);
  return el("dl", { class: "costs" }, ...rows.map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
}

// One answer as it comes about: blocks of text by one model, and what happened between them.

class Answer {
  text = ""; // all that was committed
  #drafts = []; // of which it is not known yet whether they are kept, oldest first
  #unsaid = "";
  #began = performance.now();
  #first;
  #finish;
  #usage;
  #state = el("span", { class: "state" }, "waiting …");

  constructor(model, question, named) {
    this.model = model;
    this.question = question;
    this.named = named; // whether a screen reader must be told whose answer it is
    this.stream = el("div", { class: "stream", role: "group", "aria-label": `Answer of ${model.id}, token by token` });
    this.node = el("section", { class: "arm", "aria-label": model.id },
      el("h3", {}, model.id, this.#state),
      this.stream);
  }

  take({ error, flarekit, choices, usage }) {
    if (error) throw new Trouble(`The answer broke off: ${error.message}`);
    this.#state.textContent = "answering …";
    for (const event of flarekit?.events ?? []) this.#tell(event);
    const [choice] = choices;
    const text = choice?.delta?.content;
    if (text) this.#commit(text, tokensOf(text, choice.logprobs), flarekit?.role ?? "");
    this.#finish = choice?.finish_reason ?? this.#finish;
    this.#usage = usage ?? this.#usage;
  }

  end() {
    this.#close("done");
    if (this.#finish === "length") this.#add(note("The answer stops here: it reached the limit on its length."));
    if (this.#usage) this.node.append(costsView(this.#usage, (performance.now() - this.#began) / 1000, this.#first));
  }

  breakOff(error) {
    const stopped = error.name === "AbortError";
    this.#close(stopped ? "stopped" : "failed");
    if (stopped) return;
    const line = error instanceof Trouble ? error.message : `The server sent something unexpected: ${error.message}`;
    this.#add(el("p", { class: "event failed" }, line));
    this.#say(line, true);
  }

  #close(state) {
    this.#drafts.splice(0).forEach(throwAway);
    this.#say("", true);
    this.#state.textContent = state;
  }

  #tell(event) {
    if (event.kind === "segment") return this.#propose(event);
    if (event.kind === "handed-over") this.stream.classList.add("mixed");
    const view = eventViews[event.kind]?.(event, this.question);
    if (view) this.#add(view);
    if (event.kind === "failed") this.#say(view.textContent, true);
  }

  #add(view) {
    this.#say("", true);
    this.stream.append(view);
  }

  #propose({ draft, role }) {
    if (!textOf(draft).trim()) return;
    const part = this.#part(role);
    const node = el("span", { class: "draft" }, ...tokenViews(draft, part.lastChild));
    part.append(node);
    this.#drafts.push({ tokens: draft, node });
  }

  // Committed text takes the place of the draft that it was; drafts before that one, or all, were thrown away.
  #commit(text, tokens, role) {
    this.#first ??= (performance.now() - this.#began) / 1000;
    this.text += text;
    this.#say(text);
    const place = this.#drafts.findIndex((draft) => isKept(draft, tokens));
    this.#drafts.splice(0, place < 0 ? this.#drafts.length : place).forEach(throwAway);
    if (place < 0) {
      const part = this.#part(role);
      part.append(...tokenViews(tokens, part.lastChild));
    } else {
      this.#keep(this.#drafts.shift(), text, tokens);
    }
    if (!this.stream.querySelector(".t[tabindex='0']")) this.stream.querySelector(".t")?.setAttribute("tabindex", "0");
  }

  // What the draft holds beyond the text, such as the next sentence's first word, was thrown away.
  #keep({ node, tokens: drafted }, text, tokens) {
    node.before(...tokenViews(tokens, node.previousSibling));
    const rest = tokensAfter(drafted, text);
    node.replaceChildren(...tokenViews(rest, node.previousSibling));
    if (textOf(rest).trim()) throwAway({ node });
    else node.remove();
  }

  #part(role) {
    const last = this.stream.lastElementChild;
    if (last?.dataset.role === role) return last;
    const name = el("span", { class: "role", "data-role": role }, role);
    const part = el("div", { class: "part", "data-role": role }, name);
    this.stream.append(part);
    if (new Set([...this.stream.querySelectorAll(".part")].map((part) => part.dataset.role)).size > 1) {
      this.stream.classList.add("mixed");
    }
    return part;
  }

  // To screen readers, by the sentence.
  #say(text, now = false) {
    this.#unsaid += text;
    if (!this.#unsaid.trim() || !(now || /[.!?]["')\]]*\s*$/.test(this.#unsaid))) return;
    const live = byId("live");
    live.append(el("p", {}, (this.named ? `${this.model.id}: ` : "") + this.#unsaid.trim()));
    while (live.children.length > 4) live.firstChild.remove();
    this.#unsaid = "";
  }
}

// The conversation

let models = [];
let turns = []; // { question, answers }
let running = null; // what aborts the answers that are streaming

function chosenModels() {
  const menus = byId("compare").checked ? ["policy", "other"] : ["policy"];
  return menus.map((id) => models[byId(id).value]).filter(Boolean);
}

// Each side goes on from its own answers; a turn without any text is as if it had not been.
function messagesOf(side, question) {
  const said = turns.flatMap((turn) => {
    const { text } = turn.answers[side] ?? turn.answers[0];
    if (!text.trim()) return [];
    return [{ role: "user", content: turn.question }, { role: "assistant", content: text.trim() }];
  });
  return [...said, { role: "user", content: question }];
}

async function send() {
  const question = byId("question").value.trim();
  const chosen = chosenModels();
  if (!question || running || !chosen.length) return;
  const answers = chosen.map((model) => new Answer(model, question, chosen.length > 1));
  const messages = answers.map((_, side) => messagesOf(side, question));
  turns.push({ question, answers });
  byId("turns").append(
    el("article", { class: "turn" }, el("h2", {}, question),
      el("div", { class: "arms" }, ...answers.map(({ node }) => node))));
  scrollTo(0, document.documentElement.scrollHeight);
  byId("question").value = "";
  const own = new AbortController();
  setRunning(own);
  await Promise.all(answers.map((answer, side) => ask(answer, messages[side], own.signal)));
  if (running === own) setRunning(null);
}

function setRunning(controller) {
  running = controller;
  byId("stop").hidden = !running;
  byId("send").hidden = Boolean(running);
}

// Stays at the page's end where the reader is there.
function follow(change) {
  const end = document.documentElement;
  const there = innerHeight + scrollY >= end.scrollHeight - 48;
  change();
  if (there) scrollTo(0, end.scrollHeight);
}

function startAnew() {
  running?.abort();
  setRunning(null);
  turns = [];
  byId("turns").replaceChildren();
  byId("live").replaceChildren();
  byId("question").focus();
}

// The form

async function loadModels() {
  const trouble = byId("trouble");
  try {
    const { data } = await (await call("v1/models")).json();
    models = data.filter(({ flarekit }) => !flarekit?.alias);
    trouble.hidden = true;
  } catch (error) {
    models = [];
    trouble.textContent = error.message;
    trouble.hidden = false;
    if (error.message.includes("(401)")) byId("key").open = true;
  }
  const first = Math.max(0, models.findIndex(({ flarekit }) => flarekit?.default));
  for (const [id, place] of [["policy", first], ["other", first ? 0 : 1]]) {
    byId(id).replaceChildren(...models.map((model, at) => el("option", { value: at }, model.id)));
    byId(id).selectedIndex = models.length > place ? place : -1;
  }
  byId("send").disabled = !models.length;
  byId("compare").disabled = models.length < 2;
  tellOfPolicies();
}

function tellOfPolicies() {
  byId("with").hidden = !byId("compare").checked;
  byId("about").replaceChildren(...chosenModels().map(({ id, flarekit = {} }) => {
    const line = [flarekit.policy === id ? "" : flarekit.policy, flarekit.about].filter(Boolean).join(" · ");
    return el("span", { title: line }, line);
  }));
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("question").focus();
  send();
});
byId("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
byId("stop").addEventListener("click", () => {
  running?.abort();
  byId("question").focus();
});
byId("new").addEventListener("click", startAnew);
for (const id of ["policy", "other", "compare"]) byId(id).addEventListener("change", tellOfPolicies);
byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", byId("secret").value.trim());
  loadModels();
});

// A token's probability, by pointer and by keyboard

function showTip(node) {
  const tip = byId("tip");
  tip.hidden = !node;
  if (!node) return;
  const role = node.closest(".part").dataset.role;
  const draft = node.closest("del") ? "thrown away" : node.closest(".draft") ? "draft" : "";
  const facts = [`p = ${node.probability}`, role && `${role} model`, draft].filter(Boolean).join(", ");
  tip.replaceChildren(el("code", {}, JSON.stringify(node.textContent)), ` ${facts}`);
  const [at, box] = [node.getBoundingClientRect(), tip.getBoundingClientRect()];
  const below = at.bottom + 8 + box.height < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - box.width - 8))}px`;
  tip.style.top = `${below ? at.bottom + 8 : at.top - box.height - 8}px`;
}

const tokenAt = (event) => event.target.closest?.(".stream .t");

function stepFrom(node, by) {
  const tokens = [...node.closest(".stream").querySelectorAll(".t")];
  const next = tokens[tokens.indexOf(node) + by];
  if (!next) return;
  node.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => showTip(tokenAt(event)));
}
document.addEventListener("scroll", () => showTip(tokenAt({ target: document.activeElement })));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") showTip(null);
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || !tokenAt(event)) return;
  event.preventDefault();
  stepFrom(event.target, by);
});

byId("secret").value = sessionStorage.getItem("key") ?? "";
loadModels();
byId("question").focus();
