// Draws the page's charts from the data that stands in it. No library, no network; tables need none of this.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const time = data.time;
  const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

  // ---- figures as people read them (as src/units.rs writes them)
  const three = (v) => v.toFixed(Math.abs(v) >= 99.95 ? 0 : Math.abs(v) >= 9.995 ? 1 : 2);
  const short = (v) => { const t = three(v); return t.includes(".") ? t.replace(/\.?0+$/, "") : t; };
  const grouped = (v) => Math.round(v).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  const scaled = (v, units) => { const [size, name] = units.find(([size]) => Math.abs(v) >= size * 0.9995) ?? units.at(-1); return [v / size, name]; };
  const DURATION = [[3.6e12, "h"], [6e10, "min"], [1e9, "s"], [1e6, "ms"], [1e3, "us"], [1, "ns"]];
  const BYTES = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];
  const unitText = (units, digits) => (v) => { const [n, name] = scaled(v, units); return `${digits(n)} ${name}`; };
  const FORMAT = {
    duration: unitText(DURATION, three),
    bytes: unitText(BYTES, three),
    number: (v) => (Math.abs(v) < 999.5 ? short(v) : grouped(v)),
    percent: (v) => `${short(v * 100)} %`,
  };
  // On an axis, zeros behind the point are left out, and thousands are shorter.
  const TICK = { ...FORMAT, duration: unitText(DURATION, short), bytes: unitText(BYTES, short), number: (v) => (v >= 1e6 ? `${short(v / 1e6)} M` : v >= 1e4 ? `${short(v / 1e3)} k` : FORMAT.number(v)) };
  const clock = (s) => (s < 180 ? `${short(s)} s` : s < 10800 ? `${short(s / 60)} min` : `${short(s / 3600)} h`);

  // ---- scales
  const niceStep = (span, count, base) => {
    const raw = span / count;
    const unit = base === 1024 ? 1024 ** Math.max(0, Math.floor(Math.log(raw) / Math.log(1024))) : 1;
    const power = 10 ** Math.floor(Math.log10(raw / unit));
    return unit * power * ([1, 2, 5, 10].find((m) => raw <= unit * power * m * 1.0001));
  };
  const linear = (low, high, from, to, base) => {
    const step = niceStep(high - low || 1, 4, base);
    const bottom = Math.floor(low / step) * step;
    const top = Math.max(Math.ceil(high / step - 1e-9) * step, bottom + step);
    const ticks = [];
    for (let i = 0; bottom + i * step <= top + step / 2; i++) ticks.push(bottom + i * step);
    return { at: (v) => from + ((v - bottom) / (top - bottom)) * (to - from), ticks };
  };
  const logarithmic = (low, high, from, to) => {
    const exponent = Math.floor(Math.log10(low));
    const all = [];
    for (let e = exponent; e <= Math.ceil(Math.log10(high)); e++) for (const m of [1, 2, 5]) all.push(m * 10 ** e);
    const bottom = all.filter((v) => v <= low * 1.0001).at(-1);
    const top = all.find((v) => v >= high * 0.9999 && v > bottom) ?? high;
    const within = all.filter((v) => v >= bottom && v <= top);
    const decades = within.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9);
    const span = Math.log(top / bottom);
    return { at: (v) => from + (Math.log(Math.max(v, bottom) / bottom) / span) * (to - from), ticks: within.length > 8 ? decades : within };
  };
  const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];
  const timeTicks = (end, count) => {
    const step = end < 4 ? niceStep(end, count) : TIMES.find((s) => end / s <= count) ?? niceStep(end, count);
    const ticks = [];
    for (let t = 0; t <= end * 1.0001; t += step) ticks.push(t);
    return ticks;
  };
  const nearest = (sorted, x) => {
    let low = 0, high = sorted.length - 1;
    while (low < high) { const mid = (low + high) >> 1; if (sorted[mid] < x) low = mid + 1; else high = mid; }
    return low > 0 && x - sorted[low - 1] < sorted[low] - x ? low - 1 : low;
  };

  // ---- drawing
  const M = { left: 60, right: 12, top: 24, bottom: 26 };
  const line = (xs, ys, x, y) => {
    let path = "", dots = "", open = false;
    ys.forEach((v, i) => {
      if (v == null) { open = false; return; }
      const point = `${x(xs[i]).toFixed(1)} ${y(v).toFixed(1)}`;
      if (!open && ys[i + 1] == null) dots += `M${point}h0`;
      path += `${open ? "L" : "M"}${point}`;
      open = true;
    });
    return [path, dots];
  };
  const strokes = (series, x, y) => series.map((s) => {
    const [path, dots] = line(s.x, s.y, x, y);
    const style = `fill="none" stroke="${s.colour}" stroke-linejoin="round" stroke-linecap="round"`;
    return `<path d="${path}" ${style} stroke-width="${s.width ?? 1.8}"/>` + (dots && `<path d="${dots}" ${style} stroke-width="5"/>`);
  }).join("");
  const grid = (scale, format, width) => scale.ticks.map((v) => {
    const at = scale.at(v).toFixed(1);
    return `<line x1="${M.left}" x2="${width - M.right}" y1="${at}" y2="${at}" stroke="var(--line)"/>` +
      `<text x="${M.left - 9}" y="${at}" dy="3.5" text-anchor="end">${v === 0 ? "0" : escape(format(v))}</text>`;
  }).join("");
  const limits = (lines, scale, right, low, high) => (lines ?? []).filter(([, v]) => scale.at(v) >= high && scale.at(v) <= low).map(([label, v, share]) => {
    const at = scale.at(v).toFixed(1);
    const end = typeof right === "function" ? right(share) : right;
    // The label stands above the line, or below it where phases have their names.
    return `<line x1="${M.left}" x2="${end}" y1="${at}" y2="${at}" stroke="var(--broken)" stroke-dasharray="4 4" opacity=".75"/>` +
      `<text x="${end}" y="${at}" dy="${at < high + 12 ? 13 : -5}" text-anchor="end" style="fill:var(--broken)">${escape(label)}</text>`;
  }).join("");
  const bands = (x, width, height) => data.phases.map((phase, i) => {
    const [from, to] = [x(Math.max(phase.from, 0)), x(phase.to)];
    if (!(to > from)) return "";
    const room = Math.floor((to - from - 6) / 6.1);
    const label = phase.name.length <= room ? phase.name : room >= 5 ? `${phase.name.slice(0, room - 1)}…` : "";
    return (i % 2 ? "" : `<rect x="${from.toFixed(1)}" y="6" width="${(to - from).toFixed(1)}" height="${height - M.bottom - 6}" fill="var(--band)"/>`) +
      `<text x="${(from + 5).toFixed(1)}" y="18" ${phase.counts ? "" : 'opacity=".6"'}>${escape(label)}</text>`;
  }).join("");
  const figureOf = (id) => document.querySelector(`[data-chart="${id}"]`);
  const legend = (figure, series, marked) => {
    const keys = series.map((s) => `<span><i style="background:${s.colour}"></i>${escape(s.name)}</span>`);
    if (marked) keys.push(`<span><i class="mark" style="background:var(--broken)"></i>${escape(marked)}</span>`);
    figure.previousElementSibling.innerHTML = series.length > 1 || marked ? keys.join("") : "";
  };

  const charts = [];
  const hover = (figure, plot) => {
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    figure.append(tip);
    const leave = () => { tip.hidden = true; for (const chart of charts) chart.cursor(null); };
    figure.addEventListener("pointerleave", leave);
    figure.addEventListener("pointercancel", leave);
    const move = (event) => {
      const box = figure.getBoundingClientRect();
      const picked = plot.pick(event.clientX - box.left);
      if (!picked) return leave();
      const rows = picked.rows.map((r) => `<tr><td><i style="background:${r.colour}"></i>${escape(r.name)}</td><td>${escape(r.text)}</td></tr>`);
      tip.innerHTML = `<span class="soft">${escape(picked.title)}</span><table>${rows.join("")}</table>`;
      tip.hidden = false;
      const left = picked.left + 14 + tip.offsetWidth > box.width ? picked.left - 14 - tip.offsetWidth : picked.left + 14;
      tip.style.left = `${Math.max(0, Math.min(left, box.width - tip.offsetWidth))}px`;
      for (const chart of charts) chart.cursor(chart.timed === plot.timed || chart === plot ? picked.x : null, plot);
    };
    figure.addEventListener("pointermove", move);
    figure.addEventListener("pointerdown", move);
  };
  const known = (series) => series.flatMap((s) => s.y.filter((v) => v != null));

  // A chart over time. Not drawn, and its card taken away, where nothing was measured.
  const overTime = (id, { series, format, log, base, lines, marks, floor }) => {
    const figure = figureOf(id);
    series = series.filter((s) => s.y.some((v) => v != null && (v !== 0 || s.always)));
    if (!figure) return;
    if (!series.length) { figure.closest(".card").remove(); return; }
    legend(figure, series, marks?.some((m) => m > 0) ? "message lost, repeated, out of order or malformed; connection lost" : null);
    const svg = document.createElement("div");
    figure.append(svg);
    const plot = { timed: true };
    const end = Math.max(...series.flatMap((s) => s.x), ...data.phases.map((p) => p.to), 0.001);
    let x;
    plot.draw = () => {
      const width = figure.clientWidth || 600;
      const height = figure.closest(".wide") ? 270 : 215;
      const [low, high] = [height - M.bottom, M.top + 4];
      const values = known(series);
      const most = Math.max(...values);
      // A limit near the figures belongs in the picture; a far one would flatten them.
      const near = (lines ?? []).map(([, v]) => v).filter((v) => v < most * 2.5 && (!log || v > Math.min(...values) / 2.5));
      const top = Math.max(most, floor ?? 0, ...near);
      const positive = values.filter((v) => v > 0);
      const y = log && positive.length ? logarithmic(Math.min(...positive, ...near), top, low, high) : linear(0, top, low, high, base);
      x = (t) => M.left + (t / end) * (width - M.left - M.right);
      const ticks = timeTicks(end, width < 480 ? 4 : 8).map((t) => `<text x="${x(t).toFixed(1)}" y="${height - 8}" text-anchor="middle">${clock(t)}</text>`);
      const diamonds = (marks ?? []).map((m, i) => (m > 0 ? `<path d="M${x(time.t[i]).toFixed(1)} ${low - 10}l4 4l-4 4l-4 -4z" fill="var(--broken)"/>` : ""));
      svg.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(figure.dataset.label)}">` +
        bands(x, width, height) + grid(y, TICK[format], width) + ticks.join("") + strokes(series, x, y.at) + diamonds.join("") +
        limits(lines, y, width - M.right, low, high) + `<g class="cursor"></g></svg>`;
      plot.y = y; plot.low = low;
    };
    plot.cursor = (t, from) => {
      const group = svg.querySelector(".cursor");
      if (t == null) { group.innerHTML = ""; return; }
      const dots = series.map((s) => {
        const i = nearest(s.x, t);
        return s.y[i] == null || from !== plot ? "" : `<circle cx="${x(s.x[i]).toFixed(1)}" cy="${plot.y.at(s.y[i]).toFixed(1)}" r="3.5" fill="${s.colour}" stroke="var(--card)" stroke-width="1.5"/>`;
      });
      group.innerHTML = `<line x1="${x(t).toFixed(1)}" x2="${x(t).toFixed(1)}" y1="6" y2="${plot.low}" stroke="var(--soft)" opacity=".45"/>` + dots.join("");
    };
    plot.pick = (left) => {
      const t = ((left - M.left) / (figure.clientWidth - M.left - M.right)) * end;
      const at = series[0].x[nearest(series[0].x, t)];
      if (at == null || left < M.left - 8) return null;
      const phase = data.phases.find((p) => at > p.from - 1e-3 && at <= p.to + 1e-3);
      const rows = series.map((s) => { const v = s.y[nearest(s.x, at)]; return { name: s.name, colour: s.colour, text: v == null ? "none" : FORMAT[format](v) }; });
      const faults = marks?.[nearest(time.t, at)];
      if (faults) rows.push({ name: "faults", colour: "var(--broken)", text: FORMAT.number(faults) });
      return { x: at, left: x(at), title: `${short(at)} s${phase ? `, ${phase.name}` : ""}`, rows };
    };
    hover(figure, plot);
    charts.push(plot);
  };

  // Latency by percentile: the x axis is logarithmic in 1/(1-p), so that each nine takes the same room.
  const distribution = (id) => {
    const figure = figureOf(id);
    if (!figure) return;
    let phases = data.phases.filter((p) => p.percentiles.length && p.counts);
    if (!phases.length) phases = data.phases.filter((p) => p.percentiles.length);
    if (!phases.length) { figure.closest(".card").remove(); return; }
    const colour = (i) => phases.length === 1 ? "var(--c1)" : phases.length <= 6 ? `var(--c${i + 1})`
      : `color-mix(in oklab, var(--to) ${Math.round((i / (phases.length - 1)) * 100)}%, var(--from))`;
    const series = phases.map((p, i) => ({ name: p.name, colour: colour(i), x: p.percentiles.map((v) => v[0]), y: p.percentiles.map((v) => v[1]), width: 2 }));
    legend(figure, series);
    const svg = document.createElement("div");
    figure.append(svg);
    const plot = { timed: false };
    const nines = Math.max(1, ...series.map((s) => Math.log10(s.x.at(-1))));
    const label = (share) => `${(share * 100).toFixed(Math.max(0, Math.ceil(-Math.log10(1 - share) - 2 - 1e-9)))} %`;
    let x;
    plot.draw = () => {
      const width = figure.clientWidth || 600, height = 290;
      const [low, high] = [height - M.bottom, M.top - 6];
      const values = known(series), most = Math.max(...values), least = Math.max(1, Math.min(...values));
      const middle = Math.max(1, ...series.map((s) => s.y[nearest(s.x, 2)]));
      const near = data.limits.latency.map(([, v]) => v).filter((v) => v < most * 2.5);
      // Where the tail is far away, a linear axis would show nothing else.
      const y = most / middle > 25 ? logarithmic(least, Math.max(most, ...near), low, high) : linear(0, Math.max(most, ...near), low, high);
      x = (v) => M.left + (Math.log10(v) / nines) * (width - M.left - M.right);
      const marks = [[1, "0 %"], [2, "50 %"]];
      for (let nine = 1; nine <= nines + 1e-9; nine++) marks.push([10 ** nine, label(1 - 10 ** -nine)]);
      let taken = -1e9;
      const ticks = marks.map(([v, text]) => {
        const at = x(v);
        if (at - taken < text.length * 6.4 + 10) return "";
        taken = at;
        const anchor = at > width - 40 ? "end" : "middle";
        return `<line x1="${at.toFixed(1)}" x2="${at.toFixed(1)}" y1="${high}" y2="${low}" stroke="var(--line)"/><text x="${at.toFixed(1)}" y="${height - 8}" text-anchor="${anchor}">${text}</text>`;
      });
      svg.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(figure.dataset.label)}">` +
        grid(y, TICK.duration, width) + ticks.join("") + strokes(series, x, y.at) + limits(data.limits.latency, y, (share) => Math.max(M.left + 60, x(Math.min(10 ** nines, 1 / (1 - share)))).toFixed(1), low, high) + `<g class="cursor"></g></svg>`;
      plot.y = y; plot.low = low; plot.high = high;
    };
    plot.cursor = (v, from) => {
      const group = svg.querySelector(".cursor");
      if (v == null || from !== plot) { group.innerHTML = ""; return; }
      const dots = series.map((s) => { const i = nearest(s.x, v); return `<circle cx="${x(s.x[i]).toFixed(1)}" cy="${plot.y.at(s.y[i]).toFixed(1)}" r="3.5" fill="${s.colour}" stroke="var(--card)" stroke-width="1.5"/>`; });
      group.innerHTML = `<line x1="${x(v).toFixed(1)}" x2="${x(v).toFixed(1)}" y1="${plot.high}" y2="${plot.low}" stroke="var(--soft)" opacity=".45"/>` + dots.join("");
    };
    plot.pick = (left) => {
      if (left < M.left - 8) return null;
      const wished = 10 ** (((left - M.left) / (figure.clientWidth - M.left - M.right)) * nines);
      const longest = series.reduce((a, b) => (a.x.length >= b.x.length ? a : b));
      const v = longest.x[nearest(longest.x, wished)];
      const rows = series.map((s) => ({ name: s.name, colour: s.colour, text: v > s.x.at(-1) * 1.001 ? "" : FORMAT.duration(s.y[nearest(s.x, v)]) }));
      const share = 1 - 1 / v;
      return { x: v, left: x(v), title: `${share > 0 ? `${+(share * 100).toFixed(Math.max(1, Math.ceil(Math.log10(v)) - 1))} %` : "0 %"} are not above`, rows };
    };
    hover(figure, plot);
    charts.push(plot);
  };

  const of = (name, colour, key, more) => ({ name, colour, x: time.t, y: time[key], ...more });
  distribution("percentiles");
  overTime("latency", {
    series: [of("max", "var(--max)", "max", { width: 1.2 }), of("p99", "var(--p99)", "p99"), of("p90", "var(--p90)", "p90"), of("p50", "var(--p50)", "p50")],
    format: "duration", log: true, lines: data.limits.latency, marks: time.faults,
  });
  overTime("messages", { series: [of("messages a second", "var(--c1)", "messages")], format: "number", lines: data.limits.messages });
  overTime("bytes", { series: [of("bytes a second", "var(--c3)", "bytes")], format: "bytes", base: 1024 });
  overTime("clients", {
    series: [of("ready", "var(--c1)", "ready", { always: true }), of("connecting", "var(--c2)", "connecting"), of("stalled", "var(--c5)", "stalled")],
    format: "number",
  });
  overTime("handshakes", { series: [of("handshakes a second", "var(--c4)", "handshakes")], format: "number" });
  const servers = (key) => data.servers.map((s, i) => ({ name: s.name, colour: `var(--c${(i % 6) + 1})`, x: s.t, y: s[key] }));
  overTime("server-cpu", { series: servers("cpu"), format: "percent" });
  overTime("server-memory", { series: servers("rss"), format: "bytes", base: 1024, lines: data.limits.memory });
  overTime("harness-cpu", {
    series: [of("busiest worker", "var(--c2)", "worker_max"), ...(data.workers > 1 ? [of("all workers", "var(--max)", "worker_sum")] : [])],
    format: "percent", lines: [["worker's limit", data.limits.worker]],
  });
  overTime("harness-lag", {
    series: [of("late for its own schedule, p99", "var(--c2)", "schedule_lag"), of("bytes waited to be read, p99", "var(--c3)", "read_lag")],
    format: "duration", log: true, lines: [["limit", data.limits.lag]],
  });

  const draw = () => charts.forEach((chart) => chart.draw());
  draw();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  document.documentElement.dataset.drawn = charts.length;
})();
