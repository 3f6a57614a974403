// What pages do better with a script: an answer that changes with the question, a job that is watched. Without it all works.
(function () {
  "use strict";

  var said = document.getElementById("said");

  function say(words) {
    if (said && words && said.textContent !== words) { said.textContent = words; }
  }

  // Frames that scroll are reached by the keyboard; those that do not are no stop on its way.
  function frames() {
    document.querySelectorAll(".wide, pre").forEach(function (frame) {
      var scrolls = frame.scrollWidth > frame.clientWidth || frame.scrollHeight > frame.clientHeight;
      if (scrolls) { frame.tabIndex = 0; } else { frame.removeAttribute("tabindex"); }
    });
  }

  // The report's script draws the read-out of a chart; it is run anew for a new chart.
  function chart() {
    var old = document.getElementById("chart-script");
    if (old) { old.remove(); }
    if (!document.getElementById("rows") || !document.getElementById("surface")) { return; }
    var script = document.createElement("script");
    script.id = "chart-script";
    script.src = document.documentElement.dataset.chart;
    document.body.appendChild(script);
  }

  // Put in place of a part what another document has there; a field or button that had the focus keeps it.
  function replace(id, other) {
    var mine = document.getElementById(id), theirs = other.getElementById(id);
    if (!mine || !theirs || mine.outerHTML === theirs.outerHTML) { return; }
    var inside = mine.contains(document.activeElement) && document.activeElement.id;
    var open = Array.from(mine.querySelectorAll("details"), function (part) { return part.open; });
    var log = mine.querySelector(".log"), below = log && log.scrollHeight - log.scrollTop - log.clientHeight < 8;
    mine.replaceWith(document.importNode(theirs, true));
    mine = document.getElementById(id);
    mine.querySelectorAll("details").forEach(function (part, k) { part.open = open[k] || part.open; });
    log = mine.querySelector(".log");
    if (log && below) { log.scrollTop = log.scrollHeight; }
    if (inside && document.getElementById(inside)) { document.getElementById(inside).focus(); }
  }

  function read(address, signal) {
    return fetch(address, {headers: {accept: "text/html"}, signal: signal, credentials: "same-origin"})
      .then(function (answer) {
        if (answer.redirected && new URL(answer.url).pathname === "/login") { window.location.assign("/login"); }
        return answer.text();
      })
      .then(function (text) { return new DOMParser().parseFromString(text, "text/html"); });
  }

  function question(form) {
    var waiting = null, running = null, last = address();

    function address() {
      var given = new URLSearchParams();
      new FormData(form).forEach(function (value, name) { if (value.trim()) { given.append(name, value.trim()); } });
      return "/?" + (given.toString() || "n_records=");
    }

    function isAboutRecords() {
      return Boolean(form.elements.data && form.elements.data.value);
    }

    function mark(wrong) {
      Array.from(form.elements).forEach(function (field) {
        if (!field.name) { return; }
        var hint = document.getElementById("ask-" + field.name + "-hint");
        var told = [hint && hint.id, field.name === wrong && "ask-error"].filter(Boolean).join(" ");
        if (told) { field.setAttribute("aria-describedby", told); } else { field.removeAttribute("aria-describedby"); }
        if (field.name === wrong) { field.setAttribute("aria-invalid", "true"); } else { field.removeAttribute("aria-invalid"); }
      });
    }

    function ask() {
      var now = address();
      if (now === last) { return; }
      last = now;
      if (running) { running.abort(); }
      running = new AbortController();
      document.getElementById("answer").classList.add("stale");
      if (isAboutRecords()) { say("The records are being read: this takes some seconds."); }
      read(now, running.signal).then(function (other) {
        replace("ask-error", other);
        replace("answer", other);
        var answer = document.getElementById("answer");
        answer.classList.remove("stale");
        document.title = other.title;
        window.history.replaceState(null, "", now);
        mark(answer.dataset.wrong);
        say(answer.dataset.said);
        chart();
        frames();
      }).catch(function (error) {
        if (error.name === "AbortError") { return; }
        last = null;
        say("The service does not answer just now.");
      });
    }

    function later(event) {
      clearTimeout(waiting);
      // Records of one's own take the service seconds: a field is then asked about when it is left.
      if (event.type === "input" && isAboutRecords()) { return; }
      waiting = setTimeout(ask, event.type === "input" ? 350 : 0);
    }

    form.addEventListener("input", later);
    form.addEventListener("change", later);
    form.addEventListener("submit", function (event) {
      event.preventDefault();
      clearTimeout(waiting);
      ask();
    });
  }

  // Follow what changes on its own: the events of a job tell when to read its page again.
  function watch(part) {
    var id = part.id, source = null, reading = false, again = false, doubt = null;

    function lost(is) {
      var place = document.getElementById("lost");
      clearTimeout(doubt);
      doubt = null;
      if (place) { place.textContent = is ? "The service does not answer just now: trying again." : ""; }
    }

    // The end of a stream may be that of the job: only what lasts is worth a word.
    function mayBeLost() {
      if (doubt === null) { doubt = setTimeout(function () { lost(true); }, 1500); }
    }

    function refresh() {
      if (reading) { again = true; return; }
      reading = true;
      again = false;
      read(window.location.href).then(function (other) {
        if (!other.getElementById(id)) { throw new Error("not the page"); }
        replace(id, other);
        replace("actions", other);
        document.title = other.title;
        say(document.getElementById(id).dataset.said);
        lost(false);
        frames();
        if (!document.getElementById(id).dataset.events && source) { source.close(); source = null; }
      }).catch(function () {
        mayBeLost();
        setTimeout(refresh, 2000);
      }).finally(function () {
        reading = false;
        if (again) { refresh(); }
      });
    }

    function listen() {
      var address = document.getElementById(id).dataset.events;
      if (!address) { return; }
      source = new EventSource(address);
      source.addEventListener("job", refresh);
      source.onopen = refresh;
      source.onerror = function () {
        mayBeLost();
        // The browser tries again by itself unless it was told off, as by a server that was just starting.
        if (source && source.readyState === EventSource.CLOSED) {
          source = null;
          setTimeout(function () { refresh(); listen(); }, 2000);
        }
      };
    }

    listen();
  }

  var form = document.getElementById("ask");
  if (form) { question(form); }
  document.querySelectorAll("[data-events]").forEach(watch);
  chart();
  frames();
  window.addEventListener("resize", frames);
  document.documentElement.dataset.service = "ran";
}());
