//! The program's standard output, standard error and exit codes.

use std::process::Command;

const PLAN: [&str; 3] = ["plan", "--config", "config/policies/canary.toml"];

const NO_KUBECONFIG: &str = "kubernetes.kubeconfig=no-such-file";

/// Runs the program, and returns its exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    for name in crate::process::settings_in_environment() {
        command.env_remove(name);
    }
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn data_goes_to_stdout_and_errors_to_stderr_with_an_exit_code() {
    let nowhere = "http://127.0.0.1:1";
    let rows: &[(&[&str], i32, &str, &str)] = &[
        (&["bogus"], 2, "", "unrecognized subcommand"),
        (&["status", "web", "--until", "promoted"], 2, "", "--wait"),
        (&["get", "--api", nowhere], 1, "", "is the daemon running"),
        (&["status", "web", "--api", nowhere], 1, "", "is the daemon running"),
        (&["why", "web", "--api", "nonsense"], 1, "", "not a URL"),
        (&["release", "web"], 2, "", "write namespace/name, or cluster/namespace/Deployment/name"),
        (&["release", "shop/web", "--set", NO_KUBECONFIG], 1, "", "kubeconfig no-such-file: "),
        (
            &["release", "other/shop/Deployment/web"],
            1,
            "",
            "is in the cluster other, and `cluster` of the configuration is default",
        ),
        (&["check", "--config", "config/policies"], 0, "3 policies", ""),
        (&["check", "--config", "docs"], 1, "the directory has no *.toml file", ""),
        (&["sinks", "--test"], 1, "", "no sink is configured, so none was tested"),
        (&["check", "--set", "kafka.brokrs=x"], 1, "did you mean `brokers`?", ""),
        (&["check", "--set", "kafka.brokrs=x", "--output", "json"], 1, "\"level\": \"problem\"", ""),
        (&["doctor", "--set", "kafka.brokrs=x", "--api", nowhere], 1, "no daemon answers at http://127.0.0.1:1", ""),
        (&["doctor", "--set", "kafka.brokrs=x", "--api", nowhere, "--json"], 1, "\"why\": \"", ""),
        (&["init", "web"], 1, "", "write cluster/namespace/Deployment/name"),
        (&["init", "prod/shop/StatefulSet/db"], 1, "", "prod/shop/db is a StatefulSet"),
        (&["init", "prod/shop/Deployment/web", "--to", "Cargo.toml"], 1, "", "or replace it with --force"),
        (&["init", "prod/shop/Deployment/web", "--set", NO_KUBECONFIG], 1, "", "kubeconfig no-such-file: "),
        (&["import", "tests/import", "--output", "json"], 0, "\"decided-otherwise\"", ""),
        (&["import", "Cargo.toml"], 1, "", "none of the objects gives a policy"),
        (&["import", "no-such-file"], 1, "", "no-such-file can't be read"),
        (&["import", "x.yaml", "--to", "Cargo.toml"], 1, "", "or replace it with --force"),
        (&["config", "schema"], 0, "\"$schema\"", ""),
        (&["top", "--api", nowhere], 1, "", "top needs a terminal"),
        (&["audit", "--file", "no-such-file"], 1, "", "can't read no-such-file"),
        (&["audit", "--shown", "--api", nowhere], 1, "", "is the daemon running"),
        (&[&PLAN[..], &["--rps", "100", "--share", "0.1%"]].concat(), 0, "1 % (10x)", ""),
        (
            &[&PLAN[..], &["--rps", "100", "--share", "0.1%", "--output", "json"]].concat(),
            0,
            "\"broken-now\": false",
            "",
        ),
        (&[&PLAN[..], &["--rps", "0", "--share", "0.1%"]].concat(), 1, "", "0 requests a second"),
        (&[&PLAN[..], &["--rps", "9", "--share", "p59=1%"]].concat(), 1, "", "it has error-rate, p95"),
        (&[&PLAN[..], &["--rps", "9", "--share", "1"]].concat(), 2, "", "a percentage"),
        (&[&PLAN[..], &["--rps", "9", "--share", "1%", "--policy", "web"]].concat(), 1, "", "there are canary"),
        (&[&PLAN[..], &["--workload", "web"]].concat(), 2, "", "write namespace/name"),
        (&PLAN, 2, "", "--workload"),
        (&["plan", "--config", "config/policies", "--rps", "9", "--share", "1%"], 1, "", "choose one with --policy"),
        (&["backtest", "no-such-file", "--config", "config/policies"], 1, "", "can't read no-such-file"),
        (&["backtest", "x", "--query", "a=b:c"], 2, "", "is not a form"),
        (&["backtest", "x", "--stretch", "5m"], 2, "", "--same"),
        (&["load", nowhere, "--rate", "50"], 2, "", "is not a rate"),
        (&["load", nowhere, "--rate", "50/s", "--threshold", "p95<=9"], 2, "", "is not a threshold"),
        (&["load", nowhere, "--rate", "50/s", "--duration", "0s"], 1, "", "not one request is due"),
        (&["load", nowhere, "--rate", "50/s", "--body-file", "no-such-file"], 1, "", "can't read no-such-file"),
        (
            &[
                "load",
                nowhere,
                "--rate",
                "50/s",
                "--duration",
                "100ms",
                "--threshold",
                "errors<=1%",
                "--output",
                "json",
            ],
            3,
            "\"connect\": 5",
            "",
        ),
        (&["smoke", "no-such-file"], 1, "", "can't read no-such-file"),
        (&["smoke", "config/smoke.toml", "--base", "x"], 2, "", "--base"),
        (&["model", "list", "--registry", "no-such-directory"], 1, "", "`bellwether model register` makes it"),
        (&["model", "list", "--registry", "s3://id:secret@bucket"], 1, "", "credentials do not belong here"),
        (&["model", "get", "../up"], 2, "", "is no model name"),
        (&["model", "register", "m", "1.2", "src", "--by", "ada"], 2, "", "as in 1.4.0"),
        (
            &["model", "register", "m", "1.2.0", "src", "--by", "ada", "--checksum", "md5:0"],
            2,
            "",
            "`sha256sum` prints",
        ),
        (&["model", "promote", "m", "1.2.0", "--to", "production"], 2, "", "--by"),
        (&["model", "alias", "m", "champion", "1.2.0"], 2, "", "--by"),
        (&["model", "list", "--tag", "x"], 2, "", "<NAME>"),
        (&["config", "show", "--origin", "--set", "cluster=prod"], 0, "# flag --set cluster", ""),
        (&["--version"], 0, "bellwether ", ""),
    ];
    for (arguments, code, out, err) in rows {
        let (actual, stdout, stderr) = run(arguments);
        assert_eq!(actual, *code, "{arguments:?}: {stdout}{stderr}");
        assert!(stdout.contains(out) && stderr.contains(err), "{arguments:?}: {stdout}{stderr}");
        assert!(stdout.is_empty() || stderr.is_empty(), "{arguments:?} mixes data and errors: {stdout}{stderr}");
    }
}

