/* The page of `sluice bench report`: one HTML file that needs nothing else. */
#include <math.h>
#include <stdlib.h>

#include "client/chart.h"
#include "client/cli/report.h"

enum { POINTS_MAX = 512 };

static const char style[] =
    ":root{color-scheme:light dark;--bg:#f7f8fa;--card:#fff;--ink:#1b1f24;--ink2:#5b6470;--line:#e3e6ea;--grid:#eceef1;--good:#15803d;--bad:#b45309;"
    "--c0:#2563eb;--c1:#0d9488;--c2:#d97706;--c3:#9333ea;--c4:#64748b;--c5:#db2777}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1d2126;--ink:#e8eaed;--ink2:#a0a8b3;--line:#30363d;--grid:#2a2f36;--good:#4ade80;--bad:#fbbf24;"
    "--c0:#6ea8fe;--c1:#2dd4bf;--c2:#fbbf24;--c3:#c084fc;--c4:#94a3b8;--c5:#f472b6}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
    "main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}h1{font-size:28px;margin:0 0 4px;letter-spacing:-.01em}h2{font-size:19px;margin:40px 0 12px}"
    "p{margin:6px 0;max-width:78ch}.sub,.hint{color:var(--ink2)}.hint{font-size:13.5px}.warn{border-left:3px solid var(--bad);padding-left:10px}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(215px,1fr));gap:12px;margin:24px 0}"
    ".tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}"
    ".tile b{display:block;font-size:25px;font-weight:650;line-height:1.25;letter-spacing:-.01em}.tile b small{font-size:14px;font-weight:500;color:var(--ink2)}"
    ".tile span{font-size:13px;color:var(--ink2)}.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:14px}"
    ".card{margin:14px 0;overflow-x:auto}.pair .card{margin:0}svg{display:block;width:100%;max-width:860px;height:auto;font:12px system-ui,sans-serif}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}th,td{padding:6px 10px;text-align:right;white-space:nowrap;"
    "border-bottom:1px solid var(--line)}th:first-child,td:first-child{text-align:left;white-space:normal}tr:last-child td{border-bottom:0}"
    "th{color:var(--ink2);font-weight:500;font-size:13px;vertical-align:bottom}td small{color:var(--ink2);display:block;font-size:11.5px;line-height:1.2}.met{color:var(--good)}.missed{color:var(--bad)}"
    "svg text{fill:var(--ink)}svg .title{font-size:14px;font-weight:600}svg .tick,svg .label{fill:var(--ink2)}svg .note{fill:var(--bad);font-size:11.5px}"
    "svg .grid{stroke:var(--grid)}svg .axis{stroke:var(--ink2);stroke-opacity:.6}svg .limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 4}"
    "svg .range{stroke:var(--ink);stroke-opacity:.55;stroke-width:1.5}svg .line{fill:none;stroke-width:2;stroke-linejoin:round}"
    "svg .line.s0{stroke:var(--c0)}svg .line.s1{stroke:var(--c1)}svg .line.s2{stroke:var(--c2)}svg .line.s3{stroke:var(--c3)}svg .line.s4{stroke:var(--c4)}"
    "svg .line.s5{stroke:var(--c5)}svg .mark.s0,svg .bar.s0{fill:var(--c0)}svg .mark.s1,svg .bar.s1{fill:var(--c1)}svg .mark.s2,svg .bar.s2{fill:var(--c2)}"
    "svg .mark.s3,svg .bar.s3{fill:var(--c3)}svg .mark.s4,svg .bar.s4{fill:var(--c4)}svg .mark.s5,svg .bar.s5{fill:var(--c5)}"
    "code{font:13px ui-monospace,Menlo,Consolas,monospace}summary{cursor:pointer;color:var(--ink2)}";

/* ---- cells ----------------------------------------------------------------------------------------------------------------- */

static void number(FILE *to, double v)
{
    char text[32];
    fputs(chart_number(v, text), to);
}

/* The median and, if there were several rounds, the range. */
static void cell(FILE *to, struct report_figure f)
{
    if (f.n == 0) {
        fputs("<td>–</td>", to);
        return;
    }
    fputs("<td>", to);
    number(to, f.median);
    if (f.n > 1) {
        fputs(" <small>", to);
        number(to, f.low);
        fputs("–", to);
        number(to, f.high);
        fputs("</small>", to);
    }
    fputs("</td>", to);
}

static void field(FILE *to, const json_t *lines, const char *id, const char *name)
{
    cell(to, report_figure(lines, id, name));
}

