//! `ark completion`.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::Cli;
use crate::error::Result;
use crate::exit::Exit;
use crate::print::Printer;

/// Print a completion script.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  source <(ark completion bash)
  ark completion zsh > \"${fpath[1]}/_ark\"
  ark completion fish > ~/.config/fish/completions/ark.fish")]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Supported,
}

/// Shells with a completion script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Supported {
    /// GNU Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

/// Runs the command.
pub(crate) fn run(printer: Printer, args: &Completion) -> Result<Exit> {
    let shell = match args.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ark", &mut script);
    printer.raw(&script)?;
    Ok(Exit::Done)
}
