// Draws the figures of a report. Each figure carries what to draw as JSON;
// chart.h of the report's source says what the fields mean. Without this script
// the tables hold the same numbers.
(function () {
  "use strict";
  if (typeof Chart === "undefined") return;

  const SHAPES = ["circle", "rect", "triangle", "rectRot", "star", "crossRot"];
  const COLOURS = 7;
  const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3], [14, 4],
                  [8, 2, 2, 2, 2, 2], [1, 5]];

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => window.innerWidth < 640;

  // ---- Numbers as the tables show them.

  function three(number) {
    const size = Math.abs(number);
    if (size < 9.995) return number.toFixed(2);
    return number.toFixed(size < 99.95 ? 1 : 0);
  }
  function scaled(number, step, units) {
    let unit = 0;
    while (unit + 1 < units.length && number >= 0.9995 * step) {
      number /= step;
      ++unit;
    }
    return three(number) + " " + units[unit];
  }
  const FORMATS = {
    length: (n) =>
      n >= 1048576 && n % 1048576 === 0
        ? n / 1048576 + "M"
        : n >= 1024 && n % 1024 === 0
          ? n / 1024 + "k"
          : String(n),
    multiple: (n) => +n.toFixed(2) + "×",
    time: (ns) =>
      ns < 999.5
        ? ns.toFixed(0) + " ns"
        : scaled(ns / 1e3, 1e3, ["µs", "ms", "s", "ks"]),
    bytes: (n) =>
      n < 1023.5
        ? n.toFixed(0) + " B"
        : scaled(n / 1024, 1024, ["KiB", "MiB", "GiB", "TiB"]),
    share: (n) => (100 * n).toFixed(n < 0.0995 ? 1 : 0) + " %",
    bits: (n) => n.toFixed(3),
    nats: (n) => n.toFixed(3),
    size: (n) => n.toPrecision(3),
    ratio: (n) => +n.toPrecision(3) + "×",
  };
  // Ticks carry fewer digits than values.
  const TICKS = Object.assign({}, FORMATS, {
    time: (ns) => FORMATS.time(ns).replace(/\.0+(?= )/, ""),
    bytes: (n) => FORMATS.bytes(n).replace(/\.0+(?= )/, ""),
    share: (n) => Math.round(100 * n) + " %",
    bits: (n) => n.toFixed(1),
    nats: (n) => n.toFixed(1),
    size: (n) => String(+n.toPrecision(2)),
  });

  // ---- Axes.

  // Marks of a logarithmic axis: 1, 2, 5 of each decade, or powers of a base.
  function logTicks(scale, min, max, room) {
    const steps = scale === "bytes" ? [1] : [1, 2, 5];
    const base = scale === "bytes" ? 4 : 10;
    let ticks = [];
    const last = Math.ceil(Math.log(max) / Math.log(base));
    for (let e = Math.floor(Math.log(min) / Math.log(base)); e <= last; ++e) {
      for (const step of steps) ticks.push(step * Math.pow(base, e));
    }
    ticks = ticks.filter((t) => t >= min * 0.999 && t <= max * 1.001);
    if (ticks.length > room && steps.length > 1) {
      ticks = ticks.filter((t) => /^1(e|0*$|$)/.test(String(+t.toPrecision(6))) ||
        Math.abs(Math.log10(t) - Math.round(Math.log10(t))) < 1e-6);
    }
    while (ticks.length > room) ticks = ticks.filter((_, i) => i % 2 === 0);
    return ticks;
  }

  function axisOf(axis, values, guides, ink, isX) {
    const all = values.concat(guides).filter(Number.isFinite);
    let min = Math.min.apply(null, all);
    let max = Math.max.apply(null, all);
    const options = {
      type: axis.log ? "logarithmic" : "linear",
      title: { display: true, text: axis.title, color: ink.quiet },
      grid: { color: ink.line, borderColor: ink.line, tickLength: 4 },
      ticks: {
        color: ink.quiet,
        maxRotation: 0,
        callback: (value) => TICKS[axis.scale](value),
      },
    };
    if (axis.log) {
      const margin = Math.pow(max / min, 0.04) * (max > min ? 1 : 1.2);
      options.min = min / margin;
      options.max = max * margin;
      const room = isX ? (narrow() ? 6 : 12) : 9;
      options.afterBuildTicks = (scale) => {
        const marked = axis.scale === "length" || axis.scale === "multiple";
        let ticks = marked
          ? Array.from(new Set(values)).sort((a, b) => a - b)
          : logTicks(axis.scale, options.min, options.max, room);
        while (ticks.length > room) {
          ticks = ticks.filter((_, i) => (ticks.length - 1 - i) % 2 === 0);
        }
        scale.ticks = ticks.map((value) => ({ value: value }));
      };
    } else if (axis.scale === "share") {
      options.min = 0;
      options.max = max > 0.6 ? Math.max(1, max) : undefined;
      options.grace = "8%";
    } else {
      const margin = 0.05 * (max - min || 1);
      options.min = min - margin;
      options.max = max + margin;
      options.ticks.includeBounds = false;
    }
    return options;
  }

  // ---- Lines that are no data, and names beside lone points.

  // Guides lie below the data, their names above it on a halo of paper. Of
  // names too close to each other the lowest is shown.
  function guidePlugin(guides, ink) {
    const placed = (chart) => guides
      .map((guide) => ({
        text: guide.text,
        at: chart.scales[guide.vertical ? "x" : "y"].getPixelForValue(guide.at),
        vertical: guide.vertical,
      }))
      .sort((a, b) => b.at - a.at);
    return {
      id: "guides",
      beforeDatasetsDraw(chart) {
        const area = chart.chartArea;
        const context = chart.ctx;
        context.save();
        context.strokeStyle = ink.quiet;
        context.globalAlpha = 0.55;
        context.setLineDash([3, 4]);
        for (const guide of placed(chart)) {
          context.beginPath();
          context.moveTo(guide.vertical ? guide.at : area.left,
                         guide.vertical ? area.top : guide.at);
          context.lineTo(guide.vertical ? guide.at : area.right,
                         guide.vertical ? area.bottom : guide.at);
          context.stroke();
        }
        context.restore();
      },
      afterDatasetsDraw(chart) {
        const area = chart.chartArea;
        const context = chart.ctx;
        context.save();
        context.font = "11px system-ui, sans-serif";
        context.textBaseline = "bottom";
        context.textAlign = "right";
        context.lineJoin = "round";
        context.lineWidth = 4;
        context.strokeStyle = ink.paper;
        context.fillStyle = ink.quiet;
        let free = Infinity;
        for (const guide of placed(chart)) {
          const x = guide.vertical ? guide.at - 4 : area.right - 4;
          const y = guide.vertical ? area.top + 14 : guide.at - 1;
          if (!guide.vertical && guide.at > free) continue;
          if (!guide.vertical) free = guide.at - 12;
          context.strokeText(guide.text, x, y);
          context.fillText(guide.text, x, y);
        }
        context.restore();
      },
    };
  }

  const overlap = (a, b) =>
    a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

  const namePlugin = {
    id: "names",
    afterDatasetsDraw(chart) {
      const area = chart.chartArea;
      const context = chart.ctx;
      context.save();
      context.font = "12px system-ui, sans-serif";
      context.textBaseline = "middle";
      const shown = [];
      chart.data.datasets.forEach((set, i) => {
        if (!chart.isDatasetVisible(i)) return;
        chart.getDatasetMeta(i).data.forEach((point) =>
          shown.push({ x: point.x, y: point.y, set: set }));
      });
      const boxes = shown.map((p) => ({ x: p.x - 7, y: p.y - 7, w: 14, h: 14 }));
      const named = new Map();
      for (const point of shown) {
        const first = named.get(point.set.saccadeName);
        if (first) {
          // From a model as it is to the same under a window.
          context.strokeStyle = point.set.borderColor;
          context.globalAlpha = 0.5;
          context.setLineDash([2, 3]);
          context.beginPath();
          context.moveTo(first.x, first.y);
          context.lineTo(point.x, point.y);
          context.stroke();
          context.globalAlpha = 1;
          continue;
        }
        named.set(point.set.saccadeName, point);
        const text = point.set.saccadeName;
        const w = context.measureText(text).width;
        const places = [
          { x: point.x + 10, y: point.y - 7 }, { x: point.x - 10 - w, y: point.y - 7 },
          { x: point.x - w / 2, y: point.y - 24 }, { x: point.x - w / 2, y: point.y + 10 },
          { x: point.x + 10, y: point.y - 20 }, { x: point.x + 10, y: point.y + 6 },
        ];
        for (const place of places) {
          const box = { x: place.x, y: place.y, w: w, h: 14 };
          if (box.x < area.left || box.x + w > area.right) continue;
          if (box.y < area.top || box.y + 14 > area.bottom) continue;
          if (boxes.some((other) => overlap(box, other))) continue;
          boxes.push(box);
          context.fillStyle = point.set.borderColor;
          context.fillText(text, place.x, place.y + 7);
          break;
        }
      }
      context.restore();
    },
  };

  // ---- One figure.

  function inkOf() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    const colours = [];
    for (let i = 0; i < COLOURS; ++i) colours.push(read("--c" + i));
    return {
      ink: read("--ink"),
      quiet: read("--quiet"),
      line: read("--line"),
      paper: read("--paper"),
      colours: colours,
    };
  }

  const dashOf = (style) => DASHES[style % DASHES.length];

  // Colours come round again after seven; then the points are hollow.
  const hollow = (spec, series) =>
    spec.lines ? series.colour >= COLOURS : series.style !== 0;

  function datasetsOf(spec, ink) {
    const sets = [];
    for (const series of spec.series) {
      const colour = ink.colours[series.colour % COLOURS];
      const common = {
        saccadeName: series.name,
        saccadeLayer: series.layer,
        borderColor: colour,
      };
      const banded = spec.lines && !spec.y.log &&
        series.points.some((p) => p.length > 2);
      if (banded) {
        const edge = Object.assign({}, common, {
          band: true,
          borderWidth: 0,
          pointRadius: 0,
          pointHitRadius: 0,
          backgroundColor: colour + "26",
        });
        const at = (i) => series.points
          .filter((p) => p.length > 2).map((p) => ({ x: p[0], y: p[i] }));
        sets.push(Object.assign({}, edge, { data: at(2) }));
        sets.push(Object.assign({}, edge, { data: at(3), fill: "-1" }));
      }
      sets.push(Object.assign({}, common, {
        label: series.name + (series.layer ? ", " + series.layer : ""),
        data: series.points.map((p) => ({ x: p[0], y: p[1], low: p[2], high: p[3] })),
        clip: 8,
        showLine: spec.lines,
        borderWidth: 2,
        borderDash: spec.lines ? dashOf(series.style) : [],
        backgroundColor: hollow(spec, series) ? ink.paper : colour,
        pointStyle: SHAPES[series.shape % SHAPES.length],
        pointRadius: spec.lines ? 3.5 : 6,
        pointHoverRadius: spec.lines ? 6 : 8,
        pointBorderWidth: spec.lines ? 1.5 : 2,
      }));
    }
    return sets;
  }

  function labelOf(spec, item) {
    const point = item.raw;
    const show = FORMATS[spec.y.scale];
    let text = item.dataset.label + ": " + show(point.y);
    if (point.low !== undefined) {
      text += " (" + show(point.low) + " to " + show(point.high) + ")";
    }
    return text;
  }

  function draw(figure) {
    const ink = inkOf();
    const spec = figure.spec;
    const points = spec.series.flatMap((series) => series.points);
    const guidesAt = (vertical) => spec.guides
      .filter((guide) => guide.vertical === vertical).map((guide) => guide.at);
    const plugins = [guidePlugin(spec.guides, ink)];
    if (!spec.lines) plugins.push(namePlugin);
    if (figure.chart) figure.chart.destroy();
    figure.chart = new Chart(figure.canvas, {
      type: "line",
      data: { datasets: datasetsOf(spec, ink) },
      plugins: plugins,
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        parsing: false,
        interaction: { mode: "nearest", intersect: false },
        scales: {
          x: axisOf(spec.x, points.map((p) => p[0]), guidesAt(true), ink, true),
          y: axisOf(spec.y, points.flatMap((p) => spec.lines && !spec.y.log
            ? p.slice(1) : [p[1]]), guidesAt(false), ink, false),
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            backgroundColor: ink.ink,
            titleColor: ink.paper,
            bodyColor: ink.paper,
            usePointStyle: true,
            filter: (item) => !item.dataset.band,
            callbacks: {
              title: (items) => items.length === 0 ? "" :
                spec.x.title + ": " + FORMATS[spec.x.scale](items[0].raw.x),
              label: (item) => labelOf(spec, item),
            },
          },
        },
      },
    });
    show(figure);
  }

  // Shows what both switches, of the name and of the layer, let through.
  function show(figure) {
    figure.chart.data.datasets.forEach((set, i) => {
      const hidden = figure.off.has("name " + set.saccadeName) ||
        figure.off.has("layer " + set.saccadeLayer);
      figure.chart.setDatasetVisibility(i, !hidden);
    });
    figure.chart.update("none");
  }

  function emphasise(figure, name) {
    figure.chart.data.datasets.forEach((set) => {
      if (set.band) return;
      set.borderWidth = name !== null && set.saccadeName === name ? 4.5 : 2;
    });
    figure.chart.update("none");
  }

  // ---- The legend: buttons, so that a keyboard reaches them.

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

  function button(figure, key, parts, onFocus) {
    const node = document.createElement("button");
    node.type = "button";
    node.setAttribute("aria-pressed", String(!figure.off.has(key)));
    for (const part of parts) node.append(part);
    node.addEventListener("click", () => {
      if (figure.off.has(key)) figure.off.delete(key);
      else figure.off.add(key);
      node.setAttribute("aria-pressed", String(!figure.off.has(key)));
      show(figure);
    });
    if (onFocus) {
      for (const event of ["mouseenter", "focus"]) {
        node.addEventListener(event, () => emphasise(figure, onFocus));
      }
      for (const event of ["mouseleave", "blur"]) {
        node.addEventListener(event, () => emphasise(figure, null));
      }
    }
    figure.legend.append(node);
  }

  function legend(figure) {
    const spec = figure.spec;
    figure.legend.textContent = "";
    const names = new Set();
    const layers = new Map();
    const manyLayers = new Set(spec.series.map((s) => s.layer)).size > 1;
    for (const series of spec.series) {
      layers.set(series.layer, Math.min(series.style,
        layers.has(series.layer) ? layers.get(series.layer) : 9));
      if (names.has(series.name)) continue;
      names.add(series.name);
      const colour = "var(--c" + (series.colour % COLOURS) + ")";
      const dash = spec.lines ? dashOf(manyLayers ? 0 : series.style) : null;
      const fill = hollow(spec, series) ? "var(--paper)" : colour;
      const parts = [swatch(colour, SHAPES[series.shape % SHAPES.length], dash,
                            fill), series.name];
      if (series.note) {
        const note = document.createElement("i");
        note.textContent = series.note;
        parts.push(note);
      }
      button(figure, "name " + series.name, parts, series.name);
    }
    if (manyLayers) {
      for (const [layer, style] of layers) {
        button(figure, "layer " + layer, spec.lines
          ? [swatch("var(--quiet)", null, dashOf(style)), layer]
          : [(style === 0 ? "● " : "○ ") + layer], null);
      }
    }
    if (names.size < 3) return;
    const all = document.createElement("button");
    all.type = "button";
    all.className = "plain";
    all.textContent = "all / none";
    all.addEventListener("click", () => {
      const keys = Array.from(names, (name) => "name " + name);
      const anyOff = keys.some((key) => figure.off.has(key));
      for (const key of keys) {
        if (anyOff) figure.off.delete(key);
        else figure.off.add(key);
      }
      legend(figure);
      show(figure);
    });
    figure.legend.append(all);
  }

  // ---- Pictures of matrices.

  const LEVELS =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

  function rgb(colour) {
    const number = parseInt(colour.slice(1), 16);
    return [number >> 16, (number >> 8) & 255, number & 255];
  }

  // From paper through one blue to ink: lightness alone tells the level, so
  // that it does not matter which colours an eye sees.
  function ramp(ink) {
    const stops = [ink.paper, ink.colours[0], ink.ink].map(rgb);
    return (share) => {
      const at = Math.min(2 * share, 2);
      const from = stops[Math.min(Math.floor(at), 1)];
      const to = stops[Math.min(Math.floor(at), 1) + 1];
      const part = at - Math.min(Math.floor(at), 1);
      return from.map((x, i) => Math.round(x + part * (to[i] - x)));
    };
  }

  function paint(map, canvas) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(map.size, map.size);
    const colour = ramp(inkOf());
    for (let i = 0; i < map.levels.length; ++i) {
      const level = LEVELS.indexOf(map.levels[i]) / (LEVELS.length - 1);
      image.data.set(colour(Math.max(level, 0)).concat(255), 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  const pictures = [];
  function hang(node, maps) {
    const plot = node.querySelector(".plot");
    plot.textContent = "";
    plot.classList.add("maps");
    plot.hidden = false;
    for (const map of maps) {
      const frame = document.createElement("div");
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = map.size;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", map.name + ", " + map.note);
      const name = document.createElement("span");
      name.textContent = map.name;
      const note = document.createElement("i");
      note.textContent = map.note;
      frame.append(canvas, name, note);
      plot.append(frame);
      pictures.push({ map: map, canvas: canvas });
      paint(map, canvas);
    }
  }

  // ---- The page.

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.font.size = 12;
  const figures = [];
  for (const node of document.querySelectorAll("figure")) {
    const spec = JSON.parse(
      node.querySelector('script[type="application/json"]').textContent);
    node.querySelector("details").open = false;
    if (spec.maps && spec.maps.length > 0) hang(node, spec.maps);
    if (spec.series.length === 0) continue;
    node.querySelector(".plot").hidden = false;
    const figure = {
      spec: spec,
      canvas: node.querySelector("canvas"),
      legend: node.querySelector(".legend"),
      off: new Set(),
      chart: null,
    };
    // Of many layers the first two are enough to begin with.
    if (new Set(spec.series.map((s) => s.layer)).size > 3) {
      for (const series of spec.series) {
        if (series.style > 1) figure.off.add("layer " + series.layer);
      }
    }
    legend(figure);
    // What is folded is drawn when it is first opened.
    const fold = node.closest("details.more");
    const begin = () => {
      figures.push(figure);
      draw(figure);
    };
    if (fold) fold.addEventListener("toggle", begin, { once: true });
    else begin();
  }
  const redraw = () => {
    figures.forEach(draw);
    for (const picture of pictures) paint(picture.map, picture.canvas);
  };
  dark.addEventListener("change", redraw);
  window.matchMedia("print").addEventListener("change", redraw);
  window.matchMedia("(max-width: 639px)").addEventListener("change", redraw);
})();