static void ratio(FILE *to, const json_t *lines, const char *id, const char *name, const char *other)
{
    cell(to, report_figure_of(lines, &(struct report_goal){.id = id, .field = name, .op = '/', .other_id = other, .other_field = name, .factor = 1}));
}

static void head(FILE *to, const char *const *names, size_t n)
{
    fputs("<div class=card><table><tr>", to);
    for (size_t i = 0; i < n; i++) {
        fprintf(to, "<th>%s</th>", names[i]);
    }
    fputs("</tr>\n", to);
}

#define HEAD(to, ...) head(to, (const char *const[]){__VA_ARGS__}, ARRAY_LEN(((const char *const[]){__VA_ARGS__})))

static bool row(FILE *to, const json_t *lines, const char *id)
{
    const json_t *line = report_line(lines, id);
    if (line != NULL) {
        fputs("<tr><td>", to);
        chart_text(to, report_string(line, "title"));
        fputs("</td>", to);
    }
    return line != NULL;
}

/* ---- parts ----------------------------------------------------------------------------------------------------------------- */

static void print_machine(FILE *to, const json_t *m)
{
    char gib[32];
    fputs("<h1>Sluice: what it does on this machine</h1><p class=sub>", to);
    chart_text(to, report_string(m, "cpu"));
    fprintf(to, ", %lld cores, %s GiB · Linux ", (long long)json_integer_value(json_object_get(m, "cores")),
            chart_number(json_number_value(json_object_get(m, "memory_gib")), gib));
    chart_text(to, report_string(m, "kernel"));
    fputs(" · ", to);
    chart_text(to, report_string(m, "file_system"));
    fputs("<br>", to);
    fprintf(to, "%lld nodes · version ", (long long)json_integer_value(json_object_get(m, "nodes")));
    chart_text(to, report_string(m, "version"));
    fputs(", commit ", to);
    chart_text(to, report_string(m, "commit"));
    fputs(" · ", to);
    chart_text(to, report_string(m, "time"));
    long long rounds = json_integer_value(json_object_get(m, "rounds"));
    if (rounds > 1) {
        fprintf(to, "</p><p>Figures are medians of %lld rounds, small ones below them the range. ", rounds);
    } else {
        fputs("</p><p>Figures are of a single round. ", to);
    }
    fputs("The bare machine is measured in every round: a leader and two followers over loopback TCP, recycled files, write and fdatasync on each, a commit counts "
          "when two of three have it, payload bytes once. Ratios are taken within a round. MB is 10<sup>6</sup> bytes.</p>", to);
    if (json_is_true(json_object_get(m, "quick"))) {
        fputs("<p class=warn>Made with --quick: short runs show that everything works, not how fast it is.</p>", to);
    }
    fputs("\n", to);
}

static void tile(FILE *to, struct report_figure f, const char *unit, const char *what)
{
    if (f.n > 0) {
        fputs("<div class=tile><b>", to);
        number(to, f.median);
        fprintf(to, " <small>%s</small></b><span>%s</span></div>\n", unit, what);
    }
}

static void print_tiles(FILE *to, const json_t *lines)
{
    fputs("<div class=tiles>", to);
    tile(to, report_figure(lines, "put-1k", "records_per_s"), "records/s", "1 KiB over 12 shards, durable on a majority");
    tile(to, report_figure_of(lines, &(struct report_goal){.id = "put-1k", .field = "mb_per_s", .op = '/', .other_id = "disk-65536", .other_field = "mb_per_s", .factor = 1}),
         "×", "of what the bare machine commits (64 KiB × 8)");
    tile(to, report_figure(lines, "latency", "p50_ms"), "ms", "put to acknowledgement, p50 at 1,000/s");
    tile(to, report_figure(lines, "latency", "p99_ms"), "ms", "put to acknowledgement, p99 at 1,000/s");
    tile(to, report_figure(lines, "e2e", "p50_ms"), "ms", "put to a following reader, p50 at 1,000/s");
    tile(to, report_figure(lines, "read", "mb_per_s"), "MB/s", "replay, one reader");
    tile(to, report_figure(lines, "put-1k", "server_cpu_us_per_record"), "µs", "processor time of all nodes per 1 KiB record");
    tile(to, report_figure(lines, "scale", "led_ms"), "ms", "until all shards of a large stream are led");
    fputs("</div>\n", to);
}

