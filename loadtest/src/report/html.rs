//! The outcome as one page that opens offline: everything is in it, and its policy forbids it the network. Tables are
//! written here; charts are drawn by `page.js` from data in the page.
//!
//! Deliberately absent: anything that is not in the outcome. Words of a server or a user are escaped wherever they go.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::grids::{Grid, grids};
use crate::outcome::{Distribution, Ending, Judged, Outcome, Phase, Point, Standing};
use crate::units::{bytes, count, duration, duration_f64, number, percent, time};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Points of a percentile curve for each nine.
const POINTS_PER_NINE: u32 = 16;

/// Figures at the top; a phone shows two in a row.
const TILES_MAX: usize = 8;

/// Charts: what the script calls them, title, what is to be said of it, and whether it takes the whole width.
const CHARTS: [(&str, &str, &str, bool); 10] = [
    ("percentiles", "Latency by percentile", "Each nine takes the same room: the further right, the rarer.", true),
    ("latency", "Latency over time", "All messages of each interval; logarithmic.", true),
    ("messages", "Throughput", "Messages a second, all clients together.", false),
    ("bytes", "Bytes", "Read from all sockets, a second.", false),
    ("clients", "Connections", "At the end of each interval.", false),
    ("handshakes", "Handshakes", "Finished upgrades a second.", false),
    ("server-cpu", "Server: processor time", "100 % is one core.", false),
    ("server-memory", "Server: resident memory", "As the kernel counts it.", false),
    ("harness-cpu", "Harness: processor time", "Where a worker runs out of it, the run measures the harness.", false),
    ("harness-lag", "Harness: own lag", "Part of the measured latency may be this; logarithmic.", false),
];

/// The page.
pub fn page(outcome: &Outcome) -> String {
    let mut page = String::with_capacity(256 * 1_024);
    let title = format!("loadtest {}", outcome.header.scenario);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escaped(&title),
    );
    headline(&mut page, outcome);
    tiles(&mut page, outcome);
    verdicts(&mut page, outcome);
    charts(&mut page);
    for grid in grids(outcome) {
        table(&mut page, &grid);
    }
    if outcome.phases.iter().any(|phase| phase.judged == Judged::FaultsOnly) {
        page.push_str("<p class=\"soft section\">* Figures are not held to thresholds, faults are.</p>\n");
    }
    faults(&mut page, outcome);
    facts(&mut page, outcome);
    let _ = write!(
        page,
        "</main>\n<script type=\"application/json\" id=\"data\">{}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        data(outcome).to_string().replace('<', "\\u003c"),
    );
    page
}

/// As text between tags or in a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn headline(page: &mut String, outcome: &Outcome) {
    let header = &outcome.header;
    let broken = outcome.verdicts.iter().filter(|verdict| !verdict.held).count();
    let (class, word) = match outcome.standing() {
        Standing::Held => ("held", "All thresholds held".to_owned()),
        Standing::Broken => ("broken", format!("{broken} of {} thresholds broken", outcome.verdicts.len())),
        Standing::Invalid => ("invalid", "Invalid".to_owned()),
    };
    let clients = outcome.phases.iter().map(|phase| phase.clients.ready + phase.clients.stalled).max().unwrap_or(0);
    let _ = write!(
        page,
        "<header>\n<div class=\"row\"><h1>loadtest {}</h1><span class=\"badge {class}\">{word}</span></div>\n\
         <p class=\"soft\">{} · {} · {} clients · {} on {}, {} cores, {} · latency counts from {}</p>\n\
         <code>{}</code>\n</header>\n",
        escaped(&header.scenario),
        escaped(&time(header.started_ns)),
        duration_f64(outcome.seconds() * 1e9),
        count(clients),
        escaped(&header.facts.host),
        escaped(&header.facts.cpu_model),
        header.facts.cores,
        escaped(&header.facts.kernel),
        escaped(&header.latency_from),
        escaped(&header.command),
    );
    if !outcome.invalid.is_empty() {
        page.push_str("<div class=\"notice\"><strong>The figures below must not be used.</strong><ul>");
        outcome.invalid.iter().for_each(|reason| {
            let _ = write!(page, "<li>{}</li>", escaped(reason));
        });
        page.push_str("</ul></div>\n");
    }
    if !outcome.notes.is_empty() {
        page.push_str("<div class=\"notice\"><strong>Where figures do not count:</strong><ul>");
        outcome.notes.iter().for_each(|note| {
            let _ = write!(page, "<li>{}</li>", escaped(note));
        });
        page.push_str("</ul></div>\n");
    }
    if outcome.ending == Ending::Interrupted {
        page.push_str(
            "<div class=\"notice\"><strong>Interrupted.</strong> The figures are of what was done until then.</div>\n",
        );
    }
}

