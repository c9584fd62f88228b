// Keeps a page live: asks for it again when the server tells of a change, and replaces the parts that differ. Without this script the
// page reloads itself.
"use strict";
(() => {
  const address = document.body.dataset.live;
  const state = document.getElementById("live");
  if (!address || !state || !window.EventSource || !window.fetch) return;
  // The interval for a page without a stream, in milliseconds.
  const SLOW = 15000;
  let asking = false;
  let changed = false;
  let waiting = null;
  let stream = null;

  const tell = (live, text) => {
    state.className = live ? "on" : "off";
    state.textContent = text;
  };

  // Replaces a part, and keeps the focus on the link that had it.
  const replace = (old, fresh) => {
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, at) => { box.scrollLeft = scrolled[at] || 0; });
    if (focused) {
      const same = [...fresh.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === focused);
      if (same) same.focus({ preventScroll: true });
    }
  };

  const show = (page) => {
    document.title = page.title;
    const isForm = (part) => part.matches("form");
    const old = [...document.querySelectorAll("#main > *, .foot > *")].filter((part) => !isForm(part));
    const fresh = [...page.querySelectorAll("#main > *, .foot > *")].filter((part) => !isForm(part));
    const same = old.length === fresh.length && old.every((part, at) => part.id === fresh[at].id);
    if (!same) {
      const main = page.getElementById("main");
      const form = main.querySelector("form");
      if (form && document.querySelector("#main form")) form.replaceWith(document.querySelector("#main form"));
      replace(document.getElementById("main"), main);
      return;
    }
    old.forEach((part, at) => {
      if (part.outerHTML !== fresh[at].outerHTML) replace(part, fresh[at]);
    });
  };

  const ask = async () => {
    if (document.hidden || asking) {
      changed = true;
      return;
    }
    asking = true;
    changed = false;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (page.getElementById("main")) show(page);
    } catch {
      tell(false, "no connection");
    } finally {
      asking = false;
      if (changed) setTimeout(ask, 1000);
    }
  };

  const listen = () => {
    if (stream || document.hidden) return;
    stream = new EventSource(address);
    stream.addEventListener("open", () => {
      clearInterval(waiting);
      tell(true, "live");
    });
    stream.addEventListener("changed", ask);
    stream.addEventListener("error", () => {
      tell(false, "not live");
      clearInterval(waiting);
      waiting = setInterval(ask, SLOW);
      // A refused stream is not tried again by the browser.
      if (stream && stream.readyState === EventSource.CLOSED) {
        stream = null;
        setTimeout(listen, SLOW);
      }
    });
  };

  // A page that is not seen keeps no connection: a browser has six to a server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearInterval(waiting);
      if (stream) stream.close();
      stream = null;
    } else {
      listen();
    }
  });
  listen();
})();
