//! The flags of a slash command: those of the verb of the same name, read by the parser of the verb.

use clap::{ArgAction, Args, Command};

use crate::peer::failure::{Failure, FailureKind};

/// Takes the flags from both ends of what follows a word, and gives them with what is left in between. A name or path may
/// have blanks; the value of a flag stands in quotes then. A `--` ends the flags before it.
pub(super) fn take<'a, T: Args>(word: &str, rest: &'a str) -> Result<(T, &'a str), Failure> {
    let mut parser = T::augment_args(Command::new("word").no_binary_name(true).disable_help_flag(true));
    parser.build();
    let mut given = Vec::new();
    let mut rest = leading(&parser, rest, &mut given);
    if let Some(after) = rest.strip_prefix("--").filter(|after| after.starts_with(char::is_whitespace)) {
        rest = after.trim_start();
    } else if rest.starts_with("--") {
        let unknown = token(rest).0;
        return Err(Failure::new(FailureKind::Usage, format!("{word} does not know {unknown}"))
            .hint("`/help` lists what it knows"));
    }
    let ends = rest.match_indices(" --").map(|(at, _)| rest.split_at(at));
    for (before, flags) in ends {
        let mut last = Vec::new();
        if leading(&parser, flags.trim_start(), &mut last).is_empty() {
            given.extend(last);
            rest = before.trim_end();
            break;
        }
    }
    let complaint = |error: clap::Error| Failure::new(FailureKind::Usage, one_line(&error));
    let matches = parser.try_get_matches_from(given).map_err(complaint)?;
    Ok((T::from_arg_matches(&matches).map_err(complaint)?, rest))
}

/// Takes flags and their values from the beginning. Gives what comes after them.
fn leading<'a>(parser: &Command, mut rest: &'a str, given: &mut Vec<String>) -> &'a str {
    loop {
        let (first, after) = token(rest);
        let Some(values) = values_of(parser, first) else { return rest };
        given.push(first.to_owned());
        rest = after;
        let (value, after) = token(rest);
        if values == Values::One || values == Values::Perhaps && !value.is_empty() && !value.starts_with("--") {
            given.extend((!value.is_empty()).then(|| value.to_owned()));
            rest = after;
        }
    }
}

/// What comes after a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    None,
    Perhaps,
    One,
}

/// What comes after this flag; `None` when it is none.
fn values_of(parser: &Command, token: &str) -> Option<Values> {
    let (name, value) = match token.strip_prefix("--")?.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (token.strip_prefix("--")?, None),
    };
    let flag = parser.get_arguments().find(|flag| flag.get_long() == Some(name))?;
    let takes = matches!(flag.get_action(), ArgAction::Set | ArgAction::Append);
    Some(match flag.get_num_args() {
        Some(range) if takes && value.is_none() && range.min_values() == 0 => Values::Perhaps,
        _ if takes && value.is_none() => Values::One,
        _ => Values::None,
    })
}

/// The first word of a text, or what is in its quotes, and what comes after it.
fn token(text: &str) -> (&str, &str) {
    let quoted = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.split_once(quote));
    let (first, after) = match quoted {
        Some((inside, after)) if after.is_empty() || after.starts_with(char::is_whitespace) => (inside, after),
        _ => text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())),
    };
    (first, after.trim_start())
}

/// What the parser complains about, without its advice for a shell.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let text = lines.collect::<Vec<_>>().join(" ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}
