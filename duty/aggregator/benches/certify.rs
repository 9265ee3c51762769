//! `semel aggregator bench`, without the rest of the program.
//!
//! ```text
//! cargo bench -p semel-aggregator --bench certify -- --immutable DIR --report DIR
//! ```

use clap::Parser;
use semel_aggregator::face::{self, args::Arguments};
use semel_ops::shell::{Format, Shell};
use std::process::ExitCode;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> ExitCode {
    let given = std::env::args_os().skip(1).filter(|word| word != "--bench");
    let words = ["semel aggregator".into(), "bench".into()].into_iter().chain(given);
    let shell = Shell::stdio(Format::Text);
    match face::run(Line::parse_from(words).arguments, &shell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            shell.report(&report);
            ExitCode::FAILURE
        }
    }
}
