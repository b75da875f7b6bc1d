#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""report.py DIRECTORY [smoke]: tables, ratios and plots of what peers.sh has measured."""

import collections
import html
import json
import math
import statistics
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 74, 150, 44, 52
COLOURS = {"tgtd": "#7f7f7f", "istgt": "#b07d3c", "spdk": "#8c564b", "kernel": "#1f77b4", "tap": "#d62728",
           "kernel-mapped": "#2ca02c", "tap-mapped": "#e377c2", "kernel-ram": "#17becf", "tap-ram": "#ff7f0e", "dpdk-af-packet": "#9467bd", "dpdk-af-xdp": "#bcbd22",
           "dpdk-net-tap": "#5254a3"}
NAMES = {"tgtd": "tgtd", "istgt": "istgt", "spdk": "SPDK", "kernel": "ptgt, kernel TCP", "tap": "ptgt, TAP",
         "kernel-mapped": "ptgt, kernel TCP, mapped",
         "tap-mapped": "ptgt, TAP, mapped", "kernel-ram": "ptgt, kernel TCP, RAM", "tap-ram": "ptgt, TAP, RAM",
         "dpdk-af-packet": "ptgt, net_af_packet", "dpdk-af-xdp": "ptgt, net_af_xdp", "dpdk-net-tap": "ptgt, net_tap"}
# Said where such rows are.
VIRTUAL = ("net_af_packet, net_af_xdp and net_tap are virtual devices of DPDK, here on the mapped file: each frame goes through the "
           "kernel and has at most one MTU. These rows show that the port works and what the kernel costs on that way; they say "
           "nothing about an adapter that DPDK drives.")
TITLES = {"rr1": "4 KiB random read, QD 1", "rw1": "4 KiB random write, QD 1", "rr32": "4 KiB random read, QD 32",
          "rw32": "4 KiB random write, QD 32", "rr4x32": "4 KiB random read, 4 x QD 32",
          "sr4": "256 KiB sequential read, QD 4", "sw4": "256 KiB sequential write, QD 4",
          "c128": "4 KiB random read, 128 x QD 1", "c1000": "4 KiB random read, 1000 x QD 1"}
# Scenario, what counts, and the goal as a multiple of tgtd's figure.
GOALS = [("rr4x32", "per_second", 30), ("rr32", "per_second", 25), ("rw32", "per_second", 12), ("rr1", "p50", 0.2),
         ("rw1", "p50", 0.2), ("sr4", "mib_per_second", 5.5), ("sw4", "mib_per_second", 2.2), ("c128", "per_second", 4)]


def latencies(result):
    return result["reads"] or result["writes"]


def value(result, what):
    if what == "p50" or what == "p99":
        return latencies(result)[what]
    if what == "cpu":
        # Reactors poll while they are idle; their busy time is what the work takes, beside the kernel's count for others.
        return result["target_busy"] if result["target_busy"] is not None else result["target_cpu"]
    return result[what]


def spread(results, what):
    values = [value(r, what) for r in results]
    values = [v for v in values if v is not None]
    return (statistics.median(values), min(values), max(values)) if values else None


def figure(x):
    if x >= 10000:
        return f"{x / 1000:.0f}k"
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def ticks(low, high, log):
    if log:
        return [m * 10 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
                for m in ((1, 2, 5) if high / low < 300 else (1,)) if low <= m * 10 ** e <= high]
    step = 10 ** math.floor(math.log10(high / 4)) if high > 0 else 1
    step *= next(m for m in (1, 2, 5, 10) if high / (step * m) <= 6)
    return [i * step for i in range(int(high / step) + 1)]


