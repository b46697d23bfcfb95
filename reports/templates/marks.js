// Lines that are no data, and names beside lone points.
(function (report) {
  "use strict";

  // Guides lie below the data, their names above it on a halo of paper. Of
  // names too close to each other the lowest is shown.
  report.guidePlugin = function(guides, ink) {
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
  };

  const overlap = (a, b) =>
    a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

  report.namePlugin = {
    id: "names",
    afterDatasetsDraw(chart) {
      const area = chart.chartArea;
      const context = chart.ctx;
      context.save();
      context.font = "12px system-ui, sans-serif";
      context.textBaseline = "middle";
      const ink = report.inkOf().ink;
      const shown = [];
      chart.data.datasets.forEach((set, i) => {
        if (!chart.isDatasetVisible(i) || set.bare) return;
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
          { x: point.x - w / 2, y: point.y - 24 }, { x: point.x + 10, y: point.y - 7 },
          { x: point.x - 10 - w, y: point.y - 7 }, { x: point.x - w / 2, y: point.y + 10 },
          { x: point.x + 10, y: point.y - 20 }, { x: point.x + 10, y: point.y + 6 },
        ];
        for (const place of places) {
          const box = { x: place.x, y: place.y, w: w, h: 14 };
          if (box.x < area.left || box.x + w > area.right) continue;
          if (box.y < area.top || box.y + 14 > area.bottom) continue;
          if (boxes.some((other) => overlap(box, other))) continue;
          boxes.push(box);
          context.fillStyle = ink;
          context.fillText(text, place.x, place.y + 7);
          break;
        }
      }
      context.restore();
    },
  };
})(window.saccadeReport = window.saccadeReport || {});