#[test]
fn config_default_prints_the_reference_unchanged() {
    assert_eq!(run(&["config", "default"]), (0, include_str!("../../config/default.toml").to_owned(), String::new()));
}

#[test]
fn output_that_can_not_be_written_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    let output = command.args(["config", "default"]).stdout(full).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.starts_with("error: standard output can't be written: No space left"), "{error}");
}

#[test]
fn a_check_of_no_decision_is_an_error() {
    let (code, _, error) = run(&["replay", "--check", "--file", "/dev/null"]);
    assert_eq!((code, error.as_str()), (1, "error: there is no decision to check\n"));
}

/// `script` gives the program a terminal, and writes what the program writes to it.
#[test]
fn top_gives_the_terminal_back() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            let read = connection.read(&mut request).unwrap_or(0);
            let is_list = request[..read].starts_with(b"GET /api/v1/rollouts");
            let answer = if is_list {
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]"
            } else {
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            };
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    let command = format!(
        "stty rows 24 cols 80; timeout --foreground 60 {} top --api {api}; stty -a",
        env!("CARGO_BIN_EXE_bellwether")
    );
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let (mut shown, mut piece) = (Vec::new(), [0; 4096]);
    let contains = |shown: &[u8], text: &str| String::from_utf8_lossy(shown).contains(text);
    let mut has_quit = false;
    while let Ok(read @ 1..) = screen.read(&mut piece) {
        shown.extend_from_slice(&piece[..read]);
        // Blanks between words are not drawn.
        if !has_quit && contains(&shown, "rollouts;") {
            keys.write_all(b"q").unwrap();
            has_quit = true;
        }
    }
    assert!(has_quit && script.wait().unwrap().success());
    let text = String::from_utf8_lossy(&shown).into_owned();
    let (_, after) = text.split_once("\u{1b}[?1049l").expect("the alternate screen is left");
    // The terminal echoes and reads lines again.
    assert!(after.contains(" echo ") && after.contains(" icanon "), "{after}");
}
