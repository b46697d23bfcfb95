// Axes: their range and where they are marked.
(function (report) {
  "use strict";

  report.narrow = () => window.innerWidth < 640;

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

  // How Chart.js draws an axis of chart.h; `log` as the reader switched it.
  report.axisOf = function (axis, log, values, guides, ink, isX) {
    const all = values.concat(guides).filter(Number.isFinite);
    let min = Math.min.apply(null, all);
    let max = Math.max.apply(null, all);
    const options = {
      type: log ? "logarithmic" : "linear",
      title: { display: true, text: axis.title, color: ink.quiet },
      grid: { color: ink.line, borderColor: ink.line, tickLength: 4 },
      ticks: {
        color: ink.quiet,
        maxRotation: 0,
        callback: (value) => report.TICKS[axis.scale](value),
      },
    };
    if (log) {
      const margin = Math.pow(max / min, 0.04) * (max > min ? 1 : 1.2);
      options.min = min / margin;
      options.max = max * margin;
      const room = isX ? (report.narrow() ? 6 : 12) : 9;
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
    } else if (axis.log) {
      // What had a logarithm is above zero; shown from zero, lengths compare.
      options.min = 0;
      options.max = 1.05 * max;
    } else {
      const margin = 0.05 * (max - min || 1);
      options.min = min - margin;
      options.max = max + margin;
      options.ticks.includeBounds = false;
    }
    return options;
  };
})(window.saccadeReport = window.saccadeReport || {});