/// The figures that one looks for first: what the scenario found, and those of the phase that delivered most.
fn tiles(page: &mut String, outcome: &Outcome) {
    let mut tiles: Vec<(String, String, String, bool)> = Vec::new();
    for finding in outcome.findings.iter().take(4) {
        tiles.push((finding.unit.text(finding.value), finding.name.clone(), finding.text.clone(), false));
    }
    let counted = || outcome.counted().filter(|phase| phase.counts.connects > 0 || phase.counts.messages > 0);
    let main = counted().max_by_key(|phase| (phase.counts.messages, phase.counts.upgrades));
    if let Some(phase) = main {
        let several = counted().count() > 1;
        figures(phase, &mut |figure, name| {
            let whence = if several { phase.name.clone() } else { String::new() };
            tiles.push((figure, name.to_owned(), whence, false));
        });
    }
    let judged = || outcome.phases.iter().filter(|phase| phase.judged != Judged::Nothing);
    if judged().any(|phase| phase.counts.messages > 0) {
        let gaps: u64 = judged().map(|phase| phase.counts.missing + phase.counts.announced).sum();
        let missing: u64 = judged().map(|phase| phase.counts.missing).sum();
        let note = if missing > 0 { format!("{} of them not announced", count(missing)) } else { String::new() };
        tiles.insert(tiles.len().min(4), (count(gaps), "gaps".to_owned(), note, gaps > 0));
    }
    if tiles.is_empty() {
        return;
    }
    page.push_str("<section class=\"tiles\">\n");
    for (figure, name, note, bad) in tiles.iter().take(TILES_MAX) {
        let class = if *bad { " class=\"bad\"" } else { "" };
        let _ = write!(page, "<div class=\"tile\"><b{class}>{}</b><span>{}</span>", escaped(figure), escaped(name));
        if !note.is_empty() {
            let _ = write!(page, "<small>{}</small>", escaped(note));
        }
        page.push_str("</div>\n");
    }
    page.push_str("</section>\n");
}

fn figures(phase: &Phase, tile: &mut impl FnMut(String, &str)) {
    if let Some(latency) = &phase.latency {
        tile(duration(latency.p50), "latency p50");
        tile(duration(latency.p99), "latency p99");
        tile(duration(latency.p999), "latency p99.9");
    }
    if phase.counts.messages > 0 {
        tile(number(phase.rates.messages), "messages a second");
    }
    if let Some(handshakes) = phase.rates.handshakes {
        tile(number(handshakes), "handshakes a second");
    }
    if let Some(ready) = &phase.ready {
        tile(duration(ready.p99), "time to ready p99");
    }
    let server = phase.server.as_ref();
    if let Some(cpu) = server.and_then(|server| server.cpu_ns_per_message) {
        tile(duration_f64(cpu), "server CPU per message");
    }
    // Where messages flow, memory grows by what the server retains of them, whoever is connected.
    let quiet = phase.counts.messages <= phase.clients.ready;
    if let Some(growth) = server.and_then(|server| server.rss_growth_per_client_bytes).filter(|_| quiet) {
        tile(bytes(growth), "server memory per client");
    }
    if let Some(share) = phase.worker_share_max() {
        tile(percent(share), "of a core: busiest worker");
    }
}

fn verdicts(page: &mut String, outcome: &Outcome) {
    page.push_str(
        "<section class=\"card section verdicts\"><h2>Thresholds</h2><div class=\"scroll\"><table class=\"words\"><thead><tr>\
         <th>threshold</th><th class=\"figure\">measured</th><th class=\"figure\">allowed</th><th></th></tr></thead><tbody>\n",
    );
    for verdict in &outcome.verdicts {
        let (class, word) = if verdict.held { ("held", "held") } else { ("broken", "broken") };
        let phase = verdict.phase.as_ref().map_or_else(String::new, |phase| format!(" in {phase}"));
        let _ = writeln!(
            page,
            "<tr><td>{} <span class=\"soft\">--{}{}</span></td><td class=\"figure\">{}</td><td class=\"figure\">{}</td>\
             <td class=\"{class} figure\"><b>{word}</b></td></tr>",
            escaped(&verdict.subject),
            escaped(&verdict.name),
            escaped(&phase),
            escaped(&verdict.measured_text()),
            escaped(&verdict.limit_text()),
        );
    }
    page.push_str("</tbody></table></div></section>\n");
}

