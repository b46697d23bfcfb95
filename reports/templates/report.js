// Draws the figures of a report. Each figure carries what to draw as JSON;
// chart.h of the report's source says what the fields mean. Without this script
// the tables hold the same numbers.
(function (report) {
  "use strict";

  if (typeof Chart === "undefined") return;

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.font.size = 12;
  Chart.Interaction.modes.marks = report.marksAt;

  function figureOf(node, spec) {
    const off = new Set();
    // Of many layers the first two are enough to begin with.
    if (new Set(spec.series.filter((s) => !s.bare).map((s) => s.layer)).size > 3) {
      for (const series of spec.series) {
        if (series.style > 1) off.add("layer " + series.layer);
      }
    }
    return {
      node: node,
      spec: spec,
      canvas: node.querySelector("canvas"),
      legend: node.querySelector(".legend"),
      off: off,
      offAtFirst: new Set(off),
      linear: new Set(),  // of "x" and "y": logarithmic by itself
      chart: null,
    };
  }

  // A button that copies the command beside it.
  function offerCopy(pre) {
    const node = document.createElement("button");
    node.type = "button";
    node.className = "copy";
    node.textContent = "Copy";
    node.addEventListener("click", () => {
      const range = document.createRange();
      range.selectNodeContents(pre);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      // Also where pages of files may not use the newer clipboard.
      const copied = document.execCommand("copy");
      node.textContent = copied ? "Copied" : "Selected";
    });
    pre.after(node);
  }

  report.figures = [];
  for (const node of document.querySelectorAll("figure")) {
    const spec = JSON.parse(
      node.querySelector('script[type="application/json"]').textContent);
    node.querySelector("details.numbers").open = false;
    if (spec.maps && spec.maps.length > 0) report.hang(node, spec.maps);
    if (spec.series.length === 0) continue;
    node.querySelector(".plot").hidden = false;
    const figure = figureOf(node, spec);
    report.listen(figure);
    report.figures.push(figure);
  }
  for (const pre of document.querySelectorAll("details.repeat pre, #repeat pre")) {
    offerCopy(pre);
  }
  for (const fold of document.querySelectorAll("details.more")) {
    fold.addEventListener("toggle", () => report.figures
      .filter((figure) => fold.contains(figure.node)).forEach(report.draw));
  }
  report.startFilters();

  const redraw = () => {
    report.figures.forEach(report.draw);
    report.repaint();
  };
  for (const query of ["(prefers-color-scheme: dark)", "print",
                       "(max-width: 639px)"]) {
    window.matchMedia(query).addEventListener("change", redraw);
  }
})(window.saccadeReport = window.saccadeReport || {});
