// SPDX-License-Identifier: GPL-2.0-or-later
//! Command line: words to calls, nothing else.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ptgt::bench;
use ptgt::control::config::{self, Config, Diagnostic, Scope};
use ptgt::control::doctor::{Asker, Check};
use ptgt::control::output::{self, print, tell};
use ptgt::control::status::{SetPortGroup, StatusRequest};
use ptgt::control::{DEFAULT_SOCKET, client, doctor, logging, status};
use ptgt::image::{self, ImageCommand};
use ptgt::runtime;
use serde_json::json;

/// ptgt, the polled target: serves disks and tape drives over iSCSI, as one configuration file says.
#[derive(Parser)]
#[command(
    version,
    after_help = "Try: ptgt check configs/quickstart.toml, then ptgt run --config configs/quickstart.toml"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a configuration in the foreground, until SIGTERM or SIGINT.
    #[command(after_help = "Example: ptgt run --config /etc/ptgt.toml\n\n\
        The first signal shuts down cleanly: initiators log out and disks are flushed, within 10 s. A second one \
        stops at once.")]
    Run {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check configuration files, and report all errors. Needs no privilege.
    #[command(after_help = "Example: ptgt check configs/*.toml")]
    Check {
        /// The configuration files; - is standard input.
        #[arg(required_unless_present = "explain", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Check the files alone, not whether a daemon would start with them on this machine.
        #[arg(long)]
        offline: bool,
        /// Print the errors as JSON.
        #[arg(long)]
        json: bool,
        /// Print a configuration with every key and what it means.
        #[arg(long, conflicts_with_all = ["files", "offline", "json"])]
        explain: bool,
    },
    /// Report what the machine has for a configuration, and what would make it faster. Changes nothing.
    #[command(after_help = "Example: ptgt doctor --config configs/lab.toml\n\n\
        Each line says what was found and, if that is not right, what is needed and why. The exit status is 1 if \
        the daemon would not start.")]
    Doctor {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Report what a running daemon does: reactors, ports, disks, tape drives, targets, sessions.
    #[command(after_help = "Example: ptgt status --json | jq '.disks[] | {name, counters}'\n\n\
        For root and the user of the daemon. docs/configuration.md describes the fields, and which mean trouble. The exit status is 0 if the daemon answered.")]
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Leave out sessions, of which there may be thousands.
        #[arg(long)]
        totals: bool,
        /// Print what each counter means; needs no daemon.
        #[arg(long, conflicts_with_all = ["json", "totals", "socket", "config"])]
        explain: bool,
        /// The daemon's control socket.
        #[arg(short, long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
        socket: PathBuf,
        /// Take the control socket from this configuration.
        #[arg(short, long, value_name = "FILE", conflicts_with = "socket")]
        config: Option<PathBuf>,
    },
    /// Change the state of a target port group (ALUA) of a running daemon, and notify initiators.
    #[command(after_help = "Example: ptgt port-group 2 standby\n\n\
        Returns when the old state no longer applies to any command. docs/reservations.md describes the states.")]
    PortGroup {
        /// Name of a [[port_group]], or a portal group tag.
        group: String,
        /// active/optimized, active/non-optimized, standby, unavailable, offline or transitioning.
        state: String,
        /// For this disk only.
        #[arg(short, long, value_name = "NAME")]
        disk: Option<String>,
        /// The daemon's control socket.
        #[arg(short, long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
        socket: PathBuf,
        /// Take the control socket from this configuration.
        #[arg(short, long, value_name = "FILE", conflicts_with = "socket")]
        config: Option<PathBuf>,
    },
    /// Load an iSCSI target, or layers of ptgt alone, and report speed and cost.
    #[command(after_help = "Examples:\n  \
        ptgt bench iscsi://10.77.0.2/iqn.2026-11.com.example.ptgt:quickstart/1 --connections 4 --json after.json\n  \
        ptgt bench --in-process scsi --store null --reads 0\n  \
        ptgt bench compare before.json after.json\n\n\
        Writes destroy the disk's contents. docs/benchmarking.md describes the load and the result.")]
    Bench(Box<bench::Arguments>),
    /// Create, show, list, verify, repair, import and export images of tape cartridges that no daemon uses.
    #[command(after_help = "docs/tape-format.md describes the images and, at its end, this command.")]
    Image {
        /// What to do.
        #[command(subcommand)]
        command: ImageCommand,
    },
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| tell(&format!("ptgt: {}", logging::last_words(panic)))));
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { explain: true, .. } => {
            print(&config::reference());
            ExitCode::SUCCESS
        }
        Command::Check { files, json, offline, .. } => {
            let scope = if offline { Scope::File } else { Scope::Machine };
            if json { check_json(&files, scope) } else { check(&files, scope) }
        }
        Command::Doctor { config, json } => examine(&config, json),
        Command::Status { explain: true, .. } => {
            print(&status::explain());
            ExitCode::SUCCESS
        }
        Command::Status { json, totals, socket, config, .. } => {
            let wanted = StatusRequest { sessions: !totals };
            place(socket, config).map_or(ExitCode::FAILURE, |socket| report(&socket, wanted, json))
        }
        Command::PortGroup { group, state, disk, socket, config } => {
            let wanted = SetPortGroup { group, state, disk };
            place(socket, config)
                .map_or(ExitCode::FAILURE, |socket| done(client::set_port_group(&socket, &wanted)))
        }
        Command::Bench(arguments) => done(bench::run(&arguments)),
        Command::Image { command } => done(image::run(&command)),
    }
}