fn charts(page: &mut String) {
    page.push_str(
        "<noscript><p class=\"soft section\">Charts need JavaScript; the tables below hold the figures.</p>\
         <style>.cards{display:none}</style></noscript>\n<section class=\"cards section\">\n",
    );
    for (id, title, text, wide) in CHARTS {
        let class = if wide { "card wide" } else { "card" };
        let _ = writeln!(
            page,
            "<article class=\"{class}\"><h2>{title}</h2><p class=\"soft\">{text}</p><div class=\"legend\"></div>\
             <figure data-chart=\"{id}\" data-label=\"{title}\"></figure></article>",
        );
    }
    page.push_str("</section>\n");
}

fn table(page: &mut String, grid: &Grid) {
    let _ = write!(
        page,
        "<section class=\"card section\"><h2>{}</h2><div class=\"scroll\"><table><thead><tr>",
        escaped(grid.title)
    );
    for heading in &grid.heading {
        let _ = write!(page, "<th>{}</th>", escaped(heading));
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in &grid.rows {
        page.push_str("<tr>");
        for cell in row {
            let class = if cell.bad { " class=\"bad\"" } else { "" };
            let _ = write!(page, "<td{class}>{}</td>", escaped(&cell.text));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div></section>\n");
}

fn faults(page: &mut String, outcome: &Outcome) {
    if outcome.faults.is_empty() {
        return;
    }
    page.push_str(
        "<section class=\"card section\"><h2>Faults</h2><div class=\"scroll\"><table class=\"words\"><thead><tr><th>at</th>\
         <th>client</th><th>what</th></tr></thead><tbody>\n",
    );
    for fault in &outcome.faults {
        let at = (fault.at_ns - outcome.header.started_ns) as f64 / 1e9;
        let _ = writeln!(page, "<tr><td>{at:.3} s</td><td>{}</td><td>{}</td></tr>", fault.client, escaped(&fault.text));
    }
    page.push_str("</tbody></table></div>");
    if outcome.faults_left_out > 0 {
        let _ = write!(page, "<p class=\"soft\">and {} more</p>", count(outcome.faults_left_out));
    }
    page.push_str("</section>\n");
}

fn facts(page: &mut String, outcome: &Outcome) {
    let (header, facts) = (&outcome.header, &outcome.header.facts);
    let mut made_on = vec![
        ("started".to_owned(), time(header.started_ns)),
        ("ended".to_owned(), time(outcome.ended_ns)),
        ("harness".to_owned(), format!("{}, commit {}", facts.version, facts.commit)),
        ("targets".to_owned(), header.targets.join(", ")),
    ];
    for server in &outcome.servers {
        let failures = match (server.failures, &server.failure) {
            (0, _) | (_, None) => String::new(),
            (n, Some(failure)) => format!(" ({} readings failed: {failure})", count(n)),
        };
        let identity = server.identity.as_deref().unwrap_or("unknown");
        made_on.push((server.source.clone(), format!("{identity}{failures}")));
    }
    made_on.extend([
        ("machine".to_owned(), facts.host.clone()),
        ("processor".to_owned(), format!("{}, {} cores", facts.cpu_model, facts.cores)),
        ("memory".to_owned(), bytes(facts.memory_bytes as f64)),
        ("kernel".to_owned(), facts.kernel.clone()),
        ("clock source".to_owned(), facts.clock_source.clone()),
    ]);
    made_on.extend(facts.cpu_quota.iter().map(|quota| ("processor quota".to_owned(), quota.clone())));
    made_on.extend(facts.load_average.iter().map(|load| ("load before".to_owned(), load.to_string())));
    made_on.extend(facts.limits.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut settings = Vec::new();
    flatten("", &header.settings, &mut settings);
    let mut codes = Vec::new();
    for phase in &outcome.phases {
        for (what, counts) in [("errors", &phase.counts.errors), ("closes", &phase.counts.closes)] {
            let of = |(code, n): (&u16, &u64)| format!("{code} × {}", count(*n));
            if !counts.is_empty() {
                let text: Vec<String> = counts.iter().map(of).collect();
                codes.push((format!("{}: {what}", phase.name), text.join(", ")));
            }
        }
    }
    page.push_str("<div class=\"facts\">\n");
    for (title, rows) in [("Made on", made_on), ("Settings", settings), ("Codes from the server", codes)] {
        pairs(page, title, &rows);
    }
    for phase in outcome.phases.iter() {
        let counters = phase.server.iter().flat_map(|server| &server.counters);
        let rows: Vec<_> = counters.map(|(name, value)| (name.clone(), number(*value))).collect();
        pairs(page, &format!("The server's own counters: {}", phase.name), &rows);
    }
    page.push_str("</div>\n");
}

fn pairs(page: &mut String, title: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(page, "<section class=\"card\"><h2>{}</h2><table class=\"words\"><tbody>", escaped(title));
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><td class=\"soft\">{}</td><td>{}</td></tr>", escaped(name), escaped(value));
    }
    page.push_str("</tbody></table></section>\n");
}

/// Settings by their path, `a.b`.
fn flatten(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, rows);
            }
        }
        Value::Null => {}
        Value::String(text) => rows.push((path.to_owned(), text.clone())),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            rows.push((path.to_owned(), texts.join(", ")));
        }
        other => rows.push((path.to_owned(), other.to_string())),
    }
}

