"use strict";
// Reads status.json each second and shows it. Rates are what lies between two reads; countdowns run
// here between them. Text goes into the page as text alone, never as markup.
(() => {
  const EVERY_MS = 1000, PATIENCE_MS = 2500, RATE_OVER_MS = 4500, MINUTE_MS = 60000, POINTS = 120;
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en");
  const reads = [];
  const lines = { rate: [], waiting: [] };
  let heard = null, timers = [];

  // --- Words and numbers
  const count = (n, one, many) => number.format(n) + "\u00a0" + (n === 1 ? one : many);
  const rate = (n) => n === null ? "–" : n >= 100 ? number.format(Math.round(n)) : n >= 9.95 ? n.toFixed(0) : n === 0 ? "0" : n.toFixed(1);
  const time = (ms) => {
    if (ms === null || ms === undefined) return "–";
    if (ms === 0) return "0";
    if (ms < 1) return Math.max(1, Math.round(ms * 1000)) + "\u00a0µs";
    if (ms < 10) return ms.toFixed(1) + "\u00a0ms";
    if (ms < 10000) return number.format(Math.round(ms)) + "\u00a0ms";
    return (ms / 1000).toFixed(0) + "\u00a0s";
  };
  const span = (ms) => {
    const s = Math.floor(ms / 1000), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
    if (d) return d + "\u00a0d " + h % 24 + "\u00a0h";
    if (h) return h + "\u00a0h " + m % 60 + "\u00a0min";
    if (m) return m + "\u00a0min " + s % 60 + "\u00a0s";
    return s + "\u00a0s";
  };
  const left = (ms) => ms <= 0 ? "now" : ms < 9950 ? (Math.ceil(ms / 100) / 10).toFixed(1) + "\u00a0s" : span(ms + 999);
  const bytes = (n) => n === null ? "–" : n < 1048576 ? Math.round(n / 1024) + "\u00a0KiB" : (n / 1048576).toFixed(n < 10485760 ? 1 : 0) + "\u00a0MiB";
  const sum = (map) => Object.values(map).reduce((a, b) => a + b, 0);
  const names = { bot: "bot", bearer: "a bearer token", no_auth: "without a token", webhook: "a webhook", interaction: "an interaction", unknown: "not known yet" };
  const who = (s) => s.user_id || names[s.kind] || s.kind;
  const major = (b) => b.major_id ? b.major + "\u00a0" + b.major_id : "";
  // Webhooks and interactions are shown together, though each has limits of its own.
  const each = (b) => b.major !== "" && !b.major_id;
  const slots = (b) => b.limit !== null ? b.remaining + "/" + b.limit : b.returns === "unlimited" ? "no limit" : "not known";

  // --- The page
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const show = (id, is) => { $(id).hidden = !is; };
  const child = (node, at, tag) => {
    while (node.children.length <= at) node.appendChild(document.createElement(tag));
    return node.children[at];
  };
  const trim = (node, to) => { while (node.children.length > to) node.lastElementChild.remove(); };
  // A cell is text, {text, small, style}, {until} or {used, limit}.
  const cell = (td, value, column) => {
    const v = value !== null && typeof value === "object" ? value : { text: String(value) };
    const kind = "used" in v ? "bar" : "until" in v ? "until" : "text";
    if (td.dataset.kind !== kind) { td.textContent = ""; td.dataset.kind = kind; }
    td.className = column + " " + (v.style || "");
    if (kind === "bar") {
      const bar = child(td, 0, "span"), text = child(td, 1, "span");
      bar.className = "bar";
      const of = v.limit > 0 ? Math.min(1, v.used / v.limit) : 0;
      child(bar, 0, "i").style.width = 100 * of + "%";
      put(text, v.limit > 0 ? v.used + "/" + number.format(v.limit) : v.used + ", no cap");
      return;
    }
    const main = child(td, 0, "span");
    if (kind === "until") { timer(main, v.until); return; }
    put(main, v.text);
    main.className = v.mono ? "route" : "";
    if (v.small) put(child(td, 1, "small"), v.small); else trim(td, 1);
  };
  const table = (id, rows, quiet) => {
    const body = $(id).tBodies[0], heads = $(id).tHead.rows[0].cells;
    trim(body, rows.length);
    rows.forEach((row, r) => {
      const tr = child(body, r, "tr");
      tr.className = quiet && quiet(r) ? "quiet" : "";
      row.forEach((value, c) => cell(child(tr, c, "td"), value, heads[c].className));
    });
  };
  const timer = (node, ms) => {
    if (ms === null || ms === undefined) put(node, "after an answer");
    else { timers.push([node, performance.now() + ms]); put(node, left(ms)); }
  };
  const line = (id, points) => {
    const svg = $(id), ns = "http://www.w3.org/2000/svg";
    if (!svg.firstChild) for (const name of ["area", "stroke"]) {
      const path = document.createElementNS(ns, "path");
      path.setAttribute("class", name);
      svg.appendChild(path);
    }
    const top = Math.max(1, ...points), width = POINTS - 1;
    svg.setAttribute("viewBox", "0 0 " + width + " 28");
    svg.setAttribute("preserveAspectRatio", "none");
    const xy = points.map((p, i) => (width - points.length + 1 + i) + " " + (27 - 25 * p / top).toFixed(2));
    const stroke = points.length > 1 ? "M" + xy.join("L") : "";
    svg.children[1].setAttribute("d", stroke);
    svg.children[0].setAttribute("d", stroke && stroke + "L" + width + " 28L" + (width - points.length + 1) + " 28Z");
  };

  // --- What lies between two reads
  // The newest read that is at least so old; the oldest if none is.
  const before = (ms) => {
    const now = reads[reads.length - 1];
    let found = reads[0];
    for (const read of reads) if (now.at - read.at >= ms - 50) found = read;
    return found;
  };
  // By how much something grew, for each second of the last few.
  const perSecond = (of) => {
    const now = reads[reads.length - 1], then = before(RATE_OVER_MS);
    const seconds = (now.at - then.at) / 1000;
    return seconds > 0 ? Math.max(0, of(now.status) - of(then.status)) / seconds : null;
  };
  // By how much it grew within a minute.
  const inMinute = (of) => {
    const then = before(MINUTE_MS), now = reads[reads.length - 1];
    return reads.length > 1 ? Math.max(0, of(now.status) - of(then.status)) : null;
  };

  // --- Its parts
  const answered = (s) => sum(s.requests.answered);
  const refused = (s) => sum(s.requests.refused);
  const limited = (s) => sum(s.requests.limited);

  const verdict = (s) => {
    const problems = s.attention.filter((a) => a.level === "problem").length;
    const notices = s.attention.length - problems;
    document.body.className = problems ? "needs" : "";
    const state = s.state === "serving" ? "Serving" : "Ending";
    let text = state + ". Nothing needs you.";
    if (problems) text = state + ", but " + count(problems, "thing needs", "things need") + " you.";
    else if (notices) text = state + ". " + count(notices, "thing", "things") + " to know, nothing to do.";
    put($("verdict"), text);
    const list = $("attention");
    trim(list, s.attention.length);
    s.attention.forEach((a, i) => {
      const li = child(list, i, "li");
      li.className = a.level;
      for (const [at, name] of [[0, "level"], [1, "text"], [2, "left"]]) child(li, at, "span").className = name;
      put(li.children[0], a.level === "problem" ? "▲ Problem" : "Notice");
      put(li.children[1], a.text);
      if (a.left_ms === null) put(li.children[2], ""); else timer(li.children[2], a.left_ms);
    });
    document.title = (problems ? "▲ " + problems + " · " : "") + "weir" + (s.node ? " " + s.node : "");
  };

  const figures = (s) => {
    const now = perSecond(answered);
    put($("rate"), rate(now));
    put($("rate-more"), number.format(s.requests.under_way) + " under way");
    put($("waiting"), number.format(s.requests.waiting));
    const p99 = s.latency.queue.p99_ms;
    put($("waiting-more"), p99 ? "p99 waited " + time(p99) : "hardly anybody waited");
    put($("refused"), rate(inMinute(refused)));
    put($("refused-more"), number.format(refused(s)) + " since start");
    put($("limited"), rate(inMinute(limited)));
    put($("limited-more"), number.format(limited(s)) + " since start, " + number.format(s.requests.held_back) + " avoided");
    for (const [id, of] of [["upstream", s.latency.upstream], ["added", s.latency.added]]) {
      put($(id), time(of.p50_ms));
      put($(id + "-more"), of.count ? "p90\u00a0" + time(of.p90_ms) + " · p99\u00a0" + time(of.p99_ms) : "no request yet");
    }
    const last = reads[reads.length - 1], earlier = reads[reads.length - 2];
    if (earlier) {
      lines.rate.push(Math.max(0, answered(s) - answered(earlier.status)) * 1000 / Math.max(1, last.at - earlier.at));
      lines.waiting.push(s.requests.waiting);
    }
    for (const id of ["rate", "waiting"]) { lines[id].splice(0, lines[id].length - POINTS); line(id + "-line", lines[id]); }
  };

  const limitCell = (b) => ({
    text: b.route ? b.method + " " + b.route : "a route not named yet", mono: true,
    small: each(b) ? "one limit each" : [major(b), b.user_id ? "bot\u00a0" + b.user_id : names[b.kind] || ""].filter(Boolean).join(" · "),
  });

  const buckets = (s) => {
    const { blocked, busiest, waited_for, tracked, busiest_over_ms } = s.buckets;
    show("blocked-section", blocked.length);
    put($("blocked-count"), blocked.length < waited_for ? blocked.length + " of " + number.format(waited_for) : "");
    table("blocked", blocked.map((b) => [limitCell(b), number.format(b.waiting), slots(b), { until: b.opens_in_ms }, { until: b.last_in_ms }]));
    const shown = busiest.slice(0, 8);
    show("busiest-section", shown.length);
    const seconds = Math.max(0.2, busiest_over_ms / 1000);
    table("busiest", shown.map((b) => [limitCell(b), rate(b.requests / seconds), each(b) ? "–" : slots(b)]));
    put($("busiest-title"), "Busiest of " + count(tracked, "bucket", "buckets"));
  };

  const outcomes = (s) => {
    const row = (name, small, of) => ({ name, small, of, total: of(s) });
    const known = { "2xx": "answered well", "3xx": "not modified, moved", "4xx": "the bot's mistake, or a limit", "5xx": "Discord's fault" };
    const rows = ["2xx", "3xx", "4xx", "5xx", "other"].map((c) => row(c, known[c] || "", (d) => d.requests.answered[c] || 0));
    for (const scope of Object.keys(s.requests.limited)) rows.push(row("429 " + scope, "of Discord, among the 4xx", (d) => d.requests.limited[scope] || 0));
    rows.push(row("retried", "sent once more by weir", (d) => d.requests.retried));
    for (const reason of Object.keys(s.requests.refused)) rows.push(row(reason, "refused by weir", (d) => d.requests.refused[reason] || 0));
    for (const kind of Object.keys(s.requests.errors)) rows.push(row(kind, "went wrong", (d) => d.requests.errors[kind] || 0));
    const some = rows.filter((r) => r.total > 0 || r.name === "2xx");
    table("outcomes", some.map((r) => [{ text: r.name, small: r.small }, rate(perSecond(r.of)), number.format(r.total)]));
  };

  const senders = (s) => {
    const { top, tracked, locked, locks } = s.senders;
    show("senders-section", top.length);
    put($("senders-count"), top.length < tracked ? top.length + " of " + number.format(tracked) : "");
    const said = (x) => x.paused_ms ? "closed by a global 429" : x.doubtful ? "its token is being checked" : "";
    table("senders", top.map((x) => [{ text: who(x), small: said(x) }, { used: x.used, limit: x.limit }, number.format(x.waiting)]), (r) => !top[r].used && !top[r].waiting);
    show("locks-section", locked);
    put($("locks-count"), locks.length < locked ? locks.length + " of " + number.format(locked) : "");
    table("locks", locks.map((l) => [who(l), { until: l.left_ms }]));
  };

  const guards = (s) => {
    const { invalid, cloudflare, dead_webhooks } = s.guards, bar = $("invalid-bar");
    bar.firstElementChild.style.width = 100 * Math.min(1, invalid.used / invalid.max) + "%";
    bar.setAttribute("aria-valuemax", invalid.max);
    bar.setAttribute("aria-valuenow", invalid.used);
    bar.classList.toggle("over", invalid.used * 2 >= invalid.max);
    put($("invalid"), number.format(invalid.used) + " of " + number.format(invalid.max) + " in " + invalid.window_s / 60 + " min");
    const cf = $("cloudflare");
    cf.className = cloudflare.blocked ? "bad" : "";
    put(child(cf, 0, "span"), cloudflare.blocked ? "blocks this address; tried again in " : "lets everything through");
    if (cloudflare.blocked) timer(child(cf, 1, "span"), cloudflare.left_ms); else trim(cf, 1);
    put($("webhooks"), number.format(dead_webhooks));
  };

  const beside = (s) => {
    const { identify, forward, cluster } = s;
    show("identify-section", identify);
    if (identify) {
      put($("identify-count"), number.format(identify.waiting) + " waiting, " + number.format(identify.granted) + " let go");
      table("identify", identify.bots.map((b) => [b.user_id || names.unknown, number.format(b.waiting), number.format(b.remaining) + "/" + number.format(b.total), b.next_in_ms === null ? "–" : { until: b.next_in_ms }]));
    }
    show("forward-section", forward);
    if (forward) {
      put($("forward-count"), count(forward.clients, "client", "clients") + (forward.redis ? ", Redis " + forward.redis.standing + ", " + count(forward.redis.proxies, "proxy", "proxies") : ""));
      table("forward", forward.hosts.map((h) => [h.host, { used: h.active, limit: h.limit }, number.format(h.waiting), number.format(h.refused)]));
    }
    show("cluster-section", cluster);
    if (cluster) {
      put($("cluster-count"), number.format(cluster.sent) + " sent on, " + number.format(cluster.received) + " taken in");
      table("cluster", cluster.members.map((m) => [{ text: m.address, small: m.this_node ? "this node" : "" }, { text: m.state.replace("_", " "), style: m.state === "alive" ? "" : "strong" }, (m.slots / 40.96).toFixed(1) + " %"]));
    }
  };

  const workers = (s) => {
    const rows = s.workers.map((w, at) => [
      w.answers ? String(at) : { text: at + " does not answer", style: "bad" },
      rate(perSecond((d) => d.workers[at] ? d.workers[at].requests : 0)),
      number.format(w.clients),
      w.upstream.busy + " busy, " + w.upstream.idle + " idle" + (w.upstream.opening ? ", " + w.upstream.opening + " opening" : ""),
    ]);
    table("workers", rows);
    put($("workers-count"), s.workers.length > 1 ? number.format(s.hand_offs.permits) + " hand-offs" : "");
  };

  const frame = (s) => {
    put($("where"), "→ " + s.upstream + (s.node ? " · " + s.node : ""));
    put($("state-text"), s.state + " for " + span(s.uptime_ms));
    const tls = s.connections.tls;
    put($("foot"), ["weir " + s.weir, s.io_driver, bytes(s.memory.resident_bytes) + " resident",
      count(s.connections.clients, "client connection", "client connections"),
      tls ? number.format(tls.full + tls.resumed) + " TLS handshakes, " + tls.failed + " failed" : ""].filter(Boolean).join(" · "));
  };

  // --- Reading
  const lost = () => {
    document.body.className = "lost";
    timers = [];
    const ago = heard === null ? "" : " Last heard " + span(performance.now() - heard) + " ago.";
    put($("verdict"), "weir does not answer." + ago);
    put($("state-text"), "no answer");
    document.title = "▲ weir does not answer";
  };
  const read = async () => {
    try {
      const answer = await fetch("nirn/status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(String(answer.status));
      const status = await answer.json();
      const last = reads[reads.length - 1];
      // Another process: what was counted before is of the one before.
      if (last && status.uptime_ms < last.status.uptime_ms) { reads.length = 0; lines.rate = []; lines.waiting = []; }
      else if (last && status.unix_ms === last.status.unix_ms) { heard = performance.now(); return; }
      heard = performance.now();
      reads.push({ at: status.uptime_ms, status });
      while (reads.length > 2 && status.uptime_ms - reads[1].at >= MINUTE_MS) reads.shift();
      timers = [];
      for (const part of [verdict, figures, buckets, outcomes, senders, guards, beside, workers, frame]) part(status);
    } catch { lost(); }
  };
  const loop = async () => {
    const began = performance.now();
    if (!document.hidden) await read();
    setTimeout(loop, Math.max(100, EVERY_MS - (performance.now() - began)));
  };
  setInterval(() => {
    const now = performance.now();
    for (const [node, at] of timers) put(node, left(at - now));
  }, 100);
  loop();
})();