/// The control socket: of the configuration, if one is given.
fn place(socket: PathBuf, config: Option<PathBuf>) -> Option<PathBuf> {
    match config {
        Some(path) => load(&path, Scope::File).map(|config| config.daemon.control_socket),
        None => Some(socket),
    }
}

fn done(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tell(&format!("ptgt: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn load(path: &Path, scope: Scope) -> Option<Config> {
    match config::load(path, scope) {
        Ok(config) => Some(config),
        Err((text, errors)) => {
            tell_errors(path, &text, &errors);
            None
        }
    }
}

/// What is wrong with a file, as `run` would judge it, and what may be; its text, to show lines of it, and what it says
/// if it is good.
struct Judged {
    config: Option<Config>,
    text: String,
    errors: Vec<Diagnostic>,
    warnings: Vec<String>,
}

fn judge(path: &Path, scope: Scope) -> Judged {
    let config = match config::load(path, scope) {
        Ok(config) => config,
        Err((text, errors)) => return Judged { config: None, text, errors, warnings: Vec::new() },
    };
    let mut warnings = [config::warnings(path, &config), doctor::oddities(&config)].concat();
    let mut errors = Vec::new();
    if scope == Scope::Machine {
        let report = doctor::examine(&doctor::Machine::default(), &config, Asker::Operator);
        warnings.extend(doctor::foreign_images(&config));
        warnings.extend(report.doubts().map(Check::line));
        let obstacles = report.obstacles();
        errors.extend(obstacles.map(|check| Diagnostic::of_file(&check.what, &check.found, &check.why)));
    }
    Judged { config: Some(config).filter(|_| errors.is_empty()), text: String::new(), errors, warnings }
}

fn tell_errors(path: &Path, text: &str, errors: &[Diagnostic]) {
    let count = errors.len();
    let word = if count == 1 { "error" } else { "errors" };
    tell(&format!("{}{}: {count} {word}", config::render(path, text, errors), path.display()));
}

fn check(files: &[PathBuf], scope: Scope) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in files {
        let Judged { config, text, errors, warnings } = judge(path, scope);
        match config {
            Some(config) => {
                for warning in warnings {
                    tell(&format!("{}: warning: {warning}", path.display()));
                }
                print(&format!(
                    "{}: good (targets: {}, logical units: {}, portals: {})\n",
                    path.display(),
                    config.targets().count(),
                    config.units.len(),
                    config.addresses().count()
                ));
            }
            None => {
                tell_errors(path, &text, &errors);
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn check_json(files: &[PathBuf], scope: Scope) -> ExitCode {
    let all: Vec<_> = files.iter().map(|path| (path, judge(path, scope))).collect();
    let good = all.iter().all(|(_, judged)| judged.errors.is_empty());
    let one = |(path, judged): &(&PathBuf, Judged)| json!({ "file": path, "errors": judged.errors, "warnings": judged.warnings });
    let list: Vec<_> = all.iter().map(one).collect();
    print(&output::json(&list, true));
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn examine(path: &Path, json: bool) -> ExitCode {
    let Some(config) = load(path, Scope::Machine) else { return ExitCode::FAILURE };
    let report = doctor::examine(&doctor::Machine::default(), &config, Asker::Operator);
    print(&if json { output::json(&report, true) } else { report.render() });
    if report.verdict() == doctor::Verdict::Fails { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(path: &Path) -> ExitCode {
    let Some(config) = load(path, Scope::Machine) else { return ExitCode::FAILURE };
    let log = match logging::start(&config.daemon.log) {
        Ok(log) => log,
        Err(e) => {
            tell(&format!("ptgt: log: {e}"));
            return ExitCode::FAILURE;
        }
    };
    log.tell_panics();
    for warning in [config::warnings(path, &config), doctor::foreign_images(&config)].concat() {
        log::warn!("{}: {warning}", path.display());
    }
    for oddity in doctor::oddities(&config) {
        log::info!("{}: {oddity}", path.display());
    }
    let result = runtime::run(&config);
    for e in result.as_ref().err().into_iter().flatten() {
        log.tell_end(e);
    }
    log.finish();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(socket: &Path, wanted: StatusRequest, json: bool) -> ExitCode {
    match client::status(socket, wanted) {
        Ok(now) => {
            print(&if json { output::json(&now, true) } else { status::render(&now) });
            ExitCode::SUCCESS
        }
        Err(e) => {
            tell(&format!("ptgt: {e}"));
            ExitCode::FAILURE
        }
    }
}
