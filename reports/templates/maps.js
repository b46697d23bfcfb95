// Pictures of matrices.
(function (report) {
  "use strict";

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
    const colour = ramp(report.inkOf());
    for (let i = 0; i < map.levels.length; ++i) {
      const level = LEVELS.indexOf(map.levels[i]) / (LEVELS.length - 1);
      image.data.set(colour(Math.max(level, 0)).concat(255), 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  const pictures = [];
  report.hang = function (node, maps) {
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
  };

  report.repaint = function () {
    for (const picture of pictures) paint(picture.map, picture.canvas);
  };
})(window.saccadeReport = window.saccadeReport || {});
