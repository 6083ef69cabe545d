//! Standard output that nobody reads (`| head`): the program ends as it would have ended, and says nothing about it.

mod support;

use std::process::{Command, Stdio};

use support::Server;
use support::cases::{BROADCAST, settings};

/// The exit status, and what was said on standard error.
fn unread(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_report_that_nobody_reads_is_no_failure() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("closed-output");
    std::fs::create_dir_all(&directory).unwrap();
    let report = directory.join("run.json").to_str().unwrap().to_owned();
    let server = Server::start(settings());
    let url = server.url();
    let run = [&BROADCAST[..], &["--target", &url, "--key", "tester", "--secret", "not-a-secret", "--json", &report]];
    let (status, said) = unread(&run.concat());
    assert_eq!(status, Some(0), "{said}");
    assert!(!said.contains("pipe") && !said.contains("panicked"), "{said}");
    assert_eq!(unread(&["compare", &report, &report]), (Some(0), String::new()));
}
