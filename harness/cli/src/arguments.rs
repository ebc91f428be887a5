//! The command line, read; a wrong one is answered with what was wrong and what the option takes.
//!
//! clap says what is wrong. Here a negative number is a value like any other, so that it is answered by the option it was given
//! to, and every refused value is followed by what that option is, with an example where it has a default.

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::Cli;

/// Reads the command line of this process.
///
/// # Errors
/// The status to end with, once everything was said: 2, or 0 when help or version was asked for.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let command = described();
    let read = command.clone().try_get_matches().and_then(|mut matches| {
        refuse_nothing(&command, &matches)?;
        Cli::from_arg_matches_mut(&mut matches)
    });
    read.map_err(|error| {
        if !error.use_stderr() {
            // A reader of the help who has gone away needs no more of it.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        let words: Vec<String> = std::env::args().skip(1).collect();
        note!("{}", answer(&error, &command, &words));
        ExitCode::from(2)
    })
}

/// All that can be asked, whole, so that every option has its name.
fn described() -> Command {
    let mut command = with_negative_numbers(Cli::command());
    command.build();
    command
}

fn with_negative_numbers(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        // What follows `--` is the user's own command.
        let own = arg.is_last_set() || arg.is_trailing_var_arg_set();
        if takes_value && !own { arg.allow_negative_numbers(true) } else { arg }
    });
    command.mut_subcommands(with_negative_numbers)
}

/// A value that is there and empty is a variable of a script that was not set: no option means anything by it.
fn refuse_nothing(command: &Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    // A program's own arguments may be empty.
    let ours = |arg: &&Arg| !arg.is_last_set() && !arg.is_trailing_var_arg_set();
    for arg in command.get_arguments().filter(ours) {
        if matches.try_get_raw(arg.get_id().as_str()).ok().flatten().is_some_and(|mut given| given.any(OsStr::is_empty))
        {
            let mut error = clap::Error::new(ErrorKind::InvalidValue).with_cmd(command);
            error.insert(ContextKind::InvalidArg, ContextValue::String(arg.to_string()));
            error.insert(ContextKind::InvalidValue, ContextValue::String(String::new()));
            return Err(error);
        }
    }
    let below = matches.subcommand().and_then(|(name, below)| Some((command.find_subcommand(name)?, below)));
    below.map_or(Ok(()), |(command, below)| refuse_nothing(command, below))
}

/// What is said to a wrong command line.
fn answer(error: &clap::Error, command: &Command, words: &[String]) -> String {
    let said = error.render().to_string();
    let mut path = vec![command];
    for word in words {
        match path.last().and_then(|last| last.find_subcommand(word)) {
            Some(next) => path.push(next),
            // A value, an option, or a slip.
            None if path.len() > 1 => break,
            None => {}
        }
    }
    let verb = path.iter().map(|command| command.get_name()).collect::<Vec<_>>().join(" ");
    let said = said.replace("try '--help'", &format!("try '{verb} --help'"));
    let refused =
        matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues);
    let about = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) if refused => {
            let args = path.last().into_iter().flat_map(|command| command.get_arguments());
            args.into_iter().find(|arg| arg.to_string() == *name).and_then(tip)
        }
        _ => None,
    };
    // Who slips in an option's name does not mean it as a word of another program's.
    let said: String = said.split_inclusive('\n').filter(|line| !line.starts_with("  tip: to pass '")).collect();
    let (first, rest) = said.trim_end().split_once("\n\nFor more information").unwrap_or((said.trim_end(), ""));
    let rest = if rest.is_empty() { String::new() } else { format!("\n\nFor more information{rest}") };
    format!("{first}{}{rest}", about.map_or_else(String::new, |about| format!("\n\n  tip: {about}")))
}

/// What an option takes.
fn tip(arg: &Arg) -> Option<String> {
    let help = arg.get_help()?.to_string();
    let example = arg.get_default_values().first().and_then(|value| value.to_str());
    let name = arg.get_long().map_or_else(String::new, |long| format!("--{long} "));
    let example = example.map_or_else(String::new, |value| format!("; for instance {name}{value}"));
    Some(format!("{arg}: {help}{example}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_can_say_what_it_takes() {
        fn all(command: &Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_id() != "help" && arg.get_id() != "version") {
                assert!(tip(arg).is_some_and(|tip| tip.len() > 10), "{} {arg}", command.get_name());
            }
            command.get_subcommands().for_each(all);
        }
        all(&described());
    }

    #[test]
    fn the_answer_names_option_verb_and_example() {
        let command = described();
        let answer = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let error =
                command.clone().try_get_matches_from(["fragbench"].into_iter().chain(line.split(' '))).unwrap_err();
            super::answer(&error, &command, &words)
        };
        let negative = answer("watch -1");
        assert!(negative.contains("`-1` is no process") && negative.contains("pidof"), "{negative}");
        let text = answer("syscalls --top many 1");
        assert!(text.contains("tip: --top <N>: Stacks shown; for instance --top 10"), "{text}");
        assert!(text.contains("try 'fragbench syscalls --help'"), "{text}");
        assert!(answer("trace info --format paper x.fbt").contains("try 'fragbench trace info --help'"));
    }
}
