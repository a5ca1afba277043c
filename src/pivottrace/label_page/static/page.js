// The labelling page. The server decides what is shown; this file draws it and listens to the keys.
// A text of a question or a person gets into the page as text only.

const at = (id) => document.getElementById(id);
const header = document.querySelector('meta[name="pivottrace"]').content;
const POLL_MS = 2000;
const RETRY_MS = 700;
const TYPING_MS = 120;
const HOLD_MS = 60_000;

let card = { kind: "rest", id: "" };
let last = null;
let busy = false;
let confirming = false; // the next Enter stores the answer as it stands
let plain = false;
let readings = 0; // the number of the latest reading that was asked for
let timer = null;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Talking to the server ---------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, detail) {
    super(typeof detail === "string" ? detail : "The server cannot use this.");
    this.status = status;
  }
}

async function once(path, body, options = {}) {
  const reply = await fetch(path, {
    ...options,
    method: "POST",
    headers: { "content-type": "application/json", "x-pivottrace": header },
    body: JSON.stringify(body),
  });
  const isJson = reply.headers.get("content-type")?.startsWith("application/json");
  const data = isJson ? await reply.json() : { detail: await reply.text() };
  if (!reply.ok) throw new Refused(reply.status, data.detail);
  return data;
}

// The same request is sent again until the server answers: it stores nothing twice.
async function send(path, body = {}) {
  for (;;) {
    try {
      const data = await once(path, body);
      if (at("notice").dataset.trouble) say("");
      return data;
    } catch (error) {
      if (error instanceof Refused && error.status !== 423) throw error;
      const trouble = error instanceof Refused
        ? "The run is at work. Your answer is kept here, and is sent again."
        : "The server does not answer. Your answer is kept here, and is sent again. If this stays, start it: pivottrace label serve";
      say(trouble, true);
      await sleep(RETRY_MS);
    }
  }
}

function say(text, isTrouble = false) {
  at("notice").textContent = text;
  if (isTrouble) at("notice").dataset.trouble = "yes";
  else delete at("notice").dataset.trouble;
}

// Runs one request at a time, and shows the screen that it gives.
async function act(path, body, failed = showProblem) {
  if (busy) return;
  setBusy(true);
  try {
    show(await send(path, body));
  } catch (error) {
    failed(error);
  } finally {
    setBusy(false);
  }
}

// What is being sent stays as it is: an edit in the meantime would be lost.
function setBusy(is) {
  busy = is;
  document.body.setAttribute("aria-busy", String(is));
  at("answer").readOnly = at("comment").readOnly = is;
}

// Drawing -----------------------------------------------------------------------------------------

function show(screen) {
  card = screen.card;
  last = screen.last;
  confirming = false;
  readings += 1;
  clearTimeout(timer);
  drawProgress(screen.progress);
  drawLast();
  say(screen.notice);
  at("name-form").hidden = true;
  at("work").dataset.id = card.id;
  at("work").hidden = card.kind === "rest";
  at("rest").hidden = card.kind !== "rest";
  if (card.kind === "rest") drawRest();
  else drawCard(screen.progress);
}

function drawProgress({ done, asked, left, mine }) {
  at("bar").max = Math.max(asked, 1);
  at("bar").value = done;
  at("progress").textContent =
    `${done} of ${asked} answered, ${mine} by you. Budget left: ${left}`;
}

function drawLast() {
  at("last").hidden = last === null;
  at("vote-text").textContent = "";
  if (last === null) return;
  at("last-answer").textContent = last.answer;
  at("last-question").textContent = last.question;
}

function drawRest() {
  at("rest-message").textContent = card.message;
  at("command").textContent = card.command;
  timer = setTimeout(poll, POLL_MS);
}

async function poll() {
  if (busy || card.kind !== "rest" || !at("name-form").hidden) return;
  const before = card.message;
  await act("/next", {}, pollLater);
  if (card.kind === "rest" && card.message === before) return;
  if (card.kind === "rest") at("rest-title").focus();
}

function pollLater(error) {
  say(error.message);
  if (error.status !== 401) timer = setTimeout(poll, POLL_MS);
}

function drawCard({ done, asked }) {
  const isConflict = card.kind === "conflict";
  at("title").textContent = isConflict
    ? "Answers differ: which is right?"
    : `Question ${Math.min(done + 1, asked)} of ${asked}`;
  at("about").textContent = card.message;
  plain = false;
  drawQuestion();
  drawOpinions();
  drawOptions();
  at("answer-label").textContent = isConflict
    ? "Right answer, if it is another one"
    : card.options.length ? "Other answer, such as several letters" : "Answer";
  at("answer").value = card.draft;
  at("unanswerable").hidden = isConflict;
  at("skip").firstChild.textContent = isConflict ? "Leave it to somebody else " : "Skip ";
  at("reading").textContent = "";
  at("problem").textContent = "";
  at("comment").value = "";
  at("comment-box").open = false;
  if (card.draft) readSoon();
  window.scrollTo(0, 0);
  focusFirst();
}

function drawQuestion() {
  const hasFormula = showText(at("question"), card.question, !plain);
  at("plain").hidden = !hasFormula;
  at("plain").setAttribute("aria-pressed", String(plain));
}

function drawOpinions() {
  at("opinions").replaceChildren(
    ...card.opinions.map(({ answer, by, number }) =>
      choice(answer, `by ${by}`, "", () => submit(answer, number))),
  );
}

function drawOptions() {
  at("options").replaceChildren(
    ...card.options.map(({ letter, text }) => choice(text, "", letter, () => submit(letter))),
  );
}

