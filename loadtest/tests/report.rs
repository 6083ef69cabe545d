//! A run's reports as its users get them: files that are there and can be read back, and `loadtest compare` over two of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loadtest::facts::Facts;
use loadtest::outcome::{Ended, Ending, HarnessLimits, Header, Judged, Outcome, Recorder};
use loadtest::report::{Outputs, json, write_all};
use loadtest::sample::Sample;
use loadtest::server::Reading;
use loadtest::thresholds::Thresholds;

const STARTED_NS: i64 = 1_795_176_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// Ten seconds of a thousand messages each, `latency_ns` late or a little more; the server takes as long for each.
fn outcome(latency_ns: u64) -> Outcome {
    let header = Header {
        scenario: "broadcast".to_owned(),
        settings: serde_json::json!({ "clients": 10 }),
        command: "loadtest broadcast -n 10".to_owned(),
        targets: vec!["ws://127.0.0.1:8080/stream".to_owned()],
        facts: Facts::read(),
        started_ns: STARTED_NS,
        latency_from: "the gateway's read of the venue's socket (rx)".to_owned(),
        interval_ns: SECOND.unsigned_abs(),
        limits: HarnessLimits::default(),
    };
    let mut recorder = Recorder::new(header);
    let phase = recorder.begin_phase("measured", Judged::Everything, 10, STARTED_NS);
    for second in 0..=10 {
        let at_ns = STARTED_NS + second * SECOND;
        let cpu_ns = Some(second.unsigned_abs() * 1_000 * latency_ns);
        recorder.add_server(&Reading { source: "pid 1".to_owned(), at_ns, cpu_ns, ..Reading::default() });
        if second > 0 {
            let mut sample = Sample { phase, at_ns, span_ns: SECOND.unsigned_abs(), ..Sample::default() };
            (sample.gauges.ready, sample.counts.messages, sample.counts.bytes) = (10, 1_000, 150_000);
            (0..1_000).for_each(|n| sample.latency.record(latency_ns + n * latency_ns / 10_000));
            recorder.add(&sample);
        }
    }
    let ended =
        Ended { at_ns: STARTED_NS + 10 * SECOND, ending: Ending::Complete, needs_data: true, invalid: Vec::new() };
    recorder.finish(ended, &Thresholds::default())
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn written(outcome: &Outcome, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    write_all(outcome, &Outputs { json: Some(path.clone()), ..Outputs::default() }).unwrap();
    path
}

fn compare(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("compare").args(arguments).output().unwrap()
}

#[test]
fn every_report_that_is_wanted_is_written() {
    let folder = folder("written");
    let file = |name: &str| Some(folder.join(name));
    let outputs = Outputs { json: file("a.json"), hlog: file("a.hlog"), html: file("a.html"), table: false };
    write_all(&outcome(1_000_000), &outputs).unwrap();
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(json::read(&folder.join("a.json")).unwrap().phases[0].counts.messages, 10_000);
    assert_eq!(text("a.hlog").lines().filter(|line| line.starts_with("Tag=measured,")).count(), 10);
    assert!(text("a.html").contains("loadtest broadcast") && text("a.html").ends_with("</html>\n"));
}

#[test]
fn one_report_that_fails_does_not_take_the_others_along() {
    let folder = folder("partly");
    let outputs = Outputs {
        json: Some(folder.join("no/such/folder.json")),
        html: Some(folder.join("a.html")),
        ..Outputs::default()
    };
    let error = write_all(&outcome(1_000_000), &outputs).unwrap_err();
    assert!(format!("{error:#}").contains("no/such/folder.json"), "{error:#}");
    assert!(folder.join("a.html").exists());
}

#[test]
fn two_runs_are_set_side_by_side() {
    let folder = folder("compare");
    let (fast, slow) =
        (written(&outcome(1_000_000), &folder, "fast.json"), written(&outcome(1_500_000), &folder, "slow.json"));
    let (fast, slow) = (fast.to_str().unwrap(), slow.to_str().unwrap());
    let check = |arguments: &[&str], status: i32, out: &[&str], err: &[&str]| {
        let output = compare(arguments);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{arguments:?} {stdout} {stderr}");
        assert!(out.iter().all(|words| stdout.contains(words)), "{out:?} in {stdout}");
        assert!(err.iter().all(|words| stderr.contains(words)), "{err:?} in {stderr}");
    };
    check(&[fast, slow], 0, &["measured", "latency p99", "+50 %  worse", "server CPU/message"], &[]);
    check(&[slow, fast], 0, &["-33.3 %  better"], &[]);
    check(&[fast, slow, "--fail-above", "10%"], 1, &["worse"], &["latency p99 is", "server CPU/message is 50"]);
    check(&[fast, slow, "--fail-above", "60%"], 0, &["worse"], &[]);
    check(&[slow, fast, "--fail-above", "0.1"], 0, &["better"], &[]);
    check(&[fast, slow, "--fail-above", "much"], 64, &[], &["is no share"]);
}

#[test]
fn what_is_no_report_is_refused_by_name() {
    let folder = folder("refused");
    let good = written(&outcome(1_000_000), &folder, "good.json");
    let check = |name: &str, text: &str, words: &str| {
        let bad = folder.join(name);
        fs::write(&bad, text).unwrap();
        let output = compare(&[good.to_str().unwrap(), bad.to_str().unwrap()]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{stderr}");
        assert!(stderr.contains(name) && stderr.contains(words), "{stderr}");
    };
    check("text.json", "hello", "no report of a run");
    check("newer.json", "{\"format\":\"signal-gateway loadtest/2\"}", "loadtest/2");
    check("damaged.json", &fs::read_to_string(&good).unwrap().replace("\"phases\":[", "\"phases\":[1,"), "damaged");
    let output = compare(&[good.to_str().unwrap(), folder.join("missing.json").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing.json"));
}
