//! Which variable of a server an option of a file sets.
//!
//! MariaDB takes a unique begin of a name, and names in either case; MySQL takes neither. Both take `-` for `_`, and
//! `skip-`, `disable-`, `enable-` and `loose-` before a name; `maximum-` bounds what sessions may set and sets nothing.
//!
//! Source: mysys/my_getopt.c, `findopt`, `special_opt_prefix`, `disabled_my_option`.

use crate::server::{Flavor, Kind, Server, Variable, is_of_a_plugin, is_of_others};
use crate::{Adjusted, Value, read_value};

/// Read before all others, with their own names alone in view: `max_conn` is `max_connections` and not ambiguous
/// (MariaDB's `sys_var::PARSE_EARLY`, of the variables that the models know).
const EARLY: [&str; 2] = ["max_connections", "performance_schema"];

/// What an option comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Of the server's table.
    pub variable: &'static Variable,
    /// `None` where the variable is not of the models, or the option sets none (`maximum-`).
    pub adjusted: Option<Adjusted>,
}

/// Why an option sets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// The server refuses to start with it.
    Refused(String),
    /// An option of these servers, not of this one.
    Elsewhere(Vec<Server>),
    /// The server's own by another writing: case, which MySQL minds, or a begin of the name, which it does not take.
    Written(&'static str),
    /// An option of a plugin or of another version, or one that may be unknown by its own word.
    Passed,
    /// Of a plugin by the begin of its name, which is all that is known of it.
    Plugin,
    /// No server's.
    Unknown,
}

/// Resolves an option as written in a file of `server`.
///
/// # Errors
/// Why it sets nothing.
pub fn resolve(server: Server, name: &str, value: Option<&str>) -> Result<Meaning, Unmet> {
    let name = name.replace('-', "_");
    // Two dashes before the name are part of it in a file: no option begins with them.
    if let Some(variable) = find(server, &name)? {
        return met(server, variable, value);
    }
    let lower = name.to_ascii_lowercase();
    let special = |prefix: &str| {
        let seen = if server.flavor() == Flavor::Mysql { &name } else { &lower };
        seen.starts_with(prefix).then(|| name[prefix.len()..].to_owned())
    };
    if let Some(rest) = special("loose_") {
        return match resolve(server, &rest, value) {
            Err(Unmet::Refused(what)) => Err(Unmet::Refused(what)),
            other => other.map_err(|_| Unmet::Passed),
        };
    }
    for (prefix, on) in [("skip_", false), ("disable_", false), ("enable_", true)] {
        if let Some(rest) = special(prefix)
            && let Some(variable) = find(server, &rest)?
        {
            // Only a plain 0 takes the word back.
            return switched(server, variable, on != (value == Some("0")));
        }
    }
    if let Some(rest) = special("maximum_")
        && let Some(variable) = find(server, &rest)?
    {
        return Ok(Meaning { variable, adjusted: None });
    }
    Err(unmet(server, &lower))
}

fn met(server: Server, variable: &'static Variable, value: Option<&str>) -> Result<Meaning, Unmet> {
    let adjusted = read_value(server, variable, value).map_err(Unmet::Refused)?;
    Ok(Meaning { variable, adjusted })
}

fn switched(server: Server, variable: &'static Variable, on: bool) -> Result<Meaning, Unmet> {
    let off_file = matches!(variable.kind, Kind::File(_)) && !on;
    if off_file {
        let adjusted = Some(Adjusted { value: Value::Switch(false), note: None });
        return Ok(Meaning { variable, adjusted });
    }
    met(server, variable, Some(if on { "1" } else { "0" }))
}

/// The variable of that name, or of the unique name that begins so.
fn find(server: Server, name: &str) -> Result<Option<&'static Variable>, Unmet> {
    if server.flavor() == Flavor::Mysql {
        return Ok(server.variable(name));
    }
    let name = name.to_ascii_lowercase();
    if let Some(variable) = server.variable(&name) {
        return Ok(Some(variable));
    }
    let begins = |other: &&str| other.starts_with(name.as_str());
    let early: Vec<&str> = EARLY.into_iter().filter(|other| begins(other)).collect();
    let all = || server.variables().values().filter(|variable| begins(&variable.name));
    let own: Vec<&str> = match early[..] {
        [only] if only == "max_connections" => vec![only],
        _ => all().filter(|variable| variable.kind != Kind::Plugin).map(|variable| variable.name).collect(),
    };
    match own[..] {
        [] => Ok(all().next()),
        [only] => Ok(server.variable(only)),
        _ => Err(Unmet::Refused(format!("ambiguous: it begins {} and {}", own[0], own[1]))),
    }
}

fn unmet(server: Server, lower: &str) -> Unmet {
    let bare = ["skip_", "disable_", "enable_", "maximum_"].iter().find_map(|p| lower.strip_prefix(p)).unwrap_or(lower);
    if let Some(variable) = server.variable(bare) {
        return Unmet::Written(variable.name);
    }
    let elsewhere: Vec<Server> = Server::ALL.into_iter().filter(|other| other.variable(bare).is_some()).collect();
    if !elsewhere.is_empty() {
        return Unmet::Elsewhere(elsewhere);
    }
    if is_of_others(lower) || is_of_others(bare) {
        return Unmet::Passed;
    }
    if is_of_a_plugin(bare) {
        return Unmet::Plugin;
    }
    let mut begun = server.variables().keys().filter(|other| !bare.is_empty() && other.starts_with(bare));
    match (begun.next(), begun.next()) {
        (Some(only), None) => Unmet::Written(only),
        _ => Unmet::Unknown,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
