// What pages do with JavaScript: they follow changes, keep URLs short, and copy commands.
"use strict";

// Empty fields of a form stay out of its URL.
document.addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData]) {
    if (value === "") event.formData.delete(name);
  }
});

// Parts with `data-live` are read again when the feed of `data-events` tells of a change.
(() => {
  if (!document.querySelector("[data-events]") || !window.EventSource || !window.htmx) return;
  let source = null;
  let followed = null;
  let waiting = null;

  // What has the focus is replaced by its equal, which gets the focus back. It, or else the first
  // link in sight, stays where it is in the window.
  async function refresh() {
    waiting = null;
    const place = location.href;
    const response = await fetch(place, { credentials: "same-origin" });
    if (!response.ok) return;
    const text = await response.text();
    // What a filter asked for, or has just put in place, needs the element that it goes to.
    const filtering = document.querySelector(".htmx-request, .htmx-swapping, .htmx-settling");
    if (filtering || place !== location.href) {
      waiting = waiting || setTimeout(refresh, 300);
      return;
    }
    const focused = document.activeElement.closest("[data-live]") && document.activeElement;
    const held = focused || [...document.querySelectorAll("[data-live] a")].find(
      (each) => each.getBoundingClientRect().top >= 0);
    const top = held ? held.getBoundingClientRect().top : 0;
    for (const old of document.querySelectorAll("[data-live]")) {
      const scrolled = [...old.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
      htmx.swap(old, text, { swapStyle: "outerHTML", swapDelay: 0, settleDelay: 0 }, { select: `#${old.id}` });
      const present = document.getElementById(old.id);
      if (!present) continue;
      [...present.querySelectorAll(".scroll")].forEach((each, n) => {
        each.scrollLeft = scrolled[n] || 0;
      });
    }
    const same = held && [...document.querySelectorAll(`[data-live] ${held.tagName}`)].find(
      (each) => ["id", "href", "aria-label"].every(
        (name) => each.getAttribute(name) === held.getAttribute(name)));
    if (!same) return;
    if (focused) same.focus({ preventScroll: true });
    if (window.scrollY) window.scrollBy(0, same.getBoundingClientRect().top - top);
  }

  function changed(event) {
    const change = JSON.parse(event.data);
    const what = change.deleted ? "was deleted" : `changed: snapshot ${change.snapshot}`;
    document.getElementById("news").textContent = `${change.run} ${what}`;
    waiting = waiting || setTimeout(refresh, 300);
  }

  // Nobody keeps the events that a page misses while it is not connected, also at first.
  function opened() {
    waiting = waiting || setTimeout(refresh, 0);
  }

  // Browsers have few connections to a host. A page that nobody sees needs none.
  function follow(events) {
    if (events === followed) return;
    if (source) source.close();
    followed = events;
    source = events && new EventSource(events);
    if (!source) return;
    source.addEventListener("change", changed);
    source.addEventListener("open", opened);
  }

  function connect() {
    follow(document.hidden ? null : document.querySelector("[data-events]").dataset.events);
  }

  function resume() {
    if (!document.hidden && !source) waiting = waiting || setTimeout(refresh, 0);
    connect();
  }

  document.addEventListener("visibilitychange", resume);
  document.addEventListener("htmx:afterSettle", connect); // a filter may choose another feed
  window.addEventListener("pagehide", () => follow(null));
  window.addEventListener("pageshow", (event) => event.persisted && resume());
  connect();
})();

// Results that a filter replaced are announced. Those that a change replaced were announced before.
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id !== "results" || !event.detail.requestConfig) return;
  const rows = event.target.querySelectorAll("tbody tr, .changes li").length;
  const nothing = event.target.querySelector(".nothing");
  document.getElementById("news").textContent = nothing ? nothing.textContent : `Shown: ${rows}`;
});

// Buttons that copy a command appear where a page may write to the clipboard.
(() => {
  if (!navigator.clipboard) return;
  const reveal = () => document.querySelectorAll("[data-copies]").forEach((each) => {
    each.hidden = false;
  });
  document.addEventListener("htmx:load", reveal); // it may be part of what was replaced
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copies]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).innerText);
    document.getElementById("news").textContent = "The command is copied";
  });
  reveal();
})();
