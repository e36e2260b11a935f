//! Where a person reads a sentence, and how a command is typed there: `get` is `qchat get` in a shell and `/get` at the
//! prompt of a running peer. Sentences and hints name a command by its verb alone.

use clap::CommandFactory as _;

use super::args::Args;
use super::words::WORDS;

/// Where commands are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    /// In a shell.
    Shell,
    /// At the prompt of a running peer.
    Prompt,
}

impl Face {
    /// A command as it is typed here; a verb that the prompt does not know is for a shell.
    pub(super) fn command(self, command: &str) -> String {
        match self {
            Self::Prompt if is_word(verb_of(command)) => format!("/{command}"),
            Self::Prompt | Self::Shell => format!("qchat {command}"),
        }
    }

    /// A hint as it is read here: what is a command in `backquotes` is written as it is typed.
    pub(super) fn hint(self, hint: &str) -> String {
        let (mut text, mut rest) = (String::new(), hint);
        while let Some((before, (quoted, after))) =
            rest.split_once('`').and_then(|(before, rest)| Some((before, rest.split_once('`')?)))
        {
            let quoted = if is_verb(verb_of(quoted)) { self.command(quoted) } else { quoted.to_owned() };
            text.push_str(&format!("{before}`{quoted}`"));
            rest = after;
        }
        text + rest
    }
}

fn verb_of(command: &str) -> &str {
    command.split_whitespace().next().unwrap_or_default()
}

fn is_word(verb: &str) -> bool {
    WORDS.iter().any(|word| word.name.strip_prefix('/') == Some(verb))
}

fn is_verb(verb: &str) -> bool {
    Args::command().find_subcommand(verb).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_commands_as_they_are_typed_where_it_is_read() {
        let check = |hint: &str, in_a_shell: &str, at_the_prompt: &str| {
            assert_eq!(Face::Shell.hint(hint), in_a_shell);
            assert_eq!(Face::Prompt.hint(hint), at_the_prompt);
        };
        check("`who` lists them", "`qchat who` lists them", "`/who` lists them");
        check(
            "first `get a:b`, then `cancel 12`",
            "first `qchat get a:b`, then `qchat cancel 12`",
            "first `/get a:b`, then `/cancel 12`",
        );
        check(
            "change it: `account password`",
            "change it: `qchat account password`",
            "change it: `qchat account password`",
        );
        for same in ["start it with `qchat peer`", "type `/limit RATE` there", "`*.o` or one ` alone", "`", ""] {
            check(same, same, same);
        }
    }
}
