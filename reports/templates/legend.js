// The legend: buttons, so that a keyboard reaches them.
(function (report) {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const PATHS = {
    circle: "M15 4a4 4 0 1 0 .01 0z",
    rect: "M11 4h8v8h-8z",
    triangle: "M15 3.5l4.5 8h-9z",
    rectRot: "M15 3l5 5-5 5-5-5z",
    star: "M15 3.5v9M10.5 8h9M12 5l6 6M18 5l-6 6",
    crossRot: "M11.5 4.5l7 7M18.5 4.5l-7 7",
  };
  function swatch(colour, shape, dash, fill) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("width", "30");
    svg.setAttribute("height", "16");
    svg.setAttribute("aria-hidden", "true");
    const add = (name, attributes) => {
      const node = document.createElementNS(SVG, name);
      for (const key of Object.keys(attributes)) {
        node.setAttribute(key, attributes[key]);
      }
      svg.appendChild(node);
    };
    if (dash) {
      add("path", { d: "M1 8h28", stroke: colour, "stroke-width": 2,
                    "stroke-dasharray": dash.join(" ") || "none" });
    }
    if (shape) {
      add("path", { d: PATHS[shape], fill: fill, stroke: colour,
                    "stroke-width": 1.5 });
    }
    return svg;
  }

  // `press` says whether it is pressed from now on.
  function button(figure, className, parts, pressed, press) {
    const node = document.createElement("button");
    node.type = "button";
    node.className = className;
    if (pressed !== null) node.setAttribute("aria-pressed", String(pressed));
    node.append(...parts);
    node.addEventListener("click", () => {
      const now = press();
      if (now !== undefined) node.setAttribute("aria-pressed", String(now));
      report.keep();
    });
    figure.legend.append(node);
    return node;
  }

  // A switch of all series of a name or of a layer.
  function toggle(figure, key, parts) {
    const node = button(figure, "", parts, !figure.off.has(key), () => {
      if (figure.off.has(key)) figure.off.delete(key);
      else figure.off.add(key);
      report.show(figure);
      return !figure.off.has(key);
    });
    node.dataset.key = key;
    return node;
  }

  function nameButton(figure, series, dash) {
    const spec = figure.spec;
    const colour = "var(" + report.colourName(series) + ")";
    const fill = report.hollow(spec, series) && spec.lines
      ? "var(--paper)" : colour;
    const shape = series.bare ? null : report.shapeOf(series);
    const parts = [swatch(colour, shape, dash, fill), series.name];
    if (series.note) {
      const note = document.createElement("i");
      note.textContent = series.note;
      parts.push(note);
    }
    const node = toggle(figure, "name " + series.name, parts);
    for (const event of ["mouseenter", "focus"]) {
      node.addEventListener(event,
                            () => report.emphasise(figure, series.name));
    }
    for (const event of ["mouseleave", "blur"]) {
      node.addEventListener(event, () => report.emphasise(figure, null));
    }
  }

  function layerButtons(figure) {
    const spec = figure.spec;
    const layers = new Map();
    for (const series of spec.series.filter((s) => !s.bare)) {
      const least = layers.has(series.layer) ? layers.get(series.layer) : 9;
      layers.set(series.layer, Math.min(series.style, least));
    }
    if (layers.size < 2) return;
    for (const [layer, style] of layers) {
      toggle(figure, "layer " + layer, spec.lines
        ? [swatch("var(--quiet)", null, report.dashOf(style)), layer]
        : ["●○◐"[Math.min(style, 2)] + " " + layer]);
    }
  }

  // Lengths stay as they are: they were chosen by doubling.
  function axisButtons(figure) {
    for (const name of ["y", "x"]) {
      const axis = figure.spec[name];
      if (!axis.log || ["length", "multiple", "ratio"].includes(axis.scale)) {
        continue;
      }
      const node = button(figure, "plain", ["log " + name],
                          !figure.linear.has(name), () => {
        if (figure.linear.has(name)) figure.linear.delete(name);
        else figure.linear.add(name);
        report.draw(figure);
        return !figure.linear.has(name);
      });
      node.title = "Logarithmic axis: " + axis.title;
    }
  }

  report.legend = function (figure) {
    const spec = figure.spec;
    figure.legend.textContent = "";
    const seen = new Set();
    const manyLayers = new Set(spec.series.filter((s) => !s.bare)
      .map((s) => s.layer)).size > 1;
    for (const series of spec.series) {
      if (seen.has(series.name)) continue;
      seen.add(series.name);
      const dash = spec.lines || series.bare
        ? report.dashOf(manyLayers && !series.bare ? 0 : series.style) : null;
      nameButton(figure, series, dash);
    }
    layerButtons(figure);
    if (seen.size > 2) {
      button(figure, "plain", ["all / none"], null, () => {
        const keys = Array.from(seen, (name) => "name " + name);
        const anyOff = keys.some((key) => figure.off.has(key));
        for (const key of keys) {
          if (anyOff) figure.off.delete(key);
          else figure.off.add(key);
        }
        for (const node of figure.legend.querySelectorAll("[data-key]")) {
          node.setAttribute("aria-pressed",
                            String(!figure.off.has(node.dataset.key)));
        }
        report.show(figure);
      });
    }
    axisButtons(figure);
  };
})(window.saccadeReport = window.saccadeReport || {});