/// What the script draws.
fn data(outcome: &Outcome) -> Value {
    let started_ns = outcome.header.started_ns;
    let seconds = |ns: i64| rounded((ns - started_ns) as f64 / 1e9);
    let phase = |phase: &Phase| {
        json!({
            "name": phase.name,
            "counts": phase.judged != Judged::FaultsOnly,
            "from": seconds(phase.start_ns),
            "to": seconds(phase.end_ns),
            "percentiles": phase.latency.as_ref().map_or_else(Vec::new, curve),
        })
    };
    let points = &outcome.series.points;
    let column = |of: fn(&Point) -> Value| points.iter().map(of).collect::<Vec<Value>>();
    let servers = outcome.servers.iter().map(|server| {
        let name = server.identity.as_ref().map_or(server.source.clone(), |it| format!("{it} ({})", server.source));
        json!({
            "name": name,
            "t": server.points.iter().map(|point| rounded(point.t)).collect::<Vec<f64>>(),
            "cpu": server.points.iter().map(|point| point.cpu_share.map(rounded)).collect::<Vec<_>>(),
            "rss": server.points.iter().map(|point| point.rss_bytes).collect::<Vec<_>>(),
        })
    });
    // A limit, and of latencies the share that it is about.
    let asked = |names: &[(&str, f64)]| -> Vec<Value> {
        let verdict = |(name, share): &(&str, f64)| {
            let verdict = outcome.verdicts.iter().find(|verdict| verdict.name == *name)?;
            Some(json!([format!("--{name}"), verdict.limit, share]))
        };
        names.iter().filter_map(verdict).collect()
    };
    json!({
        "phases": outcome.phases.iter().map(phase).collect::<Vec<_>>(),
        "time": {
            "t": column(|point| rounded(point.t).into()),
            "p50": column(|point| point.p50.into()),
            "p90": column(|point| point.p90.into()),
            "p99": column(|point| point.p99.into()),
            "max": column(|point| point.max.into()),
            "messages": column(|point| rounded(point.messages).into()),
            "bytes": column(|point| rounded(point.bytes).into()),
            "handshakes": column(|point| rounded(point.handshakes).into()),
            "connecting": column(|point| point.connecting.into()),
            "ready": column(|point| point.ready.into()),
            "stalled": column(|point| point.stalled.into()),
            "faults": column(|point| {
                (point.missing + point.duplicates + point.reordered + point.malformed + point.lost).into()
            }),
            "worker_max": column(|point| rounded(point.worker_share_max).into()),
            "worker_sum": column(|point| rounded(point.worker_share_sum).into()),
            "schedule_lag": column(|point| point.schedule_lag_p99.into()),
            "read_lag": column(|point| point.read_lag_p99.into()),
        },
        "servers": servers.collect::<Vec<_>>(),
        "workers": outcome.phases.iter().map(|phase| phase.workers.len()).max().unwrap_or(0),
        "limits": {
            "latency": asked(&[("max-p50", 0.5), ("max-p99", 0.99), ("max-p999", 0.999), ("max-latency", 1.0)]),
            "messages": asked(&[("min-rate", 1.0)]),
            "memory": asked(&[("max-rss", 1.0)]),
            "worker": outcome.header.limits.cpu_share_max,
            "lag": outcome.header.limits.lag_ns_max,
        },
    })
}