function choice(text, remark, key, chosen) {
  const button = document.createElement("button");
  button.type = "button";
  if (key) {
    const mark = document.createElement("kbd");
    mark.textContent = key;
    button.append(mark, " ");
    button.setAttribute("aria-keyshortcuts", key);
  }
  const words = document.createElement("span");
  words.dir = "auto";
  showText(words, text);
  button.append(words);
  if (remark) {
    const faint = document.createElement("span");
    faint.className = "faint";
    faint.textContent = ` ${remark}`;
    button.append(faint);
  }
  button.addEventListener("click", chosen);
  return button;
}

// Options take single keys while they have the focus; a text is typed everywhere else.
function focusFirst() {
  // The Enter that follows the person's own answer must not choose one of those that differ.
  if (card.opinions.length) at("opinions").focus({ preventScroll: true });
  else if (card.options.length && !card.draft) at("options").focus({ preventScroll: true });
  else at("answer").focus({ preventScroll: true });
}

function showProblem(error) {
  if (error.status === 422) confirming = true;
  at("problem").textContent = error.message;
  at("answer").setAttribute("aria-invalid", "true");
}

// Doing -------------------------------------------------------------------------------------------

const isWorking = () => card.kind !== "rest" && at("name-form").hidden;

// `number` is that of a stored answer, which is taken as it is.
function submit(text, number = null) {
  if (!isWorking()) return;
  const path = card.kind === "conflict" ? "/settle" : "/answer";
  act(path, { id: card.id, text, number, confirmed: confirming, comment: at("comment").value });
}

function skip() {
  if (isWorking()) act("/skip", { id: card.id, comment: at("comment").value });
}

function undo() {
  if (last !== null) act("/undo", { id: last.id, number: last.number });
}

async function showVote() {
  if (last === null || busy) return;
  const { id } = last;
  try {
    const { vote } = await send("/vote", { id });
    if (last?.id === id) {
      at("vote-text").textContent =
        `${vote}. If you take your answer back now, your next answer to this question is kept out of calibration.`;
    }
  } catch (error) {
    at("vote-text").textContent = error.message;
  }
}

function openComment() {
  if (!isWorking()) return;
  at("comment-box").open = true;
  at("comment").focus();
}

function togglePlain() {
  if (!isWorking()) return;
  plain = !plain;
  drawQuestion();
}

function readSoon() {
  confirming = false;
  at("problem").textContent = "";
  at("answer").removeAttribute("aria-invalid");
  clearTimeout(timer);
  timer = setTimeout(read, TYPING_MS);
}

async function read() {
  const number = (readings += 1);
  const text = at("answer").value;
  try {
    const reading = text.trim() ? await once("/read", { id: card.id, text }) : null;
    if (number !== readings) return;
    const parts = reading ? [reading.says, reading.problem].filter(Boolean) : [];
    at("reading").textContent = parts.join(". ");
    at("reading").classList.toggle("doubt", Boolean(reading?.problem));
  } catch {
    // The answer itself is sent until the server answers; a reading only helps.
  }
}

async function giveName(event) {
  event.preventDefault();
  try {
    await send("/name", { name: at("name").value });
    at("who").textContent = at("name").value.trim();
    at("name-problem").textContent = "";
    await act("/next", {});
  } catch (error) {
    at("name-problem").textContent = error.message;
  }
}

function askName() {
  if (busy) return;
  clearTimeout(timer);
  at("work").hidden = at("rest").hidden = true;
  at("name-form").hidden = false;
  at("name").focus();
}

// Keys --------------------------------------------------------------------------------------------

const WITH_ALT = {
  S: skip,
  X: () => card.kind === "question" && submit("cannot be answered"),
  Z: undo,
  V: showVote,
  C: openComment,
  M: togglePlain,
};

// The letter on the key. Where Alt makes another sign of it, as on a Mac: the letter of its place.
const letterOf = ({ key, code }) =>
  /^[a-z]$/i.test(key) ? key.toUpperCase() : code.replace("Key", "");

document.addEventListener("keydown", (event) => {
  const act_ = event.altKey && !event.ctrlKey && !event.metaKey && WITH_ALT[letterOf(event)];
  if (!act_) return;
  event.preventDefault();
  if (!event.repeat) act_();
});

// A key that is held down answers one question, not the next one too.
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.repeat && event.target !== at("comment")) event.preventDefault();
}, true);

function chooseByKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
  const option = card.options.find(({ letter }) => letter === event.key.toUpperCase());
  if (!option) return;
  event.preventDefault();
  submit(option.letter);
}

at("options").addEventListener("keydown", chooseByKey);
at("opinions").addEventListener("keydown", chooseByKey);

// Enter in a comment makes a line; with Ctrl it stores.
at("comment").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  submit(at("answer").value);
});

at("answer-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit(at("answer").value);
});
at("answer").addEventListener("input", readSoon);
at("skip").addEventListener("click", skip);
at("unanswerable").addEventListener("click", () => submit("cannot be answered"));
at("undo").addEventListener("click", undo);
at("vote").addEventListener("click", showVote);
at("plain").addEventListener("click", togglePlain);
at("rename").addEventListener("click", askName);
at("name-form").addEventListener("submit", giveName);

// A question is this page's for as long as it is open.
setInterval(() => isWorking() && once("/hold", {}).catch(() => {}), HOLD_MS);
addEventListener("pagehide", () => once("/leave", {}, { keepalive: true }).catch(() => {}));
addEventListener("pageshow", (event) => event.persisted && location.reload());

if (at("who").textContent.trim()) act("/next", {}, pollLater);
else askName();