static void print_throughput(FILE *to, const json_t *lines)
{
    static const char *const puts_ids[] = {"put-1k", "put-1k-1", "put-100", "put-64k"};
    struct chart_bar bars[ARRAY_LEN(puts_ids)];
    char texts[ARRAY_LEN(puts_ids)][64], name[64];
    size_t n = 0;
    struct report_figure bound = report_figure(lines, "disk-65536", "mb_per_s");
    for (size_t i = 0; i < ARRAY_LEN(puts_ids); i++) {
        struct report_figure f = report_figure(lines, puts_ids[i], "mb_per_s"), r = report_figure(lines, puts_ids[i], "records_per_s");
        char mb[32], records[32];
        if (f.n > 0) {
            snprintf(texts[n], sizeof texts[n], "%s MB/s, %s/s", chart_number(f.median, mb), chart_number(r.median, records));
            bars[n] = (struct chart_bar){.name = report_string(report_line(lines, puts_ids[i]), "title"), .value = f.median, .low = f.low, .high = f.high, .text = texts[n]};
            n++;
        }
    }
    if (n == 0) {
        return;
    }
    fputs("<h2>Throughput</h2><div class=card>", to);
    char mb[32];
    snprintf(name, sizeof name, "bare machine, 64 KiB × 8: %s MB/s", chart_number(bound.median, mb));
    chart_bars(to, &(struct chart_bars){.title = "Acknowledged payload", .x_label = "MB/s", .bars = bars, .n = n, .limit = {.name = bound.n > 0 ? name : NULL, .y = bound.median}});
    fputs("</div>", to);
    HEAD(to, "Saturating depth", "records/s", "MB/s", "of the bound<br>64 KiB × 8", "server CPU<br>µs/record", "written per<br>payload byte", "largest node<br>MB", "others’<br>cores");
    for (size_t i = 0; i < ARRAY_LEN(puts_ids); i++) {
        if (row(to, lines, puts_ids[i])) {
            field(to, lines, puts_ids[i], "records_per_s");
            field(to, lines, puts_ids[i], "mb_per_s");
            ratio(to, lines, puts_ids[i], "mb_per_s", "disk-65536");
            field(to, lines, puts_ids[i], "server_cpu_us_per_record");
            field(to, lines, puts_ids[i], "written_per_byte");
            field(to, lines, puts_ids[i], "server_rss_mb_max");
            field(to, lines, puts_ids[i], "others_cores");
            fputs("</tr>\n", to);
        }
    }
    fputs("</table></div><p class=hint>Records are incompressible. Processor time and bytes written are of all nodes together, without the pre-writing of segments for "
          "later. “Others’ cores” is what other processes used meanwhile.</p>\n", to);
}

static void print_depth(FILE *to, const json_t *lines)
{
    double depth[32], mb[32], p50[32], p99[32];
    size_t n = 0;
    for (size_t i = 0; i < report_tests_n && n < ARRAY_LEN(depth); i++) {
        const char *id = report_tests[i].id;
        struct report_figure f = report_figure(lines, id, "mb_per_s");
        if (strncmp(id, "depth-", 6) == 0 && f.n > 0) {
            depth[n] = strtod(id + 6, NULL);
            mb[n] = f.median;
            p50[n] = report_figure(lines, id, "p50_ms").median;
            p99[n++] = report_figure(lines, id, "p99_ms").median;
        }
    }
    if (n == 0) {
        return;
    }
    struct report_figure bound = report_figure(lines, "disk-65536", "mb_per_s");
    fputs("<h2>Depth: records on their way at once</h2><div class=pair><div class=card>", to);
    chart_lines(to, &(struct chart_lines){.title = "Throughput, 1 KiB over 12 shards", .narrow = true, .x_label = "unacknowledged records", .y_label = "MB/s", .x_scale = CHART_LOG,
                                          .series = {{"acknowledged", n, depth, mb, true}}, .n_series = 1,
                                          .limit = {.name = bound.n > 0 ? "bare machine, 64 KiB × 8" : NULL, .y = bound.median}});
    fputs("</div><div class=card>", to);
    chart_lines(to, &(struct chart_lines){.title = "Latency of the acknowledgement", .narrow = true, .x_label = "unacknowledged records", .y_label = "ms", .x_scale = CHART_LOG,
                                          .y_scale = CHART_LOG, .series = {{"p50", n, depth, p50, true}, {"p99", n, depth, p99, true}}, .n_series = 2});
    fputs("</div></div>\n", to);
}

