// One figure: what of it is shown, and drawing that with Chart.js.
(function (report) {
  "use strict";

  const SHAPES = ["circle", "rect", "triangle", "rectRot", "star", "crossRot"];
  const COLOURS = 7;
  const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3], [14, 4],
                  [8, 2, 2, 2, 2, 2], [1, 5]];
  // Of a point: [x, y, low, high, length, faded]; see chart.cc.
  const LOW = 2, HIGH = 3, LENGTH = 4, FADED = 5;

  report.inkOf = function () {
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
  };

  report.dashOf = (style) => DASHES[style % DASHES.length];
  report.shapeOf = (series) => SHAPES[series.shape % SHAPES.length];
  // The custom property of a series' colour; axes' for what is no variant.
  report.colourName = (series) =>
    series.colour < 0 ? "--quiet" : "--c" + (series.colour % COLOURS);
  // Colours come round again after seven; then the points are hollow.
  report.hollow = (spec, series) =>
    spec.lines ? series.colour >= COLOURS : series.style !== 0;

  // Of layers of points the first is filled, the second hollow, more are pale.
  const fillOf = (spec, series, colour, ink) =>
    !report.hollow(spec, series) ? colour
      : !spec.lines && series.style > 1 ? colour + "55" : ink.paper;

  const colourOf = (series, ink) =>
    series.colour < 0 ? ink.quiet : ink.colours[series.colour % COLOURS];

  // The series with those points that the filters let through.
  function shown(figure) {
    const spec = figure.spec;
    const keep = figure.keep;
    const byAxis = spec.x.scale === "length";
    const list = [];
    for (const series of spec.series) {
      if (keep && !keep.pass(series.pass)) continue;
      let points = series.points;
      if (keep && !series.bare) {
        points = points.filter((p) => keep.length(byAxis ? p[0] : p[LENGTH]));
      }
      if (spec.longest && !series.bare) points = points.slice(-1);
      if (points.length > 0) {
        list.push(Object.assign({}, series, { points: points }));
      }
    }
    return list;
  }

  const bounded = (p) => typeof p[LOW] === "number";

  function bandOf(series, common) {
    const edge = Object.assign({}, common, {
      band: true,
      borderWidth: 0,
      pointRadius: 0,
      pointHitRadius: 0,
      backgroundColor: common.borderColor + "26",
    });
    const at = (i) => series.points.filter(bounded)
      .map((p) => ({ x: p[0], y: p[i] }));
    return [Object.assign({}, edge, { data: at(LOW) }),
            Object.assign({}, edge, { data: at(HIGH), fill: "-1" })];
  }

  function datasetsOf(spec, list, ink) {
    const sets = [];
    for (const series of list) {
      const colour = colourOf(series, ink);
      const faded = series.points.every((p) => p[FADED]);
      const common = {
        saccadeName: series.name,
        saccadeLayer: series.layer,
        bare: series.bare,
        borderColor: faded ? colour + "66" : colour,
      };
      if (spec.lines && series.points.some(bounded)) {
        sets.push(...bandOf(series, common));
      }
      const size = series.bare ? 0 : spec.lines ? 3.5 : faded ? 4.5 : 6.5;
      sets.push(Object.assign({}, common, {
        label: series.name + (series.layer ? ", " + series.layer : "") +
          (faded ? " (dominated)" : ""),
        data: series.points.map((p) => ({
          x: p[0],
          y: p[1],
          low: bounded(p) ? p[LOW] : undefined,
          high: bounded(p) ? p[HIGH] : undefined,
          length: p[LENGTH],
        })),
        clip: 8,
        showLine: spec.lines || series.bare,
        borderWidth: series.bare ? 1.5 : 2,
        borderDash: spec.lines || series.bare ? report.dashOf(series.style) : [],
        backgroundColor: fillOf(spec, series, common.borderColor, ink),
        pointStyle: report.shapeOf(series),
        pointRadius: size,
        pointHitRadius: series.bare ? 0 : 4,
        pointHoverRadius: series.bare ? 0 : size + 2,
        pointBorderWidth: spec.lines ? 1.5 : 2,
      }));
    }
    return sets;
  }

  function labelOf(spec, item) {
    const point = item.raw;
    const show = report.FORMATS[spec.y.scale];
    let text = item.dataset.label + ": " + show(point.y);
    if (point.low !== undefined) {
      text += " (" + show(point.low) + " to " + show(point.high) + ")";
    }
    if (point.length) text += ", n = " + report.FORMATS.length(point.length);
    return text;
  }

  function tooltipOf(spec, ink) {
    return {
      backgroundColor: ink.ink,
      titleColor: ink.paper,
      bodyColor: ink.paper,
      usePointStyle: true,
      callbacks: {
        title: (items) => items.length === 0 ? "" : spec.x.title + ": " +
          report.FORMATS[spec.x.scale](items[0].raw.x),
        label: (item) => labelOf(spec, item),
      },
    };
  }

  // The marks that can be pointed at: [dataset, place, element].
  function marksOf(chart) {
    const marks = [];
    chart.data.datasets.forEach((set, i) => {
      if (set.band || set.bare || !chart.isDatasetVisible(i)) return;
      chart.getDatasetMeta(i).data.forEach(
        (element, j) => marks.push([i, j, element]));
    });
    return marks;
  }

  // What a pointer means: the nearest mark, and those that lie on it.
  report.marksAt = function (chart, event) {
    const far = (element) =>
      Math.hypot(element.x - event.x, element.y - event.y);
    const marks = marksOf(chart);
    let nearest = null;
    for (const [, , element] of marks) {
      if (!nearest || far(element) < far(nearest)) nearest = element;
    }
    return marks
      .filter(([, , element]) => Math.hypot(element.x - nearest.x,
                                            element.y - nearest.y) < 4)
      .map(([i, j, element]) =>
        ({ datasetIndex: i, index: j, element: element }));
  };

  // Whether there is room for it on the page just now.
  const visible = (node) => node.getClientRects().length > 0;

  report.draw = function (figure) {
    if (figure.chart) figure.chart.destroy();
    figure.chart = null;
    const spec = figure.spec;
    const list = shown(figure);
    figure.empty = !list.some((series) => !series.bare);
    if (figure.empty || !visible(figure.node)) return;
    const ink = report.inkOf();
    const points = list.flatMap((series) => series.points);
    const guidesAt = (vertical) => spec.guides
      .filter((guide) => guide.vertical === vertical).map((guide) => guide.at);
    const axis = (name, values) => report.axisOf(
      spec[name], spec[name].log && !figure.linear.has(name), values,
      guidesAt(name === "x"), ink, name === "x");
    const plugins = [report.guidePlugin(spec.guides, ink)];
    if (!spec.lines && !spec.longest) plugins.push(report.namePlugin);
    // Bands count for the range where they are drawn.
    const heights = (p) => spec.lines && bounded(p)
      ? [p[1], p[LOW], p[HIGH]] : [p[1]];
    figure.chart = new Chart(figure.canvas, {
      type: "line",
      data: { datasets: datasetsOf(spec, list, ink) },
      plugins: plugins,
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        parsing: false,
        interaction: { mode: "marks", intersect: false },
        scales: {
          x: axis("x", points.map((p) => p[0])),
          y: axis("y", points.flatMap(heights)),
        },
        plugins: {
          legend: { display: false },
          tooltip: tooltipOf(spec, ink),
        },
      },
    });
    report.show(figure);
  };

  // Shows what both switches, of the name and of the layer, let through.
  report.show = function (figure) {
    if (!figure.chart) return;
    figure.chart.data.datasets.forEach((set, i) => {
      const hidden = figure.off.has("name " + set.saccadeName) ||
        figure.off.has("layer " + set.saccadeLayer);
      figure.chart.setDatasetVisibility(i, !hidden);
    });
    figure.chart.update("none");
  };

  report.emphasise = function (figure, name) {
    if (!figure.chart) return;
    figure.chart.data.datasets.forEach((set) => {
      if (set.band || set.bare) return;
      set.borderWidth = name !== null && set.saccadeName === name ? 4.5 : 2;
    });
    figure.chart.update("none");
  };

  // A keyboard's way to the values: arrows go from mark to mark.
  report.listen = function (figure) {
    let at = -1;
    const point = (list) => {
      figure.chart.setActiveElements(list);
      figure.chart.tooltip.setActiveElements(list, { x: 0, y: 0 });
      figure.chart.update("none");
    };
    figure.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !figure.chart) return;
      event.preventDefault();
      const all = marksOf(figure.chart);
      if (all.length === 0) return;
      at = (at + step + all.length) % all.length;
      point([{ datasetIndex: all[at][0], index: all[at][1] }]);
    });
    figure.canvas.addEventListener("blur", () => {
      if (figure.chart) point([]);
    });
  };
})(window.saccadeReport = window.saccadeReport || {});
