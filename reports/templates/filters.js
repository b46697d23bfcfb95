// What the reader chose to see: filters, and the state of each figure, kept in
// the address behind # so that a view can be linked.
(function (report) {
  "use strict";

  const settings = document.getElementById("settings");
  const SETTINGS = settings ? JSON.parse(settings.textContent) : [];
  const bar = document.getElementById("filters");
  const chosen = new Map();  // of a filter's name: its value

  const lengthFits = (length) =>
    !length || ((!chosen.get("from") || length >= +chosen.get("from")) &&
                (!chosen.get("to") || length <= +chosen.get("to")));
  const passFits = (pass) =>
    !pass || !chosen.get("pass") || pass === chosen.get("pass");
  const settingFits = (setting) => setting === undefined ||
    Object.entries(SETTINGS[setting] || {}).every(
      ([name, value]) => !chosen.get(name) || value === chosen.get(name));
  const fits = (node) => settingFits(node.dataset.setting) &&
    passFits(node.dataset.pass) && lengthFits(+node.dataset.length);

  // Of answers that fit the one nearest to the first, which needs no filter;
  // with an end of lengths that which is nearest to it.
  function answer(answers, first) {
    const rank = (node) => [
      node.dataset.pass === first.dataset.pass ? 0 : 1,
      node.dataset.setting === first.dataset.setting ? 0 : 1,
      chosen.get("to")
        ? -node.dataset.length
        : Math.abs(Math.log(node.dataset.length / first.dataset.length)),
    ];
    const less = (a, b) => {
      const at = a.findIndex((x, i) => x !== b[i]);
      return at >= 0 && a[at] < b[at];
    };
    let best = null;
    for (const node of answers) {
      if (!fits(node)) continue;
      if (best === null || less(rank(node), rank(best))) best = node;
    }
    return best;
  }

  function chooseAnswer() {
    const answers = Array.from(document.querySelectorAll(".answers > .answer"));
    if (answers.length === 0) return;
    const best = answer(answers, answers[0]);
    for (const node of answers) node.hidden = node !== best;
    document.querySelector(".answers > .unmatched").hidden = best !== null;
  }

  // Columns of one length, and rows; a table without any is left out.
  function filterTable(scroll) {
    const heads = Array.from(scroll.querySelectorAll("thead th"));
    const off = heads.map((head) => !lengthFits(+head.dataset.length));
    const rows = Array.from(scroll.querySelectorAll("tbody tr"));
    for (const row of rows) {
      row.hidden = !fits(row);
      Array.from(row.cells).forEach((cell, i) => { cell.hidden = off[i]; });
    }
    heads.forEach((head, i) => { head.hidden = off[i]; });
    const timed = heads.filter((head) => head.dataset.length);
    scroll.hidden = !fits(scroll) || rows.every((row) => row.hidden) ||
      (timed.length > 0 && timed.every((head) => head.hidden));
    // What explains a table goes with it.
    for (let next = scroll.nextElementSibling;
         next && next.matches(".how, .note"); next = next.nextElementSibling) {
      next.hidden = scroll.hidden;
    }
  }

  // What is folded is opened for a filter that only it fits.
  function openFolds(active) {
    for (const fold of document.querySelectorAll("details.more")) {
      const any = fold.querySelector("figure:not([hidden])") !== null;
      fold.hidden = !any;
      const alone = active && any &&
        fold.parentNode.querySelector(".figures > figure:not([hidden])")
          .closest("details.more") === fold;
      if (alone) fold.open = true;
    }
  }

  function sayEmpty() {
    for (const note of document.querySelectorAll("section > .unmatched")) {
      const parts = Array.from(note.parentNode.querySelectorAll(
        "figure, section > .scroll, section > details.long .scroll"));
      note.hidden = parts.length === 0 || parts.some((part) => !part.hidden);
    }
  }

  report.filter = function () {
    const active = Array.from(chosen.values()).some((value) => value);
    for (const scroll of document.querySelectorAll(".scroll")) {
      filterTable(scroll);
    }
    let shown = 0;
    for (const figure of report.figures) {
      const placed = figure.node.dataset.setting !== undefined;
      figure.keep = placed ? { pass: passFits, length: lengthFits } : null;
      figure.node.hidden = !fits(figure.node);
    }
    chooseAnswer();
    openFolds(active);
    for (const figure of report.figures) {
      report.draw(figure);
      figure.node.hidden = figure.node.hidden || figure.empty;
      shown += figure.node.hidden || figure.node.closest("[hidden]") ? 0 : 1;
    }
    sayEmpty();
    if (!bar) return;
    bar.querySelector("button").disabled = !active;
    bar.querySelector("output").textContent = active
      ? shown + (shown === 1 ? " figure fits" : " figures fit") : "";
  };

  // ---- The address.

  // "time&pass=forward&to=4096&off.time-1=name%20a,layer%20b&linear.time-1=y".
  function write() {
    const parts = [];
    const anchor = location.hash.slice(1).split("&")[0];
    if (anchor && !anchor.includes("=")) parts.push(anchor);
    const add = (name, value) =>
      parts.push(encodeURIComponent(name) + "=" + value);
    for (const [name, value] of chosen) {
      if (value) add(name, encodeURIComponent(value));
    }
    const list = (set) => Array.from(set, encodeURIComponent).join(",");
    for (const figure of report.figures) {
      if (list(figure.off) !== list(figure.offAtFirst)) {
        add("off." + figure.node.id, list(figure.off));
      }
      if (figure.linear.size > 0) {
        add("linear." + figure.node.id, list(figure.linear));
      }
    }
    history.replaceState(null, "", "#" + parts.join("&"));
  }

  function decode(text) {
    try {
      return decodeURIComponent(text);
    } catch (error) {
      return "";  // no state that this page wrote
    }
  }

  function read() {
    chosen.clear();
    const given = new Map();
    for (const part of location.hash.slice(1).split("&")) {
      const at = part.indexOf("=");
      if (at > 0) given.set(decode(part.slice(0, at)), part.slice(at + 1));
    }
    for (const select of bar ? bar.querySelectorAll("select") : []) {
      select.value = decode(given.get(select.dataset.filter) || "");
      if (select.selectedIndex < 0) select.value = "";
      chosen.set(select.dataset.filter, select.value);
    }
    const set = (text) => new Set(text.split(",").filter(Boolean).map(decode));
    for (const figure of report.figures) {
      const off = given.get("off." + figure.node.id);
      figure.off = off === undefined ? new Set(figure.offAtFirst) : set(off);
      figure.linear = set(given.get("linear." + figure.node.id) || "");
      report.legend(figure);
    }
  }

  report.keep = write;

  report.startFilters = function () {
    const others = document.querySelector("details.others");
    if (others) {
      const home = document.querySelector(".answers");
      for (const node of others.querySelectorAll(":scope > .answer")) {
        home.insertBefore(node, home.lastElementChild);
      }
      others.remove();
    }
    if (bar) {
      bar.hidden = false;
      bar.addEventListener("change", (event) => {
        chosen.set(event.target.dataset.filter, event.target.value);
        write();
        report.filter();
      });
      bar.querySelector("button").addEventListener("click", () => {
        for (const select of bar.querySelectorAll("select")) {
          select.value = "";
          chosen.set(select.dataset.filter, "");
        }
        write();
        report.filter();
      });
    }
    // Going to a section keeps what is chosen.
    window.addEventListener("hashchange", () => {
      if (location.hash.includes("=")) {
        read();
        report.filter();
      } else {
        write();
      }
    });
    read();
    report.filter();
    const anchor = location.hash.slice(1).split("&")[0];
    const target = anchor && location.hash.includes("&") &&
      document.getElementById(anchor);
    if (target) target.scrollIntoView();
  };
})(window.saccadeReport = window.saccadeReport || {});
