"use strict";
const articles = [...document.querySelectorAll("article")];
const choices = [...document.querySelectorAll(".choice a")];
const SIGNALS = [["far_mass", "far mass", ""], ["entropy", "entropy", " nats"], ["self_certainty", "self-certainty", " nats"]];
let current = articles[0];

// Questions: one is shown at a time, and the address names it.
function show(article) {
  current = article;
  for (const each of articles) each.hidden = each !== article;
  for (const link of choices) {
    if (link.hash === "#" + article.id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const article = target && target.closest("article");
  show(article || current);
  if (target && target !== article) focusOn(target);
}

function turn(step) {
  const next = articles[articles.indexOf(current) + step];
  const link = articles.length > 1 ? next && "#" + next.id : step < 0 ? current.dataset.before : current.dataset.after;
  if (link) location.href = link;
}

// Pivots.
function focusOn(target) {
  target.scrollIntoView({ block: "center", behavior: "instant" });
  target.focus({ preventScroll: true });
  read(target);
}

function stepPivot(step) {
  const marks = [...current.querySelectorAll(".trace mark")];
  if (!marks.length) return;
  const at = marks.indexOf(current.pivot);
  const next = at < 0 ? (step > 0 ? 0 : marks.length - 1) : at + step;
  current.pivot = marks[Math.min(Math.max(next, 0), marks.length - 1)];
  focusOn(current.pivot);
}

// The numbers of a token.
function numbersOf(article) {
  if (!article.numbers) {
    article.numbers = JSON.parse(article.querySelector(".token-numbers").textContent);
    article.places = new Map([...article.querySelectorAll(".trace i, .trace mark")].map((token, i) => [token, i]));
  }
  return article.numbers;
}

function read(token) {
  const article = token.closest("article");
  const numbers = numbersOf(article), place = article.places.get(token);
  if (place === undefined) return;
  const first = numbers.first[place], last = numbers.last[place];
  const parts = [first === last ? `token ${first}` : `tokens ${first} to ${last}`];
  if (token.dataset.n) parts.push(`pivot ${token.dataset.n}`);
  for (const [column, title, unit] of SIGNALS) if (column in numbers) parts.push(`${title} ${numbers[column][place]}${unit}`);
  article.querySelector(".readout").textContent = parts.join(" · ");
}

for (const article of articles) {
  for (const tools of article.querySelectorAll(".steps")) tools.hidden = false;
  article.addEventListener("change", (event) => {
    if (event.target.type !== "radio") return;
    article.dataset.by = event.target.value;
    for (const scale of article.querySelectorAll(".scale")) scale.hidden = scale.dataset.scale !== event.target.value;
  });
  article.addEventListener("click", (event) => {
    if (event.target.dataset.step) stepPivot(Number(event.target.dataset.step));
  });
  for (const trace of article.querySelectorAll("div.trace")) {
    let pinned = null;
    trace.addEventListener("pointerover", (event) => { if (!pinned && event.target.matches("i, mark")) read(event.target); });
    trace.addEventListener("click", (event) => {
      if (pinned) pinned.classList.remove("pinned");
      pinned = event.target.matches("i, mark") && event.target !== pinned ? event.target : null;
      if (pinned) { pinned.classList.add("pinned"); read(pinned); }
    });
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  const action = { n: () => stepPivot(1), p: () => stepPivot(-1), ArrowLeft: () => turn(-1), ArrowRight: () => turn(1) }[event.key];
  if (action) { action(); event.preventDefault(); }
});
window.addEventListener("hashchange", follow);
follow();
