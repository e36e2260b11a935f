//! Reads Rust as text, just well enough to say which paths a file names: comments and literals out, `use` groups expanded.
//! Not a parser: it expects code that compiles and that rustfmt has laid out.

/// The text with every comment and literal blanked, so that what is left is code on its own lines.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let silent = silent_bytes(rest);
        let (done, after) = rest.split_at(silent.max(first.len_utf8()));
        code.push_str(&if silent > 0 { blank(done) } else { done.to_owned() });
        rest = after;
    }
    code
}

/// The code with the body of its `#[cfg(test)] mod tests` blanked.
pub(crate) fn without_tests(code: &str) -> String {
    let opening = code.find("\nmod tests {").filter(|at| code[..*at].contains("#[cfg(test)]"));
    let Some(start) = opening else {
        return code.to_owned();
    };
    // rustfmt puts the brace that closes the module at the start of a line, and no other.
    let end = code[start..].find("\n}").map_or(code.len(), |at| start + at + 2);
    [&code[..start], &blank(&code[start..end]), &code[end..]].concat()
}

/// Every path and macro the code names, with its line: `use a::{b, c::*};` is `a::b` and `a::c::*`, `a!()` is `a!`.
pub(crate) fn paths(code: &str) -> Vec<(usize, String)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // A lone word is a path only where it must be one; anywhere else it is a variable, a field or a keyword.
        let must_be_path = at > 0 && ["use", "::"].contains(&tokens[at - 1].1);
        let starts_path = is_name(tokens[at].1) && tokens[at].1 != "use" || must_be_path && tokens[at].1 == "{";
        if !starts_path {
            at += 1;
            continue;
        }
        let mut branches = Vec::new();
        at = follow(&tokens, at, "", &mut branches);
        found.extend(branches.into_iter().filter(|(_, path)| must_be_path || path.contains([':', '!'])));
    }
    found
}

/// Whether a path says a word. A single lower-case word is a crate and must start the path; anything else may be inside.
pub(crate) fn says(path: &str, word: &str) -> bool {
    let is_crate = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let (path, word) = (format!("::{path}::"), format!("::{word}::"));
    if is_crate { path.starts_with(&word) } else { path.contains(&word) }
}

/// Collects the paths that start at a token, branch by branch, and returns the token after them.
fn follow(tokens: &[(usize, &str)], at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let (line, word) = tokens[at];
    let text = |at: usize| tokens.get(at).map_or("", |token| token.1);
    if word == "{" {
        let mut at = at + 1;
        while !["}", ""].contains(&text(at)) {
            at = if text(at) == "," { at + 1 } else { follow(tokens, at, prefix, found) };
        }
        return at + 1;
    }
    let path = format!("{prefix}{word}");
    if text(at + 1) == "::" && (is_name(text(at + 2)) || ["*", "{"].contains(&text(at + 2))) {
        return follow(tokens, at + 2, &format!("{path}::"), found);
    }
    let is_macro = text(at + 1) == "!" && ["(", "[", "{"].contains(&text(at + 2));
    found.push((line, if is_macro { format!("{path}!") } else { path }));
    at + 1
}

/// Names, `::`, and every other character by itself, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let bytes = match first {
            _ if in_name(first) => rest.find(|c| !in_name(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(bytes);
        if !first.is_whitespace() {
            tokens.push((line, token));
        }
        line += usize::from(first == '\n');
        rest = after;
    }
    tokens
}

/// How many bytes of comment or literal the text starts with; 0 where it starts with code.
fn silent_bytes(rest: &str) -> usize {
    let through = |close: &str, from: usize| rest[from..].find(close).map_or(rest.len(), |at| from + at + close.len());
    let hashes = rest.bytes().skip(1).take_while(|byte| *byte == b'#').count();
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return through("*/", 2);
    }
    if rest.starts_with('r') && rest[1 + hashes..].starts_with('"') {
        return through(&format!("\"{}", "#".repeat(hashes)), 2 + hashes);
    }
    if rest.starts_with("'\\") {
        return through("'", 3);
    }
    let mut chars = rest.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('"'), ..) => string_bytes(rest),
        (Some('\''), Some(letter), Some('\'')) => 2 + letter.len_utf8(),
        _ => 0,
    }
}

fn string_bytes(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(in_name)
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