class Plot:
    """One diagram with lines, as SVG."""

    def __init__(self, title, x, y, log_x=False, log_y=False, percent_y=False):
        self.title, self.x, self.y = title, x, y
        self.log_x, self.log_y, self.percent_y = log_x, log_y, percent_y
        self.lines = []

    def add(self, candidate, points):
        if points:
            self.lines.append((candidate, sorted(points)))

    def svg(self):
        xs = [x for _, points in self.lines for x, _ in points]
        ys = [y for _, points in self.lines for _, y in points]
        if not xs:
            return ""
        x0, x1 = (min(xs), max(xs)) if self.log_x else (0, max(xs))
        y0, y1 = (min(ys), max(ys) * 1.1) if self.log_y else (0, 1 if self.percent_y else max(ys) * 1.08)
        if x0 == x1:
            x1 = x0 * 2 or 1

        def place(v, low, high, log, start, length):
            part = (math.log(v / low) / math.log(high / low)) if log else (v - low) / (high - low)
            return start + part * length

        def px(x):
            return place(max(x, x0), x0, x1, self.log_x, LEFT, WIDTH - LEFT - RIGHT)

        def py(y):
            return HEIGHT - BOTTOM - place(max(y, y0), y0, y1, self.log_y, 0, HEIGHT - TOP - BOTTOM)

        out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
               'font-family="sans-serif" font-size="12">',
               f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
               f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{html.escape(self.title)}</text>']
        for t in ticks(x0, x1, self.log_x):
            out.append(f'<line x1="{px(t):.1f}" x2="{px(t):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>')
            out.append(f'<text x="{px(t):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{t:g}</text>')
        for t in ticks(y0, y1, self.log_y):
            label = f"{t * 100:g} %" if self.percent_y else (f"{t / 1000:g}k" if y1 >= 10000 else f"{t:g}")
            out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(t):.1f}" y2="{py(t):.1f}" stroke="#e4e4e4"/>')
            out.append(f'<text x="{LEFT - 7}" y="{py(t) + 4:.1f}" text-anchor="end">{label}</text>')
        out.append(f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="black"/>')
        out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{html.escape(self.x)}</text>')
        out.append(f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
                   f'{html.escape(self.y)}</text>')
        for row, (candidate, points) in enumerate(self.lines):
            colour = COLOURS.get(candidate, "black")
            path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            if len(points) < 20:
                out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
            y = TOP + 8 + 18 * row
            out.append(f'<rect x="{WIDTH - RIGHT + 10}" y="{y - 5}" width="14" height="4" fill="{colour}"/>')
            out.append(f'<text x="{WIDTH - RIGHT + 29}" y="{y + 1}" font-size="11">{html.escape(NAMES.get(candidate, candidate))}</text>')
        return "\n".join(out + ["</svg>"])


def bars(title, unit, groups):
    """Groups of bars: (group, [(candidate, value, low, high)]); logarithmic, because tgtd and ptgt are far apart."""
    rows = sum(len(b) for _, b in groups)
    height = TOP + 20 + rows * 15 + len(groups) * 12
    all_values = [v for _, b in groups for _, v, _, _ in b if v > 0]
    if not all_values:
        return ""
    low, high = min(all_values) / 1.6, max(h for _, b in groups for *_, h in b) * 1.2
    left = 190

    def px(v):
        return left + math.log(max(v, low) / low) / math.log(high / low) * (WIDTH - left - 90)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
           'font-family="sans-serif" font-size="11">', f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="16" y="24" font-size="15" font-weight="bold">{html.escape(title)}</text>']
    y = TOP
    for group, bars_of in groups:
        out.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{html.escape(group)}</text>')
        for candidate, v, bottom, top in bars_of:
            colour = COLOURS.get(candidate, "black")
            out.append(f'<rect x="{left}" y="{y}" width="{px(v) - left:.1f}" height="12" fill="{colour}"/>')
            out.append(f'<line x1="{px(bottom):.1f}" x2="{px(top):.1f}" y1="{y + 6}" y2="{y + 6}" stroke="black"/>')
            out.append(f'<text x="{px(max(v, top)) + 5:.1f}" y="{y + 10}">{figure(v)} {NAMES.get(candidate, candidate)}</text>')
            y += 15
        y += 12
    out.append(f'<text x="{left}" y="{height - 6}">{html.escape(unit)}; black: lowest to highest round; logarithmic</text>')
    return "\n".join(out + ["</svg>"])


def main():
    out = Path(sys.argv[1])
    results = collections.defaultdict(list)
    for line in (out / "rounds.jsonl").read_text().splitlines():
        result = json.loads(line)
        results[result["scenario"], result["candidate"]].append(result)
    if not results:
        sys.exit("report.py: no rounds")
    scenarios = list(dict.fromkeys(s for s, _ in results))
    candidates = list(dict.fromkeys(c for _, c in results))
    rows, summary = [], []
    for scenario in scenarios:
        base = results.get((scenario, "tgtd"))
        for candidate in candidates:
            found = results.get((scenario, candidate))
            if not found:
                continue
            entry = {"scenario": scenario, "candidate": candidate, "rounds": len(found)}
            for what in ("per_second", "mib_per_second", "p50", "p99", "cpu", "client_cpu", "target_idle"):
                entry[what] = spread(found, what)
            if base:
                entry["ratio"] = entry["per_second"][0] / spread(base, "per_second")[0]
                entry["p50_ratio"] = entry["p50"][0] / spread(base, "p50")[0]
            summary.append(entry)
            median, low, high = entry["per_second"]
            rows.append([TITLES.get(scenario, scenario), NAMES.get(candidate, candidate),
                         f"{figure(median)} ({figure(low)}-{figure(high)})", f"x{entry['ratio']:.1f}" if base else "",
                         f"{entry['mib_per_second'][0]:.0f}", f"{entry['p50'][0]:.1f}", f"{entry['p99'][0]:.1f}",
                         f"{entry['cpu'][0]:.2f}" if entry["cpu"] else "", f"{entry['client_cpu'][0]:.2f}"])
    header = ["Scenario", "Target", "IO/s (lowest-highest)", "to tgtd", "MiB/s", "p50 us", "p99 us", "target us/IO", "client us/IO"]
    table = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)] + ["| " + " | ".join(r) + " |" for r in rows]
    goals = ["| Goal against tgtd | Wanted | " + " | ".join(NAMES.get(c, c) for c in candidates if c != "tgtd") + " |"]
    goals.append("|" + "---|" * (goals[0].count("|") - 1))
    by = {(e["scenario"], e["candidate"]): e for e in summary}
    for scenario, what, wanted in GOALS:
        if (scenario, "tgtd") not in by:
            continue
        cells = []
        for candidate in candidates:
            entry = by.get((scenario, candidate))
            if candidate == "tgtd":
                continue
            if not entry:
                cells.append("-")
                continue
            ratio = entry[what][0] / by[scenario, "tgtd"][what][0]
            met = ratio <= wanted if what == "p50" else ratio >= wanted
            cells.append((f"1/{1 / ratio:.1f}" if what == "p50" else f"x{ratio:.1f}") + ("" if met else " (missed)"))
        sign = f"p50 at most 1/{1 / wanted:g}" if what == "p50" else f"at least x{wanted:g}"
        goals.append(f"| {TITLES.get(scenario, scenario)} | {sign} | " + " | ".join(cells) + " |")
    if len(goals) == 2:
        goals = []
    first = next(iter(results.values()))[0]
    where = first["provenance"]
    pinning = "target on the last processor, client on the first"
    conditions = (f"{where['cpu']}, {where['cpus']} processors, Linux {where['kernel']}, {pinning}; one machine talks to itself. "
                  f"{max(len(r) for r in results.values())} alternating rounds of {first['seconds']:g} s, medians. ptgt {where['version']}.")
    if any(c.startswith("dpdk-") for c in candidates):
        conditions += " " + VIRTUAL
    (out / "table.md").write_text("\n".join([conditions, ""] + goals + [""] + table) + "\n")
    (out / "summary.json").write_text(json.dumps({"provenance": where, "results": summary}, indent=1) + "\n")

    pictures = []
    for scenario in [s for s in ("rr1", "rr32", "rr4x32") if s in scenarios]:
        plot = Plot(f"Latency: {TITLES.get(scenario, scenario)}", "latency, us (logarithmic)", "share of operations", log_x=True, percent_y=True)
        for candidate in candidates:
            buckets = collections.Counter()
            for result in results.get((scenario, candidate), []):
                buckets.update({nanos: count for nanos, count in latencies(result)["histogram"]})
            total, so_far, points = sum(buckets.values()), 0, []
            for nanos in sorted(buckets):
                so_far += buckets[nanos]
                share = so_far / total
                if share <= 0.9995 and (not points or share - points[-1][1] > 0.002):
                    points.append((nanos / 1000, share))
            plot.add(candidate, points)
        pictures.append(plot.svg())
    sweep = [json.loads(line) for line in (out / "sweep.jsonl").read_text().splitlines()] if (out / "sweep.jsonl").exists() else []
    for kind, title in (("depth", "4 KiB random read, one connection: operations/s over queue depth"),
                        ("connections", "4 KiB random read, QD 1: operations/s over connections")):
        plot = Plot(title, kind.replace("depth", "queue depth") + " (logarithmic)", "operations/s", log_x=True)
        for candidate in candidates:
            plot.add(candidate, [(r["round"], r["per_second"]) for r in sweep if r["scenario"] == kind and r["candidate"] == candidate])
        pictures.append(plot.svg())
    for what, title, unit in (("per_second", "Operations per second", "operations/s"),
                              ("cpu", "Processor time of the target per operation", "us per operation")):
        groups = [(TITLES.get(s, s), [(c, *by[s, c][what]) for c in candidates if (s, c) in by and by[s, c][what]]) for s in scenarios]
        pictures.append(bars(title, unit, groups))
    for number, picture in enumerate(p for p in pictures if p):
        (out / f"plot{number}.svg").write_text(picture + "\n")
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>\n" for row in rows)
    goal_rows = "".join("<tr>" + "".join(f"<td>{html.escape(c.strip())}</td>" for c in g.strip("|").split("|")) + "</tr>\n" for g in goals if "---" not in g)
    (out / "report.html").write_text(
        "<!DOCTYPE html><meta charset=utf-8><title>ptgt beside its peers</title><style>body{font-family:sans-serif;max-width:60em;"
        "margin:2em auto}table{border-collapse:collapse;font-size:85%}td,th{border:1px solid #ccc;padding:2px 7px}</style>\n"
        f"<h1>ptgt beside its peers</h1><p>{html.escape(conditions)}</p>\n<table>{goal_rows}</table><p></p>\n"
        + "\n".join(pictures) + f"\n<table><tr>{''.join(f'<th>{h}</th>' for h in header)}</tr>\n{cells}</table>\n")
    print("\n".join([conditions, ""] + goals + [""]))
    widths = [max(len(r[i]) for r in rows + [header]) for i in range(len(header))]
    for row in [header] + rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip())
    print(f"\n{out}/report.html")


main()
