// Keeps the live page up to date: figures are put in as text, and when more than figures has
// changed, the page is asked for again. Without this script the page reloads itself.
"use strict";

let isAsked = false;

async function askAgain() {
  if (isAsked) return;
  isAsked = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const focused = document.activeElement && document.activeElement.id;
    document.title = page.title;
    document.getElementById("live").replaceWith(page.getElementById("live"));
    if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
  } catch {
    // The service has ended; the stream tells when it is back.
  } finally {
    isAsked = false;
  }
}

function show(figures) {
  for (const element of document.querySelectorAll("[data-words]")) {
    const run = figures.runs[element.dataset.words];
    if (run && element.textContent !== run.words) element.textContent = run.words;
  }
  for (const element of document.querySelectorAll("[data-share]")) {
    const run = figures.runs[element.dataset.share];
    if (!run || run.share === null) element.removeAttribute("value");
    else element.value = run.share;
  }
  if (document.getElementById("live").dataset.key !== figures.key) askAgain();
}

const events = new EventSource("events");
events.onmessage = (event) => show(JSON.parse(event.data));
events.onopen = () => { document.getElementById("following").textContent = ", and followed since"; };
events.onerror = () => { document.getElementById("following").textContent = "; the service does not answer"; };