/// Three digits behind the point are plenty for a picture.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// `[1 / (1 - p), ns]` from the shortest to the longest duration.
fn curve(latency: &Distribution) -> Vec<Value> {
    let histogram = latency.histogram.histogram();
    let nines = (latency.count as f64).log10();
    let mut curve = Vec::new();
    for step in 0.. {
        let x = 10_f64.powf(f64::from(step) / f64::from(POINTS_PER_NINE));
        if x.log10() >= nines {
            break;
        }
        curve.push(json!([rounded(x), histogram.value_at_quantile(1.0 - 1.0 / x)]));
    }
    curve.push(json!([latency.count, latency.max]));
    curve
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::report::testing;

    #[test]
    fn a_page_needs_nothing_from_anywhere() {
        for outcome in [testing::held(), testing::broken(), testing::invalid(), testing::empty()] {
            let page = page(&outcome);
            for word in [" src=", "url(", "@import", "fetch(", "XMLHttp", "import(", "http-equiv=\"refresh"] {
                assert!(!page.contains(word), "{word}");
            }
            let references: Vec<&str> = page.split("href=").skip(1).collect();
            assert!(references.len() == 1 && references[0].starts_with("\"data:,\""), "{references:?}");
            assert!(page.contains("default-src 'none'"));
        }
    }

    #[test]
    fn words_from_elsewhere_stay_words() {
        let page = page(&testing::broken());
        // The style, the data and the code; what a server said adds none.
        assert_eq!(page.matches("</script").count(), 2, "{page}");
        assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)"));
        assert!(page.contains("A Processor &lt;fast&gt; @ 3.0 GHz"));
    }

    #[test]
    fn the_verdict_stands_at_the_top() {
        let check = |outcome: &Outcome, words: &[&str]| {
            let page = page(outcome);
            let body = page.split("<main>").nth(1).unwrap();
            for word in words {
                assert!(body.contains(word), "{word}");
            }
        };
        check(&testing::held(), &["badge held", "All thresholds held", "p99.9", "not above"]);
        check(&testing::broken(), &["badge broken", "3 of 8 thresholds broken", "not measured", "came again"]);
        check(&testing::invalid(), &["badge invalid", "must not be used", "out of processor time", "Interrupted."]);
    }

    #[test]
    fn data_in_the_page_is_the_run() {
        let outcome = testing::held();
        let page = page(&outcome);
        let text = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: Value = serde_json::from_str(text).unwrap();
        assert_eq!(data["time"]["t"].as_array().unwrap().len(), outcome.series.points.len());
        let curve = data["phases"][1]["percentiles"].as_array().unwrap();
        let latency = outcome.phases[1].latency.as_ref().unwrap();
        assert_eq!(curve.last().unwrap()[1], latency.max);
        let p99 = curve.iter().find(|point| point[0] == 100.0).unwrap();
        assert_eq!(p99[1], latency.p99);
    }

    /// Where there is a browser: every chart is drawn, and the script ends without an error. The pages stay in the folder
    /// for temporary files, to be looked at.
    #[test]
    fn a_browser_draws_the_charts() {
        let browsers = ["chromium", "chromium-browser", "google-chrome"];
        let found = browsers.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
        let Some(browser) = found else {
            eprintln!("not checked: there is none of {browsers:?} here");
            return;
        };
        let folder = std::env::temp_dir().join("loadtest-pages");
        let profile = folder.join(format!("profile-{}", std::process::id()));
        fs::create_dir_all(&profile).unwrap();
        // Charts of a run with everything, and those of one with nothing.
        for (name, outcome, charts) in [("broken", testing::broken(), 10), ("empty", testing::empty(), 0)] {
            let file = folder.join(format!("{name}.html"));
            fs::write(&file, page(&outcome)).unwrap();
            let output = Command::new(browser)
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
                .arg(format!("--user-data-dir={}", profile.display()))
                .arg(format!("file://{}", file.display()))
                .output()
                .unwrap();
            let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(dom.contains(&format!("data-drawn=\"{charts}\"")), "{name}: {log}");
            let figures = dom.split("<script").next().unwrap();
            assert_eq!(figures.matches("<svg").count(), charts, "{name}");
            assert!(!log.contains("CONSOLE"), "{name}: {log}");
        }
        fs::remove_dir_all(&profile).unwrap();
    }
}
