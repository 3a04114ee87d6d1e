//! `ark`: the command line of Ark.
//!
//! Parses, runs one command, and ends with the exit code of [`exit::Exit`], or for `ark engine` of
//! [`engine::EngineExit`]. What is typed is in `command/` and `engine/`, what is written in `print/`
//! and nowhere else.

mod command;
mod engine;
mod error;
mod exit;
mod kube;
mod print;

use std::process::ExitCode;

use clap::Parser;
use rand::TryRng as _;

use crate::engine::EngineExit;
use crate::exit::Exit;

fn main() -> ExitCode {
    let cli = match command::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            print::parser(&error);
            return match (error.use_stderr(), command::is_engine(std::env::args_os())) {
                (false, _) => Exit::Done.into(),
                (true, false) => Exit::Usage.into(),
                (true, true) => EngineExit::Error.into(),
            };
        }
    };
    if let Err(error) = random_numbers() {
        print::error(&error);
        return Exit::Error.into();
    }
    let cli = match cli.into_engine() {
        Ok(engine) => return engine::main(*engine, print::Printer::new()).into(),
        Err(cli) => cli,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::error(&error::Error::Output(error));
            return Exit::Error.into();
        }
    };
    let ended = runtime.block_on(command::run(cli, print::Printer::new()));
    // What may still be going on in the background is of no use any more.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit,
        Err(error) if error.is_broken_pipe() => Exit::CutOff,
        Err(error) => {
            print::error(&error);
            error.exit()
        }
    }
    .into()
}

/// Fails if the system gives no random numbers, as a sandbox without the call and without `/dev/urandom` does: everything
/// else takes them for granted, and would panic.
fn random_numbers() -> error::Result<()> {
    let taken = rand::rngs::SysRng.try_fill_bytes(&mut [0; 8]);
    taken.map_err(|error| error::Error::State {
        message: format!("the system gives no random numbers: {error}"),
        hint: "allow the system call getrandom, or provide /dev/urandom".to_owned(),
    })
}