static void print_latency(FILE *to, const json_t *lines)
{
    static const struct { const char *id, *name; } all[] = {{"latency", "acknowledged"}, {"e2e", "at a following reader"}, {"disk-4096", "bare machine, 4 KiB × 1"}, {"disk-rate", "bare machine, 4 KiB at 1,000/s"}};
    double *share = xcalloc(ARRAY_LEN(all) * POINTS_MAX, sizeof(double)), *ms = xcalloc(ARRAY_LEN(all) * POINTS_MAX, sizeof(double));
    struct chart_lines c = {.title = "Latency at 1,000 records/s of 1 KiB", .x_label = "share of the records that were faster", .y_label = "ms", .x_scale = CHART_NINES,
                            .y_scale = CHART_LOG};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        double *x = share + i * POINTS_MAX, *y = ms + i * POINTS_MAX;
        size_t n = report_curve(lines, all[i].id, x, y, POINTS_MAX);
        if (n > 0) {
            c.series[c.n_series++] = (struct chart_series){.name = all[i].name, .n = n, .x = x, .y = y};
        }
    }
    if (c.n_series > 0) {
        fputs("<h2>Latency</h2><div class=card>", to);
        chart_lines(to, &c);
        fputs("</div>", to);
        HEAD(to, "", "p50 ms", "p99 ms", "p99.9 ms", "p50 against<br>4 KiB × 1", "p99 against<br>4 KiB × 1", "p99 against<br>4 KiB at 1,000/s", "acknowledged<br>p50 ms", "others’<br>cores");
        static const char *const ids[] = {"latency", "e2e"};
        for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
            if (row(to, lines, ids[i])) {
                field(to, lines, ids[i], "p50_ms");
                field(to, lines, ids[i], "p99_ms");
                field(to, lines, ids[i], "p999_ms");
                ratio(to, lines, ids[i], "p50_ms", "disk-4096");
                ratio(to, lines, ids[i], "p99_ms", "disk-4096");
                ratio(to, lines, ids[i], "p99_ms", "disk-rate");
                field(to, lines, ids[i], i == 0 ? "p50_ms" : "ack_p50_ms");
                field(to, lines, ids[i], "others_cores");
                fputs("</tr>\n", to);
            }
        }
        fputs("</table></div><p class=hint>Latency counts from the moment at which a record should have been sent, so a stall is seen by all that it delays.</p>\n", to);
    }
    free(share);
    free(ms);
}

static void print_reading(FILE *to, const json_t *lines)
{
    static const char *const ids[] = {"read", "read-5", "read-writers", "follow-5"};
    static const char *const names[] = {"one reader", "five readers", "one, while putting", "five, following"};
    struct chart_bar bars[ARRAY_LEN(ids)];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        struct report_figure f = report_figure(lines, ids[i], "mb_per_s");
        if (f.n > 0) {
            bars[n++] = (struct chart_bar){.name = names[i], .value = f.median, .low = f.low, .high = f.high, .color = 1};
        }
    }
    if (n == 0) {
        return;
    }
    fputs("<h2>Reading</h2><div class=card>", to);
    chart_bars(to, &(struct chart_bars){.title = "Delivered to all readers together", .x_label = "MB/s", .bars = bars, .n = n});
    fputs("</div>", to);
    HEAD(to, "", "delivered<br>records/s", "delivered<br>MB/s", "server CPU<br>µs/record", "writers’<br>p50 ms", "writers’<br>p99 ms", "largest node<br>MB", "others’<br>cores");
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        if (row(to, lines, ids[i])) {
            field(to, lines, ids[i], "records_per_s");
            field(to, lines, ids[i], "mb_per_s");
            field(to, lines, ids[i], "server_cpu_us_per_record");
            field(to, lines, ids[i], "ack_p50_ms");
            field(to, lines, ids[i], "ack_p99_ms");
            field(to, lines, ids[i], "server_rss_mb_max");
            field(to, lines, ids[i], "others_cores");
            fputs("</tr>\n", to);
        }
    }
    fputs("</table></div>\n", to);
}

static void print_scale(FILE *to, const json_t *lines)
{
    const json_t *line = report_line(lines, "scale");
    if (line == NULL) {
        return;
    }
    fputs("<h2>Many shards</h2>", to);
    HEAD(to, "shards", "answered after<br>ms", "all led after<br>ms", "all written after<br>ms", "replicas", "idle, all nodes<br>cores", "memory per<br>replica, bytes");
    fprintf(to, "<tr><td>%lld</td>", (long long)json_integer_value(json_object_get(line, "shards")));
    static const char *const fields[] = {"made_ms", "led_ms", "writable_ms", "replicas", "idle_cores", "rss_bytes_per_replica"};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        field(to, lines, "scale", fields[i]);
    }
    fputs("</tr></table></div>\n", to);
}

