// Numbers as the tables show them.
(function (report) {
  "use strict";

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

  report.FORMATS = FORMATS;
  report.TICKS = TICKS;
})(window.saccadeReport = window.saccadeReport || {});