/* What tests/bench/catchup and tests/bench/kill have measured, if their lines were added. */
static void print_failures(FILE *to, const json_t *lines)
{
    const json_t *died = report_line(lines, "kill"), *back = report_line(lines, "catchup");
    if (died != NULL) {
        fputs("<h2>A node dies</h2>", to);
        HEAD(to, "shards", "led by the node", "all led again after<br>ms");
        fprintf(to, "<tr><td>%lld</td>", (long long)json_integer_value(json_object_get(died, "shards")));
        field(to, lines, "kill", "led_by_it");
        field(to, lines, "kill", "led_ms");
        fputs("</tr></table></div>\n", to);
    }
    if (back != NULL) {
        fputs("<h2>A node that was down catches up</h2>", to);
        HEAD(to, "written meanwhile, GB", "seconds", "MB/s", "writers’ p99<br>before, ms", "writers’ p99<br>meanwhile, ms", "largest other node<br>before, MB", "largest other node<br>meanwhile, MB");
        fputs("<tr><td>", to);
        number(to, json_number_value(json_object_get(back, "bytes")) / 1e9);
        fputs("</td>", to);
        static const char *const fields[] = {"seconds", "mb_per_s", "base_p99_ms", "p99_ms", "rss_mb_before", "rss_mb_max"};
        for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
            field(to, lines, "catchup", fields[i]);
        }
        fputs("</tr></table></div>\n", to);
    }
}

static void print_bound(FILE *to, const json_t *lines)
{
    static const struct { const char *id, *name; } all[] = {{"disk-4096", "4 KiB × 1"}, {"disk-rate", "4 KiB at 1,000/s"}, {"disk-65536", "64 KiB × 8"},
                                                      {"disk-1048576", "1 MiB × 4"}};
    if (report_line(lines, all[0].id) == NULL) {
        return;
    }
    fputs("<h2>The bare machine</h2>", to);
    HEAD(to, "size × in flight", "commits/s", "MB/s", "p50 ms", "p99 ms");
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        fprintf(to, "<tr><td>%s</td>", all[i].name);
        field(to, lines, all[i].id, "commits_per_s");
        field(to, lines, all[i].id, "mb_per_s");
        field(to, lines, all[i].id, "p50_ms");
        field(to, lines, all[i].id, "p99_ms");
        fputs("</tr>\n", to);
    }
    fputs("</table></div>\n", to);
}

static void print_goals(FILE *to, const json_t *lines)
{
    fputs("<h2>Measured against the goals</h2>", to);
    HEAD(to, "", "measured", "goal", "");
    for (size_t i = 0; i < report_goals_n; i++) {
        const struct report_goal *g = &report_goals[i];
        struct report_figure f = report_figure_of(lines, g);
        if (report_line(lines, g->id) == NULL) {
            continue;
        }
        fprintf(to, "<tr><td>%s%s%s</td>", g->title, g->unit[0] != '\0' ? ", " : "", g->unit);
        cell(to, f);
        fprintf(to, "<td>%s ", g->at_least ? "≥" : "≤");
        number(to, g->goal);
        bool met = g->at_least ? f.median >= g->goal : f.median <= g->goal;
        fprintf(to, "</td><td class=%s>%s</td></tr>\n", met ? "met" : "missed", f.n == 0 ? "" : met ? "✓ met" : "✗ not met");
    }
    fputs("</table></div>\n", to);
}

static void print_commands(FILE *to, const json_t *lines)
{
    fputs("<h2>How to repeat</h2><p class=hint>lines.jsonl beside this page holds the line of every run. Each is a command of its own, on a stream made for it without "
          "limits:</p><details><summary>the commands</summary><div class=card>", to);
    const char *last = "";
    size_t i;
    json_t *line;
    json_array_foreach((json_t *)(uintptr_t)lines, i, line) {
        const char *command = report_string(line, "command");
        if (json_integer_value(json_object_get(line, "round")) == 1 && strcmp(command, last) != 0) {
            fputs("<code>", to);
            chart_text(to, command);
            fputs("</code><br>\n", to);
            last = command;
        }
    }
    fputs("</div></details>\n", to);
}

void report_page(FILE *to, const json_t *lines)
{
    fprintf(to, "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\"><title>Sluice benchmarks</title>"
                "<style>%s</style></head><body><main>\n", style);
    print_machine(to, report_line(lines, "machine"));
    print_tiles(to, lines);
    print_goals(to, lines);
    print_throughput(to, lines);
    print_depth(to, lines);
    print_latency(to, lines);
    print_reading(to, lines);
    print_scale(to, lines);
    print_failures(to, lines);
    print_bound(to, lines);
    print_commands(to, lines);
    fputs("</main></body></html>\n", to);
}
